"""Who predicts what comes of an action: a learned model, or the real environment behind the same interface."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from palaestra.agents.policy import Completion, Policy, Request, ask
from palaestra.envs import BadInput, Fidelity, ReplayDiverged, Snapshot, Task, TextEnv, find, make
from palaestra.worldmodel.bounded import SECONDS, bounded
from palaestra.worldmodel.judging import Judge, ModelJudge, TrueScore
from palaestra.worldmodel.page import Asked, PageFormat, Prediction, Problem, Status, digest
from palaestra.worldmodel.together import Together

STUCK = 5
"""A model that comes back to a page it has shown so often among the last `2 * STUCK` has no way on: the same page in a
row, or two in turn (real pages stay for a few actions, as in a shop's options)."""

_ECHO = re.compile(r"(\S.{0,99}?)\1{19,}", re.DOTALL)
"""A phrase of up to 100 characters that follows itself so often: a page that is mostly that is stuck too."""

KEPT = 4096
"""Steps that a world remembers: a model is not asked again when the same step is taken after going back, and where a
real environment can only go back by starting again (a browser) nothing is done a second time."""


class World(Protocol):
    """Predicts steps.

    Attributes:
        name, version: shown to people, and what identifies it.
        learned: is it a model, whose pages are imagined and whose scores a judge gives.
        horizon: steps that it can be trusted for; None for all.
        lists: does it predict admissible actions.
        page: how pages are shown to it.
        judge: who rates what it imagines, unless somebody else is asked.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def learned(self) -> bool: ...
    @property
    def horizon(self) -> int | None: ...
    @property
    def lists(self) -> bool: ...
    @property
    def page(self) -> PageFormat: ...
    @property
    def judge(self) -> Judge: ...

    def predict(self, steps: Sequence[Asked]) -> list[Prediction]:
        """What comes of each step, in order. May be called from several threads at once."""
        ...

    def lately(self, pages: Sequence[str]) -> tuple[str, ...]:
        """`Prediction.lately` after these pages, in order: those on which something was done in imagination."""
        ...


class LearnedWorld:
    """A policy that was trained to be the environment.

    What callers in several threads ask at the same time goes to the model together.

    Args:
        policy: the model; its `sampling.max_tokens` must leave room for a page.
        page: how it was trained.
        horizon: steps that it can be trusted for, as measured.
        judge: who rates what it imagines; by default the same model.
        max_same: see `STUCK`.

    Attributes:
        calls, batches, prompt_tokens, completion_tokens: what it cost so far.
        problems: answers that were no page, by their kind.
    """

    learned = True

    def __init__(
        self,
        policy: Policy,
        page: PageFormat | None = None,
        *,
        horizon: int | None = None,
        judge: Judge | None = None,
        max_same: int = STUCK,
    ) -> None:
        self.policy, self.page, self.horizon = policy, page or PageFormat(), horizon
        self.name, self.version = policy.name, policy.version
        self.lists = self.page.actions > 0
        self.judge: Judge = judge or ModelJudge(policy, self.page)
        self.calls = self.batches = self.prompt_tokens = self.completion_tokens = 0
        self.problems: Counter[str] = Counter()
        self._kept: OrderedDict[tuple[object, ...], Completion] = OrderedDict()
        self._lock = threading.Lock()
        self._max_same = max_same
        self._together = Together()

    def predict(self, steps: Sequence[Asked]) -> list[Prediction]:
        """Ask the model. What is no page comes back as a `problem`.

        Raises:
            PolicyFault: the model failed: see `palaestra.agents.policy.ask`.
        """
        said = [self.page.messages(step) for step in steps]
        keys = [(step.seed, *(m["content"] for m in each)) for step, each in zip(steps, said, strict=True)]
        with self._lock:
            known = {key: self._kept[key] for key in keys if key in self._kept}
        asked: dict[tuple[object, ...], Request] = {}
        for key, step, each in zip(keys, steps, said, strict=True):
            if key not in known:
                prompt = self.policy.template.opening(each) if self.policy.template is not None else ()
                asked[key] = Request(each, step.seed, prompt)
        answers = dict(zip(asked, self._together.ask(list(asked.values()), self._act), strict=True)) if asked else {}
        with self._lock:
            self._kept.update({key: answer for key, answer in answers.items() if answer.error is None})
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        found = []
        for key, step in zip(keys, steps, strict=True):
            if key in answers:
                found.append(self._prediction(step, answers[key], asked=True))
            else:
                found.append(self._prediction(step, known[key], asked=False))
        return found

    def lately(self, pages: Sequence[str]) -> tuple[str, ...]:
        """Digests of the last pages, as they are shown to the model: real ones may be longer."""
        return tuple(digest(self.page.cut(page)) for page in pages[-2 * self._max_same :])

    def _act(self, requests: Sequence[Request]) -> list[Completion]:
        answers = ask(self.policy, requests)
        self.batches += -(-len(requests) // self.policy.batch_size)
        self.calls += len(answers)
        self.prompt_tokens += sum(answer.prompt_tokens for answer in answers)
        self.completion_tokens += sum(answer.completion_tokens for answer in answers)
        return answers

    def _prediction(self, step: Asked, answer: Completion, asked: bool) -> Prediction:
        found = self.page.read(answer.text)
        if answer.error is not None:
            found = Prediction("", problem=Problem.UNANSWERED, text=answer.error)
        elif not answer.finished:
            found = Prediction("", problem=Problem.ENDLESS, text=answer.text)
        elif self.lists and not found.over and not found.actions:  # no way on from there, and no end
            found = Prediction("", problem=Problem.MALFORMED, text=answer.text)
        elif found.problem is None:
            lately = (*step.lately, *self.lately([step.page]))[-2 * self._max_same :]
            found = replace(found, lately=lately)
            again = lately.count(digest(found.page)) >= self._max_same and not found.over  # an end leads on
            if again or _echoes(found.page):
                found = Prediction("", problem=Problem.STUCK, text=answer.text)
        if found.problem is not None:
            self.problems[found.problem] += 1
        if not asked:  # it cost nothing this time
            return found
        return replace(found, prompt_tokens=answer.prompt_tokens, completion_tokens=answer.completion_tokens)


class RealWorld:
    """The real environment behind the interface of a world model: the upper limit of every imagination.

    It goes where it is asked to by rewinding an instance of its own, never the agent's, and ends where that one ends:
    at its step limit, counted from the episode's start, or at the step that is said to be the last. What an environment
    judges there (code that nobody submitted) is judged. Where going back means starting again, what came of a step is
    remembered: many episodes of a task take the same ones.

    Args:
        env: id or short name; settings: what it is made with.
        factory: makes it in place of `palaestra.make`.
        kept: snapshots that are remembered, where the environment can copy its state.
        deadline: seconds of one step from when its turn has come, after which it is aborted; see `bounded`.

    Attributes:
        calls: steps that were taken (one that is remembered is not); replayed: steps that were taken only to get there.
    """

    learned = False
    horizon = None
    version = "real"

    def __init__(
        self,
        env: str,
        settings: Mapping[str, Any] | None = None,
        *,
        factory: Callable[[str], TextEnv[Any]] | None = None,
        kept: int = 256,
        deadline: float | None = SECONDS,
    ) -> None:
        spec = find(env)
        self.name = spec.id
        self.page = PageFormat(max_page=0)
        self.judge: Judge = TrueScore()
        self.calls = self.replayed = 0
        self._env: TextEnv[Any] = factory(spec.id) if factory else make(spec.id, **(settings or {}))
        self.lists = self._env.lists_actions
        self._kept: OrderedDict[tuple[str, tuple[str, ...]], Snapshot] = OrderedDict()
        self._most = kept if self._env.fidelity is Fidelity.EXACT else 0
        self._seen: OrderedDict[tuple[str, tuple[str, ...], str, bool], Prediction] = OrderedDict()
        self._lock, self._deadline = threading.Lock(), deadline

    def predict(self, steps: Sequence[Asked]) -> list[Prediction]:
        """Go there and act, one step after the other.

        Raises:
            ReplayDiverged: it did not come back to the page that was seen there. And what the environment raises.
            BadInput: it has ended there by its own step limit, and the agent's episode goes on.
        """
        with self._lock:
            return [self._step(step) for step in steps]

    def lately(self, pages: Sequence[str]) -> tuple[str, ...]:
        """None: real pages may repeat."""
        return ()

    def close(self) -> None:
        """Give the instance back."""
        with self._lock:
            self._kept.clear()
            self._seen.clear()
            self._env.close()

    def _step(self, step: Asked) -> Prediction:
        taken = (step.task.id, (*step.done, step.action))
        known = (*taken, digest(step.page), step.last)
        if known in self._seen:
            return self._seen[known]
        came = self._go(step.task, step.done)
        if came != step.page:
            raise ReplayDiverged(step.task.env, len(step.done), step.page, came)
        cap = self._env.max_steps
        if cap is not None and len(step.done) >= cap:
            raise BadInput(
                f"{step.task.id} ends after {cap} steps in the real environment behind imagination, and goes on where "
                "it is played; make both with the same max_steps"
            )
        if step.last:  # the real environment as it is with this step limit: some judge what is there
            self._env.max_steps = len(taken[1])
        try:
            with bounded(self._env, 1, self._deadline):
                page, _, over, cut, info = self._env.step(step.action)
        finally:
            self._env.max_steps = cap
        self.calls += 1
        if not cut:  # from there nothing goes on, also where this step is not the last one
            self._keep(step.task, taken[1])
        status = Status.OVER if over else Status.GOING if info["valid"] else Status.REFUSED
        actions = None if info["actions"] is None else tuple(info["actions"])
        found = Prediction(page, status, actions, score=info["score"], success=info["success"])
        if not self._most:
            self._seen[known] = found
            while len(self._seen) > KEPT:
                self._seen.popitem(last=False)
        return found

    def _go(self, task: Task, done: tuple[str, ...]) -> str:
        """Stand where these actions lead; what is seen there."""
        snapshot = self._kept.get((task.id, done))
        if snapshot is not None:
            return self._stand(snapshot)
        near = next((n for n in range(len(done), 0, -1) if (task.id, done[:n]) in self._kept), 0)
        if near:
            self._stand(self._kept[task.id, done[:near]])
        way = self._env.distance(task, done)
        steps = len(done) if way is None else way
        self.replayed += steps
        with bounded(self._env, steps + 1, self._deadline):
            return self._env.replay(task, done)[0]

    def _stand(self, snapshot: Snapshot) -> str:
        """Go back to a step that was kept, under the step limit of its task: some set it with every reset."""
        page = self._env.restore(snapshot)[0]
        self._env.max_steps = self._env.step_cap(snapshot.task)
        return page

    def _keep(self, task: Task, done: tuple[str, ...]) -> None:
        if self._most:
            self._kept[task.id, done] = self._env.snapshot()
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


def _echoes(page: str) -> bool:
    """Is most of a page one phrase over and over."""
    return any(2 * len(found[0]) > len(page) for found in _ECHO.finditer(page))


_REAL: dict[str, RealWorld] = {}
_REAL_LOCK = threading.Lock()


def real_world(env: str, settings: Mapping[str, Any]) -> RealWorld:
    """The real environment as a world, one of a kind a process."""
    key = json.dumps([env, dict(settings)], sort_keys=True, default=repr)
    with _REAL_LOCK:
        if key not in _REAL:
            _REAL[key] = RealWorld(env, settings)
        return _REAL[key]
