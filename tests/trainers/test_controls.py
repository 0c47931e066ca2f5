"""The controls and the further measures: best of k, SFT on positives, recovery from truncated failures, difficulty."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lamps
import numpy as np
import pytest
from typer.testing import CliRunner

from palaestra.agents.episode import Actor, Episode, Outcome, Provenance, Start, TokenRecord, Turn
from palaestra.agents.store import EpisodeStore
from palaestra.agents.template import NotTokenExact
from palaestra.envs import BadInput, Fidelity, Reply, Task, register
from palaestra.trainers.best_of_k import BestOfK, BestOfKConfig, likelihood
from palaestra.trainers.compare import compare_methods
from palaestra.trainers.config import config_of
from palaestra.trainers.difficulty import bin_of, binned
from palaestra.trainers.evaluate import Evaluation
from palaestra.trainers.methods import CONTESTANTS, METHODS, contestant
from palaestra.trainers.recovery import Recovery, cut
from palaestra.trainers.report import rounds
from palaestra.trainers.rft import RFT, RFTConfig
from palaestra.trainers.rundir import read_record


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lamps.tiny(tmp_path_factory.mktemp("models") / "tiny")


def settings(model: Path, **more: Any) -> dict[str, Any]:
    own = {"experts": {"oracle": "solve", "slip": 0.5, "tasks": 6}, "evaluation": {"tasks": 4}, "conversation": {}}
    whole = lamps.settings(model, **own, budget=16, objective={"epochs": 1, "batch": 4}, **more)
    del whole["per_task"]
    return whole


def episode(number: int, turns: int = 4, outcome: Outcome = Outcome.FAILURE, **more: Any) -> Episode:
    said = Turn(observation="?", completion="a", action="a")
    return Episode(
        id=f"{number:016x}",
        start=Start(task=Task(env="toy/Lamps-v0", name=f"two/{20 + number}", split="test")),
        turns=(said,) * turns,
        outcome=outcome,
        provenance=Provenance(actor=Actor.POLICY, policy="p"),
        **more,
    )


def test_the_controls_that_reviewers_asked_for_are_all_there() -> None:
    assert {
        *("sft-positives", "rft", "rft-x1", "eef-random", "direct-revision", "textual-splice", "best-of-k"),
    } <= set(CONTESTANTS)


def test_a_budget_of_nothing_clones_the_successful_experts(tmp_path: Path, model: Path) -> None:
    RFT(config_of(RFTConfig, {**settings(model), "budget": 0}), tmp_path / "run", progress="quiet").train()
    found = rounds(tmp_path / "run")
    assert [each.evaluation.label for each in found] == ["start model", "cloned experts"]
    with EpisodeStore(tmp_path / "run/episodes.sqlite", mode="r") as store:
        assert not [head for head in store.heads(split="train") if head.actor is Actor.POLICY]
    with pytest.raises(BadInput, match="a 'budget' of 0 only clones experts"):
        config_of(RFTConfig, {**settings(model), "budget": 0, "experts": None})


def test_best_of_k_spends_the_budget_on_the_held_out_tasks(tmp_path: Path, model: Path) -> None:
    """16 rollouts over 4 held-out tasks: 4 tries each. The one with the highest score counts, so that no task's score
    is below that of any of its tries; training sees no rollout."""
    run = BestOfK(config_of(BestOfKConfig, settings(model)), tmp_path / "run", progress="quiet")
    run.train()
    before, cloned, best = rounds(tmp_path / "run")
    assert best.evaluation.tries == 4
    assert best.evaluation.episodes == before.evaluation.episodes == 4
    assert before.evaluation.card.comparable(best.evaluation.card) == []
    assert best.evaluation.card.sampling["best_of"] == 4
    version = cloned.evaluation.card.model_version
    with EpisodeStore(tmp_path / "run/episodes.sqlite", mode="r") as store:
        assert not [head for head in store.heads(split="train") if head.actor is Actor.POLICY]
        for row in best.evaluation.tasks:
            of_task = [head for head in store.heads(split="test") if head.name == row.task]
            tries = [head for head in of_task if head.policy_version == version]
            chosen = store.head(row.episodes[0])
            assert len(tries) >= 4
            recipe = [head for head in tries if head.recipe == chosen.recipe]
            assert len(recipe) == 4
            assert row.scores[0] == max(head.score for head in recipe)


def test_best_of_k_is_refused_where_k_would_be_one(tmp_path: Path, model: Path) -> None:
    """16 rollouts for 9 held-out episodes."""
    config = config_of(BestOfKConfig, {**settings(model), "evaluation": {"tasks": 3, "samples": 3}})
    with pytest.raises(BadInput, match=r"16 rollouts for 9 held-out episodes.*raise 'budget' to 18"):
        BestOfK(config, tmp_path / "run", progress="quiet").train()
    assert not (tmp_path / "run").exists()


def test_the_likeliest_try_is_chosen_by_the_mean_of_what_was_written(tmp_path: Path, model: Path) -> None:
    def written(number: int, *logprobs: float) -> Episode:
        tokens = TokenRecord(context=(1,), completion=(2,) * len(logprobs), logprobs=logprobs)
        turn = Turn(observation="?", completion="a", action="a", tokens=tokens)
        return episode(0).model_copy(update={"id": f"{number:016x}", "turns": (turn,), "sample": number})

    tries = [written(0, -1.0), written(1, -0.5, -0.5, -0.4), written(2, -0.1, -2.0), written(3, -0.2)]
    assert likelihood(tries[1]) == pytest.approx(-1.4 / 3)
    assert likelihood(episode(0)) == float("-inf")
    method = BestOfK(config_of(BestOfKConfig, settings(model, choose="likelihood")), tmp_path, progress="quiet")
    assert [each.sample for each in method._chosen(tries, 2)] == [1, 3]
    assert [each.sample for each in method._chosen(tries, 4)] == [3]


# -- rewind ------------------------------------------------------------------------------------------------------------


class Forgetful(lamps.Lamps):
    """Press the button of the lamp's colour."""

    fidelity = Fidelity.REPLAY
    resets = 0

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[lamps.State, str]:
        Forgetful.resets += 1
        return super().begin(task, rng)[0], f"Lamp number {Forgetful.resets}."


