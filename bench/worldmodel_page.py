"""What `worldmodel_study.py` found, as a part of docs/results.md. Everything is read from the runs' directories."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import worldmodel_verifier as verified
from pydantic import BaseModel, ConfigDict
from worldmodel_judged import FILE, Judged
from worldmodel_truth import imagined, true

from palaestra.envs import TextEnv, make
from palaestra.trainers.compare import standings_of
from palaestra.trainers.evaluate import Evaluation
from palaestra.trainers.report import rounds
from palaestra.trainers.rundir import read_record, write_whole
from palaestra.trainers.statistics import Interval, two_way
from palaestra.worldmodel import compared
from palaestra.worldmodel.fidelity import Fidelity
from palaestra.worldmodel.methods import CONTESTANTS
from palaestra.worldmodel.training import Learnt

SECTION = Path(__file__).with_name("results") / "worldmodel.md"
REMARKS = Path(__file__).with_name("worldmodel_remarks.md")
OPENS = "<!-- world model: written by bench/worldmodel_study.py -->"
CLOSES = "<!-- end of the world model -->"
ALONE = "alone"


class Acted(BaseModel):
    """How one arm of a study played the held-out tasks under one seed.

    Attributes:
        spent: what looking ahead cost (see `Spent`); of the last process, where it was killed on the way.
        world: run directory of the world model. seconds: of processor time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    evaluation: Evaluation
    spent: dict[str, Any]
    world: str
    seconds: float


def acting_file(folder: Path, seed: int, name: str) -> Path:
    """Where an arm's result of a seed is kept."""
    slug = "".join(letter for letter in name.replace(" ", "-") if letter.isalnum() or letter == "-")
    return folder / "acting" / f"{seed}-{slug}.json"


def acting_files(folder: Path, name: str) -> dict[int, Path]:
    """The results of an arm that are there, by seed."""
    ending = acting_file(folder, 0, name).name.removeprefix("0")
    files = {int(file.name.partition("-")[0]): file for file in sorted(folder.glob(f"acting/[0-9]*{ending}"))}
    return {seed: file for seed, file in files.items() if file.name == f"{seed}{ending}"}


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows))


def points(gap: Interval) -> str:
    """A difference of shares, in points."""
    return f"{100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"


# -- how far it can be trusted -----------------------------------------------------------------------------------------


def trust(folder: Path) -> str:
    """How good the world models of a study are, over their seeds; "" where none was measured."""
    runs = [run for run in sorted(folder.glob("world-*")) if (run / "fidelity.json").is_file()]
    if not runs:
        return ""
    found = [read_record(run / "fidelity.json", Fidelity) for run in runs]
    learnt = [read_record(run / "fit.json", Learnt) for run in runs]
    measures: dict[str, Callable[[compared.Compared], float]] = {
        "exact": lambda page: float(page.problem is None and page.imagined == page.real),
        "similarity": lambda page: page.similarity,
        "copying": lambda page: page.copying,
        "copying exact": lambda page: float(page.copying == 1.0),
        "gain": lambda page: page.similarity - page.copying,
        "ending": lambda page: float(page.problem is None and page.over == page.ended),
    }
    pages = [compared.read(run / compared.PAGES) for run in runs]
    rows = []
    for steps in sorted({page.steps for of in pages for page in of}):
        here = [[page for page in of if page.steps == steps] for of in pages]
        cells = [str(steps), str(sum(map(len, here))), str(sum(page.problem is not None for of in here for page in of))]
        for name, value in measures.items():
            values: dict[int, dict[str, list[float]]] = {}
            for seed, of in enumerate(here):
                values[seed] = defaultdict(list)
                for page in of:
                    values[seed][page.task].append(value(page))
            cells.append(two_way(values, (-1.0 if name == "gain" else 0.0, 1.0)).text())
        for ended in (True, False):
            said = [page.problem is None and page.over for of in here for page in of if page.ended == ended]
            cells.append(f"{sum(said)} of {len(said)}")
        rows.append(cells)
    losses = ", ".join(f"{each.report.losses[0]:.2f} to {each.report.losses[-1]:.2f}" for each in learnt)
    judges = learnt[0].judgements > 0
    ends = {row.steps: row.reward.text() for row in found[0].horizons if row.reward is not None and judges}
    listed = {row.steps: row.actions.text() for row in found[0].horizons if row.actions is not None}
    for cells in rows:
        cells.append(ends.get(int(cells[0]), "-"))
        cells += [listed.get(int(cells[0]), "-")] if listed else []
    heads = ["steps", "pages", "cut", *measures, "ends seen", "false ends", "score of ends (first one)"]
    heads += ["actions (first one)"] if listed else []
    file = runs[0] / FILE
    fresh = Path(learnt[0].base).name.startswith("fresh")
    begun = "from fresh weights" if fresh else "from the weights named above"
    said = " " + read_record(file, Judged).text() if file.is_file() else ""
    return (
        f"{len(runs)} world model(s) of {learnt[0].report.trainable_parameters:,} parameters, trained {begun}, with "
        f"{learnt[0].transitions:,} transitions and {learnt[0].judgements:,} judgements to learn from, "
        f"{learnt[0].report.tokens_seen:,} ids through it in {learnt[0].report.seconds / 60:.0f} minutes (loss "
        f"{losses}). Measured on "
        f"{found[0].episodes} real episodes of {found[0].tasks} tasks that it did not learn from:\n\n"
        + table(heads, rows)
        + f"\n\nTrusted for {', '.join(str(of.trusted) for of in found)} steps (similarity of at least 0.5 and a gain "
        "over copying, at the lower ends). Of ends, a judged score within 0.25 of the real one is right."
        + (" Actions: |both| / |either| of what can be done, mean over pages that list any." if listed else "")
        + said
    )


