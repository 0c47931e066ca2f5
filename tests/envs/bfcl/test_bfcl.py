"""BFCL: the benchmark's worlds, requests and verdicts, exact snapshots, ExIt's split."""

from __future__ import annotations

import decimal
import pickle

import mpmath
import pytest

from palaestra.envs import BadInput, Task, find, make
from palaestra.envs.bfcl import data, judge, proof, protocols, worlds
from palaestra.envs.tools.calls import Call

SPREAD = [*(name for names in data.NAMES.values() for name in names[::25]), "miss_func/49", "long_context/38"]
"""Every 25th entry, one that calls a withheld function, one with 34 calls in a turn.
All 800: python -m palaestra.envs.bfcl.proof"""


def play(env, name, *answers):
    """Reset and answer; the last observation, whether it is over, and info."""
    observation, info = env.reset(options={"task": name})
    over = False
    for answer in answers:
        observation, _, over, _, info = env.step(answer)
    return observation, over, info


def test_the_ground_truth_passes_and_changed_conversations_get_the_verdicts_of_the_package():
    failed, differing = proof.run(SPREAD, changes=2)
    assert failed == []
    assert differing == []


def test_there_are_four_times_200_tasks_and_all_are_for_testing_only():
    env = make("bfcl")
    assert env.splits() == ("test",)
    assert len(env.tasks("test")) == 800
    assert len(make("bfcl", category="miss_func").tasks("test")) == 200


def test_an_answer_in_words_ends_the_turn_and_the_next_request_comes():
    turn = (
        "cd(folder='document')",
        "mkdir('temp')",
        '{"name": "mv", "arguments": {"source": "final_report.pdf", "destination": "temp"}}',
    )
    observation, over, info = play(make("bfcl"), "base/0", *turn, "I have moved the report.")
    assert observation == data.entry("base/0").requests[1]
    assert not over
    assert info["verdicts"] == (None,)
    assert info["score"] == 0.25


def test_several_calls_in_one_answer_are_made_in_turn():
    text = "[cd(folder='document'), ls()]"
    observation, _, info = play(make("bfcl"), "base/0", text)
    assert observation.splitlines()[1] == '{"current_directory_content": ["final_report.pdf", "previous_report.pdf"]}'
    assert info["valid"]


def test_a_turn_without_the_calls_that_it_needs_fails_the_entry():
    _, over, info = play(make("bfcl"), "base/0", "done")
    assert over
    assert not info["success"]
    assert info["verdicts"] == ("multi_turn:empty_turn_model_response",)


def test_another_state_fails_the_turn():
    _, _, info = play(make("bfcl"), "base/0", "cd(folder='document')", "mkdir('temporary')", "done")
    assert info["verdicts"] == ("multi_turn:instance_state_mismatch",)


def test_a_turn_of_more_than_20_answers_fails_the_entry():
    env = make("bfcl")
    observation, over, _ = play(env, "base/0", *["ls()"] * 20)
    assert not over
    observation, _, over, _, info = env.step("ls()")
    assert over
    assert info["verdicts"] == ("multi_turn:force_terminated",)
    assert "20 steps" in observation


def test_a_withheld_function_is_told_of_when_the_benchmark_hands_it_out():
    env = make("bfcl")
    assert data.entry("miss_func/0").withheld == {3: ("sort",)}
    assert '"name": "sort"' not in env.instructions(env.tasks("test")[200])
    oracle = find("bfcl").oracle()
    env.reset(options={"task": "miss_func/0"})
    while env.state.turn < 2:
        env.step(oracle(env))
    told = env.step("list_everything()")[0]
    assert "ls, " in told
    assert "sort" not in told
    observation, _, over, _, _ = env.step("No function sorts.")
    assert '"name": "sort"' in observation
    assert not over
    assert "sorted_content" in env.step("sort('final_report.pdf')")[0]
    assert ", sort" in env.step("list_everything()")[0]


def test_a_call_in_a_turn_that_asks_for_none_is_noted_and_not_counted():
    env = make("bfcl")
    env.reset(options={"task": "miss_func/0"})
    while env.state.turn < 2:
        env.step(find("bfcl").oracle()(env))
    env.step("pwd()")
    *_, info = env.step("I cannot sort.")
    assert info["needless"] == (2,)
    assert info["verdicts"] == (None, None, None)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("cd(directory='document')", "got an unexpected keyword argument 'directory'"),
        ("cd()", "missing 1 required positional argument: 'folder'"),
        ("cd('a', 'b')", "takes 2 positional arguments but 3 were given"),
        ("remove_everything()", "there is no function 'remove_everything'"),
        ("_load_scenario({})", "there is no function '_load_scenario'"),
    ],
)
def test_wrong_calls_are_told_and_cost_a_step(call, told):
    observation, over, info = play(make("bfcl"), "base/0", call)
    assert told in observation
    assert not info["valid"]
    assert not over


@pytest.mark.parametrize(
    "call", ["cd(folder=open('/etc/passwd'))", "cd(folder=__import__('os').getcwd())", "cd(folder"]
)
def test_what_is_no_literal_is_told_and_never_evaluated(call):
    observation, over, info = play(make("bfcl"), "base/0", call)
    assert not info["valid"]
    assert not over
    assert "literal" in observation


def test_a_snapshot_goes_on_in_another_instance_as_the_original_did():
    env, other = make("bfcl"), make("bfcl")
    oracle = find("bfcl").oracle()
    env.reset(options={"task": "long_context/150"})
    env.step(oracle(env))
    snapshot = pickle.loads(pickle.dumps(env.snapshot()))
    rest = []
    over = False
    while not over:
        action = oracle(env)
        rest.append((action, env.step(action)))
        over = rest[-1][1][2]
    other.restore(snapshot)
    assert [(action, other.step(action)) for action, _ in rest] == rest
    assert rest[-1][1][4]["success"]


