"""Taking a turn again: the note that the agent reads, its exact ids, and K-step self-improvement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lamps
import pytest

from palaestra.agents.collect import collect
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Episode, Start
from palaestra.agents.export import read_episodes, write_episodes
from palaestra.agents.models import load_model
from palaestra.agents.policies.hf import HFPolicy
from palaestra.agents.policy import Completion, PolicyBase, Request, Sampling
from palaestra.agents.store import EpisodeStore
from palaestra.agents.template import ChatTemplate
from palaestra.agents.tiny import make_tiny
from palaestra.envs import Task
from palaestra.trainers.evaluate import evaluate
from palaestra.trainers.sample import sample_of
from palaestra.trainers.self_iteration import again

TASK = Task(env="toy/Lamps-v0", name="two/0", split="train")
ALL = Conversation()


class Learner(PolicyBase):
    """Presses red on its first attempt; each time it is told what it did, it gets one more lamp right."""

    def __init__(self) -> None:
        super().__init__(name="learner")

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        return [Completion("", action=self.choice([m["content"] for m in request.messages])) for request in requests]

    def choice(self, said: list[str]) -> str:
        seen = [text for text in said[1:] if "The lamp is" in text]
        told = "You were here before" in said[1]
        lamp = seen[-1].split("The lamp is ")[1].split(".")[0]
        before = said[1].count("press") if told else 0
        right = told and (len(seen) == 1 or f"1. press {seen[0].split('The lamp is ')[1].split('.')[0]}" in said[1])
        return f"press {lamp}" if right and before else "press nothing"


def first_attempt(store: EpisodeStore) -> Episode:
    collect([TASK], Learner(), store, progress="quiet", recipe="first")
    (episode,) = store.episodes()
    return episode


def test_the_note_tells_what_was_done_and_what_came_of_it(tmp_path: Path) -> None:
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        path = store.path(first_attempt(store).id)
        start = again(path, 1, "improve", ALL, recall=2)
        lamp = path.turns[0].observation
        assert (start.task, start.parent, start.fork_step) == (TASK, path.episode.id, 1)
        assert start.note == (
            "You were here before. What you did then, and what came of it:\n"
            "1. press nothing -> No such button.\n2. press nothing -> No such button.\n... and 1 more\n"
            "Now improve on that attempt: go on from here in a way that leads to a better result."
        )
        diverge = again(path, 0, "diverge", Conversation(style="react"))
        assert "significantly different way" in diverge.note
        assert diverge.note.endswith("name a different one, and take that.")
        assert again(path, 0, "diverge", ALL).note.endswith("than in that attempt.")
        assert len({start.id, again(path, 1, "diverge", ALL).id, path.episode.fork(1).id}) == 3
        assert lamp not in start.note
        with pytest.raises(ValueError, match="has no turn 4"):
            again(path, 4, "improve", ALL)


@pytest.mark.parametrize("conversation", [ALL, Conversation(window=1), Conversation(actions=2, window=1)])
def test_what_is_learnt_of_a_noted_fork_is_what_was_sampled(conversation: Conversation, tmp_path: Path) -> None:
    """Forks of forks, each with a note: the ids that the model saw come back id for id, log-probs included."""
    model = load_model(make_tiny(["press red", "You were here before."] * 20, tmp_path / "model", vocab=400, hidden=32))
    policy = HFPolicy(model, sampling=Sampling(max_tokens=4))
    template: ChatTemplate = policy.template
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        arguments = {"progress": "quiet", "conversation": conversation}
        collect([TASK], policy, store, recipe="0", **arguments)  # type: ignore[arg-type]
        (latest,) = store.episodes()
        for step in (2, 1, 1, 3):
            path = store.path(latest.id)
            start = again(path, step, "improve", conversation) if step >= path.own else latest.fork(path.own)
            collect([start], policy, store, recipe=str(start.id), **arguments)  # type: ignore[arg-type]
            latest = next(found for found in store.episodes() if found.start == start)
            assert latest.turns[0].note == start.note
            whole = store.path(latest.id)
            samples = sample_of(whole, conversation, template, lamps.Lamps().instructions(TASK), logprobs=True)
            sampled = [id for sample in samples for id, w in zip(sample.ids, sample.weights, strict=True) if w]
            logprobs = [p for sample in samples for p, w in zip(sample.logprobs, sample.weights, strict=True) if w]
            records = [turn.tokens for turn in latest.turns if turn.tokens is not None]
            assert sampled == [id for record in records for id in record.completion]
            assert logprobs == pytest.approx([p for record in records for p in record.logprobs])
            if start.note:
                text = template.tokenizer.decode([id for sample in samples for id in sample.ids])
                assert "improve on that attempt" in text


@pytest.mark.parametrize("name", ["episodes.jsonl", "episodes.parquet"])
def test_notes_survive_export_and_import(name: str, tmp_path: Path) -> None:
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        first = first_attempt(store)
        collect([again(store.path(first.id), 0, "improve", ALL)], Learner(), store, progress="quiet", recipe="x")
        episodes = list(store.episodes())
        write_episodes(episodes, tmp_path / name)
        assert list(read_episodes(tmp_path / name)) == episodes
        assert episodes[1].turns[0].note == episodes[1].start.note != ""


def test_k_steps_of_self_improvement(tmp_path: Path) -> None:
    """At first nothing is right. Told of it, the learner gets the first lamp right (half of the score), told of that,

    the second one too. A further time changes nothing: it is told of the latest attempt only.
    """
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        arguments = {"tasks": 6, "improve": 3, "progress": "quiet"}
        found = evaluate("toy/Lamps-v0", Learner(), store, **arguments)  # type: ignore[arg-type]
        assert found.score.mean == 0  # what is reported of the evaluation itself is the first attempt
        assert [at.k for at in found.improved] == [0, 1, 2, 3]
        scores = [at.score.mean for at in found.improved]
        assert scores[0] == 0
        assert scores[1] >= 0.5
        assert scores[2] == scores[3] == 1.0
        assert [at.change.mean for at in found.improved] == scores
        assert [at.episodes for at in found.improved] == [6] * 4
        before = len(store)
        assert evaluate("toy/Lamps-v0", Learner(), store, **arguments).improved == found.improved  # type: ignore[arg-type]
        assert len(store) == before == 24
        assert {episode.start.task.split for episode in store.episodes()} == {"test"}
        assert all(
            episode.start == Start(task=episode.start.task) for episode in store.episodes() if not episode.start.note
        )


def test_how_many_turns_of_an_attempt_a_measurement_shows(tmp_path: Path) -> None:
    """An attempt on the lamps has several turns; with `recall=1` the first is shown and the others are counted."""
    with EpisodeStore(tmp_path / "episodes.sqlite") as store:
        evaluate("toy/Lamps-v0", Learner(), store, tasks=2, improve=1, recall=1, progress="quiet")
        again = [episode for episode in store.episodes() if episode.start.note]
        assert len(again) == 2
        for episode in again:
            attempt = store.get(str(episode.start.parent))
            assert "\n1. " in episode.start.note
            assert "\n2. " not in episode.start.note
            assert f"... and {len(attempt.turns) - 1} more" in episode.start.note
