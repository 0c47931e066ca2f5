"""Why a token is learnt, in words: what the kinds of samples are to the methods that make them."""

from __future__ import annotations

KINDS = {
    "positive": "a rollout that won",
    "expert": "an expert's episode that won, cloned",
    "initial": "the way that won from the task's first state",
    "recovery": "the way that won from a state after which the expert's own way was lost",
    "good": "a good end of the search tree, learnt whole",
    "revision": "a spliced path: from where it leaves the bad branch on",
    "general": "general chat, mixed in so that the model does not forget it",
    "chosen": "the better branch of a pair: made more likely than the other",
    "rejected": "the worse branch of a pair: made less likely than the other",
    "outcome": "two rollouts of one task that ended differently",
    "fork": "two branches from one step that ended differently",
    "imagined": "an imagined episode that the judge called solved",
    "transition": "what the environment answered: the page that came next",
    "judgement": "how good it was to stand there, by hindsight",
    "task": "a rollout of a group from the task's start, against the group's mean",
    "continue": "a rollout of a group from a step of an earlier rollout, against the group's mean",
    "improve": "a second try at an earlier rollout's step, against the group's mean",
    "diverge": "another way than an earlier rollout's, against the group's mean",
}


def why(recipe: str, kind: str, role: str, weight: float) -> str:
    """The reason of a weight.

    Args:
        role: which sequence of a record it is ("chosen", "rejected", "sample").
    """
    against = role == "rejected" or weight < 0
    what = KINDS.get(role) or KINDS.get(kind) or f"kind {kind!r}"
    return f"{recipe} {'unlearns' if against else 'learns'} this with weight {weight:g}: {what}"
