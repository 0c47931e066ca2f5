"""Backend "docker": every sandbox is a container of its own, on the engine that DOCKER_HOST names, here or far away.

The container has a read-only root, no network, no capabilities, no way to new privileges, our system-call filter, an
ordinary user, work and scratch folders in memory with a size and a number of files, and limits of memory, processes and
processor. Its first process is the guest, spoken to over the attached connection; nothing of this machine is mounted.
When the connection ends, however that happens, the guest ends, and the engine removes the container. One whose owner is
killed between its creation and its start stays as `Created`, without a process, until Palaestra speaks to that engine
again: from the same machine at once, from another one when it has been there for ten minutes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from typing import TYPE_CHECKING, ClassVar

from pydantic import ByteSize

from palaestra.envs.errors import BadInput
from palaestra.envs.sandbox.attached import AttachedWire
from palaestra.envs.sandbox.client import GuestSandbox
from palaestra.envs.sandbox.engine import Engine, check_runtime, connect, owner_labels, reason, remove, sweep
from palaestra.envs.sandbox.errors import SandboxUnavailable
from palaestra.envs.sandbox.image import NAME, image_missing
from palaestra.envs.sandbox.interface import Limits
from palaestra.envs.sandbox.program import SPARE_MEMORY, STUB, Setup, scratch_sizes
from palaestra.envs.sandbox.seccomp import docker_profile

if TYPE_CHECKING:
    from docker.errors import APIError
    from docker.types import HostConfig

USER = 10001
"""User and group id of the guest and of all commands."""


class DockerSandbox(GuestSandbox):
    """A sandbox in a container.

    Guest and commands are one user, since nobody in the container may become another: `exec(user="nobody")` is refused.
    What the guest holds is closed to commands all the same (undumpable; the filter refuses calls that reach it).

    Args:
        limits: of the sandbox.
        image: what it is made of; needs `python3` (3.8 or newer) and `/bin/sh`, and nothing of Palaestra.
        host: the engine, such as "tcp://machine:2376"; None for DOCKER_HOST, else the usual socket.
        runtime: what the engine starts containers with, such as "runsc" (gVisor); None for its own default.

    Raises:
        MissingExtra: the Docker SDK is not installed.
        SandboxUnavailable: no engine answers, or it does not have the runtime, or cannot start containers.
        ImageMissing: the engine does not have the image. Names the command that builds it.
        BadInput: a limit is beyond what the engine has, or the image has no Python.
        SandboxDied: it ended while it started.
    """

    backend: ClassVar[str] = "docker"

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        image: str = NAME,
        host: str | None = None,
        runtime: str | None = None,
    ) -> None:
        super().__init__(limits or Limits())
        self._owner = os.getpid()
        self._engine = engine_at(host or os.environ.get("DOCKER_HOST"))
        self._container = ""
        self._attached: AttachedWire | None = None

        def create() -> None:
            self._container, self._attached = _start(self._engine, self.limits, image, runtime)

        try:
            self._launch(create)
            assert self._attached is not None
            # The engine limits memory, processes and system calls; the guest ends commands that hold too much memory
            # before the kernel has to choose a victim, which may be the guest.
            self._begin(self._attached, Setup(self.limits, group=True, niceness=5))
        except BaseException:
            self._abandon()
            raise

    @property
    def container(self) -> str:
        """The container's id."""
        return self._container

    def _last_words(self) -> str:
        """What was written to stderr; else whether it is the engine that is gone."""
        if self._attached is not None and (words := self._attached.words().strip()):
            return words
        try:
            connect(self._engine.host if "://" in self._engine.host else None, timeout=5.0).client.close()
        except SandboxUnavailable as error:
            return str(error)
        return ""

    def _end(self) -> None:
        from docker.errors import DockerException

        mine = os.getpid() == self._owner  # a fork of the owner has the connection too, but nothing to end
        if self._attached is None:  # it never was: `_start` has removed what it made
            return
        if mine:
            self._attached.shut()
            self._quiet()
        self._attached.close()
        if mine:
            with contextlib.suppress(DockerException, OSError):
                remove(self._engine, self._container)


@functools.lru_cache(maxsize=8)
def _engine_of(host: str | None, process: int) -> Engine:
    engine = connect(host)
    sweep(engine)
    return engine


def engine_at(host: str | None) -> Engine:
    """The engine at an address, connected to once a process; what dead processes of this machine left is removed."""
    return _engine_of(host, os.getpid())


