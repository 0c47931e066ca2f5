"""Episodes as Parquet: one row an episode, its turns nested. Lossless, and readable by `datasets` and pandas.

Parquet has no place for lone surrogates and for integers beyond 64 bits. A row that has any shows them replaced, and
holds the whole episode in the column `exact`, which reading prefers; in all other rows `exact` is null.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from palaestra.agents.episode import Episode
from palaestra.agents.packing import pack_whole, unpack_whole
from palaestra.agents.record_files import Record, what_is_wrong, whole_file
from palaestra.envs.errors import BadInput, MissingExtra

if TYPE_CHECKING:
    import pyarrow

_ROWS_A_GROUP = 256
_JSON_COLUMNS = ("sampling", "conversation", "env_settings", "labels")
_COST = ("prompt_tokens", "completion_tokens", "model_calls", "env_steps", "replayed_steps", "seconds")
_PROVENANCE = ("actor", "policy", "policy_version", "recipe", "iteration", "env_fingerprint", "palaestra")


def write_parquet(episodes: Iterable[Episode], file: FilePath) -> int:
    """Write episodes; returns how many. Raises MissingExtra without pyarrow, BadInput when the file cannot be written.

    Columns: the fields of Task, Start, Episode and Provenance side by side; `turns` a list of structs; `sampling`,
    `conversation`, `env_settings` and `labels` as JSON texts.
    """
    pa, pq = _pyarrow()
    schema, remaining, count = _schema(pa), iter(episodes), 0
    with whole_file(file) as draft, pq.ParquetWriter(draft, schema, compression="zstd") as writer:
        while part := list(islice(remaining, _ROWS_A_GROUP)):
            try:
                table = pa.Table.from_pylist([_row(episode) for episode in part], schema)
            except (UnicodeEncodeError, OverflowError, pa.ArrowInvalid):
                table = pa.concat_tables([_table(pa, episode, schema) for episode in part])
            writer.write_table(table)
            count += len(part)
    return count


def read_parquet(file: FilePath) -> Iterator[Episode]:
    """The episodes of a file that `write_parquet` wrote, a row group at a time.

    Raises:
        BadInput: no Parquet file, or a row that is no episode, with its number.
    """
    pa, pq = _pyarrow()
    number = 0
    try:
        with pq.ParquetFile(file) as source:
            missing = [name for name in ("id", "env", "turns", "exact") if name not in source.schema_arrow.names]
            if missing:
                raise BadInput(f"{file} is Parquet but holds no episodes: it lacks the column {missing[0]!r}")
            for part in source.iter_batches(batch_size=_ROWS_A_GROUP):
                for row in part.to_pylist():
                    number += 1
                    yield _episode(f"{file}, row {number}", row)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise BadInput(f"{file} is not a whole Parquet file: {str(error).splitlines()[0]}") from None
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror or str(error).splitlines()[0]}") from None


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("pyarrow", "parquet") from None
    return pyarrow, pyarrow.parquet


def _schema(pa: Any) -> pyarrow.Schema:
    whole, real, text, yes = pa.int64(), pa.float64(), pa.string(), pa.bool_()
    ids = pa.list_(whole)
    tokens = pa.struct([("context", ids), ("completion", ids), ("logprobs", pa.list_(real)), ("fresh", yes)])
    turn = [(name, text) for name in ("observation", "completion", "action", "thought")]
    turn += [("reward", real), ("score", real), ("valid", yes), ("tokens", tokens), ("note", text)]
    columns = [(name, text) for name in ("id", "env", "task", "split")] + [("seed", whole)]
    columns += [("parent", text), ("fork_step", whole), ("note", text), ("sample", whole), ("outcome", text)]
    columns += [("score", real)]
    columns += [(name, whole if name == "iteration" else text) for name in _PROVENANCE]
    columns += [(name, text) for name in _JSON_COLUMNS]
    columns += [("cost", pa.struct([(name, real if name == "seconds" else whole) for name in _COST]))]
    columns += [("turns", pa.list_(pa.struct(turn))), ("final_observation", text), ("error", text)]
    return pa.schema([*columns, ("exact", pa.binary())])


def _row(episode: Episode) -> Record:
    fields = episode.model_dump()
    start, provenance = fields["start"], fields["provenance"]
    task = start["task"]
    texts = {name: _json(provenance[name]) for name in _JSON_COLUMNS if name != "labels"}
    return {
        **{name: task[name] for name in ("env", "split", "seed")},
        "task": task["name"],
        "parent": start["parent"],
        "fork_step": start["fork_step"],
        "note": start["note"],
        **{name: fields[name] for name in ("id", "sample", "score", "turns", "final_observation", "error")},
        "outcome": str(episode.outcome),
        **{name: provenance[name] for name in _PROVENANCE},
        "actor": str(episode.provenance.actor),
        **texts,
        "labels": _json(fields["labels"]),
        "cost": provenance["cost"],
        "exact": None,
    }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _table(pa: Any, episode: Episode, schema: pyarrow.Schema) -> pyarrow.Table:
    row = _row(episode)
    try:
        return pa.Table.from_pylist([row], schema)
    except (UnicodeEncodeError, OverflowError, pa.ArrowInvalid):
        return pa.Table.from_pylist([{**_shown(row), "exact": pack_whole(episode)}], schema)


def _shown(value: Any) -> Any:
    """A value as Parquet can show it: lone surrogates replaced, integers cut to 64 bits."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-(2**63), min(2**63 - 1, value))
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, (list, tuple)) else value


def _episode(where: str, row: Record) -> Episode:
    try:
        if row["exact"] is not None:
            return unpack_whole(row["exact"])
        provenance: Record = {name: row[name] for name in _PROVENANCE}
        provenance |= {name: json.loads(row[name]) for name in _JSON_COLUMNS if name != "labels"}
        task = {"env": row["env"], "name": row["task"], "split": row["split"], "seed": row["seed"]}
        names = ("id", "sample", "outcome", "score", "turns", "final_observation", "error")
        return Episode.model_validate(
            {
                **{name: row[name] for name in names},
                "start": {"task": task, **{name: row[name] for name in ("parent", "fork_step", "note") if name in row}},
                "provenance": {**provenance, "cost": row["cost"]},
                "labels": json.loads(row["labels"]),
            }
        )
    except ValidationError as error:
        raise BadInput(f"{where}: not an episode ({what_is_wrong(error)})") from None
    except (KeyError, TypeError, ValueError, zlib.error, struct.error) as error:
        raise BadInput(f"{where}: not an episode ({error!r:.200})") from None
