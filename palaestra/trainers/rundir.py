"""The directory of a run: each phase writes its result before the next starts, so a run goes on where it was killed.

    run.json                 recipe, configuration, versions, the command
    run.lock                 held while a process works here
    episodes.sqlite          all episodes of the run
    log.jsonl                what happened when
    live.jsonl               how it is getting on (`live`)
    start/evaluation.json    the start model on held-out tasks
    iteration-K/
        plan.json            how many rollouts it makes (not of the experts' round, 0)
        collected.json       ids of its episodes
        samples.jsonl.gz     what was mined
        model/               the new weights
        fit.json             loss curve and counts
        evaluation.json      the new weights on held-out tasks
    report.md, report.html
    tensorboard/             what TensorBoard draws, where it is installed (see `scalars`)

A file is written beside its place and renamed, so that it is whole or not there.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import json
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar, overload

from pydantic import BaseModel, ValidationError

import palaestra
from palaestra.envs import BadInput
from palaestra.trainers.sample import Sample

M = TypeVar("M", bound=BaseModel)

FORMAT = 1


@contextlib.contextmanager
def usable(path: Path) -> Iterator[None]:
    """Turn what the file system refuses (read-only, full, no permission) into one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(f"cannot write to {path}: {reason}; free some space or choose another directory") from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is whole or not there, even if the machine stops.

    Raises:
        BadInput: the file system refuses.
    """
    part = path.with_name(f".{path.name}.part")
    with usable(path.parent):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            raise


class RunDir:
    """A run directory that this process works in. Use `open`; closing gives the lock back.

    Attributes:
        path: the directory.
    """

    def __init__(self, path: Path, lock: IO[str]) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(
        cls,
        path: str | Path,
        recipe: str,
        config: BaseModel,
        *,
        growable: Collection[str] = (),
        command: str | None = None,
    ) -> RunDir:
        """Create a run directory, or go on in one.

        Args:
            recipe: name of the method.
            config: what the run does; going on with another configuration is refused. Where servers are does not
                count: a URL may become another one.
            growable: keys that may be larger than before, such as `budget`.
            command: how the run was started.

        Raises:
            BadInput: not a run directory, another recipe, a changed key, another process at work, read-only or full.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise BadInput(f"{path} is a file, not a run directory; choose another --out")
        known = (path / "run.json").exists()
        strangers = [] if known or not path.exists() else [p.name for p in path.iterdir() if p.name not in _OURS]
        if strangers:
            raise BadInput(
                f"{path} is not a run directory (it holds {strangers[0]!r} and no run.json); choose another --out"
            )
        with usable(path):
            path.mkdir(parents=True, exist_ok=True)
            lock = open(path / "run.lock", "a+", encoding="utf-8")  # noqa: SIM115  # held until close()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise BadInput(f"another process is working in {path}; wait for it or choose another --out") from error
        run = cls(path, lock)
        try:
            run._agree(recipe, config, growable, command)
        except BaseException:
            run.close()
            raise
        return run

    def close(self) -> None:
        """Give the lock back. May be called twice."""
        self._lock.close()

    def __enter__(self) -> RunDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _agree(self, recipe: str, config: BaseModel, growable: Collection[str], command: str | None) -> None:
        new = json.loads(config.model_dump_json())
        record: dict[str, Any] = {"format": FORMAT, "recipe": recipe, "config": new, "versions": [], "commands": []}
        if (self.path / "run.json").exists():
            old = read_run(self.path)
            if old["recipe"] != recipe:
                raise BadInput(f"{self.path} is a run of {old['recipe']!r}, not of {recipe!r}; choose another --out")
            changed = _first_change(old["config"], new, growable)
            if changed:
                key, was, now = changed
                raise BadInput(
                    f"{self.path} was begun with {key}={was}, now it is {now}; go on with the same configuration or "
                    "choose another --out"
                )
            record.update(versions=old["versions"], commands=old["commands"])
        if versions() not in record["versions"]:
            record["versions"] = [*record["versions"], versions()]
        if command and command not in record["commands"]:
            record["commands"] = [*record["commands"], command]
        self.write("run.json", json.dumps(record, indent=1).encode())

    # -- results of phases -------------------------------------------------------------------------------------------

    def write(self, name: str, data: bytes) -> Path:
        """Write a file of the run, whole or not at all."""
        write_whole(self.path / name, data)
        return self.path / name

    def has(self, name: str) -> bool:
        """Is this result there."""
        return (self.path / name).exists()

    def save(self, name: str, record: BaseModel) -> None:
        """Write a phase's result."""
        self.write(name, record.model_dump_json(indent=1).encode())

    def load(self, name: str, kind: type[M]) -> M:
        """Read a phase's result. Raises BadInput when the file is damaged."""
        return read_record(self.path / name, kind)

    def save_samples(self, name: str, samples: Iterable[BaseModel]) -> None:
        """Write what is learnt from, one JSON line each, compressed; the same samples give the same bytes."""
        lines = "".join(sample.model_dump_json() + "\n" for sample in samples)
        self.write(name, gzip.compress(lines.encode(), mtime=0))

    @overload
    def load_samples(self, name: str) -> list[Sample]: ...

    @overload
    def load_samples(self, name: str, kind: type[M]) -> list[M]: ...

    def load_samples(self, name: str, kind: type[BaseModel] = Sample) -> Sequence[BaseModel]:
        """Read samples of a kind back. Raises BadInput with the line that is damaged."""
        path, number = self.path / name, 0
        try:
            lines = gzip.decompress(path.read_bytes()).decode().splitlines()
            samples = []
            for line in lines:
                number += 1
                samples.append(kind.model_validate_json(line))
            return samples
        except (OSError, EOFError, ValidationError, ValueError) as error:
            raise BadInput(
                f"{path}, line {number}: {_line(error)}; delete the file to have the samples mined again"
            ) from error

    def log(self, event: str, **fields: object) -> None:
        """Append a line to the run's log: wall time, event, fields."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}, default=str)
        with usable(self.path), open(self.path / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(line + "\n")


_OURS = {"run.lock", ".run.json.part", "log.jsonl"}


def read_record(path: Path, kind: type[M]) -> M:
    """A phase's result. Raises BadInput when the file is damaged."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({_line(error)}); delete it to have the phase done again") from error


