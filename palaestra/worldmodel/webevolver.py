"""WebEvolver: policy and world model evolve together (Fang et al., arXiv 2504.21024).

    for i = 1..I:  roll out pi_i in the real environment; D_i = what won;  pi_{i+1} = SFT(pi_0, D_1 + ... + D_i)
                   M_i = SFT(pi_0, the transitions of all rollouts so far, the failed ones too)
    D_w: pi_2 plays the tasks that were never solved, in M_I; kept if the judge calls them solved
    pi_final = SFT(pi_0, D_1 + D_w)

What wins in the real environment is what it scores so (on the live web the paper needs a judge). Controls: `synthesis`
"untrained" imagines with a model that was never trained to (what the paper calls synthesis without a world
model), "real" plays in the real environment, "none" fits pi_final on D_1 alone; at equal training tokens with
`objective.tokens`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any, Literal

from pydantic import Field

from palaestra.agents.collect import collect, planned_keys
from palaestra.agents.episode import Episode, Start, episode_id
from palaestra.agents.policies.named import model_name
from palaestra.agents.policy import Policy, Sampling
from palaestra.envs import BadInput, Task
from palaestra.trainers.evaluate import choose_tasks
from palaestra.trainers.phases import Collected, Plan, Synthesis
from palaestra.trainers.recipe import Afterwards
from palaestra.trainers.rft import RFT, RFTConfig
from palaestra.trainers.sample import Sample, sample_of
from palaestra.worldmodel.env import CUT, ID, WorldModelEnv
from palaestra.worldmodel.judging import Judge, ModelJudge
from palaestra.worldmodel.loading import (
    CARD,
    judging_card,
    load_world,
    model_policy,
    read_card,
    template_of,
    untrained_world,
    world_folder,
)
from palaestra.worldmodel.training import WorldConfig, learn, measure, must_list
from palaestra.worldmodel.transitions import drawn, played_with, set_aside
from palaestra.worldmodel.world import RealWorld, World


class WebEvolverConfig(RFTConfig):
    """What is WebEvolver's own. RFT's options hold for imagined episodes, too, with `accept` in place of `threshold`;
    doubles among them stay.

    Attributes:
        iterations: the policy's rounds (the paper's 2); a last one is of synthesis.
        world: what the world model learns and how; its objective may differ from the policy's.
        world_model: the model, or the run, that world models begin with; None is the start model (the paper's). With
            `synthesis=untrained` no world model begins, and the start model imagines whatever is given here.
        synthesis: who imagines: the trained world model, an untrained one, the real environment behind the same
            interface (the upper limit; its steps come on top of the budget), or nobody.
        agent: after which round the policy plays in imagination (the paper's 1; 0 is the start model).
        steps: imagined steps an episode at the most (the paper's 7); None is as far as the world model can be trusted,
            and where that is not a single step nothing is imagined. The controls have no trained world model to ask and
            need a number: the same one as what they are compared with.
        imagined: imagined episodes of each task that was never solved.
        imagine_from: where they begin: on the task's first page (the paper's), or on a real page inside a failed
            episode of the task, drawn by the seed, so that only what comes after has to be imagined.
        temperature: of the policy in imagination.
        judge: who rates imagined episodes: `world`, the world model itself; `start`, the start model (the paper's); or
            the folder of another world model that judges. The real environment has its own score.
        judge_tokens: tokens of a judgement at the most; of a world model's never more than it writes a page in.
        accept: least judged score of an imagined episode that is learnt from.
        real: which real rounds the last fit learns from besides: the first (the paper), or all (not with data=latest).
    """

    iterations: int = Field(default=2, ge=1)
    world: WorldConfig = WorldConfig()
    world_model: str | None = None
    synthesis: Literal["world", "untrained", "real", "none"] = "world"
    agent: int = Field(default=1, ge=0)
    steps: int | None = Field(default=None, ge=1)
    imagined: int = Field(default=1, ge=1)
    imagine_from: Literal["start", "failed"] = "start"
    temperature: float = Field(default=0.7, ge=0.0)
    judge: str = "world"
    judge_tokens: int = Field(default=64, ge=8)
    accept: float = Field(default=1.0, ge=0.0, le=1.0)
    real: Literal["first", "all"] = "first"


class WebEvolver(RFT):
    """Policy and world model in turns, then synthesis."""

    name = "webevolver"
    config_type = WebEvolverConfig
    config: WebEvolverConfig
    growable = ()

    def check(self, *, template: bool = True) -> None:
        """Refuse what is refused of every method, and whatever the world models, who imagines and who judges would be
        refused for after a round was played. Raises BadInput."""
        from palaestra.agents.models import resolve

        config = self.config
        if config.world_model is not None:
            resolve(self._begins)
        if config.judge not in ("world", "start"):
            judging_card(config.judge, self.spec.id, self.env_settings)
        if config.synthesis in ("untrained", "real") and config.steps is None:
            raise BadInput(
                f"synthesis {config.synthesis!r} has no trained world model that says how far to imagine: set "
                "'steps' (the paper's 7), and the same for what it is compared with"
            )
        if config.real == "all" and config.data == "latest":
            raise BadInput(
                "real 'all' learns from all real rounds and data 'latest' from one; set one of them otherwise"
            )
        if config.synthesis != "none" and self.spec.imagined:
            raise BadInput(f"{self.spec.id} is imagined itself; a world model imagines a real environment")
        if config.synthesis in ("world", "untrained"):
            must_list(self.env, config.world.page, "world.page.actions")
        super().check(template=template)
        if (self.out / "run.json").exists():  # whatever it lacks cannot be changed any more
            return
        if config.agent > config.iterations:
            raise BadInput(f"agent {config.agent}: there are {config.iterations} rounds to have played in imagination")
        self.check_seed()
        if template and config.world_model is not None and config.synthesis == "world":
            template_of(self._begins)

    def check_seed(self) -> None:
        """Refuse world models without a task to learn from, or without two to be measured on where that decides.

        Experts of a file may bring tasks of their own, so nothing is known of theirs before they are read.
        """
        config = self.config
        if config.synthesis != "world" or config.budget == 0 or (config.experts and config.experts.file is not None):
            return
        shown: list[Task] = []
        if config.experts is not None:
            shown = choose_tasks(self.tasks, config.experts.tasks, f"the training tasks of {self.spec.id}")
        first, last = ({*shown, *self._played(rounds)} for rounds in (1, config.iterations))
        share = config.world.held_out
        aside = [{task for task in tasks if set_aside(task, share, self._apart)} for tasks in (first, last)]
        place = world_folder(self._begins)
        known = set(read_card(place).tasks) if (place / CARD).is_file() else set[str]()
        unknown = [task for task in aside[1] if task.id not in known]
        drawn_by = f"world.held_out={share:g} and seed {config.seed} set"
        if aside[0] == first:
            raise BadInput(
                f"{drawn_by} aside all {len(first)} tasks that are played up to the first world model, which would "
                "have nothing to learn from: play more of them (tasks, budget), or lower world.held_out"
            )
        if config.steps is None and len(unknown) < 2:
            learnt = f" ({len(aside[1]) - len(unknown)} more were learnt by {place})" if known else ""
            raise BadInput(
                f"{drawn_by} aside {len(unknown)} of {len(last)} tasks{learnt}, and how far a world model can be "
                "trusted is measured on two or more: set 'steps' (the paper's 7), play more tasks, or raise "
                "world.held_out"
            )

    def _played(self, rounds: int) -> list[Task]:
        """The tasks that so many rounds have played."""
        config = self.config
        if config.samples is not None:
            many = config.samples * len(self.tasks) * rounds
            many = many if config.budget is None else min(many, config.budget)
        else:
            assert config.budget is not None
            many = config.budget if rounds == self.iterations else self.share(rounds, config.budget)
        return self.tasks[:many]

    @property
    def _begins(self) -> str:
        """The model that world models begin with."""
        given = self.config.world_model
        if given is None:
            return self.config.model
        place = world_folder(given)
        return str(place) if (place / CARD).is_file() else model_name(given, self.spec)

    @property
    def _apart(self) -> int:
        """The seed that says which tasks no world model learns from: the same ones in every round."""
        return self.config.seed * 1000 + 500

    @property
    def rounds(self) -> int:
        """The policy's rounds so far: fewer than `iterations` where the budget was spent before."""
        done = (n for n in range(self.config.iterations) if not self.run.has(f"iteration-{n + 1}/collected.json"))
        return next(done, self.config.iterations)

    def last(self, number: int) -> bool:
        """The last weights are those that learnt from what was imagined."""
        return number == self.config.iterations + 1

    def afterwards(self) -> Afterwards:
        """The world models, what they imagine at the most, and the last fit."""
        config = self.config
        worlds = config.iterations if config.synthesis == "world" else 0
        if not config.budget:
            return Afterwards()
        count = 0 if config.synthesis == "none" else len(self.tasks) * config.imagined
        steps = f"{config.steps} steps" if config.steps is not None else "as many steps as the world model is trusted"
        told = f"at most, {len(self.tasks)} tasks x {config.imagined}, of {steps}; the world's pages come on top"
        return Afterwards(measured=1, fits=1, models=worlds, episodes=count, told=told)

    def finish(self) -> None:
        """The last iteration: imagine, keep what the judge calls solved, learn it with the real successes.

        A budget that only clones the experts leaves nothing to do: no round, so no world model and no task known to be
        unsolved.
        """
        if not self.rounds:
            return
        number = self.config.iterations + 1
        folder, self._stage = f"iteration-{number}", "synthesis"
        if not self.run.has(f"{folder}/synthesis.json"):
            self.run.save(f"{folder}/synthesis.json", self._synthesis(number))
            self.acting.release()
        if not self.run.has(f"{folder}/collected.json"):  # no real episode was collected in this iteration
            self.run.save(f"{folder}/plan.json", Plan(rollouts=0, before=0))
            self.run.save(f"{folder}/collected.json", Collected(episodes=(), successes=0, faults=0))
        self._iteration(number, "with synthesis" if self.config.synthesis != "none" else "without synthesis")

    def chosen(self, iteration: int) -> list[tuple[Episode, str]]:
        """What won so far; in the last iteration what won in the real rounds it names, and what was imagined."""
        if iteration <= self.config.iterations:
            return super().chosen(iteration)
        real = super().chosen(1 if self.config.real == "first" else self.rounds)
        found = self.run.load(f"iteration-{iteration}/synthesis.json", Synthesis)
        return [*real, *((self.store.get(id), "imagined") for id in found.kept)]

    def taught(self, episode: Episode, kind: str, weight: float) -> list[Sample]:
        """Of what was imagined the actions that were understood, under the real environment's instructions."""
        if kind != "imagined":
            return super().taught(episode, kind, weight)
        path = self.store.path(episode.id)
        understood = [step for step in range(path.own, len(path.turns)) if path.turns[step].valid]
        told = self.env.instructions(episode.start.task.model_copy(update={"env": self.spec.id}))
        how = (self.config.conversation, self.acting.template, told, understood)
        return sample_of(path, *how, kind=kind, weight=weight, splits=self.splits)

    def _iteration(self, number: int, label: str) -> None:
        super()._iteration(number, label)
        if 1 <= number <= self.config.iterations and self.config.synthesis == "world":
            self._world(number)

    def unlearnt(self, number: int) -> str:
        """Of nothing the last fit learns nothing: what it would have begun with, which need not be a round's."""
        return self.base(number) if number > self.config.iterations else super().unlearnt(number)

    # -- the world model ---------------------------------------------------------------------------------------------

    def _world(self, number: int) -> None:
        """M_i: from the transitions of all real episodes so far."""
        folder, config = f"iteration-{number}/world", self.config
        if self.run.has(f"{folder}/done.json"):
            return
        self.acting.release()
        episodes = [id for round in range(1, number + 1) for id in self.collected(round).episodes] + self.experts()
        if config.experts is not None and not config.experts.replay:  # nobody has seen them in this environment
            episodes, elsewhere = played_with(self.store, self.spec.id, self.splits, self.env_settings, episodes)
            if elsewhere:
                self.run.log("experts of other settings teach the world model nothing", count=elsewhere)
        seed = self._apart
        shared = (self.run, folder, self.store, self.env, config.world)
        learn(*shared, self._begins, seed, episodes=episodes, fitting=self.fitting)
        report = measure(*shared, seed, episodes=episodes)
        self.run.write(f"{folder}/done.json", json.dumps({"trusted": report.trusted if report else None}).encode())

    def _imagining(self) -> tuple[World, int | None]:
        """Who imagines, and for how many steps; None: nobody measured how far it can be trusted."""
        config = self.config
        last = self.run.path / f"iteration-{self.rounds}/world/model"
        if config.synthesis == "world":
            world = load_world(last)
            return world, config.steps if config.steps is not None else world.horizon
        if config.synthesis == "real":
            assert config.steps is not None  # see `check`
            return RealWorld(self.spec.id, self.env_settings, factory=self.env_factory), config.steps
        sampling = Sampling(temperature=config.world.temperature, max_tokens=config.world.max_tokens)
        assert config.steps is not None
        return untrained_world(config.model, config.world.page, sampling), config.steps

    def _judge(self, world: World) -> Judge:
        """Who rates what was imagined."""
        config = self.config
        if config.judge == "start" and world.learned:
            by = model_policy(config.model, Sampling(temperature=0.0, max_tokens=config.judge_tokens))
            return ModelJudge(by, config.world.page)
        judge = world.judge
        if config.judge != "world" and world.learned:
            judge = load_world(config.judge, self.spec.id, self.env_settings).judge
        return judge.limited(config.judge_tokens) if isinstance(judge, ModelJudge) else judge

    def _player(self, model: str, sampling: Sampling, listed: bool) -> Policy:
        """Who plays in imagination: as in the real environment, but freely where the world model lists no actions."""
        return self.acting.policy(model, sampling, constrain=None if listed else False)

    # -- synthesis ---------------------------------------------------------------------------------------------------

    def _synthesis(self, number: int) -> Synthesis:
        config = self.config
        rounds = range(0 if config.experts is not None else 1, self.rounds + 1)
        ids = [id for round in rounds for id in self.collected(round).episodes]
        solved = {head.task for head in map(self.store.head, ids) if head.success}
        tasks = [task for task in self.tasks if task.id not in solved]
        if config.synthesis == "none" or not tasks:
            return Synthesis(unsolved=len(tasks), steps=0)
        world, steps = self._imagining()
        called = f"{world.name} {world.version}"
        if not steps:
            lacks = "nobody measured the world model, so set 'steps'"
            if steps is not None:
                lacks = "the world model cannot be trusted for a single step"
            self.run.log(f"no synthesis: {lacks}", iteration=number)
            return Synthesis(unsolved=len(tasks), steps=steps, world=called)
        judge = self._judge(world)
        self.run.log("imagine", iteration=number, tasks=len(tasks), steps=steps)
        sampling = config.sampling.model_copy(update={"temperature": config.temperature})
        policy = self._player(self.model(min(config.agent, self.rounds)), sampling, listed=world.lists)
        settings = {"env": self.spec.id, "model": called, "judge": judge.name, "max_steps": steps}
        settings |= {"env_settings": dict(self.env_settings)} if self.env_settings else {}

        def imagined(_: str) -> WorldModelEnv:
            real = (self.spec.id, self.env_settings)
            inner = self.env_factory(real[0]) if self.env_factory is not None else None
            return WorldModelEnv.of(world, *real, judge=judge, max_steps=steps, settings=settings, inner=inner)

        begins = self._beginnings(tasks, ids)
        here = {"env_settings": settings, "env_factory": imagined, "cluster": None}  # the world is in this memory
        how: dict[str, Any] = {**self.collecting(), **here}
        how["cluster"] = None  # the world model is in this process, and answers all imagined episodes at once
        before = _spent(world, judge)
        samples = [count for _, count in begins]
        collect([start for start, _ in begins], policy, self.store, samples=samples, iteration=number, **how)
        keys = planned_keys(begins, policy, recipe=self.name, iteration=number)
        made = [self.store.get(episode_id(key)) for key in keys if self.store.has(key)]
        why = {text: problem.value for problem, text in CUT.items()}
        cut = Counter(why[e.final_observation] for e in made if e.final_observation in why)
        won = sum(e.success for e in made if e.final_observation not in why)
        good = [e for e in made if e.score >= config.accept and e.final_observation not in why and self.clean(e)]
        kept = [e.id for e in self.capped(good, config.per_task)]
        return Synthesis(
            unsolved=len(tasks),
            steps=steps,
            world=called,
            judge=judge.name,
            episodes=tuple(e.id for e in made),
            kept=tuple(kept),
            solved=won,
            cut=dict(cut),
            **{name: count - before[name] for name, count in _spent(world, judge).items()},
        )

    def _beginnings(self, tasks: Sequence[Task], real: Sequence[str]) -> list[tuple[Start, int]]:
        """Where imagined episodes of these tasks begin, and how many there; `real` are the episodes that failed them.

        A task whose failed episodes have no page between the first and the last begins on its first page.
        """
        found: Counter[Start] = Counter()
        inside: dict[str, list[Start]] = {task.id: [] for task in tasks}
        if self.config.imagine_from == "failed":
            for episode in map(self.store.get, real):
                steps = range(episode.start.fork_step + 1, episode.end_step)
                inside.get(episode.start.task.id, []).extend(map(episode.fork, steps))
        for task in tasks:
            pages = sorted(inside[task.id], key=lambda start: drawn(self.config.seed, start.id))
            for start in islice(cycle(pages or [Start(task=task)]), self.config.imagined):
                found[start.model_copy(update={"task": task.model_copy(update={"env": ID})})] += 1
        return list(found.items())


def _spent(world: World, judge: Judge) -> dict[str, int]:
    """What imagining and judging have cost so far; the real environment reads and writes no ids, nor does its score."""
    ids = ("prompt_tokens", "completion_tokens")
    found = {"world_calls": getattr(world, "calls", 0), "judge_calls": getattr(judge, "calls", 0)}
    found |= {name: getattr(world, name, 0) for name in ids}
    found |= {f"judge_{name}": getattr(judge, name, 0) for name in ids}
    return {**found, "unreadable": getattr(judge, "unreadable", 0)}