register("toy/Forgetful-v0", Forgetful, splits={"train": ["two/0"], "test": ["two/1"]}, oracles={"solve": lamps.solve})


@pytest.mark.parametrize("name", ["eef", "agent-r"])
def test_an_environment_that_cannot_go_back_is_refused_before_anything_is_made(
    tmp_path: Path, model: Path, name: str
) -> None:
    kind = METHODS[name]
    config = config_of(kind.config_type, settings(model, env="toy/Forgetful-v0"))
    with pytest.raises(BadInput, match=rf"Forgetful-v0 cannot go back to an earlier step .* and {name} begins inside"):
        kind(config, tmp_path / "run", progress="quiet").train()
    assert not (tmp_path / "run").exists()


def test_a_comparison_refuses_what_its_last_method_cannot_do_before_the_first_begins(
    tmp_path: Path, model: Path
) -> None:
    shared = {**settings(model, env="toy/Forgetful-v0"), "objective": {"tokens": 500}}
    del shared["seed"]
    with pytest.raises(BadInput, match="eef begins inside"):
        compare_methods([contestant("rft"), contestant("eef")], shared, tmp_path / "c", seeds=[0, 1], progress="quiet")
    assert not (tmp_path / "c").exists()


class Leaky(lamps.Lamps):
    """Press the button of the lamp's colour."""

    presses = 0

    def begin(self, task: Task, rng: np.random.Generator) -> tuple[lamps.State, str]:
        self.presses = 0
        return super().begin(task, rng)

    def act(self, state: lamps.State, action: str) -> Reply:
        self.presses += 1
        reply = super().act(state, action)
        state.done %= 2
        return Reply(f"{reply.observation} You have pressed {self.presses} times.")


register("toy/Leaky-v0", Leaky, splits={"train": ["two/0"], "test": ["two/1"]}, oracles={"solve": lamps.solve})


def test_an_environment_that_keeps_something_beside_its_state_is_refused_too(tmp_path: Path, model: Path) -> None:
    """It shows the right text where it comes back to, and goes on with what the instance remembers."""
    config = config_of(METHODS["eef"].config_type, settings(model, env="toy/Leaky-v0"))
    with pytest.raises(BadInput, match=r"Leaky-v0 cannot go back .*the same action then shows something else"):
        METHODS["eef"](config, tmp_path / "run", progress="quiet").train()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("asked", [{"recovery": True}, {"improve": 1}])
def test_what_is_measured_inside_episodes_needs_rewind_as_well(
    tmp_path: Path, model: Path, asked: dict[str, Any]
) -> None:
    """RFT needs none; that its last measurement does is told before its first rollout."""
    whole = {**settings(model, env="toy/Forgetful-v0"), "evaluation": {"tasks": 1, **asked}}
    (key,) = asked
    with pytest.raises(BadInput, match=rf"cannot go back .* and evaluation\.{key} begins inside .* without"):
        RFT(config_of(RFTConfig, whole), tmp_path / "run", progress="quiet").train()
    assert not (tmp_path / "run").exists()


