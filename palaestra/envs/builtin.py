"""The environments that ship with Palaestra: each family's folder has a `register_all`, called from here."""

from __future__ import annotations

import importlib

FAMILIES = (
    "alfworld",
    "bandit",
    "bfcl",
    "browser",
    "code",
    "crafting",
    "scienceworld",
    "serving",
    "taubench",
    "textworldexpress",
    "webshop",
    "worldmodel",
)


def register_all() -> None:
    """Register every family of the package. Imports nothing heavy."""
    for family in FAMILIES:
        importlib.import_module(f"palaestra.envs.{family}").register_all()
