"""What `learning.py` studies: the environments with their settings, and what all contestants are told.

A study's start model has cloned solved episodes of tasks that nobody trains or is measured on (`taught`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from learning_worlds import ALL_SHELVES, BAKERY, WEBSHOP, elsewhere, shelved

from palaestra.trainers.methods import CONTESTANTS

OURS = tuple(name for name, each in CONTESTANTS.items() if each.recipe.__module__.startswith("palaestra.trainers."))
"""Without those that the world model adds (`palaestra.worldmodel.methods`), whoever has imported it."""
CLAIMED = ("rft", "eef", "agent-r", "direct-revision", "grpo", "exit")


@dataclass(frozen=True)
class Study:
    """One environment with its settings.

    Attributes:
        title, why: of its part of the page, and what it is for.
        vocabulary: ids of the start model's tokenizer, and episodes whose texts it is made from.
        taught: training tasks whose solved episodes the start model clones; `ids`: through the model in that.
        settings: of all contestants. own: of some.
        only: the contestants, RFT first; all where it is empty.
        begins: another study whose start model it takes.
        onward: another study whose start model is taught further here; a fresh model where it is empty.
        failing: how often experts slip in half of the tasks, where they fail, and are faultless in the rest; 0 leaves
            the experts to the settings.
        mastered: the tasks in which experts are faultless, if not in half of them.
        patience: after so many actions an expert that fails gives up; None leaves it the limit of the episode.
        judgements: how many actions the start model sees judged; `judging`: ids through it in that, clones among them.
        judged: tasks of these actions; those that it was taught where empty.
        rehearsed: how many of these judgements are in every fit of the contestants that judge.
        attempted: tasks where the start model sees attempts of its own, with what the oracle does when asked to improve
            on them; `shown`: ids through it in that.
    """

    title: str
    why: str
    env: str
    vocabulary: tuple[int, int]
    taught: tuple[str, ...]
    ids: int
    settings: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    begins: str = ""
    onward: str = ""
    failing: float = 0.0
    mastered: tuple[str, ...] = ()
    patience: int | None = None
    judgements: int = 0
    judging: int = 0
    judged: tuple[str, ...] = ()
    rehearsed: int = 0
    attempted: tuple[str, ...] = ()
    shown: int = 0

    @property
    def names(self) -> list[str]:
        """The contestants; RFT, the reference, is the first one, and those that the papers' claims name come next."""
        return list(self.only) or [*CLAIMED, *(name for name in OURS if name not in CLAIMED)]


MODEL = {"hidden": 128, "layers": 2, "heads": 4}
START = {"learning_rate": 3e-3, "batch": 4}
JUDGING = {"learning_rate": 2e-3, "batch": 8}
FIT = {"learning_rate": 2e-4, "batch": 8}
# The papers' preference and policy-gradient rates are for models ten thousand times as large.
GRADIENT = {"learning_rate": 3e-4, "batch": 16, "micro_tokens": 4096}
ONLINE = {"policy": GRADIENT, "prompts": 8}
BUFFER = {**ONLINE, "minimum": 32, "capacity": 256}
JUDGES = ("agent-r", "direct-revision", "textual-splice")
"""The contestants that the judgements are rehearsed for: Agent-R, and its controls for the sake of equal fits."""
REHEARSING = 0.5
"""The share of the agent's own samples in a loss with judgements."""
IMPROVED = ("grpo", "exit")
"""The contestants that are also asked to improve on their attempts."""
IMPROVEMENTS = 2
ONCE = {"evaluation": {"samples": 1}}
"""Of those that try again where the rollouts are no two tries for every answer that the others give."""


def own(search: Mapping[str, Any], micro_tokens: int, searched: int, states: int = 5) -> dict[str, dict[str, Any]]:
    """Settings of single contestants, for so many trees an iteration that grow so, for rows so long, for M states."""
    trees = {"search": search, "searched": searched, "judge_tokens": 40, "later_epochs": None}
    of: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        (("eef", "eef-random", "eef-initial"), {"states": states}),
        (("agent-r", "direct-revision", "textual-splice"), trees),
        (("exit", "exit-plain", "exit-improve", "exit-curriculum"), BUFFER),
        (("grpo",), ONLINE),
        (("eto",), {"preference": {**FIT, "learning_rate": 1e-4, "micro_tokens": micro_tokens}}),
    ]
    return {name: settings for names, settings in of for name in names}


