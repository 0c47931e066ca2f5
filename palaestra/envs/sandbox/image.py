"""The container image that sandboxes run in, and how it is built: `palaestra sandbox build`.

One Dockerfile, whatever its base: the official Python image where a registry answers, else one made of this machine's
own Python, shell and small tools. Layout, user and labels come out the same; the label `io.palaestra.origin` says which
it was.
"""

from __future__ import annotations

import io
import platform
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Literal, get_args

from palaestra import __version__
from palaestra.envs.errors import BadInput
from palaestra.envs.sandbox.errors import ImageMissing, SandboxUnavailable
from palaestra.envs.sandbox.machine import write_base

if TYPE_CHECKING:
    from docker import DockerClient

NAME = f"palaestra-sandbox:{__version__}"
"""The image that the docker backend uses unless told otherwise."""

BUILD = "palaestra sandbox build"
"""The command that builds it."""

Origin = Literal["registry", "machine"]


@dataclass(frozen=True)
class Built:
    """An image that is on the engine now.

    Attributes:
        name: repository and tag.
        id: its digest on the engine.
        origin: "registry" or "machine": where its base came from.
        megabytes: its size on the engine's disk, 10^6 bytes.
    """

    name: str
    id: str
    origin: Origin
    megabytes: float


def build(
    client: DockerClient,
    *,
    name: str = NAME,
    origin: Origin | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Built:
    """Build the sandbox image on an engine, which may be a remote one.

    Args:
        client: of the Docker SDK.
        name: repository and tag to give it.
        origin: take the base from the registry, or make it of this machine; None tries them in this order.
        say: called with a line on what is being done.

    Raises:
        BadInput: an unknown origin.
        SandboxUnavailable: the engine, or on `origin="registry"` the registry, does not answer, or this machine cannot
            give a base that the engine could run.
    """
    from docker.errors import APIError, BuildError, DockerException

    _check_origin(origin)
    try:
        came_from = origin or "registry"
        if came_from == "registry":
            base = _dockerfile_base()
            say(f"pulling {base}")
            try:
                client.images.pull(base)
            except APIError as error:
                if origin == "registry":
                    raise SandboxUnavailable(f"cannot pull {base}: {error.explanation or error}") from None
                say(f"no registry gives {base}; making the base of this machine's own Python")
                came_from = "machine"
        if came_from == "machine":
            base = _import_machine(client, f"{name.rpartition(':')[0] or name}-base:{__version__}")
        say(f"building {name}")
        return _build(client, name, base, came_from)
    except BuildError as error:
        lines = [str(entry["stream"]) for entry in error.build_log if isinstance(entry, dict) and "stream" in entry]
        raise SandboxUnavailable(f"{name} does not build: {error.msg}; {''.join(lines)[-500:].strip()!r}") from None
    except (DockerException, OSError) as error:
        raise SandboxUnavailable(f"the Docker engine did not build {name}: {error}") from None


def plan(client: DockerClient, *, name: str = NAME, origin: Origin | None = None) -> list[str]:
    """What `build` would do, a line each: where the base comes from, what is there, the room it takes. Does nothing.

    Raises:
        BadInput, SandboxUnavailable: as `build`.
    """
    from docker.errors import DockerException, ImageNotFound

    _check_origin(origin)
    base = _dockerfile_base()
    of_machine = "make the base of this machine's own Python, shell and small tools"
    first = {"registry": f"pull {base}", "machine": of_machine}.get(origin or "", f"pull {base}, or else {of_machine}")
    sizes = []
    try:
        for each in (base, name):
            try:
                sizes.append(f"{each} is there with {client.images.get(each).attrs['Size'] / 1e6:,.0f} MB")
            except ImageNotFound:
                sizes.append(f"{each} is not there yet, so its size is unknown")
    except (DockerException, OSError) as error:
        raise SandboxUnavailable(f"the Docker engine does not say what it has: {error}") from None
    return [first, f"build {name} of it, without a network", *sizes]


def _check_origin(origin: str | None) -> None:
    if origin is not None and origin not in get_args(Origin):
        raise BadInput(f"unknown origin {origin!r} of the image; it is one of {', '.join(get_args(Origin))}")


def dockerfile() -> str:
    """The text of the sandbox image's Dockerfile."""
    return resources.files("palaestra.envs.sandbox").joinpath("sandbox.Dockerfile").read_text(encoding="utf-8")


def image_missing(name: str, where: str) -> ImageMissing:
    """The error for an image that is not on the engine at `where`."""
    todo = BUILD if name == NAME else f"{BUILD} --name {name}` or `docker pull {name}"
    return ImageMissing(f"no image {name} on the Docker engine at {where}; run: `{todo}`")


def _dockerfile_base() -> str:
    found = re.search(r"^ARG BASE=(\S+)$", dockerfile(), re.MULTILINE)
    assert found is not None, "the Dockerfile names its base"
    return found[1]


def _import_machine(client: DockerClient, name: str) -> str:
    """Hand this machine's root file system over as an image; the engine must be of the same processor."""
    theirs = client.info().get("Architecture", "")
    if theirs != platform.machine():
        raise SandboxUnavailable(
            f"the Docker engine runs on {theirs}, this machine is {platform.machine()}: build from a registry"
        )
    repository, _, tag = name.rpartition(":")
    with tempfile.NamedTemporaryFile(suffix=".tar") as base:
        write_base(base)
        base.flush()
        answer: str = client.api.import_image_from_file(base.name, repository=repository, tag=tag)
    if '"error"' in answer:
        raise SandboxUnavailable(f"the Docker engine did not import {name}: {answer.strip()[-300:]}")
    return name


def _build(client: DockerClient, name: str, base: str, origin: Origin) -> Built:
    arguments: Mapping[str, str] = {"BASE": base, "VERSION": __version__, "ORIGIN": origin}
    # Its one RUN line needs no network, and the SDK speaks to the builder that every engine has.
    image, _ = client.images.build(
        fileobj=io.BytesIO(dockerfile().encode()),
        tag=name,
        buildargs=dict(arguments),
        network_mode="none",
        rm=True,
        forcerm=True,
    )
    # The image that had this name before; other people's unnamed images are left alone.
    client.images.prune(filters={"dangling": True, "label": "io.palaestra.image=sandbox"})
    return Built(name, str(image.id), origin, image.attrs["Size"] / 1e6)
