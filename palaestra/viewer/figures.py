"""A run in figures: curves of its episodes, evaluations, losses, comparison, how it is getting on, its log."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from palaestra.agents.splice import Splice
from palaestra.envs.errors import BadInput
from palaestra.trainers.comparison import Standing
from palaestra.trainers.evaluate import Evaluation
from palaestra.trainers.live import LIVE
from palaestra.trainers.objective import FitReport
from palaestra.trainers.report import Round, rounds
from palaestra.trainers.rundir import read_record, read_run
from palaestra.viewer import live
from palaestra.viewer.runs import STORE, Runs, locks
from palaestra.viewer.tail import tail
from palaestra.worldmodel.loading import FIDELITY

LOG_BYTES, LOG_LINES, LOSSES, MOST_RUNS = 64_000, 100, 800, 60


class Figures:
    """The figures of runs. What is damaged is told (`problems`), and the rest is shown all the same."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._live: dict[Path, tuple[object, dict[str, Any] | None]] = {}

    def run(self, name: str) -> dict[str, Any]:
        """A run with all its figures. Raises BadInput when there is none."""
        folder = self._runs.folder(name)
        line = self._runs.line(name, locks())
        found: dict[str, Any] = {**line, "problems": [line["error"]] if "error" in line else []}
        problems: list[str] = found["problems"]

        def put(make: Callable[[], dict[str, Any]]) -> None:
            try:
                found.update(make())
            except (BadInput, OSError) as error:
                told = " ".join(str(error).split())
                if told not in problems:
                    problems.append(told)

        found |= {"curve": [], "evaluations": [], "fits": [], "log": [], "live": None}
        if (folder / STORE).exists():
            put(lambda: self._of_store(name))
        if (folder / "run.json").exists():
            put(lambda: {"record": read_run(folder)})
            put(lambda: {"evaluations": [_evaluated(each) for each in rounds(folder)]})
            put(lambda: {"log": tail(folder / "log.jsonl", LOG_BYTES)[-LOG_LINES:]})
            put(lambda: {"fits": _losses(folder)})
        elif (folder / "evaluation.json").is_file():  # what `palaestra eval` leaves
            put(lambda: {"evaluations": [_evaluated(Round(-1, read_record(folder / "evaluation.json", Evaluation)))]})
        put(lambda: {"live": self._progress(folder)})
        found["sampled"], found["worlds"] = self.sampled(name), has_worlds(folder)
        found["standings"], found["runs"] = [], []
        put(lambda: {"standings": self.standings(name)})
        put(lambda: {"runs": self._inner(name)})
        return found

    def sampled(self, name: str) -> list[int]:
        """The iterations whose training samples are stored."""
        files = self._runs.folder(name).glob("iteration-[0-9]*/samples.jsonl.gz")
        numbers = (file.parent.name.removeprefix("iteration-") for file in files)
        return sorted(int(number) for number in numbers if number.isdecimal())

    def standings(self, name: str) -> list[dict[str, Any]]:
        """What a comparison found, a method each; empty where none was written. Raises BadInput for a damaged file."""
        file = self._runs.folder(name) / "comparison.json"
        if not file.exists():
            return []
        try:
            return [each.model_dump() for each in TypeAdapter(list[Standing]).validate_json(file.read_bytes())]
        except (OSError, ValidationError) as error:
            raise BadInput(f"{file} is damaged: {str(error).splitlines()[0]}") from error

    def splices(self, name: str) -> list[Splice]:
        """The splices of a run, of all its iterations. What cannot be read is left out."""
        found: list[Splice] = []
        for file in sorted(self._runs.folder(name).glob("iteration-[0-9]*/reflection.json")):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                found += TypeAdapter(list[Splice]).validate_python(json.loads(file.read_bytes())["splices"])
        return found

    def _of_store(self, name: str) -> dict[str, Any]:
        store = self._runs.store(name)
        return {"curve": [asdict(point) for point in store.curve()], "summary": asdict(store.figures())}

    def _progress(self, folder: Path) -> dict[str, Any] | None:
        """How it is getting on, read again when it was written to."""
        file = folder / LIVE
        stamp = (file.stat().st_mtime_ns, file.stat().st_size) if file.exists() else None
        if folder not in self._live or self._live[folder][0] != stamp:
            self._live = {folder: (stamp, live.progress(folder) if stamp else None)}
        return self._live[folder][1]

    def _inner(self, name: str) -> list[dict[str, Any]]:
        """The runs below this one (a comparison's), each with the success of every measured iteration."""
        prefix, held = "" if name == "." else f"{name}/", locks()
        found: list[dict[str, Any]] = []
        for each in self._runs.names():
            if each == name or not each.startswith(prefix) or len(found) >= MOST_RUNS:
                continue
            line = self._runs.line(each, held)
            try:
                done = [_evaluated(one) for one in rounds(self._runs.folder(each))] if "recipe" in line else []
            except BadInput:
                done = []
            points = [{"iteration": one["iteration"], "success": one["success"]} for one in done]
            found.append({**line, "points": points})
        return found


def _evaluated(each: Any) -> dict[str, Any]:
    evaluation = each.evaluation
    kept = ("label", "success", "score", "episodes", "missing", "outcomes", "steps", "invalid", "minutes", "card")
    done: dict[str, Any] = {"iteration": each.number, **evaluation.model_dump(include=set(kept))}
    if each.collected is not None:
        done["collected"] = {
            "episodes": len(each.collected.episodes),
            "successes": each.collected.successes,
            "judged": each.collected.judged,
            "faults": each.collected.faults,
        }
    return done


def _losses(folder: Path) -> list[dict[str, Any]]:
    """The loss curves of a run's fits in order, thinned so that all together have about `LOSSES` points."""
    reports = sorted(_fits(folder), key=lambda each: each[0])
    most = max(8, LOSSES // max(1, len(reports)))
    found = []
    for (number, world), fit in reports:
        label = "world model" if number < 0 else f"iteration {number}" + (", world model" if world else "")
        points = live.thinned([[step, loss] for step, loss in enumerate(fit.losses)], most)
        found.append({"label": label, "losses": points, "steps": len(fit.losses), **fit.model_dump(exclude={"losses"})})
    return found


def _fits(folder: Path) -> Iterator[tuple[tuple[int, bool], FitReport]]:
    """Iteration (-1: the run's own), is it a world model's, and the report."""
    for file in [folder / "fit.json", *folder.glob("iteration-[0-9]*/**/fit.json")]:
        if not file.is_file():
            continue
        place = file.parent.relative_to(folder).parts
        number = place[0].removeprefix("iteration-") if place else "-1"
        try:
            report = json.loads(file.read_bytes())["report"]
            fit = FitReport.model_validate(report) if report else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{file} is damaged: {str(error).splitlines()[0]}") from error
        if fit is not None and number.lstrip("-").isdecimal():
            yield (int(number), len(place) != 1), fit


def has_worlds(folder: Path) -> bool:
    """Is there a world model that was measured, or anything that was imagined to learn from."""
    names = (f"iteration-[0-9]*/world/{FIDELITY}", "iteration-[0-9]*/synthesis.json")
    return (folder / FIDELITY).is_file() or any(True for name in names for _ in folder.glob(name))
