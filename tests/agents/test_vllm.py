"""vLLM as the policy: the ids and log-probs that transformers gives, in collections and behind URLs, with adapters too.

A real engine runs in float32 on a CPU, with tiny models. It is started once.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import served
from served import Way

import palaestra
from palaestra.agents.collect import collect
from palaestra.agents.engine import Engine
from palaestra.agents.engine_found import ties
from palaestra.agents.episode import Actor, Episode, Outcome
from palaestra.agents.models import load_model, version_of
from palaestra.agents.policies import vllm, vllm_same
from palaestra.agents.policies.hf import HFPolicy
from palaestra.agents.policies.vllm import VLLMPolicy
from palaestra.agents.policy import Completion, Policy, Request, Sampling
from palaestra.agents.ray_cluster import RayCluster
from palaestra.agents.store import EpisodeStore
from palaestra.agents.streaming import StreamingPolicy
from palaestra.agents.tiny import make_tiny
from palaestra.cli import run
from palaestra.envs import BadInput, Task, keeper
from palaestra.trainers.config import config_of
from palaestra.trainers.rft import RFT, RFTConfig
from tests.docs import small
from tests.docs.play import Player

pytestmark = pytest.mark.xdist_group("vllm")
CLOSE = 2e-4
"""How far log-probs of the two may differ, in nats: float32, summed in another order."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return served.models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def engine(models: tuple[Path, Path]) -> Iterator[Engine]:
    with served.engine(models[0], adapters=8) as started:
        yield started


@pytest.fixture
def policy(engine: Engine, models: tuple[Path, Path]) -> Iterator[VLLMPolicy]:
    """Of the running engine, which has the first model's weights again."""
    made = VLLMPolicy(engine, sampling=Sampling(max_tokens=12, seed=3), deadline=60)
    assert made.prompt_limit == served.CONTEXT
    if made.version != version_of(models[0]):
        made.update(models[0])
    yield made
    made.close()


def near(one: Any, other: Any) -> bool:
    return bool(one == pytest.approx(other, abs=CLOSE))


def spoken(episode: Episode) -> Iterator[tuple[int, list[int], tuple[int, ...], tuple[float, ...]]]:
    """Of every turn: its number, the ids that were seen, and those that were written with their log-probs."""
    seen: list[int] = []
    for number, turn in enumerate(episode.turns):
        assert turn.tokens is not None
        seen = [*([] if turn.tokens.fresh else seen), *turn.tokens.context]
        yield number, list(seen), turn.tokens.completion, turn.tokens.logprobs
        seen += turn.tokens.completion


def bandits(count: int, first: int = 0) -> list[Task]:
    return list(palaestra.find("bandit").split("train")[first : first + count])


def gather(policy: Any, store: EpisodeStore, tasks: list[Task], **more: Any) -> Any:
    settings = {"env_settings": {"max_steps": 4}, "progress": "quiet", "seed": 5, "concurrency": 12, **more}
    return collect(tasks, policy, store, **settings)


# -- exact to the token -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.0, 0.8), (1.4, 0.6), (0.0, 1.0)])
def test_log_probs_are_those_of_transformers(
    policy: VLLMPolicy, models: tuple[Path, Path], temperature: float, top_p: float
) -> None:
    asked = served.requests(policy.template, 16, seed=int(10 * temperature))
    answers = policy.sampled(Sampling(temperature=temperature, top_p=top_p, max_tokens=12)).act(asked)
    for request, answer in zip(asked, answers, strict=True):
        assert answer.error is None
        assert answer.ids
        assert answer.finished == (answer.ids[-1] in policy.template.eos_ids)
        expected = served.logprobs(models[0], request.prompt_ids, answer.ids, temperature, top_p)
        assert near(answer.logprobs, expected)
        assert answer.text == policy.template.decode(answer.ids)


