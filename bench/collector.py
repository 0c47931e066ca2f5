"""Tokens/s of a whole collection over tokens/s of the bare model on the same prompts, in the same run.

    python bench/collector.py [--model tiny:bandit] [--env bandit] [--episodes 32] [--concurrency 8] [--rounds 3]

The collection does everything: environments in threads, transcripts, tokenising, the store on disk, progress. The bare
model gets the prompts that a first collection recorded, as exact ids, with nothing around it: `concurrency` episodes in
lock-step, so its batches are as full as can be. Both begin with cold prefix caches, and they take turns, so that what
else the machine does hits both alike. A ratio of 1 is a collector that costs nothing. It is given in wall time and in
CPU time of the process; the latter is the one to believe on a busy machine. Writes bench/results/collector-MODEL.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import palaestra
from palaestra.agents.collect import CollectReport, collect
from palaestra.agents.conversation import Conversation
from palaestra.agents.models import LoadedModel, load_model
from palaestra.agents.policies.hf import HFPolicy
from palaestra.agents.policy import Completion, Request, Sampling
from palaestra.agents.progress import Lines
from palaestra.agents.store import EpisodeStore


class Recording(HFPolicy):
    """Keeps every request, so that the bare model can be given the same ones."""

    def __init__(self, loaded: LoadedModel, options: argparse.Namespace) -> None:
        super().__init__(loaded, sampling=sampling(options), batch_size=options.concurrency)
        self.asked: dict[tuple[int, ...], Request] = {}
        self.batches: list[int] = []

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        self.batches.append(len(requests))
        self.asked.update({tuple(request.prompt_ids): request for request in requests})
        return super().act(requests)


def sampling(options: argparse.Namespace) -> Sampling:
    return Sampling(max_tokens=options.max_tokens)


def collected(policy: HFPolicy, options: argparse.Namespace) -> tuple[CollectReport, list[list[tuple[int, ...]]]]:
    """One collection into a new store: its report, and the prompts of every episode, turn by turn."""
    tasks = list(palaestra.find(options.env).split("train"))[: options.episodes]
    with tempfile.TemporaryDirectory() as folder, EpisodeStore(Path(folder) / "episodes.sqlite") as store:
        report = collect(
            tasks,
            policy,
            store,
            concurrency=options.concurrency,
            conversation=Conversation(window=options.window),
            env_settings={"max_steps": options.turns},
            progress=Lines(seconds=5),
        )
        prompts = []
        for episode in store.episodes():
            turns, ids = list[tuple[int, ...]](), list[int]()
            for turn in episode.turns:
                assert turn.tokens is not None
                ids = [*([] if turn.tokens.fresh else ids), *turn.tokens.context]
                turns.append(tuple(ids))
                ids += turn.tokens.completion
            prompts.append(turns)
    return report, prompts


def bare(loaded: LoadedModel, groups: list[list[Request]], options: argparse.Namespace) -> int:
    """The model alone. Tokens written."""
    policy = HFPolicy(loaded, sampling=sampling(options), batch_size=options.concurrency)
    return sum(len(answer.ids) for group in groups for answer in policy.act(group))


def speed(work: Callable[[], int]) -> tuple[float, float]:
    """Tokens a second of wall time, and of CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = work()
    return tokens / (time.perf_counter() - wall), tokens / (time.process_time() - cpu)


def lock_step(prompts: list[list[tuple[int, ...]]], policy: Recording, size: int) -> list[list[Request]]:
    """`size` episodes side by side, turn by turn, then the next ones."""
    groups = []
    for first in range(0, len(prompts), size):
        side = prompts[first : first + size]
        for turn in range(max(map(len, side))):
            groups.append([policy.asked[episode[turn]] for episode in side if turn < len(episode)])
    return groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny:bandit")
    parser.add_argument("--env", default="bandit")
    parser.add_argument("--episodes", type=int, default=32)
    parser.add_argument("--turns", type=int, default=10, help="steps an episode")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--window", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of torch; more than one needs an idle machine")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    loaded = load_model(options.model)
    recording = Recording(loaded, options)
    _, prompts = collected(recording, options)
    groups = lock_step(prompts, recording, options.concurrency)
    rows = []
    for _ in range(options.rounds):
        policy = HFPolicy(loaded, sampling=sampling(options), batch_size=options.concurrency)
        wall, cpu = speed(lambda policy=policy: collected(policy, options)[0].completion_tokens)
        bare_wall, bare_cpu = speed(lambda: bare(loaded, groups, options))
        rows.append({"collector": wall, "bare": bare_wall, "ratio": wall / bare_wall, "cpu_ratio": cpu / bare_cpu})
        print(f"{wall:.1f} tokens/s collecting, {bare_wall:.1f} bare: {wall / bare_wall:.3f}, CPU {cpu / bare_cpu:.3f}")
    ratio = statistics.median(row["ratio"] for row in rows)
    cpu_ratio = statistics.median(row["cpu_ratio"] for row in rows)
    full = statistics.mean(recording.batches)
    print(f"median ratio {ratio:.3f} (CPU {cpu_ratio:.3f}); mean batch while collecting {full:.1f}")
    result = {
        "command": "python bench/collector.py " + " ".join(sys.argv[1:]),
        "model": loaded.name,
        "ratio": ratio,
        "cpu_ratio": cpu_ratio,
        "mean_batch": full,
        "rows": rows,
        "load_average": os.getloadavg()[0],
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    target = Path(__file__).parent / "results" / f"collector-{loaded.name.replace(':', '-').replace('/', '-')}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
