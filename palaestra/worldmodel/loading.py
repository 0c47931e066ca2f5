"""World models on disk: a model's folder with a card of what it imagines, and what was measured of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ConfigDict, Field

from palaestra.agents.policy import Policy, Sampling
from palaestra.envs import BadInput
from palaestra.trainers.rundir import read_record
from palaestra.worldmodel.fidelity import Fidelity
from palaestra.worldmodel.page import PageFormat
from palaestra.worldmodel.transitions import differing
from palaestra.worldmodel.world import LearnedWorld, World

if TYPE_CHECKING:
    from palaestra.agents.template import ChatTemplate

CARD = "world.json"
FIDELITY = "fidelity.json"

_LOADING = threading.Lock()


class WorldCard(BaseModel):
    """What a world model is; stands beside its weights.

    Attributes:
        env, env_settings, env_fingerprint: the environment that it imagines.
        page, max_tokens, temperature: how it is asked.
        judges: did it learn to judge.
        transitions: that it learnt from; tasks: ids of theirs, which it is never measured on.
        seed: tasks were set aside by it; held_out: and this share of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    env: str
    env_settings: dict[str, Any]
    env_fingerprint: str
    page: PageFormat
    max_tokens: int = Field(ge=1)
    temperature: float = Field(ge=0.0)
    judges: bool
    transitions: int
    tasks: tuple[str, ...]
    seed: int
    held_out: float


def load_world(
    folder: str | Path, env_id: str | None = None, settings: Mapping[str, Any] | None = None
) -> LearnedWorld:
    """A world model that was trained, with the horizon that it can be trusted for.

    Args:
        folder: a model's folder, or the run directory of `palaestra worldmodel train`.
        env_id, settings: it must imagine this environment, made with these.

    Raises:
        BadInput: no world model there, or one of another environment, or of other settings. MissingExtra: `train`.
    """
    place = world_folder(folder)
    card_of(place, env_id, settings)
    # written anew with new weights, and with a new measurement
    stamps = [file.stat().st_mtime_ns if file.is_file() else 0 for file in (place / CARD, place / FIDELITY)]
    with _LOADING:  # many episodes begin at once, each in a thread of its own, and loading weights is for one of them
        return _loaded(str(place.resolve()), *stamps)


def card_of(folder: str | Path, env_id: str | None, settings: Mapping[str, Any] | None = None) -> WorldCard:
    """What the world model in a folder is.

    Raises:
        BadInput: there is none, or one of another environment, or of other settings: under them a task may be another.
    """
    place = world_folder(folder)
    card = read_card(place)
    if env_id is not None and card.env != env_id:
        raise BadInput(f"{place} is a world model of {card.env}, not of {env_id}")
    if env_id is not None and settings is not None and (differ := differing(env_id, card.env_settings, settings)):
        raise BadInput(f"{place} is a world model of {env_id} with other settings ({differ}); make it with those")
    return card


def judging_card(folder: str | Path, env_id: str, settings: Mapping[str, Any]) -> WorldCard:
    """What the world model in a folder is, which is to judge others. Raises BadInput where it never learnt to."""
    card = card_of(folder, env_id, settings)
    if not card.judges:
        raise BadInput(f"{folder} never learnt to judge; name a world model that did (trained with judge=true)")
    return card


def world_folder(folder: str | Path) -> Path:
    """The model's folder of a run directory, or the folder itself. Raises BadInput for what cannot be a path."""
    place = Path(folder).expanduser()
    try:
        return place / "model" if not (place / CARD).is_file() and (place / "model" / CARD).is_file() else place
    except OSError as error:  # a name too long, a folder that may not be read
        raise BadInput(f"world model {str(folder)!r:.80}: {error.strerror}; name the folder of one") from error


def untrained_world(model: str, page: PageFormat, sampling: Sampling) -> LearnedWorld:
    """A model that was never trained to be a world, asked to be one: the control of all that training adds."""
    return LearnedWorld(model_policy(model, sampling), page)


def read_card(folder: Path) -> WorldCard:
    """What a world model is. Raises BadInput where there is none."""
    if not (folder / CARD).is_file():
        raise BadInput(f"{folder} holds no world model (no {CARD}); `palaestra worldmodel train` makes one")
    return read_record(folder / CARD, WorldCard)


def template_of(model: str) -> ChatTemplate:
    """The chat template of a model, without its weights in memory for longer."""
    found = model_policy(model, Sampling()).template
    assert found is not None
    return found


def trusted(world: World, asked: int | None) -> int:
    """How many steps to imagine: as many as asked for, else as many as the world model can be trusted for.

    Raises:
        BadInput: nobody measured it, or it cannot be trusted for a single step.
    """
    if asked is not None:
        return asked
    if world.horizon:
        return world.horizon
    why = (
        "has no measured horizon (see `palaestra worldmodel eval`)"
        if world.horizon is None
        else "cannot be trusted for a single step"
    )
    raise BadInput(f"world model {world.name} {why}; say how many steps to imagine")


@lru_cache(maxsize=2)
def _loaded(place: str, trained: int, measured: int) -> LearnedWorld:
    folder = Path(place)
    card = read_card(folder)
    report = read_record(folder / FIDELITY, Fidelity) if measured else None
    policy = model_policy(place, Sampling(temperature=card.temperature, max_tokens=card.max_tokens))
    return LearnedWorld(policy, card.page, horizon=report.trusted if report else None)


def model_policy(model: str, sampling: Sampling) -> Policy:
    """A model in this process as a policy. Raises BadInput for an unknown one. MissingExtra: `train`."""
    from palaestra.agents.models import need_train

    need_train()
    from palaestra.agents.policies.hf import HFPolicy

    return cast(Policy, HFPolicy(model, sampling=sampling))
