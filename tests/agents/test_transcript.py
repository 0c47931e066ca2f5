"""What is trained is what was sampled: a transcript grows by ids, and its loss mask falls out of how they came."""

from __future__ import annotations

import random

import pytest
from chat_templates import EXACT, tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import TokenRecord, Turn
from palaestra.agents.template import ChatTemplate
from palaestra.agents.transcript import Transcript, resume, segments, tokenise

RULES = "You are in a house. Find the key."
ALL, LAST_TWO = Conversation(), Conversation(window=2)
quick = settings(max_examples=40, deadline=None)


def sampled(template: ChatTemplate, seed: int, finished: bool = True) -> list[int]:
    """Ids as a model may sample them: any ids, in no canonical split."""
    rng = random.Random(seed)
    usable = sorted(set(range(len(template.tokenizer))) - set(template.tokenizer.all_special_ids))
    return [*rng.choices(usable, k=rng.randint(1, 8)), *([template.end_id] if finished else [])]


def turn_of(template: ChatTemplate, observation: str, record: TokenRecord) -> Turn:
    text = template.decode(record.completion)
    return Turn(observation=observation, completion=text, action=ALL.read(text).action, tokens=record)


def played(
    template: ChatTemplate, conversation: Conversation, steps: int, *, cut: frozenset[int] = frozenset()
) -> list[Turn]:
    """An episode as the collector makes it: every turn written by a model."""
    transcript, turns = Transcript(template), []
    for step in range(steps):
        observation = f"Room {step}: a door <|im_end|>, a key."
        if conversation.forgets(step):
            transcript.open(conversation.opening(RULES, turns, observation))
        else:
            transcript.observe([conversation.newest(turns, observation)])
        ids = sampled(template, step, finished=step not in cut)
        turns.append(turn_of(template, observation, transcript.answer(ids, [-0.5] * len(ids))))
    return turns


def without_tokens(turn: Turn) -> Turn:
    return turn.model_copy(update={"tokens": None})


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("conversation", [ALL, LAST_TWO, Conversation(window=0)], ids=["all", "last two", "newest"])
def test_the_ids_trained_on_are_the_ids_sampled(kind: str, conversation: Conversation) -> None:
    template = ChatTemplate(tokenizer(kind))
    turns = played(template, conversation, 6, cut=frozenset({2}))
    records = tokenise(turns, conversation, template, RULES)
    assert records == [turn.tokens for turn in turns]
    trained = [index for ids, mask in segments(records) for index, on in zip(ids, mask, strict=True) if on]
    assert trained == [index for step in range(6) for index in sampled(template, step, finished=step != 2)]


@pytest.mark.parametrize("kind", EXACT)
@quick
@given(st.integers(0, 10**6))
def test_sampled_ids_survive_although_tokenising_their_text_gives_others(kind: str, seed: int) -> None:
    template = ChatTemplate(tokenizer(kind))
    transcript = Transcript(template)
    transcript.open(ALL.opening(RULES, [], "A room."))
    ids = sampled(template, seed)
    prompt = list(transcript.ids)
    transcript.answer(ids)
    transcript.observe([ALL.newest([], "Another room.")])
    assert transcript.ids[: len(prompt) + len(ids)] == [*prompt, *ids]


def test_there_are_sampled_ids_that_tokenising_would_change() -> None:
    template = ChatTemplate(tokenizer("chatml"))
    drawn = [sampled(template, seed) for seed in range(50)]
    assert sum(template.encode_completion(template.decode(ids)) != ids for ids in drawn) > 25


@pytest.mark.parametrize("kind", EXACT)
def test_a_cut_off_completion_is_closed_as_context(kind: str) -> None:
    template = ChatTemplate(tokenizer(kind))
    records = tokenise(played(template, ALL, 3, cut=frozenset({1})), ALL, template, RULES)
    assert template.end_id not in records[1].completion
    assert records[2].context[0] == template.end_id
    [(ids, mask)] = segments(records)
    end_of_cut = len(records[0].context + records[0].completion + records[1].context + records[1].completion)
    assert ids[end_of_cut] == template.end_id
    assert mask[end_of_cut] is False
    assert records[1].context[0] != template.end_id  # the finished completion before it was not closed again


@pytest.mark.parametrize("conversation", [ALL, LAST_TWO], ids=["all", "last two"])
def test_a_transcript_starts_anew_exactly_where_the_conversation_forgets(conversation: Conversation) -> None:
    template = ChatTemplate(tokenizer("chatml"))
    records = tokenise(played(template, conversation, 6), conversation, template, RULES)
    assert [record.fresh for record in records] == [conversation.forgets(step) for step in range(6)]
    assert len(segments(records)) == sum(conversation.forgets(step) for step in range(6))