# -- looking ahead -----------------------------------------------------------------------------------------------------


def later_folder(folder: Path, method: str) -> Path:
    """Where it is kept how the policies that a recipe ended with play."""
    return folder / f"after-{method}"


def worlds(folder: Path, method: str, seed: int = 0) -> list[Path]:
    """The world models of a recipe's run, the last one last."""
    found = folder.glob(f"synthesis/{method}-{seed}/iteration-*/world")
    return sorted(found, key=lambda path: int(path.parent.name[10:]))


def acting(folder: Path, names: Sequence[str], method: str = "") -> str:
    """The policy, or those that a method ended with, alone and looking ahead; "" where nothing was played."""
    done: dict[str, dict[int, Acted]] = {}
    for name in names:
        done[name] = {seed: read_record(file, Acted) for seed, file in acting_files(folder, name).items()}
    rows = []
    for name, of in done.items():
        if not of:
            continue
        success = two_way({seed: _wins(each.evaluation) for seed, each in of.items()}, (0.0, 1.0))
        score = two_way({seed: _scores(each.evaluation) for seed, each in of.items()}, (0.0, 1.0))
        both = [seed for seed in of if seed in done[ALONE]]
        gap = "-"
        if name != ALONE and both:
            pairs = {seed: (_wins(done[ALONE][seed].evaluation), _wins(of[seed].evaluation)) for seed in both}
            gaps = {
                s: {task: [fmean(after[task]) - fmean(before[task])] for task in after}
                for s, (before, after) in pairs.items()
            }
            gap = points(two_way(gaps, (-1.0, 1.0)))
        rows.append([name, success.text(percent=True), score.text(), gap, *_spent(list(of.values())), str(len(of))])
    if not rows:
        return ""
    tasks = done[ALONE][min(done[ALONE])].evaluation.card.tasks if done[ALONE] else 0
    heads = ["who acts", "success (95 %)", "score (95 %)", "against alone, points", "calls a decision", "changed"]
    who = "The same policy"
    if method:
        own = bool(worlds(folder.parent, method))
        whose = "their run trained last" if own else "the policy above looks ahead in"
        when = "ended with" if own else "had after its rounds"
        who = f"The policies that `{method}` {when}, one a seed, and the world model that {whose},"
    return (
        f"{who} on {tasks} held-out tasks, with 3 candidates from the first step on. Calls: policy + world "
        "model + judge; for real look-ahead the second are real steps and the true score judges.\n\n"
        + table([*heads, "branches cut", "CPU s a seed", "seeds"], rows)
    )


def _wins(found: Evaluation) -> dict[str, list[float]]:
    return {row.task: [float(won) for won in row.successes] for row in found.tasks if row.successes}


def _scores(found: Evaluation) -> dict[str, list[float]]:
    return {row.task: list(row.scores) for row in found.tasks if row.scores}


def _spent(of: Sequence[Acted]) -> list[str]:
    """Calls of a decision, decisions that were changed, branches that were cut, and seconds."""
    seconds = f"{sum(each.seconds for each in of) / len(of):.0f}"
    spent = [each.spent for each in of if each.spent]
    if not spent:
        return ["1", "-", "-", seconds]
    total = {key: sum(each[key] for each in spent) for key in spent[0] if key != "cut"}
    decisions = max(1, total["decisions"])
    cut = sum(sum(each["cut"].values()) for each in spent) / max(1, total["candidates"])
    calls = " + ".join(f"{total[key] / decisions:.1f}" for key in ("policy", "world", "judge"))
    return [calls, f"{100 * total['changed'] / decisions:.0f} %", f"{100 * cut:.0f} %", seconds]


# -- synthesis ---------------------------------------------------------------------------------------------------------


def rounds_file(folder: Path, seed: int) -> Path:
    """Where it is kept what the weights after the rounds of self-improvement are worth."""
    return folder / "synthesis" / f"rounds-{seed}.json"


