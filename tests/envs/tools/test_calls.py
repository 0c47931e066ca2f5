"""What agents write is read as calls or as words, and never evaluated."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palaestra.envs.tools.calls import LONGEST, MOST, Call, _spelled, read

KNOWN = {"cd", "ls"}


@pytest.mark.parametrize(
    "text",
    [
        "cd(folder='a', deep=True)",
        "[cd(folder='a', deep=True)]",
        '{"name": "cd", "arguments": {"folder": "a", "deep": true}}',
        '[{"name": "cd", "parameters": {"folder": "a", "deep": true}}]',
        '{"name": "cd", "arguments": "{\\"folder\\": \\"a\\", \\"deep\\": true}"}',
        "I go there.\n```python\ncd(folder='a', deep=True)\n```",
        "I go there.\n```python\ncd(folder='a', deep=True)",
        "```\ncd(folder='a', deep=True)```",
        "`cd(folder='a', deep=True)`",
        "``` cd(folder='a', deep=True) ```",
        "```python cd(folder='a', deep=True)```",
        '`{"name": "cd", "arguments": {"folder": "a", "deep": true}}`',
        "I go there:\n  `cd(folder='a', deep=True)`\nand look around.",
        "where = cd(folder='a', deep=True)",
        "where: str = cd(folder='a', deep=True)",
        "`where = cd(folder='a', deep=True)`",
        'First:\n<tool_call>\n{"name": "cd", "arguments": {"folder": "a", "deep": true}}\n</tool_call>',
    ],
)
def test_every_form_of_a_call_is_read(text):
    assert read(text, KNOWN).calls == (Call("cd", {"folder": "a", "deep": True}),)


@pytest.mark.parametrize(
    "text",
    [
        "cd(0x{})",
        "cd(folder=-0x{})",
        "[ls(), cd([{{'a': +0x{}}}])]",
        "cd({{0x{}: 1}})",
        "<tool_call>cd(0x{})</tool_call>",
        "cd(9{})",
        '{{"name": "cd", "arguments": {{"folder": [9{}]}}}}',
        '{{"name": "cd", "arguments": "{{\\"folder\\": 9{}}}"}}',
    ],
)
def test_a_whole_number_has_at_most_a_thousand_digits(text):
    for digits in (1_500, 15_000):
        reading = read(text.format("9" * digits), KNOWN)
        assert reading.calls == ()
        assert reading.problem is not None
    assert read(text.format("9" * 800), KNOWN).calls
    assert str(read("cd(0x" + "f" * 800 + ")", KNOWN).calls[0]).startswith("cd(")


@pytest.mark.parametrize(
    "text",
    [
        "cd(folder='a', folder='b')",
        '{"name": "cd", "arguments": {"folder": "a", "folder": "b"}}',
        '{"name": "cd", "name": "ls"}',
        '{"name": "cd", "arguments": "{\\"folder\\": 1, \\"folder\\": 2}"}',
        '{"name": "cd", "arguments": {"folder": "a"}, "parameters": {"deep": true}}',
        '{"name": "cd", "arguments": null, "parameters": {"folder": "a"}}',
        "cd({'folder': 'a', 'folder': 'b'})",
        "cd(folder=[{1: 'a', True: 'b'}])",
    ],
)
def test_what_is_given_twice_is_told_and_makes_no_call(text):
    found = read(text, KNOWN)
    assert found.calls == ()
    assert "given twice" in found.problem


@pytest.mark.parametrize(
    "text", ['{"name": "ls"}', '{"name": "ls", "arguments": {}}', '{"name": "ls", "arguments": null}']
)
def test_a_call_may_have_no_arguments(text):
    assert read(text, KNOWN).calls == (Call("ls"),)


def test_several_calls_are_read_in_their_order():
    for text in ("[cd('a'), ls()]", "cd('a')\nls()", "<tool_call>cd('a')</tool_call><tool_call>ls()</tool_call>",
                 "`cd('a')`\n`ls()`", "a = cd('a')\nb = ls()", "found = [cd('a'), ls()]"):  # fmt: skip
        assert read(text, KNOWN).calls == (Call("cd", {}, ("a",)), Call("ls"))


@pytest.mark.parametrize(
    "text",
    ["done", "I have moved it.", "What folder (of the two) do you mean?", "sorry(", "[1]", "`done`", "`3`", "` `", "``",
     "x = 5", "I have called `cd('a')` for you."],
)  # fmt: skip
def test_words_are_words(text):
    reading = read(text, KNOWN)
    assert reading.calls == ()
    assert reading.problem is None


@pytest.mark.parametrize(
    "text",
    [
        "cd(folder=a)",
        "cd(folder='a'",
        "cd(folder=ls())",
        "cd(folder='a' + 'b')",
        "cd(folder=f'{1}')",
        "cd(**{'folder': 'a'})",
        "cd(folder=[x for x in 'ab'])",
        "cd(folder=().__class__)",
        '{"name": "cd", "arguments": {"folder": NaN}}',
        '{"name": "cd", "arguments": 3}',
        '{"name": "cd", "arguments": []}',
        '{"name": "cd", "arguments": false}',
        '{"name": "cd", "arguments": ""}',
        '{"name": "cd", "parameters": 0}',
        '{"name": "cd", "code": "x"}',
        "<tool_call>cd</tool_call>",
        "where = cd(folder=a)",
        "where = cd(folder='a'",
        "where += cd('a')",
        "where, what = cd('a')",
        "where = cd('a')\nls(where)",
        "print(cd('a'))",
        "await cd('a')",
        "return tools.cd('a')",
        "- cd('a')",
        "`cd('a'`",
        "`print(cd('a'))`",
        "```python\nwhere = 'a'\ncd(where)\n```",
        "",
        " \n",
        "x" * (LONGEST + 1),
        "[" + "ls()," * (MOST + 1) + "]",
    ],
)
def test_what_is_meant_as_a_call_and_is_none_is_a_problem(text):
    reading = read(text, KNOWN)
    assert reading.calls == ()
    assert reading.problem
    assert "\n" not in reading.problem


@pytest.mark.parametrize(
    "part",
    ["(", "[", "{", "-", "not ", "lambda:", "{1:", "f(", "x if x else ", "1+", "x,", "'", "\\", "f'{", '[{"name":'],
)
def test_no_nesting_takes_long(part):
    began = time.monotonic()
    for text in (part * (LONGEST // len(part)), f"cd(a={part * (15_000 // len(part))}1)"):
        read(text, KNOWN)
    assert time.monotonic() - began < 30  # an exponential one would not come back


ODD = {"list-files", "files", "ns.read", "a/b", "import", "2fa", "what is it", "größe", ""}


@pytest.mark.parametrize("name", sorted(ODD - {""}))
def test_names_that_python_does_not_know_are_read_in_every_form(name):
    call = f"""{name}(folder="list-files(1) 'ns.read(2)", n=[-1])"""
    wanted = Call(name, {"folder": "list-files(1) 'ns.read(2)", "n": [-1]})
    for text in (
        call,
        f"`{call}`",
        f"```\n{call}\n```",
        f"[{call}]",
        f"found = {call}",
        f"<tool_call>{call}</tool_call>",
    ):
        assert read(text, ODD).calls == (wanted,), text
    assert read(f"[{call}, tool_0(), {call}]", ODD).calls == (wanted, Call("tool_0"), wanted)
    for text in (f"{name}(folder=a)", f"{name}(", f"print({name}(1))", f"return functions.{name}(1)", f"1 + {name}(2)"):
        reading = read(text, ODD)
        assert reading.calls == ()
        assert reading.problem, text
        assert "tool_" not in reading.problem


def test_a_name_with_a_dash_that_no_tool_has_is_a_call_and_words_with_dashes_are_words():
    assert read("list-file(folder='.')", KNOWN).calls == (Call("list-file", {"folder": "."}),)
    for text in (
        "I used list-files (see above).",
        "well-known(ish)",
        "It is 3-4 (or so)",
        "ns.read",
        "list-files - cd",
    ):
        assert read(text, ODD) == read("Done.", ODD), text


@pytest.mark.parametrize(
    "part", ["a-", "a'\\'", "\\'", "'''\\", '"""x\\"', "'\\", "a-a(", "list-files", "tool_", "'a\n", "\"'", "a.", "# '"]
)
def test_names_are_looked_for_in_one_go(part: str) -> None:
    """In a hundred times what is read at most: trying the rest anew at every sign would take hours."""
    text = part * (100 * LONGEST // len(part))
    for whole in (text, f"a'{text}", f"tool_{text}"):
        assert _spelled(whole, ODD)[0]


def test_quotes_in_comments_and_signs_of_comments_in_quotes_hide_no_call() -> None:
    for text in (
        "ls()\n# don't\nns.read(1)",
        'ls() # """\nns.read(1)',
        "ls()\n# '''\nns.read(1)",
        "ls('#')\nns.read(1)",
    ):
        assert [call.name for call in read(text, ODD | {"ls"}).calls] == ["ls", "ns.read"], text


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("aé'\"\\\n{("),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["a", "b_2", "folder"]), VALUES), st.lists(VALUES, max_size=2))
def test_a_call_is_read_back_as_it_was_written(arguments, positional):
    call = Call("cd", arguments, tuple(positional))
    assert read(str(call), KNOWN).calls == (call,)


@given(st.text(st.sampled_from("cdls()[]{}'\"=,.:0aé\\\n`<>_- \ud800"), max_size=40))
def test_no_text_raises(text):
    for known in (KNOWN, ODD | {"c-d", "l.s"}):
        reading = read(text, known)
        assert not (reading.calls and reading.problem)
