"""Batches: every sample once an epoch, whatever the sizes, and nothing larger than asked."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from palaestra.trainers.batches import micro_batches, shares, steps

LENGTHS = st.lists(st.integers(2, 300), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 20), st.none() | st.integers(1, 2000), st.integers(1, 3), st.integers(0, 5))
def test_every_epoch_holds_every_sample_once(
    lengths: list[int], batch: int, batch_tokens: int | None, epochs: int, seed: int
) -> None:
    plan = steps(lengths, batch=batch, batch_tokens=batch_tokens, epochs=epochs, seed=seed)
    assert Counter(index for step in plan for index in step) == Counter(dict.fromkeys(range(len(lengths)), epochs))
    assert all(plan)
    if batch_tokens is None:
        sizes = {len(step) for step in plan}
        assert max(sizes) <= batch
        assert max(sizes) - min(sizes) <= 1


@given(LENGTHS, st.integers(1, 600), st.booleans())
def test_micro_batches_hold_the_step_and_stay_within_their_ids(lengths: list[int], limit: int, packing: bool) -> None:
    step = list(range(len(lengths)))
    micros = micro_batches(step, lengths, limit, packing)
    assert sorted(index for micro in micros for row in micro for index in row) == step
    for micro in micros:
        size = len(micro) * max(sum(lengths[index] for index in row) for row in micro)
        alone = sum(len(row) for row in micro) == 1
        assert size <= limit or alone
        assert packing or all(len(row) == 1 for row in micro)


@given(LENGTHS, st.integers(1, 5))
def test_processes_share_a_step_evenly(lengths: list[int], ranks: int) -> None:
    dealt = shares(range(len(lengths)), lengths, ranks)
    assert sorted(index for share in dealt for index in share) == list(range(len(lengths)))
    loads = [sum(lengths[index] for index in share) for share in dealt]
    assert max(loads) - min(loads) <= max(lengths)


def test_the_order_depends_on_the_seed_alone() -> None:
    lengths = list(range(2, 42))
    first, again, other = (steps(lengths, batch=8, batch_tokens=None, epochs=2, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first[:5] != first[5:]  # epochs differ


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=30),
    tokens=st.integers(1, 2000),
    batch=st.integers(1, 8),
)
def test_a_plan_of_tokens_ends_with_the_step_that_reaches_them(lengths: list[int], tokens: int, batch: int) -> None:
    plan = steps(lengths, batch=batch, batch_tokens=None, epochs=1, seed=0, tokens=tokens)
    seen = [sum(lengths[index] for index in step) for step in plan]
    assert sum(seen[:-1]) < tokens <= sum(seen)
    exact = steps(lengths, batch=batch, batch_tokens=None, epochs=1, seed=0, tokens=tokens, whole=False)
    assert exact[:-1] == plan[:-1]
    assert exact[-1] == plan[-1][: len(exact[-1])]
    taken = [index for step in exact for index in step]
    assert sum(lengths[index] for index in taken[:-1]) < tokens <= sum(lengths[index] for index in taken)
