"""What a run logs for other tools: event files that TensorBoard draws, and a run in Weights & Biases.

Both are made of what the run has stored, so that one that was killed and goes on logs each figure once. `TAGS` names
them. Event files are written to `tensorboard/` in the run directory where tensorboard is installed (the extra
`tensorboard`). Weights & Biases is used where it is installed (the extra `wandb`) and one of its own environment
variables `WANDB_PROJECT` or `WANDB_MODE` is set: a run sends nothing anywhere unasked.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from palaestra.trainers.report import Iteration, Round, iterations, rounds
from palaestra.trainers.rundir import read_run, usable, write_whole

TAGS = {
    "held_out/success": "share of held-out episodes that succeeded, by iteration (-1: the start model)",
    "held_out/score": "mean score of held-out episodes",
    "held_out/invalid": "share of actions that were not understood",
    "rollouts/success": "share of the iteration's episodes that succeeded",
    "rollouts/score": "mean score of the iteration's episodes",
    "rollouts/judged_success": "the same of imagined episodes, where a judge says which succeeded",
    "rollouts/judged_score": "and their mean score, in its words",
    "rollouts/episodes": "how many they were",
    "rollouts/faults": "attempts that ended in a fault",
    "tokens/prompt": "ids that the agent read in the iteration's episodes",
    "tokens/completion": "ids that the agent wrote",
    "tokens/trained": "ids with a weight that went through the iteration's fit",
    "fit/loss": "loss of every optimiser step, counted over all fits of the run",
}
"""What is logged, and what it means."""

EVENTS = "tensorboard"


class Scalar(NamedTuple):
    """One figure: its tag, the iteration (of `fit/loss`: the optimiser step), and when it was stored (Unix time)."""

    tag: str
    step: int
    value: float
    time: float


def scalars(run: str | Path) -> list[Scalar]:
    """All figures of a run so far, in the order of its iterations. Raises BadInput where it is none or damaged."""
    run = Path(run)
    found: list[Scalar] = []
    for each in rounds(run):
        found += _measured(each, _stored(run / each.folder / "evaluation.json"))
    steps = 0
    for made in iterations(run):
        time = _stored(run / f"iteration-{made.number}" / "fit.json")
        found += _collected(made, time)
        fit = made.fitted.report
        for loss in fit.losses if fit else ():
            found.append(Scalar("fit/loss", steps, loss, time))
            steps += 1
    return found


def _stored(file: Path) -> float:
    return file.stat().st_mtime


def _measured(each: Round, time: float) -> Iterator[Scalar]:
    e = each.evaluation
    for name, value in (("success", e.success.mean), ("score", e.score.mean), ("invalid", e.invalid)):
        yield Scalar(f"held_out/{name}", each.number, value, time)


def _collected(made: Iteration, time: float) -> Iterator[Scalar]:
    fit, whose = made.fitted.report, "judged_" if made.collected.judged else ""
    values = {
        f"rollouts/{whose}success": made.success,
        f"rollouts/{whose}score": made.score,
        "rollouts/episodes": len(made.collected.episodes),
        "rollouts/faults": made.collected.faults,
        "tokens/prompt": made.prompt_tokens,
        "tokens/completion": made.completion_tokens,
        "tokens/trained": fit.tokens_trained if fit else 0,
    }
    for tag, value in values.items():
        if value is not None:
            yield Scalar(tag, made.number, float(value), time)


def write_events(run: str | Path) -> Path | None:
    """Write the event file of a run anew, with all figures so far.

    It says that what earlier files of the folder hold is void, and they are removed: a TensorBoard that looks on shows
    every figure once.

    Returns:
        The folder for `tensorboard --logdir`; None where tensorboard is not there, or does not work (told on stderr).

    Raises:
        BadInput: not a run, or the directory cannot be written.
    """
    if find_spec("tensorboard") is None or find_spec("torch") is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except Exception as error:  # installed beside what it does not go with; the run itself needs nothing of it
        print(f"TensorBoard cannot be used here ({type(error).__name__}: {error}); no event files", file=sys.stderr)
        return None
    folder = Path(run) / EVENTS
    found = scalars(run)
    with usable(folder):
        earlier = list(folder.glob("events.out.tfevents.*"))
        # TensorBoard takes no event before purge_step; the start model's is -1
        writer = SummaryWriter(str(folder), purge_step=-1)
        try:
            for each in found:
                writer.add_scalar(each.tag, each.value, each.step, walltime=each.time)
        finally:
            writer.close()
        for file in earlier:
            file.unlink(missing_ok=True)
    return folder


def wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Is Weights & Biases installed and asked for."""
    asked = environ.get("WANDB_PROJECT") or environ.get("WANDB_MODE")
    return bool(asked) and environ.get("WANDB_MODE") != "disabled" and find_spec("wandb") is not None


def log_wandb(run: str | Path) -> bool:
    """Log a run that has finished to Weights & Biases, if that is wanted and was not done before.

    A run that goes on later with a larger budget is another one there, in the same group. What fails there (no network,
    no login) is told in a line on stderr and never harms the run.

    Returns:
        Was it logged.
    """
    run = Path(run)
    if not wanted():
        return False
    found, record, marks = scalars(run), read_run(run), run / "wandb.json"
    group = hashlib.blake2b(str(run.resolve()).encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
    name = f"{group}-{len(found)}"
    done: list[str] = json.loads(marks.read_bytes()) if marks.is_file() else []
    if name in done:
        return False
    try:
        wandb: Any = importlib.import_module("wandb")
        with wandb.init(
            id=name,
            group=group,
            name=run.resolve().name,
            dir=str(run),
            job_type=str(record["recipe"]),
            config=dict(record["config"]),
            project=os.environ.get("WANDB_PROJECT") or "palaestra",
            settings=wandb.Settings(silent=True, console="off"),
        ) as session:
            session.define_metric("iteration")
            session.define_metric("fit/step")
            session.define_metric("*", step_metric="iteration")
            session.define_metric("fit/loss", step_metric="fit/step")
            for row in _rows(found):
                session.log(row)
    except Exception as error:  # whatever another's service raises: the run itself is whole and stored
        said = " ".join(str(error).split())[:200]
        print(f"Weights & Biases has not got this run ({type(error).__name__}: {said})", file=sys.stderr)
        return False
    write_whole(marks, json.dumps([*done, name]).encode())
    return True


def _rows(found: list[Scalar]) -> Iterator[dict[str, float]]:
    """The figures of each iteration together, then the losses one by one."""
    by_iteration: dict[int, dict[str, float]] = {}
    for each in found:
        if each.tag != "fit/loss":
            by_iteration.setdefault(each.step, {"iteration": each.step})[each.tag] = each.value
    for number in sorted(by_iteration):
        yield by_iteration[number]
    for each in found:
        if each.tag == "fit/loss":
            yield {"fit/step": each.step, each.tag: each.value}
