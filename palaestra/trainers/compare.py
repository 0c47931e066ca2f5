"""Methods against one another: same tasks, same start model, equal rollouts, equal training tokens, several seeds.

Every (method, seed) is a run of its own in the comparison's directory, so a comparison goes on where it was killed.
What the runs of one seed have in common is made once (`shared`). The intervals draw tasks and seeds, both with
replacement: with three seeds the spread between seeds is part of the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from palaestra.agents.judge import Verdict
from palaestra.envs import BadInput
from palaestra.trainers.comparison import Bin, Standing, write
from palaestra.trainers.config import config_of
from palaestra.trainers.difficulty import BINS, binned
from palaestra.trainers.evaluate import Evaluation
from palaestra.trainers.exit import ExIt
from palaestra.trainers.grpo import Grades, Groups
from palaestra.trainers.methods import Contestant
from palaestra.trainers.phases import Reflection
from palaestra.trainers.recipe import Recipe
from palaestra.trainers.recovery import Recovery
from palaestra.trainers.report import rounds
from palaestra.trainers.rundir import read_record
from palaestra.trainers.statistics import Interval, Values, two_way


def compare_methods(
    contestants: Sequence[Contestant],
    settings: Mapping[str, Any],
    out: Path,
    *,
    seeds: Sequence[int],
    own: Mapping[str, Mapping[str, Any]] | None = None,
    run: Callable[[Recipe[Any]], object] = lambda recipe: recipe.train(),
    **rest: Any,
) -> list[Standing]:
    """Run all methods under all seeds, or go on with it, and write `comparison.md`, `.html` and `.json`.

    They are written whenever all methods have finished another seed, of the seeds so far.

    Args:
        contestants: the first one is the reference of the paired differences.
        settings: of all: env, model, tasks, budget, experts, objective (give it `tokens`), evaluation, ...
        out: directory of the comparison.
        seeds: each is a run of each method.
        own: further settings by method's name, over those of all, key by key in groups too.
        run: trains a recipe. rest: arguments of every recipe (concurrency, progress; `shared`: None to share nothing).

    Returns:
        One standing a method, in order.

    Raises:
        BadInput: fewer than two methods, no `budget`, no `objective.tokens`, a setting that the comparison makes
            itself, or what a method itself refuses (see `Recipe.check`); before any method has begun.
    """
    own = own or {}
    recipes = recipes_of(contestants, settings, out, seeds, own, rest)
    _check([recipes[each.name, seed] for seed in seeds for each in contestants], seeds[0])
    ends: dict[str, dict[int, Path]] = {each.name: {} for each in contestants}
    standings: list[Standing] = []
    for seed in seeds:
        for each in contestants:
            run(recipes[each.name, seed])
            ends[each.name][seed] = recipes[each.name, seed].out
        standings = [_told(standing, own.get(standing.method, {})) for standing in standings_of(contestants, ends)]
        write(out, standings)
    return standings


def _check(recipes: Sequence[Recipe[Any]], first: int) -> None:
    """Have those that were never begun look at what they were given, before any of them begins. Raises BadInput.

    Args:
        first: a seed; what differs from seed to seed alone is looked at of the others.
    """
    models: set[str] = set()
    for recipe in recipes:
        if (recipe.out / "run.json").exists():
            continue
        if recipe.config.seed != first:
            recipe.check_seed()
        else:
            recipe.check(template=recipe.config.model not in models)
            recipe.acting.release()
            models.add(recipe.config.model)


def standings_of(contestants: Sequence[Contestant], ends: Mapping[str, Mapping[int, Path]]) -> list[Standing]:
    """The table of runs that have finished.

    Args:
        contestants: the first one is the reference.
        ends: of each contestant's name, the run of each seed; the same seeds for all.

    Raises:
        BadInput: a run is damaged or not finished, or two of them measured different things.
    """
    first = {seed: rounds(path) for seed, path in ends[contestants[0].name].items()}
    start = {seed: done[0].evaluation for seed, done in first.items()}
    reference = {seed: done[-1].evaluation for seed, done in first.items()}
    return [
        _standing(each, ends[each.name], start, reference if place else None) for place, each in enumerate(contestants)
    ]


def recipes_of(
    contestants: Sequence[Contestant],
    settings: Mapping[str, Any],
    out: Path,
    seeds: Sequence[int],
    own: Mapping[str, Mapping[str, Any]],
    rest: Mapping[str, Any],
) -> dict[tuple[str, int], Recipe[Any]]:
    """The run of every contestant and seed, none of them begun. Raises BadInput: see `compare_methods`."""
    if len(contestants) < 2 or len({each.name for each in contestants}) < len(contestants):
        raise BadInput("a comparison needs at least two different methods")
    if settings.get("budget") is None or settings.get("samples") is not None:
        raise BadInput("a comparison is at equal rollouts: give 'budget', not 'samples'")
    if type(settings["budget"]) is not int or settings["budget"] < 1:
        raise BadInput(f"budget is a number of rollouts, 1 or more, got {settings['budget']!r}")
    if not objective_given(settings).get("tokens"):
        raise BadInput("a comparison is at equal training tokens: give 'objective.tokens' (ids of each fit)")
    if settings.get("seed") is not None:
        raise BadInput("a comparison has seeds of its own (how many: --seeds): leave out 'seed'")
    for each in contestants:
        _alike(each, settings, own.get(each.name, {}))
    recipes: dict[tuple[str, int], Recipe[Any]] = {}
    for seed in seeds:
        for each in contestants:
            budget = max(1 if each.share else 0, round(settings["budget"] * each.share))
            whole = {**_over(settings, own.get(each.name, {})), **each.fixed, "budget": budget, "seed": seed}
            config = config_of(each.recipe.config_type, whole)
            shared = {"shared": out / f"shared-{seed}", **rest}
            recipes[each.name, seed] = each.recipe(config, out / f"{each.name}-{seed}", **shared)
    _same_clones([(each.name, recipes[each.name, seeds[0]].config) for each in contestants])
    return recipes


def _same_clones(of: Sequence[tuple[str, Any]]) -> None:
    """Refuse what would have some clone other experts than the rest. Raises BadInput."""
    for key, usual in (("threshold", None), ("drop_invalid", False)):
        values = {name: getattr(config, key, usual) for name, config in of if config.experts is not None}
        if len(set(values.values())) > 1:
            name = next(name for name, value in values.items() if value != usual)
            raise BadInput(
                f"{name}.{key} holds for the experts too, and all clone the same ones in a comparison; leave it out"
            )


_SAME = ("env", "env_settings", "protocol", "model", "tasks", "samples", "experts", "iterations", "constrain")
"""What makes a comparison one of methods: nobody has these to themselves."""
_MEASURED = ("split", "tasks", "temperature", "recall")
"""Nor these, of how they are measured."""
_ANSWERED = ("max_tokens", "top_p")
"""Nor these, of how an answer is sampled, which hold where they are measured too."""


def _alike(each: Contestant, settings: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse what is not the same for all, or what a contestant is by its name. Raises BadInput."""
    if kept := {"budget", "seed", *each.fixed} & set(own):
        raise BadInput(f"{each.name}.{min(kept)}: the comparison sets this itself, so it cannot be given")
    if kept := {key for key in each.fixed if key in settings and settings[key] != each.fixed[key]}:
        key = min(kept)
        raise BadInput(f"{key}: {each.name} is this method with {key}={each.fixed[key]!r}; give it to others by name")
    measured = _group(settings, "evaluation", "samples=2")
    mine = _group(own, "evaluation", "samples=2", f"{each.name}.")
    apart = [key for key in _SAME if key in own and own[key] != settings.get(key)]
    apart += [f"evaluation.{key}" for key in _MEASURED if key in mine and mine[key] != measured.get(key)]
    for group, such in (("sampling", "temperature=1.0"), ("conversation", "max_observation=450")):
        of_all, given = _group(settings, group, such), _group(own, group, such, f"{each.name}.")
        wanted = _ANSWERED if group == "sampling" else given
        apart += [f"{group}.{key}" for key in wanted if key in given and given[key] != of_all.get(key)]
    tokens = _group(own, "objective", "tokens=200000", f"{each.name}.").get("tokens")
    if each.share and tokens is not None and tokens != objective_given(settings)["tokens"]:  # else it has one fit alone
        apart.append("objective.tokens")
    for group in ("policy", "preference"):
        for given, whose in ((settings, ""), (own, f"{each.name}.")):
            if _group(given, group, "learning_rate=1e-5", whose).get("tokens") is not None:
                raise BadInput(f"{whose}{group}.tokens follows from objective.tokens in a comparison; leave it out")
    if apart:
        raise BadInput(f"{each.name}.{apart[0]}: it is the same for all in a comparison; give it without a name")


