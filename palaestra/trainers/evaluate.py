"""Evaluation on held-out tasks: figures with intervals, a table by task, the card that says what was measured.

Evaluation never happens on training tasks. Episodes that ended in a fault are left out and counted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

import palaestra
from palaestra.agents.collect import collect, planned_keys
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Actor, Episode, Outcome, Start, episode_id
from palaestra.agents.policy import Policy
from palaestra.agents.progress import Progress, under
from palaestra.agents.ray_cluster import RayCluster
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, EnvSpec, Task, TextEnv, find, make
from palaestra.trainers.card import EvaluationCard
from palaestra.trainers.improvement import Improvement, improvements
from palaestra.trainers.self_iteration import RECALLED
from palaestra.trainers.statistics import DRAWS, Interval, interval, paired

Cluster = Literal["task", "type"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskResult(_Record):
    """One task of an evaluation.

    Attributes:
        task: its name; `type` is what stands before the first "/" of it.
        successes, scores, steps: one entry an episode; empty where every attempt ended in a fault.
        episodes: their ids.
    """

    task: str
    type: str
    successes: tuple[bool, ...]
    scores: tuple[float, ...]
    steps: tuple[int, ...]
    episodes: tuple[str, ...] = ()


class Evaluation(_Record):
    """What a policy can do on held-out tasks.

    Attributes:
        label: what it is an evaluation of ("start model", "iteration 2").
        success, score: means over episodes with intervals over tasks (or task types).
        episodes: that count; `missing`: planned ones whose every attempt ended in a fault, left out.
        outcomes: number of episodes by how they ended.
        out_of_context: those among the truncated whose next prompt would not fit into the model's context.
        steps: mean actions an episode.
        invalid, repeated: share of actions that were not understood, and that repeat the action just before them.
        prompt_tokens, completion_tokens: in all.
        minutes: wall time of the process that finished it.
        tries: attempts of which the one that counts was chosen; `calls`: model calls of all of them, 0 for one try.
        tasks: one row a task.
        card: what was measured.
        improved: after 0, 1, ..., K times asking to improve on the latest attempt; empty where nobody asked.
    """

    label: str
    success: Interval
    score: Interval
    episodes: int
    missing: int
    outcomes: dict[str, int]
    out_of_context: int = 0
    steps: float
    invalid: float
    repeated: float
    prompt_tokens: int
    completion_tokens: int
    minutes: float
    tries: int = 1
    calls: int = 0
    tasks: tuple[TaskResult, ...]
    card: EvaluationCard
    improved: tuple[Improvement, ...] = ()


class Comparison(_Record):
    """Two evaluations on the same tasks, task by task: differences are second minus first.

    Attributes:
        also_differ: what else differed besides the policy's weights (`conversation`, `sampling`): part of an agent, so
            it may be compared, but then a difference is not of the weights alone.
    """

    before: str
    after: str
    success: Interval
    score: Interval
    tasks: int
    also_differ: tuple[str, ...] = ()


def held_out(spec: EnvSpec, env: TextEnv[Any], split: str) -> Sequence[Task]:
    """The tasks of a split that may be evaluated on.

    Raises:
        BadInput: an unknown split, or the training split.
    """
    if spec.imagined or env.real is not None:
        raise BadInput(f"what happens in {spec.id} is imagined; an evaluation needs the real environment")
    splits = list(env.splits())
    if split not in splits:
        raise BadInput(f"{spec.id} has no split {split!r}; it has: {', '.join(splits)}")
    if split in training_splits(env):
        others = ", ".join(name for name in splits if name not in training_splits(env)) or "none"
        raise BadInput(
            f"{split!r} is the training split of {spec.id}, and evaluation never happens on training tasks; "
            f"held-out splits: {others}"
        )
    return env.tasks(split)


@dataclass(frozen=True)
class Measured:
    """Where a run's weights are measured.

    Attributes:
        spec, settings: the environment, and what it is made with (without a protocol).
        factory: makes it in place of `palaestra.make`, or None.
    """

    spec: EnvSpec
    settings: Mapping[str, Any]
    factory: Callable[[str], TextEnv[Any]] | None

    def check(self, split: str | None) -> None:
        """Raises BadInput for a split that cannot be evaluated on; None is the usual one."""
        env = self.made()
        try:
            held_out(self.spec, env, split or usual_split(env))
        finally:
            env.close()

    def made(self, protocol: str | None = None) -> TextEnv[Any]:
        """A fresh instance, under a protocol if one is named."""
        settings = with_protocol(self.spec, self.settings, protocol)
        return self.factory(self.spec.id) if self.factory else make(self.spec.id, **settings)


def measured(
    spec: EnvSpec,
    env: TextEnv[Any],
    settings: Mapping[str, Any],
    factory: Callable[[str], TextEnv[Any]] | None,
) -> Measured:
    """Where an agent that is trained in `env` is measured: there, or, where a model imagines, in the real one."""
    if env.real is None:
        return Measured(spec, settings, factory)
    return Measured(find(env.real[0]), env.real[1], None)


def usual_split(env: TextEnv[Any]) -> str:
    """The split that is measured on where none is named: `test`, else the last one that is held out."""
    splits = [split for split in env.splits() if split not in training_splits(env)] or ["test"]
    return "test" if "test" in splits else splits[-1]


def training_splits(env: TextEnv[Any]) -> tuple[str, ...]:
    """The splits that may be trained on: the first one, by the contract of an environment, unless that is its test."""
    return tuple(split for split in env.splits()[:1] if split != "test")


def choose_tasks(tasks: Sequence[Task], wanted: int | Sequence[str] | None, where: str) -> list[Task]:
    """Some tasks of a split: all, those named (a whole type by its name), or a number of them, spread over the types.

    The same number always gives the same tasks, so that evaluations can be paired.

    Raises:
        BadInput: a name that is not there, no task at all, or a number that is none.
    """
    if wanted is None:
        chosen = list(tasks)
    elif isinstance(wanted, int):
        if wanted < 1:
            raise BadInput(f"the number of tasks must be at least 1, got {wanted}")
        queues: dict[str, list[Task]] = {}
        for task in tasks:
            queues.setdefault(type_of(task.name), []).append(task)
        longest = max((len(queue) for queue in queues.values()), default=0)
        spread = [queue[turn] for turn in range(longest) for queue in queues.values() if turn < len(queue)]
        chosen = spread[:wanted]
    else:
        chosen = []
        for name in wanted:
            found = [task for task in tasks if name in (task.name, type_of(task.name))]
            if not found:
                raise BadInput(f"{where} has no task {name!r}; `palaestra envs ENV --split NAME` lists them")
            chosen += [task for task in found if task not in chosen]
    if not chosen:
        raise BadInput(f"{where} has no tasks")
    return chosen


def type_of(name: str) -> str:
    """The type of a task: what stands before the first "/" of its name."""
    return name.split("/", 1)[0]


def step_cap(env: TextEnv[Any], tasks: Sequence[Task]) -> int | str | None:
    """The step cap of tasks: a number, None for no limit, or in words where it is not the same for all."""
    caps = {env.step_cap(task) for task in tasks}
    if len(caps) == 1:
        return caps.pop()
    limits = sorted(cap for cap in caps if cap is not None)
    return f"{limits[0]} to {'no limit' if None in caps else limits[-1]}, by task"


def with_protocol(spec: EnvSpec, settings: Mapping[str, Any] | None, protocol: str | None) -> dict[str, Any]:
    """An environment's settings under a named protocol. Raises BadInput for one that it does not know."""
    if protocol is None:
        return dict(settings or {})
    if protocol not in spec.protocols:
        known = ", ".join(spec.protocols) or "none"
        raise BadInput(f"{spec.id} has no evaluation protocol {protocol!r}; it has: {known}")
    return {**(settings or {}), "protocol": protocol}