# A greedy tiny model often repeats itself to the step limit, so that what it has learnt does not show.
MEASURED = {"split": "dev", "temperature": 1.0, "recovery": True, "between": False}

THEMES = ("bakery", "carpentry", "garden", "pottery", "smithy", "weaving")


def crafting(depths: Sequence[int], numbers: range, themes: Sequence[str] = THEMES) -> tuple[str, ...]:
    """Tasks of the crafting world, theme by theme; every split has its own of these names."""
    return tuple(f"d{depth}/{theme}-{n}" for n in numbers for depth in depths for theme in themes)


def crafting_settings(depths: Sequence[int], steps: int, slip: float, each: int) -> dict[str, Any]:
    """What all contestants are told in the crafting world: as many rollouts as EEF with five states makes at the most.

    Args:
        each: training tasks of a depth and theme.
    """
    tasks = crafting(depths, range(each))
    return {
        "env_settings": {"max_steps": steps},
        "tasks": list(tasks),
        "sampling": {"temperature": 1.0, "max_tokens": 32},
        "experts": {"oracle": "default", "slip": slip},  # which fails the longer plans
        "budget": 12 * len(tasks),
        "objective": {**FIT, "tokens": 60_000, "micro_tokens": 4096},
        "evaluation": {**MEASURED, "tasks": list(crafting(depths, range(10))), "samples": 2},
    }


def book_settings(depths: Sequence[int], steps: int) -> dict[str, Any]:
    """What all contestants are told where the bakery's recipes are the same in all tasks."""
    tasks = crafting(depths, range(160, 200), ("bakery",))  # behind those with whom the start model was taught
    return {
        "iterations": 1,
        "env_settings": {"recipes": "theme", "max_steps": steps},
        "tasks": list(tasks),
        "sampling": {"temperature": 0.7, "max_tokens": 32},
        "budget": 6 * len(tasks),
        "objective": {"learning_rate": 2e-3, "batch": 4, "tokens": 120_000, "micro_tokens": 4096},
        "evaluation": {
            **MEASURED,
            "temperature": 0.7,
            "tasks": list(crafting(depths, range(10), ("bakery",))),
            "samples": 6,
        },
    }


def far_settings(each: int) -> dict[str, Any]:
    """What all contestants are told where experts win the nearer targets and none of the farther ones.

    Args:
        each: training tasks of either depth.
    """
    tasks = crafting((3, 4), range(350, 350 + each), ("bakery",))  # behind those on which the start model judged
    return {
        "iterations": 1,
        "env_settings": {"recipes": "theme", "max_steps": 20},
        "tasks": list(tasks),
        "sampling": {"temperature": 0.7, "max_tokens": 32},
        "budget": 6 * len(tasks),
        "objective": {"learning_rate": 2e-3, "batch": 4, "tokens": 120_000, "micro_tokens": 4096},
        "evaluation": {
            **MEASURED,
            "temperature": 0.7,
            "tasks": list(crafting((3, 4), range(50), ("bakery",))),
            "samples": 2,
            "recovery": False,
        },
    }


def again_settings(each: int) -> dict[str, Any]:
    """What all contestants are told where the start model reads an earlier attempt and nobody has experts.

    Args:
        each: training tasks of either depth.
    """
    settings = far_settings(0)
    return {
        **settings,
        "env_settings": {"recipes": "theme", "max_steps": 16},
        "tasks": list(crafting((3, 4), range(350, 350 + each), ("bakery",))),
        "budget": 1280,  # twenty rounds of GRPO and ExIt; its ids: every rollout with something to say, about once
        "objective": {**settings["objective"], "tokens": 400_000},
        "evaluation": {**settings["evaluation"], "samples": 3, "improve": IMPROVEMENTS, "recall": 16},
    }


