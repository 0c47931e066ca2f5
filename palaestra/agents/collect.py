"""`collect`: many episodes at once from a plan of starts, into a store that holds each of them once.

A collection can be killed or stopped at any moment and started again: the key of an episode (start, policy version,
recipe, sample) says whether the store already holds it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal

import palaestra
from palaestra.agents.conversation import Conversation
from palaestra.agents.driver import Driver, Limits, TooManyFaults
from palaestra.agents.episode import Actor, Path, Provenance, Start, episode_id, episode_key
from palaestra.agents.policy import Policy
from palaestra.agents.progress import Progress, Tally, progress_of
from palaestra.agents.runner import Item, Setup
from palaestra.agents.store import EpisodeStore
from palaestra.agents.workers import Stop
from palaestra.envs import BadInput, Task, TextEnv

__all__ = ["CollectReport", "Interrupted", "TooManyFaults", "collect"]


@dataclass(frozen=True)
class CollectReport:
    """What a collection did.

    Attributes:
        episodes: made and stored in this run; faults are not among them.
        successes: of these.
        mean_score: of these, in [0, 1]; None when there are none.
        skipped: planned, but the store already held them.
        faults: attempts that ended in a fault; each is stored as one.
        given_up: planned episodes that the store does not hold because every attempt ended in a fault.
        out_of_context: episodes that ended as `truncated` because the next prompt would not fit into the context.
        prompt_tokens, completion_tokens, model_calls, env_steps, replayed_steps: spent, faults included.
        seconds: wall time.
    """

    episodes: int
    successes: int
    mean_score: float | None
    skipped: int
    faults: int
    given_up: int
    out_of_context: int
    prompt_tokens: int
    completion_tokens: int
    model_calls: int
    env_steps: int
    replayed_steps: int
    seconds: float

    @property
    def success_rate(self) -> float | None:
        """Share of this run's episodes that succeeded, in [0, 1]; None when there are none."""
        return self.successes / self.episodes if self.episodes else None

    @property
    def tokens_per_second(self) -> float:
        """Completion tokens over wall time."""
        return self.completion_tokens / self.seconds if self.seconds else 0.0


class Interrupted(KeyboardInterrupt):
    """Ctrl-C stopped a collection. All finished episodes are stored; `report` counts them."""

    def __init__(self, report: CollectReport, dropped: int) -> None:
        super().__init__(
            f"stopped: {report.episodes} episodes were made and are stored, {dropped} in flight were dropped; "
            "collect again into the same store to go on"
        )
        self.report = report
        self.dropped = dropped


def collect(
    starts: Iterable[Task | Start],
    policy: Policy,
    store: EpisodeStore,
    *,
    samples: int = 1,
    env_settings: Mapping[str, Any] | None = None,
    conversation: Conversation | None = None,
    concurrency: int = 8,
    recipe: str | None = None,
    iteration: int | None = None,
    deadline: float | None = 60.0,
    retries: int = 2,
    max_fault_rate: float = 0.2,
    min_faults: int = 5,
    max_context: int | None = None,
    progress: Progress | Literal["auto", "bar", "lines", "quiet"] = "auto",
    seed: int = 0,
    labels: Mapping[str, Any] | None = None,
    env_factory: Callable[[str], TextEnv[Any]] | None = None,
) -> CollectReport:
    """Make an episode from every start and store it, unless the store already holds it.

    The same plan, policy and seed give the same episodes in whatever order they run (exactly with policies without a
    model; with a model as far as its answer does not depend on what else is in the batch).

    Args:
        starts: tasks, or forks of episodes that the store holds. Read lazily, so it may be an endless generator's head.
        policy: who acts.
        store: where episodes go, faults too.
        samples: episodes a start.
        env_settings: keyword arguments of `palaestra.make`.
        conversation: how episodes are shown and answers read.
        concurrency: episodes at once, and so environment instances. A human gets one.
        recipe, iteration: the method and its round, for the provenance and the key.
        deadline: seconds that one call of an environment may take (its making and reset together); None for no limit.
        retries: further attempts after a fault, each on a fresh instance.
        max_fault_rate: share of attempts that may end in a fault before the run stops,
        min_faults: once there are this many.
        max_context: ids that fit into the model's context; by default what the policy's template knows. An episode
            whose next prompt leaves no room for an answer ends as `truncated`.
        progress: `auto` (a bar on a terminal, else lines), `bar`, `lines`, `quiet`, or an object.
        seed: all randomness of the requests follows from it.
        labels: go to every episode made.
        env_factory: makes an instance from an environment's id, in place of `palaestra.make` with `env_settings`.

    Returns:
        The counts of this run.

    Raises:
        TooManyFaults: the threshold was passed, or not a single episode could be made.
        Interrupted: Ctrl-C. In-flight episodes are dropped, the store is intact, collecting again goes on.
        BadInput: an argument, a start or a task cannot be used, or the store holds these episodes, made with another
            seed, sampling, conversation or other settings of the environment.
    """
    limits = _limits(samples, concurrency, deadline, retries, max_fault_rate, min_faults, policy)
    conversation = conversation or Conversation()
    settings = dict(env_settings or {})
    sampling = policy.sampling.model_dump(mode="json") if policy.sampling is not None else {}
    provenance = Provenance(
        actor=policy.actor,
        policy=policy.name,
        policy_version=policy.version,
        recipe=recipe,
        iteration=iteration,
        sampling={**sampling, **getattr(policy, "extra", {}), "run_seed": seed},
        conversation=conversation.model_dump(mode="json"),
        env_settings=settings,
        palaestra=palaestra.__version__,
    )
    if max_context is None and policy.template is not None:
        max_context = policy.template.max_length
    total = len(starts) * samples if isinstance(starts, Sized) else None
    tally = Tally(total=total)
    setup = Setup(policy, conversation, provenance, seed, max_context, dict(labels or {}), tally)
    shown = progress_of(progress)
    create = env_factory or (lambda name: palaestra.make(name, **settings))
    driver = Driver(_plan(starts, samples, provenance, store), setup, store, create, limits, shown)
    patience = 10.0
    shown.begin(tally)
    try:
        with _ctrl_c(driver):
            driver.run()
    except KeyboardInterrupt:
        patience = 3.0
        raise Interrupted(_report(tally), driver.in_flight) from None
    finally:
        shown.end(tally)
        driver.close(patience)
    return _report(tally)


