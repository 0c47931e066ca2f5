"""The token view: which ids a run trained, with which weight, and why: method, kind, span, source episode."""

from __future__ import annotations

import gzip
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path as FilePath
from typing import Any, Protocol

from palaestra.agents.episode import Path
from palaestra.envs.errors import BadInput
from palaestra.trainers.sample import Sample
from palaestra.viewer.runs import Runs
from palaestra.viewer.why import why

_FILES, MOST_IDS = 4, 20_000


class Decoder(Protocol):
    """The part of a `tokenizers.Tokenizer` that is used here."""

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str: ...


class Samples:
    """The stored samples of runs, listed lazily: a file is read once for its list, and up to one line for a sample."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._lists: OrderedDict[tuple[FilePath, int], list[dict[str, Any]]] = OrderedDict()
        self._decoders: dict[FilePath, Decoder | None] = {}
        self._lock = threading.Lock()

    def page(self, run: str, iteration: int, first: int, count: int) -> dict[str, Any]:
        """Some samples of an iteration, a line each. Raises BadInput: none there, or a damaged file."""
        rows = self._list(self._file(run, iteration))
        return {"total": len(rows), "rows": rows[max(0, first) : max(0, first) + min(500, count)]}

    def sample(self, run: str, iteration: int, number: int) -> dict[str, Any]:
        """A sample's sequences as spans of one weight, each with its tokens and the reason. Raises BadInput."""
        file = self._file(run, iteration)
        record = next(islice(_records(file), number, None), None) if number >= 0 else None
        if record is None:
            raise BadInput(f"iteration {iteration} of {run!r} has no sample {number}")
        decoder = self._decoder(file.parent)
        recipe = self._runs.run_record(run).get("recipe", "?")
        sequences = [self._sequence(run, role, sample, decoder, str(recipe)) for role, sample in _sequences(record)]
        figures = {name: value for name, value in record.items() if isinstance(value, int | float | str)}
        return {"number": number, "sequences": sequences, "figures": figures, "decoded": decoder is not None}

    def _file(self, run: str, iteration: int) -> FilePath:
        file = self._runs.folder(run) / f"iteration-{int(iteration)}" / "samples.jsonl.gz"
        if not file.is_file():
            raise BadInput(f"run {run!r} has no stored samples of iteration {iteration}")
        return file

    def _list(self, file: FilePath) -> list[dict[str, Any]]:
        key = (file, file.stat().st_mtime_ns)
        with self._lock:
            if key not in self._lists:
                self._lists[key] = [_line(number, record) for number, record in enumerate(_records(file))]
                while len(self._lists) > _FILES:
                    self._lists.popitem(last=False)
            return self._lists[key]

    def _decoder(self, folder: FilePath) -> Decoder | None:
        """The tokenizer that lies beside the iteration's weights (or any of the run's); None without one."""
        with self._lock:
            if folder not in self._decoders:
                self._decoders[folder] = _tokenizer(folder, self._runs.model_of(folder.parent))
            return self._decoders[folder]

    def _sequence(self, run: str, role: str, sample: Sample, decoder: Decoder | None, recipe: str) -> dict[str, Any]:
        parts = _walked(sample, self._path(run, sample)) or _guessed(sample, self._path(run, sample), decoder)
        spans: list[dict[str, Any]] = []
        place = 0
        for part, group in groupby(zip(sample.weights[:MOST_IDS], parts, strict=False)):
            ids = list(sample.ids[place : place + len(list(group))])
            weight, said = part
            span: dict[str, Any] = {"first": place, "weight": weight, "tokens": _pieces(ids, decoder)}
            if said is not None:
                span |= {"step": said.step, "origin": said.origin, "said": said.said}
            span["why"] = why(recipe, sample.kind, role, weight) if weight else _context(said)
            spans.append(span)
            place += len(ids)
        about = sample.model_dump(include={"episodes", "task", "split", "kind"})
        counts = {"length": len(sample.ids), "trained": sample.trained_tokens}
        against = role == "rejected"
        return {"role": role, "against": against, **about, **counts, "cut": len(sample.ids) > MOST_IDS, "spans": spans}

    def _path(self, run: str, sample: Sample) -> Path | None:
        """The path that a sample was made of; None where the store no longer is there."""
        try:
            return self._runs.store(run).trail(sample.episodes[-1])
        except BadInput:
            return None