def read_run(path: str | Path) -> dict[str, Any]:
    """`run.json` of a run: format, recipe, config, versions, commands. Raises BadInput when it is none or damaged."""
    path = Path(path)
    file = path / "run.json"
    if not file.is_file():
        raise BadInput(f"{path} is not a run directory: it has no run.json")
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise BadInput(f"{file} is of format {record['format']}; this version reads format {FORMAT}")
        if not isinstance(record["config"], dict) or not isinstance(record["recipe"], str):
            raise ValueError("recipe and config expected")
        return {"versions": [], "commands": [], **record}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise BadInput(f"{file} is damaged: {_line(error)}") from error


def versions() -> dict[str, str]:
    """Versions of what a result depends on, as far as installed."""
    from importlib import metadata

    found = {"palaestra": palaestra.__version__}
    for name in ("torch", "transformers", "trl", "peft", "scienceworld"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _first_change(
    old: Mapping[str, Any], new: Mapping[str, Any], growable: Collection[str], prefix: str = ""
) -> tuple[str, object, object] | None:
    for key in sorted({*old, *new}):
        name, was, now = f"{prefix}{key}", old.get(key), new.get(key)
        if was == now:
            continue
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            if inner := _first_change(was, now, growable, f"{name}."):
                return inner
            continue
        grows = isinstance(was, int | float) and isinstance(now, int | float) and now > was
        if (name in growable and grows) or (_is_url(was) and _is_url(now)):
            continue
        return name, was, now
    return None


def _is_url(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _line(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return " ".join(str(error).split())[:160]
