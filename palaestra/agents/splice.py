"""Splices: the front of one path, a word of reflection, and the rest of another path of the same task.

A spliced episode is a fork of the first path whose answers are recited (Agent-R, arXiv 2501.11425, equation 4): sent
through its environment it shows what it is worth, which the paper's joining of texts does not.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from palaestra.agents.collect import collect, planned_keys
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Path, Start, Turn, episode_id
from palaestra.agents.policies.recited import RecitedPolicy
from palaestra.agents.policy import Completion
from palaestra.agents.search import Tree, path_to
from palaestra.agents.store import EpisodeStore

REVISIONS = (
    "That did not help. I will go another way.",
    "I took a wrong turn here; let me change my plan.",
    "This is not bringing me closer, so I try something else.",
    "Looking back, the last step was a mistake. I correct it now.",
    "I should not go on like this. A better step is next.",
    "My last action missed the goal, so I turn to what is needed.",
    "I see that I am off the track. I go back to the task.",
    "What I did leads nowhere; I start over from here.",
    "I misjudged this. Now I do what the task asks for.",
    "That was an error of mine. I take the right step instead.",
)
"""Ten revision thoughts of our own, one of which stands where the good path begins."""

Ends = Callable[[Sequence[int]], bool]
"""Does a completion end with the template's own end-of-turn (`ChatTemplate.ends`), or was it cut before."""


@dataclass(frozen=True)
class Contrast:
    """Two paths of one task, one of which ended better.

    Attributes:
        bad, good: the paths, from the root's reset on.
        wanted: what the good one is worth.
    """

    bad: Path
    good: Path
    wanted: float

    @property
    def parting(self) -> int:
        """Steps that the two share, answer for answer."""
        steps = zip(self.bad.turns, self.good.turns, strict=False)
        shorter = min(len(self.bad.turns), len(self.good.turns))
        return next((n for n, (a, b) in enumerate(steps) if a.completion != b.completion), shorter)

    @property
    def limit(self) -> int:
        """Steps of the bad path that can be kept: all but the one that ended the episode."""
        cut = self.bad.episode.labels.get("truncated_by") == "turns"
        return len(self.bad.turns) - (not cut)


def contrasts(
    tree: Tree, store: EpisodeStore, *, worth: float, gap: float, most: int | None, seed: int
) -> list[Contrast]:
    """Ends of one tree against better ones, at most so many of them, drawn by the seed.

    Args:
        worth: what the better end is worth at least; gap: how much more than the other: more than this.
        most: how many; None takes all.
    """
    ends = tree.ends()
    found = [(bad, good) for bad in ends for good in ends if good.score >= worth and good.score - bad.score > gap]
    random.Random(f"{seed}|{tree.task.id}").shuffle(found)
    return [Contrast(path_to(bad, store), path_to(good, store), good.score) for bad, good in found[:most]]


def revision(bad: str, good: str, seed: int) -> str:
    """The revision thought between two paths, by the ids of their ends."""
    drawn = int.from_bytes(hashlib.blake2b(f"{seed}|{bad}|{good}".encode(), digest_size=4).digest())
    return REVISIONS[drawn % len(REVISIONS)]


