"""tau-bench: tasks, tools, reward and snapshots of both domains."""

from __future__ import annotations

import copy
import json
import pickle
import shutil

import pytest

from palaestra.envs import BadInput, Task, find, make
from palaestra.envs.data import data_folder
from palaestra.envs.taubench import data, judge, toolbox
from palaestra.envs.taubench.world import World, canonical
from palaestra.envs.tools.calls import Call

DOMAINS = ("tauairline", "tauretail")
BROKE = "mia_li_3668"


def play(env, name, *answers):
    """Reset and answer; the last observation, whether it is over, and info."""
    observation, info = env.reset(options={"task": name})
    over = False
    for answer in answers:
        observation, _, over, _, info = env.step(answer)
    return observation, over, info


def call(name, **arguments):
    """A call as a chat API writes it."""
    return json.dumps({"name": name, "arguments": arguments})


def changed(env):
    """Copies of all that the episode has changed."""
    return copy.deepcopy(env.state.changes)


# -- tasks ---------------------------------------------------------------------------------------------------------


def test_airline_has_50_test_tasks_and_retail_its_three_splits():
    airline, retail = map(make, DOMAINS)
    assert [(split, len(airline.tasks(split))) for split in airline.splits()] == [("test", 50)]
    sizes = [(split, len(retail.tasks(split))) for split in retail.splits()]
    assert sizes == [("train", 500), ("dev", 20), ("test", 115)]


def test_halves_trains_on_25_airline_tasks_and_shares_no_user_with_the_others():
    env = make("tauairline", protocol="halves")
    train, test = ([task.name for task in env.tasks(split)] for split in ("train", "test"))
    assert (len(train), len(test)) == (25, 25)
    assert len({*train, *test}) == 50
    users = [{data.task(env.domain, name).user for name in names} for names in (train, test)]
    assert not users[0] & users[1]


@pytest.mark.parametrize("name", DOMAINS)
def test_the_ground_truth_passes_every_task(name):
    env, oracle = make(name, user="scripted"), find(name).oracle()
    for split in env.splits():
        for task in env.tasks(split):
            env.reset(options={"task": task})
            over = truncated = False
            while not (over or truncated):
                *_, over, truncated, info = env.step(oracle(env))
            assert info["success"], task.id


@pytest.mark.parametrize("name", DOMAINS)
def test_agents_are_told_the_policy_and_every_tool(name):
    env = make(name)
    told = env.instructions(env.tasks("test")[0])
    assert env.domain.policy in told
    assert all(f'"name": "{tool}"' in told for tool in toolbox.tools(env.domain))


def test_brief_documentation_has_a_line_a_tool():
    env = make("tauairline", docs="brief")
    told = env.instructions(env.tasks("test")[0])
    assert "\nsend_certificate(user_id: string, amount: number) - Send a certificate to a user\n" in told
    assert "flights: [{'flight_number': string, 'date': string}]" in told
    assert "insurance: 'yes' | 'no'" in told
    assert len(told) < len(make("tauairline").instructions(env.tasks("test")[0])) * 0.65


def test_agents_are_not_told_what_the_user_wants():
    env = make("tauretail")
    for task in env.tasks("test"):
        assert data.task(env.domain, task.name).instruction not in env.instructions(task)


# -- reward --------------------------------------------------------------------------------------------------------


def test_doing_nothing_fails_where_something_was_to_be_done_and_says_which_rows_differ():
    _, over, info = play(make("tauairline", user="scripted"), "1", "No.", "No.")
    assert over
    assert not info["success"]
    assert info["differing"] == ("reservations/Z7GOZK",)


def test_an_output_counts_whatever_its_commas_and_letter_case_and_only_if_the_user_was_told():
    env, oracle = make("tauretail", user="scripted"), find("tauretail").oracle()
    name = next(name for name in data.names("retail", "test") if data.task(env.domain, name).outputs == ("3646.68",))

    def told(*words):
        env.reset(options={"task": name})
        for _ in data.task(env.domain, name).actions:
            env.step(oracle(env))
        for text in words:
            *_, info = env.step(text)
        return info["success"], info["untold"]

    assert told("It is 3,646.68 dollars.", "Good bye.") == (True, ())
    assert told("Done.", "Good bye.") == (False, ("3646.68",))
    beside = 'It is 3646.68.\n<tool_call>\n{"name": "think", "arguments": {"thought": "3646.68"}}\n</tool_call>'
    assert told(beside, "Done.", "Good bye.") == (False, ("3646.68",))


