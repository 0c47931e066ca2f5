"""What a report of a run says in words and tables, for the Markdown file and for the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palaestra.trainers.card import EvaluationCard
from palaestra.trainers.evaluate import Comparison
from palaestra.trainers.objective import FitReport
from palaestra.trainers.report_page import markdown_cell, markdown_table
from palaestra.trainers.report_phases import sections

if TYPE_CHECKING:
    from palaestra.trainers.report import Iteration, Round

HEADS = ("weights", "success (95 %)", "score (95 %)", "episodes", "invalid", "rollouts", "trained tokens", "minutes")
ITERATION = (
    "iteration",
    "episodes",
    "won",
    "score",
    "faults",
    "prompt tokens",
    "answered tokens",
    "samples",
    "trained",
)
FIT = ("samples", "left out as too long", "first loss", "last loss", "ids/s", "device", "version")

Table = tuple[list[str], list[list[str]]]


def cells(each: Round) -> list[str]:
    """A round as a row under `HEADS`."""
    e, fit = each.evaluation, each.fit
    rollouts = str(each.plan.rollouts) if each.plan else ("experts" if each.collected else "-")
    if each.collected is not None:
        rollouts += f" ({each.collected.successes} won{', judged' if each.collected.judged else ''})"
    episodes = str(e.episodes) + (f" (+{e.missing} faults left out)" if e.missing else "")
    episodes += f" ({e.out_of_context} out of context)" if e.out_of_context else ""
    label = e.label + (" (nothing to learn: weights unchanged)" if each.fitted is not None and fit is None else "")
    return [
        label,
        e.success.text(percent=True),
        e.score.text(),
        episodes,
        f"{100 * e.invalid:.1f} %",
        rollouts,
        f"{fit.tokens_trained:,}" if fit else "-",
        f"{each.minutes:.1f}",
    ]


def title(record: dict[str, Any]) -> str:
    config = record["config"]
    env, named = config.get("env", "an unknown environment"), str(config.get("model", "an unknown model"))
    model = "a tiny model" if named.startswith("tiny:") else Path(named).name
    return f"{record['recipe'].upper()} on {env} with {model}"


def protocol(done: Sequence[Round]) -> str:
    card = done[0].evaluation.card
    cap = f"at most {card.step_cap} actions" if card.step_cap is not None else "no step cap"
    protocol = f"protocol {card.protocol}" if card.protocol else "no named protocol"
    return (
        f"Held-out tasks: {card.tasks} of {card.split_tasks} of split {card.split}, {card.samples} episode(s) each, "
        f"{cap}, {protocol}. Intervals: {card.interval}. Figures of other protocols are not comparable."
    )


def sentence(difference: Comparison) -> str:
    return (
        f"{difference.after} against {difference.before}, on the same {difference.tasks} tasks: success "
        f"{signed(difference.success.mean * 100)} points [{signed(difference.success.low * 100)}, "
        f"{signed(difference.success.high * 100)}], score {signed(difference.score.mean, 3)} "
        f"[{signed(difference.score.low, 3)}, {signed(difference.score.high, 3)}]"
        + (f"; they also differ in {' and '.join(difference.also_differ)}" if difference.also_differ else "")
    )


def signed(value: float, digits: int = 1) -> str:
    return f"{value:+.{digits}f}"


def by_task(done: Sequence[Round]) -> Table:
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


def improved(done: Sequence[Round]) -> Table | None:
    """Heads and rows of the table of self-improvement: score after k times improving, and its change. None without."""
    heads = ["weights", "k", "success", "score", "change of score"]
    rows = [
        [each.evaluation.label, str(at.k), at.success.text(percent=True), at.score.text(), at.change.text()]
        for each in done
        for at in each.evaluation.improved
    ]
    return (heads, rows) if rows else None


def facts_of(record: dict[str, Any]) -> list[str]:
    versions = "; ".join(", ".join(f"{name} {number}" for name, number in each.items()) for each in record["versions"])
    commands = [f"Command: {command}" for command in record["commands"]]
    return [*commands, f"Versions: {versions}", f"Seed: {record['config'].get('seed', 'unknown')}"]


def iteration_cells(each: Iteration) -> list[str]:
    """An iteration as a row under `ITERATION`."""
    fit, mark = each.fitted.report, " (judged)" if each.collected.judged else ""
    return [
        each.label,
        str(len(each.collected.episodes)),
        f"{each.collected.successes}{mark}",
        "-" if each.score is None else f"{each.score:.3f}{mark}",
        str(each.collected.faults),
        f"{each.prompt_tokens:,}",
        f"{each.completion_tokens:,}",
        str(each.fitted.samples),
        f"{fit.tokens_trained:,}" if fit else "-",
    ]


def fit_cells(fit: FitReport) -> list[str]:
    """A fit as a row under `FIT`."""
    first, last = (f"{fit.losses[place]:.3f}" for place in (0, -1)) if fit.losses else ("-", "-")
    speed = f"{fit.tokens_per_second:.0f}"
    return [str(fit.samples), str(fit.dropped), first, last, speed, f"{fit.device} {fit.precision}", fit.version]


def settings(config: Mapping[str, Any], prefix: str = "") -> Iterator[list[str]]:
    """The configuration as rows of a key and a value; groups of keys are written with dots."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from settings(value, f"{prefix}{key}.")
        else:
            shown = "none" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield [prefix + str(key), shown]


def card_rows(card: EvaluationCard) -> list[list[str]]:
    """An evaluation card as rows of a field and a value."""
    return [[name.replace("_", " "), _value(value)] for name, value in card.model_dump().items()]


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def markdown(
    record: dict[str, Any], done: Sequence[Round], made: Sequence[Iteration], differences: Sequence[Comparison]
) -> str:
    """The whole of `report.md`."""
    heads, rows = by_task(done)
    parts = [f"# {markdown_cell(title(record))}", protocol(done), markdown_table(HEADS, [cells(each) for each in done])]
    parts += ["\n".join(f"- {markdown_cell(sentence(each))}" for each in differences)] if differences else []
    parts += ["## By task type", markdown_table(heads, rows)]
    if steps := improved(done):
        parts += ["## Self-improvement", markdown_table(*steps)]
    if made:
        parts += ["## Iterations", markdown_table(ITERATION, [iteration_cells(each) for each in made])]
    for section in sections(made):
        parts += [f"## {section.title}", markdown_table(section.heads, section.rows), *map(markdown_cell, section.told)]
    fits = [(each.evaluation.label, each.fit) for each in done if each.fit is not None]
    if fits:
        parts += ["## Fits", markdown_table(["weights", *FIT], [[label, *fit_cells(fit)] for label, fit in fits])]
    parts += ["## Run", "\n".join(f"- {markdown_cell(fact)}" for fact in facts_of(record))]
    parts += ["## Settings", markdown_table(["key", "value"], list(settings(record["config"])))]
    parts += ["## Evaluation cards"]
    parts += [f"### {markdown_cell(each.evaluation.label)}\n\n{each.evaluation.card.markdown()}" for each in done]
    return "\n\n".join(parts) + "\n"
