"""`collect`: many episodes at once from a plan of starts, into a store that holds each of them once.

A collection can be killed or stopped at any moment and started again: the key of an episode (start, policy version,
recipe, sample) says whether the store already holds it.
"""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

import palaestra
from palaestra.agents.conversation import Conversation
from palaestra.agents.driver import Driver, Limits, TooManyFaults
from palaestra.agents.episode import Actor, Path, Plain, Provenance, Start, episode_id, episode_key
from palaestra.agents.fork import kept_for, parent_of, recorded_for
from palaestra.agents.instance import Kept
from palaestra.agents.places import Crew, LocalCrew
from palaestra.agents.policy import Policy
from palaestra.agents.progress import Progress, Tally, progress_of
from palaestra.agents.runner import Item, Setup
from palaestra.agents.store import EpisodeStore
from palaestra.agents.workers import Stop
from palaestra.envs import BadInput, Recorded, Task, TextEnv, specs

if TYPE_CHECKING:
    from palaestra.agents.ray_cluster import RayCluster

_USUAL = 60.0
"""Seconds that a call of a real environment may take, unless something else is asked for."""
_KEYS_AT_ONCE = 500
_REMEMBERED = 10_000
"""Stored episodes that are not compared again when a plan names them again: a bound, however long the plan is."""

__all__ = ["CollectReport", "Interrupted", "TooManyFaults", "collect"]