def test_a_change_too_many_fails():
    env, oracle = make("tauairline", user="scripted"), find("tauairline").oracle()
    env.reset(options={"task": "1"})
    env.step(call("send_certificate", user_id=BROKE, amount=100))
    env.step(oracle(env))
    env.step("Done.")
    *_, over, _, info = env.step("Done.")
    assert over
    assert info["differing"] == (f"users/{BROKE}",)


def test_databases_are_compared_as_texts_with_keys_in_order_so_that_5_and_5_0_differ():
    assert canonical({"a": [1, {"b": 2, "c": 3}]}) == canonical({"a": [1, {"c": 3, "b": 2}]})
    assert canonical({"a": 5}) != canonical({"a": 5.0})
    assert canonical([1, 2]) != canonical([2, 1])


def test_a_transfer_ends_the_episode_and_is_judged():
    observation, over, info = play(make("tauairline", user="scripted"), "13", call(toolbox.TRANSFER, summary="No."))
    assert (observation, over, info["success"]) == ("Transfer successful", True, True)
    assert not play(make("tauairline", user="scripted"), "1", call(toolbox.TRANSFER, summary="No."))[2]["success"]


def test_after_30_answers_the_episode_is_truncated_without_a_reward():
    env = make("tauairline", user="scripted")
    env.reset(options={"task": "13"})  # whose databases are already right
    for _ in range(30):
        _, reward, over, truncated, info = env.step(call("think", thought="again"))
    assert (reward, over, truncated, info["score"]) == (0.0, False, True, 0.0)


# -- calls ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "told"),
    [
        ("get_user_details()", "argument 'user_id' is missing"),
        ("get_user_details(user_id=7)", "argument 'user_id' must be a text"),
        ("get_user_details(user_id='a', zip='b')", "argument 'zip' is none of its arguments; its arguments: user_id"),
        ("get_user_details('a', user_id='b')", "argument 'user_id' was given twice"),
        ("get_user_details('a', 'b')", "takes 1 arguments, not 2"),
        ("get_weather(city='Paris')", "There is no tool 'get_weather'; there are: book_reservation"),
        ("send_certificate(user_id='a', amount=True)", "argument 'amount' must be a number"),
        ("send_certificate(user_id='a', amount=1e309)", "argument 'amount' is out of range"),
        (call("send_certificate", user_id="a", amount=10**40), "argument 'amount' is out of range"),
        (
            "update_reservation_flights(reservation_id='a', cabin='first', flights=[], payment_id='b')",
            "argument 'cabin' must be one of 'basic_economy', 'economy', 'business'",
        ),
        (
            "update_reservation_passengers(reservation_id='a', passengers=[{'first_name': 'A', 'last_name': 'B'}])",
            "argument 'passengers.0.dob' is missing",
        ),
        (
            "update_reservation_passengers(reservation_id='a', passengers=['A'])",
            "argument 'passengers.0' must be an object",
        ),
        ("update_reservation_passengers(reservation_id='a', passengers={})", "'passengers' must be a list"),
        ("get_user_details(user_id=open('/etc/passwd'))", "is no literal value"),
        ("[get_user_details(user_id='a'), list_all_airports()]", "2 calls in one answer; make one at a time"),
        ("", "The answer was empty"),
    ],
)
def test_wrong_calls_are_told_cost_a_step_and_change_nothing(action, told):
    env = make("tauairline", user="scripted")
    observation, over, info = play(env, "1", action)
    assert told in observation
    assert not info["valid"]
    assert not over
    assert changed(env) == {}
    assert len(env.history) == 1


def test_a_call_may_be_written_in_python_or_json_or_in_tags_after_words():
    env = make("tauairline", user="scripted")
    python = f"get_user_details(user_id='{BROKE}')"
    tagged = f"I look.\n<tool_call>\n{call('get_user_details', user_id=BROKE)}\n</tool_call>"
    seen = {play(env, "1", action)[0] for action in (python, call("get_user_details", user_id=BROKE), tagged)}
    assert [json.loads(text)["dob"] for text in seen] == ["1990-04-05"]


