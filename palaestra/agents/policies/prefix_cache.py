"""Keys and values of prompts that were already computed, kept for the next turn and for every fork.

Attention is causal, so what was computed for a prefix holds for everything that begins with it. A transcript only grows
by ids, so its next turn needs only what was appended; episodes of one environment share their instructions, and forks
share the whole path before them. An entry serves any prompt as far as the two agree.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(frozen=True)
class Prefix:
    """What was computed for some ids.

    Attributes:
        ids: [length].
        keys, values: one tensor a layer, [heads, length, head size].
    """

    ids: NDArray[np.int64]
    keys: list[torch.Tensor]
    values: list[torch.Tensor]

    @property
    def bytes(self) -> int:
        """Memory that it holds."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (*self.keys, *self.values))


class _Table:
    """The ids of all entries as the rows of one matrix, so that a prompt is compared with all of them at once."""

    def __init__(self) -> None:
        self._ids = np.full((16, 256), -1, dtype=np.int64)
        self._number = np.full(16, -1, dtype=np.int64)  # of the entry in a row; -1: a free one

    def put(self, number: int, ids: NDArray[np.int64]) -> None:
        free = np.flatnonzero(self._number < 0)
        rows, width = self._ids.shape
        if not len(free) or len(ids) > width:
            wider = np.full((rows * 2 if not len(free) else rows, max(width, 2 * len(ids))), -1, dtype=np.int64)
            wider[:rows, :width] = self._ids
            more = np.full(len(wider) - rows, -1, dtype=np.int64)
            self._ids, self._number = wider, np.concatenate([self._number, more])
        row = int(free[0]) if len(free) else rows
        self._ids[row, : len(ids)] = ids
        self._number[row] = number

    def drop(self, number: int) -> None:
        row = self._number == number
        self._ids[row], self._number[row] = -1, -1

    def agreeing(self, ids: NDArray[np.int64]) -> dict[int, int]:
        """Of every entry, how many ids from the first on are the same."""
        taken = np.flatnonzero(self._number >= 0)
        wanted = ids[: self._ids.shape[1]]
        differ = self._ids[: taken[-1] + 1 if len(taken) else 0, : len(wanted)] != wanted
        lengths = np.where(differ.any(axis=1), differ.argmax(axis=1), len(wanted)) if len(wanted) else differ.sum(1)
        return dict(zip(self._number[taken].tolist(), lengths[taken].tolist(), strict=True))


class PrefixCache:
    """Prefixes in the order of their last use, up to a number of bytes.

    Args:
        max_bytes: what is kept at the most; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._entries: OrderedDict[int, Prefix] = OrderedDict()
        self._table = _Table()
        self._next = 0

    def __len__(self) -> int:
        return len(self._entries)

    def longest(self, ids: Sequence[int]) -> tuple[Prefix | None, int]:
        """The entry that covers most of a prompt, and how much; at least one id is always left to compute."""
        lengths = self._table.agreeing(np.asarray(ids[:-1], dtype=np.int64))
        covered = max(lengths.values(), default=0)
        if not covered:
            return None, 0
        found = next(number for number in self._entries if lengths[number] == covered)  # the one longest unused
        self._entries.move_to_end(found)
        return self._entries[found], covered

    def put(self, entry: Prefix) -> None:
        """Keep an entry in place of those that it covers, and drop those longest unused if it gets too much."""
        if entry.bytes > self.max_bytes:
            return
        lengths = self._table.agreeing(entry.ids)
        for number in [number for number, old in self._entries.items() if lengths[number] == len(old.ids)]:
            self._drop(number)
        self._entries[self._next] = entry
        self._table.put(self._next, entry.ids)
        self._next += 1
        self.bytes += entry.bytes
        while self.bytes > self.max_bytes:
            self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget everything: the weights have changed."""
        self._entries.clear()
        self._table = _Table()
        self.bytes = 0

    def _drop(self, number: int) -> None:
        self.bytes -= self._entries.pop(number).bytes
        self._table.drop(number)


class BatchCache(Cache):
    """The cache of one running batch: each row's prefix, aligned to the right, then room for what is computed now.

    Args:
        layers: number of layers of the model.
        rows: for each row the prefix to begin with and how much of it counts.
        room: ids that will be computed at the most, a row.
    """

    def __init__(self, layers: int, rows: Sequence[tuple[Prefix | None, int]], room: int) -> None:
        self._own = [_Layer(index, rows, room) for index in range(layers)]
        super().__init__(layers=list(self._own))

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        for layer in self._own:
            layer.select(list(rows))

    def row(self, row: int, where: torch.Tensor, ids: Sequence[int]) -> Prefix:
        """What was computed for one row.

        Args:
            where: columns of the cache that hold `ids`, in order, [length].
        """
        keys = [layer.keys[row].index_select(1, where) for layer in self._own]
        values = [layer.values[row].index_select(1, where) for layer in self._own]
        return Prefix(np.asarray(ids, dtype=np.int64), keys, values)


class _Layer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # its __init_subclass__
    """Keys and values of one layer in a buffer of full size, so that a new column is written and nothing is copied."""

    is_sliding = False
    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, index: int, rows: Sequence[tuple[Prefix | None, int]], room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._past = [(entry.keys[index], entry.values[index], n) if entry else None for entry, n in rows]
        self._width = max((length for _, length in rows), default=0)
        self._room = room
        self._filled = self._width

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        batch, heads, _, size = key_states.shape
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys = key_states.new_zeros(batch, heads, self._width + self._room, size)
        self.values = value_states.new_zeros(batch, heads, self._width + self._room, value_states.shape[-1])
        for row, past in enumerate(self._past):
            if past is not None and past[2]:
                keys, values, length = past
                self.keys[row, :, self._width - length : self._width] = keys[:, :length]
                self.values[row, :, self._width - length : self._width] = values[:, :length]
        self._past = []
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self._filled + key_states.shape[-2]
        self.keys[:, :, self._filled : end] = key_states
        self.values[:, :, self._filled : end] = value_states
        self._filled = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def select(self, rows: list[int]) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._filled + query_length, 0

    def get_seq_length(self) -> int:
        return self._filled

    def get_max_length(self) -> int:
        return -1
