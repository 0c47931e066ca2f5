"""Transitions: what an action did to a page, taken out of stored episodes.

Failed episodes teach as much as won ones; what was imagined teaches nothing about the world, and a fault says nothing.
Sub-sampling keeps what is common from drowning what is rare, as in arXiv 2504.21024: at most so many of one start, and
of one kind of action (its first two words). What the paper does not do, ends can be made as frequent as what is no end
(`again`).
"""

from __future__ import annotations

import gzip
import hashlib
import inspect
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path as FilePath
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palaestra.agents.episode import Actor, Outcome, Path
from palaestra.agents.forest import Forest
from palaestra.agents.selection import Head
from palaestra.envs import BadInput, ReplayDiverged, Task, TextEnv, find
from palaestra.worldmodel.branch import Branch
from palaestra.worldmodel.judging import Case
from palaestra.worldmodel.page import PageFormat, Status


class Transition(BaseModel):
    """(instruction, page, action) -> next page.

    Attributes:
        task: the real task. episode: where it happened; step: after so many actions from the root's reset.
        first: the first page of the episode, which says what is to be done.
        done: the actions before. page: what was seen last. action: what was done.
        next: what was seen then. status: how the episode stood.
        actions: the admissible actions then; None where they are not known.
        score: the score then, in [0, 1]. success: was the task solved then.
        worth: how good it is to stand there, by hindsight: the episode's final score at its end, half of it before (1
            solved, 0.5 on the way, 0 lost: the anchors of the judge).
        thought: why the action leads there, where a model was asked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Task
    episode: str
    step: int = Field(ge=0)
    first: str
    done: tuple[str, ...]
    page: str
    action: str
    next: str
    status: Status
    actions: tuple[str, ...] | None = None
    score: float = Field(ge=0.0, le=1.0)
    success: bool
    worth: float = Field(ge=0.0, le=1.0)
    thought: str = ""

    @property
    def kind(self) -> str:
        """The kind of its action: the first two words."""
        return " ".join(self.action.split()[:2])

    def branch(self, instructions: str) -> Branch:
        """Where it begins, to imagine on from."""
        return Branch(self.task, instructions, self.first, self.done, self.page)

    def case(self, instructions: str) -> Case:
        """Where it ends, to be judged."""
        over = self.status is Status.OVER
        return Case(self.task, instructions, self.first, (*self.done, self.action), self.next, over, self.score)


def transitions_of(path: Path, env: TextEnv[Any] | None = None, page: PageFormat | None = None) -> list[Transition]:
    """The transitions of an episode's own turns; those before a fork are its parent's.

    Args:
        path: the episode with all that came before it.
        env: the real environment: the episode is replayed in it to list the admissible actions, if `page` wants any.

    Returns:
        One a turn; none of an imagined episode or a fault.
    """
    episode, seen = path.episode, [_written(page) for page in path.observations()]
    if episode.provenance.actor is Actor.IMAGINED or episode.outcome.is_fault or not path.turns:
        return []
    actions = tuple(_written(action) for action in path.actions)
    ended = episode.outcome in (Outcome.SUCCESS, Outcome.FAILURE)
    listed = _listed(path, env, page, ended) if env is not None and page is not None and page.actions else {}
    found = []
    for step in range(path.own, len(path.turns)):
        turn, end = path.turns[step], step == len(path.turns) - 1
        status = Status.OVER if end and ended else Status.GOING if turn.valid else Status.REFUSED
        found.append(
            Transition(
                task=episode.start.task,
                episode=episode.id,
                step=step,
                first=seen[0],
                done=actions[:step],
                page=seen[step],
                action=actions[step],
                next=seen[step + 1],
                status=status,
                actions=listed.get(step + 1),
                score=turn.score,
                success=episode.success and end,
                worth=episode.score if end else episode.score / 2,
            )
        )
    return found


class NoTransitions(BadInput):
    """A store holds none of those that were asked for."""


def gather(
    store: Forest,
    env_id: str,
    splits: Collection[str],
    *,
    env: TextEnv[Any] | None = None,
    page: PageFormat | None = None,
    episodes: Collection[str] | None = None,
) -> Iterator[Transition]:
    """The transitions of a store, episode by episode.

    Args:
        store: where the episodes are.
        env_id, splits: whose episodes, and of which splits.
        env, page: see `transitions_of`.
        episodes: only these, by id; None takes all.

    Raises:
        NoTransitions: the store holds none of this environment and these splits.
    """
    count = 0
    for head in _real(store, env_id, splits, episodes):
        for transition in transitions_of(store.path(head.id), env, page):
            count += 1
            yield transition
    if not count:
        held = sorted({head.env for head in store.heads()})
        raise NoTransitions(
            f"{store.file} holds no transitions of {env_id} in split {', '.join(splits)}; it has episodes of "
            f"{', '.join(held) or 'nothing'}"
        )


def played_with(
    store: Forest,
    env_id: str,
    splits: Collection[str],
    settings: Mapping[str, Any],
    episodes: Collection[str] | None = None,
) -> tuple[list[str], int]:
    """The real episodes of a store that were played in this very environment.

    Under one name a task may be another one with other settings: what they say of it would be learnt as if it were true
    here, and measured against.

    Args:
        env_id, splits: whose episodes, and of which splits.
        settings: what the environment is made with.
        episodes: only these, by id; None takes all.

    Returns:
        Their ids, and how many there are that were played with other settings.

    Raises:
        BadInput: there are such episodes, and all were played with other settings.
    """
    here, there = list[str](), list[str]()
    for head in _real(store, env_id, splits, episodes):
        if other := differing(env_id, store.get(head.id).provenance.env_settings, settings):
            there.append(other)
        else:
            here.append(head.id)
    if there and not here:
        raise BadInput(
            f"{store.file} holds {len(there)} episodes of {env_id}, all played with other settings than asked for "
            f"({there[0]}); make the environment as it was made there, or collect with these settings"
        )
    return here, len(there)


def _real(store: Forest, env_id: str, splits: Collection[str], episodes: Collection[str] | None) -> Iterator[Head]:
    """The episodes that were not imagined; of these only, by id, where it is said."""
    wanted = None if episodes is None else frozenset(episodes)
    for head in store.heads(env=env_id, split=list(splits)):
        if head.actor is not Actor.IMAGINED and (wanted is None or head.id in wanted):
            yield head


ELSEWHERE = frozenset(
    ("max_steps", "url", "token_variable", "deadline", "sandbox", "timeout", "load_seconds", "screenshots")
)
"""Settings that say nothing of what happens: how long things may take, where they run, and what is kept of them."""


def differing(env_id: str, made: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """In which settings that pages depend on two environments differ, the first one's first; "" where in none."""
    there, here = dynamics(env_id, made), dynamics(env_id, settings)
    names = sorted(name for name in {**here, **there} if here.get(name) != there.get(name))
    return ", ".join(f"{name}={there.get(name)!r:.60}, here {here.get(name)!r:.60}" for name in names)


