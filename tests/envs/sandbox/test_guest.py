"""The guest and its client, in a real sandbox of bubblewrap's: frames, commands, files, snapshots."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import tarfile
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sandbox_ordinary import OrdinarySandbox

from palaestra.envs.errors import BadInput
from palaestra.envs.sandbox import ExecResult, Limits, WorkCopy
from palaestra.envs.sandbox.asynchronous import AsyncSandbox
from palaestra.envs.sandbox.bwrap import BubblewrapSandbox
from palaestra.envs.sandbox.client import GuestSandbox
from palaestra.envs.sandbox.errors import BinaryOutput, NotAFile, OutsideWork, SandboxDied, TooLarge
from palaestra.envs.sandbox.guest.frames import HEADER, HELLO, MAGIC, Forged, Seal
from palaestra.envs.sandbox.program import Setup

LIMITS = Limits(disk="64MiB", files=15_000, memory="512MiB", pids=64)


@pytest.fixture(scope="module", params=["here", "ordinary"])
def shared(request: pytest.FixtureRequest) -> Iterator[GuestSandbox]:
    """One sandbox for all tests, started by whoever runs them (root, mostly), and one by an ordinary user."""
    with (BubblewrapSandbox if request.param == "here" else OrdinarySandbox)(LIMITS) as box:
        yield box  # type: ignore[misc]  # the second stands for one in another process


@pytest.fixture
def box(shared: GuestSandbox) -> GuestSandbox:
    """Empty, with nothing running."""
    shared.restore(WorkCopy(EMPTY, ""))
    return shared


EMPTY = b"\0" * 1024


# Frames.


def test_a_frame_is_what_was_said() -> None:
    host, guest = Seal(b"k" * 32, b"host"), Seal(b"k" * 32, b"host")
    for fields in ([b"ping"], [b"data", b"", b"\0" * 70_000], [b"exec", b"a=b", b"--", "é\n".encode()]):
        frame = host.seal(*fields)
        assert Seal.size(frame[:HEADER]) == len(frame) - HEADER
        assert guest.open(frame[:HEADER], frame[HEADER:]) == fields


def test_a_frame_that_is_forged_repeated_turned_round_or_damaged_is_noticed() -> None:
    def opened(frame: bytes, reader: Seal) -> list[bytes]:
        return reader.open(frame[:HEADER], frame[HEADER:])

    def fresh() -> Seal:
        return Seal(b"k" * 32, b"guest")

    frame = fresh().seal(b"done", b"0")
    assert opened(frame, fresh()) == [b"done", b"0"]
    again = fresh()
    opened(frame, again)
    flipped = bytes([*frame[:-1], frame[-1] ^ 1])
    for bad, reader in (
        (frame, again),
        (flipped, fresh()),
        (Seal(b"x" * 32, b"guest").seal(b"done", b"0"), fresh()),
        (Seal(b"k" * 32, b"host").seal(b"done", b"0"), fresh()),
    ):
        with pytest.raises(Forged):
            opened(bad, reader)
    with pytest.raises(Forged, match="bytes"):
        Seal.size(b"\xff" * HEADER)


class OneFrame:
    """A wire to a guest that begins well, and then says what it was told to."""

    def __init__(self, then: bytes) -> None:
        self._data = HELLO + b"\0" * MAGIC + then

    def write(self, data: bytes, deadline: float) -> None:
        return

    def read(self, size: int, deadline: float) -> bytes:
        part, self._data = self._data[:size], self._data[size:]
        return part


class WiredSandbox(GuestSandbox):
    """Has nothing but a wire."""

    backend = "wired"
    ended = 0

    def _end(self) -> None:
        self.ended += 1


@pytest.mark.parametrize(
    "said", [Seal(b"?" * 32, b"guest").seal(b"ready"), b"\xff" * 64, b"", b"Traceback (most recent call last)\n"]
)
def test_a_guest_that_cannot_be_believed_is_a_dead_sandbox_and_no_result(said: bytes) -> None:
    box = WiredSandbox(Limits())
    with pytest.raises(SandboxDied, match="wired sandbox died"):
        box._begin(OneFrame(said), Setup(Limits()))
    assert box.ended == 1
    with pytest.raises(SandboxDied, match="gone"):
        box.exec("true")
    assert not box.alive()


def test_a_process_in_the_sandbox_finds_no_way_to_the_guests_channel(box: GuestSandbox) -> None:
    box.write_file(
        "forge.py",
        "import os\nopened = 0\n"
        "for n in range(64):\n"
        "    for flags in (os.O_RDONLY, os.O_WRONLY):\n"
        "        try:\n            end = os.open(f'/proc/1/fd/{n}', flags | os.O_NONBLOCK)\n"
        "            os.write(end, b'x' * 100)\n            opened += 1\n"
        "        except OSError:\n            pass\n"
        "for name in ('mem', 'environ', 'maps', 'auxv', 'syscall', 'stack', 'io'):\n"
        "    try:\n        open(f'/proc/1/{name}', 'rb').read(1)\n        opened += 1\n"
        "    except OSError:\n        pass\n"
        "print(opened, sorted(os.listdir('/proc/self/fd')))\n",
    )
    assert box.exec(["python3", "forge.py"]).stdout == "0 ['0', '1', '2', '3']\n"  # the last is the listing itself
    assert box.alive()


# Commands.


def test_a_command_says_how_it_ended(box: GuestSandbox) -> None:
    assert box.exec(["python3", "-c", "print(6 * 7)"]).stdout == "42\n"
    script = box.exec("echo out; echo err >&2; exit 3")
    assert (script.rc, script.stdout, script.stderr, script.ok) == (3, "out\n", "err\n", False)
    assert box.exec("kill -SEGV $$").rc == -11
    assert box.exec(["no-such-program"]).rc == 127
    assert box.exec(["/work"]).rc == 126


def test_input_folder_and_variables_reach_it(box: GuestSandbox) -> None:
    box.write_file("a/b/x", "")
    assert box.exec("pwd; ls", cwd="a/b").stdout == "/work/a/b\nx\n"
    assert box.exec(["sh", "-c", "echo $A-$B-$HOME"], env={"A": "1 2", "B": "é"}).stdout == "1 2-é-/work\n"
    assert sorted(line.split("=")[0] for line in box.exec(["env"]).stdout.splitlines()) == [
        "HOME", "LANG", "PATH", "TMPDIR",
    ]  # fmt: skip
    big = os.urandom(3_000_000)
    assert box.exec("cat | wc -c", input=big).stdout == "3000000\n"
    assert box.exec(["true"], input=big).rc == 0  # it does not read at all
    assert box.exec(["cat"], input="é").stdout == "é"


@pytest.mark.parametrize("kind", [BubblewrapSandbox, OrdinarySandbox])
def test_input_that_fits_is_fed_and_what_does_not_is_named_and_harms_nothing(kind: type[GuestSandbox]) -> None:
    with kind(Limits.model_validate({"memory": "32MiB", "file": "64MiB", "disk": "1MiB"})) as box:
        assert box.exec("wc -c", input=b"x" * (16 << 20)).stdout == f"{16 << 20}\n"
        assert box.exec("sleep 0.2; head -c 5", input=b"12345" + b"x" * (16 << 19)).stdout == "12345"
        with pytest.raises(TooLarge, match=r"the input has 16777217 bytes.*half of the limit memory, 16777216"):
            box.exec("wc -c", input=b"x" * ((16 << 20) + 1))
        assert box.exec("wc -c", input=b"").stdout == "0\n"


def test_output_is_cut_and_the_rest_drained(box: GuestSandbox) -> None:
    flood = box.exec("head -c 300000000 /dev/zero; echo end >&2", timeout=60)
    assert (flood.rc, len(flood.raw_stdout), flood.truncated, flood.stderr) == (0, LIMITS.output, True, "end\n")
    both = box.exec("yes | head -c 500000; yes n | head -c 500000 >&2")
    assert (len(both.raw_stdout), len(both.raw_stderr), both.truncated) == (500_000, 500_000, False)


def test_binary_output_is_named(box: GuestSandbox) -> None:
    result = box.exec("printf 'a\\377b'")
    assert result.raw_stdout == b"a\xffb"
    with pytest.raises(BinaryOutput, match="stdout is not UTF-8 text: byte 0xff at 1"):
        _ = result.stdout


def test_a_timeout_ends_the_whole_tree_whatever_it_ignores(box: GuestSandbox) -> None:
    box.write_file(
        "stay.py",
        "import os, signal, sys\n"
        "for n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
        "for _ in range(3):\n    if os.fork() == 0: os.setsid()\n"
        "print('up', flush=True)\nwhile True: pass\n",
    )
    result = box.exec(["python3", "stay.py"], timeout=0.5)
    assert (result.timed_out, result.rc) == (True, -9)
    assert result.stdout.startswith("up\n")
    assert processes(box) == []


def processes(box: GuestSandbox) -> list[str]:
    """Names of what runs beside the guest and the command that looks."""
    script = "for p in /proc/[0-9]*; do [ $p = /proc/1 ] || [ $p = /proc/$$ ] || cat $p/comm; done"
    return box.exec(script, background=True).stdout.split()


def test_nothing_survives_a_command_unless_that_was_asked_for(box: GuestSandbox) -> None:
    daemon = "(setsid sh -c 'sleep 1000 & sleep 1000' > /dev/null 2>&1 &); sleep 0.1"
    assert box.exec(daemon).rc == 0
    assert "sleep" not in processes(box)
    assert box.exec(daemon, background=True).rc == 0
    assert processes(box).count("sleep") == 2
    assert box.exec(["true"]).ok
    assert "sleep" not in processes(box)


def test_a_server_in_the_background_serves_later_commands_and_may_keep_writing(box: GuestSandbox) -> None:
    server = (
        "import socket, sys\ns = socket.create_server(('127.0.0.1', 8000))\nopen('ready', 'w')\n"
        "while True:\n    c, _ = s.accept()\n    print('x' * 200_000, flush=True)\n"
        "    c.sendall(b'served')\n    c.close()\n"
    )
    box.write_file("server.py", server)
    box.exec("python3 server.py & while ! [ -e ready ]; do sleep 0.01; done", background=True)
    ask = "import socket; print(socket.create_connection(('127.0.0.1', 8000)).recv(100).decode())"
    for _ in range(3):
        assert box.exec(["python3", "-c", ask], background=True).stdout == "served\n"
    assert box.exec(["true"]).ok
    assert "ConnectionRefused" in box.exec(["python3", "-c", ask]).stderr


def test_zombies_do_not_eat_the_processes(box: GuestSandbox) -> None:
    orphans = "for i in $(seq 300); do (sh -c 'true' &) ; done; sleep 0.2; echo ok"
    assert box.exec(orphans).stdout == "ok\n"
    assert processes(box) == []


@pytest.mark.parametrize(
    ("command", "settings", "says"),
    [
        ([], {}, "empty"),
        ("  ", {}, "empty"),
        (["a\0b"], {}, "NUL"),
        (["true"], {"timeout": 0}, "timeout"),
        (["true"], {"timeout": float("nan")}, "timeout"),
        (["true"], {"user": "postgres"}, "postgres"),
        (["true"], {"env": {"A=B": "1"}}, "A=B"),
        (["true"], {"cwd": "../.."}, "outside"),
        (["true"], {"cwd": "nowhere"}, "nowhere"),
        (["true"], {"input": b"x" * (LIMITS.file + 1)}, "input"),
        (["true", "x" * 3_000_000], {}, "2 MiB"),
        (["true", *[""] * 2_000_000], {}, "2 MiB"),
        ("echo \ud83d", {}, "UTF-8"),
        (["true"], {"cwd": "\ud83d"}, "UTF-8"),
        (["true"], {"env": {"A": "\ud83d"}}, "UTF-8"),
    ],
)
def test_a_bad_command_is_named_and_harms_nothing(
    box: GuestSandbox, command: list[str] | str, settings: dict[str, object], says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        box.exec(command, **settings)  # type: ignore[arg-type]
    assert box.exec(["true"]).ok


def test_another_thread_can_end_a_command() -> None:
    with BubblewrapSandbox(LIMITS) as box:
        ended = []
        thread = threading.Thread(target=lambda: ended.append(box.exec("sleep 1000", timeout=500)))
        thread.start()
        while not ended:  # too early a call ends nothing, or ends it as it starts
            box.cancel()
            time.sleep(0.01)
        thread.join()
        assert (ended[0].rc, ended[0].timed_out) == (-9, False)
        box.cancel()  # nothing runs: nothing happens
        assert box.exec(["true"]).ok


class Rang(Exception):
    """What the handler of a signal raises."""


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """A real signal, whose handler raises in whatever this thread does then."""

    def ring(*_: object) -> None:
        raise Rang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_the_answer_to_a_call_that_was_interrupted_is_never_that_of_another() -> None:
    box = BubblewrapSandbox(LIMITS)
    with pytest.raises(Rang), alarm(0.3):
        box.exec("sleep 0.6; echo first")
    with pytest.raises(SandboxDied, match="interrupted by Rang"):
        box.exec("echo second")
    with BubblewrapSandbox(LIMITS) as large, BubblewrapSandbox(LIMITS) as other:
        large.exec("head -c 16000000 /dev/zero > first; echo second > second")
        copy = large.snapshot()
        calls: list[Callable[[], object]] = [
            lambda: large.read_bytes("first"),
            lambda: large.write_file("first", bytes(16_000_000)),
            lambda: large.snapshot(),
            lambda: large.restore(copy),
            lambda: large.list(),
        ]
        for number in range(15):
            try:
                with alarm(0.001 * (number + 1)):
                    calls[number % len(calls)]()
            except Rang:
                pass
            try:
                assert large.read_file("second") == "second\n"
            except SandboxDied:
                large.close()
                large = BubblewrapSandbox(LIMITS)
                large.restore(copy)
        large.close()
        assert other.exec("echo other").stdout == "other\n"  # no file of another was closed


def test_two_threads_at_once_and_a_fork_are_told_so_and_harm_nothing() -> None:
    with BubblewrapSandbox(LIMITS) as box:
        results: list[ExecResult] = []
        thread = threading.Thread(target=lambda: results.append(box.exec("sleep 1; echo first")))
        thread.start()
        time.sleep(0.3)
        for call in (lambda: box.exec("true"), box.list, box.snapshot, lambda: box.read_bytes("x"), box.alive):
            with pytest.raises(BadInput, match="in use by another thread"):
                call()
        thread.join()
        assert results[0].stdout == "first\n"
        child = os.fork()
        if child == 0:
            try:
                box.exec("echo child")
            except BadInput as error:
                os._exit(3 if "fork" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        assert box.exec("echo parent").stdout == "parent\n"


def test_a_close_by_another_thread_ends_a_command_at_once() -> None:
    box, ended = BubblewrapSandbox(LIMITS), []

    def run() -> None:
        with pytest.raises(SandboxDied, match="it was closed") as died:
            box.exec("sleep 1000", timeout=500)
        ended.append(died)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.3)
    box.close()
    thread.join(20)
    assert ended


def test_the_async_form_ends_what_is_cancelled() -> None:
    async def play() -> None:
        async with AsyncSandbox(BubblewrapSandbox(LIMITS)) as box:
            await box.write_file("a", "b")
            assert [entry.path for entry in await box.list()] == ["a"]
            endless = asyncio.create_task(box.exec("touch up; sleep 1000", timeout=500))
            queued = asyncio.create_task(box.read_file("a"))
            await asyncio.sleep(0.2)
            endless.cancel()
            with pytest.raises(asyncio.CancelledError):
                await endless
            assert await queued == "b"
            assert (await box.exec(["true"])).ok

    asyncio.run(asyncio.wait_for(play(), 60))


# Files.


def test_a_file_is_written_read_and_listed(box: GuestSandbox) -> None:
    box.write_file("a/b/c.txt", "é\n")
    box.write_file("run", "#!/bin/sh\necho ran\n", executable=True)
    assert box.read_file("a/b/c.txt") == "é\n"
    assert box.read_file("./a/../a/b//c.txt") == "é\n"
    assert box.exec(["./run"]).stdout == "ran\n"
    assert box.exec("echo more >> a/b/c.txt && rm -r a/b && ls -ld a | cut -c1-10").stdout == "drwxr-xr-x\n"
    box.exec("mkfifo pipe; ln -s run link")
    assert [(entry.path, entry.kind, entry.size) for entry in box.list()] == [
        ("a", "folder", 0), ("link", "link", 0), ("pipe", "other", 0), ("run", "file", 19),
    ]  # fmt: skip
    content = bytes(range(256)) * 8000
    box.write_file("bin", content)
    assert box.read_bytes("bin") == content
    with pytest.raises(BinaryOutput, match="bin is not UTF-8"):
        box.read_file("bin")


def test_no_path_leads_out(box: GuestSandbox) -> None:
    box.exec("ln -s / root; ln -s /etc/passwd passwd; ln -s ../etc up; mkdir d; ln -s ../.. d/upup; ln -s loop loop")
    for path in (
        "/etc/passwd",
        "..",
        "../etc/passwd",
        "d/../../x",
        "root/etc/passwd",
        "passwd",
        "up/passwd",
        "d/upup/x",
    ):
        with pytest.raises(OutsideWork):
            box.read_bytes(path)
        with pytest.raises(OutsideWork):
            box.write_file(path, "x")
        with pytest.raises(OutsideWork):
            box.list(path)
    with pytest.raises(NotAFile, match="too many links"):
        box.read_bytes("loop")


def test_links_inside_are_followed(box: GuestSandbox) -> None:
    box.write_file("d/real", "1")
    box.exec("ln -s d e; ln -s /work/d/real absolute; ln -s ../d/real d/round; ln -s new dangling")
    for path in ("e/real", "absolute", "d/round", "e/round"):
        assert box.read_file(path) == "1"
    box.write_file("absolute", "2")
    assert box.read_file("d/real") == "2"
    box.write_file("dangling", "3")
    assert box.exec("readlink dangling; cat new").stdout == "new\n3"


def test_what_is_no_file_neither_hangs_nor_is_overwritten(box: GuestSandbox) -> None:
    box.exec(
        "mkfifo pipe; mkdir folder; python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('sock')\";"
        " echo x > secret; chmod 0 secret"
    )
    for path in ("pipe", "folder", "sock", "."):
        with pytest.raises(NotAFile):
            box.read_bytes(path)
        with pytest.raises(NotAFile):
            box.write_file(path, "x")
    for path in ("missing", "missing/below", "pipe/below", "x" * 300):
        with pytest.raises(NotAFile):
            box.read_bytes(path)
    for path, says in (("a\0b", "NUL"), ("a\ud83d", "UTF-8")):
        with pytest.raises(BadInput, match=says):
            box.read_bytes(path)
        with pytest.raises(BadInput, match=says):
            box.write_file(path, "x")
        with pytest.raises(BadInput, match=says):
            box.list(path)
    box.write_file("secret", "mine")  # whatever its permissions were
    assert box.read_file("secret") == "mine"


def test_a_file_that_is_swapped_all_the_time_never_leads_out(box: GuestSandbox) -> None:
    box.exec(
        "mkdir d; echo inside > d/f; "
        "(while true; do mv d x; ln -s /etc d; rm d; mv x d; done > /dev/null 2>&1 &); echo",
        background=True,
    )
    seen = set()
    for _ in range(300):
        try:
            seen.add(box.read_file("d/f"))
            box.write_file("d/passwd", "mine")
        except (NotAFile, OutsideWork):
            pass
    assert seen <= {"inside\n"}
    box.exec("true")
    assert "root" in box.exec("head -1 /etc/passwd").stdout


def test_too_large_is_said_and_leaves_the_old_file(box: GuestSandbox) -> None:
    with pytest.raises(TooLarge, match="at most 16777216"):
        box.write_file("big", b"x" * (LIMITS.file + 1))
    box.write_file("kept", "old")
    box.exec(f"head -c {63 * 2**20} /dev/zero > filler")
    with pytest.raises(TooLarge, match="kept"):
        box.write_file("kept", b"x" * 2**21)
    assert box.read_file("kept") == "old"
    assert [entry.path for entry in box.list()] == ["filler", "kept"]
    with pytest.raises(TooLarge, match="filler"):
        box.read_bytes("filler")
    box.exec("truncate -s 100M sparse")
    with pytest.raises(TooLarge):
        box.read_bytes("sparse")


# Snapshots.


def test_a_snapshot_brings_everything_back(box: GuestSandbox) -> None:
    box.exec(
        "mkdir -p a/b 'with space' && echo one > a/one && ln a/one a/hard && ln -s one a/soft"
        " && ln -s /nowhere dangling && mkfifo pipe && printf 'x' > \"$(printf 'new\\nline \\377 é')\" "
        " && chmod 4711 a/one && chmod 700 a/b"
        " && mkdir locked && echo l > locked/in && chmod 0 locked/in && chmod 0 locked"
        " && truncate -s 20M sparse && printf mid | dd of=sparse bs=1 seek=9000000 conv=notrunc 2>/dev/null"
        " && truncate -s 25M hole && : > empty && touch -d '1969-01-02 03:04:05.123456789' a/one"
        " && touch -d '2011-01-01 01:01:01.5' a && head -c 300000 /dev/urandom > random"
    )
    look = (
        "import os, hashlib\nos.chmod('locked', 0o700); os.chmod('locked/in', 0o600)\n"
        "for top, dirs, files in os.walk(b'.'):\n  dirs.sort()\n"
        "  for name in sorted(dirs + files):\n"
        "    path = os.path.join(top, name); s = os.lstat(path)\n"
        "    what = os.readlink(path) if os.path.islink(path) else (\n"
        "        hashlib.md5(open(path, 'rb').read()).hexdigest() if os.path.isfile(path) else '')\n"
        "    size = s.st_size if os.path.isfile(path) else 0\n"
        "    print(path, oct(s.st_mode), size, s.st_nlink if not os.path.isdir(path) else 0, s.st_mtime_ns, what)\n"
        "os.chmod('locked/in', 0); os.chmod('locked', 0)\n"
    )
    before = box.exec(["python3", "-c", look]).stdout
    assert before.count("\n") == 15
    copy = box.snapshot()
    assert len(copy.archive) < 1_000_000  # holes are not stored
    assert box.exec("chmod 700 locked; rm -rf ./* ; echo other > thing").ok
    box.restore(copy)
    assert box.exec(["python3", "-c", look]).stdout == before
    assert box.exec("stat -c '%b' hole").stdout == "0\n"
    again = box.snapshot()
    assert again.digest == copy.digest


def test_the_digest_is_of_contents_names_and_modes_not_of_times(box: GuestSandbox) -> None:
    def digest(script: str) -> str:
        box.restore(WorkCopy(EMPTY, ""))
        assert box.exec(script).ok
        return box.snapshot().digest

    plain = digest("echo x > a; mkdir d")
    assert digest("mkdir d; sleep 0.01; echo x > a; touch -d 2001-01-01 d") == plain
    dense, holes = digest("head -c 100000 /dev/zero > a"), digest("truncate -s 100000 a")
    assert dense == holes
    others = [
        digest(s) for s in ("echo y > a; mkdir d", "echo x > b; mkdir d", "echo x > a; mkdir -m 700 d", "echo x > a")
    ]
    assert len({plain, dense, *others}) == 6
    page = "python3 -c 'import sys; sys.stdout.buffer.write({})' > a"
    pages = [
        digest(page.format(text))
        for text in ('b"a".ljust(4096, b"\\0") + b"b".ljust(4096, b"\\0")', 'b"a4096:b".ljust(8192, b"\\0")')
    ]
    assert len(set(pages)) == 2  # what is said of contents cannot be said by contents


def test_any_tar_reads_a_snapshot(box: GuestSandbox) -> None:
    box.exec(
        f"mkdir -p {'x' * 90}/{'y' * 90}; echo deep > {'x' * 90}/{'y' * 90}/f; ln -s {'z' * 150} l; truncate -s 1M s"
    )
    with tarfile.open(fileobj=io.BytesIO(box.snapshot().archive)) as tar:
        members = {member.name: member for member in tar.getmembers()}
        deep = tar.extractfile(members[f"{'x' * 90}/{'y' * 90}/f"])
        assert deep is not None
        assert deep.read() == b"deep\n"
    assert members["l"].linkname == "z" * 150
    assert (members["s"].size, members["s"].issparse()) == (2**20, True)


def test_ten_thousand_files(box: GuestSandbox) -> None:
    make = (
        "import os\nfor i in range(100):\n  os.mkdir(f'd{i}')\n"
        "  for j in range(100):\n    with open(f'd{i}/f{j}', 'w') as f: f.write(f'{i}')"
    )
    assert box.exec(["python3", "-c", make]).ok
    copy = box.snapshot()
    assert box.exec("rm -r d*").ok
    box.restore(copy)
    assert box.exec("find . -type f | wc -l; cat d99/f99").stdout == "10000\n99"
    assert box.snapshot().digest == copy.digest


def test_a_tree_deeper_than_any_path(box: GuestSandbox) -> None:
    dig = "import os\nfor i in range(1000):\n  os.mkdir('deeper'); os.chdir('deeper')\nopen('f', 'w').write('bottom')"
    assert box.exec(["python3", "-c", dig]).ok
    copy = box.snapshot()
    box.restore(WorkCopy(EMPTY, ""))
    assert box.list() == []
    box.restore(copy)
    assert box.snapshot().digest == copy.digest


def test_a_tree_that_is_deep_with_long_names_takes_no_more_than_a_flat_one() -> None:
    dig = (
        "import os\nfor i in range(6000):\n  os.mkdir('n' * 255); os.chdir('n' * 255)\n"
        "  if i % 1000 == 999: open('f', 'w').write(str(i)); os.symlink('f', 'l'); os.mkdir('z')\n"
    )
    with BubblewrapSandbox(LIMITS) as box:
        assert box.exec(["python3", "-c", dig]).ok
        copy = box.snapshot()
        assert len(copy.archive) < 40_000_000  # a path for each would be 4.6 GB
        box.restore(WorkCopy(EMPTY, ""))
        assert box.list() == []
        box.restore(copy)
        assert box.snapshot().digest == copy.digest
        assert box.exec("find . -type f | wc -l; find . -type d | wc -l").stdout.split() == ["6", "6007"]


def test_many_folders_are_emptied_as_fast_as_they_were_made() -> None:
    make = "import os\nfor i in range(40_000): os.mkdir(f'd{i}')"
    with BubblewrapSandbox(LIMITS.model_copy(update={"files": 41_000})) as box:
        assert box.exec(["python3", "-c", make]).ok
        box.restore(WorkCopy(EMPTY, ""))
        assert box.list() == []


@pytest.fixture(scope="module")
def damaged() -> Iterator[GuestSandbox]:
    """A sandbox to restore nonsense into, and an archive with every kind of entry to make it of."""
    with BubblewrapSandbox(LIMITS) as box:
        yield box


@pytest.fixture(scope="module")
def whole(damaged: GuestSandbox) -> bytes:
    damaged.exec(
        "mkdir -p d/e; echo hi > d/e/f; ln -s f d/e/l; ln d/e/f d/h; mkfifo p; truncate -s 100k sp;"
        " printf x | dd of=sp bs=1 seek=50000 conv=notrunc 2>/dev/null; touch $(printf 'n%.0s' $(seq 150))"
    )
    return damaged.snapshot().archive


FIELDS = [
    (0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (156, 1), (157, 100), (345, 12), (386, 96), (482, 1),
    (483, 12), (500, 9),
]  # fmt: skip
NUMBERS = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.builds(lambda sign, rest: bytes([sign]) + rest, st.sampled_from([0x80, 0xFF]), st.binary(max_size=11)),
    st.sampled_from([b"\xff" * 12, b"\x80" + b"\x7f" * 11, b"-1", b"77777777777", b"\xff" + b"\0" * 11]),
)


@settings(
    max_examples=500, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(st.tuples(st.integers(0, 99), st.sampled_from(FIELDS), NUMBERS), max_size=3),
    cut=st.none() | st.integers(0, 20_000),
)
def test_a_damaged_archive_is_refused_or_restored_and_never_ends_the_guest(
    damaged: GuestSandbox, whole: bytes, changes: list[tuple[int, tuple[int, int], bytes]], cut: int | None
) -> None:
    heads = [at for at in range(0, len(whole), 512) if whole[at + 257 : at + 262] == b"ustar"]
    archive = bytearray(whole)
    for which, (start, width), value in changes:
        at = heads[which % len(heads)] + start
        archive[at : at + min(width, len(value))] = value[:width]
        head = heads[which % len(heads)]  # with the right sum, or it is refused before anything is believed
        archive[head + 148 : head + 156] = b" " * 8
        archive[head + 148 : head + 156] = b"%06o\0 " % sum(archive[head : head + 512])
    with contextlib.suppress(BadInput):
        damaged.restore(WorkCopy(bytes(archive[:cut]), ""))
    assert damaged.alive()
    damaged.restore(WorkCopy(whole, ""))
    assert damaged.read_file("d/e/f") == "hi\n"


def test_one_damaged_byte_of_name_contents_or_times_is_refused(damaged: GuestSandbox, whole: bytes) -> None:
    damaged.restore(WorkCopy(whole, ""))
    copy = damaged.snapshot()
    damaged.restore(copy)
    assert damaged.snapshot().digest == copy.digest
    at = [copy.archive.index(what) for what in (b"hi\n", b"d/e/f", b"n" * 120, b"x" + b"\0" * 40)]
    times = copy.archive.index(b"d/e/f") + 140
    for place in (*at, times):
        bad = bytearray(copy.archive)
        bad[place] ^= 1
        with pytest.raises(BadInput, match="damaged"):
            damaged.restore(WorkCopy(bytes(bad), copy.digest))
        assert damaged.alive()
    with pytest.raises(BadInput, match="damaged"):
        damaged.restore(WorkCopy(copy.archive, "0" * 32))
    damaged.restore(copy)
    assert damaged.read_file("d/e/f") == "hi\n"


def test_a_restore_ends_processes_and_empties_scratch(box: GuestSandbox) -> None:
    copy = box.snapshot()
    box.exec("echo x > /tmp/x; echo x > /dev/shm/x; sleep 1000 & sleep 0.05", background=True)
    box.restore(copy)
    assert processes(box) == []
    assert box.exec("ls /tmp /dev/shm | grep x").stdout == ""
    assert box.exec("ls -ld /tmp /dev/shm | cut -c1-10").stdout == "drwxrwxrwt\n" * 2


@pytest.mark.parametrize(
    ("archive", "kind"),
    [
        (b"nonsense" * 64, BadInput),
        (b"", BadInput),
        (b"short", BadInput),
    ],
)
def test_what_is_no_snapshot_is_refused(box: GuestSandbox, archive: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="snapshot"):
        box.restore(WorkCopy(archive, ""))
    assert box.exec(["true"]).ok


def made(*members: tuple[str, bytes, str]) -> bytes:
    """An archive of name, kind, link target."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            tar.addfile(member)
    return out.getvalue()


def test_an_archive_cannot_lead_out_either(box: GuestSandbox) -> None:
    box.exec("echo safe > /tmp/safe")
    for archive in (
        made(("../tmp/evil", tarfile.REGTYPE, "")),
        made(("l", tarfile.SYMTYPE, "/tmp"), ("l/evil", tarfile.REGTYPE, "")),
        made(("l", tarfile.SYMTYPE, "/etc"), ("h", tarfile.LNKTYPE, "l/passwd")),
        made(("h", tarfile.LNKTYPE, "../etc/passwd")),
        made(("dev", tarfile.CHRTYPE, "")),
    ):
        with pytest.raises(BadInput):
            box.restore(WorkCopy(archive, ""))
        assert box.exec("ls /tmp; cat h").stdout == ""


def test_a_snapshot_that_does_not_fit_says_so() -> None:
    with BubblewrapSandbox(LIMITS) as large, BubblewrapSandbox(Limits(disk="1MiB")) as small:
        large.exec("head -c 3000000 /dev/urandom > big")
        copy = large.snapshot()
        with pytest.raises(TooLarge, match="big"):
            small.restore(copy)
        small.restore(WorkCopy(EMPTY, ""))
        assert small.list() == []
