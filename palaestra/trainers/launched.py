"""Training on more than one device: a fit is handed to `accelerate launch`, and only the fit.

Where the environment variable PALAESTRA_LAUNCH names a configuration file of accelerate, `fit` does not train in this
process but in those that accelerate starts by that file; collecting, mining and evaluating stay here, in one process,
so that a store has one writer. The first process of the launch saves the model and reports.

    PALAESTRA_LAUNCH=examples/accelerate/fsdp.yaml palaestra train rft --env webshop --model MODEL --budget 600
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from palaestra.envs import BadInput, PalaestraError
from palaestra.trainers.objective import LAUNCH, FitReport, Objective, Progress, trainer_of

_TOLD = 2000
"""Characters of what the processes wrote that are told when they fail."""
_STEP = "palaestra step "


class LaunchFailed(PalaestraError):
    """The processes that `accelerate launch` started have failed."""


@dataclass(frozen=True)
class Job:
    """What is fitted: the arguments of `fit`."""

    model: str | Path
    data: Sequence[BaseModel]
    objective: Objective
    out: Path
    seed: int
    name: str | None


def fit_launched(launch: str, job: Job, progress: Progress | None) -> FitReport:
    """Fit in the processes that accelerate starts.

    Args:
        launch: a configuration file of accelerate.

    Raises:
        BadInput: there is no such file, or what the fit itself refuses.
        LaunchFailed: the processes failed; the end of what they wrote is told.
    """
    if not Path(launch).is_file():
        raise BadInput(f"{LAUNCH}={launch}: there is no such file; name a configuration of `accelerate launch`")
    job.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{job.out.name}-launch-", dir=job.out.parent) as folder:
        Path(folder, "job").write_bytes(pickle.dumps(job))
        command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", launch]
        command += ["--module", "palaestra.trainers.launched", folder]
        environ = {key: value for key, value in os.environ.items() if key != LAUNCH}
        with (
            Path(folder, "errors").open("wb") as errors,
            subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
        ):
            try:
                _follow(process, progress)
            except BaseException:
                process.terminate()  # accelerate ends its processes
                raise
        refused, report = Path(folder, "refused"), Path(folder, "report")
        if refused.exists():
            raise BadInput(refused.read_text(encoding="utf-8"))
        if process.returncode or not report.exists():
            told = Path(folder, "errors").read_text(encoding="utf-8", errors="replace")[-_TOLD:].strip()
            raise LaunchFailed(f"`accelerate launch --config_file {launch}` ended with {process.returncode}:\n{told}")
        return FitReport.model_validate_json(report.read_bytes())


def _follow(process: subprocess.Popen[str], progress: Progress | None) -> None:
    """Read what the processes say, and pass their progress on."""
    assert process.stdout is not None
    for line in process.stdout:
        if progress is not None and line.startswith(_STEP):
            done, total, loss = json.loads(line.removeprefix(_STEP))
            progress(done, total, loss)


def _say(done: int, total: int, loss: float) -> None:
    print(_STEP + json.dumps([done, total, loss]), flush=True)


def main(folder: str) -> None:
    """One of the processes that accelerate started."""
    from accelerate import PartialState

    job: Job = pickle.loads(Path(folder, "job").read_bytes())
    first = os.environ.get("RANK", "0") == "0"
    try:
        report = trainer_of(job.objective)(
            job.model, job.data, job.objective, job.out, seed=job.seed, name=job.name, progress=_say
        )
    except BadInput as error:  # the same in all processes: it is the data's or the configuration's
        if first:
            Path(folder, "refused").write_text(str(error), encoding="utf-8")
        return
    if first:
        Path(folder, "report").write_text(report.model_dump_json(), encoding="utf-8")
    PartialState().destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
