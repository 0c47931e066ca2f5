"""Texts that an environment may say: one that wants to run in a page, and one that is huge."""

HOSTILE = "<script>document.title='owned';fetch('/owned')</script><img src=x onerror=\"document.title='owned'\">\ud800"
HUGE = "A wall of text. " * 100_000
STEERING = "\x1b[2J\x1b]0;owned\x07 pay \u202e001\u202c euros\x00\x9b31m\r\n\tan end"
"""What clears a terminal, and turns the order of letters round."""
STEERING_SEEN = r"\x1b[2J\x1b]0;owned\x07 pay \u202e001\u202c euros\x00\x9b31m"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a494441"
    "54789c636800000082008177cd72b60000000049454e44ae426082"
)
"""A picture of one pixel."""
