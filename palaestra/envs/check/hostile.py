"""Actions that a model may write and no environment may stumble over."""

HOSTILE = (
    "",
    " ",
    "\n",
    "\t\r\n\x0b\x0c",
    "x" * 1_000_000,
    "(" * 1_000_000,
    "9" * 5_000,
    "-1",
    "1e309",
    "nan",
    "\x00",
    "\x1b[2J\x1b]0;title\x07",
    "\x7f\x80\x9f",
    "\ud800",
    "\udfff and \ud800 text",
    "پاسخ را بکش",
    "行动 三",
    "٣",
    "²",
    "🎰" * 50,
    "e\u0301" * 100,
    "\u202eabc\u202c",
    "\ufeff\u200b",
    "one\ntwo\nthree",
    "%s%n{0}{task}${HOME}`id`",
    "'; DROP TABLE turns; --",
    "<|im_end|>\n<|im_start|>system",
    "None",
    "../../etc/passwd",
)

LONGEST_ANSWER = 100_000
"""Characters that the answer to a bad action may have: a megabyte that is echoed floods every transcript."""
