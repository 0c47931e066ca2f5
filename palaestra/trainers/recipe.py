"""The loop of every method: collect -> mine -> fit -> evaluate, repeated. A method says only what is its own.

    class Mine(Recipe[MyConfig]):
        name, config_type = "mine", MyConfig
        def beginnings(self):         ...    # where rollouts begin: every training task, unless a method says more
        def mine(self, iteration):    ...    # what they teach
        def base(self, iteration):    ...    # from which weights to fit

Each phase writes its result into the run directory (`rundir`) before the next starts. Going on in a directory skips the
phases whose results are there; seeds follow from the configuration, so a run that was killed ends as an undisturbed
one.
"""

from __future__ import annotations

import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic

from pydantic import BaseModel

from palaestra.agents import episode as episodes
from palaestra.agents.collect import collect, planned_keys
from palaestra.agents.episode import Start
from palaestra.agents.progress import Shown, under
from palaestra.agents.ray_cluster import RayCluster
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, Task, TextEnv, find, make
from palaestra.trainers.acting import Acting
from palaestra.trainers.config import C, RecipeConfig
from palaestra.trainers.evaluate import (
    Evaluation,
    choose_tasks,
    evaluate,
    measured,
    training_splits,
    usual_split,
    with_protocol,
)
from palaestra.trainers.experts import gather
from palaestra.trainers.live import Live
from palaestra.trainers.objective import Objective
from palaestra.trainers.objective import Progress as FitProgress
from palaestra.trainers.phases import Collected, Fitted, Plan
from palaestra.trainers.recovery import recover
from palaestra.trainers.rewinding import must_rewind
from palaestra.trainers.rundir import RunDir, read_record
from palaestra.trainers.sample import Sample, sample_of
from palaestra.trainers.scalars import log_wandb, write_events
from palaestra.trainers.shared import SharedStore, common_of, fit_once


@dataclass(frozen=True)
class Afterwards:
    """What a recipe does besides its iterations.

    Attributes:
        measured: evaluations. fits: of the policy; models: of other models, which all stay.
        episodes: imagined or played on top of the budget, at the most; told: in words.
    """

    measured: int = 0
    fits: int = 0
    models: int = 0
    episodes: int = 0
    told: str = ""