@dataclass(frozen=True)
class CollectReport:
    """What a collection did.

    Attributes:
        episodes: made and stored in this run; faults are not among them.
        successes: of these. judged: of these, imagined ones whose success and score are a judge's word.
        mean_score: of these, in [0, 1]; None when there are none.
        skipped: planned, but the store already held them.
        faults: attempts that ended in a fault; each is stored as one.
        given_up: planned episodes that the store does not hold because every attempt ended in a fault.
        out_of_context: episodes that ended as `truncated` because the next prompt would not fit into the context.
        prompt_tokens, completion_tokens, model_calls, env_steps, replayed_steps: spent, faults included.
        spared_steps: actions before forks that were not replayed, because an instance stood on the way, or because what
            the environment kept of the step was enough.
        warm_starts: forks that began on an instance that stood on their way, without a reset.
        exact_restores, replay_restores: forks by how their step came back: without an action (kept by the environment,
            or an instance stood there), or by actions that were taken again and compared.
        seconds: wall time.
    """

    episodes: int
    successes: int
    judged: int
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
    spared_steps: int
    warm_starts: int
    exact_restores: int
    replay_restores: int
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
    samples: int | Sequence[int] = 1,
    env_settings: Mapping[str, Any] | None = None,
    conversation: Conversation | None = None,
    concurrency: int = 8,
    recipe: str | None = None,
    iteration: int | None = None,
    deadline: float | Literal["usual"] | None = "usual",
    retries: int = 2,
    max_fault_rate: float = 0.2,
    min_faults: int = 5,
    max_context: int | None = None,
    max_turns: int | None = None,
    keep: int = 1 << 20,
    progress: Progress | Literal["auto", "bar", "lines", "quiet"] = "auto",
    seed: int = 0,
    labels: Mapping[str, Any] | None = None,
    env_factory: Callable[[str], TextEnv[Any]] | None = None,
    cluster: RayCluster | None = None,
) -> CollectReport:
    """Make an episode from every start and store it, unless the store already holds it.

    The same plan, policy and seed give the same episodes in whatever order they run (exactly with policies without a
    model; with a model as far as its answer does not depend on what else is in the batch).

    Args:
        starts: tasks, or forks of episodes that the store holds. Read lazily, so it may be an endless generator's head.
            Of a plan with a length, all episodes that the store holds are compared with what is asked for before the
            first one is made; else each when its turn comes.
        policy: who acts. Where it gets new weights meanwhile, episodes that begin from then on record their version;
            those under way keep theirs, and the label `written_by` names the turns that the new weights wrote.
        store: where episodes go, faults too.
        samples: episodes a start; of `starts` with a length also a number for each of them.
        env_settings: keyword arguments of `palaestra.make`.
        conversation: how episodes are shown and answers read. None: in the style of the first start's environment, as
            far as `starts` can be looked into.
        concurrency: episodes at once, and so environment instances. A human gets one.
        recipe, iteration: the method and its round, for the provenance and the key.
        deadline: seconds that one call of an environment may take (its making and reset together); None for no limit.
            Usually 60, and no limit where a model imagines what happens: there a call waits for the pages of all other
            episodes too, and what ends a page is the model's `max_tokens`, never the clock.
        retries: further attempts after a fault, each on a fresh instance.
        max_fault_rate: share of the episodes so far that may be given up, each after its last attempt, before the run
            stops,
        min_faults: once there are this many; at the end, once so many attempts ended in a fault.
        max_context: ids that fit into the model's context; by default what the policy's template knows. An episode
            whose next prompt leaves no room for an answer ends as `truncated`.
        max_turns: own turns after which an episode is ended as `truncated` (label `truncated_by`: `turns`), though the
            environment would go on: a piece of an episode, which can be forked at its end. None for whole episodes.
        keep: bytes, before they are compressed, that may be stored of an episode's steps where the same actions might
            lead elsewhere (`TextEnv.keep`; other environments keep none), so that forks begin where the parent stood.
            Where it begins and where it ends may take as many each: people look at them.
            Steps that do not fit, and all with 0, are replayed as everywhere else: if that diverges it is a fault.
        progress: `auto` (a bar on a terminal, else lines), `bar`, `lines`, `quiet`, or an object.
        seed: all randomness of the requests follows from it.
        labels: go to every episode made. The collector adds `truncated_by` where the context or `max_turns` ended it,
            and `unfinished_turns`, the indices of an episode's own turns that were cut at `max_tokens`, where the
            policy gives no ids (`OpenAIPolicy`): ids made of such a turn's text later end with an end-of-turn that the
            model never wrote.
        env_factory: makes an instance from an environment's id, in place of `palaestra.make` with `env_settings`. Its
            attribute `needs`, where it has one, says what `TextEnv.needs` says of a registered environment; without it
            each instance gets a thread.
        cluster: environments and policies live there; None: on this machine.

    Returns:
        The counts of this run.

    Raises:
        TooManyFaults: the threshold was passed, or every attempt ended in a fault and the store holds none of the plan.
        Interrupted: Ctrl-C. In-flight episodes are dropped, the store is intact, collecting again goes on.
        BadInput: an argument, a start or a task cannot be used; the first prompt of a task does not fit into the
            context; or the store holds episodes of this plan, made with another seed, sampling, conversation, other
            settings of the environment or another version of it. Where a server is does not count.
    """
    limits = _limits(samples, concurrency, deadline, retries, max_fault_rate, min_faults, policy)
    if keep < 0:
        raise BadInput(f"collect: keep is a number of bytes, 0 or more, got {keep}")
    if max_turns is not None and max_turns < 1:
        raise BadInput(f"collect: max_turns is a number of turns above 0 or None, got {max_turns}")
    conversation = conversation or _usual(starts)
    if getattr(policy, "constrain", False) and conversation.style != "action":
        raise BadInput(
            f"collect: policy {policy.name} writes admissible actions only (constrain), so the conversation needs "
            f"style='action', not {conversation.style!r}"
        )
    settings = dict(env_settings or {})
    provenance = _provenance(policy, recipe, iteration, seed, conversation, settings)
    noted = _noted(labels or {})
    if max_context is None and policy.template is not None:
        max_context = policy.template.max_length
    total = sum(_counts(starts, samples)) if isinstance(starts, Sized) else None
    tally = Tally(total=total)
    stored = _Stored(store, provenance)
    if isinstance(starts, Sized):
        stored.check(starts, samples)
    setup = Setup(
        policy, conversation, provenance, seed, max_context, noted, max_turns, tally, stored.fingerprints, keep
    )
    shown = progress_of(progress)
    crew: Crew = (
        LocalCrew(policy, settings, env_factory) if cluster is None else cluster.crew(policy, settings, env_factory)
    )
    plan = _plan(starts, samples, policy, provenance, store, stored)
    driver = Driver(plan, setup, store, crew, limits, shown)
    patience = 10.0
    shown.begin(tally)
    try:
        with _ctrl_c(driver):
            driver.run()
    except KeyboardInterrupt:
        patience = 3.0
        raise Interrupted(_report(driver), driver.in_flight) from None
    finally:
        shown.end(tally)
        driver.close(patience)
    return _report(driver)