def dynamics(env_id: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What an environment is made with, as far as pages depend on it (see `ELSEWHERE`).

    A setting that is not given stands with its default.
    """
    parameters = inspect.signature(find(env_id).load()).parameters.values()
    usual = {p.name: p.default for p in parameters if p.default is not p.empty}
    plain: dict[str, Any] = json.loads(json.dumps({**usual, **settings}, default=repr))
    return {name: value for name, value in plain.items() if name not in ELSEWHERE}


def balanced(
    transitions: Iterable[Transition], *, per_start: int | None = 20, per_kind: int | None = 50, seed: int = 0
) -> list[Transition]:
    """Some of the transitions: equal ones once, at most `per_start` of a task and `per_kind` of a kind of action.

    Which ones is drawn by the seed. Neither they nor the order in which they come back depend on the order given: that
    of a store is the order in which episodes happened to end.

    Episodes that begin alike share transitions and end differently, so these have several worths. What is learnt is the
    mean: it is what a judge has to expect there, where any one of them (the first one's, one drawn by the seed) would
    call the same step lost or on the way by chance. It counts as solved only where all did.
    """
    ordered = sorted(transitions, key=lambda t: (t.task.id, t.episode, t.step))
    equal: dict[tuple[object, ...], list[Transition]] = {}
    for each in ordered:
        equal.setdefault((each.task.id, each.done, each.page, each.action, each.next), []).append(each)
    everything = [_as_one(group) for group in equal.values()]
    starts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    kept: set[tuple[str, int]] = set()
    for transition in sorted(everything, key=lambda t: drawn(seed, t.episode, t.step)):
        task, kind = transition.task.id, transition.kind
        if (per_start is not None and starts[task] >= per_start) or (per_kind is not None and kinds[kind] >= per_kind):
            continue
        starts[task] += 1
        kinds[kind] += 1
        kept.add((transition.episode, transition.step))
    return [t for t in everything if (t.episode, t.step) in kept]


def _as_one(equal: Sequence[Transition]) -> Transition:
    """The first of equal transitions, with the mean of what they were worth."""
    means = {name: [getattr(each, name) for each in equal] for name in ("score", "worth")}
    changes: dict[str, object] = {name: fmean(of) for name, of in means.items() if len(set(of)) > 1}
    success = all(each.success for each in equal)
    return equal[0].model_copy(update={**changes, "success": success}) if changes else equal[0]


def again(transitions: Sequence[Transition], most: int = 10) -> list[Transition]:
    """What to learn once more, so that what was done does not tell by itself whether the episode ends.

    The same action ends an episode where it is what was asked for, and is a step on the way or an error elsewhere.
    Where one of the two is rare, a model that always says the other is nearly always right, and need not look at the
    task. So of every action, word for word, that ended some episodes and not others, the rarer transitions come once
    more, in turn, until they are as many as the others. The paper balances by start and kind of action alone.

    Args:
        most: how often one is learnt in all, at the most.
    """
    sides: dict[str, tuple[list[Transition], list[Transition]]] = {}
    for each in transitions:
        sides.setdefault(each.action, ([], []))[each.status is Status.OVER].append(each)
    found = []
    for both in sides.values():
        rare, common = sorted(both, key=len)
        found += list(islice(cycle(rare), min(len(common), most * len(rare)) - len(rare)))
    return found


def set_aside(task: Task, share: float, seed: int = 0) -> bool:
    """Is this task kept from training, to measure on: the same tasks for the same seed, about `share` of all."""
    return int(drawn(seed, "held out", task.id), 16) < share * 2**64


def drawn(*parts: object) -> str:
    """16 hexadecimal digits that stand for an order drawn from the parts."""
    return hashlib.blake2b("|".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def packed(transitions: Iterable[Transition]) -> bytes:
    """One JSON line each, compressed; the same transitions give the same bytes."""
    return gzip.compress("".join(t.model_dump_json() + "\n" for t in transitions).encode(), mtime=0)


def read(file: FilePath) -> list[Transition]:
    """What `packed` wrote. Raises BadInput when the file is damaged."""
    try:
        return [Transition.model_validate_json(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    except (OSError, EOFError, ValidationError, ValueError) as error:
        told = " ".join(str(error).split())[:160]
        raise BadInput(f"{file} cannot be read ({told}); delete it to have the transitions mined again") from error


def _written(text: str) -> str:
    """A text as a file can hold it: halves of surrogate pairs become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _listed(path: Path, env: TextEnv[Any], page: PageFormat, ended: bool) -> dict[int, tuple[str, ...] | None]:
    """The admissible actions after each own turn, as the environment lists them when the episode is replayed."""
    found: dict[int, tuple[str, ...] | None] = {}
    seen: Sequence[str] = path.observations()
    task, actions = path.episode.start.task, path.actions
    try:
        for step in range(path.own + 1, len(actions) + 1):
            _, info = env.replay(task, actions[:step], seen[: step + 1])
            if env.distance(task, actions[:step]) is None and not (ended and step == len(actions)):
                break  # at a step limit none are listed, and beyond it nothing happens here
            found[step] = page.listed(info["actions"])
    except ReplayDiverged:
        pass  # what came before stands; from here on this environment is not the one that was recorded
    return found
