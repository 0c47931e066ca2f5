"""The report of a run: `report.md`, and `report.html` in one file that needs nothing else.

Both say the same: success before and after on held-out tasks, the paired differences, what each iteration collected and
learnt, the settings, the versions and the evaluation cards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from palaestra.agents.selection import Head
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput
from palaestra.trainers.evaluate import Cluster, Evaluation, compare
from palaestra.trainers.objective import FitReport
from palaestra.trainers.phases import Collected, Fitted, Plan, Record, Reflection, Synthesis, together
from palaestra.trainers.rundir import read_record, read_run, write_whole

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Round:
    """What one iteration did, with those before it that were not measured; the start model is round -1."""

    number: int
    evaluation: Evaluation
    collected: Collected | None = None
    plan: Plan | None = None
    fitted: Fitted | None = None

    @property
    def fit(self) -> FitReport | None:
        return self.fitted.report if self.fitted is not None else None

    @property
    def folder(self) -> str:
        """Where its results lie in the run directory."""
        return f"iteration-{self.number}" if self.number >= 0 else "start"

    @property
    def minutes(self) -> float:
        """Wall time of collecting, fitting and evaluating."""
        collecting = self.collected.minutes if self.collected else 0.0
        return collecting + (self.fit.seconds / 60 if self.fit else 0.0) + self.evaluation.minutes


@dataclass(frozen=True)
class Iteration:
    """What one iteration collected and learnt, measured or not.

    Attributes:
        number: 0 is the experts' round.
        score: mean final score of its episodes, in [0, 1]; None without any.
        prompt_tokens, completion_tokens: what its episodes cost.
        synthesis, reflection: what these phases did, of the methods that have them.
    """

    number: int
    plan: Plan | None
    collected: Collected
    fitted: Fitted
    score: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    synthesis: Synthesis | None = None
    reflection: Reflection | None = None

    @property
    def label(self) -> str:
        """As people call it."""
        return "experts" if self.number == 0 else str(self.number)

    @property
    def success(self) -> float | None:
        """Share of its episodes that succeeded; None without any."""
        count = len(self.collected.episodes)
        return self.collected.successes / count if count else None


def iterations(run: str | Path) -> list[Iteration]:
    """The iterations that a run has fitted so far. Raises BadInput when a result or the store is damaged."""
    run = Path(run)
    numbers = _fitted(run)
    store = run / "episodes.sqlite"
    if not store.is_file():
        return [_iteration(run, number, None) for number in numbers]
    with EpisodeStore(store, mode="r") as episodes:
        return [_iteration(run, number, episodes) for number in numbers]


def _fitted(run: Path) -> list[int]:
    """The numbers of the iterations that have been fitted."""
    folders = (folder for folder in run.glob("iteration-[0-9]*") if (folder / "fit.json").is_file())
    numbers = (folder.name.removeprefix("iteration-") for folder in folders)
    return sorted(int(number) for number in numbers if number.isdecimal())


def _iteration(run: Path, number: int, store: EpisodeStore | None) -> Iteration:
    folder = run / f"iteration-{number}"
    plan = _if_there(folder / "plan.json", Plan)
    collected = read_record(folder / "collected.json", Collected)
    heads = list(_heads(store, collected.episodes)) if store is not None else []
    return Iteration(
        number,
        plan,
        collected,
        read_record(folder / "fit.json", Fitted),
        score=sum(head.score for head in heads) / len(heads) if heads else None,
        prompt_tokens=sum(head.prompt_tokens for head in heads),
        completion_tokens=sum(head.completion_tokens for head in heads),
        synthesis=_if_there(folder / "synthesis.json", Synthesis),
        reflection=_if_there(folder / "reflection.json", Reflection),
    )


def _if_there(file: Path, kind: type[R]) -> R | None:
    return read_record(file, kind) if file.is_file() else None


def _heads(store: EpisodeStore, ids: Sequence[str]) -> Iterator[Head]:
    """Those of the episodes that the store has: a report says what is there, and is not refused for what is not."""
    for id in ids:
        with contextlib.suppress(BadInput):
            yield store.head(id)


def rounds(run: str | Path) -> list[Round]:
    """What a run has finished so far. Raises BadInput when it is no run or a result is damaged."""
    run = Path(run)
    read_run(run)
    found: list[Round] = []
    if (run / "start/evaluation.json").is_file():
        found.append(Round(-1, read_record(run / "start/evaluation.json", Evaluation)))
    numbers = _fitted(run)
    since: list[tuple[Plan | None, Collected, Fitted]] = []
    for number in numbers:
        folder = run / f"iteration-{number}"
        plan = _if_there(folder / "plan.json", Plan)
        collected = read_record(folder / "collected.json", Collected)
        since.append((plan, collected, read_record(folder / "fit.json", Fitted)))
        if (folder / "evaluation.json").is_file():
            plan, collected, fitted = together(since)
            evaluation = read_record(folder / "evaluation.json", Evaluation)
            found.append(Round(number, evaluation, collected, plan, fitted))
            since = []
    return found


def write_report(run: str | Path) -> Path:
    """Write `report.md` and `report.html` of what a run has finished so far.

    Returns:
        The path of `report.html`.

    Raises:
        BadInput: not a run, nothing evaluated yet, or the directory cannot be written.
    """
    from palaestra.trainers import report_run, report_tables

    run = Path(run)
    record, done = read_run(run), rounds(run)
    if not done:
        raise BadInput(f"{run} has no evaluation yet, so there is nothing to report")
    cluster: Cluster = (record["config"].get("evaluation") or {}).get("cluster", "task")
    differences = [compare(done[0].evaluation, each.evaluation, cluster) for each in done[1:]]
    made: Sequence[Iteration] = iterations(run)
    write_whole(run / "report.md", report_tables.markdown(record, done, made, differences).encode())
    write_whole(run / "report.html", report_run.html(record, done, made, differences))
    return run / "report.html"
