"""How one token is drawn: temperature, nucleus, and a tree of the actions that may be written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import torch

ActionTree: TypeAlias = "dict[int, ActionTree]"
"""Token ids that may come next, each with what may come after it; a leaf (the end-of-turn id) has none."""


def action_tree(completions: Iterable[Sequence[int]]) -> ActionTree:
    """A tree of all completions that may be written, each ending in the end-of-turn id."""
    root: ActionTree = {}
    for ids in completions:
        node = root
        for index in ids:
            node = node.setdefault(index, {})
    return root


def only_way(node: ActionTree) -> list[int]:
    """The ids to the one leaf that can still be reached; empty where there is a choice left."""
    ids: list[int] = []
    while len(node) == 1:
        index, node = next(iter(node.items()))
        ids.append(index)
    return ids if not node else []


def draw(
    logits: torch.Tensor,
    draws: Sequence[float],
    *,
    temperature: float,
    top_p: float = 1.0,
    allowed: Sequence[Sequence[int] | None] | None = None,
) -> tuple[list[int], list[float]]:
    """Draw one id for every row, each from its own random number, so that no row depends on the others.

    Args:
        logits: [rows, vocabulary].
        draws: a number in [0, 1) for every row.
        temperature: 0 takes the most probable id.
        top_p: the smallest set of ids that holds this probability (Holtzman et al. 2020, arXiv 1904.09751).
        allowed: for each row the ids that may be drawn; None allows all.

    Returns:
        The ids, and their log-probabilities under the distribution they were drawn from: softmax(logits / temperature),
        cut to `allowed` and to the nucleus, and summing to one. A greedy id has its log-probability at temperature 1,
        because the distribution it comes from says nothing.
    """
    scores = logits.float() / (temperature or 1.0)
    if allowed is not None and any(ids is not None for ids in allowed):
        barred = torch.zeros_like(scores, dtype=torch.bool)
        for row, ids in enumerate(allowed):
            if ids is not None:
                barred[row] = True
                barred[row, torch.as_tensor(list(ids), device=scores.device)] = False
        scores = scores.masked_fill(barred, float("-inf"))
    if temperature == 0:
        chosen = scores.argmax(-1)
    else:
        if top_p < 1:
            scores = _nucleus(scores, top_p)
        cumulated = scores.softmax(-1).double().cumsum(-1)
        points = torch.tensor(draws, dtype=torch.float64, device=scores.device) * cumulated[:, -1]
        # The first id whose cumulated probability lies above the point: one of probability 0 is never drawn.
        chosen = torch.searchsorted(cumulated, points[:, None], right=True)[:, 0]
        chosen = chosen.minimum((cumulated < cumulated[:, -1:]).sum(-1))
    logprobs = scores.log_softmax(-1).gather(-1, chosen[:, None])[:, 0]
    return chosen.tolist(), logprobs.tolist()


def certainties(logits: torch.Tensor) -> list[float]:
    """How far each row's distribution is from knowing nothing: KL(uniform || p) = -mean_j log(|V| p_j), in nats.

    The mean over an answer's ids is its self-certainty (Kang et al. 2025, arXiv 2502.18581, equation 5).

    Args:
        logits: [rows, vocabulary], of the model itself, before any temperature.
    """
    size = logits.shape[-1]
    values: list[float] = (-(logits.float().log_softmax(-1).mean(-1) + math.log(size))).tolist()
    return values


def _nucleus(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    ordered, order = scores.softmax(-1).sort(dim=-1, descending=True, stable=True)
    beyond = ordered.cumsum(-1) - ordered >= top_p
    beyond[:, 0] = False
    return scores.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), float("-inf"))