def test_greedy_ids_are_those_of_the_policy_in_this_process(policy: VLLMPolicy, models: tuple[Path, Path]) -> None:
    asked = served.requests(policy.template, 20, seed=99)
    greedy = Sampling(temperature=0.0, max_tokens=12)
    here = HFPolicy(load_model(models[0], device="cpu", dtype="float32"), sampling=greedy)
    for ours, theirs in zip(policy.sampled(greedy).act(asked), here.act(asked), strict=True):
        assert (ours.ids, ours.text, ours.finished) == (theirs.ids, theirs.text, theirs.finished)
        assert near(ours.logprobs, theirs.logprobs)
        assert (ours.prompt_tokens, ours.completion_tokens) == (theirs.prompt_tokens, theirs.completion_tokens)
    assert (policy.version, policy.name) == (here.version, here.name)


def test_what_replicas_are_compared_by_is_the_log_probs_of_transformers(
    policy: VLLMPolicy, models: tuple[Path, Path]
) -> None:
    [server] = policy._replicas._servers
    prompt = policy.template.opening(vllm._COMPARED)
    prompts = [prompt[:end] for end in range(vllm_same._STEP, len(prompt) + 1, vllm_same._STEP)]
    told = policy._replicas._wait(server.read(prompts, Engine.name))
    same, other = ([max(served.all_logprobs(model, each)) for each in prompts] for model in models)
    assert near(told, same)
    assert sum(abs(one - two) for one, two in zip(told, other, strict=True)) / len(told) > vllm_same._APART


def test_an_answer_depends_on_its_seed_and_not_on_its_neighbours(policy: VLLMPolicy) -> None:
    asked = served.requests(policy.template, 12)
    together = policy.act(asked)
    policy.forget()
    alone = [policy.act([request])[0] for request in asked[:4]]
    assert [answer.ids for answer in alone] == [answer.ids for answer in together[:4]]
    one = asked[5]
    drawn = policy.act([Request(one.messages, seed, one.prompt_ids) for seed in range(30)])
    assert len({answer.ids for answer in drawn}) > 20


def test_a_short_answer_can_be_asked_for(policy: VLLMPolicy) -> None:
    [request] = served.requests(policy.template, 1)
    [answer] = policy.act([Request(request.messages, 1, request.prompt_ids, max_tokens=2)])
    assert len(answer.ids) <= 2


def test_prompts_that_do_not_fit_into_one_pass_take_the_engine_not_down(engine: Engine, policy: VLLMPolicy) -> None:
    """vLLM's core would read one of them in parts, and on a CPU it dies of that: see `Engine.words`."""
    starts, long = engine.starts, served.CONTEXT - 32
    asked = [Request((), seed, [5 + (seed + place) % 300 for place in range(long)]) for seed in range(16)]
    assert len(asked) * long > 3 * 2048  # ids that the core reads in one pass
    answers = policy.act(asked)
    assert [answer.error for answer in answers] == [None] * len(asked)
    assert (engine.starts, policy.faults) == (starts, 0)


def test_answers_can_be_restricted_to_the_admissible_actions(engine: Engine, models: tuple[Path, Path]) -> None:
    made = VLLMPolicy(engine, sampling=Sampling(max_tokens=40), constrain=True)
    actions = ["pull 1", "pull 2", "pull 12", 'say "ünï 漢"', "look at the door (slowly)"]
    [request] = served.requests(made.template, 1)
    answers = made.act([Request(request.messages, seed, request.prompt_ids, actions) for seed in range(40)])
    assert {answer.error for answer in answers} == {None}
    chosen = Counter(answer.text for answer in answers)
    assert set(chosen) <= set(actions)
    assert len(chosen) > 1
    for answer in answers:
        assert answer.finished
        assert answer.ids[-1] == made.template.end_id
        # Restricted, every id is more probable than without.
        free = served.logprobs(models[0], request.prompt_ids, answer.ids)
        assert all(ours >= theirs - CLOSE for ours, theirs in zip(answer.logprobs, free, strict=True))
        assert sum(answer.logprobs) > sum(free)
    [none] = made.act([request])
    assert "no admissible actions" in str(none.error)
    made.close()