def _told(standing: Standing, own: Mapping[str, Any]) -> Standing:
    """With a contestant's own settings in the line that says what it is."""
    said = ", ".join(f"{key}={value}" for key, value in _flat(own))
    return standing.model_copy(update={"what": f"{standing.what} ({said})"}) if said else standing


def _flat(settings: Mapping[str, Any], at: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in settings.items():
        found += _flat(value, f"{at}{key}.") if isinstance(value, Mapping) else [(f"{at}{key}", value)]
    return found


def objective_given(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the settings say of the objective. Raises BadInput where that is no group of keys."""
    return _group(settings, "objective", "tokens=200000")


def _group(settings: Mapping[str, Any], name: str, such: str, whose: str = "") -> Mapping[str, Any]:
    given = settings.get(name, {})
    if not isinstance(given, Mapping):
        raise BadInput(f"{whose}{name} is a group of keys, as in {whose}{name}.{such}, got {given!r}")
    return given


def _over(settings: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A method's own settings over those of all; of a group (`objective`) what is its own alone changes."""
    found = dict(settings)
    for key, value in own.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = _over(found[key], value) if both else value
    return found


def _standing(
    each: Contestant,
    runs: Mapping[int, Path],
    start: Mapping[int, Evaluation],
    reference: Mapping[int, Evaluation] | None,
) -> Standing:
    found = {seed: rounds(path) for seed, path in runs.items()}
    unopened = _unopened(list(runs.values())) if issubclass(each.recipe, ExIt) else ""
    last = {seed: done[-1].evaluation for seed, done in found.items()}
    fits = [one.fit for done in found.values() for one in done if one.fit]
    count = len(found)
    return Standing(
        method=each.name,
        what=each.what + unopened + _unlearnt(list(runs.values())),
        success=two_way({seed: _successes(e) for seed, e in last.items()}, (0.0, 1.0)),
        score=two_way({seed: {row.task: row.scores for row in e.tasks} for seed, e in last.items()}, (0.0, 1.0)),
        against=two_way(_differences(reference, last), (-1.0, 1.0)) if reference is not None else None,
        recovery=_recovery({seed: path / found[seed][-1].folder for seed, path in runs.items()}),
        bins=_bins(start, last),
        seeds=count,
        rollouts=sum(one.plan.rollouts for done in found.values() for one in done if one.plan) / count,
        seen_tokens=sum(fit.tokens_seen for fit in fits) / count,
        trained_tokens=sum(fit.tokens_trained for fit in fits) / count,
        model_calls=sum(_calls(path) + last[seed].calls for seed, path in runs.items()) / count,
    )


def _unopened(runs: Sequence[Path]) -> str:
    """What to say of ExIt that was GRPO in these runs, as no group began at its buffer; empty where one did."""
    files = [file for run in runs for file in run.glob("iteration-*/groups.json")]
    groups = [group for file in files for group in read_record(file, Groups).groups]
    if any(group.entry is not None for group in groups):
        return ""
    return f"; none of its {len(groups)} groups began at the buffer, so that this was grpo: give a lower 'minimum'"


def _unlearnt(runs: Sequence[Path]) -> str:
    """What to say of rounds that could teach nothing, as earlier ones had used up their ids; empty where none did."""
    grades = [read_record(file, Grades) for run in runs for file in run.glob("iteration-*/grades.json")]
    if late := sum(each.spent for each in grades):
        return f"; no ids were left for {late} of its {len(grades)} rounds: give more tokens, or fewer rounds"
    return ""


def _recovery(folders: Mapping[int, Path]) -> Interval | None:
    """Success where the start model failed, over tasks and seeds; None if it was not measured."""
    files = {seed: folder / "recovery.json" for seed, folder in folders.items()}
    if not all(file.is_file() for file in files.values()):
        return None
    rows = {seed: read_record(file, Recovery).tasks for seed, file in files.items()}
    values = {seed: {row.task: [float(won) for won in row.successes] for row in of} for seed, of in rows.items()}
    return two_way(values, (0.0, 1.0)) if any(found for of in values.values() for found in of.values()) else None


def _bins(start: Mapping[int, Evaluation], last: Mapping[int, Evaluation]) -> tuple[Bin, ...]:
    """Success by how often the start model solves a task, over all its episodes and seeds."""
    shares: dict[str, list[float]] = {}
    for evaluation in start.values():
        for task, won in _successes(evaluation).items():
            shares.setdefault(task, []).extend(won)
    of_seed = {seed: binned(shares, _successes(evaluation)) for seed, evaluation in last.items()}
    found = []
    for name in BINS:
        values = {seed: bins[name] for seed, bins in of_seed.items() if name in bins}
        if values:
            found.append(Bin(name=name, success=two_way(values, (0.0, 1.0))))
    return tuple(found)


def _calls(run: Path) -> int:
    """Model calls of a run's own rollouts and of Agent-R's judge: what evaluation asked is not among them."""
    from palaestra.agents.store import EpisodeStore

    judged = [read_record(file, Reflection).verdicts for file in run.glob("iteration-*/reflection.json")]
    with EpisodeStore(run / "episodes.sqlite", mode="r") as store:
        turns = sum(head.n_turns for head in store.heads(actor="policy") if head.iteration)
    return turns + sum(n for verdicts in judged for name, n in verdicts.items() if name != Verdict.UNANSWERED)


def _successes(evaluation: Evaluation) -> dict[str, list[float]]:
    return {row.task: [float(won) for won in row.successes] for row in evaluation.tasks}


def _differences(before: Mapping[int, Evaluation], after: Mapping[int, Evaluation]) -> Values:
    found: dict[int, dict[str, list[float]]] = {}
    for seed in after:
        differing = before[seed].card.comparable(after[seed].card)
        if differing and differing != ["samples"]:  # how often a task is answered decides how sure its mean is
            raise BadInput(f"runs of seed {seed} cannot be compared: their cards differ in {', '.join(differing)}")
        first, second = _successes(before[seed]), _successes(after[seed])
        both = [task for task in second if first.get(task) and second[task]]
        found[seed] = {task: [float(np.mean(second[task]) - np.mean(first[task]))] for task in both}
    return found