def planned_keys(
    plan: Iterable[tuple[Start, int]], policy: Policy, *, recipe: str | None = None, iteration: int | None = None
) -> list[str]:
    """The keys of the episodes that `collect` makes of a plan, whether they are stored yet or not.

    Args:
        plan: starts, and how many samples of each.
        policy, recipe, iteration: as `collect` was given them.

    Returns:
        One key an episode, start by start.
    """
    by = Provenance(
        actor=policy.actor, policy=policy.name, policy_version=policy.version, recipe=recipe, iteration=iteration
    )
    return [episode_key(start, by, sample) for start, count in plan for sample in range(count)]


def _limits(
    samples: int | Sequence[int],
    concurrency: int,
    deadline: float | Literal["usual"] | None,
    retries: int,
    max_fault_rate: float,
    min_faults: int,
    policy: Policy,
) -> Limits:
    fewest = samples if isinstance(samples, int) else min(samples, default=1)
    real, imagining = (_USUAL, None) if deadline == "usual" else (deadline, deadline)
    wrong = [
        (fewest < 1, f"samples must be at least 1, got {fewest}"),
        (concurrency < 1, f"concurrency must be at least 1, got {concurrency}"),
        (real is not None and real <= 0, f"deadline is a number of seconds above 0 or None, got {deadline}"),
        (retries < 0, f"retries must not be negative, got {retries}"),
        (not 0 <= max_fault_rate <= 1, f"max_fault_rate is a share between 0 and 1, got {max_fault_rate}"),
        (min_faults < 1, f"min_faults must be at least 1, got {min_faults}"),
    ]
    for is_wrong, message in wrong:
        if is_wrong:
            raise BadInput(f"collect: {message}")
    alone = policy.actor is Actor.HUMAN
    return Limits(1 if alone else concurrency, real, imagining, retries, max_fault_rate, min_faults)


def _provenance(
    policy: Policy,
    recipe: str | None,
    iteration: int | None,
    seed: int,
    conversation: Conversation,
    settings: Mapping[str, Any],
) -> Provenance:
    sampling = policy.sampling.model_dump(mode="json") if policy.sampling is not None else {}
    try:
        return Provenance(
            actor=policy.actor,
            policy=policy.name,
            policy_version=policy.version,
            recipe=recipe,
            iteration=iteration,
            sampling={**sampling, **getattr(policy, "extra", {}), "run_seed": seed},
            conversation=conversation.model_dump(mode="json"),
            env_settings=dict(settings),
            palaestra=palaestra.__version__,
        )
    except ValidationError as error:
        raise BadInput(f"collect: {_first(error)}") from error


def _usual(starts: Iterable[Task | Start]) -> Conversation:
    """How the environment of a plan is usually answered, where the plan can be looked into before it is read."""
    first = _start(starts[0]) if isinstance(starts, Sequence) and len(starts) else None
    spec = specs().get(first.task.env) if first is not None else None
    return Conversation(style=spec.style) if spec is not None else Conversation()


