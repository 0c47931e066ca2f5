"""Who has passed a turn: the package's own checker, called on our instances; and ExIt's rule beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from palaestra.envs.bfcl import worlds as api
from palaestra.envs.bfcl.data import Entry
from palaestra.envs.tools.calls import Call


def play_truth(truth: api.Worlds, calls: Sequence[Call]) -> list[str]:
    """Make the calls of the ground truth of a turn on its own instances; what they answer."""
    return [api.make(truth, call)[0] for call in calls]


def why_failed(
    worlds: api.Worlds,
    truth: api.Worlds,
    expected: Sequence[str],
    answers: Sequence[str],
    called: int,
    turn: int,
) -> str | None:
    """The verdict of `multi_turn_checker` on one turn: the kind of its error, or None where the turn is passed.

    A turn whose ground truth has no calls is always passed, as it is there. One that has some is passed if the agent
    made a call at all, the public attributes of all instances are the ground truth's, and what its calls answered is
    among what the agent's calls have answered in all turns so far.

    Args:
        worlds, truth: the agent's instances and those of the ground truth, both at the end of the turn.
        expected: what the ground truth's calls of this turn answered.
        answers: what the agent's calls have answered since the first turn.
        called: how many calls the agent made in this turn.
        turn: its index.
    """
    if not expected:
        return None
    if not called:
        return "multi_turn:empty_turn_model_response"
    from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_checker as checker

    try:
        verdict: dict[str, Any] = checker.state_checker(worlds, truth)
        if verdict["valid"]:
            verdict = checker.response_checker(list(answers), list(expected), turn)
    except (RecursionError, AttributeError):  # folders inside themselves; an attribute that a call has added or removed
        return "multi_turn:instance_state_mismatch"
    return None if verdict["valid"] else str(verdict["error_type"])


def needless(entry: Entry, turn: int, called: int) -> bool:
    """The package's test of irrelevance, which its runner does not count: a call in a turn that asks for none."""
    return called > 0 and not entry.truth[turn]


def contains(worlds: api.Worlds, called: Sequence[Call], expected: Sequence[Call]) -> bool:
    """ExIt's rule: are the calls of the ground truth among those of the agent, in this order, others between them."""
    rest = iter([_canonical(worlds, call) for call in called])
    return all(_canonical(worlds, call) in rest for call in expected)


def same_state(worlds: api.Worlds, truth: api.Worlds) -> bool:
    """Are the public attributes of all instances those of the ground truth."""
    from bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker import state_checker

    try:
        return bool(state_checker(worlds, truth)["valid"])
    except (RecursionError, AttributeError):
        return False


def _canonical(worlds: api.Worlds, call: Call) -> tuple[str, str]:
    """A call with every argument by name, left-out ones included."""
    return call.name, repr(sorted(api.named(worlds, call).items()))
