"""Training a world model: transitions of a store -> samples -> fit -> fidelity on tasks that were set aside.

Each phase leaves its result in a folder of a run directory before the next begins, so that training goes on where it
was killed. The objective is any that learns from samples; the model any causal language model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, field_validator

from palaestra.agents.forest import Forest
from palaestra.agents.policy import Policy, Sampling
from palaestra.agents.progress import Shown
from palaestra.envs import BadInput, TextEnv, find
from palaestra.trainers.live import Live
from palaestra.trainers.objective import CrossEntropy, FitReport, Objective, fit, objective_of
from palaestra.trainers.rundir import RunDir
from palaestra.trainers.sample import Sample
from palaestra.worldmodel import compared
from palaestra.worldmodel.fidelity import Fidelity, fidelity
from palaestra.worldmodel.loading import CARD, FIDELITY, WorldCard, load_world, model_policy, read_card, template_of
from palaestra.worldmodel.page import PageFormat
from palaestra.worldmodel.samples import rationales, samples_of
from palaestra.worldmodel.transitions import (
    NoTransitions,
    Transition,
    again,
    balanced,
    gather,
    packed,
    played_with,
    read,
    set_aside,
)


class WorldConfig(BaseModel):
    """What a world model learns and how.

    Attributes:
        page: what it is shown and what it writes.
        per_start, per_kind: transitions of one task, and of one kind of action, at the most; None takes all. The
            defaults are the paper's.
        even_ends: pages of an action that ended some episodes and not others are learnt as often with the end as
            without: the rarer ones are repeated, up to ten times in all. The paper balances by task and kind of action
            alone, so that ends stay as rare as they are.
        judge: it also learns to judge: to say the worth of a page. Without, it judges as it did before it was trained.
        worth: what that is: what hindsight knows (1 solved, half the final score on the way), which hardly depends on
            the last action; or the environment's own score there, which does where scores grow on the way.
        held_out: share of the training tasks that is set aside to measure on.
        max_tokens: tokens of a page at the most; temperature: of its sampling.
        horizons: steps that the fidelity is measured for; trust: least similarity of a trusted step.
        objective: what is minimised, by its `kind`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    page: PageFormat = PageFormat()
    per_start: int | None = Field(default=20, ge=1)
    per_kind: int | None = Field(default=50, ge=1)
    even_ends: bool = False
    judge: bool = True
    worth: Literal["hindsight", "score"] = "hindsight"
    held_out: float = Field(default=0.2, ge=0.0, lt=1.0)
    max_tokens: int = Field(default=512, ge=8)
    temperature: float = Field(default=0.0, ge=0.0)
    horizons: int = Field(default=5, ge=1)
    trust: float = Field(default=0.5, ge=0.0, le=1.0)
    objective: SerializeAsAny[Objective] = CrossEntropy()

    @field_validator("objective", mode="before")
    @classmethod
    def _by_kind(cls, value: object) -> object:
        return objective_of(value) if isinstance(value, Mapping) else value

    @field_validator("objective")
    @classmethod
    def _of_samples(cls, value: Objective) -> Objective:
        if value.learns_from is not Sample:
            raise ValueError(f"kind {value.kind!r} learns from {value.learns_from.__name__} data, not from pages")
        return value


class TrainConfig(WorldConfig):
    """A world model that is trained by itself.

    Attributes:
        env, env_settings: the real environment.
        store: the run directory or the episode store to learn from.
        model: the start model. With `page.rationale` it writes the thought of each transition too, as in the paper.
        seed: all randomness follows from it.
    """

    env: str
    env_settings: dict[str, Any] = Field(default_factory=dict)
    store: str
    model: str = "smollm2-135m"
    seed: int = Field(default=0, ge=0)


