"""A model judges single actions: good, bad or uncertain (the actor's own judgement in Agent-R, arXiv 2501.11425,
section 3.2; the words are ours)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from palaestra.agents.counted import Counted
from palaestra.agents.episode import Path, Turn
from palaestra.agents.message import Message
from palaestra.agents.policy import Policy, Request, ask
from palaestra.agents.progress import Shown
from palaestra.envs import Task

_RULES = (
    "You judge one action of an agent. You are told the task, what the agent did and saw before, the action, and what "
    "came of it. First say in one or two sentences whether the action helps to solve the task. Then write a last line: "
    "'Judgement: Good', 'Judgement: Bad' or 'Judgement: Uncertain'."
)
_VERDICT = re.compile(r"judge?ment\s*:\s*\W*(good|bad|uncertain)", re.IGNORECASE)


class Verdict(StrEnum):
    """What a judge says of an action. What cannot be read is uncertain; a question that does not fit is unanswered."""

    GOOD = "good"
    BAD = "bad"
    UNCERTAIN = "uncertain"
    UNANSWERED = "unanswered"


VERDICTS = tuple(f"Judgement: {verdict.value.capitalize()}" for verdict in Verdict if verdict is not Verdict.UNANSWERED)
"""The last line of a judgement."""


@dataclass(frozen=True)
class Case:
    """One action to judge.

    Attributes:
        instructions: of the environment.
        before: the turns before the action, from the root on.
        turn: the turn with the action.
        after: the observation that came of it.
    """

    instructions: str
    before: Sequence[Turn]
    turn: Turn
    after: str


@dataclass(frozen=True)
class Judgement:
    """What the judge made of a case: the verdict and its words."""

    verdict: Verdict
    text: str


def judge(cases: Sequence[Case], policy: Policy, *, shown: int = 6, seed: int = 0) -> list[Judgement]:
    """Ask a policy about many actions, as many at once as it takes.

    Args:
        cases: what to judge.
        policy: the judge; its `sampling.max_tokens` must leave room for a reason and a verdict. One that only writes
            what is listed (`constrain`) is given the verdicts to choose among, and has no room for a reason.
        shown: how many turns before the action the judge reads, besides the first observation. A question that is too
            long for the policy's window is asked again with half as many, down to none.
        seed: each case adds its number.

    Returns:
        One judgement a case. An answer without a verdict is uncertain; words of an unanswered one say what went wrong.

    Raises:
        PolicyFault: see `ask`.
    """
    found: dict[int, Judgement] = {}
    turns, asked = shown, list(range(len(cases)))
    while asked:
        requests = [_request(cases[number], policy, turns, seed + number) for number in asked]
        for number, answer in zip(asked, ask(policy, requests), strict=True):
            verdict = Verdict.UNANSWERED if answer.error else _verdict(answer.text)
            found[number] = Judgement(verdict, answer.error or answer.text)
        asked = [number for number in asked if turns and found[number].verdict is Verdict.UNANSWERED]
        turns //= 2
    return [found[number] for number in range(len(cases))]


def first_bad(
    paths: Sequence[Path],
    begin: Sequence[int],
    limits: Sequence[int],
    policy: Policy,
    instructions: Callable[[Task], str],
    *,
    cut: Callable[[str], str] = str,
    seed: int = 0,
    progress: Shown = "quiet",
) -> tuple[list[int], Counter[Verdict]]:
    """Of each path, how many steps there are up to the first one that is judged bad, that one included.

    The next steps of all paths are judged together, and a step that several paths share is judged once.

    Args:
        paths: what is judged, from the root's reset on; begin: the first step of each that is asked about.
        limits: steps of each that are asked about at the most; the answer where none of them is bad.
        policy, seed: see `judge`.
        instructions: what the environment tells an agent of a task.
        cut: how observations are shown (`Conversation.observation`).
        progress: how it is shown, with the questions that had no answer.

    Returns:
        One number a path, and how often each verdict was given.

    Raises:
        PolicyFault: see `ask`.
    """
    found, at = list(limits), list(begin)
    said: dict[tuple[str, int], Verdict] = {}
    going = [place for place in range(len(paths)) if at[place] < limits[place]]
    if not going:
        return found, Counter()
    with Counted(progress, "judge", "actions", unanswered=0) as shown:
        while going:
            keys = {place: (paths[place].origins[at[place]], at[place]) for place in going}
            asked = {keys[place]: paths[place] for place in going}
            new = [(key, path) for key, path in asked.items() if key not in said]
            cases = [_case(path, n, instructions(path.episode.start.task), cut) for (_, n), path in new]
            answers = judge(cases, policy, seed=seed)
            said |= {key: answer.verdict for (key, _), answer in zip(new, answers, strict=True)}
            shown.step(len(new), unanswered=sum(verdict is Verdict.UNANSWERED for verdict in said.values()))
            for place in going:
                verdict = said[keys[place]]
                at[place] += 1
                if verdict is Verdict.BAD:
                    found[place] = at[place]
                    at[place] = limits[place]
            going = [place for place in going if at[place] < limits[place]]
    return found, Counter(said.values())


def _case(path: Path, step: int, instructions: str, cut: Callable[[str], str]) -> Case:
    """The action of a path that was taken after `step` others."""
    turns = [turn.model_copy(update={"observation": cut(turn.observation)}) for turn in path.turns[: step + 1]]
    return Case(instructions, turns[:-1], turns[-1], cut(path.observations()[step + 1]))


def question(case: Case, shown: int = 6) -> list[Message]:
    """What a judge is asked about a case; `shown` as in `judge`."""
    first = case.before[0].observation if case.before else case.turn.observation
    lines = [f"Task: {case.instructions}", f"At the start: {first}"]
    for place, turn in list(enumerate(case.before))[-shown:] if shown else []:
        lines += [f"Saw: {turn.observation}"] if place else []
        lines.append(f"Did: {turn.action}")
    lines += [f"Saw: {case.turn.observation}"] if case.before else []
    lines += [f"The action: {case.turn.action}", f"What came of it: {case.after}"]
    return [Message(role="system", content=_RULES), Message(role="user", content="\n".join(lines))]


def _request(case: Case, policy: Policy, shown: int, seed: int) -> Request:
    messages = question(case, shown)
    prompt = policy.template.opening(messages) if policy.template is not None else ()
    return Request(messages, seed, prompt, actions=VERDICTS if policy.wants_actions else None)


def _verdict(text: str) -> Verdict:
    marks = _VERDICT.findall(text)
    return Verdict(marks[-1].lower()) if marks else Verdict.UNCERTAIN