def evaluate(
    env: str,
    policy: Policy,
    store: EpisodeStore,
    *,
    split: str | None = None,
    tasks: int | Sequence[str] | None = None,
    samples: int = 1,
    protocol: str | None = None,
    env_settings: Mapping[str, Any] | None = None,
    conversation: Conversation | None = None,
    seed: int = 0,
    cluster: Cluster = "task",
    improve: int = 0,
    recall: int = RECALLED,
    label: str = "",
    concurrency: int = 8,
    progress: Progress | Literal["auto", "bar", "lines", "quiet"] = "auto",
    command: str | None = None,
    env_factory: Callable[[str], TextEnv[Any]] | None = None,
    ray: RayCluster | None = None,
) -> Evaluation:
    """Run a policy on held-out tasks and measure it. Episodes already in the store are not run again.

    Args:
        env: id or short name.
        store: where the episodes go, under a recipe name of their own.
        split: never the training split; None: see `usual_split`.
        tasks: how many (spread over the task types), which (names or types), or None for all.
        samples: episodes a task.
        protocol: name of an evaluation protocol that the environment knows.
        cluster: what the intervals draw: tasks, or whole task types (how would it go on another type).
        improve, recall: K, how often every episode is then improved on, and how many turns of it are shown there at the
            most (see `improvements`).
        label: what it is an evaluation of.
        concurrency, progress, env_factory: see `collect`.
        command: for the card.
        ray: where the episodes are made, if not on this machine.

    Raises:
        BadInput: a training split, an unknown environment, split, task, protocol or cluster, not one episode that
            counts, or one that was played elsewhere, in an environment of another fingerprint.
        TooManyFaults: see `collect`.
    """
    _known_cluster(cluster)
    spec = find(env)
    settings = with_protocol(spec, env_settings, protocol)
    conversation = conversation or Conversation(style=spec.style)
    instance = env_factory(spec.id) if env_factory else make(spec.id, **settings)
    try:
        split = split or usual_split(instance)
        everything = held_out(spec, instance, split)
        chosen = choose_tasks(everything, tasks, f"split {split!r} of {spec.id}")
        sampling: dict[str, Any] = policy.sampling.model_dump(mode="json") if policy.sampling is not None else {}
        sampling |= getattr(policy, "extra", {})  # such as `constrain`
        shown = conversation.model_dump(mode="json")
        recipe = "eval-" + _digest(settings, shown, sampling, seed, instance.fingerprint())
        report = collect(
            chosen,
            policy,
            store,
            samples=samples,
            env_settings=settings,
            conversation=conversation,
            concurrency=concurrency,
            recipe=recipe,
            progress=under(progress, "evaluate"),
            seed=seed,
            env_factory=env_factory,
            cluster=ray,
        )
        found = _episodes(_keys(chosen, samples, policy, recipe), store, instance.fingerprint())
        improved: tuple[Improvement, ...] = ()
        if improve:
            improved = improvements(
                found,
                policy,
                store,
                improve,
                conversation=conversation,
                recipe=recipe,
                recall=recall,
                env_settings=settings,
                concurrency=concurrency,
                progress=under(progress, "improve"),
                seed=seed,
                env_factory=env_factory,
                cluster=ray,
            )
        card = EvaluationCard(
            env=spec.id,
            env_settings=settings,
            env_fingerprint=instance.fingerprint(),
            protocol=protocol,
            split=split,
            split_tasks=len(everything),
            tasks=len(chosen),
            task_names=tuple(task.name for task in chosen),
            samples=samples,
            improve=improve,
            recall=recall if improve else None,
            step_cap=step_cap(instance, chosen),
            # JSON has no place for lone surrogates, so the card has them written out
            instructions=instance.instructions(chosen[0]).encode("utf-8", "backslashreplace").decode(),
            conversation=shown,
            sampling=sampling,
            interval=f"95 % percentile bootstrap over {cluster}s, {DRAWS} draws",
            policy=policy.name,
            model_version=policy.version,
            actor=policy.actor,
            faults=sum(1 for key in _keys(chosen, samples, policy, recipe) for _ in store.faults(key)),
            seed=seed,
            palaestra=palaestra.__version__,
            command=command,
        )
    finally:
        instance.close()
    done = summarise(label or policy.name, chosen, found, len(chosen) * samples, card, cluster, report.seconds / 60)
    return done.model_copy(update={"improved": improved})


