"""Sandboxes: places where code that nobody vouches for runs, fast, with nothing getting out.

    with start(limits=Limits(memory="256MiB")) as box:
        box.write_file("main.py", "print(6 * 7)")
        print(box.exec(["python3", "main.py"]).stdout)

Two backends are walls: "bwrap" (bubblewrap, embedded) and "docker" (containers, gVisor where the engine has it). A
third, "unsafe", is none, and only to be had by name.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Mapping

from palaestra.envs.errors import BadInput
from palaestra.envs.sandbox import given
from palaestra.envs.sandbox.client import GuestSandbox
from palaestra.envs.sandbox.errors import SandboxUnavailable
from palaestra.envs.sandbox.interface import Entry, ExecResult, Limits, Sandbox, WorkCopy

__all__ = ["Entry", "ExecResult", "Limits", "Sandbox", "WorkCopy", "backends", "choose", "sandbox_class", "start"]

VARIABLE = "PALAESTRA_SANDBOX"
_CLASSES = {
    "bwrap": "palaestra.envs.sandbox.bwrap:BubblewrapSandbox",
    "docker": "palaestra.envs.sandbox.docker:DockerSandbox",
    "unsafe": "palaestra.envs.sandbox.unsafe:UnsafeSandbox",
}
_WALLS = ("bwrap", "docker")  # in the order in which they are tried


def backends() -> tuple[str, ...]:
    """Names of all backends. Which of them work here is what `palaestra.envs.sandbox.probe` finds out."""
    return tuple(_CLASSES)


def start(backend: str | None = None, limits: Limits | None = None, **settings: object) -> GuestSandbox:
    """Start a sandbox.

    Args:
        backend: its name; None: the one that $PALAESTRA_SANDBOX names, else the first of bwrap and docker that works
            here and has the settings.
        limits: what it may use; None: the defaults of `Limits`.
        settings: the backend's own: `python` of bwrap; `image`, `host` and `runtime` of docker.

    Raises:
        SandboxUnavailable: the backend, or without a name every backend, cannot start here. Says what to install.
        BadInput: an unknown backend or setting, and what the backend itself raises.
    """
    name = choose(*settings) if backend is None else backend
    check_settings(name, limits, settings)
    make: Callable[..., GuestSandbox] = sandbox_class(name)
    return make(limits or Limits(), **settings)


def check_settings(backend: str, limits: object, settings: Mapping[str, object]) -> None:
    """Raise BadInput where `start` could not be called so."""
    sandbox_class(backend)
    if limits is not None and not isinstance(limits, Limits):
        raise BadInput(f"limits of a sandbox are a Limits(...) or None, not {given.kind(limits)}")
    for setting, value in settings.items():
        if setting not in _settings(backend):
            known = ", ".join(_settings(backend)) or "none"
            raise BadInput(f"the sandbox backend {backend} has no setting {setting!r}; it has: {known}")
        if value is not None and not given.raw(value, f"{setting} of a sandbox"):
            raise BadInput(f"{setting} of a sandbox is empty; leave it out for the usual one")


def choose(*settings: str) -> str:
    """The backend that `start` takes where none is named, among those that have these settings.

    Raises:
        SandboxUnavailable: none works here. Says what to install for each.
        BadInput: $PALAESTRA_SANDBOX names none, or the one that works lacks something of yours (an image).
    """
    if named := os.environ.get(VARIABLE):
        sandbox_class(named)
        return named
    from palaestra.envs.sandbox.probe import probe

    fit = [name for name in _WALLS if all(setting in _settings(name) for setting in settings)]
    if not fit:
        raise BadInput(f"no sandbox backend has the settings {', '.join(settings)}")
    found = [probe(name) for name in fit]
    for one in found:
        if one.error is None:
            return one.backend
    for one in found:
        if not isinstance(one.error, SandboxUnavailable) and one.error is not None:
            raise one.error  # it is there, and says what it lacks
    reasons = "; ".join(f"{one.backend}: {one.error}" for one in found)
    raise SandboxUnavailable(f"no sandbox can start here: {reasons}")


def sandbox_class(backend: str) -> type[GuestSandbox]:
    """The class of a backend, called with limits and settings. Raises BadInput, MissingExtra."""
    if not isinstance(backend, str) or backend not in _CLASSES:
        raise BadInput(f"there is no sandbox backend {backend!r}; there are: {', '.join(_CLASSES)}")
    module, name = _CLASSES[backend].split(":")
    made: type[GuestSandbox] = getattr(importlib.import_module(module), name)
    return made


def _settings(backend: str) -> list[str]:
    names = list(inspect.signature(sandbox_class(backend)).parameters)
    return names[1:]  # after the limits
