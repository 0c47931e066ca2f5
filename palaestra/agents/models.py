"""Models by one short name or path: a local folder, a hub id, `smollm2-135m`, `tiny:ENV`.

Loading is silent (progress only on a terminal), works offline once a model is there, and always says which weights it
gave: `version` is a hash of the weight files and becomes part of the key of every episode that the model acts in.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import palaestra
from palaestra.envs import BadInput, MissingExtra
from palaestra.envs.data import cache_dir as cache_dir  # known under this name, too

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CARD = "model_card.json"
KNOWN = ("smollm2-135m", "tiny:ENV")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run, with what identifies it.

    Attributes:
        model, tokenizer: as transformers made them; the model is in evaluation mode.
        name: shown to people ("smollm2-135m").
        version: identifies the weights: 12 hexadecimal digits over the weight files.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    version: str


def resolve(name: str | Path) -> Path:
    """The folder of a model, fetched if it is not there yet.

    Args:
        name: a local folder, a hub id (`org/name`), `smollm2-135m`, or `tiny:ENV` (a fresh tiny model for an env).

    Raises:
        BadInput: unknown model, a folder that holds none, or one that cannot be fetched. MissingExtra: `train`.
    """
    text = str(name)
    folder = Path(text).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BadInput(f"{folder} holds no model (no config.json); point at a folder that save_pretrained wrote")
        return folder
    if text == "smollm2-135m":
        from palaestra.agents import smollm2

        return smollm2.folder()
    if text.startswith("tiny:"):
        from palaestra.agents import tiny

        return tiny.folder(text.removeprefix("tiny:"))
    if text.count("/") == 1 and not text.startswith((".", "/", "~")):
        return _from_hub(text)
    near = difflib.get_close_matches(text, KNOWN, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise BadInput(f"unknown model {text!r}; {hint}give a local folder, a hub id (org/name), or {' or '.join(KNOWN)}")


def load_model(name_or_path: str | Path, *, device: str = "auto", dtype: str = "auto") -> LoadedModel:
    """Load a model and its tokenizer.

    Args:
        device: `auto` (CUDA where there is one, else the CPU), or a torch device.
        dtype: `auto` (bfloat16 on CUDA, float32 on a CPU, where bfloat16 is several times slower), or its name.

    Raises:
        BadInput: unknown model, device or dtype, or a damaged folder. MissingExtra: `train` is not installed.
    """
    need_train()
    folder = resolve(name_or_path)
    import torch

    with quiet():
        from transformers import AutoModelForCausalLM, AutoTokenizer

        place = _device(device)
        kind = _dtype(dtype, place)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=kind, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise BadInput(f"{folder} cannot be loaded as a causal language model: {_line(error)}") from error
        except Exception as error:  # safetensors raises its own kind for a damaged file
            if type(error).__module__.startswith("safetensors"):
                raise BadInput(f"{folder} holds damaged weights: {_line(error)}") from error
            raise
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        torch.nn.Module.to(model, place)  # transformers decorates its own `to` beyond what a checker can follow
        torch.nn.Module.eval(model)
    return LoadedModel(model, tokenizer, _shown_name(name_or_path, folder), version_of(folder))


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    path: str | Path,
    *,
    name: str,
    parent: str | None = None,
    notes: Mapping[str, str | int | float] | None = None,
) -> str:
    """Write a model as safetensors, with its tokenizer and a card of where it comes from. All of it or nothing.

    Args:
        name: what people call it.
        parent: version of the weights that it was trained from.
        notes: further entries of the card (recipe, iteration, ...).

    Returns:
        The version of the weights.

    Raises:
        BadInput: the folder cannot be written.
    """
    target = Path(path)
    try:
        with filling(target) as folder, quiet():
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            version = version_of(folder)
            card = {"name": name, "version": version, "parent": parent, "palaestra": palaestra.__version__}
            write_card(folder, {**card, **(notes or {})})
    except OSError as error:
        raise BadInput(f"cannot write the model to {target}: {error.strerror or _line(error)}") from error
    return version


def write_card(folder: Path, card: Mapping[str, str | int | float | None]) -> None:
    """Write where a model comes from beside its weights."""
    (folder / CARD).write_text(json.dumps(dict(card), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_card(folder: str | Path) -> dict[str, str | int | float | None]:
    """What `save_model` wrote about a model; empty for a folder from elsewhere."""
    try:
        card = json.loads((Path(folder) / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def version_of(folder: str | Path) -> str:
    """Hash of a model's weights: 12 hexadecimal digits over names and contents of its weight files.

    Raises:
        BadInput: the folder holds no weights.
    """
    kinds = ("*.safetensors", "*.bin", "*.gguf")
    files = next((found for kind in kinds if (found := sorted(Path(folder).glob(kind)))), [])
    if not files:
        raise BadInput(f"{folder} holds no weights (*.safetensors)")
    whole = hashlib.sha256()
    for file in files:
        state = file.stat()
        whole.update(f"{file.name} {state.st_size} {_hash(file, state.st_size, state.st_mtime_ns)}\n".encode())
    return whole.hexdigest()[:12]


@lru_cache(maxsize=64)
def _hash(file: Path, size: int, changed: int) -> str:
    """SHA-256 of a file; size and time of change are only there to key the cache."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def filling(target: Path) -> Iterator[Path]:
    """A folder to fill that takes the place of `target` only once it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield folder
        folder.chmod(0o755)
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
            target.rename(old / "old")
            folder.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' notices, and its progress bars where nobody watches."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(40)  # errors only
    if not sys.stderr.isatty():
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def need_train() -> None:
    """Prepare for torch. Raises MissingExtra where it or transformers is not installed."""
    for module in ("torch", "transformers"):
        if find_spec(module) is None:
            raise MissingExtra(f"{module}, which runs models in this process,", "train")
    if (
        "torch" not in sys.modules
    ):  # read once, when torch starts its threads: idle ones must not spin beside env workers
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _shown_name(name: str | Path, folder: Path) -> str:
    known = read_card(folder).get("name")
    return str(known) if known else (folder.resolve().name if Path(name).expanduser().is_dir() else str(name))


def _device(device: str) -> str:
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BadInput(f"device {device!r} cannot be used: {_line(error)}") from error
    return device


def _dtype(dtype: str, device: str) -> torch.dtype:
    import torch

    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype == "auto":
        return torch.bfloat16 if device.startswith("cuda") else torch.float32
    if dtype not in kinds:
        raise BadInput(f"unknown dtype {dtype!r}; it is one of auto, {', '.join(kinds)}")
    return kinds[dtype]


def _from_hub(name: str) -> Path:
    need_train()
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    wanted = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt"]
    shown = not are_progress_bars_disabled()
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # the hub client raises a dozen kinds: offline, unknown, gated, no space
        reasons = {
            "RepositoryNotFoundError": "the hub has no such model",
            "GatedRepoError": "its licence must be accepted on the hub first",
            "LocalEntryNotFoundError": "the hub cannot be reached and the model is not in its cache",
        }
        why = reasons.get(type(error).__name__, _line(error))
        raise BadInput(f"model {name!r} is no local folder and could not be fetched from the hub: {why}") from error
    finally:
        if shown:
            enable_progress_bars()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
