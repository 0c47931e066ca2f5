"""The gym: the contract of an environment, the registry, and one folder an environment family."""

from palaestra.envs.actions import Actions, Text
from palaestra.envs.builtin import register_all
from palaestra.envs.core import Fidelity, Info, Needs, Recorded, Reply, Snapshot, Task, TextEnv
from palaestra.envs.errors import BadInput, EnvFault, MissingExtra, PalaestraError, ReplayDiverged
from palaestra.envs.registry import EnvSpec, Oracle, find, imagines, make, register, specs

__all__ = [
    "Actions",
    "BadInput",
    "EnvFault",
    "EnvSpec",
    "Fidelity",
    "Info",
    "MissingExtra",
    "Needs",
    "Oracle",
    "PalaestraError",
    "Recorded",
    "ReplayDiverged",
    "Reply",
    "Snapshot",
    "Task",
    "Text",
    "TextEnv",
    "find",
    "imagines",
    "make",
    "register",
    "specs",
]

register_all()  # so that `import palaestra` is all that `gymnasium.make("palaestra/Bandit-v0")` needs
