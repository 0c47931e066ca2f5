"""`palaestra eval --beside DIR`: a policy beside a start model, by difficulty and in recovery from its failures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palaestra.agents.policy import Policy
from palaestra.agents.store import EpisodeStore
from palaestra.envs.errors import BadInput
from palaestra.trainers.difficulty import binned
from palaestra.trainers.evaluate import Evaluation
from palaestra.trainers.recovery import Recovery, recover
from palaestra.trainers.rundir import read_record
from palaestra.trainers.statistics import Interval, interval


@dataclass(frozen=True)
class Beside:
    """An evaluation that another one is set beside.

    Attributes:
        folder: of a run, or what `palaestra eval` wrote; `evaluation`: the start model's, or what it measured.
    """

    folder: Path
    evaluation: Evaluation

    @classmethod
    def read(cls, folder: Path) -> Beside:
        """Raises BadInput where there is no evaluation, or none that names its episodes."""
        found = [file for file in (folder / "start/evaluation.json", folder / "evaluation.json") if file.is_file()]
        if not found:
            raise BadInput(f"--beside {folder} holds neither evaluation.json nor start/evaluation.json: it is no run")
        evaluation = read_record(found[0], Evaluation)
        if any(row.successes and not row.episodes for row in evaluation.tasks):
            raise BadInput(f"{found[0]} was written by an older version and does not name its episodes; measure again")
        return cls(folder, evaluation)

    def bins(self, result: Evaluation) -> dict[str, Interval]:
        """Success by how often the start model solves a task. Raises BadInput where the two measured other things."""
        differing = [name for name in self.evaluation.card.comparable(result.card) if name != "samples"]
        if differing:
            raise BadInput(f"{self.folder} measured something else: the cards differ in {', '.join(differing)}")
        start, values = (
            {row.task: [float(won) for won in row.successes] for row in of.tasks} for of in (self.evaluation, result)
        )
        return {name: interval(tasks) for name, tasks in binned(start, values).items()}

    def recovery(self, policy: Policy, store: EpisodeStore, **collecting: Any) -> Recovery:
        """Go on inside the start model's failures, which are put into the store."""
        ids = [id for row in self.evaluation.tasks for id in row.episodes]
        with EpisodeStore(self.folder / "episodes.sqlite", mode="r") as theirs:
            store.add_all([theirs.get(id) for id in ids])
        return recover(self.evaluation, store, policy, **collecting)
