"""A small Llama and its tokenizer, built here: nothing is fetched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from palaestra.trainers.sample import Sample

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

VOCAB = 60


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w1"))
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w0", pad_token="w0")


@pytest.fixture(scope="session")
def llama() -> Callable[..., LlamaForCausalLM]:
    """Makes the same small Llama every time."""

    def make(**settings: object) -> LlamaForCausalLM:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = LlamaConfig(
            vocab_size=VOCAB,
            max_position_embeddings=128,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=0,
            **{**sizes, **settings},
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return LlamaForCausalLM(config).eval()

    return make


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    """Twenty samples of 4 to 30 ids with weights of 0, 0.5, 1 and 2."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(20):
        length = int(rng.integers(4, 31))
        weights = [0.0, *(float(w) for w in rng.choice([0.0, 0.0, 0.5, 1.0, 2.0], length - 2)), 1.0]
        ids = tuple(int(i) for i in rng.integers(1, VOCAB, length))
        made.append(Sample(ids=ids, weights=tuple(weights), episodes=(f"e{number}",), task=f"t{number}", split="train"))
    return made


@pytest.fixture(scope="session")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of RFT with experts, two iterations and a measurement after each: to be copied, not changed."""
    import lamps

    from palaestra.trainers.config import config_of
    from palaestra.trainers.rft import RFT, RFTConfig

    folder = tmp_path_factory.mktemp("short")
    model = lamps.tiny(folder / "tiny")
    quick = {
        "budget": 12,
        "evaluation": {"tasks": 4},
        "objective": {"epochs": 2, "learning_rate": 3e-3, "batch": 4},
        "experts": {"oracle": "solve", "slip": 0.4, "tasks": 6},
    }
    RFT(config_of(RFTConfig, lamps.settings(model, **quick)), folder / "run", progress="quiet").train()
    return folder / "run"