class Learnt(BaseModel):
    """What the fit of a world model did.

    Attributes:
        base, model: what it began with, and its folder inside the run directory.
        transitions, judgements: that it learnt from. report: of the fit.
        elsewhere: episodes of the store that were left out, since they were played with other settings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str
    model: str
    transitions: int
    judgements: int
    report: FitReport
    elsewhere: int = 0


def train_world(
    config: TrainConfig,
    out: str | Path,
    *,
    command: str | None = None,
    fitting: Callable[[str, int, int, float], None] | None = None,
    progress: Shown = "quiet",
) -> Fidelity | None:
    """Train a world model, or go on with it: the weights are in `out`/model, the report in `out`/fidelity.json.

    Returns:
        The fidelity on tasks that were set aside; None where none were.

    Raises:
        BadInput: no store, a store without transitions of this environment or with none that was played with these
            settings, or an unknown model; before training.
    """
    from palaestra.agents.models import resolve
    from palaestra.agents.store import EpisodeStore
    from palaestra.envs import make
    from palaestra.trainers.evaluate import training_splits

    spec = find(config.env)
    resolve(config.model)
    file = store_file(config.store)
    env = make(spec.id, **config.env_settings)
    try:
        with EpisodeStore(file, mode="r") as store:
            splits = training_splits(env)
            here, _ = played_with(store, spec.id, splits, env.settings)
            next(gather(store, spec.id, splits, episodes=here))  # told before anything is written
            with RunDir.open(out, "worldmodel", config, command=command) as run:
                live = Live(run.path, progress, fitting)
                learn(run, "", store, env, config, config.model, config.seed, fitting=live.fitted)
                return measure(run, "", store, env, config, config.seed, live)
    finally:
        env.close()


def learn(
    run: RunDir,
    folder: str,
    store: Forest,
    env: TextEnv[Any],
    config: WorldConfig,
    base: str,
    seed: int,
    *,
    episodes: Sequence[str] | None = None,
    fitting: Callable[[str, int, int, float], None] | None = None,
    policy: Policy | None = None,
) -> Learnt:
    """The phases up to the weights, in `folder` of a run: transitions, samples, model, card.

    Args:
        episodes: learn from these only, by id, and from all of them; None are those that were played with the settings
            of `env`. policy: writes the rationales; the base model by default.

    Raises:
        BadInput: no transitions, or none that is left to learn from.
    """
    from palaestra.trainers.evaluate import training_splits

    place = Path(folder)
    assert env.registration is not None
    splits, env_id = training_splits(env), env.registration.id
    must_list(env, config.page)
    if not run.has(str(place / "fit.json")):
        elsewhere = 0
        if episodes is None:
            episodes, elsewhere = played_with(store, env_id, splits, env.settings)
        if elsewhere:
            run.log("episodes of other settings are left out", folder=folder, count=elsewhere)
        if not run.has(str(place / "transitions.jsonl.gz")):
            found = gather(store, env_id, splits, env=env, page=config.page, episodes=episodes)
            known = [t for t in found if t.actions is not None or not config.page.actions]
            if not known:
                raise BadInput(
                    f"{env_id} as it is made here lists the actions of no recorded page: the episodes do not replay "
                    "in it (other settings, another version?), or end at its step limit; set page.actions to 0"
                )
            kept = (t for t in known if not set_aside(t.task, config.held_out, seed))
            chosen = balanced(kept, per_start=config.per_start, per_kind=config.per_kind, seed=seed)
            if not chosen:
                raise BadInput("all transitions are of tasks that were set aside; collect more, or lower 'held_out'")
            if config.page.rationale:
                thinks = policy or model_policy(base, Sampling(temperature=0.0, max_tokens=64))
                chosen = rationales(chosen, thinks, config.page)
                run.log("rationales", folder=folder, without=sum(not t.thought for t in chosen))
            run.write(str(place / "transitions.jsonl.gz"), packed(chosen))
            run.log("transitions", folder=folder, count=len(chosen))
        chosen = read(run.path / place / "transitions.jsonl.gz")
        told = {t.task.id: env.instructions(t.task) for t in chosen}
        samples = samples_of(chosen, config, template_of(base), told)
        if config.even_ends:  # only the pages once more: the judge sees in a page whether the episode is over
            samples += samples_of(again(chosen), config.model_copy(update={"judge": False}), template_of(base), told)
        name = f"{Path(base).name}-world" + (f"-{place.name}" if folder else "")
        report = fit(
            base,
            samples,
            config.objective,
            run.path / place / "model",
            seed=seed,
            splits=splits,
            name=name,
            progress=(lambda step, steps, loss: fitting(name, step, steps, loss)) if fitting else None,
        )
        # of a world model that learns on, the tasks of its earlier lives too: it is measured on none of them
        began = Path(base).expanduser()
        before = read_card(began).tasks if (began / CARD).is_file() else ()
        card = WorldCard(
            env=env_id,
            env_settings=dict(env.settings),
            env_fingerprint=env.fingerprint(),
            page=config.page,
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            judges=config.judge,
            transitions=len(chosen),
            tasks=tuple(dict.fromkeys([*before, *(t.task.id for t in chosen)])),
            seed=seed,
            held_out=config.held_out,
        )
        run.save(str(place / "model" / CARD), card)
        made = Learnt(
            base=base,
            model=str(place / "model"),
            transitions=len(chosen),
            judgements=sum(sample.kind == "judgement" for sample in samples),
            report=report,
            elsewhere=elsewhere,
        )
        run.save(str(place / "fit.json"), made)
        run.log("world model", folder=folder, seconds=round(report.seconds, 1), version=report.version)
    return run.load(str(place / "fit.json"), Learnt)


def measure(
    run: RunDir,
    folder: str,
    store: Forest,
    env: TextEnv[Any],
    config: WorldConfig,
    seed: int,
    progress: Shown = "quiet",
    *,
    episodes: Collection[str] | None = None,
    splits: Collection[str] | None = None,
) -> Fidelity | None:
    """The phase of the fidelity, on the training tasks that were set aside. None where there is no episode of any.

    Tasks of other splits, such as the evaluations of the run whose store this is, are left alone: what is chosen by the
    fidelity (how many steps to imagine) is chosen without the tasks that success is measured on.

    Args:
        episodes: see `held_out_episodes`.
        splits: measure on these instead, of whose tasks success is measured on none.
    """
    from palaestra.trainers.evaluate import training_splits

    file = str(Path(folder) / FIDELITY)
    if not run.has(file):
        model = run.path / folder / "model"
        aside = (store, env, read_card(model), config.page, splits or training_splits(env))
        found = held_out_episodes(*aside, episodes=episodes) if config.held_out or splits else []
        if not found:
            run.log("no held-out episodes", folder=folder)
            return None
        assert env.registration is not None
        pages: list[compared.Compared] = []
        report = fidelity(
            load_world(str(model)),
            found,
            {steps[0].task.id: env.instructions(steps[0].task) for steps in found},
            env=env.registration.id,
            env_fingerprint=env.fingerprint(),
            told=pages.append,
            horizons=config.horizons,
            trust=config.trust,
            seed=seed,
            progress=progress,
        )
        run.write(str(Path(folder) / compared.PAGES), compared.packed(pages))
        run.save(str(Path(folder) / "model" / FIDELITY), report)
        run.save(file, report)
        run.log("fidelity", folder=folder, trusted=report.trusted)
    return run.load(file, Fidelity)


def must_list(env: TextEnv[Any], page: PageFormat, name: str = "page.actions") -> None:
    """Raises BadInput where a world model is to write admissible actions and the environment lists none.

    Args:
        name: of that setting.
    """
    if page.actions and not env.lists_actions:
        assert env.registration is not None
        raise BadInput(
            f"{env.registration.id} does not list its admissible actions, so none can be learnt; set {name} to 0"
        )


def held_out_episodes(
    store: Forest,
    env: TextEnv[Any],
    card: WorldCard,
    page: PageFormat,
    splits: Collection[str] | None = None,
    *,
    episodes: Collection[str] | None = None,
) -> list[list[Transition]]:
    """The real episodes of a store in tasks that a world model did not learn from, as their transitions.

    In the training split only tasks that were set aside count, or where none were all that it did not learn from; of
    another split all do.

    Args:
        splits: of these splits only.
        episodes: of these only, by id; None are those that were played with the settings of the world model.

    Raises:
        BadInput: the store is damaged, or all its episodes were played with other settings.
    """
    from palaestra.trainers.evaluate import training_splits

    assert env.registration is not None
    trained, learnt = training_splits(env), set(card.tasks)
    name, wanted = env.registration.id, splits or env.splits()
    try:
        if episodes is None:
            episodes, _ = played_with(store, name, wanted, card.env_settings)
        found = list(gather(store, name, wanted, env=env, page=page, episodes=episodes))
    except NoTransitions:
        return []
    kept = [
        t
        for t in found
        if t.task.id not in learnt
        and (t.task.split not in trained or not card.held_out or set_aside(t.task, card.held_out, card.seed))
    ]
    kept.sort(key=lambda t: (t.task.id, t.episode, t.step))  # not by when the episodes happened to end
    return [list(steps) for _, steps in groupby(kept, key=lambda t: t.episode)]


def store_file(name: str) -> Path:
    """The episode store of a run directory, or the file itself. Raises BadInput where there is none."""
    place = Path(name).expanduser()
    try:
        file = place / "episodes.sqlite" if place.is_dir() else place
        found = file.is_file()
    except OSError as error:  # a name too long, a folder that may not be read
        raise BadInput(f"episode store {name!r:.80}: {error.strerror}; name a run directory or a store") from error
    if not found:
        raise BadInput(f"{name} is neither an episode store nor a run directory with one")
    return file