# -- a collection -----------------------------------------------------------------------------------------------------


def test_a_collection_is_token_exact_and_says_by_whom(
    policy: VLLMPolicy, models: tuple[Path, Path], tmp_path: Path
) -> None:
    assert isinstance(policy, StreamingPolicy)
    assert isinstance(policy, Policy)
    with EpisodeStore(tmp_path / "e.sqlite") as store:
        report = gather(policy, store, bandits(16), samples=2)
        assert (report.episodes, report.faults) == (32, 0)
        for episode in store.episodes():
            assert episode.provenance.actor is Actor.POLICY
            assert episode.provenance.policy_version == version_of(models[0])
            assert episode.provenance.sampling["engine"] == "vllm"
            for _, seen, ids, told in spoken(episode):
                assert near(told, served.logprobs(models[0], seen, ids))
        again = gather(policy, store, bandits(16), samples=2)
        assert (again.episodes, again.skipped) == (0, 32)
        fork = next(store.episodes()).fork(2)
        assert gather(policy, store, [fork], samples=6).episodes == 6  # type: ignore[list-item]


def test_no_more_requests_are_under_way_than_allowed_and_turns_of_an_episode_stay_with_one_replica(
    engine: Engine, models: tuple[Path, Path], policy: VLLMPolicy, tmp_path: Path
) -> None:
    with Way(engine) as one, Way(engine) as two, EpisodeStore(tmp_path / "e.sqlite") as store:
        made = VLLMPolicy(one.url, two.url, sampling=Sampling(max_tokens=4), concurrency=3)
        assert (made.version, made.prompt_limit) == (version_of(models[0]), served.CONTEXT)
        for way in (one, two):
            way.bodies.clear()  # what it was compared by
        assert gather(made, store, bandits(24), concurrency=24).episodes == 24
        assert 1 <= one.most <= 3
        assert 1 <= two.most <= 3
        prompts = [{tuple(json.loads(body)["prompt"]) for body in way.bodies} for way in (one, two)]
        assert min(map(len, prompts)) > 20  # both had their share
        stayed = moved = 0
        for episode in store.episodes():
            turns = [tuple(seen) for _, seen, _, _ in spoken(episode)]
            for before, after in itertools.pairwise(turns):
                where = [{place for place in (0, 1) if turn in prompts[place]} for turn in (before, after)]
                stayed += bool(where[0] & where[1])
                moved += not where[0] & where[1]
        assert stayed > 2 * moved  # by chance it would be every second one
        assert next(store.episodes()).provenance.sampling["url"] == f"{one.url} {two.url}".replace("/v1", "")
        made.close()


# -- new weights ------------------------------------------------------------------------------------------------------


