"""The warm ScienceWorld engines of this process; see `palaestra.envs.jvm_pool`."""

from __future__ import annotations

from palaestra.envs.jvm_pool import LOADS, Pool, most_idle
from palaestra.envs.scienceworld.engine import Engine

__all__ = ["LOADS", "borrow", "close_all", "give_back", "most_idle"]

_pool = Pool("ScienceWorld", Engine)
borrow, give_back, close_all = _pool.borrow, _pool.give_back, _pool.close_all
