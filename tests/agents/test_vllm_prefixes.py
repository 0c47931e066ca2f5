"""Which request goes next and where: what begins alike stays together, and nobody is forgotten."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from palaestra.agents.policies.vllm_http import Connections
from palaestra.agents.policies.vllm_prefixes import Job, Known, Waiting, at_home, beginnings, choose
from palaestra.agents.policies.vllm_server import Server


def job(prompt: tuple[int, ...], number: int = 0) -> Job:
    return Job(prompt, number, {}, lambda _: None)


def servers(*busy: int) -> list[Server]:
    made = [Server(f"http://host{place}:8000") for place in range(len(busy))]
    for server, count in zip(made, busy, strict=True):
        server.in_flight = count
    return made


prompts = st.lists(st.lists(st.integers(0, 2), max_size=6).map(tuple), min_size=1, max_size=30)


@given(prompts)
def test_all_that_wait_come_in_one_round_and_neighbours_together(waiting: list[tuple[int, ...]]) -> None:
    line = Waiting()
    for number, prompt in enumerate(waiting):
        line.add(job(prompt, number))
    taken = [line.take() for _ in waiting]
    assert len(line) == 0
    assert sorted(each.number for each in taken) == list(range(len(waiting)))
    assert [each.prompt for each in taken] == sorted(waiting)


@given(prompts, st.integers(0, 99))
def test_nobody_waits_longer_than_one_round_however_many_come(first: list[tuple[int, ...]], seed: int) -> None:
    """While others come that would go before it, a job waits for those that were there, and for one round of them."""
    line, dice = Waiting(), random.Random(seed)
    for number, prompt in enumerate(first):
        line.add(job(prompt, number))
    taken = []
    for number in range(len(first), 2 * len(first)):
        taken.append(line.take())
        line.add(job((*taken[-1].prompt, dice.randrange(3)), number))  # the next turn of the same episode
    assert sorted(each.number for each in taken) == list(range(len(first)))


def test_a_replica_that_has_read_the_beginning_gets_the_rest() -> None:
    known = [Known(), Known(), Known()]
    parent = tuple(range(200))
    known[2].add(beginnings(parent))
    assert choose(job((*parent, 7, 8)), servers(0, 0, 0), known, 8) == 2
    assert choose(job((*parent[:100], 7, 8)), servers(0, 0, 3), known, 8) == 2  # a fork of it
    assert choose(job((9, 9, 9)), servers(1, 0, 2), known, 8) == 1  # what nobody knows goes where least is to do
    known[2].forget()
    assert choose(job((*parent, 7, 8)), servers(0, 0, 1), known, 8) == 0


def test_a_replica_with_far_more_to_do_or_none_at_all_is_passed_over() -> None:
    known = [Known(), Known()]
    prompt = tuple(range(200))
    known[0].add(beginnings(prompt))
    assert choose(job(prompt), servers(4, 0), known, 64) == 0
    assert choose(job(prompt), servers(40, 0), known, 64) == 1
    assert choose(job(prompt), servers(8, 7), known, 8) == 1
    down = servers(0, 3)
    down[0].ready = False
    assert choose(job(prompt), down, known, 8) == 1


def test_a_job_waits_for_the_busy_replica_that_has_read_its_beginning_while_others_can_go() -> None:
    known, line = [Known(), Known()], Waiting()
    first, second = tuple(range(200)), tuple(range(1000, 1200))
    known[0].add(beginnings(first))
    known[1].add(beginnings(second))
    for number, prompt in enumerate((first, (*first, 7), second)):
        line.add(job(prompt, number))
    taken = []
    for busy in ((3, 2), (3, 2), (2, 2)):  # three at once: only the second has room, twice
        now = servers(*busy)
        taken.append(line.take(lambda job, now=now: at_home(job, now, known, 3)))  # type: ignore[misc]
    assert [each.number for each in taken] == [2, 0, 1]  # then nothing fits, and the one that waited longest goes
    down = servers(3, 2)
    down[0].ready = False
    assert at_home(job(first), down, known, 3)  # what is down is not waited for


@given(st.lists(st.integers(0, 50_000), max_size=300), st.integers(0, 300))
def test_beginnings_agree_exactly_as_far_as_the_ids_do(ids: list[int], cut: int) -> None:
    one, other = beginnings(ids), beginnings([*ids[:cut], -1, *ids[cut + 1 :]])
    agree = sum(a == b for a, b in zip(one, other, strict=False))
    assert agree == min(cut, len(ids)) // 32
    assert one[:agree] == other[:agree]


def test_what_is_remembered_is_bounded() -> None:
    known = Known()
    for number in range(3000):
        known.add(beginnings([number] * 1024))
    assert len(known._blocks) <= 1 << 16
    assert known.longest(beginnings([2999] * 1024)) == 32
    assert known.longest(beginnings([0] * 1024)) == 0


def test_an_address_is_kept_without_its_password() -> None:
    connections = Connections("https://me:p%40ss@example.org:8000/v1/")
    assert connections.label == Server("https://me:p%40ss@example.org:8000/v1/").label == "https://example.org:8000"
    assert connections.headers == {"Authorization": "Basic bWU6cEBzcw=="}
