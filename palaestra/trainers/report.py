"""The report of a run: `report.md`, and `report.html` in one file that needs nothing else.

Both say the same: success before and after on held-out tasks, the paired differences, the loss curves, and the cards.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palaestra.envs import BadInput
from palaestra.trainers.evaluate import Cluster, Comparison, Evaluation, compare
from palaestra.trainers.objective import FitReport
from palaestra.trainers.phases import Collected, Fitted, Plan, together
from palaestra.trainers.rundir import read_record, read_run, write_whole

HEADS = ("weights", "success (95 %)", "score (95 %)", "episodes", "invalid", "rollouts", "trained tokens", "minutes")


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
        """Wall time of evaluating, and of fitting."""
        return self.evaluation.minutes + (self.fit.seconds / 60 if self.fit else 0.0)

    def cells(self) -> list[str]:
        """This round as a row under `HEADS`."""
        e, fit = self.evaluation, self.fit
        rollouts = str(self.plan.rollouts) if self.plan else ("experts" if self.collected else "-")
        if self.collected is not None:
            rollouts += f" ({self.collected.successes} won)"
        episodes = str(e.episodes) + (f" (+{e.missing} faults left out)" if e.missing else "")
        episodes += f" ({e.out_of_context} out of context)" if e.out_of_context else ""
        label = e.label + (" (nothing to learn: weights unchanged)" if self.fitted is not None and fit is None else "")
        return [
            label,
            e.success.text(percent=True),
            e.score.text(),
            episodes,
            f"{100 * e.invalid:.1f} %",
            rollouts,
            f"{fit.tokens_trained:,}" if fit else "-",
            f"{self.minutes:.1f}",
        ]


def rounds(run: str | Path) -> list[Round]:
    """What a run has finished so far. Raises BadInput when it is no run or a result is damaged."""
    run = Path(run)
    read_run(run)
    found: list[Round] = []
    if (run / "start/evaluation.json").is_file():
        found.append(Round(-1, read_record(run / "start/evaluation.json", Evaluation)))
    numbers = sorted(
        int(folder.name.removeprefix("iteration-"))
        for folder in run.glob("iteration-[0-9]*")
        if folder.name.removeprefix("iteration-").isdecimal() and (folder / "fit.json").is_file()
    )
    since: list[tuple[Plan | None, Collected, Fitted]] = []
    for number in numbers:
        folder = run / f"iteration-{number}"
        plan = read_record(folder / "plan.json", Plan) if (folder / "plan.json").is_file() else None
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
    run = Path(run)
    record, done = read_run(run), rounds(run)
    if not done:
        raise BadInput(f"{run} has no evaluation yet, so there is nothing to report")
    cluster: Cluster = (record["config"].get("evaluation") or {}).get("cluster", "task")
    differences = [compare(done[0].evaluation, each.evaluation, cluster) for each in done[1:]]
    write_whole(run / "report.md", _markdown(record, done, differences).encode())
    write_whole(run / "report.html", _html(record, done, differences).encode())
    return run / "report.html"


def _title(record: dict[str, Any]) -> str:
    config = record["config"]
    env, model = config.get("env", "an unknown environment"), Path(config.get("model", "an unknown model")).name
    return f"{record['recipe'].upper()} on {env} with {model}"


def _protocol(done: list[Round]) -> str:
    card = done[0].evaluation.card
    cap = f"at most {card.step_cap} actions" if card.step_cap is not None else "no step cap"
    protocol = f"protocol {card.protocol}" if card.protocol else "no named protocol"
    return (
        f"Held-out tasks: {card.tasks} of {card.split_tasks} of split {card.split}, {card.samples} episode(s) each, "
        f"{cap}, {protocol}. Intervals: {card.interval}. Figures of other protocols are not comparable."
    )


def _sentence(difference: Comparison) -> str:
    return (
        f"{difference.after} against {difference.before}, on the same {difference.tasks} tasks: success "
        f"{_signed(difference.success.mean * 100)} points [{_signed(difference.success.low * 100)}, "
        f"{_signed(difference.success.high * 100)}], score {_signed(difference.score.mean, 3)} "
        f"[{_signed(difference.score.low, 3)}, {_signed(difference.score.high, 3)}]"
        + (f"; they also differ in {' and '.join(difference.also_differ)}" if difference.also_differ else "")
    )


def _signed(value: float, digits: int = 1) -> str:
    return f"{value:+.{digits}f}"


def _by_task(done: list[Round]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table by task type: success and score of every round."""
    types: list[str] = list(dict.fromkeys(row.type for row in done[0].evaluation.tasks))
    rows = []
    for kind in types:
        row = [kind]
        for each in done:
            of = [task for task in each.evaluation.tasks if task.type == kind]
            won = [float(value) for task in of for value in task.successes]
            scores = [value for task in of for value in task.scores]
            row.append(f"{100 * sum(won) / len(won):.0f} % / {sum(scores) / len(scores):.2f}" if won else "faults only")
        rows.append(row)
    return ["task type (success / score)", *(each.evaluation.label for each in done)], rows


