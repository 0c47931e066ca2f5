"""What a command would do and what that costs in rollouts, tokens and disk, before anything is done.

The figures follow from the settings and, where a store at hand holds episodes of the environment, from their means. Of
what neither tells nothing is made up: it is None, and `basis` says where each of the others is from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from palaestra.agents.conversation import Conversation
from palaestra.agents.typical import Typical
from palaestra.envs import TextEnv, find, make
from palaestra.envs.data import cache_dir
from palaestra.trainers.evaluate import choose_tasks, held_out, usual_split
from palaestra.trainers.objective import CrossEntropy, Preference
from palaestra.trainers.online import Online
from palaestra.trainers.recipe import Recipe

OBSERVATION, TURN, STORE = 100, 500, 60_000
"""Assumed where no store tells: tokens of an observation, bytes that a turn and an empty store take."""


class Part(BaseModel):
    """Episodes that would be made.

    Attributes:
        what: "rollouts", "held-out episodes", "expert episodes".
        episodes: at the most; None: nobody knows before.
        model: does a model act in them.
        told: more about them, in words.
    """

    model_config = ConfigDict(frozen=True)

    what: str
    episodes: int | None
    model: bool
    told: str = ""


class Estimate(BaseModel):
    """What a command would do.

    Attributes:
        does: in a sentence; `out`: where it would write.
        parts: the episodes that it would make.
        fits: how many there would be; `fit_tokens`: ids through the model in all of them.
        model_calls, prompt_tokens, completion_tokens: of all episodes in which a model acts.
        episode_bytes, model_bytes: that would be written to the disk.
        basis: where the figures are from, a line each.
    """

    model_config = ConfigDict(frozen=True)

    does: str
    out: str
    parts: tuple[Part, ...]
    fits: int = 0
    fit_tokens: int | None = None
    model_calls: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    episode_bytes: int | None = None
    model_bytes: int | None = None
    basis: tuple[str, ...] = ()

    @property
    def rollouts(self) -> int | None:
        """Episodes that would be made to learn from, or that are asked for; None: nobody knows before."""
        return _sum(part.episodes for part in self.parts if part.what == "rollouts")

    @property
    def disk_bytes(self) -> int | None:
        """All that would be written."""
        return _sum((self.episode_bytes, self.model_bytes))


class Acting:
    """What one episode costs.

    Args:
        env: the environment. cap: its steps at the most.
        typical: means of earlier episodes, or None.
        instructions: what an agent is told first. conversation: what it is shown.
        answer: tokens of an answer at the most. calls: model calls a step, more than one with a strategy.
    """

    def __init__(
        self,
        cap: int | None,
        typical: Typical | None,
        *,
        instructions: str = "",
        conversation: Conversation | None = None,
        answer: int = 0,
        calls: int = 1,
    ) -> None:
        self.typical, self.answer, self.calls = typical, answer, calls
        self.turns = typical.turns if typical else None if cap is None else float(cap)
        self._told = typical is not None and typical.completion_tokens > 0
        self._start = len(instructions) / 4
        self._window = (conversation or Conversation()).window

    @property
    def prompt_tokens(self) -> float | None:
        """Read by a model in an episode, a call's whole prompt counted each time."""
        if self._told and self.typical is not None:
            return self.typical.prompt_tokens * self.calls
        if self.turns is None:
            return None
        total = 0.0
        for step in range(round(self.turns)):
            shown = step if self._window is None else min(step, self._window)
            total += self._start + OBSERVATION + shown * (OBSERVATION + self.answer)
        return total * self.calls

    @property
    def completion_tokens(self) -> float | None:
        """Written by a model in an episode."""
        if self._told and self.typical is not None:
            return self.typical.completion_tokens * self.calls
        return None if self.turns is None else self.turns * self.answer * self.calls

    @property
    def bytes(self) -> float | None:
        """That an episode takes in the store."""
        if self.typical is not None:
            return self.typical.bytes
        return None if self.turns is None else 700 + TURN * self.turns

    def basis(self, model: bool) -> list[str]:
        """Where the figures are from."""
        answers = f"answers of {self.answer} tokens, observations of {OBSERVATION} tokens assumed"
        if self.typical is not None:
            of = self.typical
            tokens = f", {of.prompt_tokens:,.0f} tokens read, {of.completion_tokens:,.0f} written" if self._told else ""
            told = f"{of.episodes:,} episodes of {of.env} in {of.stores[0]}: {of.turns:.1f} turns{tokens}"
            lacks = [f"no model acted in them: {answers}"] if model and not self._told else []
            return [f"{told}, {of.bytes:,.0f} bytes each", *lacks]
        if self.turns is None:
            return ["the environment has no step cap and no store here has episodes of it: tokens and disk are unknown"]
        most = f"settings: all {self.turns:.0f} steps of the cap are taken, so it is the most"
        return [f"{most}; {TURN} bytes a turn assumed", *([answers] if model else [])]


