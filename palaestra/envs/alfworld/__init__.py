"""ALFWorld (Shridhar et al., arXiv 2010.03768): household tasks in text, an engine of our own.

From the texts up: `files` holds a game's, `pddl` and `grammar` read them, `logic`, `actions` and `scene` say what
follows from what is true, `game` plays, `engine` chooses between that and the original, `env` makes an environment of
it. `archive` and `games` find the release's games, `generate` makes others up.
"""

from palaestra.envs.alfworld.games import SPLITS, names
from palaestra.envs.alfworld.protocols import PROTOCOLS, STEPS
from palaestra.envs.core import Fidelity
from palaestra.envs.registry import register

ID = "palaestra/ALFWorld-v0"
GENERATED_ID = "palaestra/ALFWorldGenerated-v0"

_ORACLES = {
    "expert": "palaestra.envs.alfworld.oracle:expert",
    "searcher": "palaestra.envs.alfworld.oracle:searcher",
}

_RULES = """\
You do a household task in one room. Answer with one command.
Commands: look; inventory; go to PLACE; open PLACE; close PLACE; take THING from PLACE; put THING in/on PLACE; \
examine PLACE; examine THING; use THING; clean THING with PLACE; heat THING with PLACE; cool THING with PLACE{more}
PLACE and THING are names with their numbers, such as cabinet 2. You carry one thing at a time. "Nothing happens." \
means that the command is not possible here."""


def register_all() -> None:
    """Register ALFWorld and its generated games. Opens no data."""
    from palaestra.envs.alfworld.generate import SPLITS as GENERATED

    register(
        ID,
        "palaestra.envs.alfworld.env:ALFWorld",
        splits={split: names(split) for split in SPLITS},
        instructions=_RULES.format(more="; slice THING with THING"),
        max_steps=STEPS,
        oracles=_ORACLES,
        family="alfworld",
        summary="household tasks in text, the official games: find, take, clean, heat, cool, light, put (own engine)",
        fidelity=Fidelity.EXACT,
        protocols=PROTOCOLS,
        not_ready="palaestra.envs.alfworld.games:why_no_games",
    )
    register(
        GENERATED_ID,
        "palaestra.envs.alfworld.env:GeneratedALFWorld",
        splits=dict(GENERATED),
        instructions=_RULES.format(more=""),
        max_steps=STEPS,
        oracles=_ORACLES,
        family="alfworldgenerated",
        summary="made-up household tasks in the form of ALFWorld's, without end and without any data (own engine)",
        fidelity=Fidelity.EXACT,
        protocols=PROTOCOLS,
    )
