"""The texts of one game, wherever they come from: a release's archive, its folders, or a generator."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from palaestra.envs.errors import BadInput


@dataclass(frozen=True)
class GameFile:
    """The texts of one game.

    Attributes:
        where: what the game is called in messages: its folder, or what generated it.
        domain, grammar, problem: the texts of `game.tw-pddl`.
        task_type: such as `pick_heat_then_place_in_recep`.
        params: `pddl_params` of `traj_data.json`: `object_target`, `parent_target`, `toggle_target`, `mrecep_target`.
    """

    where: str
    domain: str
    grammar: str
    problem: str
    task_type: str
    params: Mapping[str, str]

    @classmethod
    def read(cls, where: str, game: str, task: str) -> GameFile:
        """A game of the texts of its two files.

        Raises:
            BadInput: one of them is no JSON or lacks something; one line with file and line.
        """
        told, described = _object(f"{where}/game.tw-pddl", game), _object(f"{where}/traj_data.json", task)
        texts: list[str] = []
        for key in ("pddl_domain", "grammar", "pddl_problem"):
            text = told.get(key)
            if not isinstance(text, str):
                raise BadInput(f"{where}/game.tw-pddl line 1: the text {key!r} is missing")
            texts.append(text)
        kind, params = described.get("task_type"), described.get("pddl_params")
        if not isinstance(kind, str) or not isinstance(params, dict):
            raise BadInput(f"{where}/traj_data.json line 1: 'task_type' or 'pddl_params' is missing")
        domain, grammar, problem = texts
        return cls(where, domain, grammar, problem, kind, {str(key): str(params[key]) for key in params})

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits: games with the same digest play the same."""
        whole = "\0".join((self.domain, self.grammar, self.problem))
        return hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _object(where: str, text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"{where} line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise BadInput(f"{where} line 1: nested too deeply") from None
    except ValueError:  # Python turns no more than some thousand digits into a number
        raise BadInput(f"{where} line 1: a number has too many digits") from None
    if not isinstance(found, dict):
        raise BadInput(f"{where} line 1: a JSON object expected")
    return found
