"""The transformers policy samples what the model says, whoever it shares a batch with and whatever it has kept."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from palaestra.agents.message import Message
from palaestra.agents.models import LoadedModel, load_model
from palaestra.agents.policies.decoding import draw
from palaestra.agents.policies.hf import HFPolicy
from palaestra.agents.policies.prefix_cache import PrefixCache
from palaestra.agents.policy import Completion, Policy, Request, Sampling
from palaestra.agents.template import ChatTemplate
from palaestra.agents.tiny import make_tiny
from palaestra.envs import BadInput

RULES = "You are in a house with many rooms, and you can open doors and take what lies about. " * 3
OBSERVATIONS = [
    "A door.",
    "A kitchen with a stove, a kettle and a sink. " * 4,
    "You see nothing.",
    "A key lies here. " * 9,
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = make_tiny(
        [RULES, *OBSERVATIONS], tmp_path_factory.mktemp("tiny") / "m", vocab=400, hidden=64, layers=3, context=512
    )
    loaded = load_model(folder, device="cpu")
    with torch.no_grad():  # fresh weights say nearly nothing; larger ones make distributions that differ by prompt
        for parameter in loaded.model.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1)
    return loaded


def requests(template: ChatTemplate, actions: Sequence[str] | None = None) -> list[Request]:
    system = Message(role="system", content=RULES)
    return [
        Request([], seed, template.opening([system, Message(role="user", content=text)]), actions)
        for seed, text in enumerate(OBSERVATIONS)
    ]


def plain_logits(loaded: LoadedModel, request: Request, answer: Completion) -> torch.Tensor:
    """What a plain forward pass says of every completion id, [ids, vocabulary]."""
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([[*request.prompt_ids, *answer.ids]])).logits[0].float()
    return logits[len(request.prompt_ids) - 1 : -1]


def logprobs_of(logits: torch.Tensor, answer: Completion) -> list[float]:
    return logits.log_softmax(-1).gather(-1, torch.tensor(answer.ids)[:, None])[:, 0].tolist()


def next_requests(template: ChatTemplate, asked: list[Request], answers: list[Completion]) -> list[Request]:
    news = [Message(role="user", content="The door is open.")]
    return [
        Request([], 100 + i, [*r.prompt_ids, *a.ids, *template.extend(news, closed=template.ends(a.ids))])
        for i, (r, a) in enumerate(zip(asked, answers, strict=True))
    ]


@pytest.mark.parametrize("memory", [1 << 30, 200_000, 0], ids=["kept", "little kept", "nothing kept"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_a_plain_forward_pass(tiny: LoadedModel, memory: int, temperature: float) -> None:
    policy = HFPolicy(tiny, sampling=Sampling(max_tokens=12, temperature=temperature), memory=memory, batch_size=3)
    asked = requests(policy.template)
    for _ in range(3):
        answers = policy.act(asked)
        for request, answer in zip(asked, answers, strict=True):
            expected = logprobs_of(plain_logits(tiny, request, answer) / temperature, answer)
            assert answer.logprobs == pytest.approx(expected, abs=2e-4)
        asked = next_requests(policy.template, asked, answers)


def test_a_request_samples_the_same_alone_and_in_any_batch(tiny: LoadedModel) -> None:
    policy = HFPolicy(tiny, sampling=Sampling(max_tokens=12, top_p=0.9))
    asked = requests(policy.template)
    together = policy.act(asked)
    assert [policy.act([request])[0].ids for request in asked] == [answer.ids for answer in together]
    assert [answer.ids for answer in policy.act(asked[::-1])] == [answer.ids for answer in together][::-1]
    fresh = HFPolicy(tiny, sampling=Sampling(max_tokens=12, top_p=0.9), memory=0, batch_size=2)
    assert [answer.ids for answer in fresh.act(asked)] == [answer.ids for answer in together]


def test_seeds_of_the_run_and_of_the_turn_both_count(tiny: LoadedModel) -> None:
    one, two = (HFPolicy(tiny, sampling=Sampling(max_tokens=12, seed=seed)) for seed in (1, 2))
    prompt = requests(one.template)[0].prompt_ids
    drawn = {policy.act([Request([], seed, prompt)])[0].ids for policy in (one, two) for seed in range(4)}
    assert len(drawn) == 8


def test_the_next_turn_reads_only_what_was_appended(tiny: LoadedModel) -> None:
    policy = HFPolicy(tiny, sampling=Sampling(max_tokens=6))
    read: list[int] = []
    hook = tiny.model.register_forward_pre_hook(
        lambda _module, _args, inputs: read.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    try:
        asked = requests(policy.template)
        answers = policy.act(asked)
        shared, first = read[0], sum(read)
        asked = next_requests(policy.template, asked, answers)
        read.clear()
        policy.act(asked)
    finally:
        hook.remove()
    whole = sum(len(request.prompt_ids) for request in asked)
    assert shared > 60  # the instructions, once, apart
    assert first < whole
    assert sum(read) < whole / 3


def test_greedy_takes_the_most_probable_ids(tiny: LoadedModel) -> None:
    policy = HFPolicy(tiny, sampling=Sampling(max_tokens=8, temperature=0))
    asked = requests(policy.template)
    for request, answer in zip(asked, policy.act(asked), strict=True):
        logits = plain_logits(tiny, request, answer)
        assert list(answer.ids) == logits.argmax(-1).tolist()
        assert answer.logprobs == pytest.approx(logprobs_of(logits, answer), abs=2e-4)


def test_an_answer_ends_with_its_end_of_turn_or_says_that_it_was_cut(tiny: LoadedModel) -> None:
    policy = HFPolicy(tiny, sampling=Sampling(max_tokens=40, temperature=2.0))
    prompt = requests(policy.template)[0].prompt_ids
    answers = policy.act([Request([], seed, prompt) for seed in range(64)])
    assert {answer.finished for answer in answers} == {True, False}
    for answer in answers:
        assert answer.finished == (answer.ids[-1] in policy.template.eos_ids)
        assert not any(index in policy.template.eos_ids for index in answer.ids[:-1])
        assert len(answer.ids) == 40 or answer.finished
        assert answer.text == policy.template.decode(answer.ids)
        assert (answer.prompt_tokens, answer.completion_tokens) == (len(prompt), len(answer.ids))


def test_constrained_answers_are_admissible_and_their_logprobs_sum_to_one(tiny: LoadedModel) -> None:
    policy = HFPolicy(tiny, sampling=Sampling(max_tokens=40), constrain=True)
    actions = ["open door", "open door to kitchen", "take key", "wait"]
    prompt = requests(policy.template)[0].prompt_ids
    answers = policy.act([Request([], seed, prompt, actions) for seed in range(200)])
    found = {answer.text: sum(answer.logprobs) for answer in answers}
    assert set(found) == set(actions)
    assert all(answer.finished for answer in answers)
    assert sum(torch.tensor(list(found.values())).exp().tolist()) == pytest.approx(1, abs=1e-4)
    assert policy.wants_actions
    assert policy.extra == {"constrain": True}


def test_a_prompt_that_is_too_long_fails_alone(tiny: LoadedModel) -> None:
    policy = HFPolicy(tiny, sampling=Sampling(max_tokens=6))
    good = requests(policy.template)[0]
    answers = policy.act([good, Request([], 1, [5] * 512), good])
    assert answers[1].error is not None
    assert "512" in answers[1].error
    assert answers[1].too_long
    assert "\n" not in answers[1].error
    assert answers[0].ids == answers[2].ids
    assert answers[0].error is None


def test_a_constrained_request_without_actions_fails_alone(tiny: LoadedModel) -> None:
    policy = HFPolicy(tiny, constrain=True)
    prompt = requests(policy.template)[0].prompt_ids
    bad, good = policy.act([Request([], 0, prompt, None), Request([], 0, prompt, ["wait"])])
    assert bad.error is not None
    assert not bad.too_long
    assert (good.text, good.error) == ("wait", None)


def test_new_weights_take_effect_and_nothing_of_the_old_ones_is_kept(tiny: LoadedModel, tmp_path: Path) -> None:
    policy = HFPolicy(tiny, sampling=Sampling(max_tokens=8))
    asked = requests(policy.template)
    policy.act(asked)
    other = make_tiny([RULES, *OBSERVATIONS], tmp_path / "other", vocab=400, hidden=64, layers=3, context=512, seed=1)
    policy.update(other)
    loaded = load_model(other, device="cpu")
    assert policy.version == loaded.version != tiny.version
    for request, answer in zip(asked, policy.act(asked), strict=True):
        assert answer.logprobs == pytest.approx(logprobs_of(plain_logits(loaded, request, answer), answer), abs=2e-4)
    with pytest.raises(BadInput, match="version"):
        policy.update(tiny.model)


def test_messages_will_do_without_ids(tiny: LoadedModel) -> None:
    policy = HFPolicy(tiny, sampling=Sampling(max_tokens=6))
    messages = [Message(role="user", content="A door.")]
    [by_messages] = policy.act([Request(messages, 3)])
    [by_ids] = policy.act([Request([], 3, policy.template.opening(messages))])
    assert by_messages.ids == by_ids.ids
    assert isinstance(policy, Policy)


def test_drawing_follows_the_distribution() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, float("-inf")]]).repeat(20_000, 1)
    points = [(i + 0.5) / 20_000 for i in range(20_000)]
    ids, logprobs = draw(logits, points, temperature=1.0)
    shares = torch.bincount(torch.tensor(ids), minlength=5) / 20_000
    assert shares.tolist() == pytest.approx(logits[0].softmax(-1).tolist(), abs=1e-3)
    assert logprobs[0] == pytest.approx(float(logits[0].log_softmax(-1)[ids[0]]), abs=1e-5)


def test_the_nucleus_is_the_smallest_set_that_holds_its_probability() -> None:
    probabilities = torch.tensor([0.1, 0.5, 0.3, 0.06, 0.04])
    points = [i / 1000 for i in range(1000)]
    for top_p, kept in [(0.4, {1}), (0.5, {1}), (0.51, {1, 2}), (0.85, {0, 1, 2}), (1.0, {0, 1, 2, 3, 4})]:
        ids, logprobs = draw(probabilities.log().repeat(1000, 1), points, temperature=1.0, top_p=top_p)
        assert set(ids) == kept
        total = float(probabilities[list(kept)].sum())
        assert logprobs[0] == pytest.approx(float((probabilities[ids[0]] / total).log()), abs=1e-5)


def test_the_prefix_cache_keeps_what_was_used_last_within_its_size(tiny: LoadedModel) -> None:
    policy = HFPolicy(tiny, sampling=Sampling(max_tokens=6), memory=400_000)
    for seed in range(12):
        prompt = [10 + seed, *requests(policy.template)[0].prompt_ids]
        policy.act([Request([], seed, prompt)])
        cache: PrefixCache = policy._cache
        assert cache.bytes <= 400_000
        assert cache.longest([*prompt, 1])[1] >= len(prompt)
    assert 1 <= len(cache) < 12


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed")
def test_a_new_policy_gives_back_what_was_freed(tiny: LoadedModel) -> None:
    def allocate() -> None:
        del blocks[:]
        torch.zeros(4 << 20)  # from now on blocks smaller than this lie in heaps
        blocks.extend(torch.zeros(64 << 10) for _ in range(800))

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    blocks: list[torch.Tensor] = []
    thread = threading.Thread(target=allocate)
    thread.start()
    thread.join()
    kept = blocks[::50]  # a heap can only shrink at its end
    full = resident()
    blocks.clear()
    HFPolicy(tiny)
    assert full - resident() > 150 << 20  # of 200 MiB
    assert len(kept) == 16
