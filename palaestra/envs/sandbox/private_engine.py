"""A Docker engine of one's own, for tests, CI and measurements on a bare machine where nobody runs one.

    with PrivateEngine() as engine:
        os.environ["DOCKER_HOST"] = engine.host

It has its own socket, data, pid file and cgroups, no network and no firewall rules, and needs root and Debian's
`docker.io`. A keeper process stands between: it ends the engine with all of its containers, mounts and files when its
owner closes it or dies, however that happens. Where the keeper itself is killed, the engine and its containers end
too, but its folder in /tmp stays until the next one is made on this machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from palaestra.envs import keeper
from palaestra.envs.sandbox.errors import SandboxUnavailable

INSTALL = "apt-get install docker.io runc iptables"
_PLACE, _PREFIX = Path("/tmp"), "palaestra-engine-"
_PATIENCE = 60.0  # seconds for the engine to answer; a second on an idle machine


class PrivateEngine:
    """A running `dockerd` and its keeper.

    Attributes:
        host: what to put into DOCKER_HOST.
        folder: everything it has on disk; gone when it is closed.

    Raises:
        SandboxUnavailable: it does not start; the message ends with the tail of its log.
    """

    def __init__(self) -> None:
        if os.geteuid() != 0 or shutil.which("dockerd") is None:
            raise SandboxUnavailable(
                f"a Docker engine of one's own needs root and the program dockerd; as root run: {INSTALL}"
            )
        sweep()
        # A socket's path may have 108 characters at most, so it does not go where TMPDIR may point.
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_PLACE))
        self.host = f"unix://{self.folder}/docker.sock"
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "palaestra.envs.sandbox.private_engine", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal is for the tests, not for the engine under them
        )
        assert self._keeper.stdout is not None
        if self._keeper.stdout.readline().strip() != b"ready":
            log = self.log()
            self.close()
            raise SandboxUnavailable(f"dockerd does not start; the end of its log:\n{log}")

    @property
    def pid(self) -> int:
        """Process id of `dockerd`."""
        return int((self.folder / "dockerd.pid").read_text())

    def log(self, lines: int = 20) -> str:
        """The end of the engine's log."""
        path = self.folder / "dockerd.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def close(self) -> None:
        """End the engine, its containers, mounts and files. May be called twice."""
        if self._keeper.stdin is not None and not self._keeper.stdin.closed:
            self._keeper.stdin.close()
        self._keeper.wait()
        if self._keeper.stdout is not None:
            self._keeper.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sweep() -> None:
    """Remove what engines left whose keeper was killed with them."""
    for folder in _PLACE.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            pid, started = (folder / "keeper").read_text().split()
            if keeper.started(int(pid)) != started and folder.stat().st_uid == os.geteuid():
                _clear(folder)


def keep(folder: Path) -> None:
    """Run an engine in `folder` until stdin ends, then leave nothing of it. What the keeper process does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    keeper.adopt()
    engine: subprocess.Popen[bytes] | None = None
    (folder / "keeper").write_text(f"{os.getpid()} {keeper.started(os.getpid())}")
    try:
        engine = keeper.start(_command(folder), folder / "dockerd.log", signal.SIGTERM)
        if _answers(folder / "docker.sock", engine):
            print("ready", flush=True)
            sys.stdin.buffer.read()
        else:
            print("failed", flush=True)
            sys.stdin.buffer.read()  # the owner reads the log first
    finally:
        if engine is not None:
            keeper.end(engine, grace=20.0)  # containers and their shims are descendants by now
        _clear(folder)


def _command(folder: Path) -> list[str]:
    return [
        "dockerd",
        "--iptables=false",
        "--ip6tables=false",
        "--bridge=none",
        f"--data-root={folder}/data",
        f"--exec-root={folder}/exec",
        f"--pidfile={folder}/dockerd.pid",
        f"--host=unix://{folder}/docker.sock",
        f"--cgroup-parent=/{folder.name}",
        "--shutdown-timeout=1",
    ]


def _answers(socket_path: Path, engine: subprocess.Popen[bytes]) -> bool:
    """Wait until the engine says OK to a ping, or is over."""
    import socket

    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and engine.poll() is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(socket_path))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            if b" 200 " in connection.recv(64):
                return True
        time.sleep(0.05)
    return False


def _clear(folder: Path) -> None:
    """End what still runs on the folder's engine, and remove its mounts, control groups and files."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            program, *arguments = (entry / "cmdline").read_bytes().split(b"\0")
            ours = os.path.basename(program).startswith((b"dockerd", b"containerd"))
            if ours and any(os.fsencode(folder) in argument for argument in arguments):
                os.kill(int(entry.name), signal.SIGKILL)
    _unmount(folder)
    _drop_cgroups(folder.name)
    shutil.rmtree(folder, ignore_errors=True)


def _unmount(folder: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((mount for mount in mounts if mount.startswith(f"{folder}/")), key=len, reverse=True):
        subprocess.run(["umount", "--lazy", mount], stderr=subprocess.DEVNULL, check=False)


def _drop_cgroups(name: str) -> None:
    """End what is left in the containers' cgroups and remove them, under cgroup v2 and under each tree of v1."""
    roots = [Path("/sys/fs/cgroup") / name, *Path("/sys/fs/cgroup").glob(f"*/{name}")]
    for folder in [folder for root in roots for folder, _, _ in os.walk(root, topdown=False)]:
        deadline = time.monotonic() + 5.0
        while os.path.isdir(folder) and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                for pid in (Path(folder) / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.rmdir(folder)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
