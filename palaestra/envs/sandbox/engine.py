"""The Docker engine that the environment names: DOCKER_HOST, or the socket where engines listen; it may be far away."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from palaestra.envs.errors import MissingExtra
from palaestra.envs.sandbox.errors import SandboxUnavailable

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

OWNER, OWNER_HOST = "io.palaestra.owner", "io.palaestra.host"
"""Labels of a container: the process it belongs to, and the machine and boot that this process runs in."""


@dataclass(frozen=True)
class Engine:
    """An engine that answers.

    Attributes:
        client: of the Docker SDK.
        host: its address, for messages.
    """

    client: DockerClient
    host: str


def connect(host: str | None = None, *, timeout: float = 60.0) -> Engine:
    """The engine at `host`, else at DOCKER_HOST, else at the usual socket; it has answered a ping.

    Args:
        host: such as "unix:///var/run/docker.sock" or "tcp://machine:2376".
        timeout: seconds that it may take to answer a request.

    Raises:
        MissingExtra: the Docker SDK is not installed.
        SandboxUnavailable: no engine answers there, or it is no address. Says what to install or start.
    """
    try:
        import docker
        from docker.errors import DockerException
    except ImportError:
        raise MissingExtra("the Docker SDK", "docker") from None
    environment = {**os.environ, **({"DOCKER_HOST": host} if host else {})}
    named = environment.get("DOCKER_HOST") or "the usual socket"
    if named.startswith("ssh://") and importlib.util.find_spec("paramiko") is None:
        raise SandboxUnavailable(
            f"the engine at {named} is reached through the package paramiko, which is not installed: pip install"
            " paramiko; or have ssh forward the engine's socket and name that"
        )
    try:
        client = docker.from_env(environment=environment, timeout=max(1, round(timeout)), max_pool_size=32)
        client.ping()
    except (DockerException, OSError) as error:
        raise SandboxUnavailable(
            f"no Docker engine answers at {named} ({reason(error)}); start it, or install one (Debian: apt-get install"
            " docker.io), or set DOCKER_HOST; a user other than root must be in the group docker"
        ) from None
    except ValueError as error:
        raise SandboxUnavailable(
            f"{named} is no address of a Docker engine ({reason(error)}); name one such as unix:///var/run/docker.sock"
            " or tcp://machine:2376 with DOCKER_HOST"
        ) from None
    return Engine(client, named)


def check_runtime(engine: Engine, runtime: str) -> None:
    """Raise SandboxUnavailable where the engine has no such runtime, with the name of those it has."""
    known = sorted(engine.client.info().get("Runtimes") or {})
    if runtime not in known:
        raise SandboxUnavailable(
            f"the Docker engine at {engine.host} has no runtime {runtime!r} (it has {', '.join(known)}); install it"
            " there and name it under `runtimes` in the engine's daemon.json"
        )


def owner_labels() -> dict[str, str]:
    """What marks a container as this process's own."""
    return {OWNER: _identity(os.getpid()), OWNER_HOST: _this_host()}


def sweep(engine: Engine, stale: float = 600.0) -> int:
    """Remove the containers whose owner on this machine is dead, and say how many.

    A sandbox that has started ends by itself when its owner dies, since its guest's input ends. This is for one whose
    owner died between its creation and its start, and for what an engine that was stopped in that moment kept. Those of
    other machines, whose processes cannot be looked at, are left alone, but for such as were created `stale` seconds
    ago, by the engine's clock, and never started.
    """
    from docker.errors import DockerException

    removed = 0
    for container in engine.client.containers.list(all=True, filters={"label": OWNER}, ignore_removed=True):
        ours = container.labels.get(OWNER_HOST) == _this_host()
        if not _alive(container.labels[OWNER]) if ours else _never_started(engine, container, stale):
            with contextlib.suppress(DockerException):
                remove(engine, str(container.id))
                removed += 1
    return removed


def _never_started(engine: Engine, container: Container, stale: float) -> bool:
    """Was it created so long ago, and not started since."""
    if container.status != "created":
        return False
    now, made = (
        datetime.fromisoformat(text[:19]) for text in (engine.client.info()["SystemTime"], container.attrs["Created"])
    )
    return (now - made).total_seconds() >= stale


def remove(engine: Engine, container: str) -> None:
    """Kill and remove a container; on return it is gone. That it was gone before is no error."""
    from docker.errors import APIError, NotFound

    with contextlib.suppress(NotFound):
        try:
            engine.client.api.remove_container(container, force=True, v=True)
        except APIError as error:
            if error.status_code != 409:
                raise
            # The engine is removing it already, since it ended by itself.
            engine.client.api.wait(container, timeout=30, condition="removed")


def _identity(pid: int) -> str:
    """A process by its id and start time (clock ticks since boot), since ids come again; empty where it is gone."""
    try:
        return f"{pid}:{Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"
    except OSError:
        return f"{pid}:" if not Path("/proc/self").exists() else ""


def _alive(owner: str) -> bool:
    pid, _, _ = owner.partition(":")
    return pid.isdigit() and _identity(int(pid)) == owner


def _this_host() -> str:
    """Names this machine, this boot of it, and the process ids' name space."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def reason(error: Exception) -> str:
    """The innermost cause: the SDK wraps what the socket said several times."""
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    return str(cause) or type(cause).__name__
