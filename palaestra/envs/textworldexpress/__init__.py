"""TextWorldExpress (Jansen and Cote, arXiv 2208.01174): eight small text games, the original engine in a JVM.

`games.py` says which tasks there are, `engine.py` talks to the engine, `env.py` plays, `oracle.py` follows gold paths.
"""

from __future__ import annotations

from palaestra.envs.core import Fidelity
from palaestra.envs.registry import register
from palaestra.envs.textworldexpress.games import SPLITS, names


def register_all() -> None:
    """Register TextWorldExpress. Imports neither py4j nor textworld_express and starts no Java."""
    register(
        "palaestra/TextWorldExpress-v0",
        "palaestra.envs.textworldexpress.env:TextWorldExpress",
        splits={split: names(split) for split in SPLITS},
        max_steps=100,
        extra="twx",
        requires=("textworld_express", "py4j"),
        oracles={"gold": "palaestra.envs.textworldexpress.oracle:gold"},
        summary="8 small text games: cook, find, put away, read maps, count, sort (original engine, needs Java)",
        fidelity=Fidelity.REPLAY,
        not_ready="palaestra.envs.jdk:why_no_java",
    )
