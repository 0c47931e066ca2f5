"""The world model as an environment: the collector, search and every recipe run in it as in any other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from palaestra.envs.core import Fidelity, Recorded, Reply, Task, TextEnv
from palaestra.envs.errors import BadInput, ReplayDiverged
from palaestra.envs.fingerprint import code_fingerprint
from palaestra.envs.registry import EnvSpec, find, make
from palaestra.worldmodel.bounded import bounded
from palaestra.worldmodel.judging import Case, Judge
from palaestra.worldmodel.page import Asked, Prediction, Problem
from palaestra.worldmodel.world import World

ID = "palaestra/WorldModel-v0"
REAL = "real"
LONGEST = 2000
"""Characters of an action that are shown to a model."""

CUT = {
    Problem.MALFORMED: "The world model wrote nothing that can be read; the episode is cut here.",
    Problem.ENDLESS: "The world model did not stop; the episode is cut here.",
    Problem.STUCK: "The world model repeats the page; the episode is cut here.",
    Problem.UNANSWERED: "The world model did not answer; the episode is cut here.",
}
"""The last page of an episode that was cut, by what was wrong. Such an episode is worth nothing."""


@dataclass
class Imagined:
    """All of an imagined episode: it is text.

    Attributes:
        first: the first page. done: the actions. page: what is seen now.
        actions: the admissible actions now, where they are predicted.
        lately: digests of the pages before, since imagination began.
        real: how many of the actions were taken in the real environment, before imagination began.
    """

    first: str
    page: str
    actions: tuple[str, ...] | None
    done: list[str] = field(default_factory=list)
    lately: tuple[str, ...] = ()
    real: int = 0


class WorldModelEnv(TextEnv[Imagined]):
    """An environment that a model imagines. What happens in it is made up, and its score is what a judge says.

    The first page is the real environment's; of a fork of a real episode all pages up to there are. From there on a
    world model writes every page, until it says that the episode is over or the step limit is reached: `max_steps`,
    counted from there, or the real one if that comes first. Then the judge rates it in [0, 1], and 1 is a success. A
    model that writes nonsense, does not stop or repeats the page ends the episode with a score of 0
    (`info["problem"]`). Episodes are marked `imagined` and are never evaluated. Tasks are those of the real
    environment, under this one's id.

    Args:
        env: the real environment, by id or short name. env_settings: what that is made with.
        model: a folder that `palaestra worldmodel train` wrote, or "real": the real environment behind the interface of
            a world model, whose pages and scores are the true ones (the upper limit of any imagination).
        judge: a world model's folder whose model judges; None for the world's own judge.

    Raises:
        BadInput: no such environment or folder, a model of another environment or of other settings, or a judge that
            never learnt to.
    """

    fidelity: ClassVar[Fidelity] = Fidelity.EXACT

    def __init__(
        self,
        env: str = "crafting",
        env_settings: Mapping[str, Any] | None = None,
        model: str = REAL,
        judge: str | None = None,
    ) -> None:
        super().__init__()
        spec = find(env)
        if spec.imagined:
            raise BadInput(f"{spec.id} is imagined itself; a world model imagines a real environment")
        if not isinstance(model, str) or not isinstance(judge, str | None):
            raise BadInput("WorldModel: 'model' and 'judge' are folders, given as texts")
        if not isinstance(env_settings, Mapping | None) or any(not isinstance(key, str) for key in env_settings or ()):
            raise BadInput(f"WorldModel: 'env_settings' are settings by name, not {env_settings!r:.80}")
        self.registration = find(ID)
        self.real = (spec.id, dict(env_settings or {}))
        self._spec: EnvSpec = spec
        from palaestra.worldmodel.loading import card_of, judging_card  # needs no model code

        if model != REAL:
            card_of(model, *self.real)
        if judge is not None:
            judging_card(judge, *self.real)
        self._model, self._judge_name = model, judge
        self._given: tuple[World, Judge] | None = None
        self._inner: TextEnv[Any] | None = None
        self._most, self._asked_for = self._real_env().max_steps, False

    @classmethod
    def of(
        cls,
        world: World,
        env: str,
        env_settings: Mapping[str, Any] | None = None,
        *,
        judge: Judge | None = None,
        max_steps: int | None = None,
        settings: Mapping[str, Any] | None = None,
        inner: TextEnv[Any] | None = None,
    ) -> WorldModelEnv:
        """An instance around a world that is in memory already.

        Args:
            inner: an instance of the real environment that is this one's from now on; None makes one.
            settings: what stands in the records in place of a folder's name.
        """
        made = cls(env, env_settings)
        made._given = (world, judge or world.judge)
        if inner is not None:
            made._real_env().close()
            made._inner, made._most = inner, inner.max_steps
        if max_steps is not None:
            made.max_steps = max_steps
        made.settings = dict(settings or {"env": env, "model": f"{world.name} {world.version}", "max_steps": max_steps})
        return made

    # -- where it begins --------------------------------------------------------------------------------------------

    @property
    def max_steps(self) -> int | None:
        """Actions until the episode is truncated, those before a real fork included: as many as the real environment
        gives the task, or fewer where a limit was asked for; that one counts from the fork."""
        if self._now is None:
            return self._most
        return self._capped(self._now.task, self._now.state.real)

    @max_steps.setter
    def max_steps(self, most: int | None) -> None:
        self._asked_for = self._asked_for or most != self._most  # `make` writes back what it finds
        self._most = most

    def step_cap(self, task: Task) -> int | None:
        """The limit that was asked for, but never more than the real environment's of that task."""
        return self._capped(task, 0)

    def replay(
        self, task: Task, actions: Sequence[str], observations: Sequence[str] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """As everywhere, but pages that are those of the real environment are not imagined: it goes on from there.

        Raises:
            ReplayDiverged: they are neither the real environment's nor what is imagined. BadInput: see `TextEnv`.
        """
        if observations is None or not actions:
            return super().replay(task, actions, observations)
        try:
            with bounded(self._real_env(), len(actions) + 1):
                page, info = self._real_env().replay(self.real_task(task), actions, observations)
        except ReplayDiverged:
            return super().replay(task, actions, observations)
        self._pick(task)
        self._move_on()
        self._now = None
        listed = self._first_actions(info["actions"]) if self.world.lists else None
        state = Imagined(observations[0], page, listed, list(actions), real=len(actions))
        # the score of what is imagined is said once, at the end; the real environment's own counts where it goes on
        score, success = (info["score"], info["success"]) if self.judge.true else (0.0, False)
        return self._stand(task, state, actions, observations, score, success, info["valid"])

    def recall(
        self, task: Task, actions: Sequence[str], observations: Sequence[str], recorded: Recorded, *, same: bool
    ) -> tuple[str, dict[str, Any]]:
        """As in `TextEnv`: the stored pages are the state. A model that is asked once more need not write the same.

        Pages of the real environment (the first one, and those before imagination began) are compared with it, unless
        the records are this environment's own.
        """
        if len(observations) != len(actions) + 1:
            raise BadInput(f"{len(actions)} actions have {len(actions) + 1} observations, got {len(observations)}")
        real, first, imagined = recorded.real, observations[0], len(actions) > recorded.real
        if imagined and self.world.lists and recorded.listed is None:
            raise BadInput(
                f"nothing says which actions were listed in {task.id} after step {len(actions)}, so nobody can go on "
                "from there: a world model that lists none imagined it, or it is from a file that does not hold them"
            )
        self._pick(task)
        listed, score, success, valid = recorded.listed, recorded.score, False, recorded.valid
        if not (imagined and same):
            with bounded(self._real_env(), real + 1):
                before = actions[:real], observations[: real + 1]
                _, info = self._real_env().replay(self.real_task(task), *before)
            if not imagined:
                listed = self._first_actions(info["actions"]) if self.world.lists else None
                score, success, valid = info["score"], info["success"], info["valid"]
        self._move_on()
        self._now = None
        short = [action if not self.world.learned else action[:LONGEST] for action in actions[real:]]
        lately = self.world.lately(observations[real:-1])
        state = Imagined(first, observations[-1], listed if self.world.lists else None, [*actions[:real], *short])
        state.lately, state.real = lately, real
        if not imagined and not self.judge.true:  # a judge says its score once, at the end
            score, success = 0.0, False
        return self._stand(task, state, actions, observations, score, success, valid)

    # -- what an environment writes ---------------------------------------------------------------------------------

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[Imagined, str]:
        """The real first page. Raises what the real environment raises."""
        with bounded(self._real_env()):
            page, info = self._real_env().reset(options={"task": self.real_task(task)})
        actions = self._first_actions(info["actions"]) if self.world.lists else None
        return Imagined(page, page, actions), page

    def act(self, state: Imagined, action: str) -> Reply:
        """Ask the world model."""
        last = self.max_steps is not None and len(state.done) + 1 >= self.max_steps
        task = self.real_task(self.task)
        short = action if not self.world.learned else action[:LONGEST]
        asked = Asked(
            task,
            self.instructions(self.task),
            state.first,
            tuple(state.done),
            state.page,
            short,
            lately=state.lately,
            last=last,
            seed=_seed(task, state.done, short),
        )
        (found,) = self.world.predict([asked])
        valid = found.status != "refused" or (state.actions is not None and action in state.actions)
        state.done.append(short)
        state.lately = found.lately
        if found.problem is not None:
            state.page, state.actions = CUT[found.problem], ()
            return Reply(state.page, score=0.0, over=True, extra={"problem": found.problem.value})
        state.page, state.actions = found.page, found.actions
        score, done = self._worth(state, found, asked, last)
        return Reply(state.page, score=score, success=done, over=found.over, valid=valid)

    def admissible(self, state: Imagined) -> Sequence[str]:
        """The actions that the world model says are possible."""
        return state.actions or ()

    def details(self, state: Imagined) -> Mapping[str, Any]:
        """`imagined`, always True, and `judged`: the score is a judge's word."""
        return {"imagined": True, "judged": not self.judge.true}

    @property
    def lists_actions(self) -> bool:
        """Does this world model predict admissible actions."""
        return self.world.lists

    def fingerprint(self) -> str:
        """This code, the real environment, the world model's weights, and the judge."""
        cls: type = type(self)
        real = self._real_env().fingerprint()
        return f"{code_fingerprint(cls)} of {real} by {self.world.name} {self.world.version}, judge {self.judge.name}"

    def instructions(self, task: Task) -> str:
        """Those of the real environment."""
        return self._real_env().instructions(self.real_task(task))

    def tasks(self, split: str) -> Sequence[Task]:
        """The real environment's tasks, as tasks of this one."""
        return _mapped(tuple(self._real_env().tasks(split)), ID)

    def splits(self) -> Sequence[str]:
        """The real environment's splits."""
        return self._real_env().splits()

    def close(self) -> None:
        """Give the real environment back. May be called twice; models stay in memory for other instances."""
        super().close()
        if self._inner is not None:
            self._inner.close()
            self._inner = None

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def world(self) -> World:
        """Who predicts."""
        return self._parts()[0]

    @property
    def judge(self) -> Judge:
        """Who rates."""
        return self._parts()[1]

    def real_task(self, task: Task) -> Task:
        """The real environment's task that this one imagines."""
        return task.model_copy(update={"env": self._spec.id})

    def imagined_task(self, task: Task) -> Task:
        """This environment's task that imagines a real one."""
        return task.model_copy(update={"env": ID})

    def _parts(self) -> tuple[World, Judge]:
        if self._given is None:
            assert self.real is not None
            if self._model == REAL:
                from palaestra.worldmodel.world import real_world

                world: World = real_world(*self.real)
            else:
                from palaestra.worldmodel.loading import load_world

                world = load_world(self._model, *self.real)
            if self._judge_name is None:
                self._given = (world, world.judge)
            else:
                from palaestra.worldmodel.loading import load_world

                self._given = (world, load_world(self._judge_name, *self.real).judge)
        return self._given

    def _real_env(self) -> TextEnv[Any]:
        if self._inner is None:
            assert self.real is not None
            self._inner = make(self.real[0], **self.real[1])
        return self._inner

    def _capped(self, task: Task, real: int) -> int | None:
        """The step limit of an episode that begins after so many real steps."""
        asked = self._most + real if self._asked_for and self._most is not None else None
        caps = (asked, self._real_env().step_cap(self.real_task(task)))
        return min((cap for cap in caps if cap is not None), default=None)

    def _first_actions(self, actions: Sequence[str] | None) -> tuple[str, ...] | None:
        if actions is None:
            return None
        return tuple(actions) if not self.world.learned else self.world.page.listed(actions)

    def _worth(self, state: Imagined, found: Prediction, asked: Asked, last: bool) -> tuple[float | None, bool]:
        """The score from now on and whether the task is solved: the judge's word, given once, at the end."""
        if found.score is not None and self.judge.true:
            return found.score, found.success
        if not (found.over or last):
            return None, False
        case = Case(asked.task, asked.instructions, state.first, tuple(state.done), state.page, found.over, found.score)
        (value,) = self.judge.rate([case], asked.seed)
        return value, value >= 1.0


def _seed(task: Task, done: Sequence[str], action: str) -> int:
    """Seed of one imagined step: a function of what led there, so that an episode can be imagined again."""
    text = "\x00".join([task.id, *done, action])
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") >> 1


@lru_cache(maxsize=64)
def _mapped(tasks: tuple[Task, ...], env: str) -> tuple[Task, ...]:
    return tuple(task.model_copy(update={"env": env}) for task in tasks)
