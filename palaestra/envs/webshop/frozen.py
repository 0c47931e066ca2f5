"""A frozen benchmark: goals, prices and nouns as JSON Lines, so that scores do not hang on a seed or a tagger.

A folder holds files by what their names say (each also as `.xz` or `.gz`):

- `*goal*.jsonl`: one goal a line in the order of their numbers, under the original's names (`asin`, `category`,
  `query`, `name`, `product_category`, `instruction_text`, `attributes`, `price_upper`, `goal_options`, `weight`).
  Synthetic goals hold their options as an object (or pairs), human ones as a list of texts. Files whose names
  hold "synthetic" or "human" are read as that.
- `*price*.jsonl`: `{"asin": ..., "price": dollars}`, or `{ASIN: dollars, ...}`.
- `*noun*.jsonl`, may be missing: `{"name": title, "nouns": [...]}` (or "title", or "asin" of a product), or
  `{title: [...], ...}`: lower-case, in order, with repetitions.

`palaestra data freeze webshop --seed S` writes such a folder, which appears under its name when it is whole. Its
`frozen.json` names the files with their lines and SHA-256 (of what is packed, where a file is packed later), and no
other folder is read as it: with a file that is missing, cut off, changed or added it is refused. Folders without a
`frozen.json` are taken as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeGuard

from palaestra.envs.data import read_data
from palaestra.envs.errors import BadInput
from palaestra.envs.webshop.catalogue import Catalogue
from palaestra.envs.webshop.goals import Benchmark, Goal
from palaestra.envs.webshop.nouns import Nouns
from palaestra.envs.webshop.protocols import Kind
from palaestra.envs.webshop.sources import write_whole

_MOST = 10**12
"""Dollars; more for a price or a ceiling is a slip."""

_ENDINGS = (".jsonl", ".jsonl.xz", ".jsonl.gz")

_ABOUT = "frozen.json"


_Read = Callable[[Path], bytes]
"""Reads a file, and checks it."""


class _Promised(NamedTuple):
    """What `frozen.json` says of a file."""

    lines: int
    sha256: str


def freeze(
    folder: Path,
    catalogue: Catalogue,
    seed: int = 0,
    kinds: Sequence[Kind] = (Kind.SYNTHETIC, Kind.HUMAN),
    told: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Path, ...]:
    """Write the benchmark that `seed` draws: goals of each kind, prices, nouns of all titles, and what they are of.

    Every kind is drawn as if it were the only one, as the original does; the prices are the same.

    Args:
        told: called while the nouns are found, with the titles that are done and all there are.

    Returns:
        The files. Raises BadInput where the folder is not empty or cannot be written, the seed is below 0, or there
        are no goals.
    """
    if seed < 0:
        raise BadInput(f"the seed must be a whole number from 0 on, got {seed}")
    if folder.is_dir() and any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty; name a new folder")
    drawn = {kind: Benchmark.draw(catalogue, seed, kind) for kind in kinds}
    drawn = {kind: benchmark for kind, benchmark in drawn.items() if len(benchmark.goals)}
    if not drawn:
        raise BadInput(f"the catalogue {catalogue.name} has no goals of the kinds {', '.join(kinds)}")
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            names = _write_all(half, catalogue, seed, drawn, told)
            half.chmod(0o755)
            os.replace(half, folder)
        finally:
            shutil.rmtree(half, ignore_errors=True)
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror or error}") from None
    return tuple(folder / name for name in names)


def _write_all(
    folder: Path,
    catalogue: Catalogue,
    seed: int,
    drawn: Mapping[Kind, Benchmark],
    told: Callable[[int, int], None],
) -> list[str]:
    """Write the files of a benchmark; their names."""
    any_of_them = next(iter(drawn.values()))
    titles = dict.fromkeys(product.title for product in catalogue)
    contents: dict[str, Iterable[Mapping[str, object]]] = {
        f"goals_{kind}.jsonl": (goal.record() for goal in benchmark.goals) for kind, benchmark in drawn.items()
    }
    contents["prices.jsonl"] = (
        {"asin": product.asin, "price": any_of_them.price(product.asin)} for product in catalogue
    )

    def nouns() -> Iterator[Mapping[str, object]]:
        for done, (title, found) in enumerate(any_of_them.nouns.each(titles), start=1):
            yield {"name": title, "nouns": found}
            told(done, len(titles))

    contents["nouns.jsonl"] = nouns()
    about = {
        "catalogue": catalogue.name,
        "content": catalogue.fingerprint,
        "seed": seed,
        "nouns": any_of_them.nouns.tagger,
        "goals": {str(kind): len(benchmark.goals) for kind, benchmark in drawn.items()},
        "files": {name: _write(folder / name, rows)._asdict() for name, rows in contents.items()},
    }
    write_whole(folder / _ABOUT, [json.dumps(about, indent=1).encode()])
    return [*contents, _ABOUT]


def load(folder: Path, catalogue: Catalogue, kind: Kind) -> Benchmark:
    """Read a frozen benchmark. Raises BadInput naming file and line, or saying what the folder lacks."""
    if not os.path.isdir(folder):
        told = str(folder) if len(str(folder)) <= 200 else f"{str(folder)[:199]}…"
        raise BadInput(f"there is no folder {told!r} with frozen goals; make one: palaestra data freeze webshop")
    goal_files = [path for path in _files(folder, "goal") if _told_kind(path) in (kind, None)]
    price_files = _files(folder, "price")
    if not goal_files or not price_files:
        lacking = f"goals (*goal*.jsonl) of the kind {kind}" if not goal_files else "prices (*price*.jsonl)"
        raise BadInput(f"{folder} holds no {lacking}")
    promised, digest = _promised(folder), hashlib.sha256()

    def read(path: Path) -> bytes:
        content = read_data(path)
        _keep(path, content, promised)
        digest.update(content)
        return content

    goals = [goal for path in goal_files for goal in _goals(path, catalogue, kind, read)]
    if not goals:
        raise BadInput(f"{folder} holds no goals of the kind {kind}")
    prices: dict[str, float] = {}
    for path in price_files:
        prices.update(_prices(path, catalogue, read))
    missing = next((asin for asin in map(catalogue.asin, range(len(catalogue))) if asin not in prices), None)
    if missing is not None:
        raise BadInput(f"{price_files[0]} has no price of {missing}; every product of {catalogue.name} needs one")
    nouns: dict[str, tuple[str, ...]] = {}
    for path in _files(folder, "noun"):
        nouns.update(_nouns(path, catalogue, read))
    name = f"{kind} frozen {digest.hexdigest()[:12]}"
    return Benchmark(name, goals, prices.__getitem__, Nouns(nouns or None, catalogue.path))


def _write(path: Path, rows: Iterable[Mapping[str, object]]) -> _Promised:
    lines, digest = 0, hashlib.sha256()
    with path.open("wb") as file:
        for row in rows:
            line = f"{json.dumps(row, ensure_ascii=False)}\n".encode()
            file.write(line)
            digest.update(line)
            lines += 1
    return _Promised(lines, digest.hexdigest())


def _promised(folder: Path) -> Mapping[str, _Promised] | None:
    """What `frozen.json` says of the files of a folder, by their names; None where it is not there or says nothing.

    Raises:
        BadInput: it cannot be read, or a file is not there, or is there and not named.
    """
    place = folder / _ABOUT
    if not place.is_file():
        return None
    try:
        about = json.loads(place.read_bytes())
        if "files" not in about:
            return None
        told = {name: _Promised(int(each["lines"]), str(each["sha256"])) for name, each in about["files"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{place} cannot be read ({type(error).__name__}: {error}); {_MEND}") from None
    here = {_plain_name(path) for word in ("goal", "price", "noun") for path in _files(folder, word)}
    lacking, added = sorted(told.keys() - here), sorted(here - told.keys())
    if lacking:
        raise BadInput(f"{folder} has no {lacking[0]}, which its {_ABOUT} names; {_MEND}")
    if added:
        raise BadInput(f"{folder} has a file {added[0]}, which its {_ABOUT} does not name; {_MEND}")
    return told


_MEND = f"freeze again into a new folder, or delete {_ABOUT} to use the files as they are"


def _keep(path: Path, content: bytes, promised: Mapping[str, _Promised] | None) -> None:
    """Raises BadInput where a file's content is not what `frozen.json` says."""
    if promised is None:
        return
    wanted = promised[_plain_name(path)]
    lines = content.count(b"\n")
    if lines != wanted.lines:
        raise BadInput(f"{path} has {lines} whole lines, {_ABOUT} says {wanted.lines}; {_MEND}")
    if hashlib.sha256(content).hexdigest() != wanted.sha256:
        raise BadInput(f"{path} was changed: its SHA-256 is not the one in {_ABOUT}; {_MEND}")


