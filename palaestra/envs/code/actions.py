"""What an agent may write, and how it is read: forgiving where that is cheap.

    write PATH        with the file's text in a fenced block below
    read PATH, list   look at a file, at what is there
    run COMMAND       run it in a shell
    test              run the visible examples
    submit            be judged

A fenced block without a path goes to the main file, or is run where it is marked as shell. After the last block one
more command may follow on a line of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST = 100_000
"""Characters of an action."""

_FENCE = re.compile(r"^[ \t]{0,3}(`{3,}|~{3,})[ \t]*([^\n`]*)$")
_WRITE = re.compile(r"^[\s>*#-]*write[ \t]+(?:to[ \t]+)?(?:file[ \t]+)?(.+)$", re.IGNORECASE)
_PATH = re.compile(
    r"^[\s>*#-]*(?:file:?[ \t]+)?[`\"'*]*([\w.-]+(?:/[\w.-]+)*\.\w{1,8})[`\"'*]*[ \t]*:?[`\"'*]*$", re.IGNORECASE
)
_VERB = re.compile(r"^[\s>*-]*[`$]*[ \t]*(read|cat|run|test|tests|list|ls|submit)\b[ \t]*(.*?)[ \t`]*$", re.IGNORECASE)
_SHELL = {"sh", "bash", "shell", "console", "zsh"}


@dataclass(frozen=True)
class Write:
    """Put a file."""

    path: str
    text: str


@dataclass(frozen=True)
class Command:
    """Do something: `verb` is read, run, test, list or submit."""

    verb: str
    argument: str = ""


Act = Write | Command


def parse(text: str, main: str, *, shell: bool = False) -> list[Act] | str:
    """Read an action: what to do in order, or in one line what is wrong with it.

    Args:
        main: the file of a block without a path.
        shell: what is no known action is a command to run.
    """
    if len(text) > LONGEST:
        return f"That is too long for an action ({len(text)} characters, at most {LONGEST})."
    if "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        return "That is not text: it holds NUL or half a character."
    text = text.replace("\r\n", "\n")
    blocks, after = _blocks(text, main)
    if blocks:
        last = _command(after, strict=True)
        return [*blocks, *([last] if isinstance(last, Command) else [])]
    lines = text.strip().split("\n")
    if not lines[0]:
        return "Your answer was empty."
    written = _WRITE.match(lines[0])
    if written:
        body = "\n".join(lines[1:]).strip("\n")
        if not body:
            return "After the line 'write PATH' give the file's text in a block between lines of ```."
        return [Write(_clean(written[1]), body + "\n")]
    found = (
        None if shell and lines[0].lstrip("> *-`$").startswith(("cat", "ls", "test")) else _command(lines, strict=False)
    )
    if found is not None:
        return found if isinstance(found, str) else [found]
    if shell:
        return [Command("run", text.strip())]
    return f"{lines[0][:60]!r} is no action."


def _blocks(text: str, main: str) -> tuple[list[Act], list[str]]:
    """The fenced blocks of a text, and the lines after the last one. A block that is never closed goes to the end."""
    found: list[Act] = []
    lines = text.split("\n")
    before, index = "", 0
    rest: list[str] = []
    while index < len(lines):
        fence = _FENCE.match(lines[index])
        if not fence:
            if lines[index].strip():
                before = lines[index]
            rest.append(lines[index])
            index += 1
            continue
        mark, info = fence[1], fence[2].strip()
        end = index + 1
        while end < len(lines) and not re.match(
            rf"^[ \t]{{0,3}}{re.escape(mark[0])}{{{len(mark)},}}[ \t]*$", lines[end]
        ):
            end += 1
        inside = lines[index + 1 : end if end < len(lines) or lines[-1] else -1]
        found.append(_block(before, info, "\n".join(inside) + "\n", main))
        before, index, rest = "", end + 1, []
    return found, rest


def _block(before: str, info: str, body: str, main: str) -> Act:
    words = re.split(r"[\s:=,]+", info) if info else [""]
    written = _WRITE.match(before)
    named = _PATH.match(before)
    inside = next((word.strip("\"'") for word in words[1:] if _PATH.match(word)), "")
    path = _clean(written[1]) if written else inside or (named[1] if named else "")
    if not path and words[0].lower() in _SHELL:
        return Command("run", "\n".join(line.removeprefix("$ ") for line in body.strip().splitlines()))
    return Write(path or main, body)


def _clean(path: str) -> str:
    return path.strip().strip("`\"'*: \t").removeprefix("./")


def _command(lines: list[str], *, strict: bool) -> Command | str | None:
    """The command of the first line that holds anything; `strict` wants it in small letters, as prose is not."""
    first = next((index for index, line in enumerate(lines) if line.strip()), None)
    match = _VERB.match(lines[first]) if first is not None else None
    if first is None or match is None:
        return None
    verb, argument = match[1], match[2].strip()
    if strict and verb != verb.lower():
        return None
    verb = {"tests": "test", "cat": "read", "ls": "list"}.get(verb.lower(), verb.lower())
    if verb == "run" and re.fullmatch(r"(?:the )?tests?\.?", argument, re.IGNORECASE):
        return Command("test")
    if verb in ("test", "submit", "list"):
        bare = not argument.strip(".!") or (verb == "list" and argument == ".")
        return Command(verb) if bare else None if strict else _odd(verb, match[1], argument)
    if match[1].lower() == "cat" and not re.fullmatch(r"[\w./-]+", argument.strip("`\"'")):
        return Command("run", f"cat {argument}") if argument else None
    if not argument:
        return None if strict else f"'{verb}' needs {'a command' if verb == 'run' else 'a path'} after it."
    if verb == "run":
        if "<<" in argument:  # a here-document: the lines below belong to it
            argument = "\n".join([argument, *lines[first + 1 :]])
        return Command("run", argument)
    return Command("read", _clean(argument))


def _odd(verb: str, word: str, argument: str) -> Command | str | None:
    if word.lower() == "ls":
        return Command("run", f"ls {argument}")
    return f"'{verb}' stands alone, without {argument[:40]!r}."