def adapter(model: Path, folder: Path) -> Any:
    """The model with a low-rank adapter, which is saved in the folder."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    wanted = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "v_proj", "o_proj"], init_lora_weights=False)
    adapted = get_peft_model(load_model(model, device="cpu").model, wanted).eval()
    adapted.save_pretrained(folder)
    return adapted


def test_an_adapter_is_taken_and_let_go(policy: VLLMPolicy, models: tuple[Path, Path], tmp_path: Path) -> None:
    adapted = adapter(models[0], tmp_path / "adapter")
    asked = served.requests(policy.template, 6, seed=8)
    before = policy.version
    policy.update(tmp_path / "adapter")
    assert policy.version == f"{before}+{version_of(tmp_path / 'adapter')}"
    for request, answer in zip(asked, policy.act(asked), strict=True):
        expected = served.logprobs(adapted, request.prompt_ids, answer.ids)
        assert near(answer.logprobs, expected)
        assert not near(expected, served.logprobs(models[0], request.prompt_ids, answer.ids))
    policy.update(models[0])
    for request, answer in zip(asked, policy.act(asked), strict=True):
        assert near(answer.logprobs, served.logprobs(models[0], request.prompt_ids, answer.ids))


# -- what cannot be done ----------------------------------------------------------------------------------------------


def test_a_prompt_that_is_too_long_fails_alone_and_says_what_to_do(policy: VLLMPolicy, tmp_path: Path) -> None:
    good, *_ = served.requests(policy.template, 1)
    long = Request(good.messages, 0, [5] * served.CONTEXT)
    right, wrong, edge = policy.act([good, long, Request(good.messages, 0, [5] * (served.CONTEXT - 1))])
    assert right.error is None
    assert f"the prompt has {served.CONTEXT} ids" in str(wrong.error)
    assert wrong.too_long
    assert "show fewer turns" in str(wrong.error)
    assert "\n" not in str(wrong.error)
    assert edge.error is None
    assert len(edge.ids) == 1
    with EpisodeStore(tmp_path / "e.sqlite") as store, pytest.raises(BadInput, match="first prompt has"):
        gather(policy.sampled(Sampling(max_tokens=served.CONTEXT)), store, bandits(1))


def test_weights_of_another_shape_are_refused_and_the_old_ones_stay(
    policy: VLLMPolicy, models: tuple[Path, Path], tmp_path: Path
) -> None:
    before = policy.version
    other = make_tiny(["A door."], tmp_path / "other", vocab=300, hidden=64, layers=2, heads=2)
    with pytest.raises(BadInput, match="vocab_size"):
        policy.update(other)
    [request] = served.requests(policy.template, 1)
    [answer] = policy.act([request])
    assert (policy.version, policy.faults) == (before, 0)
    assert near(answer.logprobs, served.logprobs(models[0], request.prompt_ids, answer.ids))


def test_a_model_that_is_not_served_is_told_with_those_that_are(engine: Engine, policy: VLLMPolicy) -> None:
    with Way(engine) as way, pytest.raises(BadInput, match="has no model 'qwen'; it has model"):
        VLLMPolicy(way.url, model="qwen")


def test_the_command_line_takes_a_found_server(
    engine: Engine, policy: VLLMPolicy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Way(engine) as way:
        command = ["collect", "bandit", "--policy", f"vllm:@{way.url}", "--tasks", "3", "-q", "--constrain"]
        assert run([*command, "--out", str(tmp_path / "out"), "-s", "max_steps=3"]) == 0
        assert (
            run(
                ["collect", "bandit", "--policy", f"vllm:qwen@{way.url}", "--tasks", "1", "--out", str(tmp_path / "no")]
            )
            == 2
        )
    assert "has no model 'qwen'" in capsys.readouterr().err
    with EpisodeStore(next((tmp_path / "out").rglob("*.sqlite"))) as store:
        assert [episode.turns[0].valid for episode in store.episodes()] == [True] * 3


class Eventful(VLLMPolicy):
    """Does something when so many episodes are stored, just before the next request."""

    store: EpisodeStore
    plan: dict[int, Callable[[], None]]

    def submit(self, request: Request, done: Callable[[Completion], None]) -> None:
        for stored in [stored for stored in self.plan if len(self.store) >= stored]:
            self.plan.pop(stored)()
        super().submit(request, done)


def test_a_found_engine_takes_whole_weights_exactly(
    engine: Engine, policy: VLLMPolicy, models: tuple[Path, Path]
) -> None:
    """Its output head shares the embeddings' weights, whose packed copy on a CPU vLLM itself would not renew."""
    assert all(ties(model) for model in models)
    starts = engine.starts
    with Way(engine) as way:
        found = VLLMPolicy(way.url, sampling=policy.sampling)
        asked = served.requests(found.template, 6, seed=9)
        for old, new in (models, models[::-1]):
            found.update(new)
            for request, answer in zip(asked, found.act(asked), strict=True):
                expected = served.logprobs(new, request.prompt_ids, answer.ids)
                assert near(answer.logprobs, expected)
                assert not near(expected, served.logprobs(old, request.prompt_ids, answer.ids))
        found.close()
    assert engine.starts == starts


