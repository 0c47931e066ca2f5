"""What `learning.py` found, as the page `docs/results.md`: tables, the papers' claims, and what the runs did.

Everything is read from the runs' directories, so the page can be written anew at any time from what is finished.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from palaestra.trainers.compare import standings_of
from palaestra.trainers.comparison import markdown
from palaestra.trainers.grpo import Grades
from palaestra.trainers.improvement import Improvement
from palaestra.trainers.methods import CONTESTANTS, contestant
from palaestra.trainers.phases import Reflection
from palaestra.trainers.report import rounds
from palaestra.trainers.rundir import read_record, read_run
from palaestra.trainers.statistics import Interval, two_way
from palaestra.trainers.wins import WinMatrix


@dataclass(frozen=True)
class Claim:
    """What a paper says: one contestant is better than another, in success or in what K improvements add."""

    says: str
    before: str
    after: str
    improving: bool = False


CLAIMS = (
    Claim("At equal rollouts EEF beats RFT x (1+M)", "rft", "eef"),
    Claim("EEF's earliest winning way beats a random one", "eef-random", "eef"),
    Claim("EEF's recovery states add to its initial ones", "eef-initial", "eef"),
    Claim("Agent-R beats direct revision", "direct-revision", "agent-r"),
    Claim("An executed splice beats a textual one", "textual-splice", "agent-r"),
    Claim("ExIt beats GRPO on K-step improvement", "grpo", "exit", improving=True),
    Claim("ExIt that never diverges beats GRPO on K-step improvement", "grpo", "exit-improve", improving=True),
    Claim("ExIt on whole attempts beats GRPO on K-step improvement", "grpo", "exit-whole", improving=True),
    Claim("ExIt beats GRPO in success", "grpo", "exit"),
)


def verdict(gap: Interval) -> str:
    """What an interval of a difference says about the claim that it is positive."""
    return "holds" if gap.low > 0 else "the opposite holds" if gap.high < 0 else "is not shown"


def checked(claims: Sequence[Claim], out: Path, names: Sequence[str], seeds: int) -> list[str]:
    """The claims whose contestants have run, each with its difference."""
    found = []
    for claim in claims:
        if claim.before not in names or claim.after not in names:
            continue
        gap = improving(out, claim.before, claim.after, seeds) if claim.improving else ahead(out, claim, seeds)
        if gap is None:
            continue
        what = "change of score" if claim.improving else "points of success"
        by = 1 if claim.improving else 100
        figures = f"{by * gap.mean:+.3g} {what} [{by * gap.low:+.3g}, {by * gap.high:+.3g}]"
        said = verdict(gap) + (" in this one seed" if seeds == 1 else "")  # the interval then draws tasks alone
        found.append(f"- {claim.says}: **{said}** (`{claim.after}` against `{claim.before}`: {figures}).")
    return found


def ahead(out: Path, claim: Claim, seeds: int) -> Interval | None:
    """Success of one contestant over another, paired by task and seed."""
    ends = {name: {seed: out / f"{name}-{seed}" for seed in range(seeds)} for name in (claim.before, claim.after)}
    return standings_of([contestant(claim.before), contestant(claim.after)], ends)[1].against


def improving(out: Path, before: str, after: str, seeds: int) -> Interval | None:
    """What K improvements add to one contestant's score over what they add to another's; None if nobody asked."""
    gaps: dict[int, dict[str, list[float]]] = {}
    for seed in range(seeds):
        first, second = (changes(improved(out / f"{name}-{seed}")) for name in (before, after))
        gaps[seed] = {task: [second[task] - first[task]] for task in second if task in first}
    return two_way(gaps, (-2.0, 2.0)) if any(gaps.values()) else None


def improved(run: Path) -> tuple[Improvement, ...]:
    """The last weights after 0, 1, ..., K improvements."""
    return rounds(run)[-1].evaluation.improved


def changes(steps: Sequence[Improvement]) -> dict[str, float]:
    """Of each task, what the improvements added to its score."""
    if not steps:
        return {}
    return {task: fmean(after) - fmean(steps[0].scores[task]) for task, after in steps[-1].scores.items()}


def by_steps(out: Path, names: Sequence[str], seeds: int) -> list[str]:
    """The table of K-step self-improvement."""
    rows = []
    for name in names:
        steps = [improved(out / f"{name}-{seed}") for seed in range(seeds)]
        if not all(steps):
            continue
        scores = [f"{fmean(each[k].score.mean for each in steps):.3f}" for k in range(len(steps[0]))]
        change = two_way(
            {seed: {task: [x] for task, x in changes(each).items()} for seed, each in enumerate(steps)}, (-1.0, 1.0)
        )
        rows.append(f"| {name} | {' | '.join([*scores, change.text(), *by_first(steps)])} |")
    if not rows:
        return []
    first = [improved_start(out / f"{names[0]}-{seed}") for seed in range(seeds)]
    if all(first):
        scores = [f"{fmean(each[k].score.mean for each in first):.3f}" for k in range(len(first[0]))]
        rows.insert(0, f"| *the start model* | {' | '.join([*scores, '-', *by_first(first)])} |")
    heads = [
        *(f"score at k = {k}" for k in range(rows[0].count("|") - 5)),
        "change (95 %)",
        "won again",
        "lost, change",
    ]
    told = (
        "*won again*: of the first attempts that were won, those that asking once leaves won; *lost, change*: what "
        "asking once adds to the score of the others."
    )
    return [f"| method | {' | '.join(heads)} |", f"| --- |{' --- |' * len(heads)}", *rows, "", told]


def improved_start(run: Path) -> tuple[Improvement, ...]:
    """The start model after 0, 1, ..., K improvements."""
    return rounds(run)[0].evaluation.improved


def by_first(steps: Sequence[Sequence[Improvement]]) -> list[str]:
    """What asking once does to first attempts that were won, and to others."""
    pairs = [
        pair
        for each in steps
        for task, first in each[0].scores.items()
        for pair in zip(first, each[1].scores[task], strict=True)
    ]
    again = [float(after >= 1.0) for before, after in pairs if before >= 1.0]
    gained = [after - before for before, after in pairs if before < 1.0]
    return [
        f"{100 * fmean(again):.0f} % of {len(again)}" if again else "-",
        f"{fmean(gained):+.3f}" if gained else "-",
    ]


# -- what the runs did, to look for reasons in -------------------------------------------------------------------------


def evidence(out: Path, names: Sequence[str], seeds: int) -> list[str]:
    """One row a contestant: rollouts, how many won, what was learnt at last, and what is the method's own."""
    rows = ["| method | rollouts won | learnt from at last, a seed | of its own |", "| --- | --- | --- | --- |"]
    for name in names:
        runs = [out / f"{name}-{seed}" for seed in range(seeds)]
        done = [each for run in runs for each in rounds(run) if each.number > 0 and each.collected is not None]
        made = sum(len(each.collected.episodes) for each in done if each.collected is not None)
        won = sum(each.collected.successes for each in done if each.collected is not None)
        kinds = Counter(kind for run in runs for kind in learnt(run))
        told = ", ".join(f"{kinds[kind] / seeds:.0f} {kind}" for kind in sorted(kinds)) or "-"
        rows.append(f"| {name} | {f'{100 * won / made:.0f} % of {made}' if made else '-'} | {told} | {own(runs)} |")
    return rows


