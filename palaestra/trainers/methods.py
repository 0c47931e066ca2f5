"""All methods by name, and the controls that stand beside them in a comparison.

A control is a method with some of its settings fixed: what a method's name adds must be told apart from what more
rollouts, another selection, or an unexecuted splice would have given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from palaestra.envs import BadInput
from palaestra.trainers.agent_r import AgentR
from palaestra.trainers.best_of_k import BestOfK
from palaestra.trainers.eef import EEF
from palaestra.trainers.eto import ETO
from palaestra.trainers.exit import ExIt
from palaestra.trainers.grpo import GRPO
from palaestra.trainers.recipe import Recipe
from palaestra.trainers.rft import RFT

METHODS: dict[str, type[Recipe[Any]]] = {method.name: method for method in (RFT, EEF, AgentR, ETO, GRPO, ExIt, BestOfK)}


@dataclass(frozen=True)
class Contestant:
    """A method in a comparison.

    Attributes:
        name: as the comparison calls it.
        recipe: the method.
        fixed: settings that make it what it is.
        share: part of the common budget of rollouts that it uses; 1 for all but the controls of cost.
        what: one line for the table.
    """

    name: str
    recipe: type[Recipe[Any]]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0
    what: str = ""


CONTESTANTS: dict[str, Contestant] = {
    each.name: each
    for each in (
        Contestant("rft", RFT, what="rejection sampling from s_0 with the whole budget (the papers' RFT x (1+M))"),
        Contestant("sft-positives", RFT, share=0, what="successful experts only, no rollouts"),
        Contestant(
            "rft-x1",
            RFT,
            share=1 / 6,
            what="RFT with a sixth of the budget: one rollout where EEF with M = 5 makes six",
        ),
        Contestant("eef", EEF, what="exploring expert failures"),
        Contestant("eef-random", EEF, {"selection": "random"}, what="the same forks, a random winning way on"),
        Contestant("eef-initial", EEF, {"targets": ["initial"]}, what="EEF without its recovery states"),
        Contestant("agent-r", AgentR, what="reflection by executed splices"),
        Contestant("direct-revision", AgentR, {"transition": "end"}, what="Agent-R that keeps the whole bad path"),
        Contestant("eto", ETO, what="preference of what won over what lost on the same task"),
        Contestant("textual-splice", AgentR, {"splice": "textual"}, what="Agent-R that joins texts unexecuted"),
        Contestant("grpo", GRPO, what="group-relative policy optimisation on tasks that are drawn uniformly"),
        Contestant("exit", ExIt, what="GRPO whose tasks are also steps of its own earlier attempts"),
        Contestant("exit-plain", ExIt, {"embedder": None}, what="ExIt without its diversity bonus"),
        Contestant(
            "exit-improve",
            ExIt,
            {"embedder": None, "p_div": 0.0},
            what="ExIt without its bonus that never asks to diverge",
        ),
        Contestant(
            "exit-whole",
            ExIt,
            {"embedder": None, "p_div": 0.0, "entries": "whole"},
            what="ExIt without its bonus that never asks to diverge and takes whole attempts again, not turns",
        ),
        Contestant(
            "exit-curriculum",
            ExIt,
            {"embedder": None, "ask": "continue"},
            what="ExIt without its bonus that goes on, unasked",
        ),
        Contestant("best-of-k", BestOfK, what="cloned experts, the best of k tries by the environment's own score"),
        Contestant(
            "best-of-k-likely",
            BestOfK,
            {"choose": "likelihood"},
            what="cloned experts, of k tries the one that the model finds most likely",
        ),
    )
}


def contestant(name: str) -> Contestant:
    """By name. Raises BadInput with all names."""
    if name not in CONTESTANTS:
        raise BadInput(f"unknown method {name!r}; there are: {', '.join(CONTESTANTS)}")
    return CONTESTANTS[name]