def _noted(labels: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return TypeAdapter[dict[str, Any]](Plain).validate_python(dict(labels))
    except ValidationError as error:
        raise BadInput(f"collect: labels: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    """The first of pydantic's complaints, in one line."""
    told = error.errors()[0]
    where = ".".join(map(str, told["loc"]))
    return " ".join(f"{where + ': ' if where else ''}{told['msg'].removeprefix('Value error, ')}".split())


def _start(given: object) -> Start:
    if not isinstance(given, Task | Start):
        raise BadInput(f"collect: a start is a Task or a Start, got {type(given).__name__} {given!r:.80}")
    return Start(task=given) if isinstance(given, Task) else given


def _counts(starts: Iterable[Task | Start], samples: int | Sequence[int]) -> Iterable[int]:
    """How many episodes each start gets. Raises BadInput where the numbers are not one a start."""
    if isinstance(samples, int):
        return itertools.repeat(samples, len(starts)) if isinstance(starts, Sized) else itertools.repeat(samples)
    if not isinstance(starts, Sized) or len(starts) != len(samples):
        raise BadInput(f"collect: {len(samples)} numbers of samples need as many starts, in a list")
    return samples


def _plan(
    starts: Iterable[Task | Start],
    samples: int | Sequence[int],
    policy: Policy,
    provenance: Provenance,
    store: EpisodeStore,
    stored: _Stored,
) -> Iterator[Item]:
    for given, count in zip(starts, _counts(starts, samples), strict=False):  # of one number there is no end
        start = _start(given)
        parent: Path | None = None
        kept: Kept | None = None
        recorded: Recorded | None = None
        for sample in range(count):
            version = policy.version  # it may get new weights while episodes are under way
            key = episode_key(start, provenance.model_copy(update={"policy_version": version}), sample)
            if store.has(key):
                stored.compare(key)
            elif start.parent is not None and parent is None:
                parent = parent_of(start, store)
                kept, recorded = kept_for(start, parent, store), recorded_for(start, parent, store)
            yield Item(start, sample, key, parent, kept, version=version, recorded=recorded)


class _Stored:
    """What the store holds of a plan already.

    A key says who acted and where, not how: episodes made otherwise are refused, for they would be taken for those
    that are asked for.

    Attributes:
        fingerprints: of the environments, by id, that these episodes were made with. An instance's own is known only
            once there is one, so the runner compares.
    """

    def __init__(self, store: EpisodeStore, asked: Provenance) -> None:
        self.fingerprints: dict[str, str] = {}
        self._store, self._asked = store, Provenance.model_validate_json(asked.model_dump_json())
        self._compared: dict[str, None] = {}

    def check(self, starts: Iterable[Task | Start], samples: int | Sequence[int]) -> None:
        """Compare all of a plan. Raises BadInput."""
        if not len(self._store):
            return
        keys = (
            episode_key(_start(given), self._asked, sample)
            for given, count in zip(starts, _counts(starts, samples), strict=True)
            for sample in range(count)
        )
        while some := list(itertools.islice(keys, _KEYS_AT_ONCE)):
            found = self._store.stored(some)
            for key in some:
                if key in found:
                    self.compare(key)

    def compare(self, key: str) -> None:
        """Compare one stored episode with what is asked for, unless it just was. Raises BadInput."""
        if key in self._compared:
            return
        episode = self._store.get(episode_id(key))
        before = episode.provenance
        for field in ("sampling", "conversation", "env_settings"):
            old, new = dict(getattr(before, field)), dict(getattr(self._asked, field))
            if field != "conversation":  # a server that is started again at another port is the same server
                old.pop("url", None)
                new.pop("url", None)
            for name in sorted({*old, *new}):
                if old.get(name) != new.get(name):
                    raise BadInput(
                        f"{self._store.file} holds these episodes already, made with {name}={old.get(name)!r}, and now "
                        f"{name}={new.get(name)!r} is asked for; collect into another store"
                    )
        self._compared[key] = None
        if len(self._compared) > _REMEMBERED:
            del self._compared[next(iter(self._compared))]
        if not before.env_fingerprint:
            return
        first = self.fingerprints.setdefault(episode.start.task.env, before.env_fingerprint)
        if first != before.env_fingerprint:
            raise BadInput(
                f"{self._store.file} holds episodes of this plan made with env_fingerprint={first!r} and others with "
                f"{before.env_fingerprint!r}; collect into another store"
            )


def _report(driver: Driver) -> CollectReport:
    tally = driver.tally
    return CollectReport(
        episodes=tally.episodes,
        successes=tally.successes,
        judged=tally.judged,
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
        spared_steps=driver.spared_steps,
        warm_starts=driver.warm_starts,
        exact_restores=driver.exact_restores,
        replay_restores=driver.replay_restores,
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
