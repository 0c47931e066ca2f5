"""Does a sandbox backend work here? The only answer that counts is to start one and to run something in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from palaestra.envs.errors import BadInput
from palaestra.envs.sandbox import sandbox_class
from palaestra.envs.sandbox.client import GuestSandbox
from palaestra.envs.sandbox.errors import SandboxDied, SandboxUnavailable
from palaestra.envs.sandbox.interface import Limits


@dataclass(frozen=True)
class Probe:
    """What one try said.

    Attributes:
        backend: its name.
        error: why it does not work, with what to do; None: it works.
        detail: what was found inside, such as "Python 3.11.2 as user, limits by control groups".
        start, exec: seconds to start a sandbox, and for a command in it.
    """

    backend: str
    error: BadInput | None = None
    detail: str = ""
    start: float = 0.0
    exec: float = 0.0

    @property
    def works(self) -> bool:
        """Can sandboxes of this backend be started here."""
        return self.error is None


_PATIENCE = 5.0  # seconds that an engine may take to say that it is there
_known: dict[str, Probe] = {}
_trying = threading.Lock()


def probe(backend: str, *, again: bool = False) -> Probe:
    """Try a backend; the answer is kept for this process.

    Args:
        backend: its name.
        again: do not take the kept answer.

    Raises:
        BadInput: no such backend.
    """
    with _trying:
        if again or backend not in _known:
            _known[backend] = _try(backend)
        return _known[backend]


def _try(backend: str) -> Probe:
    started = time.perf_counter()
    try:
        if backend == "docker":  # an engine that accepts and never answers is not waited for
            from palaestra.envs.sandbox.engine import connect

            connect(timeout=_PATIENCE).client.close()
        make: Callable[..., GuestSandbox] = sandbox_class(backend)
        with make(Limits()) as box:
            ready = time.perf_counter()
            result = box.exec("id -un && python3 -V")
            ended = time.perf_counter()
            if not result.ok:
                return Probe(
                    backend, SandboxUnavailable(f"it starts, but python3 does not run: {result.shown()[:200]}")
                )
            user, version = result.stdout.split("\n")[:2]
            measured = getattr(box, "measured", None)
            by = {None: "", True: ", limits by control groups", False: ", limits by rlimits and a watchdog"}[measured]
            return Probe(backend, None, f"{version} as {user}{by}", ready - started, ended - ready)
    except BadInput as error:
        return Probe(backend, error)
    except SandboxDied as error:
        return Probe(backend, SandboxUnavailable(str(error)))