def synthesis(folder: Path, names: Sequence[str], env: TextEnv[Any]) -> str:
    """WebEvolver beside its controls; "" where no seed of all is finished."""
    place = folder / "synthesis"
    seeds = 0
    while all((place / f"{name}-{seeds}" / "report.html").is_file() for name in names):
        seeds += 1
    if not seeds:
        return ""
    ends = {name: {seed: place / f"{name}-{seed}" for seed in range(seeds)} for name in names}
    rows = []
    for standing in standings_of([CONTESTANTS[name] for name in names], ends):
        found = [imagined(run) for run in ends[standing.method].values()]
        runs = zip(ends[standing.method].values(), found, strict=True)
        truths = [each for run, of in runs for each in true(run, of, env)]
        kept = [each.solved for each in truths if each.kept]
        whole = [each.possible for each in truths if not each.cut]
        made = len(truths)
        rows.append(
            [
                f"`{standing.method}`",
                standing.success.text(percent=True),
                standing.score.text(),
                points(standing.against) if standing.against is not None else "-",
                f"{sum(of.unsolved for of in found) / seeds:.0f}",
                f"{made / seeds:.0f} ({sum(sum(of.cut.values()) for of in found) / seeds:.0f} cut)" if made else "-",
                f"{sum(whole)} of {len(whole)}" if made else "-",
                f"{len(kept) / seeds:.1f}" if made else "-",
                f"{sum(kept)} of {len(kept)}; all: {sum(each.solved for each in truths)} of {made}" if made else "-",
            ]
        )
    alone = {s: read_record(file, Evaluation) for s in range(seeds) if (file := rounds_file(folder, s)).is_file()}
    if len(alone) == seeds:
        gaps = {}
        for seed, found in alone.items():
            fitted = _wins(rounds(ends[names[0]][seed])[-1].evaluation)
            gaps[seed] = {t: [fmean(won) - fmean(fitted[t])] for t, won in _wins(found).items()}
        success = two_way({s: _wins(found) for s, found in alone.items()}, (0.0, 1.0)).text(percent=True)
        score = two_way({s: _scores(found) for s, found in alone.items()}, (0.0, 1.0)).text()
        rows.insert(0, ["*after the rounds*", success, score, points(two_way(gaps, (-1.0, 1.0))), *["-"] * 5])
    heads = ["method", "success (95 %)", "score (95 %)", f"against `{names[0]}`, points", "tasks never solved"]
    said, place = "", folder / "verifier"
    if (place / verified.AGAIN).is_file():
        said = read_record(place / verified.FILE, verified.Verified).text()
        said = f"\n\n{said} {read_record(place / verified.AGAIN, verified.Rejudged).text()}"
    return (
        "Two rounds of self-improvement, then synthesis for the tasks that were never solved, and one last fit, all at "
        "equal ids. The last fit learns what the first round won, as the paper's does, and what was imagined; that of "
        f"`{names[0]}` the former alone. *After the rounds* are the weights before it, which learn what both rounds "
        "won. Only this gym can say whether what was imagined is true: the imagined actions were taken in the real "
        "environment afterwards (that taught nobody anything). *Possible* are those whose every action it understands, "
        "of those that were not cut.\n\n"
        + table([*heads, "imagined episodes", "possible", "judged solved", "truly solved, of the judged"], rows)
        + f"\n\n{seeds} seed(s); means over seeds, intervals over tasks and seeds.{said}"
    )


# -- the page ----------------------------------------------------------------------------------------------------------


def written(text: str) -> dict[str, str]:
    """The parts of studies that a text holds, by their titles."""
    found = [part.strip() for part in re.split(r"^(?=### )", text, flags=re.MULTILINE)]
    return {part.partition("\n")[0][4:]: part for part in found if part.startswith("### ")}


def write_page(out: Path, docs: Path) -> None:
    """Write what is finished to bench/results/worldmodel.md, and into the page between its two markers.

    Parts of studies of which nothing is in `out` stay as they stand on the page: they were run elsewhere.
    """
    from worldmodel_studies import ARMS, LATER, STUDIES

    page = docs.read_text(encoding="utf-8") if docs.is_file() else ""
    before, _, rest = page.partition(OPENS)
    old, _, after = rest.partition(CLOSES)
    parts, kept = [], written(old)
    for name, study in STUDIES.items():
        found = [trust(out / name), acting(out / name, ARMS)]
        if (out / name / "synthesis").is_dir():
            env = make(study.env, **dict(study.env_settings))  # its tasks are others under other settings
            found.append(synthesis(out / name, study.compared, env))
            env.close()
        found += [acting(later_folder(out / name, method), ARMS, method) for method in LATER]
        if any(found):
            parts.append("\n\n".join([f"### {study.title}", *(part for part in (study.why, *found) if part)]))
        elif study.title in kept:
            parts.append(kept[study.title])
    if not parts:
        return
    remarks = REMARKS.read_text(encoding="utf-8").strip() if REMARKS.is_file() else ""
    opening = (
        "## The world model\n\nMade by `python bench/worldmodel_study.py` (what it does stands at its top, settings "
        "in `bench/worldmodel_studies.py`), which goes on where it was stopped; `--study` names a part. World models "
        "learn from real episodes of an oracle, a flawed oracle, a random policy and the start model, in tasks that "
        "nobody else trains or is measured on (where a part says so, in some that the policy was taught). Intervals "
        "are 95 % bootstraps over tasks and seeds."
    )
    text = "\n\n".join(part for part in (OPENS, opening, remarks, *parts, CLOSES) if part)
    write_whole(SECTION, (text + "\n").encode())
    write_whole(docs, "\n\n".join(part for part in (before.strip(), text, after.strip()) if part).encode() + b"\n")
