"""What an instance in another process or on another machine is made of, and how its errors come back."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import cloudpickle

from palaestra.agents.instance import Instance
from palaestra.agents.policy import Policy
from palaestra.envs import BadInput, EnvFault, TextEnv, find, make
from palaestra.envs.source import Source


@dataclass(frozen=True)
class Making:
    """All that is needed to make an instance elsewhere. Picklable.

    Attributes:
        env_id: id of the environment.
        settings: keyword arguments of `palaestra.make`.
        source: where the environment's class is found; None where `factory` makes it.
        factory: pickled: makes an instance from an environment's id.
        policy: pickled: a policy that looks inside.
        paths: where this process looks for modules, for what is installed nowhere.
    """

    env_id: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: Source | None = None
    factory: bytes | None = None
    policy: bytes | None = None
    paths: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        env_id: str,
        settings: Mapping[str, Any],
        factory: Callable[[str], TextEnv[Any]] | None,
        policy: Policy | None,
    ) -> Making:
        """Describe it.

        Args:
            policy: one that looks inside, or None.

        Raises:
            BadInput: the environment is unknown, or something cannot be pickled.
        """
        source = Source.of(find(env_id)) if factory is None else None
        made, inside = (None if each is None else pickled(each, env_id) for each in (factory, policy))
        return cls(env_id, dict(settings), source, made, inside, tuple(sys.path))

    def instance(self) -> Instance:
        """Make it, here."""
        policy: Policy | None = pickle.loads(self.policy) if self.policy is not None else None
        return Instance(self._create, policy)

    def _create(self) -> TextEnv[Any]:
        if self.factory is not None:
            return cast("TextEnv[Any]", pickle.loads(self.factory)(self.env_id))
        if self.source is not None:
            self.source.load()
        return make(self.env_id, **self.settings)


def also_look_in(paths: Iterable[str]) -> None:
    """Look for modules where another process does, too, as far as there are such folders here."""
    sys.path += [path for path in paths if path not in sys.path and Path(path).exists()]


def pickled(thing: object, what: str) -> bytes:
    """Something as it travels to another process. Raises BadInput, which says of what it was a part."""
    try:
        raw: bytes = cloudpickle.dumps(thing)
    except Exception as error:  # whatever an object raises that does not want to be pickled
        raise BadInput(f"{what} cannot be taken to another process: {type(error).__name__}: {error}") from error
    return raw


def portable(error: BaseException) -> BaseException:
    """The error itself if it survives pickling; else one that says the same."""
    if isinstance(error, BadInput):
        return BadInput(str(error))
    try:
        again = pickle.loads(pickle.dumps(error))
    except Exception:  # an error of whatever kind, from whatever library
        again = None
    return error if type(again) is type(error) else EnvFault(f"{type(error).__name__}: {error}")
