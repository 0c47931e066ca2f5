"""Tokens per processor second of the transformers policy on an agent's prompts, and of `model.generate`.

    python bench/generation.py [--model smollm2-135m] [--batch 8 16] [--turns 4]

Every episode begins with the same instructions, its first prompt has some 275 ids, each turn adds some 80, and an
answer has 12. Time is processor time, so that others on the machine decide little; ratios carry over between machines.
Writes bench/results/generation.json.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

import torch

from palaestra.agents.message import Message
from palaestra.agents.models import LoadedModel, load_model
from palaestra.agents.policies.hf import HFPolicy
from palaestra.agents.policy import Request, Sampling
from palaestra.agents.template import ChatTemplate

WORDS = [
    "door",
    "kettle",
    "water",
    "stove",
    "open",
    "kitchen",
    "hall",
    "metal",
    "pot",
    "orange",
    "wire",
    "bulb",
    "seed",
]
ANSWER = 12


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


def episodes(template: ChatTemplate, batch: int, turns: int) -> tuple[list[list[int]], list[list[list[int]]]]:
    """First prompts, and what is appended before each later turn: the same for everybody who is measured."""
    rng = random.Random(0)
    rules = words(rng, 190)
    first = [
        template.opening([Message(role="system", content=rules), Message(role="user", content=words(rng, 70))])
        for _ in range(batch)
    ]
    later = [
        [template.extend([Message(role="user", content=words(rng, rng.randint(40, 75)))], closed=False) for _ in first]
        for _ in range(turns - 1)
    ]
    return first, later


def by_policy(loaded: LoadedModel, batch: int, turns: int, memory: int) -> float:
    policy = HFPolicy(loaded, sampling=Sampling(max_tokens=ANSWER), batch_size=batch, memory=memory)
    policy.template.eos_ids = frozenset()  # every answer has its full length, so that all do the same work
    prompts, later = episodes(policy.template, batch, turns)
    start = time.process_time()
    for turn in range(turns):
        answers = policy.act([Request([], seed=i, prompt_ids=ids) for i, ids in enumerate(prompts)])
        if turn < turns - 1:
            prompts = [[*p, *a.ids, *more] for p, a, more in zip(prompts, answers, later[turn], strict=True)]
    return batch * turns * ANSWER / (time.process_time() - start)


def by_generate(loaded: LoadedModel, batch: int, turns: int) -> float:
    template = ChatTemplate(loaded.tokenizer)
    prompts, later = episodes(template, batch, turns)
    model, pad = loaded.model, template.end_id
    start = time.process_time()
    for turn in range(turns):
        width = max(map(len, prompts))
        ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=model.device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=ANSWER,
                min_new_tokens=ANSWER,
                do_sample=True,
                top_k=0,
            )
        if turn < turns - 1:
            answers = out[:, width:].tolist()
            prompts = [[*p, *a, *more] for p, a, more in zip(prompts, answers, later[turn], strict=True)]
    return batch * turns * ANSWER / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--turns", type=int, default=4)
    options = parser.parse_args()
    loaded = load_model(options.model)
    rows = []
    for batch in options.batch:
        kept = by_policy(loaded, batch, options.turns, 4 << 30)
        anew = by_policy(loaded, batch, options.turns, 0)
        plain = by_generate(loaded, batch, options.turns)
        rows.append({"batch": batch, "kept": kept, "anew": anew, "generate": plain, "ratio": kept / plain})
        print(
            f"batch {batch:3}: {kept:6.1f} tokens per CPU second with kept prefixes, {anew:6.1f} without, "
            f"{plain:6.1f} by model.generate: {kept / plain:.1f} times as fast"
        )
    result = {
        "command": "python bench/generation.py " + " ".join(sys.argv[1:]),
        "threads": torch.get_num_threads(),
        "device": str(loaded.model.device),
        "torch": torch.__version__,
        "rows": rows,
    }
    target = Path(__file__).parent / "results" / "generation.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
