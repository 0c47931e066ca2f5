"""`palaestra data list | get | freeze`: the data sets that environments read, and how to have them here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from palaestra.agents.counted import Counted
from palaestra.agents.progress import Shown
from palaestra.cli.options import Events, Json, Quiet, shown, tell
from palaestra.cli.planning import DryRun, show_steps
from palaestra.envs.datasets.catalogue import CATALOGUE, DataSet, Upstream, find
from palaestra.envs.errors import BadInput

commands = typer.Typer(
    no_args_is_help=True, help="The data sets that environments read: list them, fetch them from where they are public."
)


def add_to(app: typer.Typer) -> None:
    """Register this file's commands."""
    app.add_typer(commands, name="data")


@commands.command("list")
def list_data(
    name: Annotated[str | None, typer.Argument(help="Show this one with its terms and files.")] = None,
    as_json: Json = False,
) -> None:
    """List the data sets: size, licence, what they are, how their content is made sure, and where they lie here.

    Examples: `palaestra data list`, `palaestra data list webshop`, `palaestra data list --json`.
    """
    rows = [describe(dataset) for dataset in (CATALOGUE.values() if name is None else [find(name)])]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{row['name']}  {_size(row['files'])}  {row['licence']}")
        print(f"    {row['summary']}")
        print(f"    {_here(row)}")
        if name is None:
            print(f"    content: {_sums(row['files'])}")
            continue
        print("\n".join(f"    {line}" for line in row["terms"].splitlines()))
        for file in row["files"]:
            print(f"    {file['name']}  {file['size'] or '?'} bytes  {file['sha256'] or '-'} ({file['content']})")
            print(f"        {file['url']}")


def describe(dataset: DataSet) -> dict[str, Any]:
    """What is known of a data set, as JSON types."""
    from palaestra.envs.datasets.get import lacking, where

    folder, part = where(dataset), lacking(dataset)
    return {
        "name": dataset.name,
        "summary": dataset.summary,
        "licence": dataset.licence,
        "terms": dataset.terms,
        "folder": None if folder is None else str(folder),
        "part": None if folder is not None or part is None else {"folder": str(part[0]), "lacks": list(part[1])},
        "provides": list(dataset.provides),
        "files": [
            {"name": file.name, "url": file.url, "size": file.size, "sha256": file.sha256, "content": file.pinned}
            for file in dataset.files
        ],
    }


def _here(row: dict[str, Any]) -> str:
    if row["folder"]:
        return f"here: {row['folder']}"
    return f"in part: {row['part']['folder']} has no {', '.join(row['part']['lacks'])}" if row["part"] else "not here"


def _sums(files: list[dict[str, Any]]) -> str:
    ways: dict[str, list[str]] = {}
    for file in files:
        ways.setdefault(file["content"], []).append(file["name"])
    if len(ways) == 1:
        return next(iter(ways))
    return "; ".join(f"{', '.join(names) if len(names) < 4 else len(names)}: {way}" for way, names in ways.items())


def _size(files: list[dict[str, Any]]) -> str:
    known = sum(file["size"] or 0 for file in files)
    shown = f"{known / 1e6:,.1f} MB" if known >= 1e6 else f"{known / 1e3:,.0f} kB"
    return shown + ("" if all(file["size"] for file in files) else " and more")


@commands.command()
def get(
    name: Annotated[str, typer.Argument(help="Name of a data set; `palaestra data list` has them all.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Accept its terms without being asked.")] = False,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FOLDER", help="Copy its files from this folder instead of fetching them."),
    ] = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Events = False,
) -> None:
    """Fetch a data set from its own project's public address. Run again, a broken download goes on.

    Examples: `palaestra data get humaneval`, `palaestra data get webshop --yes`,
    `palaestra data get alfworld --from ~/Downloads`.
    """
    from palaestra.envs.datasets.get import get as fetch_data

    dataset = find(name)
    if dry_run:
        _show_fetch(dataset, source, as_json)
        return
    with Downloads(shown(quiet, as_json)) as downloads:
        got = fetch_data(
            dataset,
            agree=lambda wanted: _agree(wanted, yes),
            source=None if source is None else source.expanduser(),
            progress=downloads.reach,
        )
    if as_json:
        tell({"name": name, "folder": str(got.folder), "was_here": got.was_here})
    else:
        print(f"{name} is {'already ' if got.was_here else ''}in {got.folder}")


