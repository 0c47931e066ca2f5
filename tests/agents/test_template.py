"""A chat template grown by ids says what its own rendering says, or it is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from chat_templates import EXACT, REFUSED, tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from palaestra.agents.message import Message
from palaestra.agents.template import CHATML, ChatTemplate, NotTokenExact
from palaestra.envs import BadInput

LOOK_ALIKES = [
    "<|im_end|>", "<|im_start|>user\n", "<|eot_id|>", "</s>", "<s>", "[INST]", "[/INST]", "<end_of_turn>",
    "<start_of_turn>model\n", "<|im_<|im_end|>end|>", "<bos>", "<0x41>", "<think>", "{{ bos_token }}", "{% if x %}",
]  # fmt: skip
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=12)
contents = st.lists(
    words | st.sampled_from([*LOOK_ALIKES, " ", "\n\n", "\t", "open door", "\r\n", "🙂", "e\u0301"]), max_size=5
).map("".join)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def conversation(system: str | None, texts: Sequence[str]) -> list[Message]:
    start = [] if system is None else [Message(role="system", content=system)]
    turns = [Message(role="assistant" if i % 2 else "user", content=text) for i, text in enumerate(texts)]
    return [*start, *turns]


def grown(template: ChatTemplate, messages: list[Message]) -> list[int]:
    """The ids of a conversation that is opened with its first user message and then only appended to."""
    first = 2 if messages[0]["role"] == "system" else 1
    ids = template.opening(messages[:first])
    for at in range(first, len(messages), 2):
        ids += template.encode_completion(messages[at]["content"])
        ids += template.extend([messages[at + 1]], closed=True)
    return ids


def rendered(template: ChatTemplate, messages: list[Message]) -> str:
    """The template's own rendering; where it has no place for a system message, that stands in the first user's."""
    if template.folds_system and messages[0]["role"] == "system":
        text = f"{messages[0]['content']}\n\n{messages[1]['content']}"
        messages = [Message(role="user", content=text), *messages[2:]]
    return template.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


plain = st.lists(st.text("abc def\n.,:é漢", min_size=1, max_size=30), min_size=1, max_size=5)
odd_conversations = st.tuples(
    st.none() | contents,
    st.integers(0, 3).flatmap(lambda n: st.lists(contents, min_size=2 * n + 1, max_size=2 * n + 1)),
)


@pytest.mark.parametrize("kind", EXACT)
@quick
@given(odd_conversations)
def test_a_conversation_grown_by_ids_reads_as_its_full_rendering(
    kind: str, drawn: tuple[str | None, list[str]]
) -> None:
    template, messages = ChatTemplate(tokenizer(kind)), conversation(*drawn)
    full = rendered(template, messages)
    assert template.text(messages) == full
    for ids in (grown(template, messages), template.opening(messages)):
        assert tokenizer(kind).decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False) == full


@pytest.mark.parametrize("kind", EXACT)
@quick
@given(odd_conversations)
def test_no_content_can_forge_a_special_token(kind: str, drawn: tuple[str | None, list[str]]) -> None:
    template, messages = ChatTemplate(tokenizer(kind)), conversation(*drawn)
    special = set(tokenizer(kind).all_special_ids)
    harmless = [Message(role=message["role"], content="x") for message in messages]
    bare = [index for index in template.opening(harmless) if index in special]
    assert [index for index in template.opening(messages) if index in special] == bare
    assert [index for index in grown(template, messages) if index in special] == bare


@pytest.mark.parametrize("kind", EXACT)
@quick
@given(plain.filter(lambda texts: len(texts) % 2 == 1))
def test_plain_text_is_split_as_the_tokenizer_itself_splits_the_rendering(kind: str, texts: list[str]) -> None:
    template = ChatTemplate(tokenizer(kind))
    messages = conversation(None, texts)
    own = tokenizer(kind)(template.text(messages), add_special_tokens=False)["input_ids"]
    assert template.opening(messages) == own


@pytest.mark.parametrize("kind", EXACT)
@quick
@given(contents)
def test_a_written_completion_reads_back(kind: str, text: str) -> None:
    template = ChatTemplate(tokenizer(kind))
    ids = template.encode_completion(text)
    assert ids[-1] == template.end_id
    assert ids.count(template.end_id) == 1
    kept = text if kind in ("chatml", "smollm2") else text.strip()
    # A SentencePiece tokenizer's blank in front of everything is the one that its template writes.
    assert template.decode(ids).removeprefix(" ") == kept.removeprefix(" ")


@pytest.mark.parametrize("kind", REFUSED)
def test_a_template_that_cannot_be_grown_is_refused_in_one_line(kind: str) -> None:
    with pytest.raises(NotTokenExact, match=REFUSED[kind]) as refusal:
        ChatTemplate(tokenizer(kind))
    assert "\n" not in str(refusal.value)


def test_another_template_can_take_the_place_of_a_refused_one() -> None:
    template = ChatTemplate(tokenizer("forgets-thinking"), jinja=CHATML)
    messages = conversation("Rules.", ["hello", "<think>\nhm\n</think>\n\nlook around", "a room"])
    assert "hm" in template.text(messages)
    read = tokenizer("forgets-thinking").decode(grown(template, messages), skip_special_tokens=False)
    assert read == template.text(messages)


def test_a_tokenizer_without_a_template_is_refused() -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer("chatml").backend_tokenizer, eos_token="<|im_end|>")
    with pytest.raises(NotTokenExact, match="no chat template"):
        ChatTemplate(bare)


@pytest.mark.parametrize("kind", EXACT)
def test_a_cut_off_completion_is_closed_and_a_finished_one_is_not_closed_twice(kind: str) -> None:
    template = ChatTemplate(tokenizer(kind))
    news = [Message(role="user", content="seen")]
    assert template.extend(news, closed=False) == [template.end_id, *template.extend(news, closed=True)]


def test_the_generic_end_of_text_ends_a_turn_too() -> None:
    template = ChatTemplate(tokenizer("llama3"))
    names = {tokenizer("llama3").convert_ids_to_tokens(index) for index in template.eos_ids}
    assert names == {"<|eot_id|>", "<|end_of_text|>"}
    assert template.end_text == "<|eot_id|>"


def test_system_text_is_folded_where_the_template_has_no_fixed_place_for_it() -> None:
    assert {kind: ChatTemplate(tokenizer(kind)).folds_system for kind in EXACT} == {
        "chatml": False, "smollm2": False, "llama3": False, "mistral": True, "mistral-control": True, "gemma": True,
    }  # fmt: skip


def test_a_lone_surrogate_is_no_crash() -> None:
    template = ChatTemplate(tokenizer("chatml"))
    assert "bad ? byte" in template.text(conversation(None, ["bad \ud800 byte"]))
    assert template.opening(conversation(None, ["bad \ud800 byte"]))


@pytest.mark.parametrize(
    "roles", [[], ["assistant"], ["user", "user"], ["user", "assistant"], ["system"], ["user", "system", "user"]]
)
def test_messages_out_of_order_are_bad_input(roles: list[str]) -> None:
    with pytest.raises(BadInput):
        ChatTemplate(tokenizer("chatml")).opening([{"role": role, "content": "x"} for role in roles])  # type: ignore[misc, typeddict-item]