def _plain_name(path: Path) -> str:
    return path.name.removesuffix(".xz").removesuffix(".gz")


def _files(folder: Path, word: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if word in path.name.lower() and path.name.endswith(_ENDINGS))


def _told_kind(path: Path) -> Kind | None:
    return next((kind for kind in Kind if kind in path.name.lower()), None)


def _rows(path: Path, read: _Read) -> Iterator[tuple[str, object]]:
    """Each line's place ("FILE, line N") and what it holds."""
    content = read(path)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{path}, line {line}: not UTF-8") from None
    for number, line_text in enumerate(text.split("\n"), 1):
        if not line_text.strip():
            continue
        place = f"{path}, line {number}"
        try:
            row = json.loads(line_text)
            if "\\ud" in line_text.lower():  # may be half of a surrogate pair
                json.dumps(row, ensure_ascii=False).encode()
        except json.JSONDecodeError as error:
            raise BadInput(f"{place}: no JSON ({error.msg})") from None
        except RecursionError:
            raise BadInput(f"{place}: nested too deeply") from None
        except UnicodeEncodeError:
            raise BadInput(f"{place}: a text holds half of a surrogate pair, which is no text") from None
        except ValueError:  # Python reads no longer ones
            raise BadInput(f"{place}: a number has thousands of digits") from None
        yield place, row


