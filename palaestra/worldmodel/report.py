"""The report of a world model's training: `report.md`, and `report.html` in one file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from palaestra.trainers.report_page import facts, figure, folded, page, table, text
from palaestra.trainers.report_plots import Mark, curve, points
from palaestra.trainers.report_tables import FIT as FIT_HEADS
from palaestra.trainers.report_tables import facts_of, fit_cells, settings
from palaestra.trainers.rundir import read_record, read_run, write_whole
from palaestra.worldmodel.fidelity import Fidelity
from palaestra.worldmodel.training import Learnt

_MEASURES = ("similarity", "gain", "exact", "ending", "actions", "reward")


def write_report(run: Path, found: Fidelity | None) -> Path:
    """Write both files of a run of `palaestra worldmodel train`.

    Args:
        found: what was measured on tasks that were set aside; None where none were.

    Returns:
        The path of `report.html`.

    Raises:
        BadInput: not such a run, damaged, or it cannot be written.
    """
    record, learnt = read_run(run), read_record(run / "fit.json", Learnt)
    fit = learnt.report
    title = f"World model of {record['config'].get('env', '?')} from {Path(learnt.base).name}"
    lead = f"Learnt from {learnt.transitions:,} transitions and {learnt.judgements:,} judgements."
    if learnt.elsewhere:
        lead += f" Of the store {learnt.elsewhere:,} episodes were left out: played with other settings."
    told = found.markdown() if found else "No task was set aside, so nothing was measured.\n"
    write_whole(run / "report.md", f"# {title}\n\n{lead}\n\n{told}".encode("utf-8", "backslashreplace"))
    what = f"{fit.losses[0]:.3f} to {fit.losses[-1]:.3f} in {len(fit.losses)} steps"
    plots = [*(_measures(found) if found else ()), figure("Loss", what, curve(fit.losses, what, colour="--two"))]
    shown = [("transitions", f"{learnt.transitions:,}"), ("tokens trained", f"{fit.tokens_trained:,}")]
    shown += [("trusted steps", str(found.trusted)), ("held-out episodes", str(found.episodes))] if found else []
    body = [
        facts(shown),
        "" if found else f"<p>{text(told)}</p>",
        f'<div class="plots">{"".join(plots)}</div>',
        _table(found) if found else "",
        "<h2>Fit</h2>" + table(FIT_HEADS, [fit_cells(fit)]),
        "<h2>Run</h2>" + "".join(f"<p><code>{text(fact)}</code></p>" for fact in facts_of(record)),
        folded("Settings", table(["key", "value"], list(settings(record["config"])))),
    ]
    write_whole(run / "report.html", page(title, lead, body))
    return run / "report.html"


def _measures(found: Fidelity) -> list[str]:
    """A plot a measure, over the imagined steps."""
    plots = []
    for name in _MEASURES:
        rows = [(row.steps, getattr(row, name)) for row in found.horizons]
        marks = [Mark(str(steps), v.mean, v.low, v.high) for steps, v in rows if v is not None]
        if marks:
            plots.append(figure(name.capitalize(), "by imagined steps, 95 % intervals", points(marks, percent=False)))
    return plots


def _table(found: Fidelity) -> str:
    rows = []
    for row in found.horizons:
        values = (getattr(row, name) for name in _MEASURES)
        rows.append([str(row.steps), str(row.count), str(row.cut), *("-" if v is None else v.text() for v in values)])
    told = f"<p>{text(found.metric)}. Trusted for {found.trusted} steps.</p>"
    return "<h2>Fidelity</h2>" + table(["steps", "compared", "cut", *_MEASURES], rows) + told