def shop_settings(each: int) -> dict[str, Any]:
    """What all contestants are told in WebShop.

    Args:
        each: training tasks.
    """
    return {
        "env_settings": {"max_steps": 8},
        "conversation": {"max_observation": 450},
        "sampling": {"temperature": 0.7, "max_tokens": 96},
        "tasks": list(shelved("train", range(1500, 2300), each)),
        "budget": 12 * each,
        "objective": {"learning_rate": 1e-3, "batch": 4, "tokens": 120_000, "micro_tokens": 1300},
        "evaluation": {
            **MEASURED,
            "temperature": 0.7,
            "tasks": list(shelved("dev", range(500, 1500))),
            "samples": 3,
        },
    }


def read_settings(each: int, ids: int = 200_000) -> dict[str, Any]:
    """What all contestants are told in WebShop from a start model that reads the options of other products.

    Args:
        each: training tasks.
        ids: of a fit.
    """
    settings = shop_settings(0)
    return {
        **settings,
        "iterations": 1,
        "tasks": list(shelved("train", range(1500, 3600), each)),
        "budget": 5 * each,
        "objective": {**settings["objective"], "learning_rate": 2e-3, "tokens": ids},
        "evaluation": {**settings["evaluation"], "recovery": False},
    }


FIRST = ("rft", "eef", "sft-positives")
"""The contestants of studies that looked for a setting in which the methods differ."""
READ = (
    *("rft", "eef", "sft-positives", "agent-r", "direct-revision", "grpo", "exit", "rft-x1", "eef-random"),
    *("eef-initial", "textual-splice", "best-of-k"),
)
"""In the order of the papers' claims, as not all of them may run."""

