"""Bad input: whatever is handed to a sandbox is refused in one clear line, leaves nothing behind and harms nothing."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palaestra.envs.errors import BadInput
from palaestra.envs.sandbox import Limits, WorkCopy, start
from palaestra.envs.sandbox.asynchronous import AsyncSandbox, start_async
from palaestra.envs.sandbox.bwrap import BubblewrapSandbox
from palaestra.envs.sandbox.client import GuestSandbox
from palaestra.envs.sandbox.errors import NotAFile, OutsideWork, TooLarge
from palaestra.envs.sandbox.pool import lend

LIMITS = Limits.model_validate({"memory": "128MiB", "pids": 16, "disk": "4MiB", "files": 64})

LONG = "a/" * 3_000_000

BAD: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("exec", (["true"],), {"timeout": "abc"}, "timeout is a number of seconds or None, not str 'abc'"),
    ("exec", (["true"],), {"timeout": "5"}, "timeout is a number of seconds or None, not str '5'"),
    ("exec", (["true"],), {"timeout": True}, "timeout is a number of seconds or None, not bool True"),
    ("exec", (["true"],), {"timeout": 0}, "timeout must be above 0 seconds and at most 864000, not 0.0"),
    ("exec", (["true"],), {"timeout": math.nan}, "timeout must be above 0 seconds and at most 864000, not nan"),
    ("exec", (["true"],), {"timeout": 10**400}, "timeout must be above 0 seconds and at most 864000, not inf"),
    ("exec", (None,), {}, "a command is a list of texts, or a text for /bin/sh, not None"),
    ("exec", (b"ls",), {}, "a command is a list of texts, or a text for /bin/sh, not bytes b'ls'"),
    ("exec", ({"ls": 1},), {}, "a command is a list of texts, or a text for /bin/sh, not dict {'ls': 1}"),
    ("exec", (["ls", 3],), {}, "each argument of a command is a text, not int 3"),
    ("exec", (["ls", "a\0b"],), {}, r"each argument of a command holds a NUL byte: 'a\x00b'"),
    ("exec", ([],), {}, "the command is empty"),
    ("exec", ([""],), {}, "the command is empty"),
    ("exec", (" \n",), {}, "the command is empty"),
    ("exec", ("cat",), {"input": None}, "the input is given a text or bytes, not None"),
    ("exec", ("cat",), {"input": 3}, "the input is given a text or bytes, not int 3"),
    ("exec", ("cat",), {"input": [300]}, "the input is given a text or bytes, not list [300]"),
    ("exec", ("cat",), {"input": "\ud800"}, r"the input holds a character that UTF-8 cannot: '\ud800'; use bytes"),
    ("exec", ("pwd",), {"cwd": ""}, "cwd is empty; '.' is the work directory"),
    ("exec", ("pwd",), {"cwd": None}, "cwd is a text, not None"),
    ("exec", ("pwd",), {"cwd": "a\nb"}, r"a\nb: No such file or directory"),
    ("exec", ("pwd",), {"cwd": LONG}, f"cwd has 6000000 bytes; at most 4095 are taken: '{LONG[:60]}'..."),
    ("exec", ("id",), {"user": LONG}, f"user has 6000000 bytes; at most 4095 are taken: '{LONG[:60]}'..."),
    ("exec", ("env",), {"env": "A=b"}, "env is a mapping of names to texts, not str 'A=b'"),
    ("exec", ("env",), {"env": {"A": 3}}, "the environment variable A is a text, not int 3"),
    ("exec", ("env",), {"env": {3: "A"}}, "3 cannot be the name of an environment variable"),
    ("exec", ("env",), {"env": {"A\0": ""}}, r"the environment variable 'A\x00' holds a NUL byte: 'A\x00='"),
    ("exec", ("id",), {"user": 3}, "user is a text, not int 3"),
    ("exec", ("id",), {"user": ""}, "user is empty; None is the sandbox's ordinary user"),
    ("exec", ("id",), {"background": "no"}, "background is True or False, not str 'no'"),
    ("write_file", ("", "x"), {}, "the path is empty; name a file, relative to the work directory"),
    ("write_file", (None, "x"), {}, "the path is a text, not None"),
    ("write_file", (b"a", "x"), {}, "the path is a text, not bytes b'a'"),
    ("write_file", ("a/", "x"), {}, "'a/' names a folder, not a file"),
    ("write_file", ("a", None), {}, "the file a is given a text or bytes, not None"),
    ("write_file", ("a", 3), {}, "the file a is given a text or bytes, not int 3"),
    ("write_file", ("a", "\ud800"), {}, r"the file a holds a character that UTF-8 cannot: '\ud800'; use bytes"),
    ("write_file", ("a", "x"), {"executable": "no"}, "executable is True or False, not str 'no'"),
    ("read_bytes", (LONG + "a",), {}, f"the path has 6000001 bytes; at most 4095 are taken: '{LONG[:60]}'..."),
    ("write_file", (LONG + "a", "x"), {}, f"the path has 6000001 bytes; at most 4095 are taken: '{LONG[:60]}'..."),
    ("list", (LONG,), {}, f"the path has 6000000 bytes; at most 4095 are taken: '{LONG[:60]}'..."),
    ("read_bytes", ("",), {}, "the path is empty; name a file, relative to the work directory"),
    ("read_file", ("",), {}, "the path is empty; name a file, relative to the work directory"),
    ("read_file", (3,), {}, "the path is a text, not int 3"),
    ("read_file", ("a/.",), {}, "'a/.' names a folder, not a file"),
    ("list", ("",), {}, "the path is empty; '.' is the work directory"),
    ("list", (None,), {}, "the path is a text, not None"),
    ("list", (b".",), {}, "the path is a text, not bytes b'.'"),
    ("restore", (None,), {}, "restore takes what snapshot gave, a WorkCopy, not None"),
    ("restore", (b"",), {}, "restore takes what snapshot gave, a WorkCopy, not bytes b''"),
    ("restore", (WorkCopy("x", ""),), {}, "the archive of a WorkCopy is bytes, not str 'x'"),  # type: ignore[arg-type]
]


@pytest.fixture(scope="module")
def box() -> Iterator[GuestSandbox]:
    with BubblewrapSandbox(LIMITS) as made:
        yield made


@pytest.mark.parametrize(
    ("method", "args", "settings", "says"), BAD, ids=[f"{n}-{bad[0]}" for n, bad in enumerate(BAD)]
)
def test_what_is_handed_in_wrongly_is_one_clear_line_and_the_sandbox_goes_on(
    box: GuestSandbox, method: str, args: tuple[Any, ...], settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(BadInput) as told:
        getattr(box, method)(*args, **settings)
    assert str(told.value) == says
    assert box.list() == []
    assert box.exec(["true"]).ok


def test_the_async_form_says_the_same() -> None:
    async def play() -> None:
        async with await start_async("bwrap", LIMITS) as box:
            for method, args, settings, says in BAD:
                call: Callable[..., Awaitable[object]] = getattr(box, method)
                with pytest.raises(BadInput) as told:
                    await call(*args, **settings)
                assert str(told.value) == says
            assert (await box.exec(["true"])).ok
        with pytest.raises(BadInput, match="no sandbox backend 3"):
            await start_async(3)  # type: ignore[arg-type]
        with pytest.raises(BadInput, match="a Sandbox, not None"):
            AsyncSandbox(None)  # type: ignore[arg-type]

    asyncio.run(asyncio.wait_for(play(), 60))


@pytest.mark.parametrize(
    ("args", "settings", "says"),
    [
        ((3,), {}, "there is no sandbox backend 3;"),
        (([],), {}, "there is no sandbox backend [];"),
        (("",), {}, "there is no sandbox backend '';"),
        (("bwrap", {"memory": "1GiB"}), {}, "limits of a sandbox are a Limits(...) or None, not dict"),
        (("bwrap",), {"image": "x"}, "the sandbox backend bwrap has no setting 'image'; it has: python"),
        (("bwrap",), {"python": 3}, "python of a sandbox is a text, not int 3"),
        (("bwrap",), {"python": ""}, "python of a sandbox is empty; leave it out for the usual one"),
        (("bwrap",), {"python": "a\0"}, r"python of a sandbox holds a NUL byte: 'a\x00'"),
        (("docker",), {"image": ["x"]}, "image of a sandbox is a text, not list ['x']"),
    ],
)
def test_what_cannot_be_started_is_said_before_anything_is(
    args: tuple[Any, ...], settings: dict[str, Any], says: str
) -> None:
    for begin in (start, lend):
        with pytest.raises(BadInput, match=re.escape(says)):
            begin(*args, **settings)


def test_what_is_fine_in_another_form_works(box: GuestSandbox) -> None:
    box.write_file(Path("p") / "q", memoryview(b"1"))  # type: ignore[arg-type]
    assert box.read_file("p/q") == "1"
    assert box.exec(("cat", Path("p/q")), timeout=5).stdout == "1"  # type: ignore[arg-type]
    assert box.exec(["rm", "-r", "p"]).ok


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/../../x", OutsideWork),
        ("a/b/../../../x", OutsideWork),
        ("a/b/..", NotAFile),
        ("a/b/" + "x" * 300, NotAFile),
        ("a/" + "x" * 300 + "/y", NotAFile),
        ("a/b/large", TooLarge),
    ],
)
def test_a_write_that_is_refused_leaves_no_folder_behind(box: GuestSandbox, path: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        box.write_file(path, b"x" * 5_000_000 if kind is TooLarge else b"x")
    assert box.exec("ls -A").stdout == ""


def test_the_longest_path_that_the_kernel_takes_is_taken(box: GuestSandbox) -> None:
    name = ("x" * 200 + "/") * 20 + "y" * 75
    assert len(name) == 4095
    box.write_file(name, "1")
    assert box.read_file(name) == "1"
    assert box.exec("rm -r x*").ok


def test_a_write_that_is_refused_leaves_what_was_there(box: GuestSandbox) -> None:
    box.write_file("a/old", "1")
    for path in ("a/b/../../../x", "a/old/x", "a/b/" + "x" * 300):
        with pytest.raises((OutsideWork, NotAFile)):
            box.write_file(path, "x")
    assert box.exec("find . -mindepth 1 | sort").stdout == "./a\n./a/old\n"
    box.write_file("a/none/../new", "2")  # a folder that is only passed through is not made
    assert box.exec("find . -mindepth 1 | sort; rm -r a").stdout == "./a\n./a/new\n./a/old\n"


def test_a_path_through_a_link_to_what_is_not_there_is_made_where_it_leads(box: GuestSandbox) -> None:
    box.exec("ln -s b/c link")
    box.write_file("link/d/e", "1")
    assert box.exec("cat b/c/d/e; rm -r b link").stdout == "1"