def learnt(run: Path) -> list[str]:
    """The kinds of the samples of the last iteration that learnt anything."""
    numbers = sorted((int(path.parent.name[10:]) for path in run.glob("iteration-*/samples.jsonl.gz")), reverse=True)
    for number in numbers:
        with gzip.open(run / f"iteration-{number}/samples.jsonl.gz", "rt") as file:
            kinds = [str(json.loads(line)["kind"]) for line in file]
        if kinds:
            return kinds
    return []


def own(runs: Sequence[Path]) -> str:
    """What only this method has, over all runs and iterations."""
    if wins := _records(runs, "wins.json", WinMatrix):
        states = [[m.success_by_state[k] for m in wins] for k in range(min(len(m.success_by_state) for m in wins))]
        shares = ", ".join(f"{100 * fmean(x for x in at if x is not None):.0f}" for at in states if any_known(at))
        return f"wins from s_0, s_1, ...: {shares} %"
    if trees := _records(runs, "reflection.json", Reflection):
        splices = [splice for tree in trees for splice in tree.splices]
        judged = sum((Counter(tree.verdicts) for tree in trees), Counter[str]())
        kept = sum(splice.accepted for splice in splices)
        said = "; judged " + ", ".join(f"{n} {key}" for key, n in judged.items()) if judged else ""
        return f"{len(splices) / len(runs):.0f} splices a seed, {kept / len(runs):.0f} accepted{said}"
    if grades := _records(runs, "grades.json", Grades):
        kinds = Counter(grade.group.kind for each in grades for grade in each.grades)
        alike = [each.alike for each in grades if each.alike is not None]
        groups = ", ".join(f"{n / len(runs):.0f} {kind}" for kind, n in kinds.items())
        asked = [grade.group.start for each in grades for grade in each.grades if grade.group.kind == "improve"]
        firsts = f" ({sum(not start.fork_step for start in asked)} of {len(asked)} improve at a first turn)" * bool(
            asked
        )
        return f"groups a seed: {groups}{firsts}; {100 * fmean(alike):.0f} % without a difference"
    return ""