# -- templates ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inexact(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A start model whose template shows an earlier answer otherwise once another one has come."""
    folder = tmp_path_factory.mktemp("models") / "inexact"
    shutil.copytree(model, folder)
    said = "{{ m['role'] }}: {{ m['content'] if loop.last else m['content'] | upper }}\n"
    (folder / "chat_template.jinja").write_text("{% for m in messages %}" + said + "{% endfor %}")
    return folder


@pytest.mark.parametrize("name", METHODS)
def test_a_template_that_cannot_be_token_exact_is_refused_before_anything_is_made(
    tmp_path: Path, inexact: Path, name: str
) -> None:
    own = {"prompts": 2, "group": 2} if name in ("grpo", "exit") else {}
    config = config_of(METHODS[name].config_type, {**settings(inexact), **own})
    with pytest.raises(NotTokenExact) as refusal:
        METHODS[name](config, tmp_path / "run", progress="quiet").train()
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


# -- recovery ----------------------------------------------------------------------------------------------------------


def test_failures_are_cut_inside_and_always_at_the_same_steps() -> None:
    """Of 40 failures with 4 turns the cuts lie after 1, 2 or 3 of them. Wins, faults and single turns have no cut."""
    failures = [episode(n) for n in range(40)]
    others = [episode(50, outcome=Outcome.SUCCESS), episode(51, outcome=Outcome.TIMEOUT), episode(52, turns=1)]
    starts = cut([*failures, *others], seed=3)
    assert [start.parent for start in starts] == [each.id for each in failures]
    assert {start.fork_step for start in starts} == {1, 2, 3}
    assert cut(list(reversed(failures)), seed=3) == list(reversed(starts))
    assert cut(failures, seed=4) != starts


def test_a_run_can_measure_recovery_from_the_start_models_failures(tmp_path: Path, model: Path) -> None:
    evaluation = {"tasks": 6, "recovery": True}
    RFT(config_of(RFTConfig, {**settings(model), "evaluation": evaluation}), tmp_path / "run", progress="quiet").train()
    before = read_record(tmp_path / "run/start/evaluation.json", Evaluation)
    found = read_record(tmp_path / "run/iteration-2/recovery.json", Recovery)
    lost = {row.task: row.episodes[0] for row in before.tasks if not row.successes[0] and row.steps[0] > 1}
    assert {row.task for row in found.tasks} == set(lost)
    assert found.failures == len(lost)
    with EpisodeStore(tmp_path / "run/episodes.sqlite", mode="r") as store:
        for row in found.tasks:
            head = store.head(row.episodes[0])
            assert (head.parent, head.split) == (lost[row.task], "test")
            assert head.policy_version == rounds(tmp_path / "run")[-1].evaluation.card.model_version


# -- difficulty --------------------------------------------------------------------------------------------------------


def test_tasks_are_binned_by_the_start_models_success() -> None:
    assert [bin_of(shares) for shares in ([0, 0], [0, 0, 1], [0, 1], [1, 1, 0], [1])] == [
        *("never", "below half", "half or more", "half or more", "always")
    ]
    start = {"a": [0.0], "b": [1.0], "c": [0.0, 0.0, 1.0], "d": [], "e": [0.0]}
    values = {"a": [1.0], "b": [0.0], "c": [1.0, 0.0], "d": [1.0], "e": []}
    assert binned(start, values) == {"never": {"a": [1.0]}, "below half": {"c": [1.0, 0.0]}, "always": {"b": [0.0]}}


def test_an_evaluation_can_stand_beside_a_start_models(tmp_path: Path, model: Path) -> None:
    from palaestra.cli import app

    common = ["eval", "toy/Lamps-v0", "--tasks", "6", "--quiet"]
    run = CliRunner()
    first = run.invoke(app, [*common, "--policy", "random", "--out", str(tmp_path / "start")])
    assert first.exit_code == 0, first.output
    out = tmp_path / "solve"
    more = ["--policy", "oracle", "--out", str(out), "--beside", str(tmp_path / "start")]
    second = run.invoke(app, [*common, *more])
    assert second.exit_code == 0, second.output
    found = read_record(out / "recovery.json", Recovery)
    assert found.failures > 0
    assert "solved never by the start model" in second.output
    none = run.invoke(app, [*common, "--policy", "oracle", "--out", str(out), "--beside", str(tmp_path / "nowhere")])
    assert none.exit_code != 0
