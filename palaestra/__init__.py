"""Palaestra: a gym and a trainer for language agents.

    import palaestra
    env = palaestra.make("bandit")
    observation, info = env.reset(seed=0)

The rooms: `palaestra.envs` (the gym), `palaestra.agents` (episodes, policies, the collector), `palaestra.trainers`
(methods, evaluation). Importing this package needs neither torch nor Java.
"""

from palaestra.envs import (
    BadInput,
    EnvSpec,
    Fidelity,
    ReplayDiverged,
    Reply,
    Snapshot,
    Task,
    TextEnv,
    find,
    make,
    register,
    specs,
)

__version__ = "0.1.0"

__all__ = [
    "BadInput",
    "EnvSpec",
    "Fidelity",
    "ReplayDiverged",
    "Reply",
    "Snapshot",
    "Task",
    "TextEnv",
    "find",
    "make",
    "register",
    "specs",
]
