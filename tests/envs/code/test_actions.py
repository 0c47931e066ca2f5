"""What an agent writes is read as it was meant, and what cannot be read is answered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palaestra.envs.code.actions import LONGEST, Command, Write, parse
from palaestra.envs.code.oracle import block

BODY = "print(1)\n"


@pytest.mark.parametrize(
    "text",
    [
        "write a/b.py\n```python\nprint(1)\n```",
        "write `a/b.py`:\n```\nprint(1)\n```",
        "Write to file a/b.py\n\n~~~py\nprint(1)\n~~~",
        "Here it is.\n\n**a/b.py**\n```python\nprint(1)\n```\nThis prints 1.",
        "# a/b.py\n```python\nprint(1)\n```",
        "```python a/b.py\nprint(1)\n```",
        "```python:a/b.py\nprint(1)\n```",
        "write a/b.py\n````\nprint(1)\n````",
        "write ./a/b.py\n```\nprint(1)",
        "write a/b.py\nprint(1)",
    ],
)
def test_a_file_can_be_written_in_many_ways(text: str) -> None:
    assert parse(text, "solution.py") == [Write("a/b.py", BODY)]


@pytest.mark.parametrize(
    "text", ["```python\nprint(1)\n```", "Sure:\n```\nprint(1)\n```\nRun it.", "```py\nprint(1)\n"]
)
def test_a_block_without_a_path_goes_to_the_main_file(text: str) -> None:
    assert parse(text, "main.py") == [Write("main.py", BODY)]


def test_one_more_action_may_stand_below_the_blocks() -> None:
    text = "write a.py\n```\nprint(1)\n```\nwrite b.py\n```\nprint(1)\n```\n\nrun python3 b.py"
    assert parse(text, "m.py") == [Write("a.py", BODY), Write("b.py", BODY), Command("run", "python3 b.py")]
    assert parse("```\nprint(1)\n```\nsubmit", "m.py") == [Write("m.py", BODY), Command("submit")]


def test_prose_below_a_block_is_no_command() -> None:
    for prose in ("Run it to see.", "Test it well.", "test this on your machine", "Now you can submit it."):
        assert parse(f"```\nprint(1)\n```\n{prose}", "m.py") == [Write("m.py", BODY)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("run python3 a.py", Command("run", "python3 a.py")),
        ("$ run ls -l", Command("run", "ls -l")),
        ("`run ls`", Command("run", "ls")),
        ("Run the tests.", Command("test")),
        ("test", Command("test")),
        ("Tests", Command("test")),
        ("submit.", Command("submit")),
        ("SUBMIT\nI am done.", Command("submit")),
        ("read `a.txt`", Command("read", "a.txt")),
        ("cat a.txt", Command("read", "a.txt")),
        ("cat a.txt b.txt", Command("run", "cat a.txt b.txt")),
        ("cat < a.txt | wc", Command("run", "cat < a.txt | wc")),
        ("ls", Command("list")),
        ("ls -l a", Command("run", "ls -l a")),
        ("list", Command("list")),
        ("run cat <<E > a\nx\nE", Command("run", "cat <<E > a\nx\nE")),
        ("```bash\n$ ls\n$ pwd\n```", Command("run", "ls\npwd")),
    ],
)
def test_commands(text: str, wanted: Command) -> None:
    assert parse(text, "m.py") == [wanted]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("  \n ", "empty"),
        ("hello there", "'hello there' is no action"),
        ("write a.py", "After the line 'write PATH'"),
        ("run", "'run' needs a command"),
        ("read", "'read' needs a path"),
        ("submit please", "'submit' stands alone"),
        ("x" * (LONGEST + 1), "too long"),
        ("run \x00", "not text"),
        ("run \ud800", "not text"),
    ],
)
def test_what_is_no_action_is_told_why(text: str, said: str) -> None:
    told = parse(text, "m.py")
    assert isinstance(told, str)
    assert said in told
    assert "\n" not in told


def test_in_a_shell_what_is_no_action_is_a_command() -> None:
    assert parse("grep -c x a.txt\nwc a.txt", "", shell=True) == [Command("run", "grep -c x a.txt\nwc a.txt")]
    for command in ("ls", "cat a.txt", "test -f a.txt"):
        assert parse(command, "", shell=True) == [Command("run", command)]
    assert parse("submit", "", shell=True) == [Command("submit")]


@given(st.text(max_size=400))
def test_nothing_that_is_written_raises(text: str) -> None:
    told = parse(text, "m.py")
    assert told


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=200))
def test_what_the_oracle_puts_in_a_block_is_what_is_written(text: str) -> None:
    wanted = text.rstrip("\n") + "\n"
    assert parse(f"write a.py\n{block(text)}", "m.py") == [Write("a.py", wanted)]
