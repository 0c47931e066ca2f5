"""Coding in many turns, in a sandbox: HumanEval, MBPP, tasks of our own, folders of tasks, tasks in a shell.

`env.py` plays them, `actions.py` reads what the agent writes, `judge.py` decides with hidden tests (what runs in the
sandbox for that is in `inside/`), `sets.py` names the environments, `folder.py` reads folders of tasks.
"""

from __future__ import annotations

from palaestra.envs.code import humaneval, mbpp
from palaestra.envs.registry import register

TASKS = {
    "train": ("bounded-cache", "mend-average", "run-length", "sales-report", "seat-rows", "stack-machine"),
    "test": ("line-wrap", "log-tool", "mend-search", "split-bill", "two-modules", "word-ladder"),
}
"""Names of the package's own programming tasks by split, as the files say."""

SHELL_TASKS = {
    "train": ("count-errors", "rename-photos", "sort-by-size"),
    "test": ("find-duplicate", "join-tables", "mend-script"),
}

_SETS = "palaestra.envs.code.sets"


def register_all() -> None:
    """Register the family. Reads no data and starts no sandbox."""
    ready = "palaestra.envs.code.ready"
    for name, splits, steps, summary in (
        ("HumanEval", {"test": humaneval.NAMES}, 12, "164 Python functions to complete; hidden tests decide"),
        ("MBPP", mbpp.splits(False), 12, "974 short Python functions from a sentence; three asserts decide"),
        ("MBPPSanitized", mbpp.splits(True), 12, "the 427 problems of MBPP that were checked by hand"),
        ("CodeTasks", TASKS, 20, "small programming tasks of our own, or a folder of yours (folder=)"),
        ("Shell", SHELL_TASKS, 20, "tasks in a shell, decided by a check script; or a folder of yours (folder=)"),
    ):
        register(
            f"palaestra/{name}-v0",
            f"{_SETS}:{name}",
            splits=splits,
            max_steps=steps,
            oracles={"canonical": "palaestra.envs.code.oracle:canonical"},
            family="code",
            summary=summary,
            protocols=() if name == "Shell" else ("single",),
            not_ready=f"{ready}:{name.lower()}",
            style="text",
            answer_tokens=512,
        )
