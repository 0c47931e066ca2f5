"""The collector's loop: many episodes at once, policy calls batched as requests come, blocking calls in threads.

One thread, the caller's, decides everything. It hands environment calls to the threads that own the environments and
batches to the policy's thread, waits for whichever comes back first, and stores what is finished. There is no
lock-step: when the policy is free it takes all that wait.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import cast

from palaestra.agents.episode import Actor, Outcome
from palaestra.agents.policy import Completion, Request
from palaestra.agents.progress import Progress
from palaestra.agents.runner import Attempt, Item, Seen, Setup
from palaestra.agents.store import EpisodeStore
from palaestra.agents.workers import EnvPool, EnvWorker, Events, Finished, Stop, Worker
from palaestra.envs import BadInput, PalaestraError, TextEnv

_LINGER_SHARE = 0.1
"""How long the policy waits for requests that are about to come, as a share of how long it takes to answer.

Without it the episodes fall into two groups that answer in turn, at half the batch size each."""
_LINGER_MOST = 0.25
"""The most it waits, in seconds."""
_LONGEST_WAIT = 0.5
"""Seconds after which the main thread looks up even where nothing has come back."""


class TooManyFaults(PalaestraError):
    """So much breaks that what is left would not be a fair sample. Names the rate and the last error."""


@dataclass(frozen=True)
class Limits:
    """What the driver bounds. The arguments of `collect` say what each is for."""

    concurrency: int
    deadline: float | None
    retries: int
    max_fault_rate: float
    min_faults: int


class Driver:
    """Makes the planned episodes. Used once.

    Args:
        items: the plan, read lazily; what the store holds already is skipped.
        setup: what all episodes share.
        store: where episodes go, faults too.
        create: makes an environment instance from its id.
        limits: see `Limits`.
        progress: how it is shown.
    """

    def __init__(
        self,
        items: Iterator[Item],
        setup: Setup,
        store: EpisodeStore,
        create: Callable[[str], TextEnv[object]],
        limits: Limits,
        progress: Progress,
    ) -> None:
        self.events: Events = SimpleQueue()
        self.tally = setup.tally
        self._items: Iterator[Item] | None = items
        self._setup, self._store, self._limits, self._progress = setup, store, limits, progress
        self._pool = EnvPool(create, limits.concurrency, self.events)
        self._engine = Worker(self.events, f"policy {setup.policy.name}")
        self._human = setup.policy.actor is Actor.HUMAN
        self._going: dict[EnvWorker, Attempt] = {}
        self._retry: deque[Item] = deque()
        self._waiting: deque[Attempt] = deque()
        self._alone: deque[Attempt] = deque()
        self._asked: list[Attempt] = []
        self._asked_at = 0.0
        self._ready_since: float | None = None
        self._call_seconds = 0.5
        self._last_error = ""
        self._stored = 0  # planned, and in the store before

    def run(self) -> None:
        """Make all planned episodes.

        Raises:
            TooManyFaults: more than the limits allow, or there is not one episode of the plan.
            KeyboardInterrupt: `Stop` was posted, or the policy raised it.
            BadInput: what a person can mend: an unknown task, a fork at its parent's end, a missing extra.
        """
        while True:
            self._fill()
            self._ask()
            if not self._going:
                break
            for event in self._next():
                self._handle(event)
            self._expire()
            self._progress.update(self.tally)
        self._judge(self.tally.faults)
        if self.tally.given_up and not self._made:
            raise self._too_many()

    def close(self, seconds: float = 10.0) -> None:
        """End all threads and close all environments; what has not ended within `seconds` is left behind."""
        until = time.monotonic() + seconds
        self._engine.leave()
        self._pool.close(seconds)
        self._engine.join(until - time.monotonic())

    @property
    def in_flight(self) -> int:
        """Episodes that have begun and are not stored."""
        return len(self._going)

    # -- starting episodes -------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        while len(self._going) < self._limits.concurrency:
            item = self._retry.popleft() if self._retry else self._plan()
            if item is None:
                return
            actions = [turn.action for turn in item.before]
            worker = self._pool.take(item.start.task, actions, fresh=item.attempt > 0)
            attempt = Attempt(item, worker, self._setup)
            self._going[worker] = attempt
            self._run(attempt, "env", attempt.begin)

    def _plan(self) -> Item | None:
        if self._items is None:
            return None
        keys = {attempt.item.key for attempt in self._going.values()} | {item.key for item in self._retry}
        for item in self._items:
            if item.key not in keys and not self._store.has(item.key):
                return item
            self.tally.skipped += 1
            self._stored += item.key not in keys
        self._items = None
        return None

    def _run(self, attempt: Attempt, stage: str, call: Callable[[], object]) -> None:
        attempt.stage = stage
        patient = stage == "inside" and self._human  # a person may think as long as they like
        attempt.worker.submit(call, None if patient else self._limits.deadline)

    # -- asking the policy -------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        if self._asked or not (self._waiting or self._alone):
            return
        if self._alone:
            batch = [self._alone.popleft()]
        else:
            if self._ready_since is None:
                self._ready_since = time.monotonic()
            if self._lingers() and time.monotonic() < self._ready_since + self._linger:
                return
            size = min(len(self._waiting), max(1, self._setup.policy.batch_size))
            batch = [self._waiting.popleft() for _ in range(size)]
        self._asked, self._asked_at, self._ready_since = batch, time.monotonic(), None
        requests = [attempt.request for attempt in batch]
        self._engine.submit(lambda: self._answers(requests))

    def _answers(self, requests: Sequence[Request]) -> Sequence[Completion]:
        """Runs in the policy's thread."""
        answers = self._setup.policy.act(requests)
        if len(answers) != len(requests):
            name = self._setup.policy.name
            raise BadInput(f"policy {name} gave {len(answers)} completions for {len(requests)} requests; mend its act")
        return answers

    def _lingers(self) -> bool:
        """Are there requests worth waiting for: room in the batch, and environments that are at work."""
        if len(self._waiting) >= self._setup.policy.batch_size:
            return False
        return any(attempt.stage == "env" for attempt in self._going.values())

    @property
    def _linger(self) -> float:
        return min(_LINGER_MOST, _LINGER_SHARE * self._call_seconds)

    # -- what comes back ---------------------------------------------------------------------------------------------

    def _next(self) -> list[Finished | Stop]:
        """All that has come back; waits for the first, but not beyond the next deadline, and never for long."""
        until = [worker.deadline for worker in self._going if worker.deadline is not None]
        # A signal that comes just before the main thread blocks is heard only when it wakes again.
        until.append(time.monotonic() + _LONGEST_WAIT)
        if self._ready_since is not None:
            until.append(self._ready_since + self._linger)
        found: list[Finished | Stop] = []
        try:
            found.append(self.events.get(timeout=max(0.0, min(until) - time.monotonic())))
            while True:
                found.append(self.events.get_nowait())
        except Empty:
            return found

    def _handle(self, event: Finished | Stop) -> None:
        if isinstance(event, Stop) or isinstance(event.error, KeyboardInterrupt):
            raise KeyboardInterrupt
        if event.worker is self._engine:
            self._engine_done(event)
            return
        attempt = self._going.get(cast(EnvWorker, event.worker))
        if attempt is None or event.call != event.worker.calls:
            return  # a call that was given up long ago
        event.worker.deadline = None
        if event.error is not None:
            if isinstance(event.error, BadInput) and (attempt.stage == "inside" or not attempt.turns):
                raise event.error
            outcome = Outcome.POLICY_ERROR if attempt.stage == "inside" else Outcome.ENV_ERROR
            self._fault(attempt, outcome, event.trace, self._pool.discard)
        elif attempt.stage == "inside":
            self._answered(attempt, cast(Completion, event.value))
        else:
            self._saw(attempt, cast(Seen, event.value))

    def _engine_done(self, event: Finished) -> None:
        batch, self._asked = self._asked, []
        self._call_seconds += 0.3 * (time.monotonic() - self._asked_at - self._call_seconds)
        if event.error is None:
            for attempt, answer in zip(batch, cast(Sequence[Completion], event.value), strict=True):
                self._answered(attempt, answer)
        elif isinstance(event.error, BadInput):
            raise event.error
        elif len(batch) > 1:
            self._alone.extend(batch)  # one request must not take the others down: ask again, one by one
        else:
            self._fault(batch[0], Outcome.POLICY_ERROR, event.trace, self._pool.give_back)

    def _saw(self, attempt: Attempt, seen: Seen) -> None:
        attempt.saw(seen)
        if attempt.over or attempt.enough or not attempt.ask():
            self._finish(attempt)
        elif self._setup.policy.looks_inside:
            self._run(attempt, "inside", attempt.choose)
        else:
            attempt.stage = "policy"
            self._waiting.append(attempt)

    def _answered(self, attempt: Attempt, answer: Completion) -> None:
        if answer.error is not None:
            self._fault(attempt, Outcome.POLICY_ERROR, answer.error, self._pool.give_back)
            return
        action = attempt.answered(answer)
        self._run(attempt, "env", lambda: attempt.step(action))

    # -- ends --------------------------------------------------------------------------------------------------------

    def _finish(self, attempt: Attempt) -> None:
        episode = attempt.finish()
        if self._store.add(episode, attempt.kept):
            self.tally.episodes += 1
            self.tally.successes += episode.success
            self.tally.scores += episode.score
            self.tally.out_of_context += not (attempt.over or attempt.enough)
        else:
            self.tally.skipped += 1
            self._stored += 1
        del self._going[attempt.worker]
        self._pool.give_back(attempt.worker)

    def _expire(self) -> None:
        now = time.monotonic()
        late = [worker for worker in self._going if worker.deadline is not None and now >= worker.deadline]
        for worker in late:
            attempt = self._going[worker]
            what = attempt.doing
            error = (
                f"{worker.env_id}: {what} took longer than {self._limits.deadline:g} s; it hung in\n{_stack(worker)}"
            )
            self._fault(attempt, Outcome.TIMEOUT, error, self._pool.abandon)

    def _fault(self, attempt: Attempt, outcome: Outcome, error: str, part: Callable[[EnvWorker], None]) -> None:
        self._store.add(attempt.fault(outcome, error))
        self.tally.faults += 1
        self._last_error = error.strip().splitlines()[-1] if outcome is not Outcome.TIMEOUT else error.splitlines()[0]
        del self._going[attempt.worker]
        part(attempt.worker)
        if attempt.item.attempt < self._limits.retries:
            self._retry.append(replace(attempt.item, attempt=attempt.item.attempt + 1))
        else:
            self.tally.given_up += 1
            self._judge(self.tally.given_up)

    @property
    def _made(self) -> int:
        """Episodes of the plan, those that were in the store before too: a run that goes on is judged as a whole."""
        return self.tally.episodes + self._stored

    def _judge(self, faults: int) -> None:
        """Raise TooManyFaults where too large a share was given up.

        What is tried again is not judged yet: what is gone for seconds, as an engine that is started again, takes all
        that is in flight with it, and costs no more than those attempts.

        Args:
            faults: so many count against `min_faults`: while the run goes on, attempts that were somebody's last.
        """
        given_up, limits = self.tally.given_up, self._limits
        if faults >= limits.min_faults and given_up > limits.max_fault_rate * (given_up + self._made):
            raise self._too_many()

    def _too_many(self) -> TooManyFaults:
        tally, given_up = self.tally, self.tally.given_up
        planned = given_up + self._made
        return TooManyFaults(
            f"{tally.faults} of {tally.attempts} attempts ended in a fault, so {given_up} of {planned} episodes could "
            f"not be made ({given_up / planned:.0%}, allowed are {self._limits.max_fault_rate:.0%}); the last one: "
            f"{self._last_error}"
        )


def _stack(worker: EnvWorker) -> str:
    """Where a thread stands, as a traceback."""
    frame = sys._current_frames().get(worker.ident or -1)
    return "".join(traceback.format_stack(frame)) if frame is not None else "a thread that has ended"