@commands.command()
def freeze(
    name: Annotated[str, typer.Argument(help="What to freeze: webshop.")],
    seed: Annotated[int, typer.Option(help="Prices and price ceilings are drawn from it.")] = 0,
    catalogue: Annotated[
        str, typer.Option(help="'webshop', 'small', a folder or a product file of WebShop's formats.")
    ] = "webshop",
    out: Annotated[Path | None, typer.Option(help="New folder; webshop-seedS if not given.")] = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Events = False,
) -> None:
    """Write goals, prices and the nouns of titles that a seed draws, as JSON Lines: a benchmark that no longer changes.

    Examples: `palaestra data freeze webshop --seed 7`, `palaestra data freeze webshop --catalogue small --out frozen`.
    """
    if name != "webshop":
        raise BadInput(f"{name!r} cannot be frozen; only webshop draws its goals and prices from a seed")
    from palaestra.envs.webshop.catalogue import Catalogue
    from palaestra.envs.webshop.frozen import freeze as write

    folder = out if out is not None else Path(f"webshop-seed{seed}")
    if dry_run:
        steps = [
            f"draw goals and prices of the products of {catalogue} with the seed {seed}",
            "find their titles' nouns",
        ]
        show_steps(f"freeze {name}", str(folder), steps, None, as_json)
        return
    products = Catalogue.open(catalogue)
    with Counted(shown(quiet, as_json), f"freeze {name}", "titles") as count:

        def titles(done: int, total: int) -> None:
            count.total = total
            count.reach(done)

        written = write(folder.expanduser(), products, seed, told=titles)
    if as_json:
        tell({"folder": str(folder), "files": [path.name for path in written]})
    else:
        print(f"{', '.join(path.name for path in written)} are in {folder}")


def _show_fetch(dataset: DataSet, source: Path | None, as_json: bool) -> None:
    """What `get` would fetch, from where, where to, and how much it is. Asks nobody."""
    from palaestra.envs.data import data_places
    from palaestra.envs.datasets.get import where

    here, target = where(dataset), data_places(dataset.name)[-1]
    if here is not None:
        show_steps(f"do nothing: {dataset.name} is here", str(here), [], 0, as_json)
        return
    sizes = [file.size for file in dataset.files]
    known = None if None in sizes else sum(size or 0 for size in sizes)
    steps = [f"fetch {file.url}" if source is None else f"copy {source / file.name}" for file in dataset.files]
    show_steps(f"get {dataset.name} ({dataset.licence})", str(target), steps, known, as_json)


def _agree(dataset: DataSet, yes: bool) -> bool:
    if not yes and not sys.stdin.isatty():
        raise BadInput(
            f"{dataset.name} is fetched only when its terms are accepted ({dataset.licence}); add --yes, "
            f"`palaestra data list {dataset.name}` shows them"
        )
    said = f"{dataset.terms}\nLicence: {dataset.licence}. Download: {_size(describe(dataset)['files'])}."
    print(said, file=sys.stderr)
    if yes:
        return True
    return typer.confirm("Accept these terms and fetch it?", err=True)


class Downloads:
    """Shows one file after the other while its bytes come."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._now: tuple[str, Counted] | None = None

    def reach(self, file: Upstream, here: int, total: int | None) -> None:
        """So many bytes of a file are here; a file that was here in part begins where it was."""
        if self._now is None or self._now[0] != file.name:
            self.close()
            self._now = file.name, Counted(self._shown, f"get {file.name}", "bytes", total, before=here).__enter__()
        self._now[1].reach(here)

    def close(self) -> None:
        """The last file is done, or the download broke off."""
        if self._now is not None:
            self._now[1].__exit__(None, None, None)
            self._now = None

    def __enter__(self) -> Downloads:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
