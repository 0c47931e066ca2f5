"""What is learnt from: token ids with a weight per token.

A method only ever maps episodes to samples; the trainer is blind to which method it serves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Episode, Path
from palaestra.agents.transcript import tokenise
from palaestra.envs import BadInput

if TYPE_CHECKING:
    from palaestra.agents.template import ChatTemplate


class Sample(BaseModel):
    """One sequence to learn from.

    Attributes:
        ids: token ids, [length].
        weights: weight of predicting each id from those before it, [length]; 0 is context. The first id has no
            predecessor, so its weight is 0.
        episodes: ids of the episodes it was made of.
        task: id of the root task.
        split: split of the root task: only samples of training splits are ever fitted.
        kind: what it is to the method ("positive", "recovery", "revision", "good", ...), for reports.
        logprobs: log-probability of each id that has a weight, under the distribution it was sampled from, [length];
            0 for context. Empty where nobody asked for them, or where one of them is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    episodes: tuple[str, ...] = Field(min_length=1)
    task: str
    split: str
    kind: str = "positive"
    logprobs: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _aligned(self) -> Sample:
        if self.logprobs and len(self.logprobs) != len(self.ids):
            raise ValueError(f"{len(self.logprobs)} logprobs for {len(self.ids)} ids")
        if len(self.ids) != len(self.weights):
            raise ValueError(f"{len(self.weights)} weights for {len(self.ids)} ids")
        if self.weights and self.weights[0] != 0:
            raise ValueError("the first id cannot be predicted, so its weight must be 0")
        return self

    @property
    def trained_tokens(self) -> int:
        """Number of ids with a weight."""
        return sum(weight != 0 for weight in self.weights)


class Pair(BaseModel):
    """Two sequences that go on from the same context, one better than the other.

    Attributes:
        chosen, rejected: the better and the worse one, of the same root task. Where their ids have a weight, they are
            compared; a preference knows no shades, so weights are 0 or 1.
        kind: what it is to the method ("outcome", "fork"), for reports.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chosen: Sample
    rejected: Sample
    kind: str = "outcome"

    @model_validator(mode="after")
    def _comparable(self) -> Pair:
        if self.chosen.task != self.rejected.task:
            raise ValueError(f"{self.chosen.task} and {self.rejected.task} are two tasks; a pair is of one")
        for side in (self.chosen, self.rejected):
            if not side.trained_tokens or any(weight not in (0.0, 1.0) for weight in side.weights):
                raise ValueError("the weights of a pair's sequences are 0 or 1, and some are 1")
        return self

    @property
    def split(self) -> str:
        """Split of the root task."""
        return self.chosen.split if self.chosen.split == self.rejected.split else "different splits"

    @property
    def sides(self) -> tuple[Sample, Sample]:
        """The chosen and the rejected one."""
        return self.chosen, self.rejected

    @property
    def length(self) -> int:
        """Ids of both."""
        return len(self.chosen.ids) + len(self.rejected.ids)


def trainable(episode: Episode, splits: Collection[str] = ("train",)) -> Episode:
    """The episode itself, if it may be learnt from. A fork has its root's split, so a fork of a test task may not.

    Raises:
        BadInput: the episode ended in a fault, or its task is not for training.
    """
    split = episode.start.task.split
    if split not in splits:
        raise BadInput(
            f"episode {episode.id} is of split {split!r} and may not be trained on; training splits: "
            f"{', '.join(splits)}"
        )
    if episode.outcome.is_fault:
        raise BadInput(f"episode {episode.id} ended in a fault ({episode.outcome}) and may not be trained on")
    return episode


def sample_of(
    path: Path,
    conversation: Conversation,
    template: ChatTemplate,
    instructions: str,
    train: Collection[int] | Mapping[int, float] | None = None,
    *,
    kind: str = "positive",
    weight: float = 1.0,
    splits: Collection[str] = ("train",),
    logprobs: bool = False,
) -> list[Sample]:
    """What a path teaches: a weight on the completions of some turns, none on all that was only read.

    The completion of a turn includes the end-of-turn token if the model sampled it (or, for what no model sampled, as
    the template writes it). One sample a transcript: a conversation that forgets gives one each time it forgets.
    Transcripts without a weight are left out. An answer that a server cut at `max_tokens` without giving its ids
    (label `unfinished_turns`) is context.

    Args:
        path: the episode with all that came before it.
        train: the turns to learn, counted from the root's reset (a range, a set), or a weight for each; None is the
            episode's own turns, so that what was before a fork is context.
        kind: what it is to the method, for reports.
        weight: multiplies all weights.
        splits: the splits that may be learnt from.
        logprobs: give the log-probs of what was sampled, too.

    Raises:
        BadInput: the episode may not be trained on (see `trainable`), or `train` names a turn that does not exist.
    """
    episode = trainable(path.episode, splits)
    count = len(path.turns)
    chosen = train if train is not None else range(path.own, count)
    if outside := [step for step in chosen if not 0 <= step < count]:
        raise BadInput(f"episode {episode.id} has turns 0..{count - 1}, so turn {outside[0]} cannot be trained")
    records = tokenise(path.turns, conversation, template, instructions)
    samples: list[Sample] = []
    ids: list[int] = []
    weights: list[float] = []
    origins: list[str] = []
    sampled: list[float | None] = []
    for step, record in enumerate(records):
        if record.fresh:
            samples += _whole(ids, weights, origins, episode, kind, sampled if logprobs else [])
            ids, weights, origins, sampled = [], [], [], []
        worth = (chosen[step] if isinstance(chosen, Mapping) else 1.0) * weight if step in chosen else 0.0
        if step in path.half:  # its end-of-turn is of our making, and half an answer teaches stopping in the middle
            worth = 0.0
        ids += [*record.context, *record.completion]
        weights += [0.0] * len(record.context) + [worth] * len(record.completion)
        sampled += [0.0] * len(record.context)
        sampled += (record.logprobs or [None] * len(record.completion)) if worth else [0.0] * len(record.completion)
        if path.origins[step] not in origins:
            origins.append(path.origins[step])
    return samples + _whole(ids, weights, origins, episode, kind, sampled if logprobs else [])


def _whole(
    ids: list[int],
    weights: list[float],
    origins: list[str],
    episode: Episode,
    kind: str,
    sampled: list[float | None],
) -> list[Sample]:
    """One transcript as a sample; nothing if no token has a weight."""
    if not any(weights):
        return []
    # what follows the last weight teaches nothing
    end = max(index for index, weight in enumerate(weights) if weight != 0) + 1
    known = [logprob for logprob in sampled[:end] if logprob is not None]
    task = episode.start.task
    return [
        Sample(
            ids=tuple(ids[:end]),
            weights=tuple(weights[:end]),
            episodes=tuple(dict.fromkeys([*origins, episode.id])),
            task=task.id,
            split=task.split,
            kind=kind,
            logprobs=tuple(known) if len(known) == end else (),
        )
    ]
