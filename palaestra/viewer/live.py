"""How a run is getting on: what `live.jsonl` says, as curves over its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palaestra.trainers.live import LIVE
from palaestra.viewer.tail import tail

READ, POINTS, MOST_STAGES = 4_000_000, 300, 400
_FIGURES = ("success", "judged_success", "faults", "tokens_per_second", "loss")


def progress(folder: Path) -> dict[str, Any] | None:
    """The stages of a run so far.

    Returns:
        `stages`, each with its name, its first and last moment, how much of what is done, and whether it ended; and
        `curves`, of each figure [[time, value, stage's number], ...]: faults added up over the stages, of the others
        what their stage said. None where nothing was written.
    """
    moments = _moments(folder / LIVE)
    if not moments:
        return None
    stages: list[dict[str, Any]] = []
    curves: dict[str, list[list[float]]] = {name: [] for name in _FIGURES}
    faults = last = 0
    for moment in moments:
        new = not stages or stages[-1]["ended"] or stages[-1]["stage"] != moment["stage"]
        if new:
            faults, last = faults + last, 0
            stages.append({"stage": moment["stage"], "unit": moment.get("unit", ""), "began": moment["time"]})
        stages[-1] |= {"done": moment.get("done"), "total": moment.get("total"), "time": moment["time"]}
        stages[-1] |= {name: moment[name] for name in _FIGURES if name in moment}
        stages[-1]["ended"] = bool(moment.get("ended"))
        for name in _FIGURES:
            value = moment.get(name)
            if isinstance(value, int | float):
                if name == "faults":
                    last = int(value)
                    value = faults + last
                curves[name].append([moment["time"], value, len(stages) - 1])
    return {
        "stages": stages[-MOST_STAGES:],
        "skipped": max(0, len(stages) - MOST_STAGES),
        "curves": {name: thinned(points, POINTS) for name, points in curves.items() if points},
    }


def _moments(file: Path) -> list[dict[str, Any]]:
    """The last ones; none where they cannot be read, for nothing depends on them."""
    try:
        found = tail(file, READ)
    except OSError:
        return []
    return [
        {**moment, "stage": str(moment.get("stage", ""))}
        for moment in found
        if isinstance(moment.get("time"), int | float)
    ]


def thinned(points: list[Any], most: int) -> list[Any]:
    """At most so many of the points, the first and the last among them."""
    if len(points) <= most:
        return points
    return [points[round(place * (len(points) - 1) / (most - 1))] for place in range(most)]
