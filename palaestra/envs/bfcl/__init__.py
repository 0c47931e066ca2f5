"""BFCL multi-turn (Patil et al., ICML 2025): 4 x 200 conversations with a user who needs API functions called.

The classes, the data and the checker are those of the package `bfcl-eval`; everything else is here. `data.py` reads the
entries, `worlds.py` makes calls on instances of our own, `judge.py` asks the checker, `env.py` holds the conversation,
`protocols.py` has ExIt's split and rule, `proof.py` compares verdicts with the package's whole checker.
"""

from __future__ import annotations

from palaestra.envs.bfcl.data import NAMES
from palaestra.envs.bfcl.protocols import PROTOCOLS
from palaestra.envs.registry import register


def register_all() -> None:
    """Register `palaestra/BFCL-v0`. Imports nothing of `bfcl-eval` and reads no data."""
    register(
        "palaestra/BFCL-v0",
        "palaestra.envs.bfcl.env:BFCL",
        splits={"test": tuple(name for names in NAMES.values() for name in names)},
        max_steps=184,  # the most turns, 8, with the most steps and the answer that ends each: never what ends it
        extra="bfcl",
        oracles={"truth": "palaestra.envs.bfcl.oracle:truth"},
        family="bfcl",
        summary="800 conversations: a user's requests, API functions to call (needs the package bfcl-eval)",
        protocols=PROTOCOLS,
        not_ready="palaestra.envs.bfcl.data:why_not_ready",
        style="text",
        answer_tokens=256,
    )
