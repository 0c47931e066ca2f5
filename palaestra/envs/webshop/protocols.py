"""Evaluation protocols of WebShop by name: which goals, which numbers of them, how many steps.

Scores of different protocols are not comparable (methods differ in goals, products and step caps).

`original` (Yao et al., arXiv 2207.01206): human goals in the order of the seed-233 shuffle; 0-499 test, 500-1499 dev,
the rest train; the paper's agents act for at most 100 steps. Its 12,087 goals need all 1.18 million products.

`eto` (Song et al., arXiv 2403.02502): human goals over all products, 10 steps, an unfinished episode counts as 0.
Its 1,824 train and 200 test numbers are lists that come with its code and are not part of this package, so the splits
here are `original`'s: same rules, other goals of the same kind.

`agentgym` (Xi et al., arXiv 2406.04151): synthetic goals over the first 1,000 products (6,910 goals), 10 rounds (its
scripts use 6 or 10; Agent-R, which builds on it, 100). Its 200 test numbers come with its data set and are not known
here, so the splits are the ranges below.

Fewer goals than 3,000 are divided in the same order: the first fifth is test, the second fifth dev, the rest train. So
on the official 1,000 products, which have 13 human goals, `original` and `eto` are test 0-1, dev 2-3, train 4-12: rules
and step cap of the protocol, but not its goals, and too few for a score that means anything. The protocol's own ranges
need the 1.18 million products (`-s catalogue=webshop_full`). No protocol is taken on the small catalogue of our making.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from palaestra.envs.errors import BadInput

_TEST, _DEV = 500, 1500
_ENOUGH = 3000

PROTOCOLS = ("original", "eto", "agentgym")


class Kind(StrEnum):
    """Who wrote the goals."""

    SYNTHETIC = "synthetic"
    HUMAN = "human"


@dataclass(frozen=True)
class Protocol:
    """How an evaluation is run.

    Attributes:
        name: as in `protocol=`.
        kind: which goals.
        max_steps: step cap.
    """

    name: str
    kind: Kind
    max_steps: int

    def splits(self, count: int) -> Mapping[str, range]:
        """Split -> numbers, of `count` goals."""
        return split_ranges(count)


def protocol(name: str) -> Protocol:
    """A protocol by name. Raises BadInput for an unknown one."""
    if not isinstance(name, str) or name not in _PROTOCOLS:
        raise BadInput(f"WebShop has no protocol {name!r}; it has: {', '.join(PROTOCOLS)}, or None for its own")
    return _PROTOCOLS[name]


def split_ranges(count: int) -> Mapping[str, range]:
    """Split -> numbers, of `count` goals: the original's ranges, or fifths where there are fewer than 3,000 goals."""
    test, dev = (_TEST, _DEV) if count >= _ENOUGH else (count // 5, 2 * (count // 5))
    return {"train": range(dev, count), "dev": range(test, dev), "test": range(test)}


_PROTOCOLS = {
    "original": Protocol("original", Kind.HUMAN, 100),
    "eto": Protocol("eto", Kind.HUMAN, 10),
    "agentgym": Protocol("agentgym", Kind.SYNTHETIC, 10),
}
