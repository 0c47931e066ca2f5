"""The collector's loop: many episodes at once, requests answered as they come, blocking calls elsewhere.

One thread, the caller's, decides everything. It hands environment calls to where the environments live and requests to
the policy's engines, waits for whichever comes back first, and stores what is finished. There is no lock-step: an
engine that is free takes all that wait. What one event costs does not depend on how many episodes are under way.

Back-pressure: there are never more episodes than `concurrency`, none of them has more than one call out, an engine has
one batch, and an episode that ends is stored before the next one begins; the plan is read no faster than that.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty
from typing import cast

from palaestra.agents.episode import Actor, Outcome
from palaestra.agents.instance import Ask, Seen
from palaestra.agents.places import Crew
from palaestra.agents.policy import Completion
from palaestra.agents.pool import EnvPool
from palaestra.agents.progress import Progress
from palaestra.agents.runner import Attempt, Item, Setup
from palaestra.agents.store import EpisodeStore
from palaestra.agents.streaming import StreamingPolicy
from palaestra.agents.told import last_line
from palaestra.agents.workers import Answered, Engine, EnvWorker, Event, Finished, Stop
from palaestra.envs import BadInput, PalaestraError, imagines

_LINGER_SHARE = 0.1
"""How long the policy waits for requests that are about to come, as a share of how long it takes to answer.

