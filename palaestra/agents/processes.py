"""An instance in a process of its own: for environments that compute for long, or may take their interpreter down.

The processes are forked from a clean one that has Palaestra imported, so one starts in some hundredths of a second. A
process whose parent has died ends by itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import traceback
from multiprocessing.connection import Connection
from typing import Any

from palaestra.agents.elsewhere import Making, portable
from palaestra.agents.instance import Ask
from palaestra.envs import BadInput, EnvFault

_PATIENCE = 5.0
"""Seconds in which an environment has to be closed."""


def _context() -> Any:
    """How processes are started."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["palaestra.agents.processes"])
    return context


class ProcessInstance:
    """Stands for an instance in another process. See `palaestra.agents.workers.Played`."""

    def __init__(self, making: Making) -> None:
        self._making = making
        self._process: Any = None
        self._pipe: Connection | None = None

    def answer(self, ask: Ask) -> object:
        """What the instance answers.

        Raises:
            EnvFault: the process has ended, and with it the instance.
        """
        if self._pipe is None:
            self._pipe = self._start()
        try:
            self._pipe.send_bytes(pickle.dumps(ask))
            value, error, trace = pickle.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            self._process.join(_PATIENCE)
            raise EnvFault(
                f"{self._making.env_id}: the environment's process ended {_how(self._process.exitcode)}"
            ) from None
        if error is not None:
            if not isinstance(error, BadInput):  # which says all there is to say
                error.add_note(trace)
            raise error
        return value

    def abort(self) -> None:
        """Kill the process."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Close the environment and end the process."""
        if self._pipe is None:
            return
        with contextlib.suppress(OSError):  # it may be dead already
            self._pipe.send_bytes(b"")
        self._process.join(_PATIENCE)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join(_PATIENCE)
        self._pipe.close()
        self._process.close()

    def _start(self) -> Connection:
        context = _context()
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_play, args=(theirs, self._making), name=f"env {self._making.env_id}", daemon=True
        )
        self._process.start()
        theirs.close()
        pipe: Connection = ours
        return pipe


def _how(status: int | None) -> str:
    if status is None:
        return "to answer"
    return f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"


def _play(pipe: Connection, making: Making) -> None:
    """The other process: answer until there is nothing more to answer, or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the collector
    instance = making.instance()
    while True:
        try:
            raw = pipe.recv_bytes()
        except (EOFError, OSError):
            os._exit(0)
        if not raw:
            break
        try:
            answer: tuple[object, BaseException | None, str] = (instance.answer(pickle.loads(raw)), None, "")
            message = pickle.dumps(answer)
        except Exception as error:
            message = pickle.dumps((None, portable(error), traceback.format_exc()))
        pipe.send_bytes(message)
    instance.close()
