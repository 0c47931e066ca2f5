"""Which environments there are: `register`, `make`, `find`, and the entry-point group `palaestra.envs`.

Registering is one call and registers with Gymnasium too, so that `gymnasium.make("palaestra/Bandit-v0")` works.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata, util
from typing import Any, Literal, Protocol

import gymnasium

from palaestra.envs.core import Fidelity, Task, TextEnv
from palaestra.envs.errors import BadInput, MissingExtra

Oracle = Callable[[TextEnv[Any]], str]
"""Looks into a running environment (`env.state`, `env.history`) and says the next action. Keeps nothing itself."""


class Names(Protocol):
    """The task names of one split: a range, a list, or anything that iterates."""

    def __iter__(self) -> Any: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class EnvSpec:
    """What is known of an environment without making one.

    Attributes:
        id: `namespace/Name-v0`.
        entry_point: the TextEnv class, or "module:Class" so that nothing heavy is imported before it is used.
        splits: split name -> task names; the first one is the training split.
        instructions: what every agent is told first; empty means the class's docstring.
        max_steps: actions until an episode is truncated.
        extra: the extra of Palaestra that installs what it needs, if any.
        requires: modules that must be importable for it to be ready.
        oracles: name -> "module:function" or function; the first one is the default.
        family: the folder it belongs to ("bandit", "scienceworld"); the package's name for environments of users.
        summary: one line for `palaestra envs`.
        protocols: names of evaluation protocols that the setting `protocol=` understands.
        not_ready: says why it cannot run on this machine, or None; asked by `palaestra envs` and `doctor`.
        style: how answers are read where nobody says (`Conversation.style`): "text" where an action has several lines.
        answer_tokens: tokens that an answer may have where nobody says.
        imagined: a model makes up what happens there. Its episodes are marked `imagined` and never evaluated.
    """

    id: str
    entry_point: type[TextEnv[Any]] | str
    splits: Mapping[str, Names]
    instructions: str = ""
    max_steps: int | None = None
    extra: str | None = None
    requires: Sequence[str] = ()
    oracles: Mapping[str, Oracle | str] = field(default_factory=dict)
    family: str = ""
    summary: str = ""
    fidelity: Fidelity = Fidelity.EXACT
    protocols: Sequence[str] = ()
    not_ready: Callable[[], str | None] | str | None = None
    style: Literal["action", "react", "text"] = "action"
    answer_tokens: int = 64
    imagined: bool = False
    _tasks: dict[str, tuple[Task, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _names: dict[str, frozenset[str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def short(self) -> str:
        """Its name without namespace and version, in small letters."""
        return _short(self.id)

    def load(self) -> type[TextEnv[Any]]:
        """The class. Raises MissingExtra when a module that it needs is not installed."""
        for module in self.requires:
            if not _importable(module):
                raise MissingExtra(f"{self.id} needs the Python module {module!r}, which", self.extra or "all")
        loaded: type[TextEnv[Any]] = _load(self.entry_point)
        if not (isinstance(loaded, type) and issubclass(loaded, TextEnv)):
            raise BadInput(f"entry point {self.entry_point!r} of {self.id} is not a TextEnv class")
        return loaded

    def split(self, name: str) -> Sequence[Task]:
        """The tasks of a split. Raises BadInput for an unknown one."""
        if not isinstance(name, str) or name not in self.splits:
            raise BadInput(f"{self.id} has no split {name!r}; it has: {', '.join(self.splits)}")
        if name not in self._tasks:  # made once: `reset` asks for them every time
            self._tasks[name] = tuple(Task(env=self.id, name=str(task), split=name) for task in self.splits[name])
        return self._tasks[name]

    def lists(self, name: str, split: str) -> bool:
        """Is this the name of a task of that split."""
        names = self.splits.get(split, ())
        if isinstance(names, range):
            return name.isdecimal() and len(name) < 20 and str(int(name)) == name and int(name) in names
        if split not in self._names:
            self._names[split] = frozenset(map(str, names))
        return name in self._names[split]

    def oracle(self, name: str | None = None) -> Oracle:
        """An oracle by name, or the default one. Raises BadInput when there is none."""
        if not self.oracles:
            if self.imagined:  # a model knows no hidden state; what can be had is an episode that went well in it
                raise BadInput(
                    f"{self.id} has no oracle, since a model imagines it; have a policy play there (`palaestra collect "
                    "worldmodel`), `palaestra export` what the judge calls solved, and give that file as experts"
                )
            raise BadInput(f"{self.id} has no oracle; use --policy random or a model")
        chosen = name or next(iter(self.oracles))
        if chosen not in self.oracles:
            raise BadInput(f"{self.id} has no oracle {chosen!r}; it has: {', '.join(self.oracles)}")
        loaded: Oracle = _load(self.oracles[chosen])
        return loaded

    def why_not_ready(self) -> str | None:
        """Why this environment cannot run here, in one line; None if it can."""
        try:
            self.load()
        except (BadInput, ImportError) as error:
            return str(error)
        ask: Callable[[], str | None] | None = _load(self.not_ready) if self.not_ready is not None else None
        return ask() if ask else None


def _importable(module: str) -> bool:
    try:
        return util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package that `module` lies in
        return False


def _load(target: Any) -> Any:
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"cannot load {target!r}, which should be 'module:name': {error}") from error


_specs: dict[str, EnvSpec] = {}
_entry_points_loaded = False


def register(id: str, entry_point: type[TextEnv[Any]] | str, *, splits: Mapping[str, Names], **rest: Any) -> EnvSpec:
    """Make an environment known to Palaestra and to Gymnasium. `rest` are the other fields of `EnvSpec`.

    Raises:
        BadInput: the id is not of the form `namespace/Name-v0`, is taken by another entry point, or has no splits.
    """
    if not isinstance(id, str) or not re.fullmatch(r"[\w-]+/[\w.-]+-v\d+", id):  # what Gymnasium takes, too
        raise BadInput(f"environment id {id!r} is not of the form 'namespace/Name-v0'")
    namespace, name = id.split("/")
    if not splits:
        raise BadInput(f"{id} needs at least one split of tasks, for instance splits={{'train': range(100)}}")
    unknown = set(rest) - {name for name, known in EnvSpec.__dataclass_fields__.items() if known.init}
    if unknown:
        raise BadInput(f"register({id!r}): unknown field {sorted(unknown)[0]!r}")
    _check_cap(id, rest.get("max_steps"))
    for split, names in splits.items():
        if not hasattr(names, "__len__"):
            raise BadInput(
                f"register({id!r}): split {split!r} must be a range or a list of task names, not a generator"
            )
    if isinstance(entry_point, type):
        rest.setdefault("fidelity", entry_point.fidelity)
    rest.setdefault("family", namespace if namespace != "palaestra" else name.split("-v")[0].lower())
    spec = EnvSpec(id=id, entry_point=entry_point, splits=splits, **rest)
    known = _specs.get(id)
    if known is not None and _name_of(known.entry_point) != _name_of(entry_point):
        raise BadInput(f"environment {id} is already registered by {_name_of(known.entry_point)}")
    _specs[id] = spec
    if id not in gymnasium.registry:
        gymnasium.register(id=id, entry_point=partial(_create, id), disable_env_checker=False)
    return spec


def _name_of(entry_point: type | str) -> str:
    return entry_point if isinstance(entry_point, str) else f"{entry_point.__module__}:{entry_point.__qualname__}"


def specs() -> dict[str, EnvSpec]:
    """All registered environments by id: Palaestra's own, those registered by hand and those of entry points.

    Palaestra's own are registered by `import palaestra`, those of entry points when this is first called.
    """
    global _entry_points_loaded
    if not _entry_points_loaded:
        _entry_points_loaded = True
        for point in metadata.entry_points(group="palaestra.envs"):
            try:
                loaded = point.load()  # a module that registers when imported, or a function that registers
                if callable(loaded) and not isinstance(loaded, type):
                    loaded()
            except Exception as error:  # somebody else's package must not take all environments along
                text = f"{type(error).__name__}: {error}"
                warnings.warn(f"entry point {point.name} = {point.value} failed to load: {text}", stacklevel=2)
    return dict(sorted(_specs.items()))


def imagines(id: str) -> bool:
    """Is this the id of an environment in which a model makes up what happens. An unknown one is not."""
    known = _specs.get(id)
    return known is not None and known.imagined


def find(name: str) -> EnvSpec:
    """An environment by id, by its name without namespace and version (`humaneval`), or with its family in front
    (`code/humaneval`), in any case.

    Raises:
        BadInput: unknown or ambiguous, with the nearest names; or no text at all.
    """
    if not isinstance(name, str):
        raise BadInput(f"an environment is named by a text such as 'bandit', not by {name!r:.80}; see `palaestra envs`")
    known = specs()
    if name in known:
        return known[name]
    hits = [spec for id, spec in known.items() if name.lower() in _names(spec, id)]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise BadInput(f"environment {name!r} is ambiguous: {', '.join(spec.id for spec in hits)}")
    near = difflib.get_close_matches(name.lower(), [_short(id) for id in known], n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise BadInput(f"unknown environment {name!r}; {hint}`palaestra envs` lists all {len(known)}")


def _names(spec: EnvSpec, id: str) -> set[str]:
    family = spec.family.lower()
    return {_short(id), family, f"{family}/{_short(id)}", id.lower()}


def _short(id: str) -> str:
    return id.split("/", 1)[1].rsplit("-v", 1)[0].lower()


def make(name: str, **settings: Any) -> TextEnv[Any]:
    """Make an environment by id or short name, without Gymnasium's wrappers.

    Args:
        settings: keyword arguments of the environment's class, and `max_steps`.

    Raises:
        BadInput: unknown environment or setting. MissingExtra: something is not installed.
    """
    return _create(find(name).id, **settings)


def _check_cap(id: str, max_steps: object) -> None:
    if max_steps is None or (isinstance(max_steps, int) and not isinstance(max_steps, bool) and max_steps >= 1):
        return
    raise BadInput(f"{id}: max_steps must be at least 1 and a whole number, got {max_steps!r}")


def _create(id: str, *, max_steps: int | None = None, render_mode: str | None = None, **settings: Any) -> TextEnv[Any]:
    if render_mode not in (None, "ansi"):
        raise BadInput(f"{id} cannot render as {render_mode!r}; the only mode is 'ansi'")
    spec = find(id)
    cls = spec.load()
    parameters = inspect.signature(cls).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = [key for key in settings if key not in parameters and not open_ended]
    if unknown:
        names = ", ".join([*parameters, "max_steps"])
        raise BadInput(f"{id} has no setting {unknown[0]!r}; it has: {names}")
    _check_cap(id, max_steps)
    env = cls(**settings)
    env.registration = spec
    env.max_steps = max_steps if max_steps is not None else (env.max_steps or spec.max_steps)
    env.settings = settings if max_steps is None else {**settings, "max_steps": max_steps}
    return env
