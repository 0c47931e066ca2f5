"""How samples become optimiser steps: cut each epoch into batches, and each batch into what fits the model at once.

The composition of a batch follows from the seed alone. How a batch is cut into micro-batches (by padding with
neighbours of similar length, or by packing) changes speed and memory, never the batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

Row = list[int]
"""Samples that share one row of a micro-batch, one behind the other; one sample a row without packing."""
MicroBatch = list[Row]


def steps(
    lengths: Sequence[int],
    *,
    batch: int,
    batch_tokens: int | None,
    epochs: int,
    seed: int,
    ranks: int = 1,
    tokens: int | None = None,
    whole: bool = True,
) -> list[list[int]]:
    """The sample indexes of every optimiser step of every epoch, in a random order that depends on the seed only.

    Args:
        lengths: ids of each sample.
        batch: samples a step; the steps of an epoch differ by at most one sample.
        batch_tokens: ids a step instead.
        tokens: ids in all, in place of `epochs`: the plan ends with the step that reaches them.
        whole: the last step is a whole one; else it ends with the sample that reaches `tokens`.
        ranks: processes that share a step; a step has at least that many samples where there are as many.
    """
    order = np.random.Generator(np.random.PCG64(seed))
    plan: list[list[int]] = []
    for _ in range(epochs if tokens is None else -(-tokens // sum(lengths))):
        shuffled = [int(index) for index in order.permutation(len(lengths))]
        if batch_tokens is None:
            count = -(-len(shuffled) // max(batch, ranks))
            plan += [[int(i) for i in part] for part in np.array_split(np.array(shuffled, dtype=np.int64), count)]
            continue
        total = sum(lengths)
        count = max(1, round(total / batch_tokens))
        parts: list[list[int]] = [[] for _ in range(count)]
        before = 0
        for index in shuffled:
            middle = before + lengths[index] / 2
            parts[min(count - 1, int(middle * count / total))].append(index)
            before += lengths[index]
        plan += [part for part in parts if part]
    if tokens is not None:
        seen = list(itertools.accumulate(sum(lengths[index] for index in step) for step in plan))
        plan = plan[: next((n for n, so_far in enumerate(seen, 1) if so_far >= tokens), len(plan))]
        if not whole:
            left = tokens - (seen[len(plan) - 2] if len(plan) > 1 else 0)
            reached = itertools.accumulate(lengths[index] for index in plan[-1])
            plan[-1] = plan[-1][: next((n for n, so_far in enumerate(reached, 1) if so_far >= left), None)]
    return plan


def shares(step: Sequence[int], lengths: Sequence[int], ranks: int) -> list[list[int]]:
    """Deal a step's samples to the processes so that each has about as many ids."""
    dealt: list[list[int]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for index in sorted(step, key=lambda i: (-lengths[i], i)):
        rank = loads.index(min(loads))
        dealt[rank].append(index)
        loads[rank] += lengths[index]
    return dealt


def micro_batches(step: Sequence[int], lengths: Sequence[int], micro_tokens: int, packing: bool) -> list[MicroBatch]:
    """Cut a step into what goes through the model at once.

    Without packing: samples of similar length together, at most `micro_tokens` ids padding included. With packing:
    rows of at most `micro_tokens` ids, filled first-fit from the longest sample down. A longer sample goes alone.
    """
    ordered = sorted(step, key=lambda i: (-lengths[i], i))
    if packing:
        rows: list[Row] = []
        room: list[int] = []
        for index in ordered:
            fits = next((k for k, left in enumerate(room) if left >= lengths[index]), None)
            if fits is None:
                rows.append([index])
                room.append(micro_tokens - lengths[index])
            else:
                rows[fits].append(index)
                room[fits] -= lengths[index]
        return [[row] for row in rows]
    micros: list[MicroBatch] = []
    for index in ordered:
        if micros and (len(micros[-1]) + 1) * lengths[micros[-1][0][0]] <= micro_tokens:
            micros[-1].append([index])
        else:
            micros.append([[index]])
    return micros
