"""The JSON that the pages ask for. Every answer is read from the runs; nothing is ever written."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from palaestra.agents.episode import Path
from palaestra.agents.selection import Where
from palaestra.envs.errors import BadInput
from palaestra.viewer import branches, files, paths
from palaestra.viewer.figures import Figures, has_worlds
from palaestra.viewer.forest import forest
from palaestra.viewer.imagined import Worlds
from palaestra.viewer.runs import Runs
from palaestra.viewer.splices import splice_of
from palaestra.viewer.table import Shown
from palaestra.viewer.tokens import Samples

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_FILTERS = ("env", "task", "split", "outcome", "actor", "policy", "recipe")
_LARGEST = 2**53

Answer = Callable[["Asked"], object]


class Asked:
    """The parameters of a request, each checked when it is taken. Raises BadInput."""

    def __init__(self, request: Request) -> None:
        self._query = request.query_params

    def text(self, name: str, default: str | None = None) -> str:
        value = self._query.get(name, default)
        if value is None:
            raise BadInput(f"the parameter {name!r} is missing")
        return value

    def texts(self, name: str) -> list[str]:
        return [value for value in self._query.getlist(name) if value]

    def number(self, name: str, default: int | None = None) -> int:
        written = self.text(name, None if default is None else str(default))
        try:
            value = int(written[:20])
        except ValueError:
            raise BadInput(f"the parameter {name!r} must be a whole number, not {written[:40]!r}") from None
        if not -_LARGEST <= value <= _LARGEST:
            raise BadInput(f"the parameter {name!r} is out of range")
        return value


class Api:
    """Answers to what the pages ask. Methods give what JSON can hold and raise BadInput with one line."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self.figures = Figures(runs)
        self.samples = Samples(runs)
        self.worlds = Worlds(runs)
        self.answers: dict[str, Answer] = {
            "runs": lambda asked: {"place": str(runs.place), "runs": runs.listed()},
            "run": lambda asked: self.figures.run(asked.text("run")),
            "tabs": self.tabs,
            "episodes": self.episodes,
            "choices": lambda asked: self.store(asked).choices(),
            "tasks": self.tasks,
            "episode": self.episode,
            "text": lambda asked: paths.whole(
                self.path(asked), asked.number("step"), asked.text("field"), asked.number("from", 0)
            ),
            "files": lambda asked: files.directory(self.store(asked), self.path(asked), asked.number("step")),
            "file": lambda asked: files.content(
                self.store(asked), self.path(asked), asked.number("step"), asked.text("path"), asked.number("from", 0)
            ),
            "forest": lambda asked: forest(
                self.store(asked), asked.text("id"), self.figures.splices(asked.text("run"))
            ),
            "branches": lambda asked: branches.branches(self.store(asked), asked.text("a"), asked.text("b")),
            "beside": lambda asked: branches.beside(self.store(asked), asked.text("id")),
            "faults": self.faults,
            "samples": lambda asked: self.samples.page(
                asked.text("run"), asked.number("iteration"), asked.number("from", 0), asked.number("count", 100)
            ),
            "sample": lambda asked: self.samples.sample(
                asked.text("run"), asked.number("iteration"), asked.number("number")
            ),
            "worlds": lambda asked: {
                "worlds": self.worlds.listed(asked.text("run")),
                "synthesis": self.worlds.synthesis(asked.text("run")),
            },
            "pages": lambda asked: self.worlds.page(
                asked.text("run"),
                asked.text("world"),
                asked.text("order", "place"),
                asked.number("from", 0),
                asked.number("count", 100),
            ),
            "page": lambda asked: self.worlds.one(asked.text("run"), asked.text("world"), asked.number("number")),
        }

    def store(self, asked: Asked) -> Shown:
        """The store of the run that is asked about."""
        return self.runs.store(asked.text("run"))

    def path(self, asked: Asked) -> Path:
        """The path of the episode, or of the fault, that is asked about."""
        store = self.store(asked)
        if number := asked.number("fault", 0):
            found = store.broken(number, 1)
            if not found or found[0][0] != number:
                raise BadInput(f"there is no fault {number}")
            broken = found[0][1]
            before: tuple[Any, ...] = ()
            if broken.start.parent is not None:
                earlier = store.trail(broken.start.parent)
                before = tuple(zip(earlier.turns, earlier.origins, strict=True))[: broken.start.fork_step]
            turns = (*(turn for turn, _ in before), *broken.turns)
            origins = (*(origin for _, origin in before), *[broken.id] * len(broken.turns))
            return Path(episode=broken, turns=turns, origins=origins)
        return store.trail(asked.text("id"))

    def tabs(self, asked: Asked) -> object:
        """What of a run there is to look at."""
        name = asked.text("run")
        folder, line = self.runs.folder(name), self.runs.line(name, None)
        about = {key: line.get(key) for key in ("title", "episodes", "faults", "comparison")}
        return {**about, "sampled": self.figures.sampled(name), "worlds": has_worlds(folder)}

    def tasks(self, asked: Asked) -> object:
        """A page of the tasks."""
        rows, total = self.store(asked).tasks(
            asked.text("order", "name"), asked.number("from", 0), asked.number("count", 100)
        )
        return {"rows": [asdict(each) for each in rows], "total": total}

    def episode(self, asked: Asked) -> object:
        """An episode, or a fault, turn by turn."""
        path, first, count = self.path(asked), max(0, asked.number("from", 0)), asked.number("count", paths.TURNS)
        store, broken = self.store(asked), bool(asked.number("fault", 0))
        # nothing is kept of a fault's own turns, and its path's owner is not in the store
        marks = [] if broken else files.marks(store, path, first, min(count, paths.TURNS))
        found = paths.episode(path, first, count, marks if any(marks) else ())
        found["splice"] = splice_of(path.episode.id, self.figures.splices(asked.text("run")))
        found["imagines"] = not broken and store.imagines()
        return found

    def episodes(self, asked: Asked) -> object:
        """A page of the table."""
        where: dict[str, object] = {name: values for name in _FILTERS if (values := asked.texts(name))}
        if "task" in where:
            where["task"] = asked.text("task")
        if asked.texts("iteration"):
            where["iteration"] = asked.number("iteration")
        upto = asked.number("upto", -1)
        page = self.store(asked).page(
            cast(Where, where),
            asked.text("order", "-added"),
            asked.number("from", 0),
            asked.number("count", 100),
            None if upto < 0 else upto,
        )
        rows = [asdict(each) | {"key": None} for each in page.rows]
        return {"rows": rows, "total": page.total, "upto": page.upto, "last": self.store(asked).last()}

    def faults(self, asked: Asked) -> object:
        """A page of the faults."""
        store = self.store(asked)
        found = store.broken(max(1, asked.number("from", 1)), max(1, min(500, asked.number("count", 100))))
        return {"total": store.n_faults, "rows": [paths.fault(number, broken) for number, broken in found]}

    # -- over HTTP ---------------------------------------------------------------------------------------------------

    def respond(self, request: Request) -> Response:
        """The answer to one question: 404 with one line where there is none."""
        from starlette.responses import Response

        name = request.path_params["what"]
        try:
            if name not in self.answers:
                raise BadInput(f"there is nothing called {name!r}")
            status, found = 200, self.answers[name](Asked(request))
        except BadInput as error:
            status, found = 404, {"error": " ".join(str(error).split())}
        except Exception as error:  # what another version wrote may read as nothing that is known here
            logging.getLogger(__name__).exception("the viewer cannot answer %r", name)
            what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            told = f"the viewer cannot show this ({what}); did another version of Palaestra write it?"
            status, found = 500, {"error": told}
        return Response(_json(found), status, media_type="application/json")

    def picture(self, request: Request) -> Response:
        """A screenshot."""
        from starlette.responses import Response

        try:
            asked = Asked(request)
            data = paths.picture(self.path(asked), asked.number("step"))
        except BadInput:
            data = None
        if not data:
            return Response(status_code=204)  # a missing picture is no error: a browser would tell of one
        return Response(data, media_type="image/png")


def _json(value: object) -> bytes:
    """ASCII, so that lone surrogates of an observation pass; what is no number (a diverged loss) is null."""
    try:
        return json.dumps(value, allow_nan=False, default=str).encode("ascii")
    except ValueError:
        return json.dumps(_finite(value), default=str).encode("ascii")


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
