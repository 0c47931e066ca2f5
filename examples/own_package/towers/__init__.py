"""The towers of Hanoi. Registering imports this file only; the environment is imported when it is made."""

import palaestra


def register_all() -> None:
    """Called once by Palaestra, through the entry point in pyproject.toml."""
    palaestra.register(
        "towers/Hanoi-v0",
        "towers.hanoi:Hanoi",
        splits={"train": ("3 discs", "4 discs"), "test": ("5 discs",)},
        max_steps=100,
        oracles={"solver": "towers.hanoi:next_move"},
        summary="The towers of Hanoi with 3 to 5 discs",
    )