@pytest.mark.timeout(1500)  # the engine starts again, twice
def test_weights_change_and_the_core_and_a_keeper_are_killed_in_mid_collection(
    engine: Engine, models: tuple[Path, Path], tmp_path: Path
) -> None:
    """Every turn has the log-probs of the weights that it is recorded with, and what was lost is made again."""
    made = Eventful(engine, sampling=Sampling(max_tokens=12, seed=3))
    if made.version != version_of(models[0]):
        made.update(models[0])
    starts = engine.starts

    def kill() -> None:
        assert engine.starts == starts, "it takes new weights while it runs"
        for pid in keeper.descendants(engine.pid):  # the core, where the model is, not the server before it
            os.kill(pid, signal.SIGKILL)

    left: dict[int, str] = {}

    def kill_keeper() -> None:
        assert engine.starts == starts + 1
        left.update({pid: keeper.started(pid) for pid in (engine.pid, *keeper.descendants(engine.pid))})
        os.kill(psutil.Process(engine.pid).ppid(), signal.SIGKILL)

    made.plan = {6: lambda: made.update(models[1]), 20: kill, 30: kill_keeper}
    with EpisodeStore(tmp_path / "e.sqlite") as store:
        made.store = store
        report = gather(made, store, bandits(40), concurrency=6)
        assert (report.episodes, report.given_up, made.plan) == (40, 0, {})
        assert engine.starts == starts + 2
        assert len(left) >= 3  # the server, the core and its worker
        assert not any(keeper.started(pid) == ticks for pid, ticks in left.items())
        versions = [version_of(folder) for folder in models]
        begun = Counter[str]()
        for episode in store.episodes():
            assert not episode.outcome.is_fault
            begun[episode.provenance.policy_version] += 1
            later = episode.labels.get("written_by", {})
            for number, seen, ids, told in spoken(episode):
                version = later.get(str(number), episode.provenance.policy_version)
                assert near(told, served.logprobs(models[versions.index(version)], seen, ids))
        assert set(begun) == set(versions)
        assert {fault.outcome for fault in store.faults()} == {Outcome.POLICY_ERROR}  # what was asked just then
    assert made.faults >= 1
    made.close()
    assert engine.running  # it was there before the policy, and stays


@pytest.mark.timeout(1500)  # the engine starts again
def test_a_core_that_hangs_behind_its_server_is_noticed_by_deadline_and_its_episodes_are_made_again(
    engine: Engine, models: tuple[Path, Path], tmp_path: Path
) -> None:
    """The server itself goes on to say that it is well."""
    made = Eventful(engine, sampling=Sampling(max_tokens=12, seed=3), deadline=10)
    starts = engine.starts

    def stop() -> None:
        for pid in keeper.descendants(engine.pid):
            os.kill(pid, signal.SIGSTOP)

    made.plan = {3: stop}
    with EpisodeStore(tmp_path / "e.sqlite") as store:
        made.store = store
        report = gather(made, store, bandits(8), concurrency=2, retries=20)
        assert (report.episodes, report.given_up, made.plan) == (8, 0, {})
        faults = list(store.faults())
    assert engine.starts > starts
    assert {fault.outcome for fault in faults} == {Outcome.POLICY_ERROR}
    assert any("it hangs (no answer within 10 s, none to one token either)" in str(fault.error) for fault in faults)
    made.close()


