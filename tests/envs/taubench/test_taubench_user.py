"""The user of tau-bench: any policy plays it, a script where there is none, and its faults are never rewards."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from palaestra.agents.collect import TooManyFaults, collect
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Outcome
from palaestra.agents.policies.oracle import OraclePolicy
from palaestra.agents.policies.scripted import ScriptedPolicy
from palaestra.agents.policy import Completion, PolicyBase, Sampling
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, EnvFault, make
from palaestra.envs.taubench.user import LONGEST, STOP, Line, PlayedUser, ScriptedUser, User, in_first_person
from palaestra.trainers.evaluate import compare, evaluate


class Talker(PolicyBase):
    """A policy that gives these completions one after another and keeps what it was asked."""

    def __init__(self, *answers):
        super().__init__(name="talker")
        self.answers, self.asked = list(answers), []

    def act(self, requests):
        self.asked += requests
        return [self.answers.pop(0) for _ in requests]


def say(*texts):
    """A talker that says these texts."""
    return Talker(*map(Completion, texts))


def test_any_policy_plays_the_user():
    user = say("Hello, I want to cancel.", "It is Z7GOZK.", f"Thanks. {STOP}")
    env = make("tauairline", user=user)
    assert env.reset(options={"task": "1"})[0] == "Hello, I want to cancel."
    assert env.step("Which one?")[0] == "It is Z7GOZK."
    observation, _, over, _, info = env.step("Good.")
    assert (observation, over, info["user"]) == (f"Thanks. {STOP}", True, "talker 0")


def test_the_policy_is_told_the_instruction_and_sees_the_agent_as_its_user_without_tools():
    user = say("Hello.", "Yes.")
    env = make("tauairline", user=user)
    env.reset(options={"task": "1"})
    env.step("list_all_airports()")
    env.step("Who are you?")
    messages = user.asked[1].messages
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert "olivia_gonzalez_2305" in messages[0]["content"]
    assert STOP in messages[0]["content"]
    assert [message["content"] for message in messages[2:]] == ["Hello.", "Who are you?"]
    assert len({request.seed for request in user.asked}) == 2


def test_a_policy_of_actions_from_a_function_can_play_too():
    env = make("tauairline", user=ScriptedPolicy(lambda request: f"I heard {len(request.messages)} messages."))
    assert env.reset(options={"task": "1"})[0] == "I heard 2 messages."


def test_a_rewound_conversation_goes_on_from_its_own_lines():
    user = ScriptedPolicy(
        lambda request: " | ".join(message["content"] for message in request.messages[2:]) or "Hello."
    )
    env = make("tauairline", user=user)
    env.reset(options={"task": "1"})
    snapshot = env.snapshot()
    first = env.step("One?")[0]
    env.step("Two?")
    env.restore(snapshot)
    assert env.step("One?")[0] == first == "Hello. | One?"


class Broken(PolicyBase):
    """A policy that raises."""

    def act(self, requests):
        raise RuntimeError("out of memory")


@pytest.mark.parametrize(
    ("user", "said"),
    [
        (
            Talker(Completion("", error="the server is gone")),
            "talker, which plays the user, did not answer: the server",
        ),
        (say(""), "the user, played by talker 0, said nothing"),
        (say("  \n"), "the user, played by talker 0, said nothing"),
        (say("x" * (LONGEST + 1)), "said 8001 characters at once"),
        (Broken(), "the user, played by policy 0, raised RuntimeError: out of memory"),
    ],
)
def test_a_fault_of_who_plays_the_user_is_a_fault_of_the_environment(user, said):
    with pytest.raises(EnvFault, match=said):
        make("tauairline", user=user).reset(options={"task": "1"})


def test_a_fault_in_the_middle_loses_the_episode_and_gives_no_reward():
    env = make("tauairline", user=say("Hello.", ""))
    env.reset(options={"task": "13"})
    with pytest.raises(EnvFault):
        env.step("What can I do?")
    with pytest.raises(Exception, match="call reset"):
        env.step("What can I do?")


def test_collected_episodes_with_a_broken_user_are_faults(tmp_path):
    task = make("tauairline", user="scripted").tasks("test")[13]
    with EpisodeStore(tmp_path / "store.sqlite") as store:
        with pytest.raises(TooManyFaults):
            collect(
                [task],
                OraclePolicy("tauairline"),
                store,
                conversation=Conversation(style="text"),
                env_factory=lambda _: make("tauairline", user=Broken()),
                progress="quiet",
            )
        assert {episode.outcome for episode in store.faults()} == {Outcome.ENV_ERROR}
        assert list(store.episodes()) == []


def test_the_script_says_the_instruction_as_its_own_agrees_and_leaves():
    user = ScriptedUser()
    lines = []

    def hear(text):
        lines.append(Line(False, text))
        lines.append(Line(True, user.say("You are Mia. Your card ends in 7447.", lines, 0)))
        return lines[-1].text

    lines.append(Line(True, user.say("You are Mia. Your card ends in 7447.", lines, 0)))
    assert lines[0].text == "Hello. I am Mia. My card ends in 7447."
    assert hear("Shall I?").startswith("Yes")
    assert STOP not in hear("I look.")
    assert STOP not in hear("Which one?")
    assert STOP not in hear("It is done.")
    assert STOP in hear("It is.")
    for _ in range(12):
        last = hear("Again?")
    assert STOP in last


def test_an_instruction_in_the_first_person():
    told = "You are Yusuf. You received your order and you'd like yourself served. Youth is yours."
    assert in_first_person(told) == "I am Yusuf. I received my order and I'd like myself served. Youth is mine."


def test_the_variable_names_who_plays_by_default_and_the_script_plays_without_it(monkeypatch):
    monkeypatch.delenv("PALAESTRA_USER", raising=False)
    assert make("tauairline").user.name == "scripted"
    monkeypatch.setenv("PALAESTRA_USER", "openai:any@http://127.0.0.1:9/v1")
    with pytest.raises(BadInput, match="cannot be reached"):
        make("tauairline").reset(options={"task": "1"})


@pytest.mark.parametrize("name", ["random", "oracle:truth", "human", "flawed:0.3", "tiny", "tiny:tauretail"])
@pytest.mark.parametrize("how", ["by setting", "by variable"])
def test_policies_that_do_not_speak_are_refused_by_name(name, how, monkeypatch):
    monkeypatch.setenv("PALAESTRA_USER", name if how == "by variable" else "")
    with pytest.raises(BadInput, match="cannot play a user"):
        make("tauretail", **({"user": name} if how == "by setting" else {})).reset(options={"task": "test/0"})


def test_a_language_model_in_this_process_plays_the_user(tmp_path):
    """SmolLM2-135M, greedily. What it says is small talk; that it is asked, remembered, rewound and stored counts."""
    from palaestra.agents.policies.hf import HFPolicy

    user = HFPolicy("smollm2-135m", sampling=Sampling(temperature=0.0, max_tokens=12))
    env = make("tauairline", user=user, max_steps=4)
    task = env.tasks("test")[0]
    first, info = env.reset(options={"task": task})
    assert info["user"] == f"smollm2-135m {user.version}"
    assert env.fingerprint().endswith(f"user smollm2-135m {user.version}")
    snapshot = env.snapshot()
    second = env.step("Which reservation is it?")[0]
    assert first.strip()
    assert second.strip()
    assert second != first
    env.restore(snapshot)
    assert env.step("Which reservation is it?")[0] == second
    with EpisodeStore(tmp_path / "store.sqlite") as store:
        agent = ScriptedPolicy(("list_all_airports()", "Which reservation is it?"), name="asks")
        report = collect(
            [task, env.tasks("test")[1]],
            agent,
            store,
            conversation=Conversation(style="text"),
            env_factory=lambda _: make("tauairline", user=user, max_steps=2),
            progress="quiet",
        )
        assert (report.episodes, report.faults) == (2, 0)
        told = {episode.start.task.name: episode.turns[0].observation for episode in store.episodes()}
        assert told[task.name] == first
        assert len(set(told.values())) == 2


def test_the_original_protocol_takes_a_user_played_by_a_policy():
    env = make("tauretail", protocol="original", user=say("Hello."))
    assert env.reset(options={"task": "test/0"})[0] == "Hello."
    assert isinstance(env.user, PlayedUser)


def test_a_user_of_ones_own_is_anything_that_says():
    class Parrot:
        name = "parrot"

        def say(self, instruction, lines, seed):
            return lines[-1].text if lines else "Hello."

    assert isinstance(Parrot(), User)
    env = make("tauairline", user=Parrot())
    env.reset(options={"task": "1"})
    assert env.step("Nice day?")[0] == "Nice day?"


class Chat(BaseHTTPRequestHandler):
    """A server of the OpenAI chat format that says how many messages it was sent."""

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        self._answer({"data": [{"id": "chatter"}]})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        text = f"Message {len(asked['messages'])}."
        self._answer({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})

    def _answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def chat():
    """The server, while it runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_model_behind_a_server_plays_the_user_by_its_name_and_greedily(chat):
    name = f"openai:chatter@http://127.0.0.1:{chat.server_address[1]}/v1"
    first, second = (make("tauretail", user=name, protocol="original") for _ in range(2))
    assert first.reset(options={"task": "test/0"})[0] == "Message 2."
    assert first.step("Who are you?")[0] == "Message 4."
    assert second.reset(options={"task": "test/0"})[0] == "Message 2."
    assert {asked["temperature"] for asked in chat.asked} == {0.0}
    assert first.user.name == "chatter chatter"
    assert first.fingerprint().endswith("user chatter chatter")


def test_who_played_stands_on_the_card_and_in_each_episode_and_other_users_are_not_compared(
    chat, monkeypatch, tmp_path
):
    monkeypatch.delenv("PALAESTRA_USER", raising=False)
    with EpisodeStore(tmp_path / "store.sqlite") as store:

        def measured():
            agent = ScriptedPolicy(("list_all_airports()", "transfer_to_human_agents(summary='x')"), name="asks")
            return evaluate("tauairline", agent, store, tasks=2, progress="quiet")

        script = measured()
        monkeypatch.setenv("PALAESTRA_USER", f"openai:chatter@http://127.0.0.1:{chat.server_address[1]}/v1")
        model = measured()
        made = [episode.provenance.env_fingerprint for episode in store.episodes()]
    assert script.card.env_settings == model.card.env_settings == {}
    assert script.card.env_fingerprint.endswith(", user scripted")
    assert model.card.env_fingerprint.endswith(", user chatter chatter")
    assert sorted(made) == sorted(2 * [script.card.env_fingerprint, model.card.env_fingerprint])
    with pytest.raises(BadInput, match="cards differ in env_fingerprint"):
        compare(script, model)
