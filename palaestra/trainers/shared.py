"""What runs that are compared have in common is made once: episodes of one key, and fits of one datum for another.

Contestants under one seed begin alike: the start model on held-out tasks, the cloned experts, the first rollouts of a
method and of its controls. An episode follows from its key and what `common_of` lists, and a fit from its data,
objective, seed and start weights; so a run may take what another one made, and none ends otherwise than alone (but for
what an episode's neighbours in a batch change by rounding, see `HFPolicy`). Spliced episodes are never shared: their
keys say how long they are, not what they say.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from palaestra.agents.episode import Actor, Episode, episode_id
from palaestra.agents.models import filling, read_card, version_of, write_card
from palaestra.agents.packing import pack, to_column
from palaestra.agents.store import EpisodeStore
from palaestra.trainers.config import RecipeConfig
from palaestra.trainers.objective import CrossEntropy, FitReport, Objective, Progress, fit
from palaestra.trainers.rundir import read_record, write_whole
from palaestra.trainers.sample import Sample

_ACTORS = (Actor.POLICY, Actor.EXPERT)
_HOW = ("env", "env_settings", "protocol", "conversation", "sampling", "constrain", "engine", "experts", "seed")


def common_of(config: RecipeConfig, more: Collection[str] = ()) -> str:
    """What decides, beside its key, how an episode comes to be: runs that agree in it may share episodes.

    Args:
        more: further keys of a method's configuration that do.
    """
    whole = config.model_dump(mode="json")
    how = {name: whole[name] for name in (*_HOW, *more)}
    return _digest({**how, "temperature": config.evaluation.temperature})


class SharedStore(EpisodeStore):
    """A run's store beside a common one: it takes from there what it is asked for, and gives what is made.

    Args:
        path: the run's file. common: the file of all; whoever closes this store closes both.
    """

    def __init__(self, path: Path, common: Path) -> None:
        super().__init__(path)
        self._common = EpisodeStore(common)

    def has(self, key: str) -> bool:
        return super().has(key) or self._take(key)

    def add(self, episode: Episode, kept: Mapping[int, bytes] | None = None) -> bool:
        if episode.provenance.actor not in _ACTORS or episode.outcome.is_fault or not self._rooted(episode):
            return super().add(episode, kept)
        if super().has(episode.key):
            return False
        # Into the common one first: of two runs that made the same, both go on with the one that was stored.
        self._common.add(episode, kept)
        return self._take(episode.key)

    def close(self) -> None:
        super().close()
        self._common.close()

    def _rooted(self, episode: Episode) -> bool:
        """Does it begin at a task, or inside an episode that is common."""
        parent = episode.start.parent
        return parent is None or bool(self._common._query("SELECT 1 FROM episodes WHERE id = ?", (to_column(parent),)))

    def _take(self, key: str) -> bool:
        if not self._common.has(key):
            return False
        id = episode_id(key)
        episode, kept = self._common.get(id), self._common.kept_block(id)
        with self._transaction() as connection:
            if self._add(connection, episode, pack(episode)) and kept is not None:
                self._keep(connection, id, kept)
        return True


def fit_once(
    common: Path | None,
    model: str | Path,
    data: Sequence[BaseModel],
    objective: Objective,
    out: Path,
    *,
    seed: int,
    splits: Collection[str],
    name: str,
    progress: Progress | None = None,
) -> FitReport:
    """As `fit`, or a copy of a fit that another run made of the same samples. Only cross-entropy fits are kept.

    Args:
        common: folder of the kept fits; None keeps none.
    """
    if common is None or not isinstance(objective, CrossEntropy) or not all(type(datum) is Sample for datum in data):
        return fit(model, data, objective, out, seed=seed, splits=splits, name=name, progress=progress)
    said = [[datum.ids, datum.weights] for datum in data if isinstance(datum, Sample)]
    start = version_of(model) if Path(model).is_dir() else str(model)
    kept = common / _digest([start, objective.model_dump(mode="json"), seed, os.environ.get("OMP_NUM_THREADS"), said])
    if not (kept / "report.json").is_file():
        report = fit(model, data, objective, out, seed=seed, splits=splits, name=name, progress=progress)
        shutil.rmtree(kept, ignore_errors=True)
        _copied(out, kept / "model")
        write_whole(kept / "report.json", report.model_dump_json().encode())
        return report
    _copied(kept / "model", out)
    write_card(out, {**read_card(out), "name": name})
    return read_record(kept / "report.json", FitReport)


def _copied(model: Path, to: Path) -> None:
    """A copy of a model folder that is whole or not there."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with filling(to) as part:
        shutil.copytree(model, part, dirs_exist_ok=True)


def _digest(what: object) -> str:
    return hashlib.blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=12).hexdigest()