def summarise(
    label: str,
    tasks: Sequence[Task],
    episodes: Mapping[str, Sequence[Episode]],
    planned: int,
    card: EvaluationCard,
    cluster: Cluster,
    minutes: float,
) -> Evaluation:
    """Figures of episodes by task id. Faults among them are left out. Raises BadInput when none counts, or one is
    imagined."""
    if any(e.provenance.actor is Actor.IMAGINED for found in episodes.values() for e in found):
        raise BadInput(f"evaluation of {label}: an imagined episode is no measure of anything; leave it out")
    counted = {task.id: [e for e in episodes.get(task.id, ()) if not e.outcome.is_fault] for task in tasks}
    rows = [
        TaskResult(
            task=task.name,
            type=type_of(task.name),
            successes=tuple(e.success for e in counted[task.id]),
            scores=tuple(e.score for e in counted[task.id]),
            steps=tuple(len(e.turns) for e in counted[task.id]),
            episodes=tuple(e.id for e in counted[task.id]),
        )
        for task in tasks
    ]
    whole = [episode for found in counted.values() for episode in found]
    if not whole:
        raise BadInput(f"evaluation of {label}: every episode ended in a fault, so there is nothing to measure")
    successes: dict[str, list[float]] = {}
    scores: dict[str, list[float]] = {}
    for row in rows:
        unit = row.task if cluster == "task" else row.type
        successes.setdefault(unit, []).extend(float(won) for won in row.successes)
        scores.setdefault(unit, []).extend(row.scores)
    actions = sum(len(e.turns) for e in whole)
    invalid = sum(not turn.valid for e in whole for turn in e.turns)
    repeated = sum(a == b for e in whole for a, b in zip(e.actions, e.actions[1:], strict=False))
    return Evaluation(
        label=label,
        success=interval(successes),
        score=interval(scores),
        episodes=len(whole),
        missing=planned - len(whole),
        outcomes={outcome.value: n for outcome in Outcome if (n := sum(e.outcome is outcome for e in whole))},
        out_of_context=sum(e.labels.get("truncated_by") == "context" for e in whole),
        steps=actions / len(whole),
        invalid=invalid / actions if actions else 0.0,
        repeated=repeated / actions if actions else 0.0,
        prompt_tokens=sum(e.provenance.cost.prompt_tokens for e in whole),
        completion_tokens=sum(e.provenance.cost.completion_tokens for e in whole),
        minutes=minutes,
        tasks=tuple(rows),
        card=card,
    )


