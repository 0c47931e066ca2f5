"""World models of pages in a real browser: accessibility trees are texts like all others."""

from __future__ import annotations

from pathlib import Path

import pytest

from palaestra.agents.collect import collect
from palaestra.agents.episode import Outcome
from palaestra.agents.policies.oracle import OraclePolicy
from palaestra.agents.policies.random import RandomPolicy
from palaestra.agents.store import EpisodeStore
from palaestra.agents.tiny import make_tiny
from palaestra.envs import make
from palaestra.trainers.config import config_of
from palaestra.trainers.evaluate import choose_tasks, evaluate
from palaestra.worldmodel.env import ID
from palaestra.worldmodel.fidelity import fidelity
from palaestra.worldmodel.loading import load_world, read_card
from palaestra.worldmodel.lookahead import LookAhead, LookAheadPlan
from palaestra.worldmodel.page import Status
from palaestra.worldmodel.training import TrainConfig, train_world
from palaestra.worldmodel.transitions import Transition, transitions_of
from palaestra.worldmodel.world import RealWorld

MINIWOB, SITE = "palaestra/MiniWoB-v0", "palaestra/WebShopSite-v0"
SOLVED = {"protocol": "solved"}
PAGES = ("login-user", "click-checkboxes", "enter-text", "click-button-sequence")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    """The oracle on a few pages of MiniWoB++ and in the shop's site."""
    made = EpisodeStore(tmp_path_factory.mktemp("browser") / "episodes.sqlite")
    env = make(MINIWOB, **SOLVED)
    tasks = choose_tasks(env.tasks("train"), [f"{page}/{seed}" for page in PAGES for seed in (1, 2)], "MiniWoB++")
    env.close()
    collect(tasks, OraclePolicy(MINIWOB), made, env_settings=SOLVED, concurrency=2, progress="quiet")
    shop = make(SITE)
    first = shop.tasks("train")[0]
    shop.close()
    collect([first], OraclePolicy(SITE), made, progress="quiet")
    return made


def found(store: EpisodeStore, env_id: str) -> list[list[Transition]]:
    return [transitions_of(path) for path in store.paths(env=env_id)]


def test_what_a_browser_showed_becomes_transitions(store: EpisodeStore) -> None:
    for env_id, count in ((MINIWOB, 8), (SITE, 1)):
        episodes = found(store, env_id)
        assert len(episodes) == count
        for steps in episodes:
            episode = store.get(steps[0].episode)
            assert episode.outcome is Outcome.SUCCESS
            assert [t.action for t in steps] == list(episode.actions)
            assert [t.page for t in steps] == [turn.observation for turn in episode.turns]
            assert steps[-1].next == episode.final_observation
            assert [t.status for t in steps] == [*[Status.GOING] * (len(steps) - 1), Status.OVER]
            assert steps[-1].worth == 1.0
    (shopping,) = found(store, SITE)
    assert len(shopping) >= 3
    assert "[" in shopping[0].first  # numbered elements of an accessibility tree


def test_the_real_browser_behind_the_interface_imagines_exactly(store: EpisodeStore) -> None:
    """Going back in a browser is done again from the start; what is seen is the same, word for word."""
    for env_id, settings in ((MINIWOB, SOLVED), (SITE, {})):
        world = RealWorld(env_id, settings)
        report = fidelity(
            world,
            found(store, env_id)[-2:],
            {t.task.id: "" for steps in found(store, env_id) for t in steps},
            env=env_id,
            horizons=3,
            origins=2,
        )
        for row in report.horizons:
            assert (row.exact.mean, row.ending.mean, row.cut) == (1.0, 1.0, 0)
        cost = world.calls, world.replayed
        last = found(store, env_id)[-1]
        again = world.predict([t.branch("").asked(t.action) for t in last[:2]])
        assert [prediction.page for prediction in again] == [t.next for t in last[:2]]
        assert (world.calls, world.replayed) == cost
        world.close()


def test_looking_ahead_in_the_real_browser_finds_what_wins(tmp_path: Path) -> None:
    """One of two buttons is the right one: acting at random misses some, trying them elsewhere first misses none."""
    buttons = RandomPolicy([f"click [{number}]" for number in (2, 3, 4)])
    world = RealWorld(MINIWOB, SOLVED)
    ahead = LookAhead(buttons, world, plan=LookAheadPlan(candidates=12, depth=1, after=0))
    tasks = [f"click-test-2/{seed}" for seed in range(1000, 1004)]
    with EpisodeStore(tmp_path / "episodes.sqlite") as kept:
        alone, best = (
            evaluate(MINIWOB, who, kept, split="dev", tasks=tasks, env_settings=SOLVED, progress="quiet")
            for who in (buttons, ahead)
        )
    world.close()
    assert alone.success.mean < best.success.mean == 1.0
    assert 0 < world.calls <= 3 * ahead.spent.decisions  # three buttons, of which none is tried twice in one place


def test_a_world_model_learns_pages_of_a_browser_and_is_played_in(store: EpisodeStore, tmp_path: Path) -> None:
    words = [text for steps in found(store, MINIWOB) for t in steps for text in (t.page, t.action, t.next)]
    base = make_tiny(words * 4, tmp_path / "tiny", vocab=600, hidden=32, layers=1, heads=2, context=1024)
    config = {
        "env": MINIWOB,
        "env_settings": SOLVED,
        "store": str(store.file),
        "model": str(base),
        "page": {"max_page": 400, "rules": False},
        "held_out": 0.3,
        "horizons": 2,
        "max_tokens": 8,
        "objective": {"epochs": 2, "learning_rate": 5e-3, "batch": 4},
    }
    report = train_world(config_of(TrainConfig, config), tmp_path / "run")
    card = read_card(tmp_path / "run/model")
    assert (card.env, card.env_settings) == (MINIWOB, SOLVED)
    assert report is not None
    assert report.horizons[0].cut == report.horizons[0].count  # eight tokens hold no page, and that is counted
    assert sum(report.problems.values()) > 0
    assert load_world(tmp_path / "run", MINIWOB).horizon == report.trusted == 0
    env = make(ID, env=MINIWOB, env_settings=SOLVED, model=str(tmp_path / "run"))
    real = make(MINIWOB, **SOLVED)
    name = f"{PAGES[0]}/1"
    assert env.reset(options={"task": name})[0] == real.reset(options={"task": name})[0]
    page, reward, over, _, info = env.step("click [1]")
    assert (reward, over, info["imagined"], info["score"]) == (0.0, True, True, 0.0)
    assert page.startswith("The world model")
    env.close()
    real.close()