def _improved(done: list[Round]) -> tuple[list[str], list[list[str]]] | None:
    """Heads and rows of the table of self-improvement: score after k times improving, and its change. None without."""
    heads = ["weights", "k", "success", "score", "change of score"]
    rows = [
        [each.evaluation.label, str(at.k), at.success.text(percent=True), at.score.text(), at.change.text()]
        for each in done
        for at in each.evaluation.improved
    ]
    return (heads, rows) if rows else None


def _facts(record: dict[str, Any]) -> list[str]:
    versions = "; ".join(", ".join(f"{name} {number}" for name, number in each.items()) for each in record["versions"])
    commands = [f"Command: {command}" for command in record["commands"]]
    return [*commands, f"Versions: {versions}", f"Seed: {record['config'].get('seed', 'unknown')}"]


def _markdown(record: dict[str, Any], done: list[Round], differences: list[Comparison]) -> str:
    heads, rows = _by_task(done)
    parts = [f"# {_title(record)}", _protocol(done), _table(list(HEADS), [each.cells() for each in done])]
    parts += ["\n".join(f"- {_sentence(difference)}" for difference in differences)] if differences else []
    parts += ["## By task type", _table(heads, rows)]
    if steps := _improved(done):
        parts += ["## Self-improvement", _table(*steps)]
    fits = [(each.evaluation.label, each.fit) for each in done if each.fit is not None]
    if fits:
        parts += ["## Fits", _table(["weights", *_FIT], [[label, *_fit_cells(fit)] for label, fit in fits])]
    parts += ["## Run", "\n".join(f"- {fact}" for fact in _facts(record))]
    parts += ["## Evaluation cards"]
    parts += [f"### {each.evaluation.label}\n\n{each.evaluation.card.markdown()}" for each in done]
    return "\n\n".join(parts) + "\n"


_FIT = ("samples", "left out as too long", "first loss", "last loss", "ids/s", "device", "version")


