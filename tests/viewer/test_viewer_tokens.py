"""The token view: every token says whether it is learnt, why, and which turn of which episode it comes from."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palaestra.agents.store import EpisodeStore
from palaestra.trainers.sample import Pair, Sample
from palaestra.viewer.runs import Runs
from palaestra.viewer.tokens import Samples
from palaestra.viewer.why import KINDS, why

Ask = Callable[..., Any]


def stored(run: Path) -> list[Sample]:
    lines = gzip.decompress((run / "iteration-1/samples.jsonl.gz").read_bytes()).decode().splitlines()
    return [Sample.model_validate_json(line) for line in lines]


def test_tokens_of_a_model_s_own_turns_are_told_apart_into_what_it_read_and_what_it_said(place: Path) -> None:
    samples, checked = Samples(Runs(place)), 0
    with EpisodeStore(place / "agent-r/episodes.sqlite", mode="r") as store:
        for number, sample in enumerate(stored(place / "agent-r")):
            turns = store.path(sample.episodes[-1]).turns
            (sequence,) = samples.sample("agent-r", 1, number)["sequences"]
            assert [id for span in sequence["spans"] for id, _ in span["tokens"]] == list(sample.ids)
            if any(turn.tokens is None for turn in turns):
                continue
            for span in sequence["spans"]:
                record = turns[span["step"]].tokens
                assert record is not None
                wanted = record.completion if span["said"] else record.context
                assert [id for id, _ in span["tokens"]] == list(wanted)
                checked += 1
    assert checked


def test_what_an_expert_said_is_found_by_its_words(ask: Ask, place: Path) -> None:
    experts = [number for number, sample in enumerate(stored(place / "eef")) if sample.kind == "expert"]
    assert experts
    for number in experts:
        (sequence,) = ask("sample", run="eef", iteration=1, number=number)["sequences"]
        learnt = [span for span in sequence["spans"] if span["weight"]]
        assert [span["step"] for span in learnt] == list(range(len(learnt)))
        assert all("cloned" in span["why"] for span in learnt)


def test_a_pair_says_which_side_is_made_more_and_which_less_likely(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "pairs"
    shutil.copytree(place / "agent-r", run, ignore=shutil.ignore_patterns("*.sqlite-*"))
    one = stored(run)[0]
    pair = Pair(chosen=one, rejected=one, kind="fork")
    lines = pair.model_dump_json() + "\n"
    (run / "iteration-1/samples.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    chosen, rejected = Samples(Runs(tmp_path)).sample("pairs", 1, 0)["sequences"]
    assert [each["role"] for each in (chosen, rejected)] == ["chosen", "rejected"]
    assert [each["against"] for each in (chosen, rejected)] == [False, True]
    assert any("learns this with weight 1: the better branch" in span["why"] for span in chosen["spans"])
    assert any("unlearns this with weight 1: the worse branch" in span["why"] for span in rejected["spans"])


def test_samples_are_shown_without_their_store_and_with_a_sequence_that_does_not_fit_it(
    place: Path, tmp_path: Path
) -> None:
    run = tmp_path / "bare"
    shutil.copytree(place / "eef", run, ignore=shutil.ignore_patterns("*.sqlite*"))
    sequence = Samples(Runs(tmp_path)).sample("bare", 1, 0)["sequences"][0]
    assert sequence["trained"] == sum(len(span["tokens"]) for span in sequence["spans"] if span["weight"])
    assert not any("step" in span for span in sequence["spans"])
    record = json.loads(gzip.decompress((place / "eef/iteration-1/samples.jsonl.gz").read_bytes()).splitlines()[0])
    other = tmp_path / "other"
    shutil.copytree(place / "eef", other, ignore=shutil.ignore_patterns("*.sqlite-*"))
    record["ids"] = [id + 1 for id in record["ids"]]
    (other / "iteration-1/samples.jsonl.gz").write_bytes(gzip.compress(json.dumps(record).encode()))
    sequence = Samples(Runs(tmp_path)).sample("other", 1, 0)["sequences"][0]
    assert [id for span in sequence["spans"] for id, _ in span["tokens"]] == record["ids"]


@pytest.mark.parametrize("kind", [*KINDS, "a kind of a user's own method"])
def test_every_kind_of_sample_has_its_reason(kind: str) -> None:
    said = why("mine", kind, "sample", 0.5)
    assert said.startswith("mine learns this with weight 0.5: ")
    assert why("mine", kind, "sample", -0.5).startswith("mine unlearns this with weight -0.5: ")