def estimate(
    does: str,
    out: Path,
    parts: Sequence[Part],
    acting: Acting,
    *,
    fits: int = 0,
    fit_tokens: int | None = None,
    weights: tuple[str, int] | None = None,
    more: Sequence[str] = (),
) -> Estimate:
    """Add up what parts cost.

    Args:
        does, out, parts, fits, fit_tokens: see `Estimate`. acting: what one episode costs.
        weights: the name of the start model, and how many models would stay on the disk.
        more: further lines of the basis.
    """
    asked = [part.episodes for part in parts if part.model]
    every = [part.episodes for part in parts]
    size = weights_size(weights[0]) if weights else None
    basis = [*(acting.basis(bool(asked)) if parts else ()), *more]
    if weights is not None:
        told = "is not on this machine yet, so its size is unknown" if size is None else f"has {size / 1e6:,.0f} MB"
        stay = "1 model stays" if weights[1] == 1 else f"{weights[1]} models stay"
        basis.append(f"{weights[0]} {told}; {stay} on the disk")
    return Estimate(
        does=does,
        out=str(out),
        parts=tuple(parts),
        fits=fits,
        fit_tokens=fit_tokens,
        model_calls=_times(asked, None if acting.turns is None else acting.turns * acting.calls),
        prompt_tokens=_times(asked, acting.prompt_tokens),
        completion_tokens=_times(asked, acting.completion_tokens),
        episode_bytes=None if (kept := _times(every, acting.bytes)) is None else kept + STORE * bool(kept),
        model_bytes=0 if weights is None else None if size is None else size * weights[1],
        basis=tuple(basis),
    )


def of_recipe(recipe: Recipe[Any], typical: Typical | None) -> Estimate:
    """What `recipe.train()` would do from the beginning. Raises BadInput for what it would refuse."""
    config = recipe.config
    rounds = _rollouts(recipe)
    learning = [number for number, count in enumerate(rounds, 1) if count != 0]
    after = recipe.afterwards()
    between = sum(recipe.measures(number, last=number == learning[-1]) for number in learning)
    measured = 1 + (config.experts is not None) + between + after.measured
    held, tasks = _held_out(recipe)
    parts = []
    if config.experts is not None:
        parts.append(_experts(recipe))
    told = " + ".join("?" if count is None else str(count) for count in rounds[:8]) + (" + ..." if rounds[8:] else "")
    parts.append(Part(what="rollouts", episodes=_sum(rounds), model=True, told=f"{told}, by iteration" if told else ""))
    told = f"{measured} times {held:,} ({tasks:,} tasks)"
    parts.append(Part(what="held-out episodes", episodes=measured * held, model=True, told=told))
    if after.episodes:
        parts.append(Part(what="synthesis", episodes=after.episodes, model=True, told=after.told))
    if config.evaluation.recovery:
        parts.append(Part(what="held-out episodes", episodes=held, model=True, told="at most, from failures"))
    fits = len(learning) + (config.experts is not None) + after.fits
    tokens = config.objective.tokens if isinstance(config.objective, CrossEntropy | Preference) else None
    kept = measured + 1 if isinstance(recipe, Online) else fits
    more = [] if tokens or not fits else ["ids of the fits depend on what is mined; set objective.tokens to bound them"]
    acting = Acting(
        recipe.env.step_cap(recipe.tasks[0]),
        typical,
        instructions=recipe.env.instructions(recipe.tasks[0]),
        conversation=config.conversation,
        answer=config.sampling.max_tokens,
    )
    does = f"train {recipe.name} on {recipe.spec.id} with {config.model}"
    return estimate(
        does,
        recipe.out,
        parts,
        acting,
        fits=fits,
        fit_tokens=tokens * fits if tokens else None,
        weights=(config.model, kept + after.models),
        more=[*more, *([f"{after.models} other models are fitted besides"] if after.models else [])],
    )


