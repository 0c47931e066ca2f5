"""Do servers serve the same weights: by what they say of them, and by their log-probs of one prompt."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from palaestra.agents.policies.vllm_server import Served, Server
from palaestra.envs import BadInput

_APART = 0.1
"""Nats by which log-probs may differ on average: bfloat16 differs from float32 by less, and twenty steps of training by
more."""
_STEP = 2
"""Ids from one place of a prompt that is compared to the next."""


def must_say_the_same(found: Mapping[Server, Served]) -> None:
    """Refuse servers that are no replicas of one another by what they say: versions that they were told, and names.

    Args:
        found: what each said of itself, in order.

    Raises:
        BadInput: two serve different weights.
    """
    servers = list(found)
    for number, server in enumerate(servers[1:], start=1):
        _must_match(found, servers[:number], server)


async def must_read_alike(found: Mapping[Server, Served], prompt: Sequence[int]) -> None:
    """Refuse servers that are no replicas of one another though they say so: paths of other weights may end alike
    ("model"), and servers that have just been started were told no version. Weights that differ little pass.

    Args:
        found: what each said of itself, in order.
        prompt: ids; what comes after its beginnings is compared.

    Raises:
        BadInput: two serve different weights.
    """
    if len(found) < 2 or any(served.version for served in found.values()):
        return
    prompts = [list(prompt[:end]) for end in range(_STEP, len(prompt) + 1, _STEP)]
    readings = await asyncio.gather(*(server.read(prompts, served.name) for server, served in found.items()))
    told = [(server, reading) for server, reading in zip(found, readings, strict=True) if reading]
    for server, reading in told[1:]:
        first, expected = told[0]
        apart = sum(abs(one - other) for one, other in zip(expected, reading, strict=True)) / len(expected)
        if apart > _APART:
            raise BadInput(
                f"{server.label} and {first.label} say that they serve the same model, but their log-probs after the "
                f"same prompts are {apart:.2g} nats apart; replicas serve the same weights: start one of them again "
                "with the other's"
            )


def _must_match(found: Mapping[Server, Served], before: list[Server], server: Server) -> None:
    like = next((other for other in before if other.ours == server.ours), server)  # only one kind can be compared whole
    for peer in (before[0], like):
        one, other = found[peer], found[server]
        same = (one.context, one.version) == (other.context, other.version)
        if not same or (peer is like and _weights(peer, one) != _weights(server, other)):
            raise BadInput(
                f"{server.label} serves {other.root!r} (context {other.context}, version {_weights(server, other)!r}), "
                f"and {peer.label} {one.root!r} ({one.context}, {_weights(peer, one)!r}); replicas serve the same "
                "weights: start one of them again with the other's, or name one model that all serve"
            )


def _weights(server: Server, served: Served) -> str:
    """What tells a server's weights from others: an engine of ours knows; a found one was told, or has a name."""
    if server.engine is not None:
        return server.engine.version
    return served.version or PurePath(served.root).name