def test_objects_in_calls_may_hold_more_than_the_schema_knows_as_agents_copy_whole_rows():
    env = make("tauairline", user="scripted")
    env.reset(options={"task": "4"})
    legs = json.loads(env.step("get_reservation_details('FQ8APE')")[0])["flights"]
    observation, *_, info = env.step(
        call(
            "update_reservation_flights",
            reservation_id="FQ8APE",
            cabin="economy",
            flights=legs,
            payment_id="gift_card_8190333",
        )
    )
    assert info["valid"]
    assert json.loads(observation)["payment_history"][-1] == {"payment_id": "gift_card_8190333", "amount": 209}
    nested = [{**legs[0], "notes": {"deep": 1}}]
    _, _, _, _, info = env.step(
        call(
            "update_reservation_flights",
            reservation_id="FQ8APE",
            cabin="economy",
            flights=nested,
            payment_id="gift_card_8190333",
        )
    )
    assert not info["valid"]


# -- tools ---------------------------------------------------------------------------------------------------------


def world(name):
    """A domain and a fresh world of it."""
    domain = data.load(name)
    return domain, World(domain.tables, {})


def run(domain, here, tool, **arguments):
    """What a call answers; it must be understood."""
    answer, right = toolbox.make(domain, here, Call(tool, arguments))
    assert right, answer
    return answer


BOOKING = {
    "user_id": BROKE,
    "origin": "JFK",
    "destination": "SEA",
    "flight_type": "one_way",
    "cabin": "economy",
    "flights": [{"flight_number": "HAT136", "date": "2024-05-20"}, {"flight_number": "HAT039", "date": "2024-05-20"}],
    "passengers": [{"first_name": "Mia", "last_name": "Li", "dob": "1990-04-05"}],
    "payment_methods": [{"payment_id": "certificate_7504069", "amount": 250}],
    "total_baggages": 3,
    "nonfree_baggages": 0,
    "insurance": "no",
}


def test_a_booking_is_paid_in_full_or_not_made():
    domain, here = world("airline")
    answer = run(domain, here, "book_reservation", **BOOKING)
    assert answer == "Error: payment amount does not add up, total price is 255, but paid 250"
    assert here.changes == {}
    card = {"payment_id": "credit_card_4421486", "amount": 5}
    booked = run(
        domain, here, "book_reservation", **{**BOOKING, "payment_methods": [BOOKING["payment_methods"][0], card]}
    )
    assert json.loads(booked)["reservation_id"] == "HATHAT"
    assert "certificate_7504069" not in here.find("users", BROKE)["payment_methods"]  # used up
    assert here.find("users", BROKE)["reservations"][-1] == "HATHAT"
    assert "HATHAT" not in domain.tables["reservations"]


GIFT, CREDIT, CERTIFICATE = "gift_card_5309492", "credit_card_2140654", "certificate_7502997"
RIGHT = {
    **BOOKING,
    "user_id": "mei_hernandez_8984",  # who has 98 dollars on the gift card and a certificate of 250
    "origin": "PHL",
    "destination": "LGA",
    "flights": [{"flight_number": "HAT001", "date": "2024-05-16"}],  # 122 dollars
    "passengers": BOOKING["passengers"] * 5,
    "total_baggages": 0,
}