def compare(before: Evaluation, after: Evaluation, cluster: Cluster = "task") -> Comparison:
    """The paired difference of two evaluations on the same tasks.

    Raises:
        BadInput: they measured different things (another split, protocol, step cap, ...), or an unknown cluster.
    """
    _known_cluster(cluster)
    if differing := before.card.comparable(after.card):
        raise BadInput(
            f"{before.label} and {after.label} cannot be compared: their cards differ in {', '.join(differing)}"
        )
    units = {row.task: row.type for row in before.tasks} if cluster == "type" else None
    first, second = ({row.task: row for row in evaluation.tasks} for evaluation in (before, after))
    success = paired(
        {name: [float(won) for won in row.successes] for name, row in first.items()},
        {name: [float(won) for won in row.successes] for name, row in second.items()},
        cluster_of=units,
    )
    score = paired(
        {name: row.scores for name, row in first.items()},
        {name: row.scores for name, row in second.items()},
        cluster_of=units,
    )
    common = sum(1 for name, row in first.items() if row.scores and second[name].scores)
    return Comparison(
        before=before.label,
        after=after.label,
        success=success,
        score=score,
        tasks=common,
        also_differ=tuple(before.card.agent_differences(after.card)),
    )


def _known_cluster(cluster: str) -> None:
    if cluster not in get_args(Cluster):
        raise BadInput(f"unknown cluster {cluster!r}; intervals can draw: {', '.join(get_args(Cluster))}")


def _keys(tasks: Sequence[Task], samples: int, policy: Policy, recipe: str) -> list[str]:
    return planned_keys([(Start(task=task), samples) for task in tasks], policy, recipe=recipe)


def _episodes(keys: Sequence[str], store: EpisodeStore, fingerprint: str) -> dict[str, list[Episode]]:
    """By task id. Raises BadInput where one was played in another environment than the card names: instances on other
    machines read those machines' variables, data and packages."""
    found: dict[str, list[Episode]] = {}
    for episode in (store.get(episode_id(key)) for key in keys if store.has(key)):
        made = episode.provenance.env_fingerprint
        if made != fingerprint:
            raise BadInput(
                f"{episode.start.task.name} was played with env_fingerprint={made!r}, and here it is {fingerprint!r}; "
                "make both places alike, and evaluate into another store"
            )
        found.setdefault(episode.start.task.id, []).append(episode)
    return found


def _digest(*parts: object) -> str:
    """Evaluations that ask for something else get episodes of their own."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True, default=str).encode(), digest_size=4).hexdigest()
