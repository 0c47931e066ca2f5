"""Means and intervals, against figures worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from palaestra.envs import BadInput
from palaestra.trainers.statistics import interval, paired


def test_the_mean_is_over_episodes_not_over_clusters() -> None:
    assert interval({"a": [1.0], "b": [0.0, 0.0, 0.0]}).mean == 0.25


def test_the_interval_is_that_of_all_resamples() -> None:
    """Three tasks have 27 equally likely resamples: their quantiles are the exact bootstrap interval."""
    values = [0.0, 0.5, 1.0]
    exact = [sum(drawn) / 3 for drawn in itertools.product(values, repeat=3)]
    low, high = np.quantile(exact, [0.025, 0.975], method="inverted_cdf")
    found = interval({str(value): [value] for value in values})
    # 1 of 27 resamples (3.7 %) is all zeros, more than 2.5 %: the bounds are the extremes
    assert (found.low, found.high) == (low, high) == (0.0, 1.0)
    assert found.clusters == 3


def test_a_large_sample_has_the_normal_interval() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(400)
    found = interval({str(i): [float(v)] for i, v in enumerate(values)})
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.003)
    assert found.high == pytest.approx(values.mean() + half, abs=0.003)


def test_episodes_of_one_task_count_together() -> None:
    """Ten tasks whose 20 episodes are all alike say no more than ten episodes."""
    outcome = [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0]
    once = interval({str(i): [v] for i, v in enumerate(outcome)})
    often = interval({str(i): [v] * 20 for i, v in enumerate(outcome)})
    apart = interval({f"{i}.{k}": [v] for i, v in enumerate(outcome) for k in range(20)})
    assert (often.low, often.high) == (once.low, once.high)
    assert often.high - often.low > 3 * (apart.high - apart.low)


@pytest.mark.parametrize(("tasks", "upper"), [(3, 0.7076), (20, 0.1684), (100, 0.0362)])
def test_no_success_at_all_is_no_certainty(tasks: int, upper: float) -> None:
    """Clopper-Pearson: the upper bound of 0 of n is 1 - 0.025^(1/n)."""
    found = interval({str(i): [0.0] for i in range(tasks)})
    assert (found.mean, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(upper, abs=1e-4)
    all_won = interval({str(i): [1.0] for i in range(tasks)})
    assert all_won.low == pytest.approx(1 - upper, abs=1e-4)
    assert all_won.high == 1.0


def test_pairing_takes_out_what_tasks_have_in_common() -> None:
    rng = np.random.default_rng(1)
    hard = rng.random(50)
    before = {str(i): [float(h) * 0.8] for i, h in enumerate(hard)}
    after = {str(i): [float(h) * 0.8 + 0.05 + 0.02 * float(rng.random())] for i, h in enumerate(hard)}
    found = paired(before, after)
    assert found.mean == pytest.approx(0.06, abs=0.005)
    assert found.low > 0.05
    one, other = interval(before), interval(after)
    assert one.high > other.low  # unpaired, the two overlap


def test_pairing_draws_coarser_units_where_asked() -> None:
    before = {f"{kind}/{n}": [0.0] for kind in "ab" for n in range(20)}
    after = {name: [1.0 if name.startswith("a") else 0.0] for name in before}
    kinds = {name: name[0] for name in before}
    assert paired(before, after).low > 0.3
    assert paired(before, after, cluster_of=kinds).low == 0.0
    assert paired(before, after, cluster_of=kinds).clusters == 2


def test_only_tasks_of_both_are_compared_and_none_is_an_error() -> None:
    found = paired({"a": [0.0], "b": [1.0], "c": []}, {"b": [0.5], "c": [1.0], "d": [1.0]})
    assert (found.mean, found.clusters) == (-0.5, 1)
    with pytest.raises(BadInput, match="no task in common"):
        paired({"a": [1.0]}, {"b": [1.0]})
    with pytest.raises(BadInput, match="no episodes"):
        interval({"a": []})


def test_the_same_seed_gives_the_same_interval() -> None:
    values = {str(i): [i / 7 % 1] for i in range(30)}
    assert interval(values, seed=3) == interval(values, seed=3)
