"""A root file system made of this machine's own Python, shell and small tools: a base image where no registry answers.

It has the layout of Docker's `python:*-slim` images (Python in /usr/local), so that one Dockerfile fits both. Only
Linux machines with glibc can give it.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from palaestra.envs.sandbox.errors import SandboxUnavailable

TOOLS = (
    "sh bash cat ls cp mv rm mkdir rmdir ln chmod touch head tail wc sort uniq cut tr tee env echo printf pwd sleep"
    " true false test [ expr date id whoami uname seq basename dirname find xargs grep sed awk diff cmp patch tar gzip"
    " kill ps stat sha256sum md5sum base64 od timeout nproc df du dd yes readlink realpath mktemp"
)
"""What is copied beside Python, where the machine has it as a program (scripts are left out)."""

_FOLDERS = ("dev", "etc", "proc", "root", "run", "sys", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin", "var", "work")
_LINKS = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "sbin": "usr/sbin"}
_TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_NOT_NEEDED = re.compile(
    r"^(test|tests|idlelib|tkinter|turtledemo|ensurepip|lib2to3|site-packages|dist-packages|config-[^/]*)(/|$)"
    r"|\.(a|o)$|\.opt-[12]\.pyc$|(^|/)(_tkinter|_test[a-z]*|_ctypes_test|_xxtestfuzz|xxlimited)[^/]*\.so$"
)
_NEEDED_OBJECT = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x", re.MULTILINE)


def write_base(into: IO[bytes]) -> None:
    """Write the base as a tar, some 60 MB, to a file opened for writing.

    Raises:
        SandboxUnavailable: this machine is no Linux with glibc, or lacks a shell.
    """
    if sys.platform != "linux" or shutil.which("ldd") is None:
        raise SandboxUnavailable("an image from local files needs a Linux machine with ldd; build it from a registry")
    python, library = Path(sys.executable).resolve(), Path(sysconfig.get_path("stdlib"))
    tools = list(_tools())
    modules = [path for path in _modules(library) if path.suffix == ".so"]
    objects = _shared_objects([python, *modules, *(path for _, path in tools)])
    home = next((path.parent.resolve() for path in objects if path.name.startswith("libc.so")), None)
    if home is None or "sh" not in dict(tools):
        raise SandboxUnavailable("this machine has no glibc or no /bin/sh; build the image from a registry")
    with tarfile.open(fileobj=into, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _skeleton(tar)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        for folder in ("usr/local", "usr/local/bin", "usr/local/lib"):
            _folder(tar, folder)
        _file(tar, python, f"usr/local/bin/{version}")
        for name in ("python3", "python"):
            _link(tar, f"usr/local/bin/{name}", version)
        for name, path in tools:
            _file(tar, path, f"usr/bin/{name}")
        for path in objects:
            # The program loader is found by its full path, all else in the folder that glibc itself lives in.
            loader = path.name.startswith("ld-linux") or path.name.startswith("ld64")
            _file(tar, path, _place(path.parent if loader else home, path.name))
        _tree(tar, library, f"usr/local/lib/{version}")


def _tools() -> Iterator[tuple[str, Path]]:
    for name in TOOLS.split():
        found = shutil.which(name, path="/usr/bin:/bin")
        if found is None:
            continue
        path = Path(found).resolve()
        with path.open("rb") as file:
            if file.read(4) == b"\x7fELF":
                yield name, path


def _modules(library: Path) -> Iterator[Path]:
    """Files of the standard library that are kept, `.so` modules among them."""
    for folder, folders, names in os.walk(library):
        here = Path(folder).relative_to(library)
        folders[:] = sorted(name for name in folders if not _NOT_NEEDED.search(str(here / name)))
        yield from (Path(folder) / name for name in sorted(names) if not _NOT_NEEDED.search(str(here / name)))


def _shared_objects(programs: Iterable[Path]) -> list[Path]:
    """What the programs are linked with, by the names they ask for."""
    listed = subprocess.run(
        ["ldd", *map(str, programs)], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    )
    found = {Path(path).name: Path(path) for path in _NEEDED_OBJECT.findall(listed.stdout)}
    return [found[name] for name in sorted(found)]


def _place(folder: Path, name: str) -> str:
    """Where a file goes: its own place, with /lib and /lib64 being links into /usr as everywhere now."""
    text = str(folder / name).lstrip("/")
    return text if text.startswith("usr/") else f"usr/{text}"


def _skeleton(tar: tarfile.TarFile) -> None:
    for name in ("usr", *_FOLDERS):
        _folder(tar, name)
    _folder(tar, "tmp", 0o1777)
    for name, target in _LINKS.items():
        _link(tar, name, target)
    for name, text in _TEXTS.items():
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(text), 0o644
        tar.addfile(info, io.BytesIO(text.encode()))


def _tree(tar: tarfile.TarFile, library: Path, into: str) -> None:
    made: set[Path] = set()
    for path in _modules(library):
        inner = path.relative_to(library)
        for above in reversed(inner.parents):
            if above not in made:
                _folder(tar, f"{into}/{above}".removesuffix("/."))
                made.add(above)
        _file(tar, path, f"{into}/{inner}")


def _folder(tar: tarfile.TarFile, name: str, mode: int = 0o755) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, mode
    tar.addfile(info)


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    tar.addfile(info)


def _file(tar: tarfile.TarFile, path: Path, name: str) -> None:
    """A file with its contents and time, owned by root, readable by all, lending nobody rights."""
    real = path.resolve()
    state = real.stat()
    info = tarfile.TarInfo(name)
    info.size, info.mtime = state.st_size, int(state.st_mtime)  # compiled modules name their source's time
    info.mode = 0o755 if state.st_mode & 0o111 else 0o644
    with real.open("rb") as file:
        tar.addfile(info, file)
