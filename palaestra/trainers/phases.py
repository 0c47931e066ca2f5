"""What the phases of an iteration leave in the run directory, for the phases after them and for the report."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from palaestra.agents.splice import Splice
from palaestra.trainers.objective import FitReport


class Record(BaseModel):
    """Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Plan(Record):
    """How many rollouts an iteration makes. Written first, so that a larger budget never changes what was done."""

    rollouts: int
    before: int


class Collected(Record):
    """What an iteration's collecting gave: ids in an order that depends on the plan alone.

    Attributes:
        minutes: wall time of the process that finished it.
        judged: episodes were imagined, so that successes and scores are a judge's word.
    """

    episodes: tuple[str, ...]
    successes: int
    faults: int
    minutes: float = 0.0
    judged: bool = False


class Fitted(Record):
    """What an iteration's fit did. `report` is None when there was nothing to learn and the weights stay."""

    base: str
    model: str
    samples: int
    report: FitReport | None


class Reflection(Record):
    """What an iteration made of its trees: the good ends, the splices, and how the actor judged."""

    good: tuple[str, ...]
    splices: tuple[Splice, ...]
    verdicts: dict[str, int]


class Synthesis(Record):
    """What was imagined. Nothing of it is a success in the real environment.

    Attributes:
        unsolved: tasks that no real episode solved. steps: imagined steps an episode at the most; 0: not trusted for
            one; None: nobody measured for how many.
        world, judge: who imagined and who rated.
        episodes: ids of the imagined episodes; kept: of those that are learnt from.
        solved: of the episodes, those that the judge calls solved; None: an earlier version did not count them.
        cut: episodes that the world model could not go on with, by what was wrong.
        world_calls, prompt_tokens, completion_tokens: what imagining cost, in the process that finished it: of a run
            that was killed there, what was imagined before is not counted.
        judge_calls, judge_prompt_tokens, judge_completion_tokens: likewise what judging cost. unreadable: judgements
            without a number, or without an answer.
    """

    unsolved: int
    steps: int | None
    world: str = ""
    judge: str = ""
    episodes: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    solved: int | None = None
    cut: dict[str, int] = Field(default_factory=dict)
    world_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    judge_calls: int = 0
    judge_prompt_tokens: int = 0
    judge_completion_tokens: int = 0
    unreadable: int = 0


def together(done: Sequence[tuple[Plan | None, Collected, Fitted]]) -> tuple[Plan | None, Collected, Fitted]:
    """Several iterations in a row as one: counts and losses added up, the last weights."""
    if len(done) == 1:
        return done[0]
    plans = [plan for plan, _, _ in done if plan is not None]
    fitted = [each for _, _, each in done]
    reports = [each.report for each in fitted if each.report is not None]
    added = ("epochs", "samples", "dropped", "tokens_seen", "tokens_trained", "seconds")
    changes: dict[str, object] = {name: sum(getattr(report, name) for report in reports) for name in added}
    changes["losses"] = tuple(loss for report in reports for loss in report.losses)
    whole = reports[-1].model_copy(update=changes) if reports else None
    return (
        Plan(rollouts=sum(plan.rollouts for plan in plans), before=plans[0].before) if plans else None,
        Collected(
            episodes=tuple(id for _, each, _ in done for id in each.episodes),
            successes=sum(each.successes for _, each, _ in done),
            faults=sum(each.faults for _, each, _ in done),
            minutes=sum(each.minutes for _, each, _ in done),
            judged=any(each.judged for _, each, _ in done),
        ),
        fitted[-1].model_copy(update={"samples": sum(each.samples for each in fitted), "report": whole}),
    )