def _start(engine: Engine, limits: Limits, image: str, runtime: str | None) -> tuple[str, AttachedWire]:
    """Create, attach, start: the container's id and the connection. Leaves nothing where that fails."""
    from docker.errors import APIError, DockerException

    api = engine.client.api
    container, wire = "", None
    try:
        _check_sizes(engine, limits)
        made = api.create_container(
            image,
            command=[],
            entrypoint=["python3", "-I", "-S", "-c", STUB],
            stdin_open=True,
            stop_signal="SIGKILL",  # the guest heeds no other, and an engine that stops would wait ten seconds for it
            user=f"{USER}:{USER}",
            working_dir="/",
            hostname="sandbox",
            labels=owner_labels(),
            host_config=_walls(engine, limits, runtime),
        )
        container = made["Id"]
        _check_limits(engine, made.get("Warnings") or [])
        wire = AttachedWire(api.attach_socket(container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}))
        api.start(container)
        return container, wire
    except BaseException as error:
        if wire is not None:
            wire.shut()
            wire.close()
        if container:
            with contextlib.suppress(DockerException, OSError):
                remove(engine, container)
        if isinstance(error, APIError):
            raise _refusal(engine, error, image, runtime) from None
        if isinstance(error, (DockerException, OSError)):
            raise SandboxUnavailable(
                f"the Docker engine at {engine.host} does not answer ({reason(error)}); start it, or set DOCKER_HOST"
            ) from None
        raise


def _check_sizes(engine: Engine, limits: Limits) -> None:
    """The engine takes any size, and then the kernel of its machine ends what it likes. Raises BadInput."""
    most = _memory_of(engine)
    for name, size in (("memory", limits.memory), ("disk", limits.disk)):  # the work directory is in memory
        if 0 < most < size:
            raise BadInput(
                f"limit {name}: the machine of the Docker engine at {engine.host} has {ByteSize(most).human_readable()}"
                f" of memory, got {size.human_readable()}"
            )


@functools.lru_cache(maxsize=8)
def _memory_of(engine: Engine) -> int:
    """Bytes that its machine has; 0 where it does not say."""
    return int(engine.client.info().get("MemTotal") or 0)


def _check_limits(engine: Engine, warnings: list[str]) -> None:
    """An engine without the control groups for a limit leaves it out, and only says so."""
    if dropped := [warning for warning in warnings if "discarded" in warning.lower()]:
        raise SandboxUnavailable(f"the Docker engine at {engine.host} cannot limit containers: {' '.join(dropped)}")


def _walls(engine: Engine, limits: Limits, runtime: str | None) -> HostConfig:
    """The container's isolation and limits, as the engine takes them."""
    from docker.types import LogConfig

    mine = f"nr_inodes={limits.files + 1},uid={USER},gid={USER},mode=0700,nosuid,nodev,exec"  # the folder is one
    sizes = {"/work": int(limits.disk), **scratch_sizes(limits)}
    memory = int(limits.memory) + int(limits.disk) + SPARE_MEMORY
    return engine.client.api.create_host_config(
        auto_remove=True,
        network_mode=None if limits.network else "none",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges", f"seccomp={_filter()}"],
        ipc_mode="none",  # no shared memory but the folder below, which has limits
        tmpfs={folder: f"size={size},{mine}" for folder, size in sizes.items()},
        mem_limit=memory,
        memswap_limit=memory,  # memory and swap together, so none of the latter
        oom_score_adj=500,  # before anything else on the engine's machine, where that runs out of memory
        pids_limit=limits.pids + 1,  # and the guest
        nano_cpus=round(limits.cpu * 1e9),
        log_config=LogConfig(type="none", config={}),  # or the engine keeps all that is said on its disk
        runtime=runtime,
    )


@functools.cache
def _filter() -> str:
    """Our system-call filter, as the engine takes it: by value, since it may be far away."""
    return json.dumps(docker_profile())


def _refusal(engine: Engine, error: APIError, image: str, runtime: str | None) -> Exception:
    """What an engine's refusal to start a container means."""
    text = str(error.explanation or error)
    if error.status_code == 404 and "image" in text.lower():
        return image_missing(image, engine.host)
    if runtime is not None:
        check_runtime(engine, runtime)
    if "python3" in text and ("executable file not found" in text or "no such file or directory" in text):
        return BadInput(f"the image {image} has no python3, which the sandbox's guest is written in")
    if error.status_code == 400:
        return BadInput(f"the Docker engine at {engine.host} refuses these limits or settings: {text}")
    return SandboxUnavailable(f"the Docker engine at {engine.host} does not start containers: {text}")