def _goals(path: Path, catalogue: Catalogue, kind: Kind, read: _Read) -> Iterator[Goal]:
    told = _told_kind(path)
    for place, row in _rows(path, read):
        if not isinstance(row, dict):
            raise BadInput(f"{place}: a goal should be an object")
        goal = read_goal(row, place, told)
        if told is None and goal.kind is not kind:
            continue
        if goal.asin not in catalogue:
            raise BadInput(f"{place}: the catalogue {catalogue.name} has no product {goal.asin[:20]!r}")
        yield goal


def read_goal(row: Mapping[str, object], place: str, kind: Kind | None = None) -> Goal:
    """A goal under the original's names. Raises BadInput with `place` where a field is missing or of another kind."""
    asin, category, query, title, levels, instruction = (
        _text(row, key, place) for key in ("asin", "category", "query", "name", "product_category", "instruction_text")
    )
    attributes = row.get("attributes")
    if not _texts(attributes) or not attributes:
        raise BadInput(f"{place}: 'attributes' should be a list of texts that is not empty")
    ceiling = _number(row.get("price_upper"), "price_upper", place)
    weight = _number(row.get("weight", 1.0), "weight", place)
    options = _options(row.get("goal_options"), place, kind)
    return Goal(asin, category, query, title, levels, instruction, tuple(attributes), ceiling, options, weight)


def _options(options: object, place: str, kind: Kind | None) -> Mapping[str, str] | tuple[str, ...]:
    if isinstance(options, list) and options and all(_texts(each) and len(each) == 2 for each in options):
        options = dict(options)
    if isinstance(options, dict) and _texts(list(options.values())) and kind is not Kind.HUMAN:
        return options
    if _texts(options) and not (options and kind is Kind.SYNTHETIC):
        return {} if kind is Kind.SYNTHETIC else tuple(options)
    raise BadInput(f"{place}: 'goal_options' should be an object of texts (synthetic) or a list of texts (human)")


def _prices(path: Path, catalogue: Catalogue, read: _Read) -> Iterator[tuple[str, float]]:
    for place, row in _rows(path, read):
        for asin, price in _entries(row, ("asin",), "price", place):
            if asin not in catalogue:
                raise BadInput(f"{place}: the catalogue {catalogue.name} has no product {asin[:20]!r}")
            yield asin, _number(price, "price", place)


def _nouns(path: Path, catalogue: Catalogue, read: _Read) -> Iterator[tuple[str, tuple[str, ...]]]:
    for place, row in _rows(path, read):
        for key, nouns in _entries(row, ("name", "title", "asin"), "nouns", place):
            if not _texts(nouns):
                raise BadInput(f"{place}: 'nouns' should be a list of texts")
            yield catalogue.product(key).title if key in catalogue else key, tuple(nouns)


def _entries(row: object, keys: Sequence[str], value: str, place: str) -> list[tuple[str, object]]:
    """What a line says: `{key: ..., value: ...}`, `[key, value]` or `{KEY: VALUE, ...}`."""
    if isinstance(row, list) and len(row) == 2 and isinstance(row[0], str):
        return [(row[0], row[1])]
    if isinstance(row, dict) and value in row:
        found = next((row[key] for key in keys if isinstance(row.get(key), str)), None)
        if found is not None:
            return [(found, row[value])]
    elif isinstance(row, dict):
        return list(row.items())
    raise BadInput(f"{place}: should hold {keys[0]!r} and {value!r}")


def _text(row: Mapping[str, object], key: str, place: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise BadInput(f"{place}: {key!r} should be a text")
    return value


def _texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _number(value: object, key: str, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST:
        raise BadInput(f"{place}: {key!r} should be a number from 0 on")
    return value