def test_what_an_expert_wrote_is_tokenised_once_and_the_policys_turns_keep_their_ids() -> None:
    template = ChatTemplate(tokenizer("chatml"))
    expert = [Turn(observation=f"o{i}", completion=f"open door {i}", action=f"open door {i}") for i in range(2)]
    transcript = resume(expert, ALL, template, RULES)
    transcript.observe([ALL.newest(expert, "o2")])
    ids = sampled(template, 7)
    own = turn_of(template, "o2", transcript.answer(ids, [-1.0] * len(ids)))
    records = tokenise([*expert, own], ALL, template, RULES)
    assert records == transcript.records
    assert [template.decode(record.completion) for record in records[:2]] == ["open door 0", "open door 1"]
    assert [bool(record.logprobs) for record in records] == [False, False, True]
    assert records[2].completion == tuple(ids)


@pytest.mark.parametrize("conversation", [ALL, LAST_TWO], ids=["all", "last two"])
@pytest.mark.parametrize("step", [0, 1, 3, 5])
def test_a_resumed_transcript_goes_on_as_the_original_did(conversation: Conversation, step: int) -> None:
    template = ChatTemplate(tokenizer("llama3"))
    turns = played(template, conversation, 6, cut=frozenset({0}))
    transcript = resume(turns[:step], conversation, template, RULES)
    if conversation.forgets(step):
        transcript.open(conversation.opening(RULES, turns[:step], turns[step].observation))
    else:
        transcript.observe([conversation.newest(turns[:step], turns[step].observation)])
    [*_, (before, _)] = segments(tokenise(turns[: step + 1], conversation, template, RULES))
    assert turns[step].tokens is not None
    assert transcript.ids == before[: len(before) - len(turns[step].tokens.completion)]


def test_tokens_of_another_format_are_not_taken_over() -> None:
    template, other = ChatTemplate(tokenizer("chatml")), ChatTemplate(tokenizer("gemma"))
    turns = played(template, ALL, 3)
    for conversation, chosen, rules in [(ALL, other, RULES), (ALL, template, "Other rules."), (LAST_TWO, other, RULES)]:
        records = tokenise(turns, conversation, chosen, rules)
        assert records == tokenise([without_tokens(turn) for turn in turns], conversation, chosen, rules)
        assert not any(record.logprobs for record in records)


def test_a_turn_of_another_style_is_shown_in_this_one() -> None:
    template, react = ChatTemplate(tokenizer("chatml")), Conversation(style="react")
    turn = Turn(observation="A room.", completion="open door", action="open door")
    [record] = tokenise([turn], react, template, RULES)
    assert template.decode(record.completion) == react.write("open door")


def test_listed_actions_need_not_be_known_again() -> None:
    template, listing = ChatTemplate(tokenizer("chatml")), Conversation(actions=3, window=1)
    actions = [["open door", "wait"], ["take key", "wait", "look", "sing"]]
    turns: list[Turn] = []
    for step, listed in enumerate(actions):
        transcript = Transcript(template)
        transcript.open(listing.opening(RULES, turns, f"Room {step}.", listed))
        turns.append(turn_of(template, f"Room {step}.", transcript.answer(sampled(template, step))))
    made = [turn.tokens for turn in turns]
    assert tokenise(turns, listing, template, RULES) == made
    assert tokenise(turns, listing, template, RULES, actions=actions) == made
    assert tokenise(turns, listing, template, RULES, actions=[["sing"], ["sing"]]) != made
    assert tokenise(turns, listing, template, "Other rules.") != made


def test_answers_and_observations_take_turns() -> None:
    transcript = Transcript(ChatTemplate(tokenizer("chatml")))
    with pytest.raises(ValueError, match="open"):
        transcript.observe([ALL.newest([], "too early")])
    with pytest.raises(ValueError, match="open"):
        transcript.answer([5])
    transcript.open(ALL.opening(RULES, [], "A room."))
    with pytest.raises(ValueError, match="answer"):
        transcript.observe([ALL.newest([], "too early")])


def test_segments_cut_where_records_are_fresh() -> None:
    records = [
        TokenRecord(context=(1, 2), completion=(3,), fresh=True),
        TokenRecord(context=(4,), completion=(5, 6)),
        TokenRecord(context=(7,), completion=(8,), fresh=True),
    ]
    assert segments(records) == [
        ([1, 2, 3, 4, 5, 6], [False, False, True, False, True, True]),
        ([7, 8], [False, True]),
    ]
