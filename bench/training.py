"""Training speed on agent-like samples: ids a second of `CrossEntropy` against plain TRL SFT on the same ids and masks.

    python bench/training.py            # a model of SmolLM2-135M's shape with random weights; some minutes on 2 cores
    python bench/training.py --forks    # samples that fork from one another, where beginnings can be shared

Both see the same samples once, with the same labels and the same optimiser. Plain TRL pads batches of 8 and, on a CPU,
computes the head at every position; ours groups by length and computes it only where a token has a weight. Time is
processor time, so that others on the machine decide little. The losses of all ways are compared.
"""

from __future__ import annotations

import argparse
import json
import os
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
from palaestra.trainers.prefix_tree import grow
from palaestra.trainers.sample import Sample

COUNT = 8
LAYERS = 30
"""Of SmolLM2-135M. Fewer (`--layers`) are for machines that have no time."""


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


def forks() -> list[Sample]:
    """One episode of 8 turns and seven forks of it at different steps, as EEF and Agent-R learn from: each has a weight
    on its own turns only, and 200 ids of instructions are common to all."""
    rng = np.random.default_rng(1)

    def turns(count: int, weight: float) -> tuple[list[int], list[float]]:
        ids, weights = list[int](), list[float]()
        for _ in range(count):
            read, written = int(rng.integers(20, 51)), int(rng.integers(6, 13))
            ids += [int(id) for id in rng.integers(10, 49000, read + written)]
            weights += [0.0] * read + [weight] * written
        return ids, weights

    start = [int(id) for id in rng.integers(10, 49000, 200)]
    parts = [turns(1, 1.0) for _ in range(8)]
    made = []
    for number in range(COUNT):
        before = [id for ids, _ in parts[:number] for id in ids]
        own, weights = turns(8 - number, 1.0)
        if not number:
            before, (own, weights) = [], ([i for ids, _ in parts for i in ids], [w for _, ws in parts for w in ws])
        zeros = [0.0] * (len(start) + len(before))
        made.append(
            Sample(ids=(*start, *before, *own), weights=(*zeros, *weights), episodes=("e",), task="t", split="train")
        )
    return made


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=LAYERS, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        pad_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "c": 2}, unk_token="a"))
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="b", eos_token="c", pad_token="c")


def plain(data: list[Sample]) -> tuple[float, float]:
    """Processor seconds that plain TRL takes for one epoch, and the loss."""
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
        loss = float(trainer.train().training_loss)
        return time.process_time() - start, loss


def ours(data: list[Sample], **settings: object) -> tuple[float, float]:
    """Processor seconds that `CrossEntropy` takes for one epoch, and the loss."""
    config = CrossEntropy.model_validate({"epochs": 1, "batch": 8, "learning_rate": 2e-5, "warmup": 0, **settings})
    with tempfile.TemporaryDirectory() as scratch:
        fresh = model()
        start = time.process_time()
        _, report = train_loaded(fresh, tokenizer(), data, config, scratch=Path(scratch))
        return time.process_time() - start, report.losses[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", help="where the figures are written")
    parser.add_argument("--forks", action="store_true", help="samples that fork from one another")
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--only", nargs="+", help="the ways to be measured, by parts of their names")
    options = parser.parse_args()
    globals()["LAYERS"] = options.layers
    data = forks() if options.forks else samples()
    ids, trained = sum(len(s.ids) for s in data), sum(s.trained_tokens for s in data)
    nodes = len(grow(data).ids)
    print(f"{len(data)} samples, {ids} ids ({nodes} if shared), {trained} trained; {torch.get_num_threads()} threads")
    found: dict[str, float] = {}
    losses: dict[str, float] = {}
    for name, run in (
        ("plain TRL", lambda: plain(data)),
        ("ours", lambda: ours(data)),
        ("ours, packed rows of 1024", lambda: ours(data, packing=True, micro_tokens=1024)),
        ("ours, sharing, rows of 1024", lambda: ours(data, sharing=True, micro_tokens=1024)),
        ("ours, sharing, rows of 2048", lambda: ours(data, sharing=True, micro_tokens=2048)),
        *([] if options.forks else [("ours, LoRA", lambda: ours(data, lora={"rank": 16}))]),
    ):
        if options.only and not any(part in name for part in options.only):
            continue
        seconds, losses[name] = run()
        found[name] = ids / seconds
        first = next(iter(found))
        told = f"{found[name]:7.0f} ids a processor second  {found[name] / found[first]:.2f} x {first}"
        told += f"  loss {losses[name]:.5f}"
        print(f"{name:28} {told}", flush=True)
    if options.out:
        record = {
            "command": "python bench/training.py " + " ".join(sys.argv[1:]),
            "ids": ids,
            "ids_if_shared": nodes,
            "trained": trained,
            "layers": options.layers,
            "threads": torch.get_num_threads(),
            "load": round(os.getloadavg()[0], 1),
            "ids_per_processor_second": {name: round(speed, 1) for name, speed in found.items()},
            "losses": losses,
        }
        Path(options.out).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
