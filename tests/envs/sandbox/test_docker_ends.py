"""How containers end: with their owner, with their engine, with the connection; and engines elsewhere."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from palaestra.envs.sandbox.docker import DockerSandbox, engine_at
from palaestra.envs.sandbox.engine import OWNER, OWNER_HOST, Engine, owner_labels, sweep
from palaestra.envs.sandbox.errors import SandboxDied, SandboxUnavailable
from palaestra.envs.sandbox.image import NAME
from palaestra.envs.sandbox.private_engine import PrivateEngine
from palaestra.envs.sandbox.probe import Probe, probe

pytestmark = pytest.mark.xdist_group("docker")

OWNER_PROGRAM = """
import sys, time
from palaestra.envs.sandbox.docker import DockerSandbox
boxes = [DockerSandbox() for _ in range(2)]
boxes[0].exec("sleep 1000 &", background=True)
print(*(box.container for box in boxes), flush=True)
boxes[1].exec("sleep 1000")
"""


FORKING = """
import os, sys, time
from palaestra.envs.sandbox.docker import DockerSandbox
box = DockerSandbox()
child = os.fork()
if child == 0:
    time.sleep(600)
    os._exit(0)
print(child, box.container, flush=True)
box.exec("sleep 1000")
"""


def containers(engine: Engine) -> set[str]:
    return {str(container.id) for container in engine.client.containers.list(all=True, ignore_removed=True)}


def soon(question: Callable[[], bool]) -> bool:
    """Does it become true within half a minute."""
    deadline = time.monotonic() + 30
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return answer


def test_nothing_survives_a_killed_owner(docker_host: str, docker_engine: Engine) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER_PROGRAM], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    mine = set(owner.stdout.readline().split())
    assert len(mine) == 2
    assert mine <= containers(docker_engine)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert soon(lambda: not mine & containers(docker_engine))


def test_a_fork_of_a_killed_owner_keeps_nothing_alive(docker_host: str, docker_engine: Engine) -> None:
    owner = subprocess.Popen([sys.executable, "-c", FORKING], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    child, container = owner.stdout.readline().split()
    try:
        assert container in containers(docker_engine)
        owner.kill()
        owner.wait()
        assert soon(lambda: container not in containers(docker_engine))
        assert command(child)  # it is still there
    finally:
        os.kill(int(child), signal.SIGKILL)
        owner.stdout.close()


def test_nothing_survives_an_owner_that_ends_without_closing(docker_host: str, docker_engine: Engine) -> None:
    program = "from palaestra.envs.sandbox.docker import DockerSandbox; print(DockerSandbox().container)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert soon(lambda: done.stdout.strip() not in containers(docker_engine))


def test_what_a_dead_owner_left_is_swept_and_what_others_own_is_not(docker_engine: Engine) -> None:
    labels = owner_labels()
    dead = {**labels, OWNER: f"{os.getpid()}:1"}  # this process's id, but of one that started at another time
    elsewhere = {**dead, OWNER_HOST: "another machine"}
    made = [
        str(docker_engine.client.containers.create(NAME, ["true"], labels=owner, network_mode="none").id)
        for owner in (dead, labels, elsewhere)
    ]
    try:
        assert sweep(docker_engine) == 1
        assert containers(docker_engine) & set(made) == set(made[1:])
        assert sweep(docker_engine, stale=0) == 1  # that of another machine, when it was never started for so long
        assert containers(docker_engine) & set(made) == {made[1]}
    finally:
        for container in containers(docker_engine) & set(made):
            docker_engine.client.api.remove_container(container)


def test_closing_gives_everything_back(docker_host: str, docker_engine: Engine) -> None:
    def held() -> tuple[set[str], int, int]:
        found = containers(docker_engine)
        for client in (engine_at(docker_host).client, docker_engine.client):
            client.close()  # the idle connections that the SDK keeps
        return found, len(os.listdir("/proc/self/fd")), threading.active_count()

    DockerSandbox().close()
    before = held()
    for _ in range(4):
        with DockerSandbox() as box:
            box.exec("echo > file; sleep 1000 &", background=True)
    assert held() == before
    assert docker_engine.client.volumes.list() == []


def test_a_close_by_another_thread_ends_a_command_at_once(docker_host: str, docker_engine: Engine) -> None:
    for _ in range(4):
        box, ended = DockerSandbox(), []

        def run(box: DockerSandbox = box, ended: list[object] = ended) -> None:
            with pytest.raises(SandboxDied, match="it was closed") as died:
                box.exec("sleep 1000", timeout=500)
            ended.append(died)

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.3)
        box.close()
        thread.join(15)  # seconds; the answer itself would be overdue after 530
        assert ended
        assert box.container not in containers(docker_engine)


def test_a_container_that_is_killed_under_a_command_is_a_fault(docker_host: str, docker_engine: Engine) -> None:
    with DockerSandbox() as box:
        threading.Timer(0.3, docker_engine.client.api.kill, [box.container]).start()
        with pytest.raises(SandboxDied, match="the docker sandbox died"):
            box.exec("sleep 1000")
        assert not box.alive()
        with pytest.raises(SandboxDied, match="gone"):
            box.write_file("x", "")


def test_an_engine_that_is_killed_under_a_command_is_a_fault_and_leaves_nothing(second_engine: PrivateEngine) -> None:
    folder, box = second_engine.folder, DockerSandbox(host=second_engine.host)
    assert box.exec("echo 1 > /work/x; cat /work/x").stdout == "1\n"
    threading.Timer(0.3, os.kill, [second_engine.pid, signal.SIGKILL]).start()
    with pytest.raises(SandboxDied, match="no Docker engine answers"):
        box.exec("sleep 1000")
    with pytest.raises(SandboxDied, match="gone"):
        box.snapshot()
    with pytest.raises(SandboxUnavailable, match="does not answer"):
        DockerSandbox(host=second_engine.host)
    box.close()
    second_engine.close()
    assert not folder.exists()
    assert str(folder) not in Path("/proc/self/mounts").read_text()
    assert not [pid for pid in map(str, pids()) if str(folder) in command(pid)]


def test_an_engine_that_takes_connections_and_never_answers_is_probed_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "engine"))
        listener.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine")
        monkeypatch.setattr("palaestra.envs.sandbox.probe._known", {})
        found: list[Probe] = []
        thread = threading.Thread(target=lambda: found.append(probe("docker")), daemon=True)
        thread.start()
        thread.join(40)  # seconds; a request of a sandbox's may take 60
    assert found
    assert "no Docker engine answers" in str(found[0].error)
    assert "timed out" in str(found[0].error)


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@contextlib.contextmanager
def over_tcp(path: str) -> Iterator[str]:
    """The engine's socket as a port, as of an engine on another machine."""

    def copy(here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := here.recv(65536):
                there.sendall(data)
        with contextlib.suppress(OSError):
            there.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                outside, _ = listener.accept()
                inside = socket.socket(socket.AF_UNIX)
                inside.connect(path)
                for pair in ((outside, inside), (inside, outside)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_an_engine_elsewhere_does_the_same(docker_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with over_tcp(docker_engine.host.removeprefix("unix://")) as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        with DockerSandbox() as box:
            assert engine_at(host).host == host
            raw = os.urandom(3_000_000)
            box.write_file("x", raw)
            copy = box.snapshot()
            box.exec("rm x")
            box.restore(copy)
            assert box.read_bytes("x") == raw
            assert box.exec(["wc", "-c", "x"]).stdout.split() == ["3000000", "x"]
            container = box.container
        assert container not in containers(docker_engine)


def test_a_fork_of_the_owner_that_closes_its_copy_ends_nothing(docker_host: str) -> None:
    with DockerSandbox() as box:
        child = os.fork()
        if child == 0:
            box.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert box.exec("echo still here").stdout == "still here\n"


def test_an_interrupt_while_a_container_starts_leaves_none(
    docker_host: str, docker_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = containers(docker_engine)
    for name in ("attach_socket", "start"):
        with monkeypatch.context() as patch:
            patch.setattr(engine_at(docker_host).client.api, name, interrupt)
            with pytest.raises(KeyboardInterrupt):
                DockerSandbox()
        assert containers(docker_engine) == before


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_an_engine_that_does_not_start_ends_with_its_log_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dockerd").write_text("#!/bin/sh\necho this kernel lacks something >&2\nexit 1\n")
    (tmp_path / "dockerd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    before = set(Path("/tmp").glob("palaestra-engine-*"))
    with pytest.raises(SandboxUnavailable, match="end of its log:\nthis kernel lacks something"):
        PrivateEngine()
    assert set(Path("/tmp").glob("palaestra-engine-*")) == before