def paid(*payments):
    """Payments by method and amount."""
    return {"payment_methods": [{"payment_id": id, "amount": amount} for id, amount in payments]}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (paid((GIFT, -1000), (CREDIT, 1610)), f"a payment is not negative, got -1000 from {GIFT}"),
        (paid((GIFT, 98), (GIFT, 98), (CREDIT, 414)), f"not enough balance in payment method {GIFT}"),
        (paid((GIFT, 49.5), (GIFT, 49.5), (CREDIT, 511)), f"not enough balance in payment method {GIFT}"),
        (paid((CERTIFICATE, 100), (CERTIFICATE, 100), (CREDIT, 410)), f"{CERTIFICATE} can be used only once"),
        (
            {"passengers": BOOKING["passengers"] * 6, **paid((CREDIT, 732))},
            "a reservation has 1 to 5 passengers, not 6",
        ),
        ({"passengers": [], **paid()}, "a reservation has 1 to 5 passengers, not 0"),
        ({"flights": [], **paid()}, "a reservation has at least one flight"),
        (
            {"total_baggages": -3, "nonfree_baggages": -3, **paid((CREDIT, 460))},
            "of -3 bags, -3 cannot be those to pay for",
        ),
        (
            {"total_baggages": 1, "nonfree_baggages": 2, **paid((CREDIT, 710))},
            "of 1 bags, 2 cannot be those to pay for",
        ),
        ({"origin": "Mars"}, "there is no airport Mars"),
        ({"destination": "lga"}, "there is no airport lga"),
    ],
)
def test_a_booking_that_can_never_be_right_is_refused(wrong, told):
    domain, here = world("airline")
    right = {**RIGHT, **paid((GIFT, 49), (GIFT, 49), (CREDIT, 512))}
    assert run(domain, here, "book_reservation", **{**right, **wrong}) == f"Error: {told}"
    assert here.changes == {}
    assert json.loads(run(domain, here, "book_reservation", **right))["reservation_id"] == "HATHAT"
    assert here.find("users", RIGHT["user_id"])["payment_methods"][GIFT]["amount"] == 0


def test_a_change_that_can_never_be_right_is_refused():
    domain, here = world("airline")
    of = {"reservation_id": "FQ8APE", "payment_id": "gift_card_8190333"}
    for answer, told in (
        (run(domain, here, "update_reservation_flights", **of, cabin="economy", flights=[]), "at least one flight"),
        (run(domain, here, "update_reservation_baggages", **of, total_baggages=-1, nonfree_baggages=-1), "of -1 bags"),
        (run(domain, here, "send_certificate", user_id=BROKE, amount=-100), "a certificate is worth something"),
        (run(domain, here, "send_certificate", user_id=BROKE, amount=0), "a certificate is worth something"),
    ):
        assert answer.startswith("Error: ")
        assert told in answer
    assert here.changes == {}


@pytest.mark.parametrize(
    ("tool", "status", "new"),
    [
        ("return_delivered_order_items", "delivered", {}),
        ("exchange_delivered_order_items", "delivered", {"new_item_ids": []}),
        ("modify_pending_order_items", "pending", {"new_item_ids": []}),
    ],
)
def test_an_order_of_which_no_item_is_named_stays_as_it_is(tool, status, new):
    domain, here = world("retail")
    order = next(row for row in domain.tables["orders"].values() if row["status"] == status)
    method = order["payment_history"][0]["payment_method_id"]
    answer = run(domain, here, tool, order_id=order["order_id"], item_ids=[], payment_method_id=method, **new)
    assert answer == "Error: no item is named"
    assert here.changes == {}


def test_a_cancelled_reservation_is_paid_back_to_where_it_came_from():
    domain, here = world("airline")
    row = json.loads(run(domain, here, "cancel_reservation", reservation_id="Z7GOZK"))
    assert row["status"] == "cancelled"
    assert [payment["amount"] for payment in row["payment_history"]] == [169, -169]
    again = run(domain, here, "cancel_reservation", reservation_id="Z7GOZK")
    assert again == "Error: reservation Z7GOZK is already cancelled"
    assert here.find("reservations", "Z7GOZK") == row


def test_bags_are_charged_from_a_gift_card_that_holds_enough_only():
    domain, here = world("airline")
    before = here.find("users", "omar_rossi_1241")["payment_methods"]["gift_card_8190333"]["amount"]
    more = {"reservation_id": "FQ8APE", "total_baggages": 9, "payment_id": "gift_card_8190333"}
    assert (
        json.loads(run(domain, here, "update_reservation_baggages", nonfree_baggages=2, **more))["nonfree_baggages"]
        == 2
    )
    assert here.find("users", "omar_rossi_1241")["payment_methods"]["gift_card_8190333"]["amount"] == before - 100
    answer = run(domain, here, "update_reservation_baggages", nonfree_baggages=99, **{**more, "total_baggages": 99})
    assert answer == "Error: gift card balance is not enough"