@dataclass(frozen=True)
class Part:
    """Where a token comes from: turn `step`, taken by the episode `origin`; `said` there by the agent, or read."""

    step: int
    origin: str
    said: bool


def _walked(sample: Sample, path: Path | None) -> list[Part | None] | None:
    """The part of each token, by going along the ids that were recorded; None where they do not lead through.

    A conversation that forgets has several transcripts, and a sample is one of them: each is tried.
    """
    if path is None:
        return None
    records = [turn.tokens for turn in path.turns]
    for begin, record in enumerate(records):
        if record is None or not (record.fresh or begin == 0):
            continue
        parts: list[Part | None] = []
        for step in range(begin, len(records)):
            now = records[step]
            if now is None or (now.fresh and step > begin):
                break
            at = len(parts)
            ids = (*now.context, *now.completion)
            if sample.ids[at : at + len(ids)] != ids[: len(sample.ids) - at]:
                break
            origin = path.origins[step]
            parts += [Part(step, origin, False)] * len(now.context) + [Part(step, origin, True)] * len(now.completion)
            if len(parts) >= len(sample.ids):
                return parts
    return None


def _guessed(sample: Sample, path: Path | None, decoder: Decoder | None) -> list[Part | None]:
    """The part of each token with a weight, where no model wrote the path: what reads as the answer of a turn."""
    parts: list[Part | None] = []
    after = 0
    for weight, group in groupby(sample.weights):
        ids = list(sample.ids[len(parts) : len(parts) + len(list(group))])
        found = None
        if weight and path is not None and decoder is not None:
            text = decoder.decode(ids).strip()
            turns = range(after, len(path.turns))
            step = next((step for step in turns if path.turns[step].completion.strip() == text), None)
            if step is not None:
                after, found = step + 1, Part(step, path.origins[step], True)
        parts += [found] * len(ids)
    return parts


def _context(part: Part | None) -> str:
    if part is None:
        return "context: read, not learnt"
    return "context: said then, not learnt" if part.said else "context: what the agent was shown, not learnt"


def _pieces(ids: list[int], decoder: Decoder | None) -> list[list[Any]]:
    """Each id with its text; None where there is no tokenizer."""
    return [[id, decoder.decode([id], skip_special_tokens=False) if decoder is not None else None] for id in ids]


def _records(file: FilePath) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                number += 1
                yield json.loads(line)
    except (OSError, EOFError, ValueError) as error:
        raise BadInput(f"{file}, line {number}: {' '.join(str(error).split())[:160]}") from error


def _sequences(record: dict[str, Any]) -> list[tuple[str, Sample]]:
    """The sequences of a record: itself, or the two of a pair, or what else holds ids under a name."""
    try:
        if "ids" in record:
            fields = {name: value for name, value in record.items() if name in Sample.model_fields}
            return [("sample", Sample.model_validate(fields))]
        return [
            (name, sample)
            for name, value in record.items()
            if isinstance(value, dict)
            for _, sample in _sequences(value)
        ]
    except ValueError as error:
        raise BadInput(f"a stored sample is damaged: {str(error).splitlines()[0]}") from error


def _line(number: int, record: dict[str, Any]) -> dict[str, Any]:
    sequences = _sequences(record)
    first = sequences[0][1] if sequences else None
    return {
        "number": number,
        "kind": record.get("kind", first.kind if first else ""),
        "roles": [role for role, _ in sequences],
        "task": first.task if first else "",
        "episodes": sorted({id for _, sample in sequences for id in sample.episodes}),
        "length": sum(len(sample.ids) for _, sample in sequences),
        "trained": sum(sample.trained_tokens for _, sample in sequences),
    }


def _tokenizer(folder: FilePath, model: FilePath | None) -> Decoder | None:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError:
        return None
    found = [folder / "model/tokenizer.json", *sorted(folder.parent.glob("iteration-*/model/tokenizer.json"))]
    found += [model / "tokenizer.json"] if model is not None else []
    for file in found:
        if file.is_file():
            decoder: Decoder = Tokenizer.from_file(str(file))
            return decoder
    return None
