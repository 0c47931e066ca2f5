"""Where an environment's code comes from: files and modules of users, and how another process finds them again."""

from __future__ import annotations

import importlib
import os
import re
import sys
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

from palaestra.envs.core import TextEnv
from palaestra.envs.errors import BadInput
from palaestra.envs.registry import EnvSpec, register, specs


def load(reference: str) -> None:
    """Import a file (`path/to/guess.py`) or a module (`my_envs.guess`), so that what it registers is known.

    A file is imported under its stem (or, if that name is taken, under one made of its whole path), so that its
    classes can be pickled.

    Raises:
        BadInput: there is no such file or module, or it fails to import.
    """
    try:
        if reference.endswith(".py") or os.sep in reference:
            path = Path(reference).resolve()
            if not path.is_file():
                raise BadInput(f"there is no file {reference}")
            _import_file(_name_for(path), str(path))
        else:
            importlib.import_module(reference)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"cannot import {reference}: {type(error).__name__}: {error}") from error


def _name_for(path: Path) -> str:
    known = sys.modules.get(path.stem)
    if path.stem.isidentifier() and (getattr(known, "__file__", None) == str(path) or (known is None and _free(path))):
        return path.stem
    return re.sub(r"\W", "_", str(path.with_suffix("")))


def _free(path: Path) -> bool:
    """Is its stem no other module's name. Python may find the file itself, as in the current directory."""
    found = util.find_spec(path.stem)
    return found is None or found.origin == str(path)


def _import_file(name: str, file: str) -> None:
    if name in sys.modules:
        return
    spec = util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise BadInput(f"{file} is not a Python file")
    module = util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


@dataclass(frozen=True)
class Source:
    """All that another process needs to have the same environment. Picklable, unlike the spec itself.

    Attributes:
        env: the environment's id.
        module, qualname, file: its class and where that is defined.
        splits, max_steps, instructions: of its spec, in case importing the module does not register it.
        further: a file or module to import besides, such as that of another environment which it needs.
    """

    env: str
    module: str
    qualname: str
    file: str | None
    splits: tuple[str, ...]
    max_steps: int | None
    instructions: str
    further: str | None = None

    @classmethod
    def of(cls, spec: EnvSpec, further: str | None = None) -> Source:
        """Raises BadInput for a class that is defined inside a function: no other process can find it."""
        loaded: type[TextEnv[Any]] = spec.load()
        if "<locals>" in loaded.__qualname__:
            raise BadInput(
                f"{spec.id}: class {loaded.__qualname__} is defined inside a function; move it to its module"
            )
        file = getattr(sys.modules.get(loaded.__module__), "__file__", None)
        return cls(
            spec.id,
            loaded.__module__,
            loaded.__qualname__,
            file,
            tuple(spec.splits),
            spec.max_steps,
            spec.instructions,
            further,
        )

    def load(self) -> None:
        """Make the environment known in this process. Raises BadInput or ImportError when its code cannot be found."""
        if self.module not in sys.modules and self.file is not None and not self._importable():
            _import_file(self.module, self.file)
        module = importlib.import_module(self.module)
        if self.env not in specs():
            entry_point: Any = module
            for part in self.qualname.split("."):
                entry_point = getattr(entry_point, part)
            nothing: tuple[str, ...] = ()
            register(
                self.env,
                entry_point,
                splits=dict.fromkeys(self.splits, nothing),
                max_steps=self.max_steps,
                instructions=self.instructions,
            )
        if self.further is not None:
            load(self.further)

    def _importable(self) -> bool:
        try:
            found = util.find_spec(self.module)
        except ModuleNotFoundError:
            return False
        return found is not None and found.origin == self.file