Without it the episodes fall into two groups that answer in turn, at half the batch size each."""
_LINGER_MOST = 0.25
"""The most it waits, in seconds."""
_LONGEST_WAIT = 0.5
"""Seconds after which the main thread looks up even where nothing has come back."""
_EVENTS_AT_ONCE = 256
"""What has come back is handled in parts, so that the policy is not kept waiting by thousands of environments."""


class TooManyFaults(PalaestraError):
    """So much breaks that what is left would not be a fair sample. Names the rate and the last error."""


@dataclass(frozen=True)
class Limits:
    """What the driver bounds. The arguments of `collect` say what each is for; `imagining` is the deadline of a call
    where a model makes up what happens."""

    concurrency: int
    deadline: float | None
    imagining: float | None
    retries: int
    max_fault_rate: float
    min_faults: int


class Driver:
    """Makes the planned episodes. Used once.

    Args:
        items: the plan, read lazily; what the store holds already is skipped.
        setup: what all episodes share.
        store: where episodes go, faults too.
        crew: where environments live, and what answers requests.
        limits: see `Limits`.
        progress: how it is shown.
    """

    def __init__(
        self,
        items: Iterator[Item],
        setup: Setup,
        store: EpisodeStore,
        crew: Crew,
        limits: Limits,
        progress: Progress,
    ) -> None:
        self.events = crew.events
        self.tally = setup.tally
        self.warm_starts = self.spared_steps = self.exact_restores = self.replay_restores = 0
        self._items: Iterator[Item] | None = items
        self._setup, self._store, self._limits, self._progress = setup, store, limits, progress
        self._crew, self._pool = crew, EnvPool(crew.place, limits.concurrency)
        self._human = setup.policy.actor is Actor.HUMAN
        self._stream = setup.policy if isinstance(setup.policy, StreamingPolicy) else None
        self._going: dict[EnvWorker, Attempt] = {}
        self._keys: set[str] = set()  # of what is under way or to be tried again
        self._due: dict[EnvWorker, None] = {}  # calls with a deadline; all may take as long, so the oldest comes first
        self._at_work: set[EnvWorker] = set()  # environments whose answer brings a request
        self._come: deque[Event] = deque()  # what has come back and is not handled yet
        self._retry: deque[Item] = deque()
        self._waiting: deque[Attempt] = deque()
        self._alone: deque[Attempt] = deque()
        self._asked: dict[Engine, tuple[list[Attempt], float]] = {}
        self._streamed: dict[int, Attempt] = {}
        self._numbers = itertools.count()
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
        self._crew.leave()
        self._pool.close(seconds)
        self._crew.close(until - time.monotonic())

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
            self._keys.add(item.key)
            actions = [turn.action for turn in item.before]
            worker = self._pool.take(item.start.task, actions, fresh=item.attempt > 0)
            attempt = Attempt(item, worker, self._setup)
            self._going[worker] = attempt
            self._run(attempt, "env", attempt.beginning)

    def _plan(self) -> Item | None:
        if self._items is None:
            return None
        for item in self._items:
            if item.key not in self._keys and not self._store.has(item.key):
                return item
            self.tally.skipped += 1
            self._stored += item.key not in self._keys
        self._items = None
        return None

    def _run(self, attempt: Attempt, stage: str, ask: Ask) -> None:
        attempt.stage, worker = stage, attempt.worker
        patient = stage == "inside" and self._human  # a person may think as long as they like
        limit = self._limits.imagining if imagines(attempt.item.start.task.env) else self._limits.deadline
        seconds = None if patient else limit
        if seconds is not None:
            self._due[worker] = None
        if stage == "env":
            self._at_work.add(worker)
        worker.submit(ask, seconds)

    def _rests(self, worker: EnvWorker) -> None:
        """Nothing is asked of it now."""
        self._due.pop(worker, None)
        self._at_work.discard(worker)
        worker.deadline = None

    # -- asking the policy -------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        if self._stream is not None:
            self._stream_on(self._stream)
            return
        while (self._waiting or self._alone) and (engine := self._crew.free(self._asked)) is not None:
            if self._alone:
                batch = [self._alone.popleft()]
            else:
                if self._ready_since is None:
                    self._ready_since = time.monotonic()
                if self._lingers() and time.monotonic() < self._ready_since + self._linger:
                    return
                size = min(len(self._waiting), max(1, self._setup.policy.batch_size))
                batch = [self._waiting.popleft() for _ in range(size)]
            self._asked[engine] = (batch, time.monotonic())
            self._ready_since = None
            engine.submit([attempt.request for attempt in batch])

    def _stream_on(self, policy: StreamingPolicy) -> None:
        """Hand over what waits, as much as the engine is said to take at once."""
        room = max(1, policy.batch_size) - len(self._streamed)
        for _ in range(min(room, len(self._waiting))):
            attempt = self._waiting.popleft()
            number = next(self._numbers)
            self._streamed[number] = attempt
            policy.submit(attempt.request, partial(self._post, number))

    def _post(self, number: int, answer: Completion) -> None:
        """From any thread: a request that was handed over is answered."""
        self.events.put(Answered(number, answer))

    def _lingers(self) -> bool:
        """Are there requests worth waiting for: room in the batch, and environments that are at work."""
        return len(self._waiting) < self._setup.policy.batch_size and bool(self._at_work)

    @property
    def _linger(self) -> float:
        return min(_LINGER_MOST, _LINGER_SHARE * self._call_seconds)

    # -- what comes back ---------------------------------------------------------------------------------------------

    def _next(self) -> list[Event]:
        """What has come back; waits for the first, but not beyond the next deadline, and never for long."""
        now = time.monotonic()
        # A signal that comes just before the main thread blocks is heard only when it wakes again.
        until = now + self._crew.look(_LONGEST_WAIT)
        if (oldest := next(iter(self._due), None)) is not None:
            until = min(until, cast(float, oldest.deadline))
        if self._ready_since is not None:
            until = min(until, self._ready_since + self._linger)
        if self._come:
            until = now
        try:
            self._arrived(self.events.get(timeout=max(0.0, until - now)))
            while True:
                self._arrived(self.events.get_nowait())
        except Empty:
            return [self._come.popleft() for _ in range(min(len(self._come), _EVENTS_AT_ONCE))]

    def _arrived(self, event: Event) -> None:
        """What has come back in time is not late, however long it takes until it is handled."""
        self._come.append(event)
        if isinstance(event, Finished) and isinstance(event.worker, EnvWorker) and event.call == event.worker.calls:
            self._due.pop(event.worker, None)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Stop) or (isinstance(event, Finished) and isinstance(event.error, KeyboardInterrupt)):
            raise KeyboardInterrupt
        if isinstance(event, Answered):
            if (waits := self._streamed.pop(event.call, None)) is not None:
                self._answered(waits, event.value)
            return
        if not isinstance(event.worker, EnvWorker):
            self._engine_done(event, event.worker)
            return
        attempt = self._going.get(event.worker)
        if attempt is None or event.call != event.worker.calls:
            return  # a call that was given up long ago
        self._rests(event.worker)
        if event.error is not None:
            if isinstance(event.error, BadInput) and (attempt.stage == "inside" or not attempt.turns):
                raise event.error
            outcome = Outcome.POLICY_ERROR if attempt.stage == "inside" else Outcome.ENV_ERROR
            self._fault(attempt, outcome, event.trace, self._pool.discard)
        elif attempt.stage == "inside":
            self._answered(attempt, cast(Completion, event.value))
        else:
            self._saw(attempt, cast(Seen, event.value))

    def _engine_done(self, event: Finished, engine: Engine) -> None:
        batch, began = self._asked.pop(engine, ([], 0.0))
        if engine.lost:  # with all that it was asked: another one is asked
            for attempt in reversed(batch):
                attempt.unanswered += 1
                if attempt.unanswered > self._limits.retries:
                    self._fault(attempt, Outcome.POLICY_ERROR, event.trace, self._pool.give_back)
                else:
                    self._waiting.appendleft(attempt)
            return
        self._call_seconds += 0.3 * (time.monotonic() - began - self._call_seconds)
        if event.error is None:
            answers = cast(Sequence[Completion], event.value)
            if len(answers) != len(batch):
                name = self._setup.policy.name
                raise BadInput(f"policy {name} gave {len(answers)} completions for {len(batch)} requests; mend its act")
            for attempt, answer in zip(batch, answers, strict=True):
                self._answered(attempt, answer)
        elif isinstance(event.error, BadInput):
            raise event.error
        elif len(batch) > 1:
            self._alone.extend(batch)  # one request must not take the others down: ask again, one by one
        else:
            self._fault(batch[0], Outcome.POLICY_ERROR, event.trace, self._pool.give_back)

    def _saw(self, attempt: Attempt, seen: Seen) -> None:
        if attempt.saw(seen):
            self.warm_starts += seen.warm
            self.spared_steps += attempt.item.start.fork_step - seen.replayed
            self.exact_restores += attempt.item.parent is not None and not seen.replayed
            self.replay_restores += seen.replayed > 0
        if attempt.over or attempt.enough or not attempt.ask():
            self._finish(attempt)
        elif self._setup.policy.looks_inside:
            self._run(attempt, "inside", attempt.request)
        else:
            attempt.stage = "policy"
            self._waiting.append(attempt)

    def _answered(self, attempt: Attempt, answer: Completion) -> None:
        if answer.error is not None:
            self._fault(attempt, Outcome.POLICY_ERROR, answer.error, self._pool.give_back)
            return
        self._run(attempt, "env", attempt.answered(answer))

    # -- ends --------------------------------------------------------------------------------------------------------

    def _finish(self, attempt: Attempt) -> None:
        episode = attempt.finish()
        if self._store.add(episode, attempt.kept):
            self.tally.episodes += 1
            self.tally.successes += episode.success
            self.tally.judged += episode.judged
            self.tally.scores += episode.score
            self.tally.out_of_context += not (attempt.over or attempt.enough)
        else:
            self.tally.skipped += 1
            self._stored += 1
        del self._going[attempt.worker]
        self._keys.discard(attempt.item.key)
        attempt.worker.standing = attempt.standing
        self._pool.give_back(attempt.worker)

    def _expire(self) -> None:
        now = time.monotonic()
        while (worker := next(iter(self._due), None)) is not None and now >= cast(float, worker.deadline):
            attempt = self._going[worker]
            error = (
                f"{worker.env_id}: {attempt.doing} took longer than {self._limits.deadline:g} s; it hung in\n"
                f"{worker.where()}"
            )
            self._rests(worker)
            self._fault(attempt, Outcome.TIMEOUT, error, self._pool.abandon)

    def _fault(self, attempt: Attempt, outcome: Outcome, error: str, part: Callable[[EnvWorker], None]) -> None:
        self._store.add(attempt.fault(outcome, error))
        self.tally.faults += 1
        self._last_error = last_line(error) if outcome is not Outcome.TIMEOUT else error.splitlines()[0]
        del self._going[attempt.worker]
        attempt.worker.standing = attempt.standing
        part(attempt.worker)
        if attempt.item.attempt < self._limits.retries:
            self._keys.discard(attempt.item.key)
            self._retry.append(again := attempt.again())
            self._keys.add(again.key)
        else:
            self._keys.discard(attempt.item.key)
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