def test_flights_of_a_reservation_that_stay_keep_the_price_that_was_paid():
    domain, here = world("airline")
    row = here.need("reservations", "FQ8APE")
    legs = [{"flight_number": leg["flight_number"], "date": leg["date"]} for leg in row["flights"]]
    same = run(
        domain,
        here,
        "update_reservation_flights",
        reservation_id="FQ8APE",
        cabin=row["cabin"],
        flights=legs,
        payment_id="gift_card_8190333",
    )
    assert json.loads(same)["payment_history"] == row["payment_history"]
    assert [leg["price"] for leg in json.loads(same)["flights"]] == [leg["price"] for leg in row["flights"]]


def test_onestop_flights_leave_after_the_first_has_arrived():
    domain, here = world("airline")
    pairs = json.loads(run(domain, here, "search_onestop_flight", origin="JFK", destination="SEA", date="2024-05-20"))
    assert len(pairs) > 3
    for first, second in pairs:
        assert first["destination"] == second["origin"]
        arrives, _, night = first["scheduled_arrival_time_est"].partition("+")
        assert second["date"] == ("2024-05-21" if night else "2024-05-20")
        assert arrives <= second["scheduled_departure_time_est"]


def test_a_pending_orders_items_are_changed_once():
    domain, here = world("retail")
    first = next(c for t in domain.tasks["train"] for c in t.actions if c.name == "modify_pending_order_items")
    order = json.loads(run(domain, here, first.name, **first.arguments))
    assert order["status"] == "pending (item modified)"
    again = run(domain, here, first.name, **first.arguments)
    assert again == "Error: non-pending order cannot be modified"


def test_cancelling_gives_a_gift_card_its_money_back():
    domain, here = world("retail")
    order = next(
        row
        for row in domain.tables["orders"].values()
        if row["status"] == "pending" and row["payment_history"][0]["payment_method_id"].startswith("gift_card")
    )
    card, user = order["payment_history"][0]["payment_method_id"], order["user_id"]
    before = here.find("users", user)["payment_methods"][card]["balance"]
    run(domain, here, "cancel_pending_order", order_id=order["order_id"], reason="no longer needed")
    after = here.find("users", user)["payment_methods"][card]["balance"]
    assert after == round(before + order["payment_history"][0]["amount"], 2)


def test_an_item_becomes_an_available_one_of_the_same_product_only():
    domain, here = world("retail")
    order = next(row for row in domain.tables["orders"].values() if row["status"] == "delivered")
    item = order["items"][0]
    other = next(p for p in domain.tables["products"].values() if p["product_id"] != item["product_id"])
    sold_out = next(
        (v for v in domain.tables["products"][item["product_id"]]["variants"].values() if not v["available"]), None
    )
    rest = {"order_id": order["order_id"], "item_ids": [item["item_id"]]}
    method = order["payment_history"][0]["payment_method_id"]
    for new in filter(None, (next(iter(other["variants"].values())), sold_out)):
        answer = run(
            domain,
            here,
            "exchange_delivered_order_items",
            **rest,
            new_item_ids=[new["item_id"]],
            payment_method_id=method,
        )
        assert answer == f"Error: new item {new['item_id']} not found or available"
    assert here.changes == {}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 + 2", "4.0"),
        ("(1 + 2) * 3 - 4 / 8", "8.5"),
        ("1 / 3", "0.33"),
        ("-5", "-5.0"),
        ("2 ** 9999999", "Error: that is no expression"),
        ("1 / 0", "Error: division by zero"),
        ("__import__('os')", "Error: an expression holds numbers, + - * /, parentheses and blanks only"),
        ("(" * 500, "Error: that is no expression"),
        ("9" * 999, "Error: that is no expression"),
        ("", "Error: that is no expression"),
        ("1" * 2000, "Error: the expression has more than 1000 characters"),
    ],
)
def test_calculate_knows_the_four_operations_and_evaluates_nothing_else(expression, value):
    domain, here = world("retail")
    assert run(domain, here, "calculate", expression=expression) == value


