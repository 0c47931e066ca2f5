"""Evaluation protocols of ALFWorld by name: how many steps, and which texts the agent reads.

All of them count a game as 1 when it is won and 0 otherwise, and none uses other rules than the engine's.

`original` (Shridhar et al., arXiv 2010.03768): 50 steps, the engine's texts as they are; valid_seen and valid_unseen
are reported side by side.

`eto` (Song et al., arXiv 2403.02502): 40 steps. The welcome line and "You arrive at loc N." are cut off. Its "dev" is
valid_seen and its "test" valid_unseen, all 140 and 134 games. It trains on 3,321 games, the first ones of an order of
files on its authors' disk, which is not known here: the training split is the official one.

`agentgym` (Xi et al., arXiv 2406.04151): 30 rounds, texts cut as in `eto`. It has a mixture of games of its own, 2,420
to train and 200 to test, whose ids come with its data set and are not known here: results are of the same rules on the
official splits.
"""

from __future__ import annotations

from dataclasses import dataclass

from palaestra.envs.errors import BadInput

STEPS = 50
"""The step cap of the original's own wrapper."""


@dataclass(frozen=True)
class Protocol:
    """How an evaluation is run.

    Attributes:
        name: as in `protocol=`.
        steps: step cap.
        cut: are the welcome line and the numbers of locations left out.
    """

    name: str
    steps: int
    cut: bool

    def intro(self, text: str) -> str:
        """The first observation of the engine's text."""
        return "\n".join(text.split("\n\n")[1:]) if self.cut else text

    def observation(self, text: str) -> str:
        """An observation of the engine's text."""
        if self.cut and text.startswith("You arrive at loc "):
            return text[text.find(". ") + 2 :]
        return text


_ALL = {
    each.name: each
    for each in (Protocol("original", STEPS, False), Protocol("eto", 40, True), Protocol("agentgym", 30, True))
}

PROTOCOLS = tuple(_ALL)


def protocol(name: str | None) -> Protocol:
    """A protocol by name; None is the original's. Raises BadInput for an unknown one."""
    if name is None:
        return _ALL["original"]
    if not isinstance(name, str) or name not in _ALL:
        raise BadInput(f"ALFWorld has no protocol {name!r}; it has: {', '.join(PROTOCOLS)}")
    return _ALL[name]