def _limits(
    samples: int,
    concurrency: int,
    deadline: float | None,
    retries: int,
    max_fault_rate: float,
    min_faults: int,
    policy: Policy,
) -> Limits:
    wrong = [
        (samples < 1, f"samples must be at least 1, got {samples}"),
        (concurrency < 1, f"concurrency must be at least 1, got {concurrency}"),
        (deadline is not None and deadline <= 0, f"deadline is a number of seconds above 0 or None, got {deadline}"),
        (retries < 0, f"retries must not be negative, got {retries}"),
        (not 0 <= max_fault_rate <= 1, f"max_fault_rate is a share between 0 and 1, got {max_fault_rate}"),
        (min_faults < 1, f"min_faults must be at least 1, got {min_faults}"),
    ]
    for is_wrong, message in wrong:
        if is_wrong:
            raise BadInput(f"collect: {message}")
    alone = policy.actor is Actor.HUMAN
    return Limits(1 if alone else concurrency, deadline, retries, max_fault_rate, min_faults)


def _plan(starts: Iterable[Task | Start], samples: int, provenance: Provenance, store: EpisodeStore) -> Iterator[Item]:
    compared = False
    for given in starts:
        if not isinstance(given, Task | Start):
            raise BadInput(f"collect: a start is a Task or a Start, got {type(given).__name__} {given!r:.80}")
        start = Start(task=given) if isinstance(given, Task) else given
        parent: Path | None = None
        for sample in range(samples):
            key = episode_key(start, provenance, sample)
            stored = store.has(key)
            if stored and not compared:
                _same_conditions(store.get(episode_id(key)).provenance, provenance, store)
                compared = True
            if start.parent is not None and parent is None and not stored:
                parent = _parent(start, store)
            yield Item(start, sample, key, parent)


def _same_conditions(before: Provenance, now: Provenance, store: EpisodeStore) -> None:
    """A key says who acted and where, not how: refuse to take episodes made otherwise for those that are asked for."""
    asked = Provenance.model_validate_json(now.model_dump_json())
    for field in ("sampling", "conversation", "env_settings"):
        old, new = getattr(before, field), getattr(asked, field)
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                raise BadInput(
                    f"{store.file} holds these episodes already, made with {name}={old.get(name)!r}, and now "
                    f"{name}={new.get(name)!r} is asked for; collect into another store"
                )


def _parent(start: Start, store: EpisodeStore) -> Path:
    """The path of the episode that is forked. Raises BadInput unless the fork lies before its end."""
    assert start.parent is not None
    path = store.path(start.parent)
    if path.episode.start.task != start.task:
        raise BadInput(
            f"fork {start.id}: its parent's task is {path.episode.start.task.id}, not {start.task.id}; "
            "make forks with Episode.fork, so that they inherit the task and its split"
        )
    if start.fork_step >= len(path.turns):
        raise BadInput(
            f"fork {start.id}: episode {start.parent} ends after {len(path.turns)} actions, "
            "and an episode that is over cannot be forked at its end"
        )
    return path


def _report(tally: Tally) -> CollectReport:
    return CollectReport(
        episodes=tally.episodes,
        successes=tally.successes,
        mean_score=tally.scores / tally.episodes if tally.episodes else None,
        skipped=tally.skipped,
        faults=tally.faults,
        given_up=tally.given_up,
        out_of_context=tally.out_of_context,
        prompt_tokens=tally.prompt_tokens,
        completion_tokens=tally.completion_tokens,
        model_calls=tally.model_calls,
        env_steps=tally.env_steps,
        replayed_steps=tally.replayed_steps,
        seconds=tally.seconds,
    )


@contextmanager
def _ctrl_c(driver: Driver) -> Iterator[None]:
    """The first Ctrl-C stops the driver between two events, so that no write is torn; the second one stops at once."""
    ours = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if ours else None
    if before is not signal.default_int_handler:
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        driver.events.put(Stop())

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
