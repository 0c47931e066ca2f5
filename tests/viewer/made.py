"""Runs to look at, made by the real things: methods that train a tiny model, a sandbox, a world model that errs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "trainers"))
sys.path.insert(0, str(Path(__file__).parent.parent / "agents"))
sys.path.insert(0, str(Path(__file__).parent.parent / "worldmodel"))

from odd_texts import HOSTILE, HUGE, STEERING
from store_cases import episode, task

from palaestra.agents.collect import collect
from palaestra.agents.episode import Actor, Outcome, Start
from palaestra.agents.policies.scripted import ScriptedPolicy
from palaestra.agents.store import EpisodeStore
from palaestra.envs import Task
from palaestra.trainers.comparison import Bin, Standing, write
from palaestra.trainers.statistics import Interval

DOUBLE = """
statement = "Write double(n) in solution.py."
split = "train"
entry = "double"
visible = "assert double(2) == 4"
tests = "assert double(-3) == -6"
[files]
"notes.txt" = "two lines\\nof notes\\n"
"""
HOSTILE_RUN = "<img src=x onerror=document.title='owned'>"
HOSTILE_NAME = "<img src=x onerror=document.title='owned'>.py"
WRONG = "write solution.py\n```\ndef double(n):\n    return n\n```\ntest"
RIGHT = "write solution.py\n```\ndef double(n):\n    return 2 * n\n```\nsubmit"
CODE = (
    WRONG,
    f'run rm notes.txt; ln -s solution.py link; printf "{"x" * 30}\\0" > odd.bin; echo 1 > "{HOSTILE_NAME}"',
    RIGHT,
)


def odd(folder: Path) -> None:
    """A store with hostile texts, a huge one, a fork, a fault."""
    with EpisodeStore(folder / "episodes.sqlite") as store:
        root = episode(n=3)
        first = root.turns[0].model_copy(update={"observation": HOSTILE, "thought": HOSTILE, "completion": HOSTILE})
        second = root.turns[1].model_copy(update={"observation": HUGE})
        third = root.turns[2].model_copy(update={"observation": STEERING})
        root = root.model_copy(update={"turns": (first, second, third)})
        branch = episode(root.fork(1), n=3, says="b", outcome=Outcome.SUCCESS, score=1.0, actor="expert")
        store.add_all([root, branch, episode(sample=1, outcome=Outcome.ENV_ERROR, error=f"Traceback\n{HOSTILE}")])


def hostile(folder: Path) -> None:
    """A store in which all that can be chosen is hostile: the task's name, the policy's, the method's."""
    with EpisodeStore(folder / "episodes.sqlite") as store:
        store.add(episode(task(HOSTILE), policy=HOSTILE, recipe=HOSTILE, env_settings={"a": HOSTILE}))


def code(folder: Path) -> None:
    """A store of a code task: an expert who first errs, and a fork that leaves before the mistake is mended."""
    tasks = folder.parent / ".tasks"
    tasks.mkdir()
    (tasks / "double.toml").write_text(DOUBLE)
    where = Task(env="palaestra/CodeTasks-v0", name="double", split="train")

    def acting(actions: tuple[str, ...], name: str, first: int = 0) -> ScriptedPolicy:
        return ScriptedPolicy(lambda request: actions[len(request.env.history) - first], name=name, actor=Actor.EXPERT)

    how: dict[str, Any] = {"env_settings": {"folder": str(tasks)}, "progress": "quiet"}
    with EpisodeStore(folder / "episodes.sqlite") as store:
        collect([where], acting(CODE, "coder"), store, **how)
        (parent,) = store.episodes()
        collect([parent.fork(1)], acting(("run echo later > later.txt", "submit"), "forked", 1), store, **how)


def world(folder: Path) -> None:
    """A run with real and imagined episodes of rooms, and a world model that is wrong about the room in the middle."""
    import rooms

    from palaestra.agents.conversation import Conversation
    from palaestra.envs import make
    from palaestra.worldmodel.compared import PAGES, Compared, packed
    from palaestra.worldmodel.env import ID, WorldModelEnv
    from palaestra.worldmodel.fidelity import fidelity
    from palaestra.worldmodel.judging import ModelJudge
    from palaestra.worldmodel.page import PageFormat
    from palaestra.worldmodel.transitions import transitions_of
    from palaestra.worldmodel.world import LearnedWorld

    form = PageFormat(actions=3)
    errs = rooms.Writes(lambda prompt: rooms.true_page(prompt).replace("in room 2.", "in a dark cellar."), "cellars")
    imagining = LearnedWorld(errs, form, judge=ModelJudge(rooms.Writes(rooms.true_worth)))
    tasks = [rooms.task(pair) for pair in ("0-4", "1-3", "4-2")]
    walk = ScriptedPolicy(["right", "right", "fly", "left", "leave"], name="walk")
    pages: list[Compared] = []
    with EpisodeStore(folder / "episodes.sqlite") as store:
        collect(tasks, walk, store, progress="quiet")
        real = [transitions_of(path, make("toy/Rooms-v0"), form) for path in store.paths()]
        told = {each.id: rooms.Rooms.__doc__ or "" for each in tasks}
        report = fidelity(imagining, real, told, env="toy/Rooms-v0", origins=9, told=pages.append)
        collect(
            [Start(task=each.model_copy(update={"env": ID})) for each in tasks],
            walk,
            store,
            progress="quiet",
            conversation=Conversation(),
            env_factory=lambda _: WorldModelEnv.of(imagining, "toy/Rooms-v0"),
        )
    (folder / PAGES).write_bytes(packed(pages))
    (folder / "fidelity.json").write_text(report.model_dump_json())


def comparison(folder: Path, run: Path) -> None:
    """What `palaestra compare` leaves: its table, and a run of each method and seed (here the same one twice)."""
    for name in ("eef-0", "rft-0"):
        shutil.copytree(run, folder / name, ignore=shutil.ignore_patterns("model", "*.sqlite-*"))
    write(folder, [standing("rft", 0.4), standing("eef", 0.6, Interval(mean=0.2, low=0.05, high=0.35, clusters=3))])


def standing(method: str, mean: float, against: Interval | None = None) -> Standing:
    success = Interval(mean=mean, low=mean - 0.2, high=mean + 0.15, clusters=24)
    bins = tuple(Bin(name=name, success=success) for name in ("never", "sometimes"))
    return Standing(
        method=method,
        what=f"the method {method}",
        success=success,
        score=success,
        against=against,
        recovery=success,
        bins=bins,
        seeds=2,
        rollouts=16,
        seen_tokens=54321,
        trained_tokens=12345,
        model_calls=99,
    )
