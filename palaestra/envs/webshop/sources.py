"""Where a catalogue's files are: our own small one, a data set by name, a folder, or a product file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from palaestra.envs.data import cache_dir, data_folder, data_places
from palaestra.envs.errors import BadInput

SMALL = "small"
"""Name of the catalogue of our own making that the package brings."""

OFFICIAL = "webshop"
"""Name of the data set of the official 1,000 products."""

_DATA_SETS = (OFFICIAL, "webshop_full")

INDEX_VERSION = 3
"""Counts up when what is written on disk changes."""

_LARGE = 1 << 26  # bytes; the hash of larger sources is remembered beside the index
_ENDINGS = ("", ".xz", ".gz")


@dataclass(frozen=True)
class Source:
    """The files of a catalogue.

    Attributes:
        name: shown to people.
        products: `items_shuffle*.json`.
        attributes: `items_ins_v2*.json`: attributes and synthetic instructions; None if there is none.
        human: `items_human_ins*.json`; None if there is none.
    """

    name: str
    products: Path
    attributes: Path | None
    human: Path | None

    @classmethod
    def find(cls, source: str | Path) -> Source:
        """The source that a person named. Raises BadInput where it is not there, or is not clear."""
        if str(source) == SMALL:
            return cls._of_folder(SMALL, Path(__file__).parent / SMALL)
        name = str(source)
        path = Path(os.path.expanduser(name))  # unlike Path's own, these three never raise for odd names
        if name and os.path.isfile(path):
            return cls._of_file(path.name, path)
        if name and os.path.isdir(path):
            return cls._of_folder(path.name, path)
        if name in _DATA_SETS or (re.fullmatch(r"\w+", name) and any(map(os.path.isdir, data_places(name)))):
            return cls._of_folder(name, data_folder(name))
        told = name if len(name) <= 200 else f"{name[:199]}…"
        raise BadInput(
            f"there is no catalogue {told!r}; give 'small', {', '.join(map(repr, _DATA_SETS))}, a folder or a "
            "product file items_shuffle*.json"
        )

    @classmethod
    def _of_folder(cls, name: str, folder: Path) -> Source:
        found = _matching(folder, "items_shuffle")
        if not found:
            raise BadInput(f"{folder} holds no product file items_shuffle*.json (nor .json.xz, .json.gz)")
        if len(found) > 1:
            several = ", ".join(each.name for each in found)
            raise BadInput(f"{folder} holds several product files ({several}); name the one that is meant")
        return cls._of_file(name, found[0])

    @classmethod
    def _of_file(cls, name: str, products: Path) -> Source:
        attributes = _matching(products.parent, "items_ins_v2")
        if len(attributes) > 1:  # the one of the same size: items_shuffle_1000 goes with items_ins_v2_1000
            size = re.sub(r"^items_shuffle|\.json.*$", "", products.name)
            attributes = [each for each in attributes if re.sub(r"^items_ins_v2|\.json.*$", "", each.name) == size]
        human = _matching(products.parent, "items_human_ins")
        return cls(name, products, attributes[0] if attributes else None, human[0] if human else None)

    def files(self) -> tuple[Path, ...]:
        """All files that there are."""
        return tuple(path for path in (self.products, self.attributes, self.human) if path is not None)

    def content_hash(self) -> str:
        """16 hexadecimal digits over the content of all files and the version of the index.

        Large files are read once: their hash is remembered with their size and time of change.
        """
        stamps = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in self.files()]
        if sum(size for _, size, _ in stamps) < _LARGE:
            return self._hash()
        key = hashlib.sha256(json.dumps([INDEX_VERSION, stamps]).encode()).hexdigest()[:16]
        remembered = index_root() / f"{key}.stamp"
        if not remembered.is_file():
            write_whole(remembered, [self._hash().encode()])
        return remembered.read_text()

    def _hash(self) -> str:
        digest = hashlib.sha256(f"webshop index {INDEX_VERSION}".encode())
        for kind, path in (("products", self.products), ("attributes", self.attributes), ("human", self.human)):
            digest.update(f"\0{kind}\0".encode())
            if path is not None:
                try:
                    with path.open("rb") as file:
                        digest.update(hashlib.file_digest(file, "sha256").digest())
                except OSError as error:
                    raise BadInput(f"{path} cannot be read: {error.strerror or error}") from None
        return digest.hexdigest()[:16]


def why_no_products() -> str | None:
    """Why the official 1,000 products cannot be sold here, in one line; None if they can."""
    try:
        Source.find(OFFICIAL)
    except BadInput as error:
        return str(error)
    return None


def index_root() -> Path:
    """The folder in the cache that holds the indexes of all catalogues."""
    return cache_dir() / "webshop"


def write_whole(path: Path, content: Iterable[bytes]) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with building.open("wb") as file:
            file.writelines(content)
        os.replace(building, path)
    finally:
        building.unlink(missing_ok=True)


def _matching(folder: Path, beginning: str) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file()
        and path.name.startswith(beginning)
        and path.name.endswith(tuple(f".json{e}" for e in _ENDINGS))
    )
