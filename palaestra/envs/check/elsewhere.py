"""Go on from snapshots in another process, a fresh interpreter that shares nothing with this one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from palaestra.envs.check.walk import Seen, of_info, of_step
from palaestra.envs.core import Snapshot
from palaestra.envs.registry import make
from palaestra.envs.source import Source


@dataclass(frozen=True)
class Job:
    """A snapshot, and the actions to take from there."""

    snapshot: Snapshot
    actions: tuple[str, ...]


Answer = list[Seen] | str
"""What was seen at the restore and after each action, or what was raised."""


def go_on(source: Source, settings: Mapping[str, Any], jobs: Sequence[Job], *, timeout_s: float) -> list[Answer] | str:
    """Do the jobs in one new process.

    Returns:
        One answer a job; or one text when the process could not do any.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(sender, source, dict(settings), list(jobs)))
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout_s):
            return f"the other process did not answer within {timeout_s:.0f} s"
        answers: list[Answer] | str = receiver.recv()
        return answers
    except EOFError:
        process.join(10)
        return (
            f"the other process ended with exit code {process.exitcode} before it answered (a script that checks its "
            "own environment must do so under `if __name__ == '__main__':`)"
        )
    finally:
        receiver.close()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()


def _serve(sender: Connection, source: Source, settings: dict[str, Any], jobs: list[Job]) -> None:
    answers: list[Answer] | str
    try:
        source.load()
        env = make(source.env, **settings)
        try:
            answers = [_go_on(env, job) for job in jobs]
        finally:
            env.close()
    except Exception as error:
        answers = f"{type(error).__name__}: {error}"
    sender.send(answers)
    sender.close()


def _go_on(env: Any, job: Job) -> Answer:
    try:
        return [of_info(*env.restore(job.snapshot)), *(of_step(env.step(action)) for action in job.actions)]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