def test_episodes_share_no_records_though_the_package_keeps_them_in_its_module():
    entry = data.entry("long_context/150")
    first = worlds.build(entry)
    cards = first["TravelAPI"].credit_card_list
    added = next(card for card in cards if card not in entry.config["TravelAPI"].get("credit_card_list", {}))
    cards[added]["balance"] = -1
    assert worlds.build(entry)["TravelAPI"].credit_card_list[added]["balance"] != -1


def maths():
    name = next(name for name in data.NAMES["base"] if "MathAPI" in data.entry(name).classes)
    return worlds.build(data.entry(name))


@pytest.mark.parametrize(
    "call",
    [
        Call("power", {"base": 10**9, "exponent": 10**9}),
        Call("logarithm", {"value": 2, "base": 3, "precision": 10**9}),
        Call("logarithm", {"value": 2, "base": 3, "precision": "1000000000"}),
        Call("square_root", {"number": 2, "precision": 10**9}),
        Call("round_number", {"number": 1, "decimal_places": -(10**12)}),
    ],
)
def test_numbers_that_would_take_minutes_are_refused(call):
    said, _ = worlds.make(maths(), call)
    assert said.startswith("Error during execution:")


def test_the_precision_of_this_process_stays_as_it_was():
    before = mpmath.mp.dps, decimal.getcontext().prec
    api = maths()
    said, valid = worlds.make(api, Call("logarithm", {"value": 10, "base": 2, "precision": 40}))
    worlds.make(api, Call("square_root", {"number": 2, "precision": 50}))
    assert valid
    assert len(said) > 40
    assert (mpmath.mp.dps, decimal.getcontext().prec) == before


def test_folders_inside_themselves_end_in_an_error_that_is_told():
    env = make("bfcl")
    observation, _, _ = play(env, "base/0", "[cd('document'), mkdir('a'), cp('a', 'a'), find()]")
    assert observation.splitlines()[-1].startswith("Error during execution:")
    assert env.restore(env.snapshot())[0] == observation


def test_folders_that_no_snapshot_could_hold_are_not_made():
    env = make("bfcl")
    env.reset(options={"task": "base/0"})
    deeper = "[" + ", ".join(["mkdir('a'), cd('a')"] * 20) + "]"
    said = [env.step(deeper)[0] for _ in range(20)]
    assert said[-1].startswith("That is more than this world can hold")
    assert env.restore(env.snapshot())[0] == said[-1]


def test_exit_trains_on_100_base_tasks_and_tests_on_the_others():
    env = make("bfcl", protocol="exit")
    train, test = ([task.name for task in env.tasks(split)] for split in ("train", "test"))
    assert (len(train), len(test)) == (100, 100)
    assert set(train) | set(test) == set(data.NAMES["base"])
    strata = {frozenset(data.entry(name).classes) for name in train}
    assert strata == {frozenset(data.entry(name).classes) for name in test}


def test_exit_trains_on_the_first_request_only_and_tests_on_all():
    env = make("bfcl", protocol="exit")
    oracle = find("bfcl").oracle()
    for split, cap, turns in (("train", 10, 1), ("test", 60, None)):
        task = env.tasks(split)[3]
        env.reset(options={"task": task})
        assert env.max_steps == cap
        over = False
        while not over:
            _, _, over, _, info = env.step(oracle(env))
        assert info["success"]
        assert info["turn"] == (turns or len(data.entry(task.name).requests))


def test_exits_rule_wants_the_calls_in_their_order_and_allows_others_between():
    world = worlds.build(data.entry("base/0"))
    first, second = Call("cd", {"folder": "document"}), Call("ls", {})
    assert judge.contains(
        world, [Call("cd", {}, ("document",)), Call("pwd"), Call("ls", {"a": False})], [first, second]
    )
    assert not judge.contains(world, [second, first], [first, second])
    wrong = protocols.why_failed(data.entry("base/0"), 0, world, worlds.build(data.entry("base/0")), [])
    assert wrong == "exit:calls"


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"category": "bases"}, "no category 'bases'"),
        ({"protocol": "eto"}, "no protocol 'eto'"),
        ({"protocol": "exit", "category": "miss_func"}, "is of the category base"),
        ({"docs": "long"}, "'json' or 'brief'"),
    ],
)
def test_settings_that_there_are_not_are_one_clear_line(settings, line):
    with pytest.raises(BadInput, match=line):
        make("bfcl", **settings)


@pytest.mark.parametrize("name", ["base/200", "base/-1", "base/01", "simple/1", "base"])
def test_a_task_that_is_none_is_one_clear_line(name):
    with pytest.raises(BadInput, match="is no BFCL task"):
        make("bfcl").reset(options={"task": Task(env="palaestra/BFCL-v0", name=name, split="test")})


def test_without_the_package_the_exact_command_is_told(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert data.INSTALL in str(find("bfcl").why_not_ready())
    with pytest.raises(BadInput, match="pip install --no-deps bfcl-eval=="):
        make("bfcl").reset(options={"task": "base/0"})


def test_brief_documentation_has_a_line_a_function():
    env = make("bfcl", docs="brief")
    text = env.instructions(env.tasks("test")[0])
    assert "cd(folder: string) - Change the current working directory to the specified folder" in text
    assert len(text) < len(make("bfcl").instructions(env.tasks("test")[0])) / 4
