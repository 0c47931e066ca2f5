"""ETO: the pairs and what of them is compared, worked out by hand. A second or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lamps
import pytest

from palaestra.agents.episode import Actor, Episode, Outcome, Provenance, Start, Turn, episode_id, episode_key
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, Task
from palaestra.trainers.config import config_of
from palaestra.trainers.eto import ETO, ETOConfig
from palaestra.trainers.objective import CrossEntropy, Preference
from palaestra.trainers.phases import Collected
from palaestra.trainers.rundir import RunDir
from palaestra.trainers.sample import Pair

TASK = Task(env="toy/Lamps-v0", name="two/0", split="train")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lamps.tiny(tmp_path_factory.mktemp("models") / "tiny")


def eto(out: Path, model: Path, **more: Any) -> ETO:
    whole = {"conversation": {}, "tasks": ("two/0",), "experts": {"oracle": "solve"}}
    settings = lamps.settings(model, **(whole | more))
    del settings["per_task"]
    return ETO(config_of(ETOConfig, settings), out, progress="quiet")


def episode(start: Start, actions: str, score: float, by: str = "policy", sample: int = 0) -> Episode:
    """One action a letter; the observation before the action x is "see x"."""
    provenance = Provenance(actor=Actor(by), policy=by, recipe="eto", iteration=0 if by == "expert" else 1)
    return Episode(
        id=episode_id(episode_key(start, provenance, sample)),
        start=start,
        sample=sample,
        turns=tuple(Turn(observation=f"see {letter}", completion=letter, action=letter) for letter in actions),
        outcome=Outcome.SUCCESS if score == 1 else Outcome.FAILURE,
        score=score,
        provenance=provenance,
    )


def compared(
    tmp_path: Path, model: Path, experts: list[Episode], rollouts: list[Episode], **more: Any
) -> set[tuple[str, str]]:
    """What ETO mines of these: of each pair the actions that have a weight, chosen side first."""
    method = eto(tmp_path / "run", model, **more)
    with (
        EpisodeStore(tmp_path / "episodes.sqlite") as method.store,
        RunDir.open(tmp_path / "run", "eto", method.config) as method.run,
    ):
        method.store.add_all([*experts, *rollouts])
        for number, made in enumerate([experts, rollouts]):
            record = Collected(episodes=tuple(e.id for e in made), successes=0, faults=0)
            method.run.save(f"iteration-{number}/collected.json", record)
        pairs = method.mine(1)
        tokenizer = method.acting.template.tokenizer
        found = set()
        for pair in pairs:
            assert isinstance(pair, Pair)
            texts = []
            for side in pair.sides:
                ids = [id for id, weight in zip(side.ids, side.weights, strict=True) if weight]
                texts.append("".join(tokenizer.decode(ids, skip_special_tokens=True).split()))
            found.add((texts[0], texts[1]))
        assert len(found) == len(pairs)
        return found


ROOT = Start(task=TASK)


def test_what_won_is_preferred_to_what_lost(tmp_path: Path, model: Path) -> None:
    """The expert wins with ab. Rollouts: xy and xz lose, xy again (one pair is enough), ba wins (nothing to prefer)."""
    rollouts = [episode(ROOT, text, won, sample=n) for n, (text, won) in enumerate([("xy", 0), ("xz", 0), ("xy", 0)])]
    rollouts.append(episode(ROOT, "ba", 1, sample=9))
    pairs = compared(tmp_path, model, [episode(ROOT, "ab", 1, "expert")], rollouts)
    assert pairs == {("ab", "xy"), ("ab", "xz")}


def test_a_rollout_that_is_worth_more_than_the_expert_is_preferred_to_it(tmp_path: Path, model: Path) -> None:
    """The expert is worth 0.5; rollouts 1, 0.7 and 0. The best one is preferred to the expert, and the expert to the
    last one. That 1 beats 0.7 and 0 is for `chosen="best"` to say."""
    expert = episode(ROOT, "ab", 0.5, "expert")
    rollouts = [
        episode(ROOT, text, worth, sample=n) for n, (text, worth) in enumerate([("p", 1), ("q", 0.7), ("r", 0)])
    ]
    assert compared(tmp_path / "a", model, [expert], rollouts) == {("p", "ab"), ("ab", "r")}
    best = compared(tmp_path / "b", model, [expert], rollouts, chosen="best")
    assert best == {("p", "ab"), ("p", "q"), ("p", "r")}
    assert compared(tmp_path / "c", model, [expert], rollouts, chosen="best", gap=0.4) == {("p", "ab"), ("p", "r")}


def test_the_rejected_side_is_cut_at_five_turns_more(tmp_path: Path, model: Path) -> None:
    expert, lost = episode(ROOT, "ab", 1, "expert"), episode(ROOT, "cdefghijk", 0)
    assert compared(tmp_path / "a", model, [expert], [lost]) == {("ab", "cdefghi")}
    assert compared(tmp_path / "b", model, [expert], [lost], longer=None) == {("ab", "cdefghijk")}
    assert compared(tmp_path / "c", model, [expert], [lost], longer=0) == {("ab", "cd")}


def test_at_a_fork_only_what_follows_it_is_compared(tmp_path: Path, model: Path) -> None:
    """The expert wins with abcd and has one state inside, after ab. A rollout from there loses with xy: cd against xy,
    and ab is context of both. The rollout from s_0 has nothing to do with it."""
    expert = episode(ROOT, "abcd", 1, "expert")
    inside, outside = episode(expert.fork(2), "xy", 0), episode(ROOT, "q", 0)
    pairs = compared(tmp_path, model, [expert], [inside, outside], forks=1)
    assert pairs == {("cd", "xy"), ("abcd", "q")}


def test_cloning_comes_first_and_beta_grows(tmp_path: Path, model: Path) -> None:
    method = eto(tmp_path, model, objective={"tokens": 500})
    first, second, third = (method.objective(number) for number in range(3))
    assert isinstance(first, CrossEntropy)
    assert isinstance(second, Preference)
    assert isinstance(third, Preference)
    assert (second.beta, third.beta) == (0.1, 0.5)
    assert third.learning_rate == second.learning_rate / 2  # the paper's 1e-6 and 5e-7
    assert second.tokens == third.tokens == 500  # a comparison's equal training tokens hold for it too


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"conversation": {"window": 1}}, "each must be one transcript"),
        ({"experts": None}, "ETO prefers what experts did"),
        ({"preference": {"beta": -1}}, r"preference\.beta"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, model: Path, more: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        eto(tmp_path, model, **more)
