"""Token-exact transcripts: what a model sees and says, grown by ids only.

A transcript is opened with a whole conversation, answered with the ids that the model sampled, and extended with the
ids of the next observation. Nothing that was sampled is ever tokenised again, so what is trained is what was sampled,
and the loss mask falls out of how the ids were appended.
"""

from __future__ import annotations

from collections.abc import Sequence

from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import TokenRecord, Turn
from palaestra.agents.message import Message
from palaestra.agents.template import ChatTemplate

Actions = Sequence[Sequence[str] | None]
"""The admissible actions at each turn of a path, where they are known."""


class Transcript:
    """The ids of one conversation, in the order they were appended.

    Attributes:
        ids: everything since the transcript was last opened: what the model is given as prompt.
        records: one TokenRecord for every answer so far, over all openings.
    """

    def __init__(self, template: ChatTemplate) -> None:
        self.template = template
        self.ids: list[int] = []
        self.records: list[TokenRecord] = []
        self._context: list[int] = []
        self._fresh = True
        self._closed = False

    def open(self, messages: Sequence[Message]) -> None:
        """Start anew with a whole conversation: at the first turn, and wherever the conversation forgets."""
        self.ids = self.template.opening(messages)
        self._context, self._fresh = list(self.ids), True

    def observe(self, messages: Sequence[Message]) -> None:
        """Append what came after the last answer. A completion that was cut off is closed first, as context."""
        if not self.ids or self._context:
            raise ValueError("observe() follows answer(); a transcript begins with open()")
        self._context = self.template.extend(messages, closed=self._closed)
        self._fresh = False
        self.ids += self._context

    def answer(self, ids: Sequence[int], logprobs: Sequence[float] = ()) -> TokenRecord:
        """Append the ids that the model sampled, end-of-turn token included when it was sampled."""
        if not self._context:
            raise ValueError("answer() follows open() or observe()")
        record = TokenRecord(
            context=tuple(self._context), completion=tuple(ids), logprobs=tuple(logprobs), fresh=self._fresh
        )
        self.records.append(record)
        self.ids += record.completion
        self._context, self._closed = [], self.template.ends(record.completion)
        return record

    def agrees(self, record: TokenRecord, *, unlisted: bool = False) -> bool:
        """Was this record's answer given to what was appended here since the last answer.

        Args:
            unlisted: the pending context lacks the list of admissible actions, which nobody knows any more. A record
                whose context says the same up to that list agrees, and its context takes the pending one's place.
        """
        if record.fresh != self._fresh:
            return False
        if record.context == tuple(self._context):
            return True
        if not unlisted or not self.template.begins(record.context, self._context):
            return False
        self.ids[len(self.ids) - len(self._context) :] = record.context
        self._context = list(record.context)
        return True


def tokenise(
    turns: Sequence[Turn],
    conversation: Conversation,
    template: ChatTemplate,
    instructions: str,
    *,
    actions: Actions | None = None,
) -> list[TokenRecord]:
    """The record of every turn of a whole path, from the root on.

    A turn keeps its exact ids if its recorded context, and that of all turns before it that it was appended to, is what
    this conversation and template give there. Any other completion (an expert's, a human's, another model's or another
    format's) is tokenised once, as the conversation shows it.

    Args:
        turns: all turns from the root's reset on.
        actions: the admissible actions at each turn, for conversations that list them. Where they are not known, a turn
            that has tokens is taken by its word as long as the rest of its context agrees.

    Returns:
        One record a turn. Records of turns that were tokenised here have no log-probs.
    """
    return _walk(turns, 0, conversation, template, instructions, actions).records


def resume(
    turns: Sequence[Turn],
    conversation: Conversation,
    template: ChatTemplate,
    instructions: str,
    *,
    actions: Actions | None = None,
) -> Transcript:
    """A transcript that stands after `turns`, ready for `observe`, or for `open` where the conversation forgets.

    Its records begin where the conversation last forgot: what lies before is in no prompt any more.
    """
    start = len(turns)
    while start and not conversation.forgets(start):
        start -= 1
    return _walk(turns, start, conversation, template, instructions, actions)


def segments(records: Sequence[TokenRecord]) -> list[tuple[list[int], list[bool]]]:
    """Token sequences and their loss masks: one pair for each opening.

    Returns:
        (ids, sampled) pairs of equal length; `sampled` is True exactly for the completions' ids.
    """
    pairs: list[tuple[list[int], list[bool]]] = []
    for record in records:
        if record.fresh or not pairs:
            pairs.append(([], []))
        ids, sampled = pairs[-1]
        ids += [*record.context, *record.completion]
        sampled += [False] * len(record.context) + [True] * len(record.completion)
    return pairs


def _walk(
    turns: Sequence[Turn],
    start: int,
    conversation: Conversation,
    template: ChatTemplate,
    instructions: str,
    actions: Actions | None,
) -> Transcript:
    transcript = Transcript(template)
    same = True  # were the recorded turns of this transcript made under this conversation and template
    for step in range(start, len(turns)):
        turn, before = turns[step], turns[:step]
        listed = actions[step] if actions is not None and step < len(actions) else None
        if conversation.forgets(step):
            transcript.open(conversation.opening(instructions, before, turn.observation, listed, turn.note))
            same = True
        else:
            transcript.observe([conversation.newest(before, turn.observation, listed, turn.note)])
        tokens, shown = turn.tokens, conversation.shown_completion(turn)
        if tokens is not None:
            unlisted = conversation.actions > 0 and listed is None
            same = same and shown == turn.completion and transcript.agrees(tokens, unlisted=unlisted)
        if tokens is not None and same:
            transcript.answer(tokens.completion, tokens.logprobs)
        else:
            transcript.answer(template.encode_completion(shown))
    return transcript
