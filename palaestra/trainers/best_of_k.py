"""Best of k: a control that spends the rollouts on the held-out tasks instead of learning from them.

The experts are cloned, as every method does. Each held-out task is then tried k times, where k is the budget of
rollouts divided by the number of held-out episodes, and the best try counts: chosen by the environment's own score,
which no agent has before it acts (an upper bound of whatever chooses), or by what the model itself found most likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Literal

from palaestra.agents.episode import Episode
from palaestra.envs import BadInput
from palaestra.trainers.config import RecipeConfig
from palaestra.trainers.evaluate import Evaluation, choose_tasks, summarise, usual_split
from palaestra.trainers.recipe import Recipe
from palaestra.trainers.sample import Sample


class BestOfKConfig(RecipeConfig):
    """What is its own.

    Attributes:
        choose: the try that counts: the one with the highest final score, or the one whose answers have the highest
            mean log-probability.
    """

    choose: Literal["score", "likelihood"] = "score"


class BestOfK(Recipe[BestOfKConfig]):
    """Best of k tries at equal rollouts."""

    name = "best-of-k"
    config_type = BestOfKConfig

    @property
    def iterations(self) -> int:
        return 1

    def check(self, *, template: bool = True) -> None:
        """Refuse what is refused of every method, and a budget of less than two tries. Raises BadInput."""
        super().check(template=template)
        config, plan = self.config, self.config.evaluation
        rollouts = [] if config.samples is None else [config.samples * len(self.tasks) * self.iterations]
        rollouts += [] if config.budget is None else [config.budget]
        with closing(self.measured.made()) as env:
            split = plan.split or usual_split(env)
            wanted = list(plan.tasks) if isinstance(plan.tasks, tuple) else plan.tasks
            held_out = (
                len(choose_tasks(env.tasks(split), wanted, f"split {split!r} of {self.measured.spec.id}"))
                * plan.samples
            )
        if min(rollouts) < 2 * held_out:
            raise BadInput(
                f"best-of-k has {min(rollouts)} rollouts for {held_out} held-out episodes, and is nothing without two "
                f"tries each: raise 'budget' to {2 * held_out} or more, or measure fewer (evaluation.tasks, "
                "evaluation.samples; in a comparison best-of-k.evaluation.samples, for it alone)"
            )

    def rollouts(self, number: int) -> list[str]:
        return []

    def mine(self, iteration: int) -> list[Sample]:
        return self.cloned() if iteration == 0 else []

    def evaluation(self, number: int, label: str) -> Evaluation:
        if number < 1:
            return super().evaluation(number, label)
        plan = self.config.evaluation
        held_out = len(self.run.load("start/evaluation.json", Evaluation).tasks)
        k = self._plan(number).rollouts // (held_out * plan.samples)
        whole = self.measure(self.model(number), label, k * plan.samples, self.config.sampling.temperature)
        chosen = {row.task: self._chosen([self.store.get(id) for id in row.episodes], k) for row in whole.tasks}
        tasks = [task for task in self.env.tasks(whole.card.split) if task.name in chosen]
        sampling = {**whole.card.sampling, "best_of": k, "chosen_by": self.config.choose}
        found = summarise(
            label,
            tasks,
            {task.id: chosen[task.name] for task in tasks},
            len(tasks) * plan.samples,
            whole.card.model_copy(update={"samples": plan.samples, "sampling": sampling}),
            plan.cluster,
            whole.minutes,
        )
        cost = {"prompt_tokens": whole.prompt_tokens, "completion_tokens": whole.completion_tokens}
        calls = sum(steps for row in whole.tasks for steps in row.steps)
        return found.model_copy(update={**cost, "tries": k, "calls": calls})

    def _chosen(self, tries: Sequence[Episode], k: int) -> list[Episode]:
        """Of each k tries the one that counts; of equal ones the first."""
        groups: dict[int, list[Episode]] = {}
        for episode in sorted(tries, key=lambda episode: episode.sample):
            groups.setdefault(episode.sample // k, []).append(episode)
        worth = likelihood if self.config.choose == "likelihood" else lambda episode: episode.score
        return [max(group, key=worth) for group in groups.values()]


def likelihood(episode: Episode) -> float:
    """Mean log-probability of all ids that the model wrote; minus infinity where none is known."""
    said = [logprob for turn in episode.turns if turn.tokens is not None for logprob in turn.tokens.logprobs]
    return sum(said) / len(said) if said else float("-inf")
