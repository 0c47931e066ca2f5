"""What samples have in common at their beginning goes through the model once: a tree of samples in one row.

Samples of one step are laid into a tree whose nodes are ids: two samples share their nodes up to the first id in which
they differ (instructions, the path before a fork). The nodes stand in one row, depth first. Each attends to its
ancestors and itself alone, and its position is its depth, so what is computed for it is what would be computed in any
of its samples; and since log p of an id depends on its ancestors only, the weighted loss is the sum over the nodes,
each with the weights of all samples that pass through it:

    sum_samples sum_t w_t (-log p(x_t | x_<t))  =  sum_nodes W_n (-log p(x_n | ancestors of n)),   W_n = sum of the w_t

Attention over a row costs its length squared, shared or not, so rows should not be much longer than the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from palaestra.trainers.sample import Sample


@dataclass
class PrefixTree:
    """Samples in one row, depth first.

    Attributes:
        ids: of the nodes, [nodes].
        depths: ids before each node in its samples, [nodes].
        parents: index of the node before it; -1 for a first id, [nodes].
        ends: index after the last node below it, [nodes].
        weights: of predicting its id, summed over its samples, [nodes].
    """

    ids: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def tensors(self) -> dict[str, Tensor]:
        """What the model and the loss need.

        Returns:
            `input_ids`, `position_ids`, `weights` and `parents` of shape [1, nodes], and `attention_mask`, bool
            [1, 1, nodes, nodes]: True where a node (second to last) sees another (last).
        """
        places = torch.arange(len(self.ids))
        ends = torch.tensor(self.ends)
        sees = (places[None, :] <= places[:, None]) & (places[:, None] < ends[None, :])
        return {
            "input_ids": torch.tensor([self.ids]),
            "position_ids": torch.tensor([self.depths]),
            "weights": torch.tensor([self.weights]),
            "parents": torch.tensor([self.parents]),
            "attention_mask": sees[None, None],
        }


def grow(samples: Sequence[Sample]) -> PrefixTree:
    """The tree of some samples; in which order they come does not matter."""
    tree, path = PrefixTree(), list[int]()
    before: tuple[int, ...] = ()
    for sample in sorted(samples, key=lambda sample: sample.ids):
        shared = common(before, sample.ids)
        _close(tree, path[shared:])
        del path[shared:]
        for depth, index in enumerate(sample.ids[shared:], shared):
            tree.parents.append(path[-1] if path else -1)
            path.append(len(tree.ids))
            tree.ids.append(index)
            tree.depths.append(depth)
            tree.ends.append(0)
            tree.weights.append(0.0)
        for node, weight in zip(path, sample.weights, strict=True):
            tree.weights[node] += weight
        before = sample.ids
    _close(tree, path)
    return tree


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two sequences begin with alike."""
    limit = min(len(one), len(other))
    return next((place for place in range(limit) if one[place] != other[place]), limit)


def rows(step: Sequence[int], samples: Sequence[Sample], micro_tokens: int) -> list[list[int]]:
    """Cut a step into rows of at most `micro_tokens` nodes; a longer sample goes alone.

    Samples that are neighbours in the order of their ids share the most, so they go together.
    """
    made: list[list[int]] = []
    size, before = 0, tuple[int, ...]()
    for index in sorted(step, key=lambda index: (samples[index].ids, index)):
        ids = samples[index].ids
        new = len(ids) - common(before, ids)
        if made and size + new <= micro_tokens:
            made[-1].append(index)
            size += new
        else:
            made.append([index])
            size = len(ids)
        before = ids
    return made


def _close(tree: PrefixTree, nodes: Sequence[int]) -> None:
    for node in nodes:
        tree.ends[node] = len(tree.ids)