def together(does: str, out: Path, parts: Sequence[Estimate]) -> Estimate:
    """Several estimates as one: what they make and cost added up."""
    kinds = dict.fromkeys((part.what, part.model) for each in parts for part in each.parts)
    added = [
        Part(
            what=what,
            model=model,
            episodes=_sum(p.episodes for each in parts for p in each.parts if (p.what, p.model) == (what, model)),
            told=f"of {len(parts)} runs",
        )
        for what, model in kinds
    ]
    names = ("fit_tokens", "model_calls", "prompt_tokens", "completion_tokens", "episode_bytes", "model_bytes")
    figures: dict[str, Any] = {name: _sum(getattr(each, name) for each in parts) for name in names}
    return Estimate(
        does=does,
        out=str(out),
        parts=tuple(added),
        fits=sum(each.fits for each in parts),
        basis=tuple(dict.fromkeys(line for each in parts for line in each.basis)),
        **figures,
    )


def weights_size(model: str) -> int | None:
    """Bytes of a model's folder, if it is on this machine; a hub id's, and what was never fetched, is None."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        start = f"tiny-{find(model.removeprefix('tiny:')).family}-" if model.startswith("tiny:") else f"{model}-"
        found = sorted((cache_dir() / "models").glob(f"{start}*")) if "/" not in start else []
        if not found:
            return None
        folder = found[-1]
    files = [file for file in folder.iterdir() if file.is_file() and file.name != "optimizer.pt"]
    return sum(file.stat().st_size for file in files)


def _rollouts(recipe: Recipe[Any]) -> list[int | None]:
    """Rollouts of every iteration; None where they depend on what the experts do."""
    config, found, left = recipe.config, list[int | None](), recipe.config.budget
    for number in range(1, recipe.iterations + 1):
        if config.samples is not None:
            wanted = None if recipe.inside else config.samples * len(recipe.beginnings())
            count = left if wanted is None else wanted if left is None else min(wanted, left)
        else:
            assert left is not None  # a configuration has one of the two
            count = recipe.share(number, left)
        if count == 0:
            break
        left = None if left is None or count is None else left - count
        found.append(count)
    return found


def _held_out(recipe: Recipe[Any]) -> tuple[int, int]:
    """Episodes of one measurement, and on how many tasks."""
    plan, measured = recipe.config.evaluation, recipe.measured
    env: TextEnv[Any] = (
        measured.factory(measured.spec.id) if measured.factory else make(measured.spec.id, **measured.settings)
    )
    try:
        split = plan.split or usual_split(env)
        wanted = list(plan.tasks) if isinstance(plan.tasks, tuple) else plan.tasks
        tasks = choose_tasks(held_out(measured.spec, env, split), wanted, f"split {split!r} of {measured.spec.id}")
    finally:
        env.close()
    return len(tasks) * plan.samples * (1 + plan.improve), len(tasks)


def _experts(recipe: Recipe[Any]) -> Part:
    experts = recipe.config.experts
    assert experts is not None
    if experts.file is not None:
        return Part(what="expert episodes", episodes=None, model=False, told=f"those of {experts.file}")
    tasks = choose_tasks(recipe.tasks, experts.tasks, f"the training tasks of {recipe.spec.id}")
    told = f"by {experts.policy}" if experts.policy is not None else "by the oracle"
    told += f", with a slip of {experts.slip:g}" if experts.slip else ""
    return Part(what="expert episodes", episodes=len(tasks) * experts.samples, model=False, told=told)


def _sum(values: Iterable[int | None]) -> int | None:
    """The sum; None if a value is unknown, but what is unknown of nothing counts as nothing."""
    listed = list(values)
    if any(value is None for value in listed):
        return None
    return sum(value for value in listed if value is not None)


def _times(episodes: Sequence[int | None], each: float | None) -> int | None:
    count = _sum(episodes)
    if count == 0:
        return 0
    return None if count is None or each is None else round(count * each)