def _fit_cells(fit: FitReport) -> list[str]:
    first, last = (f"{fit.losses[place]:.3f}" for place in (0, -1))
    speed = f"{fit.tokens_per_second:.0f}"
    return [str(fit.samples), str(fit.dropped), first, last, speed, f"{fit.device} {fit.precision}", fit.version]


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.3rem .7rem;border-bottom:1px solid #d0d7de;text-align:left}
th{font-weight:600}td+td,th+th{font-variant-numeric:tabular-nums}svg{background:#f6f8fa;border-radius:6px}
figure{display:inline-block;margin:.5rem 1rem .5rem 0}figcaption{font-size:13px;color:#57606a}
details{margin:.4rem 0}code{background:#f6f8fa;padding:.1rem .3rem}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}th,td{border-color:#30363d}svg,code{background:#161b22}}
"""


def _html(record: dict[str, Any], done: list[Round], differences: list[Comparison]) -> str:
    heads, rows = _by_task(done)
    title = html.escape(_title(record))
    parts = [f"<h1>{title}</h1>", f"<p>{html.escape(_protocol(done))}</p>"]
    parts.append(_html_table(list(HEADS), [each.cells() for each in done]))
    parts.append("<ul>" + "".join(f"<li>{html.escape(_sentence(each))}</li>" for each in differences) + "</ul>")
    parts.append(_bars([each.evaluation for each in done]))
    parts += ["<h2>By task type</h2>", _html_table(heads, rows)]
    if steps := _improved(done):
        parts += ["<h2>Self-improvement</h2>", _html_table(*steps)]
    fits = [(each.evaluation.label, each.fit) for each in done if each.fit is not None]
    if fits:
        parts.append("<h2>Fits</h2>" + "".join(_curve(label, fit.losses) for label, fit in fits))
        parts.append(_html_table(["weights", *_FIT], [[label, *_fit_cells(fit)] for label, fit in fits]))
    parts.append("<h2>Run</h2><ul>" + "".join(f"<li><code>{html.escape(x)}</code></li>" for x in _facts(record)))
    parts.append("</ul><h2>Evaluation cards</h2>")
    for each in done:
        card = each.evaluation.card
        pairs = [[name.replace("_", " "), str(value)] for name, value in card.model_dump().items()]
        label = html.escape(each.evaluation.label)
        parts.append(f"<details><summary>{label}</summary>{_html_table(['field', 'value'], pairs)}</details>")
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>{body}</body></html>\n'
    )


def _html_table(heads: list[str], rows: list[list[str]]) -> str:
    top = "".join(f"<th>{html.escape(head)}</th>" for head in heads)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _bars(evaluations: list[Evaluation]) -> str:
    """Success of every round as a dot with its interval."""
    width, line = 420, 26
    marks = []
    for number, each in enumerate(evaluations):
        y = line * number + 20
        low, mean, high = (200 + width * value for value in (each.success.low, each.success.mean, each.success.high))
        marks.append(
            f'<text x="8" y="{y + 4}" font-size="12" fill="currentColor">{html.escape(each.label)}</text>'
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="#0969da" stroke-width="3"/>'
            f'<circle cx="{mean:.1f}" cy="{y}" r="5" fill="#0969da"/>'
        )
    height = line * len(evaluations) + 34
    axis = "".join(
        f'<line x1="{200 + width * k / 4}" x2="{200 + width * k / 4}" y1="6" y2="{height - 22}" stroke="#8b949e55"/>'
        f'<text x="{200 + width * k / 4}" y="{height - 6}" font-size="11" text-anchor="middle" fill="currentColor">'
        f"{25 * k} %</text>"
        for k in range(5)
    )
    caption = "success on held-out tasks, 95 % intervals"
    svg = f'<svg role="img" aria-label="{caption}" width="{width + 230}" height="{height}">{axis}{"".join(marks)}</svg>'
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"


def _curve(label: str, losses: tuple[float, ...]) -> str:
    """A loss curve: one point an optimiser step."""
    width, height = 300, 120
    top, bottom = max(losses), min(0.0, *losses)
    span = (top - bottom) or 1.0
    step = width / max(1, len(losses) - 1)
    points = " ".join(
        f"{8 + step * k:.1f},{8 + height * (1 - (loss - bottom) / span):.1f}" for k, loss in enumerate(losses)
    )
    caption = html.escape(f"{label}: loss {losses[0]:.3f} to {losses[-1]:.3f} in {len(losses)} steps")
    return (
        f'<figure><svg role="img" aria-label="{caption}" width="{width + 16}" height="{height + 16}">'
        f'<polyline points="{points}" fill="none" stroke="#0969da" stroke-width="1.5"/></svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