class Splice(BaseModel):
    """One spliced path.

    Attributes:
        task: the task's id.
        bad, good: the episodes at whose ends the two paths end.
        kept: steps of the bad path that stand at the front.
        resumes: the step of the good path that comes next.
        thought: the reflection in between; empty without one.
        place: the reflection stands before the next action ("thought"), or is an answer of its own with the action
            "wait" ("turn").
        wanted: what the good path is worth; `score`: what the spliced episode was worth, None where not executed.
        episode: the spliced episode, where it was executed.
        accepted: is it learnt from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    bad: str
    good: str
    kept: int
    resumes: int
    thought: str = ""
    place: Literal["thought", "turn"] = "thought"
    wanted: float
    score: float | None = None
    episode: str | None = None
    accepted: bool = False


def execute(
    splices: Sequence[Splice],
    store: EpisodeStore,
    conversation: Conversation,
    *,
    ends: Ends,
    version: str,
    seed: int = 0,
    recipe: str | None = None,
    iteration: int | None = None,
    **collecting: Any,
) -> list[Splice]:
    """Send every splice through its environment. It is accepted if it is worth at least what the good path was.

    Args:
        splices: what to recite; version: of whoever wrote the paths, for the episodes' keys.
        ends: see `Ends`.
        seed, recipe, iteration, collecting: see `collect`.

    Returns:
        The splices in order, with score, episode and verdict. One whose every attempt broke has no score.
    """
    groups: dict[str, list[tuple[int, Start, RecitedPolicy, str]]] = {}
    twins: dict[tuple[str, int], int] = {}
    policies: dict[str, RecitedPolicy] = {}
    for place, splice in enumerate(splices):
        said, start = lines(splice, store, conversation, ends), start_of(splice, store)
        twin = twins[start.id, len(said)] = twins.get((start.id, len(said)), -1) + 1
        name = f"splice:{len(said)}:{twin}"  # one key an episode, though several go on from one step
        policy = policies.setdefault(name, RecitedPolicy(name=name, version=version))
        (key,) = planned_keys([(start, 1)], policy, recipe=recipe, iteration=iteration)
        policy.learn(key, splice.kept, said, seed)
        groups.setdefault(name, []).append((place, start, policy, key))
    done = list(splices)
    for name, group in groups.items():
        collect(
            [start for _, start, _, _ in group],
            policies[name],
            store,
            conversation=conversation,
            seed=seed,
            recipe=recipe,
            iteration=iteration,
            max_turns=int(name.split(":")[1]),
            **collecting,
        )
        for place, _, _, key in group:
            if store.has(key):
                head = store.head(episode_id(key))
                found: Mapping[str, Any] = {"score": head.score, "episode": head.id}
                done[place] = done[place].model_copy(update={**found, "accepted": head.score >= done[place].wanted})
    return done


def lines(splice: Splice, store: EpisodeStore, conversation: Conversation, ends: Ends) -> list[Completion]:
    """What the agent says after the steps that are kept; what was cut at `max_tokens` stays unfinished.

    Recited as a whole answer it would get an end-of-turn that nobody wrote, and be learnt with it.
    """
    good = store.path(splice.good)
    rest = good.turns[splice.resumes :]
    whole = [turn.tokens is None or ends(turn.tokens.completion) for turn in rest]
    said = [
        Completion(turn.completion, finished=ended and step not in good.half)
        for step, (turn, ended) in enumerate(zip(rest, whole, strict=True), splice.resumes)
    ]
    if splice.thought and splice.place == "turn":
        return [Completion(conversation.write("wait", splice.thought)), *said]
    if splice.thought:
        text = conversation.write(rest[0].action, f"{splice.thought} {rest[0].thought or ''}".strip())
        said[0] = replace(said[0], text=text)
    return said


def start_of(splice: Splice, store: EpisodeStore) -> Start:
    """The fork after the steps that are kept."""
    path = store.path(splice.bad)
    return Start(task=path.episode.start.task, parent=path.origins[splice.kept - 1], fork_step=splice.kept)


def spliced(splice: Splice, store: EpisodeStore, conversation: Conversation, ends: Ends) -> Path:
    """The path of a splice: as executed, or, where it never was, as joined texts."""
    return store.path(splice.episode) if splice.episode else pasted(splice, store, conversation, ends)


def pasted(splice: Splice, store: EpisodeStore, conversation: Conversation, ends: Ends) -> Path:
    """The path as joined texts that nobody executed: after its first action the good path's observations stand where
    they may not hold. Where the paths join stands what the last kept step of the bad one led to.

    It is what the released code of Agent-R trains on, and here a control; it is never stored.
    """
    bad, good = store.path(splice.bad), store.path(splice.good)
    said = lines(splice, store, conversation, ends)
    seen = [bad.observations()[splice.kept], *(turn.observation for turn in good.turns[splice.resumes + 1 :])]
    if len(said) > len(seen):  # the released code answers the reflection's "wait" with "ok."
        seen = [seen[0], "ok.", *seen[1:]]
    turns = tuple(
        Turn(observation=before, completion=line.text, action=conversation.read(line.text).action)
        for before, line in zip(seen, said, strict=True)
    )
    half = [step for step, line in enumerate(said) if not line.finished]
    labels = {"unfinished_turns": half} if half else {}
    episode = good.episode.model_copy(update={"start": start_of(splice, store), "turns": turns, "labels": labels})
    origins = (*bad.origins[: splice.kept], *([splice.good] * len(turns)))
    before = tuple(sorted(step for step in bad.half if step < splice.kept))
    return Path(episode=episode, turns=(*bad.turns[: splice.kept], *turns), origins=origins, unfinished=before)
