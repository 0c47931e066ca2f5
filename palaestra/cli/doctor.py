"""`palaestra doctor`: what this machine has, which environments are ready, and what to do about the rest."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path

from rich.text import Text

from palaestra import __version__
from palaestra.agents.plain import plain
from palaestra.cli.options import Json
from palaestra.cli.printed import screen
from palaestra.envs import specs
from palaestra.envs.data import cache_folder
from palaestra.envs.errors import BadInput

_MODULES = {
    "train": ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "gguf"),
    "sciworld": ("scienceworld", "psutil"),
    "twx": ("textworld_express", "py4j"),
    "openai": ("httpx",),
    "vllm": ("aiohttp", "transformers"),
    "parquet": ("pyarrow",),
    "docker": ("docker",),
    "ray": ("ray",),
    "serve": ("starlette", "uvicorn", "websockets", "httpx"),
    "webshop": ("regex", "rapidfuzz", "spacy"),
    "alfworld": ("alfworld", "textworld"),
    "tools": ("mcp",),
    "web": ("playwright", "miniwob", "starlette"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked at.
        ok: is it there and usable. Optional parts that are missing are not ok and say what to do.
        detail: what was found, or what to do.
    """

    name: str
    ok: bool
    detail: str


def doctor(as_json: Json = False) -> None:
    """Say what this machine has: Python, extras, Java, torch, sandboxes, caches, data, and each environment.

    Example: `palaestra doctor --json`.
    """
    findings = [
        _system(),
        *_extras(),
        _ask("java", _java),
        _ask("chromium", _chromium),
        _ask("torch", _torch),
        *_sandboxes(),
        _data(),
        _cache(),
        *_envs(),
    ]
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
        return
    console = screen()
    for finding in findings:
        mark = ("ok     ", "green") if finding.ok else ("missing", "yellow")
        console.print(Text.assemble(mark, " ", (finding.name, "bold"), f"  {plain(finding.detail)}"))


def _ask(name: str, question: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, question())
    except (BadInput, ImportError) as error:
        return Finding(name, False, str(error))


def _system() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = f"Python {platform.python_version()} at {sys.executable}"
    return Finding("palaestra", True, f"{__version__}, {python}, {cores} cores, {platform.platform()}")


def _extras() -> list[Finding]:
    findings = []
    for extra, modules in _MODULES.items():
        missing = [module for module in modules if util.find_spec(module) is None]
        found = ", ".join(f"{module} {_version(module)}" for module in modules if module not in missing)
        todo = f"without {', '.join(missing)}; run: pip install 'palaestra[{extra}]'"
        findings.append(Finding(f"extra {extra}", not missing, found if not missing else todo))
    return findings


def _version(module: str) -> str:
    try:
        return metadata.version(module)
    except metadata.PackageNotFoundError:
        return "?"


def _java() -> str:
    from palaestra.envs.jdk import find_java

    java = find_java()
    return f"{java.version} at {java.path} (from {java.origin})"


def _chromium() -> str:
    from palaestra.envs.browser.chromium import find_chromium

    chromium = find_chromium()
    return f"{chromium.version} at {chromium.path}"


def _torch() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.__version__} on {torch.cuda.get_device_name(0)}"
    return f"{torch.__version__} on the CPU, {torch.get_num_threads()} threads"


def _sandboxes() -> list[Finding]:
    """Each wall is tried: a sandbox is started and a command run in it."""
    from palaestra.envs.sandbox.probe import probe

    findings = []
    for name in ("bwrap", "docker"):
        tried = probe(name)
        took = f"started in {tried.start * 1000:.0f} ms, a command takes {tried.exec * 1000:.0f} ms"
        findings.append(Finding(f"sandbox {name}", tried.works, str(tried.error or f"{tried.detail}; {took}")))
    return findings


def _data() -> Finding:
    from palaestra.envs.datasets.catalogue import CATALOGUE
    from palaestra.envs.datasets.get import where

    folder = os.environ.get("PALAESTRA_DATA")
    here = ", ".join(name for name, dataset in CATALOGUE.items() if where(dataset)) or "none"
    said = f"{here} of {len(CATALOGUE)} data sets here (`palaestra data list`)"
    if not folder:
        return Finding("data", True, f"{said}; PALAESTRA_DATA is not set")
    return Finding("data", Path(folder).is_dir(), f"{said}; PALAESTRA_DATA={folder}")


def _cache() -> Finding:
    try:
        folder = cache_folder()
    except BadInput as error:
        return Finding("cache", False, str(error))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Finding("cache", True, f"{folder}, {size / 1e6:.0f} MB")


def _envs() -> list[Finding]:
    findings = []
    for spec in specs().values():
        problem = spec.why_not_ready()
        findings.append(Finding(spec.id, problem is None, problem or f"ready, rewind: {spec.fidelity}"))
    return findings
