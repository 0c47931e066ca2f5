"""The bytes of an episode in the store: small, and equal after the round trip, whatever the texts hold.

Texts are UTF-8 with lone surrogates passed through, because environments and broken detokenisers produce them, and
JSON escapes would fuse a high surrogate and a low one next to it into one character. Token ids and log-probs are kept
apart from the JSON as arrays of the narrowest type that gives every number back exactly, their bytes regrouped by
significance (all lowest bytes first), which is what lets zlib see that the high bytes of ids are nearly always zero.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from array import array
from collections.abc import Sequence
from typing import Any

from palaestra.agents.episode import Episode, TokenRecord

# Token data hardly shrinks further: level 6 saves 3 % of the bytes for nearly twice the time.
_LEVEL = 1
_SIZES = {"H": 2, "i": 4, "q": 8, "f": 4, "d": 8}


def pack(episode: Episode) -> tuple[bytes, bytes]:
    """Head (all but the turns) and body (the turns), compressed."""
    head = episode.model_dump(exclude={"turns"})
    arrays: list[bytes] = []
    turns = [
        [
            turn.observation,
            turn.completion,
            None if turn.action == turn.completion else turn.action,  # the same text in most plain episodes
            turn.thought,
            turn.reward,
            turn.score,
            turn.valid,
            None if turn.tokens is None else _pack_tokens(turn.tokens, arrays),
            *([turn.note] if turn.note else []),
        ]
        for turn in episode.turns
    ]
    return zlib.compress(to_json(head), _LEVEL), pack_body(turns, arrays)


def pack_body(turns: object, arrays: Sequence[bytes]) -> bytes:
    """JSON and arrays in one compressed block: length of the JSON (4 bytes), the JSON, the arrays."""
    text = to_json(turns)
    return zlib.compress(b"".join([struct.pack("<I", len(text)), text, *arrays]), _LEVEL)


def unpack(head: bytes, body: bytes) -> Episode:
    """The inverse of `pack`. Raises zlib.error, struct.error or ValueError on bytes that `pack` did not write."""
    fields: dict[str, Any] = from_json(zlib.decompress(head))
    return Episode.model_validate({**fields, "turns": _unpack_turns(body)})


def _unpack_turns(body: bytes) -> list[dict[str, Any]]:
    raw = zlib.decompress(body)
    (length,) = struct.unpack_from("<I", raw)
    place = 4 + length
    turns: list[dict[str, Any]] = []
    for observation, completion, action, thought, reward, score, valid, tokens, *note in from_json(raw[4:place]):
        record = None
        if tokens is not None:
            fresh, *columns = tokens
            record = {"fresh": fresh}
            for name, column in zip(("context", "completion", "logprobs"), columns, strict=True):
                record[name], place = _unpack_numbers(column, raw, place)
        turns.append(
            {
                "observation": observation,
                "completion": completion,
                "action": completion if action is None else action,
                "thought": thought,
                "reward": reward,
                "score": score,
                "valid": valid,
                "tokens": record,
                "note": note[0] if note else "",
            }
        )
    return turns


def _pack_tokens(tokens: TokenRecord, arrays: list[bytes]) -> list[object]:
    ids = [_pack_numbers(column, "Hiq", arrays) for column in (tokens.context, tokens.completion)]
    return [tokens.fresh, *ids, _pack_numbers(tokens.logprobs, "fd", arrays)]


def _pack_numbers(numbers: Sequence[int] | Sequence[float], codes: str, arrays: list[bytes]) -> list[object]:
    """`[code, count]` and the bytes in `arrays`; the numbers themselves where no machine type holds them."""
    for code in codes:
        try:
            packed = array(code, numbers)
        except OverflowError:
            continue
        if code == "f" and packed.tolist() != list(numbers):  # not a float32 to begin with
            continue
        if sys.byteorder == "big":
            packed.byteswap()
        raw, size = packed.tobytes(), _SIZES[code]
        arrays.append(b"".join(raw[byte::size] for byte in range(size)))
        return [code, len(numbers)]
    return ["", list(numbers)]


def _unpack_numbers(column: Sequence[Any], raw: bytes, place: int) -> tuple[list[Any], int]:
    code, count = column
    if not code:
        return count, place
    size = _SIZES[code]
    planes = raw[place : place + size * count]
    if len(planes) != size * count:
        raise ValueError(f"{len(planes)} bytes of token data where {size * count} belong")
    mixed = bytearray(len(planes))
    for byte in range(size):
        mixed[byte::size] = planes[byte * count : (byte + 1) * count]
    numbers = array(code, bytes(mixed))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist(), place + size * count


def to_json(value: object) -> bytes:
    """Compact JSON as UTF-8 with lone surrogates passed through."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def from_json(raw: bytes) -> Any:
    """The inverse of `to_json`. Raises ValueError on anything else."""
    return json.loads(raw.decode("utf-8", "surrogatepass"))


def to_column(text: str | None) -> str | bytes | None:
    """A text as SQLite can hold it: lone surrogates make it a blob, which no text is ever equal to."""
    if text is None:
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def from_column(value: str | bytes | None) -> str | None:
    """The inverse of `to_column`."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


def pack_whole(episode: Episode) -> bytes:
    """`pack` in one piece: length of the head (4 bytes), head, body."""
    head, body = pack(episode)
    return struct.pack("<I", len(head)) + head + body


def unpack_whole(raw: bytes) -> Episode:
    """The inverse of `pack_whole`; raises as `unpack` does."""
    (length,) = struct.unpack_from("<I", raw)
    return unpack(raw[4 : 4 + length], raw[4 + length :])