# -- snapshots -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOMAINS)
def test_a_snapshot_is_small_and_goes_on_in_another_instance_as_the_original_did(name):
    env, other, oracle = make(name, user="scripted"), make(name, user="scripted"), find(name).oracle()
    task = max(env.tasks("test"), key=lambda task: len(data.task(env.domain, task.name).actions))
    env.reset(options={"task": task})
    for _ in range(len(data.task(env.domain, task.name).actions) - 1):
        env.step(oracle(env))
    snapshot = pickle.loads(pickle.dumps(env.snapshot()))
    assert len(snapshot.payload) < 100_000
    rest, over = [], False
    while not over:
        action = oracle(env)
        rest.append((action, env.step(action)))
        over = rest[-1][1][2]
    other.restore(snapshot)
    assert [(action, other.step(action)) for action, _ in rest] == rest
    assert rest[-1][1][4]["success"]


@pytest.mark.parametrize("domain", data.TABLES)
def test_no_episode_changes_the_tables_that_all_share(domain):
    loaded = data.load(domain)
    before = pickle.dumps({table: dict(rows) for table, rows in loaded.tables.items()})
    for split, tasks in loaded.tasks.items():
        for name, task in zip(data.names(domain, split), tasks, strict=True):
            assert judge.judge(loaded, name, judge.after(loaded, task), task.outputs).passed
    assert pickle.dumps({table: dict(rows) for table, rows in loaded.tables.items()}) == before


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("airline_tasks_test.json", '[{"user_id"', "airline_tasks_test.json is not as tau-bench has it"),
        ("airline_tasks_test.json", "[]", "it holds 0 tasks, not 50"),
        ("airline_tasks_test.json", json.dumps([{"user_id": "a"}] * 50), "task 0: KeyError('actions')"),
        ("airline_tasks_test.json", "[" * 100_000, "airline_tasks_test.json is not as tau-bench has it"),
        ("airline_users.json", "[1]", "airline_users.json is not as tau-bench has it (it is no object of objects)"),
        ("airline_tool_schemas.json", '[{"type": "function"}]', "a tool lacks 'function'"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path, monkeypatch, file, content, said):
    folder = tmp_path / data.NAME
    shutil.copytree(data_folder(data.NAME), folder)
    (folder / f"{file}.xz").unlink(missing_ok=True)
    (folder / file).unlink(missing_ok=True)
    (folder / file).write_text(content, encoding="utf-8")
    monkeypatch.setenv("PALAESTRA_DATA", str(tmp_path))
    with pytest.raises(BadInput) as raised:
        make("tauairline", user="scripted").reset(options={"task": "0"})
    assert said in str(raised.value)
    assert str(folder) in str(raised.value)
    assert "palaestra data get tau_bench" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_the_data_set_the_command_that_fetches_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PALAESTRA_DATA", str(tmp_path))
    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path))
    for name in DOMAINS:
        assert "palaestra data get tau_bench" in str(find(name).why_not_ready())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"protocol": "exit"}, "airline has no protocol 'exit'; it has: original, halves, or None"),
        ({"docs": "long"}, "docs are 'json' or 'brief', not 'long'"),
        ({"release": "old"}, "no release 'old'; it has: current, recorded"),
        ({"protocol": "original", "user": "scripted"}, "protocol 'original' wants a user played by a model"),
        ({"user": 7}, "tau-bench's user is a policy, the name of one, or 'scripted', not 7"),
    ],
)
def test_settings_that_there_are_not_are_one_clear_line(settings, said):
    with pytest.raises(BadInput, match=said):
        make("tauairline", **settings)


@pytest.mark.parametrize("name", ["50", "-1", "01", "test/1", ""])
def test_a_task_that_is_none_is_one_clear_line(name):
    env = make("tauairline", user="scripted")
    with pytest.raises(BadInput, match=r"is no task of tau-bench's airline; they look like '0' or '49'"):
        env.reset(options={"task": Task(env="palaestra/TauAirline-v0", name=name, split="test")})


def test_the_fingerprint_names_data_and_user():
    one, other = make("tauairline", user="scripted"), make("tauairline", user="scripted", release="recorded")
    assert one.fingerprint() == make("tauairline", user="scripted").fingerprint()
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint().endswith(", user scripted")
