"""Agent-R: reflection by splicing a failed path to a good one (Yuan et al., arXiv 2501.11425).

    for i = 1..I:  grow search trees on the training tasks (`search`)
        pairs: a bad and a good end of one tree with  V(good) - V(bad) > beta  and  V(good) >= alpha_i
        the first step of the bad path that the actor itself judges bad is the last one that is kept
        spliced = bad path up to there, a revision thought, the good path from where the two part
        keep it if, *executed*, it is worth as much as the good one (the paper only joins the texts)
        pi_{i+1} = SFT(start, good paths + spliced, without weight on the bad steps, + general chat)

Where paper and released code differ: beta is a gap between the two ends, as in the code (the paper's formula reads as a
bound on the bad one); alpha is reached with ">=" (with ">" nothing passes the third round's 1.0). Values are the final
scores of the ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from palaestra.agents.judge import Verdict, first_bad
from palaestra.agents.policy import Policy, Sampling
from palaestra.agents.progress import under
from palaestra.agents.search import Search, Tree, search
from palaestra.agents.splice import Contrast, Splice, contrasts, execute, revision, spliced
from palaestra.envs import Task
from palaestra.trainers.chat_data import mixed, read_chats
from palaestra.trainers.config import RecipeConfig
from palaestra.trainers.evaluate import Evaluation
from palaestra.trainers.objective import CrossEntropy, Objective
from palaestra.trainers.phases import Reflection
from palaestra.trainers.recipe import Recipe
from palaestra.trainers.sample import Sample


class AgentRConfig(RecipeConfig):
    """What is Agent-R's own.

    Attributes:
        search: how trees grow. Together they take as many model calls as the iteration's rollouts would.
        searched: trees of an iteration; the next one goes on with the tasks after these (the paper searches 200 to 300
            of some thousands). None grows a tree for every task, so that each gets few calls.
        beta: how much more the good end must be worth than the bad one.
        alpha: what a good end must be worth, by iteration; the last value holds for all later ones.
        pairs: spliced episodes a task at the most, drawn by the seed; None takes all.
        transition: leave the bad path at the first step that the actor judges bad, or at its end ("direct revision").
        judge_from: judge from the first step on (the released code), or from where the paths part (the paper's form).
        judge_tokens: tokens of a judgement at the most.
        splice: "executed", or "textual": the paper's unexecuted joining of texts, as a control.
        revision: the thought stands before the good path's first action ("thought"), is an answer of its own with the
            action "wait" ("turn", as in the released code), both for the style react alone, or is left out ("none").
            None is "thought" where answers have thoughts, else "none".
        good: learn the good paths too, and not only the spliced ones.
        general: general chat that is mixed in: a JSONL file of `messages`, or "own" for the small set of this package
            (the paper takes ShareGPT); None mixes nothing in. It is in every fit, that of the cloned experts too, so
            judgements in it keep a small actor able to judge.
        eta: the share of the agent's samples in the loss, the rest is the general chat's.
        start: fit from the weights of the iteration before, or from pi_0.
        later_epochs: epochs from the second iteration on (the paper's 3, 1, 1); None keeps the objective's.
    """

    search: Search = Search()
    searched: int | None = Field(default=None, ge=1)
    beta: float = Field(default=0.2, ge=0.0, le=1.0)
    alpha: tuple[float, ...] = Field(default=(0.5, 0.7, 1.0), min_length=1)
    pairs: int | None = Field(default=8, ge=1)
    transition: Literal["judge", "end"] = "judge"
    judge_from: Literal["first", "parting"] = "first"
    judge_tokens: int = Field(default=200, ge=8)
    splice: Literal["executed", "textual"] = "executed"
    revision: Literal["thought", "turn", "none"] | None = None
    good: bool = True
    general: str | None = None
    eta: float = Field(default=0.2, gt=0.0, le=1.0)
    start: Literal["base", "previous"] = "previous"
    later_epochs: int | None = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _possible(self) -> AgentRConfig:
        if self.revision in ("thought", "turn") and self.conversation.style != "react":
            raise ValueError(f"a revision {self.revision!r} needs conversation.style 'react'; or set it to 'none'")
        if self.search.max_calls is not None:
            raise ValueError("search.max_calls: the trees take as many calls as the rollouts of 'budget' would")
        if not all(0 <= worth <= 1 for worth in self.alpha):
            raise ValueError(f"alpha: scores lie between 0 and 1, got {list(self.alpha)}")
        return self


class AgentR(Recipe[AgentRConfig]):
    """Reflection by splicing."""

    name = "agent-r"
    config_type = AgentRConfig
    inside = True
    decisive = ("search",)

    def base(self, iteration: int) -> str:
        return self.config.model if self.config.start == "base" else self.model(iteration - 1)

    def check(self, *, template: bool = True) -> None:
        super().check(template=template)
        self._general()

    def objective(self, iteration: int) -> Objective:
        objective, later = self.config.objective, self.config.later_epochs
        if iteration < 2 or later is None or not isinstance(objective, CrossEntropy):
            return objective
        return objective.model_copy(update={"epochs": later})

    def mine(self, iteration: int) -> list[Sample]:
        agent = self._reflected(iteration) if iteration else self.cloned()
        chats = self._general()
        return agent if chats is None else mixed(agent, chats, self.config.eta)

    def _general(self) -> list[Sample] | None:
        file = self.config.general
        return None if file is None else read_chats(file, self.acting.template, self.splits[0])

    def _reflected(self, iteration: int) -> list[Sample]:
        """What the good paths and the accepted splices of an iteration teach."""
        found = self.run.load(f"iteration-{iteration}/reflection.json", Reflection)
        agent: list[Sample] = []
        for id in found.good if self.config.good else ():
            path = self.store.path(id)
            agent += self.samples_of(path, range(len(path.turns)), kind="good")
        for splice in (splice for splice in found.splices if splice.accepted):
            path = spliced(splice, self.store, self.config.conversation, self.acting.template.ends)
            agent += self.samples_of(path, kind="revision")
        return agent

    # -- collecting: search, judge, splice ---------------------------------------------------------------------------

    def rollouts(self, number: int) -> list[str]:
        config = self.config
        policy = self.acting.policy(self.model(number - 1), config.sampling)
        calls = self._plan(number).rollouts * self.run.load("start/evaluation.json", Evaluation).steps
        plan = config.search.model_copy(update={"max_calls": round(calls)})
        report = search(self.searched(number), policy, self.store, plan, iteration=number, **self.collecting())
        judge_by = self.acting.policy(self.model(number - 1), Sampling(temperature=0.0, max_tokens=config.judge_tokens))
        alpha = config.alpha[min(number, len(config.alpha)) - 1]
        pairs = [pair for tree in report.trees for pair in self._pairs(tree, alpha)]
        kept, verdicts = self._kept(pairs, judge_by)
        spent = {**report.costs, "stopped": report.stopped}
        self.run.log("searched", iteration=number, trees=len(report.trees), **spent, judged=verdicts)
        splices = [self._splice(pair, steps) for pair, steps in zip(pairs, kept, strict=True) if steps > 0]
        if config.splice == "textual":
            splices = [splice.model_copy(update={"accepted": True}) for splice in splices]
        else:
            by = {"ends": self.acting.template.ends, "version": policy.version, "iteration": number}
            splices = execute(splices, self.store, **by, **self.collecting())
        ends = [end.head.id for tree in report.trees for end in tree.ends() if end.head is not None]
        good = [id for id in ends if (head := self.store.head(id)).score >= alpha and head.score > 0]
        record = Reflection(good=tuple(good), splices=tuple(splices), verdicts=verdicts)
        self.run.save(f"iteration-{number}/reflection.json", record)
        return [*ends, *(splice.episode for splice in splices if splice.episode is not None)]

    def searched(self, number: int) -> list[Task]:
        """The tasks of an iteration's trees."""
        wanted = min(self.config.searched or len(self.tasks), len(self.tasks))
        first = (number - 1) * wanted % len(self.tasks)
        return [*self.tasks[first:], *self.tasks[:first]][:wanted]

    def _pairs(self, tree: Tree, alpha: float) -> list[Contrast]:
        config = self.config
        return contrasts(tree, self.store, worth=alpha, gap=config.beta, most=config.pairs, seed=config.seed)

    def _kept(self, pairs: Sequence[Contrast], judge_by: Policy) -> tuple[list[int], dict[str, int]]:
        """Of each pair, how many steps of the bad path are kept; and how the actor judged in all."""
        limits = [pair.limit for pair in pairs]
        if self.config.transition == "end":
            return limits, {}
        begin = [0 if self.config.judge_from == "first" else pair.parting for pair in pairs]
        bad, ask, cut = [pair.bad for pair in pairs], self.env.instructions, self.config.conversation.observation
        seen: dict[str, Any] = {"cut": cut, "seed": self.config.seed, "progress": under(self.progress, self._stage)}
        kept, said = first_bad(bad, begin, limits, judge_by, ask, **seen)
        return kept, {verdict.value: said[verdict] for verdict in Verdict}

    def _splice(self, pair: Contrast, kept: int) -> Splice:
        task, bad, good = pair.bad.episode.start.task, pair.bad.episode.id, pair.good.episode.id
        place = self.config.revision or ("thought" if self.config.conversation.style == "react" else "none")
        return Splice(
            task=task.id,
            bad=bad,
            good=good,
            kept=kept,
            resumes=min(pair.parting, kept),
            thought=revision(bad, good, self.config.seed) if place != "none" else "",
            place="turn" if place == "turn" else "thought",
            wanted=pair.wanted,
        )
