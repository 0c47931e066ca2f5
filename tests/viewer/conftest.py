"""Runs to look at: real ones, of a tiny model that learns to press buttons, and stores with odd texts."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "trainers"))
sys.path.insert(0, str(Path(__file__).parent.parent / "agents"))
sys.path.insert(0, str(Path(__file__).parent.parent / "worldmodel"))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: `eef` and `agent-r` trained, `cmp` compared, `code`, `world` and `odd` (see `made`)."""
    import made
    from every_method import method
    from lamps import tiny

    folder = tmp_path_factory.mktemp("viewed")
    model = tiny(folder / ".model")
    method("eef", folder / "eef", model, iterations=1, evaluation={"tasks": 3}, budget=16).train()
    method("agent-r", folder / "agent-r", model, iterations=1, evaluation={"tasks": 3}).train()
    made.comparison(folder / "cmp", folder / "eef")
    made.odd(folder / "odd")
    made.hostile(folder / made.HOSTILE_RUN)
    made.code(folder / "code")
    made.world(folder / "world")
    return folder


@pytest.fixture(scope="session")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of 100,000 episodes: one through the store, then copies with other names, by SQL."""
    from store_cases import episode

    from palaestra.agents.store import EpisodeStore

    path = tmp_path_factory.mktemp("big") / "episodes.sqlite"
    with EpisodeStore(path) as store:
        store.add(episode())
    raw = sqlite3.connect(path)
    names = [row[1] for row in raw.execute("PRAGMA table_info(episodes)")]
    new = {
        "row": "n",
        "id": "'id' || n",
        "key": "'key' || n",
        "task": "'t' || (n % 997)",
        "name": "'boil/' || (n % 997)",
        "iteration": "n % 50",
    }
    picked = ", ".join(new.get(name, name) for name in names)
    counted = "WITH RECURSIVE counted (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM counted WHERE n < 100000)"
    raw.execute(f"INSERT INTO episodes {counted} SELECT {picked} FROM counted JOIN episodes ON row = 1")
    raw.execute(f"INSERT INTO bodies {counted} SELECT n, head, body FROM counted JOIN bodies ON row = 1")
    raw.commit()
    raw.close()
    return path.parent


@pytest.fixture(scope="session")
def ask(place: Path) -> Callable[..., Any]:
    """Asks the API of a server over `place` and gives the JSON; `status` is what is expected."""
    from starlette.testclient import TestClient

    from palaestra.viewer.runs import Runs
    from palaestra.viewer.server import application

    client = TestClient(application(Runs(place)), base_url="http://127.0.0.1")

    def get(what: str, status: int = 200, **parameters: object) -> Any:
        answer = client.get(f"/api/{what}", params=parameters)  # type: ignore[arg-type]
        assert answer.status_code == status, answer.text
        return answer.json()

    return get
