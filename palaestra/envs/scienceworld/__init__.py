"""ScienceWorld (Wang et al., arXiv 2203.07540): 30 science tasks, 7,207 variations, the original engine in a JVM."""

from palaestra.envs.core import Fidelity
from palaestra.envs.registry import register
from palaestra.envs.scienceworld.protocols import PROTOCOLS
from palaestra.envs.scienceworld.tasks import SPLITS, names

ID = "palaestra/ScienceWorld-v0"


def register_all() -> None:
    """Register ScienceWorld. Imports neither py4j nor scienceworld and starts no Java."""
    register(
        ID,
        "palaestra.envs.scienceworld.env:ScienceWorld",
        splits={split: names(split) for split in SPLITS},
        max_steps=100,
        extra="sciworld",
        requires=("scienceworld", "py4j"),
        oracles={
            "gold": "palaestra.envs.scienceworld.oracle:gold",
            "careful": "palaestra.envs.scienceworld.careful:careful",
        },
        family="scienceworld",
        summary="30 science tasks in a text world: find, heat, mix, measure, grow (original engine, needs Java)",
        fidelity=Fidelity.REPLAY,
        protocols=PROTOCOLS,
        not_ready="palaestra.envs.jdk:why_no_java",
    )
