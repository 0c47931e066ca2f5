"""The page of a run: what came of it first, then its curves, tables, settings, versions and cards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from palaestra.trainers import report_tables as tables
from palaestra.trainers.evaluate import Comparison
from palaestra.trainers.report_page import facts, figure, folded, page, table, text
from palaestra.trainers.report_phases import sections
from palaestra.trainers.report_plots import Mark, bars, curve, intervals, points
from palaestra.trainers.statistics import Interval

if TYPE_CHECKING:
    from palaestra.trainers.report import Iteration, Round

_FITS = 4


def html(
    record: dict[str, Any], done: Sequence[Round], made: Sequence[Iteration], differences: Sequence[Comparison]
) -> bytes:
    """The whole of `report.html`."""
    body = [
        _summary(done, made),
        "".join(f"<p>{text(tables.sentence(each))}.</p>" for each in differences[-1:]),
        table(tables.HEADS, [tables.cells(each) for each in done], numbers=(6, 7)),
        f'<div class="plots">{"".join(_plots(done, made))}</div>',
        _differences(differences),
        *_tables(done, made),
        "<h2>Run</h2>" + "".join(f"<p><code>{text(fact)}</code></p>" for fact in tables.facts_of(record)),
        folded("Settings", table(["key", "value"], list(tables.settings(record["config"])))),
        "<h2>Evaluation cards</h2>",
        *(_card(each) for each in done),
    ]
    return page(tables.title(record), tables.protocol(done), body)


def _summary(done: Sequence[Round], made: Sequence[Iteration]) -> str:
    first, last = done[0].evaluation, done[-1].evaluation
    shown = [(f"success, {last.label}", _percent(last.success))]
    if len(done) > 1:
        shown.insert(0, (f"success, {first.label}", _percent(first.success)))
    shown.append((f"score, {last.label}", f"{last.score.mean:.2f}"))
    if made:
        rollouts = sum(len(each.collected.episodes) for each in made if each.number)
        shown += [("rollouts", f"{rollouts:,}"), ("faults", str(sum(each.collected.faults for each in made)))]
        trained = sum(each.fitted.report.tokens_trained for each in made if each.fitted.report)
        shown.append(("tokens trained", f"{trained:,}"))
    shown.append(("minutes", f"{sum(each.minutes for each in done):.1f}"))
    return facts(shown)


def _percent(found: Interval) -> str:
    return f"{100 * found.mean:.1f} %"


def _plots(done: Sequence[Round], made: Sequence[Iteration]) -> list[str]:
    """Success, score, what was collected, faults, tokens and loss, over the iterations."""
    held = [(_short(each), each.evaluation) for each in done]
    won = [Mark(name, e.success.mean, e.success.low, e.success.high) for name, e in held]
    scores = [Mark(name, e.score.mean, e.score.low, e.score.high) for name, e in held]
    plots = [
        figure("Success", "on held-out tasks, 95 % intervals", points(won, percent=True, colour="--won")),
        figure("Score", "on held-out tasks, 95 % intervals", points(scores, percent=False)),
    ]
    if not made:
        return plots
    collected = [(each.label, each) for each in made]
    rollouts = [Mark(name, len(e.collected.episodes), share=e.collected.successes) for name, e in collected]
    own = [pair for pair in collected if pair[1].number] or collected  # what experts scored is no point of the curve
    score = [Mark(name, e.score) for name, e in own if e.score is not None]
    faults = [Mark(name, e.collected.faults) for name, e in collected]
    judged = any(e.collected.judged for _, e in own)
    what = "imagined, of which a judge calls won" if judged else "collected, of which won"
    said = "imagined, by a judge's word" if judged else "collected"
    told = "in collecting" if any(mark.value for mark in faults) else "in collecting: none"
    answered = [Mark(name, e.prompt_tokens + e.completion_tokens, share=e.completion_tokens) for name, e in collected]
    trained = [Mark(name, e.fitted.report.tokens_trained if e.fitted.report else 0) for name, e in collected]
    plots += [figure("Episodes", f"{what}, by iteration", bars(rollouts, colour="--won"))]
    plots += [figure("Score of episodes", f"{said}, by iteration", points(score, percent=False))] if score else []
    plots += [figure("Faults", told, bars(faults, colour="--bad"))]
    if any(mark.value for mark in answered):
        plots += [figure("Tokens of episodes", "of which the agent wrote", bars(answered))]
    plots += [figure("Tokens trained", "by iteration", bars(trained, colour="--two"))]
    return plots + _losses(made)


def _losses(made: Sequence[Iteration]) -> list[str]:
    """A curve a fit; where there are many, one of all of them in a row."""
    fits = [(each, each.fitted.report.losses) for each in made if each.fitted.report and each.fitted.report.losses]
    if len(fits) > _FITS:
        row = [loss for _, losses in fits for loss in losses]
        what = f"of {len(fits)} fits in a row, {row[0]:.3f} to {row[-1]:.3f} in {len(row)} steps"
        return [figure("Loss", what, curve(row, what, colour="--two"))]
    plots = []
    for each, losses in fits:
        what = f"{losses[0]:.3f} to {losses[-1]:.3f} in {len(losses)} steps"
        name = each.label if each.number == 0 else f"iteration {each.label}"
        plots.append(figure(f"Loss, {name}", what, curve(losses, what, colour="--two")))
    return plots


def _short(each: Round) -> str:
    return {-1: "start", 0: "experts"}.get(each.number, str(each.number))


def _differences(differences: Sequence[Comparison]) -> str:
    if not differences:
        return ""
    most = max(0.1, *(abs(end) for each in differences for end in (each.success.low, each.success.high)))
    plot = intervals([(each.after, each.success) for each in differences], low=-most, high=most, zero=True)
    what = f"of success to {differences[0].before}, in points, on the same tasks, 95 % intervals"
    return figure("Difference", what, plot, wide=True)


def _tables(done: Sequence[Round], made: Sequence[Iteration]) -> list[str]:
    heads, rows = tables.by_task(done)
    parts = ["<h2>By task type</h2>", table(heads, rows)]
    if steps := tables.improved(done):
        parts += ["<h2>Self-improvement</h2>", table(*steps)]
    if made:
        numbers = range(1, len(tables.ITERATION))
        parts += ["<h2>Iterations</h2>", table(tables.ITERATION, list(map(tables.iteration_cells, made)), numbers)]
    for section in sections(made):
        parts += [f"<h2>{text(section.title)}</h2>", table(section.heads, section.rows)]
        parts += [f"<p>{text(line)}</p>" for line in section.told]
    fits = [(each.evaluation.label, each.fit) for each in done if each.fit is not None]
    if fits:
        parts.append("<h2>Fits</h2>")
        parts.append(table(["weights", *tables.FIT], [[label, *tables.fit_cells(fit)] for label, fit in fits]))
    return parts


def _card(each: Round) -> str:
    return folded(each.evaluation.label, table(["field", "value"], tables.card_rows(each.evaluation.card)))
