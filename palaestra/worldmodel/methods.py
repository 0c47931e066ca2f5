"""All methods by name once more, with those that need a world model and their controls.

`palaestra.trainers.methods` cannot know them: the world model stands above the trainers. Importing this enters them.
"""

from __future__ import annotations

from palaestra.trainers.methods import CONTESTANTS, METHODS, Contestant, contestant
from palaestra.worldmodel.webevolver import WebEvolver

__all__ = ["CONTESTANTS", "METHODS", "contestant"]

METHODS[WebEvolver.name] = WebEvolver
CONTESTANTS.update(
    {
        each.name: each
        for each in (
            Contestant("webevolver", WebEvolver, what="self-improvement, then synthesis in a trained world model"),
            Contestant(
                "webevolver-untrained",
                WebEvolver,
                {"synthesis": "untrained"},
                what="synthesis without a world model: the start model imagines",
            ),
            Contestant(
                "webevolver-real",
                WebEvolver,
                {"synthesis": "real"},
                what="synthesis in the real environment, by its score: the limit of any world model, at more rollouts",
            ),
            Contestant(
                "webevolver-inside",
                WebEvolver,
                {"imagine_from": "failed"},
                what="synthesis that goes on from real pages inside failed episodes",
            ),
            Contestant(
                "webevolver-inside-real",
                WebEvolver,
                {"imagine_from": "failed", "synthesis": "real"},
                what="the same forks in the real environment: the limit of what imagining on from there can give",
            ),
            Contestant(
                "self-improve",
                WebEvolver,
                {"synthesis": "none"},
                what="the same last fit on real successes alone, at equal training tokens",
            ),
        )
    }
)
