"""A found server that fails though it says that it is well is waited for; a request that it cannot bear fails alone.

The server is the test's own: what vLLM fails at cannot be had on demand. All else about vLLM is tested with vLLM.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from palaestra.agents.collect import collect
from palaestra.agents.engine import Engine, EngineFault
from palaestra.agents.engine_found import context_of
from palaestra.agents.models import version_of
from palaestra.agents.policies.vllm import VLLMPolicy
from palaestra.agents.policies.vllm_serving import Serving
from palaestra.agents.policy import Completion, Request, Sampling
from palaestra.agents.store import EpisodeStore
from palaestra.agents.tiny import make_tiny
from palaestra.cli import run
from palaestra.envs import BadInput, find

PAGES: dict[str, Any] = {
    "/v1/models": {"data": [{"id": "tiny", "root": "tiny", "max_model_len": 256}]},
    "/version": {"version": "0.32.0"},
    "/health": {},
}


class Ailing(ThreadingHTTPServer):
    """Says that it is well, and answers a prompt only where `fails` does not say otherwise.

    Attributes:
        fails: is told how many completions were asked before, and the prompt.
        asked: prompts, in the order in which they came; names: under which model each was asked.
        pages: what else it answers.
        orders: routes by which it was given weights and adapters, in the order in which they came.
        opened: orders are answered when this is set; refuses: a route by which it takes none.
        ids: that it answers with; reads: log-prob that it tells where it is asked for several prompts.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str = "tiny") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fails: Callable[[int, list[int]], bool] = lambda number, prompt: False
        self.asked: list[list[int]] = []
        self.names: list[str | None] = []
        self.orders: list[str] = []
        self.opened = threading.Event()
        self.opened.set()
        self.refuses = ""
        self.ids, self.name = [7, 8], name
        self.reads: float | None = None
        self.pages: dict[str, Any] = {}
        self.starts_again()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes is no error."""

    def starts_again(self) -> None:
        """With the weights of its command line: it does not know of those that it was given since."""
        self.pages = {**PAGES, "/weight_info": {"weight_version": "default"}}
        self.pages["/v1/models"] = {"data": [{"id": self.name, "root": "tiny", "max_model_len": 256}]}

    def obeys(self, route: str, body: dict[str, Any]) -> int:
        """The status. As vLLM does: it says from then on what it has, and takes no adapter twice."""
        self.opened.wait()
        self.orders.append(route)
        cards, name = self.pages["/v1/models"]["data"], body.get("lora_name")
        there = name in [card["id"] for card in cards]
        if route == self.refuses or (there and route == "/v1/load_lora_adapter"):
            return 400
        if route == "/update_weight_version":
            self.pages["/weight_info"] = {"weight_version": body["new_version"]}
        elif route == "/v1/load_lora_adapter":
            cards.append({"id": name})
        elif route == "/v1/unload_lora_adapter":
            cards[:] = [card for card in cards if card["id"] != name]
            return 200 if there else 404
        return 200


class Handler(BaseHTTPRequestHandler):
    server: Ailing
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        self.say(404 if page is None else 200, page)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if self.path != "/v1/completions":
            self.say(self.server.obeys(self.path, body), {})
            return
        fails = self.server.fails(len(self.server.asked), body["prompt"])
        self.server.asked.append(body["prompt"])
        self.server.names.append(body.get("model"))
        told = {"token_logprobs": [-0.5, -0.5]}
        choices: list[dict[str, Any]] = [{"token_ids": self.server.ids, "logprobs": told, "finish_reason": "length"}]
        if isinstance(body["prompt"][0], list) and self.server.reads is not None:
            read = {"token_logprobs": [self.server.reads]}
            choices = [{"index": number, "logprobs": read} for number in reversed(range(len(body["prompt"])))]
        answer = {"choices": choices}
        self.say(500, {"error": {"message": "EngineCore is dead"}}) if fails else self.say(200, answer)

    def say(self, status: int, body: object) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture
def ailing() -> Iterator[Ailing]:
    made = Ailing()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("found") / "tiny"
    return make_tiny(["A door. A key."], folder, vocab=300, hidden=64, layers=1, heads=2)


@pytest.fixture
def policy(ailing: Ailing, model: Path) -> Iterator[VLLMPolicy]:
    made = VLLMPolicy(ailing.url, tokenizer=model, version="1")
    ailing.asked.clear()  # what it was asked to see what it is
    yield made
    made.close()


def asked(*prompt: int) -> list[Request]:
    return [Request((), 0, prompt)]


def test_a_server_that_fails_though_its_health_is_said_to_be_good_is_waited_for(
    ailing: Ailing, policy: VLLMPolicy
) -> None:
    ailing.fails = lambda number, prompt: number < 4
    [lost] = policy.act(asked(11, 12))
    assert "EngineCore is dead" in str(lost.error)
    assert policy.faults == 1
    [answer] = policy.act(asked(13, 14))
    assert (answer.error, tuple(answer.ids)) == (None, (7, 8))
    # Two tries of the first one, one token to see whether it is the server; two more until it is back; the second one.
    assert ailing.asked == [[11, 12], [11, 12], [0], [0], [0], [13, 14]]
    assert policy.faults == 1


def test_a_request_that_a_server_cannot_bear_fails_alone(ailing: Ailing, policy: VLLMPolicy) -> None:
    ailing.fails = lambda number, prompt: prompt == [11, 12]
    [lost] = policy.act(asked(11, 12))
    assert "status 500: EngineCore is dead; twice, though the server answers others" in str(lost.error)
    [answer] = policy.act(asked(13, 14))
    assert answer.error is None
    assert ailing.asked == [[11, 12], [11, 12], [0], [13, 14]]
    assert policy.faults == 0


def test_an_answer_that_cannot_be_read_is_that_requests_fault(ailing: Ailing, policy: VLLMPolicy) -> None:
    ailing.ids = [-1, 8]
    [lost] = policy.act(asked(11, 12))
    assert "gave an answer that cannot be read: OverflowError" in str(lost.error)
    ailing.ids = [7, 8]
    [answer] = policy.act(asked(11, 12))
    assert answer.error is None


# -- servers that come back, and servers that do not -------------------------------------------------------------------

TAKEN = ["/collective_rpc", "/reset_prefix_cache", "/update_weight_version"]


@pytest.fixture
def others() -> Iterator[tuple[Ailing, Ailing]]:
    made = Ailing("one"), Ailing("two")
    yield made
    for server in made:
        server.shutdown()
        server.server_close()


@pytest.fixture
def pair(others: tuple[Ailing, Ailing], model: Path) -> Iterator[VLLMPolicy]:
    """Of two servers with a name of their own for the model, neither of which is waited for for long."""
    made = VLLMPolicy(*(server.url for server in others), tokenizer=model, version="1", concurrency=4, patience=0.1)
    yield made
    made.close()


def test_a_server_that_was_started_again_gets_its_weights_back_before_it_is_asked(
    ailing: Ailing, policy: VLLMPolicy, model: Path
) -> None:
    """Else its answers would be recorded as those of weights that it does not have."""
    policy.update(model, version="2")
    assert ailing.orders == TAKEN
    ailing.fails = lambda number, prompt: number < 3  # two tries, and the one token
    ailing.starts_again()
    [lost] = policy.act(asked(11, 12))
    assert lost.error is not None
    [answer] = policy.act(asked(13, 14))
    assert (answer.error, answer.version, policy.version) == (None, "2", "2")
    assert ailing.orders == [*TAKEN, *TAKEN]
    assert ailing.pages["/weight_info"] == {"weight_version": "2"}


def test_an_adapter_is_given_again_to_a_server_that_lost_it_and_to_no_other(
    ailing: Ailing, policy: VLLMPolicy, tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    policy.update(tmp_path, version="1+a")
    assert ailing.orders == ["/v1/load_lora_adapter"]
    for starts in range(2):
        ailing.asked.clear()
        ailing.fails = lambda number, prompt: number < 3
        if starts:
            ailing.starts_again()
        assert policy.act(asked(11, 12))[0].error is not None
        assert policy.act(asked(13, 14))[0].error is None
        assert ailing.orders == ["/v1/load_lora_adapter"] * (starts + 1)
    assert ailing.names[-1] == "adapter-1+a"


def test_an_adapter_that_one_server_did_not_take_can_be_tried_again(
    others: tuple[Ailing, Ailing], pair: VLLMPolicy, tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    others[1].refuses = "/v1/load_lora_adapter"
    with pytest.raises(BadInput, match="takes no adapters"):
        pair.update(tmp_path, version="1+a")
    assert pair.version == "1"
    [lost] = pair.act(asked(1, 2))
    assert "the servers have different ones" in str(lost.error)
    others[1].refuses = ""
    for _ in range(2):  # and once more, when all have it
        pair.update(tmp_path, version="1+a")
        [answer] = pair.act(asked(1, 2))
        assert (answer.error, answer.version) == (None, "1+a")
    assert others[1].orders == ["/v1/load_lora_adapter"] * 2


def test_weights_that_one_server_did_not_take_are_not_thought_to_be_those_before(
    others: tuple[Ailing, Ailing], pair: VLLMPolicy, model: Path, tmp_path: Path
) -> None:
    """An adapter on weights 1; weights 2 reach one server only; so none are taken to be there below it."""
    (tmp_path / "adapter_config.json").write_text("{}")
    pair.update(model, version="1")
    pair.update(tmp_path, version="1+a")
    others[1].refuses = "/collective_rpc"
    with pytest.raises(BadInput, match="takes no new weights"):
        pair.update(model, version="2")
    others[1].refuses = ""
    pair.update(model, version="1")
    assert [server.pages["/weight_info"]["weight_version"] for server in others] == ["1", "1"]
    assert pair.act(asked(1, 2))[0].version == "1"


class Adapts(VLLMPolicy):
    """Takes an adapter when some episodes are stored, while others are under way."""

    store: EpisodeStore
    adapter: Path
    stored = 0

    def submit(self, request: Request, done: Callable[[Completion], None]) -> None:
        if len(self.store) >= 4 and self.version == "1":
            self.stored = len(self.store)
            self.update(self.adapter, version="1+a")
        super().submit(request, done)


def test_an_adapter_that_comes_in_mid_collection_is_recorded_at_every_turn_that_it_wrote(
    ailing: Ailing, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    ailing.pages["/v1/models"] = {"data": [{"id": "tiny", "root": "tiny", "max_model_len": 8192}]}
    policy = Adapts(ailing.url, tokenizer=model, version="1")
    ailing.asked.clear()
    ailing.names.clear()
    wrote = Counter[tuple[tuple[int, ...], str | None]]()
    with EpisodeStore(tmp_path / "e.sqlite") as store:
        policy.store, policy.adapter = store, tmp_path
        plan = find("bandit").split("train")[:12]
        report = collect(plan, policy, store, concurrency=3, env_settings={"max_steps": 3}, progress="quiet")
        assert (report.episodes, report.faults) == (12, 0)
        begun = [episode.provenance.policy_version for episode in store.episodes()]
        for episode in store.episodes():
            later = episode.labels.get("written_by", {})
            seen: tuple[int, ...] = ()
            for number, turn in enumerate(episode.turns):
                assert turn.tokens is not None
                seen += turn.tokens.context
                adapted = later.get(str(number), episode.provenance.policy_version) == "1+a"
                wrote[seen, "adapter-1+a" if adapted else "tiny"] += 1
                seen += turn.tokens.completion
    policy.close()
    assert wrote == Counter(zip(map(tuple, ailing.asked), ailing.names, strict=True))
    assert begun.count("1") >= policy.stored >= 4
    assert begun.count("1") <= policy.stored + 3, "none that began from then on"


def test_a_server_that_comes_back_with_weights_that_nobody_here_gave_it_is_not_asked(
    ailing: Ailing, model: Path
) -> None:
    policy = VLLMPolicy(ailing.url, tokenizer=model, version="1", patience=0.1)
    ailing.asked.clear()
    ailing.fails = lambda number, prompt: number < 3
    ailing.pages["/weight_info"] = {"weight_version": "somebody's"}
    assert policy.act(asked(11, 12))[0].error is not None
    [lost] = policy.act(asked(13, 14))
    assert "came back with weights \"somebody's\" in place of ''" in str(lost.error)
    policy.close()


def test_each_server_is_asked_by_its_own_name_for_the_model(others: tuple[Ailing, Ailing], pair: VLLMPolicy) -> None:
    for server in others:
        server.names.clear()
    answers = pair.act([Request((), 0, [20 + number, *range(40)]) for number in range(24)])
    assert {answer.error for answer in answers} == {None}
    for server in others:
        assert set(server.names) == {server.name}


@pytest.mark.parametrize(
    ("one", "two", "version", "same"),
    [
        (-3.0, -3.05, "default", True),  # the same weights, in another arithmetic
        (-3.0, -3.6, "default", False),
        (-3.6, -3.0, "default", False),
        (-3.0, None, "default", True),  # one does not say
        (-3.0, -3.6, "1", True),  # both were told what they have
    ],
)
def test_servers_whose_models_have_one_name_are_told_apart_by_what_they_say_of_some_prompts(
    others: tuple[Ailing, Ailing], model: Path, one: float, two: float | None, version: str, same: bool
) -> None:
    for server, reads in zip(others, (one, two), strict=True):
        server.reads = reads
        server.pages["/weight_info"] = {"weight_version": version}
    urls = [server.url for server in others]
    if same:
        VLLMPolicy(*urls, tokenizer=model).close()
        return
    with pytest.raises(BadInput) as error:
        VLLMPolicy(*urls, tokenizer=model)
    for part in (*urls, "their log-probs after the same prompts are 0.6 nats apart; replicas serve the same weights"):
        assert part in str(error.value)


def test_new_weights_reach_a_server_that_was_away_before_it_is_asked_again(
    others: tuple[Ailing, Ailing], pair: VLLMPolicy, model: Path
) -> None:
    one, two = others
    one.fails = lambda number, prompt: True
    while len([answer for answer in pair.act(asked(1, 2) * 8) if answer.error]):
        pass  # what was asked of it is lost, until it is known to be away
    pair.update(model, version="2")
    assert (one.orders, two.orders, pair.version) == ([], TAKEN, "2")
    one.fails = lambda number, prompt: False
    one.asked.clear()
    while [11, 12] not in one.asked:
        answers = pair.act([Request((), 0, (11, 12))] * 24)
        assert {(answer.error, answer.version) for answer in answers} == {(None, "2")}
    assert one.orders == TAKEN


def test_where_no_server_is_left_requests_fail_and_weights_are_not_said_to_be_there(
    model: Path, others: tuple[Ailing, Ailing], pair: VLLMPolicy
) -> None:
    for server in others:
        server.fails = lambda number, prompt: True
    lost = pair.act([Request((), 0, (11, 12))] * 24)
    assert all(answer.error for answer in lost), "nobody waits for ever"
    with pytest.raises(EngineFault, match="has not answered for"):
        pair.update(model, version="2")
    assert pair.version == "1"


@pytest.mark.parametrize(
    ("device", "tied", "taken"), [("cpu", True, False), ("cpu", False, True), ("cuda", True, True)]
)
def test_a_cpu_server_without_our_extension_takes_no_weights_whose_output_head_is_tied(
    ailing: Ailing, policy: VLLMPolicy, model: Path, tmp_path: Path, device: str, tied: bool, taken: bool
) -> None:
    """It would go on with the old head, and say that it has the new weights."""
    settings = {"device_config": {"device": device}, "parallel_config": {"worker_extension_cls": ""}}
    ailing.pages["/server_info"] = {"vllm_config": settings}
    fitted = shutil.copytree(model, tmp_path / "fitted")
    config = json.loads((fitted / "config.json").read_text()) | {"tie_word_embeddings": tied}
    (fitted / "config.json").write_text(json.dumps(config))
    if taken:
        policy.update(fitted, version="2")
    else:
        with pytest.raises(BadInput, match=r"ties its embeddings; start it again with the new weights"):
            policy.update(fitted, version="2")
    assert ailing.orders == (TAKEN if taken else [])
    assert policy.version == ("2" if taken else "1")
    assert policy.act(asked(11, 12))[0].error is None


def test_who_waits_for_new_weights_is_told_when_the_policy_is_closed(
    ailing: Ailing, policy: VLLMPolicy, model: Path
) -> None:
    ailing.opened.clear()
    told: list[BaseException] = []

    def update() -> None:
        try:
            policy.update(model, version="2")
        except EngineFault as error:
            told.append(error)

    waiting = threading.Thread(target=update)
    waiting.start()
    while policy._replicas._changing is None:
        waiting.join(0.01)
    policy.close()
    waiting.join()
    ailing.opened.set()
    assert "the policy was closed meanwhile" in str(told)
    with pytest.raises(EngineFault, match="the policy is closed"):
        policy.update(model, version="2")
    [answer] = policy.act(asked(1, 2))
    assert "closed" in str(answer.error)


# -- typed on the command line -----------------------------------------------------------------------------------------


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The one line by which a collection with some policy is refused; nothing of it is begun by then."""
    monkeypatch.setenv("COLUMNS", "500")

    def typed(policy: str, *more: str) -> str:
        capsys.readouterr()
        assert run(["collect", "bandit", "-p", policy, "-t", "1", "-q", "-o", str(tmp_path / "out"), *more]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return line

    return typed


def test_the_command_says_what_is_wrong_with_a_server(ailing: Ailing, refused: Callable[..., str]) -> None:
    policy = f"vllm:@{ailing.url}"
    assert "http://127.0.0.1:9 cannot be reached" in refused("vllm:@http://127.0.0.1:9")
    ailing.pages["/version"] = {"version": "0.9.1"}
    assert "is version 0.9.1, which cannot be used" in refused(policy)
    del ailing.pages["/version"]
    assert "an OpenAI-compatible server, but not vLLM" in refused(policy)
    del ailing.pages["/v1/models"]
    assert "lists no models (status 404); is it the base URL of a vLLM server" in refused(policy)


def test_the_command_says_that_a_model_has_no_chat_template(
    ailing: Ailing, model: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    bare = Path(shutil.copytree(model, tmp_path / "bare"))
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((bare / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(settings))
    ailing.pages["/v1/models"] = {"data": [{"id": "tiny", "root": str(bare), "max_model_len": 256}]}
    for policy in (f"vllm:@{ailing.url}", f"vllm:{bare}", str(bare)):
        assert "no chat template" in refused(policy)


def test_the_command_says_that_a_prompt_is_too_long_for_the_engine(
    ailing: Ailing, model: Path, refused: Callable[..., str]
) -> None:
    ailing.pages["/v1/models"] = {"data": [{"id": "tiny", "root": str(model), "max_model_len": 70}]}
    line = refused(f"vllm:@{ailing.url}")
    assert "its first prompt has" in line
    assert "the context holds 70; use a longer context or fewer max_tokens" in line


def test_answers_that_leave_no_room_for_a_prompt_are_refused_before_an_engine_starts(
    ailing: Ailing, model: Path, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And before anything is written."""
    monkeypatch.setattr(Engine, "_start", lambda self: pytest.fail("it starts"))
    holds = context_of(model)
    assert holds is not None
    ailing.pages["/v1/models"] = {"data": [{"id": "tiny", "root": str(model), "max_model_len": holds}]}
    for policy in (f"vllm:{model}", f"vllm:@{ailing.url}", str(model)):
        told = f"max_tokens is {holds}, and the context of tiny holds {holds} ids"
        assert told in refused(policy, "--max-tokens", str(holds))
        assert not (tmp_path / "out").exists()


def test_a_context_that_a_configuration_stretches_is_not_known_before_the_engine_says_it(tmp_path: Path) -> None:
    def of(config: object) -> int | None:
        (tmp_path / "config.json").write_text(json.dumps(config))
        return context_of(tmp_path)

    assert context_of(tmp_path) is None
    assert of({"max_position_embeddings": 512}) == 512
    assert of({"max_position_embeddings": 512, "rope_scaling": None}) == 512
    assert of({"max_position_embeddings": 512, "rope_parameters": {"rope_type": "default"}}) == 512
    assert of({"text_config": {"max_position_embeddings": 512}}) == 512
    for stretched in ({"rope_scaling": {"type": "yarn"}}, {"rope_parameters": {"rope_type": "llama3"}}):
        assert of({"max_position_embeddings": 512, **stretched}) is None
    for odd in ({}, [], {"max_position_embeddings": "512"}, {"max_position_embeddings": 512, "rope_scaling": "yarn"}):
        assert of(odd) is None


# -- what a run or a command asks of it --------------------------------------------------------------------------------


def test_a_server_is_asked_as_much_at_once_as_there_are_episodes_at_once(
    ailing: Ailing, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ailing.pages["/v1/models"] = {"data": [{"id": "tiny", "root": str(model), "max_model_len": 4096}]}
    there, all_there = set[int](), threading.Event()

    def fails(number: int, prompt: list[int]) -> bool:
        if prompt != [0]:  # which it is asked to see what it is
            there.add(threading.get_ident())
            if len(there) == 80:
                all_there.set()
            all_there.wait(20)
            there.discard(threading.get_ident())
        return False

    ailing.fails = fails
    words = ["collect", "bandit", "-p", f"vllm:@{ailing.url}", "-t", "80", "-q", "-s", "max_steps=1"]
    assert run([*words, "--concurrency", "80", "-o", str(tmp_path / "s")]) == 0
    assert "80 episodes" in capsys.readouterr().out
    assert all_there.is_set(), "at one time"


def test_servers_of_a_run_restrict_answers_or_not_as_each_policy_of_theirs_says(ailing: Ailing, model: Path) -> None:
    ailing.pages["/weight_info"] = {"weight_version": version_of(model)}
    serving = Serving(ailing.url)
    try:
        strict, free = (serving.policy(model, Sampling(), constrain=constrain) for constrain in (True, False))
        assert (strict.constrain, strict.wants_actions, strict.extra["constrain"]) == (True, True, True)
        assert (free.constrain, free.wants_actions, "constrain" in free.extra) == (False, False, False)
        assert strict.extra["url"] == free.extra["url"] == ailing.url
        assert "no admissible actions are listed here" in str(strict.act(asked(5, 6))[0].error)
        assert free.act(asked(5, 6))[0].error is None
        assert strict.sampled(Sampling(max_tokens=3)).constrain, "as before, where nobody says"
    finally:
        serving.close()