STUDIES = {
    "crafting": Study(
        "Crafting",
        "Targets of depth 1 and 2: plans of two to seven commands among some fifty that are possible. An episode ends "
        "only with the target or at the step limit, so a wrong command costs a step and often the material.",
        "palaestra/Crafting-v0",
        (1200, 200),
        crafting((1, 2), range(100, 200)),
        2_500_000,
        crafting_settings((1, 2), 8, 0.3, 4),
        own({"width": 4, "iterations": 8, "depth": 6}, 4096, searched=12),
        ("rft", "eef", "agent-r", "direct-revision"),
        judgements=900,
        judging=480_000,
    ),
    "crafting-book": Study(
        "Crafting, one book of recipes",
        "The bakery's recipes are the same in all tasks, as the rules of the papers' environments are, and are not "
        "listed: they are learnt. Targets of depth 2 and 3; a held-out task is a target with other things at the "
        "start than any training task has. The start model was taught targets of depth 1 and 2 and none of depth 3, "
        "which it seldom reaches.",
        "palaestra/Crafting-v0",
        (1200, 200),
        crafting((1, 2), range(20, 120), ("bakery",)),
        400_000,
        book_settings((2, 3), 10),
        {"eef": {"states": 5}},
        FIRST,
        onward="crafting",
        failing=0.5,
        judgements=300,
        judging=100_000,
    ),
    "crafting-far": Study(
        "Crafting, targets out of reach",
        "The same book of recipes. Experts win the tasks of depth 3 and fail those of depth 4, but do a part of "
        "them: they slip at every second step and give up after twelve. The start model was taught neither depth. It "
        "was told to judge actions, of depth 3 too, and Agent-R's fits have such judgements among their samples.",
        BAKERY,
        (1200, 200),
        crafting((1, 2), range(120, 160), ("bakery",)),
        60_000,
        far_settings(24),
        {
            **own({"width": 4, "iterations": 8, "depth": 12}, 4096, searched=48),
            **dict.fromkeys(("best-of-k", "best-of-k-likely"), ONCE),
        },
        (*CLAIMED, *(name for name in OURS if name not in (*CLAIMED, "exit-whole"))),
        onward="crafting-book",
        failing=0.5,
        mastered=crafting((3,), range(350, 374), ("bakery",)),
        patience=12,
        judgements=2400,
        judging=600_000,
        judged=crafting((2, 3), range(200, 350), ("bakery",)),
        rehearsed=60,
    ),
    "crafting-far-onward": Study(
        "Crafting, targets out of reach, from the clones on",
        "The same tasks and experts, but the fits of RFT and EEF go on from the weights before them, those of the "
        "clones, in place of the start model, and of a task's wins RFT learns the shortest alone. The clones learn for "
        "as many ids as both fits of the others.",
        BAKERY,
        (1200, 200),
        (),
        0,
        far_settings(24),
        {
            "rft": {"start": "previous", "per_task": 1, "prefer": "shortest"},
            "eef": {"start": "previous", "states": 5},
            "sft-positives": {"objective": {**far_settings(24)["objective"], "tokens": 240_000}},
        },
        FIRST,
        "crafting-far",
        failing=0.5,
        mastered=crafting((3,), range(350, 374), ("bakery",)),
        patience=12,
    ),
    "crafting-again": Study(
        "Crafting, asked to improve, from a start model that reads attempts",
        "The same book of recipes, targets of depth 3 and 4, no experts. ExIt's models read an earlier answer before "
        "they are trained; so here the start model was shown attempts of its own, with what the oracle does where the "
        "agent is asked to improve on them, at targets of depth 2 and 3. GRPO and ExIt go on from that for four times "
        "as many rollouts as in the study above, and their whole attempts are shown.",
        BAKERY,
        (1200, 200),
        crafting((2, 3), range(200, 260), ("bakery",)),
        200_000,
        again_settings(100),
        {
            **{name: {**BUFFER, "recall": 16} for name in ("exit", "exit-improve")},
            "exit-whole": {**BUFFER, "recall": 16, "minimum": 8},  # a group gives one entry, and not some ten
            "grpo": ONLINE,
        },
        ("rft", "grpo", "exit", "exit-improve", "exit-whole"),
        onward="crafting-book",
        attempted=crafting((2, 3), range(200, 350), ("bakery",)),
        shown=2_500_000,
    ),
    "webshop": Study(
        "WebShop, goals for thirty of the official 1,000 products",
        "Synthetic goals for thirty products that come in at most 24 ways; `search` asks for the instruction's own "
        "words, which find the product first or second. An episode ends with the purchase and has a graded score; "
        "success is a score of 1. Pages are cut in the middle to the length that the settings say. Experts win a third "
        "of the tasks, as the papers' did.",
        WEBSHOP,
        (3000, 120),
        shelved("train", range(2300, 7000)),
        1_500_000,
        shop_settings(48),
        {"eef": {"states": 5}},
        FIRST,
        failing=0.3,
        mastered=shelved("train", range(1500, 2300), 16),
    ),
    "webshop-read": Study(
        "WebShop, products that the start model does not know",
        "Goals for the same thirty products, but none of these was the start model taught, nor the 75 others that come "
        "in at most 24 ways: it has cloned the oracle two or three times on each goal for every other product, so that "
        "it reads the options that an instruction asks for, and nearly always buys another product that it knows. "
        "Experts win a third of the tasks, and give up the others after six steps, two of five of which are slips.",
        WEBSHOP,
        (3000, 120),
        elsewhere("train", range(1500, 6910), products=ALL_SHELVES),
        10_000_000,
        read_settings(100),
        own({"width": 4, "iterations": 8, "depth": 6}, 1300, searched=50, states=4),
        READ,
        failing=0.4,
        mastered=tuple(read_settings(100)["tasks"][::3]),
        patience=6,
    ),
    "webshop-read-longer": Study(
        "WebShop, products that the start model does not know, twice the ids",
        "The same tasks and experts from the same start model, with fits of twice as many ids: EEF has three times as "
        "many samples as the clones, and sees each of them a third as often.",
        WEBSHOP,
        (3000, 120),
        (),
        0,
        read_settings(100, 400_000),
        {"eef": {"states": 4}},
        FIRST,
        "webshop-read",
        failing=0.4,
        mastered=tuple(read_settings(100)["tasks"][::3]),
        patience=6,
    ),
}