def test_trained_weights_flow_into_the_engine(engine: Engine, models: tuple[Path, Path], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"env": "bandit", "model": str(models[0]), "env_settings": {"max_steps": 3}, "tasks": 4}
    settings |= {"experts": {"oracle": "ucb"}, "budget": 8, "iterations": 2, "threshold": 0.0}
    settings |= {"objective": {"epochs": 1, "batch": 4}, "sampling": {"max_tokens": 4}, "evaluation": {"tasks": 2}}
    with Way(engine) as way:
        recipe = RFT(config_of(RFTConfig, {**settings, "engine": way.url}), tmp_path / "run", progress="quiet")
        recipe.train()
    fitted = [version_of(tmp_path / "run" / f"iteration-{n}" / "model") for n in range(3)]
    with EpisodeStore(tmp_path / "run" / "episodes.sqlite") as store:
        heads = [episode.provenance for episode in store.episodes()]
        folders = [models[0], *(tmp_path / "run" / f"iteration-{n}" / "model" for n in range(3))]
        known = {version_of(folder): folder for folder in folders}
        for episode in store.episodes():
            if episode.provenance.actor is Actor.POLICY:
                for _, seen, ids, told in spoken(episode):
                    assert near(told, served.logprobs(known[episode.provenance.policy_version], seen, ids))
    by_model = [head for head in heads if head.actor is Actor.POLICY]
    assert {head.sampling["engine"] for head in by_model} == {"vllm"}
    assert {head.policy_version for head in by_model} == {version_of(models[0]), *fitted}
    assert VLLMPolicy(engine).version == fitted[-1]  # the server says whose weights it has


# -- what the documents say to type ------------------------------------------------------------------------------------


def test_the_program_of_its_page_runs_with_the_running_engine(
    engine: Engine, models: tuple[Path, Path], tmp_path: Path
) -> None:
    """Line by line: with this engine in place of a new one, and a new adapter as what was fitted."""
    (block,) = re.findall(r"```python\n(.*?)```", (small.ROOT / "docs" / "vllm.md").read_text(), re.DOTALL)
    adapter(models[0], tmp_path / "fitted")
    changes = {
        'Engine("smollm2-135m", concurrency=64)': "running",
        "...  # collect(": "collect(",
        '"runs/mine/iteration-1/model"': repr(str(tmp_path / "fitted")),
    }
    for shown, here in changes.items():
        assert block.count(shown) == 1, shown
        block = block.replace(shown, here)
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        names: dict[str, Any] = {"running": engine, "collect": collect, "tasks": bandits(3), "store": store}
        exec(compile(block, "vllm.md", "exec"), names)
        assert len(store) == 3
        assert all(turn.valid for episode in store.episodes() for turn in episode.turns)
    assert names["policy"].version.endswith(f"+{version_of(tmp_path / 'fitted')}")


def test_the_commands_of_the_documents_run_with_the_running_engine(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In small, and with bandits, whose texts its context has room for; those on Ray with a cluster of this machine."""
    monkeypatch.chdir(tmp_path)
    found = [line for page in small.PAGES for line in small.commands(page) if small.place(line) == "vllm"]
    assert len(found) >= 7
    beside = Player()  # runs the environment that one of them plays elsewhere

    def typed(line: str) -> None:
        line = small.small(line, url=way.url, cluster="local", model=str(engine.folder)).replace("webshop", "bandit")
        line = re.sub(r"url=\S+", f"url=http://127.0.0.1:{beside.ports.get('8000')}", line)
        assert run([*small.words(line), "-q"]) == 0, line

    with Way(engine) as way:
        try:
            beside.started(["palaestra", "serve", "bandit"])
            for line in found:
                if "--ray" not in line:
                    typed(line)
        finally:
            beside.end()
        with RayCluster("local").joined():
            for line in found:
                if "--ray" in line:
                    typed(line)
    for name in ("b", "c", "d", "many"):
        with EpisodeStore(tmp_path / "runs" / name / "episodes.sqlite", mode="r") as store:
            assert len(store) == 2
            assert {episode.provenance.sampling["engine"] for episode in store.episodes()} == {"vllm"}
    assert (tmp_path / "runs" / "g" / "report.html").is_file()
