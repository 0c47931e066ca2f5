"""What phases that only some methods have did, for both reports: what was imagined, and how Agent-R's actor judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palaestra.agents.judge import Verdict
from palaestra.trainers.phases import Reflection, Synthesis

if TYPE_CHECKING:
    from palaestra.trainers.report import Iteration


@dataclass(frozen=True)
class Section:
    """A table of the report, a row an iteration, and what has to be said besides."""

    title: str
    heads: tuple[str, ...]
    rows: list[list[str]]
    told: list[str]


_SYNTHESIS = ("iteration", "unsolved tasks", "imagined", "cut", "judged solved", "kept", "steps", "world", "judge")
_REFLECTION = ("iteration", "good ends", "splices", "accepted", *(f"steps {verdict}" for verdict in Verdict))


def sections(made: Sequence[Iteration]) -> list[Section]:
    """The sections that this run has something for."""
    imagined = [(each.label, each.synthesis) for each in made if each.synthesis is not None]
    judged = [(each.label, each.reflection) for each in made if each.reflection is not None]
    told = [*_lines({label: nothing_of(found) for label, found in imagined})]
    told += _lines({label: cost_of(found) for label, found in imagined})
    silent = {label: unanswered(found.verdicts) for label, found in judged}
    found = [
        Section("Synthesis", _SYNTHESIS, [_imagined(*each) for each in imagined], told),
        Section("Reflection", _REFLECTION, [_reflected(*each) for each in judged], _lines(silent)),
    ]
    return [each for each in found if each.rows]


def nothing_of(found: Synthesis) -> str:
    """Why nothing that was imagined is learnt from; empty where something is."""
    if found.kept:
        return ""
    if found.episodes:
        return "nothing of what was imagined was kept, so the weights learnt from real successes alone"
    if not found.unsolved:
        return "nothing was imagined, since every task was solved in the real environment"
    if not found.world:
        return "nothing was imagined, as was asked for"
    if found.steps is None:
        return "nothing was imagined, since nobody measured the world model; set 'steps'"
    return "nothing was imagined, since the world model cannot be trusted for a single step"


def cost_of(found: Synthesis) -> str:
    """What imagining and judging asked for, in words; empty where nothing was asked."""
    asked = (
        ("world", found.world_calls, found.prompt_tokens, found.completion_tokens),
        ("judge", found.judge_calls, found.judge_prompt_tokens, found.judge_completion_tokens),
    )
    said = [
        f"the {who} {calls:,} times ({read:,} ids read, {wrote:,} written)"
        for who, calls, read, wrote in asked
        if calls
    ]
    unread = f"; {found.unreadable:,} judgements could not be read" if found.unreadable else ""
    return f"asked {' and '.join(said)}, in the process that finished it{unread}" if said else ""


def unanswered(verdicts: Mapping[str, int]) -> str:
    """What to say of questions to a judge that had no answer; empty where all had one."""
    none, asked = verdicts.get(Verdict.UNANSWERED.value, 0), sum(verdicts.values())
    if not none:
        return ""
    others = "too long for its window, or failed"
    count = f"none of the {asked} questions ({others})"
    if none < asked:
        count = f"{asked - none} of {asked} questions (the others were {others})"
    return f"the judge answered {count}; a step without an answer counts as uncertain"


def _lines(told: Mapping[str, str]) -> list[str]:
    return [f"Iteration {label}: {line}." for label, line in told.items() if line]


def _imagined(label: str, found: Synthesis) -> list[str]:
    why = ", ".join(f"{number} {name}" for name, number in sorted(found.cut.items()))
    return [
        label,
        str(found.unsolved),
        str(len(found.episodes)),
        f"{sum(found.cut.values())}{f' ({why})' if why else ''}",
        "-" if found.solved is None else str(found.solved),
        str(len(found.kept)),
        "-" if found.steps is None else str(found.steps),
        found.world or "-",
        found.judge or "-",
    ]


def _reflected(label: str, found: Reflection) -> list[str]:
    accepted = sum(splice.accepted for splice in found.splices)
    verdicts = [str(found.verdicts.get(verdict.value, "-")) for verdict in Verdict]
    return [label, str(len(found.good)), str(len(found.splices)), str(accepted), *verdicts]