def any_known(values: Sequence[float | None]) -> bool:
    return any(value is not None for value in values)


def _records(runs: Sequence[Path], name: str, kind: type[Any]) -> list[Any]:
    return [read_record(file, kind) for run in runs for file in sorted(run.glob(f"iteration-*/{name}"))]


# -- the page ----------------------------------------------------------------------------------------------------------


def section(
    title: str,
    why: str,
    out: Path,
    names: Sequence[str],
    seeds: int,
    said: Mapping[str, Any],
    missing: Sequence[str] = (),
) -> str:
    """One study's part of the page.

    Args:
        why: what the study is for, in a few sentences.
        out: its directory. names: the contestants, the reference first. seeds: how many are finished.
        said: its settings. missing: contestants that have not finished these seeds.
    """
    ends = {name: {seed: out / f"{name}-{seed}" for seed in range(seeds)} for name in names}
    standings = standings_of([CONTESTANTS[name] for name in names], ends)
    first = rounds(out / f"{names[0]}-0")[:2]
    start = first[0].evaluation
    cloned = ""
    if first[-1].number == 0:  # else there are no experts
        success = first[-1].evaluation.success.text(percent=True)
        cloned = f", and after cloning the successful experts of seed 0 {success}"
    width = float(np.mean([s.success.high - s.success.low for s in standings])) * 50
    paired = [s.against for s in standings if s.against is not None]
    late = f" (not finished: {', '.join(missing)})" if missing else ""
    apart = float(np.mean([gap.high - gap.low for gap in paired])) * 50
    parts = [
        f"## {title}",
        why,
        f"{seeds} seed(s){late}. The start model wins {start.success.text(percent=True)} of the {start.card.tasks} "
        f"held-out tasks (score {start.score.text()}){cloned}. An interval of success reaches some {width:.0f} points "
        f"to each side, one of a difference to `{names[0]}` some {apart:.0f}: smaller effects cannot be seen here.",
        markdown(standings).strip(),
        "\n".join(["### The papers' claims", "", *checked(CLAIMS, out, names, seeds)]),
    ]
    if steps := by_steps(out, names, seeds):
        parts.append("\n".join(["### K-step self-improvement", "", *steps]))
    parts.append("\n".join(["### What the runs did", "", *evidence(out, names, seeds)]))
    versions = read_run(out / f"{names[0]}-0")["versions"][-1]
    parts.append(
        f"Settings: `{json.dumps(short(said))}`. Versions: {', '.join(f'{k} {v}' for k, v in versions.items())}."
    )
    return "\n\n".join(parts)


def short(said: object) -> object:
    """Settings to be read by people: of a long list its ends and how many there are."""
    if isinstance(said, Mapping):
        return {key: short(value) for key, value in said.items()}
    if isinstance(said, list) and len(said) > 8:
        return f"{said[0]} ... {said[-1]} ({len(said)})"
    return said


def parts(text: str) -> dict[str, str]:
    """The parts of a page by their titles, each with its title."""
    found = [part.strip() for part in re.split(r"^(?=## |<!-- )", text, flags=re.MULTILINE)]
    return {part.partition("\n")[0][3:]: part for part in found if part.startswith("## ")}


def page(sections: Sequence[str], remarks: str = "") -> str:
    """The whole page."""
    opening = (
        "# What the methods learn\n\nMade by `python3 dev.py results` (`make results`, `bench/learning.py`), which "
        "goes on where it was stopped and writes this page anew with every seed that is finished. The start of every "
        "contestant is the same tiny model, trained from nothing on solved episodes of tasks that no contestant trains "
        "on. All contestants have the same training tasks, the same experts if any, the same number of rollouts and "
        "the same number of ids in a fit (to the last batch): *ids in fits* counts those of a run's fits, of which "
        "clones and best of k have one, and others one more an iteration; the rounds of GRPO and ExIt share out the "
        "latter. Answers are drawn among the admissible actions. Held-out tasks are answered at the temperature that "
        "the settings say. Intervals are 95 % bootstraps over held-out tasks and seeds; a claim *holds* if the whole "
        "interval of its difference is above 0. What runs of one seed have in common is made once and counts in each "
        "of them."
    )
    return "\n\n".join(part for part in (opening, remarks.strip(), *sections) if part) + "\n"
