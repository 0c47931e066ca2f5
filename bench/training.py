"""Training speed on agent-like samples: ids a second of `CrossEntropy` against plain TRL SFT on the same ids and masks.

    python bench/training.py            # a model of SmolLM2-135M's shape with random weights; some minutes on 2 cores

Both see the same samples once, with the same labels and the same optimiser. Plain TRL pads batches of 8 and, on a CPU,
computes the head at every position; ours groups by length and computes it only where a token has a weight. Time is
processor time, so that others on the machine decide little.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from palaestra.trainers.cross_entropy import train_loaded
from palaestra.trainers.objective import CrossEntropy
from palaestra.trainers.sample import Sample

COUNT = 8


def samples() -> list[Sample]:
    """Episodes of 2 to 10 turns: 20 to 50 ids read, 6 to 12 ids written a turn, 60 of instructions."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(COUNT):
        weights = [0.0] * 60
        for _ in range(int(rng.integers(2, 11))):
            weights += [0.0] * int(rng.integers(20, 51)) + [1.0] * int(rng.integers(6, 13))
        ids = tuple(int(id) for id in rng.integers(10, 49000, len(weights)))
        made.append(Sample(ids=ids, weights=tuple(weights), episodes=(str(number),), task="t", split="train"))
    return made


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        pad_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "c": 2}, unk_token="a"))
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="b", eos_token="c", pad_token="c")


def plain(data: list[Sample]) -> float:
    """Processor seconds that plain TRL takes for one epoch."""
    rows = {
        "input_ids": [list(sample.ids) for sample in data],
        "labels": [[id if w else -100 for id, w in zip(s.ids, s.weights, strict=True)] for s in data],
    }
    fresh = model()
    start = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SFTConfig(
            output_dir=scratch, num_train_epochs=1, per_device_train_batch_size=8, use_cpu=True, bf16=False,
            gradient_checkpointing=False, max_length=None, learning_rate=2e-5, logging_strategy="no",
            save_strategy="no", report_to="none", disable_tqdm=True, seed=0,
        )  # fmt: skip
        trainer = SFTTrainer(
            model=fresh, args=arguments, train_dataset=Dataset.from_dict(rows), processing_class=tokenizer()
        )
        trainer.train()
        return time.process_time() - start


def ours(data: list[Sample], **settings: object) -> float:
    """Processor seconds that `CrossEntropy` takes for one epoch."""
    config = CrossEntropy.model_validate({"epochs": 1, "batch": 8, "learning_rate": 2e-5, "warmup": 0, **settings})
    with tempfile.TemporaryDirectory() as scratch:
        fresh = model()
        start = time.process_time()
        train_loaded(fresh, tokenizer(), data, config, scratch=Path(scratch))
        return time.process_time() - start


def main() -> None:
    data = samples()
    ids, trained = sum(len(s.ids) for s in data), sum(s.trained_tokens for s in data)
    print(f"{len(data)} samples, {ids} ids, {trained} of them trained; {torch.get_num_threads()} threads", flush=True)
    found: dict[str, float] = {}
    for name, run in (
        ("plain TRL", lambda: plain(data)),
        ("ours", lambda: ours(data)),
        ("ours, packed rows of 1024", lambda: ours(data, packing=True, micro_tokens=1024)),
        ("ours, LoRA", lambda: ours(data, lora={"rank": 16})),
    ):
        seconds = run()
        found[name] = ids / seconds
        ratio = found[name] / found["plain TRL"]
        print(f"{name:28} {found[name]:7.0f} ids a processor second  {ratio:.2f} x plain TRL", flush=True)
    if len(sys.argv) > 1:
        record = {
            "command": f"python bench/training.py {sys.argv[1]}",
            "ids": ids,
            "trained": trained,
            "ids_per_processor_second": found,
        }
        Path(sys.argv[1]).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
