"""The child process in which the original ALFWorld engine runs: a program, never imported by Palaestra.

It reads one JSON request a line from standard input and answers with one JSON line; it ends when its input ends, which
is also what happens when its parent dies. The original leaks some 2 MB a reset, keeps its state in a C library and is
not thread-safe; in a process of its own it can be given up and started again.

    {"begin": {"pddl_domain": ..., "grammar": ..., "pddl_problem": ...}}   -> an answer
    {"begin": null}                                                       -> an answer: the same game from its start
    {"act": "go to desk 1"}                                               -> an answer
    an answer: {"text", "admissible", "won", "valid", "score", "done"} or {"error": ...}

Before its first request it writes {"versions": {...}} or {"missing": "name of the module"}.

Started with `python -P`, so that this folder is not searched for modules.
"""

import importlib
import json
import os
import sys
from importlib import metadata
from typing import Any


def start_game(texts: dict[str, str]) -> Any:
    """The original's environment for one game, with the names that ALFWorld shows (`apple 1` instead of ids)."""
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld.envs.pddl import PddlEnv

    env = AlfredDemangler()(PddlEnv(textworld.EnvInfos(won=True, admissible_commands=True)))
    env.load(texts)
    return env


def answer_of(state: Any, valid: bool) -> dict[str, Any]:
    """What the original says, as it says it: score and done are unset until the first step."""
    return {
        "text": state.feedback,
        "admissible": list(state["admissible_commands"]),
        "won": bool(state["won"]),
        "valid": valid,
        "score": state.get("score"),
        "done": state.get("done"),
    }


class Referee:
    """One running game of the original."""

    def __init__(self) -> None:
        self.env: Any = None

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        if "begin" in request:
            if request["begin"] is not None:
                self.env = start_game(request["begin"])
            return answer_of(self.env.reset(), True)
        state, _, _ = self.env.step(request["act"])
        return answer_of(state, state["_last_action"] is not None)


def main() -> None:
    # The original and its libraries print; what they print must not mix with the answers.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        out.write(json.dumps(answer) + "\n")
        out.flush()

    try:
        for module in ("alfworld.agents.environment.alfred_tw_env", "textworld.envs.pddl.logic"):
            importlib.import_module(module)  # the second one needs the planner
    except ImportError as error:
        say({"missing": error.name or str(error)})
        return
    say({"versions": {name: metadata.version(name) for name in ("alfworld", "textworld", "fast-downward-textworld")}})
    referee = Referee()
    for line in sys.stdin:
        try:
            say(referee.handle(json.loads(line)))
        except Exception as error:  # whatever the original raises is the answer
            say(
                {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"}
            )


if __name__ == "__main__":
    main()