class Recipe(ABC, Generic[C]):
    """Base of all methods.

    Args:
        config: what to do.
        out: the run directory.
        concurrency: episodes at once; changes speed only.
        progress: how collecting is shown.
        fitting: called after every optimiser step with (phase's name, steps done, steps in all, loss).
        command: how the run was started, for the records.
        env_factory: makes an environment from its id, in place of `palaestra.make` with the settings.
        shared: a folder of what is made once for all runs that are compared under one seed (see `shared`).
        ray: where the environments live, if not on this machine. The model stays here, or where its servers are
            (`config.engine`): its weights change with every iteration.

    Attributes:
        run: the run directory, while `train` runs.
        store: all episodes.
        tasks: the training tasks.
        acting: makes policies of the run's weights.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[RecipeConfig]]
    growable: ClassVar[Collection[str]] = ("budget", "iterations")
    inside: bool = False
    """Do its rollouts begin inside earlier episodes."""
    decisive: ClassVar[Collection[str]] = ()
    """Keys of its own that decide how an episode of a given key comes to be (see `shared.common_of`)."""

    run: RunDir
    store: EpisodeStore

    def __init__(
        self,
        config: C,
        out: str | Path,
        *,
        concurrency: int = 16,
        progress: Shown = "auto",
        fitting: Callable[[str, int, int, float], None] | None = None,
        command: str | None = None,
        env_factory: Callable[[str], TextEnv[Any]] | None = None,
        shared: Path | None = None,
        ray: RayCluster | None = None,
    ) -> None:
        self.config, self.out, self.shared = config, Path(out), shared
        self.concurrency, self.progress, self.fitting = concurrency, progress, fitting
        self.command, self.env_factory, self.ray = command, env_factory, ray
        if ray is not None and ray.replicas:
            raise BadInput("ray: replicas hold one model, and training makes new ones; use servers (engine=http://...)")
        self.spec = find(config.env)
        self.env_settings = with_protocol(self.spec, config.env_settings, config.protocol)
        self.env = self._made()
        self.splits = training_splits(self.env)
        split = self.splits[0]
        self.tasks: list[Task] = choose_tasks(self.env.tasks(split), config.tasks, f"split {split!r} of {self.spec.id}")
        self.measured = measured(self.spec, self.env, config.env_settings, env_factory)
        self.measured.check(config.evaluation.split)
        if config.experts is not None:
            config.experts.check(self.spec)
        self._stage = ""  # what the progress says before the name of what is collected
        self.acting = Acting(config.model, engine=config.engine, constrain=config.constrain, concurrency=concurrency)

    # -- what a method writes ----------------------------------------------------------------------------------------

    def beginnings(self) -> Sequence[Start]:
        """Where rollouts can begin, each once; the same in every iteration."""
        return [Start(task=task) for task in self.tasks]

    def starts(self, iteration: int, rollouts: int) -> Sequence[tuple[Start, int]]:
        """Where this iteration's rollouts begin, and how many from each: `rollouts` in all.

        Every beginning as often as the others, give or take one. Where there are fewer rollouts than beginnings, an
        iteration goes on with those after the ones of the iteration before.
        """
        beginnings = self.beginnings()
        first = self._plan(iteration).before % len(beginnings)
        order = [*beginnings[first:], *beginnings[:first]]
        each, more = divmod(rollouts, len(order))
        counts = [each + (place < more) for place in range(len(order))]
        return [(start, wanted) for start, wanted in zip(order, counts, strict=True) if wanted]

    @property
    def iterations(self) -> int:
        """Rounds of collect -> mine -> fit after the experts' round."""
        return self.config.iterations

    def share(self, number: int, left: int) -> int:
        """Rollouts of an iteration of those that are left: evenly over the iterations that are left."""
        return -(-left // (self.iterations - number + 1))

    def measures(self, number: int, *, last: bool) -> bool:
        """Are an iteration's weights measured on held-out tasks. The last ones always are."""
        return self.config.evaluation.between or number == 0 or last

    def last(self, number: int) -> bool:
        """Does an iteration spend what is left of the budget."""
        plan = self._plan(number)
        return number == self.iterations or plan.before + plan.rollouts == self.config.budget

    @abstractmethod
    def mine(self, iteration: int) -> Sequence[BaseModel]:
        """What is learnt in this iteration (0: from the experts), from stored episodes of the iterations so far:
        samples, or what else the iteration's objective learns from."""

    def afterwards(self) -> Afterwards:
        """What `finish` will do, for the plan."""
        return Afterwards()

    def finish(self) -> None:
        """What comes after the iterations: nothing, unless a method says otherwise."""

    def base(self, iteration: int) -> str:
        """The model that this iteration's fit begins with: pi_0 unless a method says otherwise."""
        return self.config.model

    def unlearnt(self, number: int) -> str:
        """The weights after an iteration that has nothing to learn: those before it unless a method says otherwise."""
        return self.model(number - 1)

    def objective(self, iteration: int) -> Objective:
        """What this iteration's fit minimises: the configured objective unless a method says otherwise."""
        return self.config.objective

    # -- what a method uses ------------------------------------------------------------------------------------------

    def experts(self) -> list[str]:
        """Ids of the expert episodes; empty without experts."""
        return list(self.collected(0).episodes) if self.config.experts is not None else []

    def cloned(self) -> list[Sample]:
        """What the successful experts teach."""
        won = [self.store.path(id) for id in self.experts() if self.store.head(id).success]
        return [sample for path in won for sample in self.samples_of(path, kind="expert")]

    def collecting(self) -> dict[str, Any]:
        """The arguments of `collect` that all of this run's collecting shares."""
        return {
            "env_settings": self.env_settings,
            "conversation": self.config.conversation,
            "concurrency": self.concurrency,
            "recipe": self.name,
            "progress": under(self.progress, self._stage, "collect"),
            "seed": self.config.seed,
            "env_factory": self.env_factory,
            "cluster": self.ray,
        }

    def collected(self, iteration: int) -> Collected:
        """What an iteration collected."""
        return self.run.load(f"iteration-{iteration}/collected.json", Collected)

    def model(self, iteration: int) -> str:
        """The weights after an iteration; -1, or 0 without experts, is the start model."""
        for earlier in range(iteration, -1, -1):
            if self.run.has(f"iteration-{earlier}/fit.json"):
                found = self.run.load(f"iteration-{earlier}/fit.json", Fitted).model
                return str(self.run.path / found) if found else self.config.model
        return self.config.model

    def samples_of(
        self,
        path: episodes.Path,
        train: Collection[int] | Mapping[int, float] | None = None,
        *,
        kind: str = "positive",
        weight: float = 1.0,
        logprobs: bool = False,
    ) -> list[Sample]:
        """What a path teaches (see `sample_of`), with this run's conversation, template and training splits."""
        return sample_of(
            path,
            self.config.conversation,
            self.acting.template,
            self.env.instructions(path.episode.start.task),
            train,
            kind=kind,
            weight=weight,
            splits=self.splits,
            logprobs=logprobs,
        )

    # -- the loop ----------------------------------------------------------------------------------------------------

    def train(self) -> Path:
        """Run, or go on with, the whole loop.

        Returns:
            The path of `report.html`.

        Raises:
            BadInput: the directory, the configuration or an input cannot be used. TooManyFaults, Interrupted: see
                `collect`; running again goes on.
        """
        self.check()
        with self._opened():
            if self.config.experts is not None:
                self._stage = "cloned experts"
                self._collect(0)  # before the start model plays: a file may hold nothing that replays
            self._stage = "start model"
            self._evaluate(-1, "start model")
            if self.config.experts is not None:
                self._iteration(0, "cloned experts")
            for number in range(1, self.iterations + 1):
                if self._plan(number).rollouts == 0:
                    break
                self._iteration(number, f"iteration {number}")
            self.finish()
            self._recover()
            from palaestra.trainers.report import write_report

            path = write_report(self.run.path)
            write_events(self.run.path)
            log_wandb(self.run.path)
            self.run.log("done", report=str(path))
            return path

    def check(self, *, template: bool = True) -> None:
        """Refuse what cannot be run, before anything is written or computed.

        Args:
            template: look at the start model's chat template, too, which may take its weights into memory.

        Raises:
            BadInput: no such model, a budget that nothing is left to spend, an environment that cannot go back where
                the method needs it, a template that cannot be token-exact, an experts file without a usable record, an
                objective for data of another kind.
        """
        from palaestra.agents.models import resolve

        resolve(self.config.model)
        given = self.config.objective
        if given.learns_from is not Sample:  # every method may clone experts, which are samples
            raise BadInput(
                f"objective.kind {given.kind!r} learns from {given.learns_from.__name__} data, and {self.name} gives "
                "it samples; leave it out (eto learns preferences)"
            )
        self._grown()
        self._must_rewind()
        if (self.out / "run.json").exists():
            return
        if self.config.experts is not None:
            self.config.experts.check_records(self.spec, self.env, self.splits, self.config.conversation)
        if template:
            _ = self.acting.template

    def check_seed(self) -> None:
        """Refuse what one seed rules out and another does not. `check` asks of its own, a comparison of all. Raises
        BadInput."""

    def _must_rewind(self) -> None:
        """Refuse what begins inside earlier episodes where the environment cannot go back."""
        plan = self.config.evaluation
        if self.inside:
            must_rewind(self._made, lambda env: self.tasks[0], self.name)
        if plan.recovery or plan.improve:
            must_rewind(
                lambda: self.measured.made(self.config.protocol),
                lambda env: env.tasks(plan.split or usual_split(env))[0],
                "evaluation.recovery" if plan.recovery else "evaluation.improve",
            )

    def _made(self) -> TextEnv[Any]:
        return self.env_factory(self.spec.id) if self.env_factory else make(self.spec.id, **self.env_settings)

    def _iteration(self, number: int, label: str) -> None:
        folder = f"iteration-{number}"
        self._stage = f"iteration {number} of {self.iterations}" if 1 <= number <= self.iterations else label
        self._collect(number)
        if not self.run.has(f"{folder}/samples.jsonl.gz"):
            mined = self.mine(number)
            self.run.save_samples(f"{folder}/samples.jsonl.gz", mined)
            self.run.log("mined", iteration=number, samples=len(mined))
        if not self.run.has(f"{folder}/fit.json"):
            self._fit(number)
        if self.measures(number, last=number > 0 and self.last(number)):
            self._evaluate(number, label)

    @contextmanager
    def _opened(self) -> Iterator[None]:
        with (
            nullcontext() if self.ray is None else self.ray.joined(),
            RunDir.open(self.out, self.name, self.config, growable=self.growable, command=self.command) as self.run,
            self._store() as self.store,
        ):
            live = Live(self.run.path, self.progress, self.fitting)
            self.progress, self.fitting = live, live.fitted
            try:
                yield
            finally:
                self.progress, self.fitting = live.shown, live.fitting
                self.acting.close()
                self.env.close()

    def _store(self) -> EpisodeStore:
        file = self.run.path / "episodes.sqlite"
        if self.shared is None or self.env_factory is not None:
            return EpisodeStore(file)
        return SharedStore(file, self.shared / "episodes" / f"{common_of(self.config, self.decisive)}.sqlite")

    def _plan(self, number: int) -> Plan:
        """Rollouts of an iteration, and of all before it."""
        file = f"iteration-{number}/plan.json"
        if self.run.has(file):
            return self.run.load(file, Plan)
        earlier = self._plan(number - 1) if number > 1 else Plan(rollouts=0, before=0)
        before = earlier.before + earlier.rollouts
        config = self.config
        left = max(0, config.budget - before) if config.budget is not None else None
        if config.samples is not None:
            rollouts = config.samples * len(self.beginnings())
            rollouts = min(rollouts, left) if left is not None else rollouts
        else:
            assert left is not None
            rollouts = self.share(number, left)
        plan = Plan(rollouts=rollouts, before=before)
        if rollouts:
            self.run.save(file, plan)
        return plan

    def _grown(self) -> None:
        """Refuse a larger budget that no iteration is left to spend."""
        last, budget = self.iterations, self.config.budget
        file = self.out / f"iteration-{last}" / "plan.json"
        if budget is None or self.config.samples is not None or not file.is_file():
            return
        plan = read_record(file, Plan)
        over = budget - plan.before - plan.rollouts
        if over > 0:
            raise BadInput(
                f"{self.out} has shared out its budget over {last} iterations; to spend {over} more rollouts raise "
                "'iterations' as well"
            )

    # -- phases ------------------------------------------------------------------------------------------------------

    def _collect(self, number: int) -> None:
        if self.run.has(f"iteration-{number}/collected.json"):
            return
        self.run.log("collect", iteration=number)
        faults, began = self.store.n_faults, time.monotonic()
        if number == 0:
            assert self.config.experts is not None
            ids = gather(
                self.config.experts,
                self.spec,
                self.tasks,
                self.store,
                env=self.env,
                splits=self.splits,
                env_settings=self.env_settings,
                conversation=self.config.conversation,
                sampling=self.config.sampling,
                recipe="experts",  # a flawed oracle slips where the key says, so that all methods have the same experts
                seed=self.config.seed,
                concurrency=self.concurrency,
                progress=under(self.progress, "experts"),
                env_factory=self.env_factory,
                cluster=self.ray,
                left_out=self._left_out,
            )
        else:
            ids = self.rollouts(number)
        won = sum(self.store.head(id).success for id in ids)
        minutes = (time.monotonic() - began) / 60
        faults, judged = self.store.n_faults - faults, self._judged(ids)
        record = Collected(episodes=tuple(ids), successes=won, faults=faults, minutes=minutes, judged=judged)
        self.run.save(f"iteration-{number}/collected.json", record)
        self.run.log("collected", iteration=number, episodes=len(ids), successes=won, faults=record.faults)

    def _judged(self, ids: Sequence[str]) -> bool:
        """Is it a judge's word which of these succeeded. One world imagines all of them."""
        imagined = next((id for id in ids if self.store.head(id).actor is episodes.Actor.IMAGINED), None)
        return imagined is not None and self.store.get(imagined).judged

    def _left_out(self, wrong: Sequence[str]) -> None:
        """List the expert records that cannot be used."""
        lines = "".join(json.dumps({"problem": line}, ensure_ascii=False) + "\n" for line in wrong)
        file = self.run.write("iteration-0/left-out.jsonl", lines.encode("utf-8", "backslashreplace"))
        self.run.log("left out", records=len(wrong), file=str(file))
        if not isinstance(self.progress, Live) or self.progress.shown != "quiet":
            print(f"{len(wrong)} expert records cannot be used and are left out: {file}", file=sys.stderr)

    def rollouts(self, number: int) -> list[str]:
        """Make an iteration's rollouts; their ids in an order that depends on the plan alone."""
        policy = self.acting.policy(self.model(number - 1), self.config.sampling)
        plan = list(self.starts(number, self._plan(number).rollouts))
        if plan:
            starts, counts = zip(*plan, strict=True)
            collect(starts, policy, self.store, samples=counts, iteration=number, **self.collecting())
        keys = planned_keys(plan, policy, recipe=self.name, iteration=number)
        return [episodes.episode_id(key) for key in keys if self.store.has(key)]

    def _fit(self, number: int) -> None:
        folder = f"iteration-{number}"
        objective = self.objective(number)
        data = self.run.load_samples(f"{folder}/samples.jsonl.gz", objective.learns_from)
        if not data:
            before = Path(self.unlearnt(number))
            kept = str(before.relative_to(self.run.path)) if before.is_relative_to(self.run.path) else ""
            self.run.log("nothing to learn", iteration=number)
            self.run.save(f"{folder}/fit.json", Fitted(base="", model=kept, samples=0, report=None))
            return
        base = self.base(number)
        self.acting.release()
        self.run.log("fit", iteration=number, base=base, samples=len(data))
        method = self.name if number else "experts"  # clones of the same experts are one policy, whoever made them
        report = fit_once(
            self.shared / "fits" if self.shared is not None else None,
            base,
            data,
            objective,
            self.run.path / folder / "model",
            seed=self.config.seed * 1000 + number,
            splits=self.splits,
            name=f"{Path(self.config.model).name}-{method}-{number}",
            progress=self._fit_progress(folder),
        )
        self.run.save(
            f"{folder}/fit.json", Fitted(base=base, model=f"{folder}/model", samples=len(data), report=report)
        )
        self.run.log("fitted", iteration=number, seconds=round(report.seconds, 1), version=report.version)

    def _fit_progress(self, name: str) -> FitProgress | None:
        shown = self.fitting
        return None if shown is None else lambda step, steps, loss: shown(name, step, steps, loss)

    def _evaluate(self, number: int, label: str) -> None:
        file = f"iteration-{number}/evaluation.json" if number >= 0 else "start/evaluation.json"
        if self.run.has(file):
            return
        self.run.log("evaluate", model=self.model(number))
        evaluation = self.evaluation(number, label)
        self.run.save(file, evaluation)
        self.run.log("evaluated", label=label, success=evaluation.success.mean, score=evaluation.score.mean)
        write_events(self.run.path)

    def evaluation(self, number: int, label: str) -> Evaluation:
        """Measure the weights after an iteration (-1: the start model) on held-out tasks."""
        plan = self.config.evaluation
        return self.measure(self.model(number), label, plan.samples, plan.temperature)

    def measure(self, model: str, label: str, samples: int, temperature: float) -> Evaluation:
        """Measure a model on the held-out tasks of this run, with so many episodes a task."""
        plan = self.config.evaluation
        sampling = self.config.sampling.model_copy(update={"temperature": temperature})
        return evaluate(
            self.measured.spec.id,
            self.acting.policy(model, sampling),
            self.store,
            split=plan.split,
            tasks=list(plan.tasks) if isinstance(plan.tasks, tuple) else plan.tasks,
            samples=samples,
            protocol=self.config.protocol,
            env_settings=self.measured.settings,
            conversation=self.config.conversation,
            seed=self.config.seed,
            cluster=plan.cluster,
            improve=plan.improve,
            recall=plan.recall,
            label=label,
            concurrency=self.concurrency,
            progress=under(self.progress, self._stage),
            command=self.command,
            env_factory=self.measured.factory,
            ray=self.ray,
        )

    def _recover(self) -> None:
        """Measure the last weights where the start model failed, if that is asked for."""
        files = self.run.path.glob("iteration-*/evaluation.json")
        done = [int(file.parent.name.removeprefix("iteration-")) for file in files]
        last = max(done, default=-1)
        file = f"iteration-{last}/recovery.json" if done else "start/recovery.json"
        plan = self.config.evaluation
        if not plan.recovery or self.run.has(file):
            return
        self.run.log("recovery", model=self.model(last))
        measured = self.measured
        collecting = {
            **self.collecting(),
            "progress": under(self.progress, "recovery"),
            "env_settings": with_protocol(measured.spec, measured.settings, self.config.protocol),
            "env_factory": measured.factory,
        }
        ray = collecting.pop("cluster")
        before = self.run.load("start/evaluation.json", Evaluation)
        policy = self.acting.policy(
            self.model(last), self.config.sampling.model_copy(update={"temperature": plan.temperature})
        )
        self.run.save(file, recover(before, self.store, policy, cluster=plan.cluster, ray=ray, **collecting))
