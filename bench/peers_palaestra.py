"""Palaestra with all that it does: exact ids, a store on disk, progress. A child of bench/peers.py.

`--way exact` talks to the server as to vLLM, with token ids in and out; `--way chat` as to any OpenAI-compatible one.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from peers_case import Meter, read_case

from palaestra.agents.collect import collect
from palaestra.agents.policy import Policy, Sampling
from palaestra.agents.progress import Lines
from palaestra.agents.store import EpisodeStore


def main() -> None:
    case = read_case()
    sampling = Sampling(max_tokens=case.tokens)
    policy: Policy
    if case.way == "exact":
        from palaestra.agents.policies.vllm import VLLMPolicy

        policy = VLLMPolicy(case.url, model=case.model, sampling=sampling, concurrency=case.concurrency)
    else:
        from palaestra.agents.policies.openai import OpenAIPolicy

        policy = OpenAIPolicy(f"{case.url}/v1", case.model, sampling=sampling, concurrency=case.concurrency)
    meter = Meter(case)
    with tempfile.TemporaryDirectory() as folder, EpisodeStore(Path(folder) / "episodes.sqlite") as store:
        for first, count in ((0, case.warm), (case.warm, case.episodes)):
            if first:
                meter.start()
            report = collect(
                case.tasks(count, first),
                policy,
                store,
                concurrency=case.concurrency,
                env_settings={"max_steps": case.turns},
                progress=Lines(1.0),
            )
        meter.stop(report.episodes)
        assert report.faults == 0, report
        told = [turn.tokens for episode in store.episodes() for turn in episode.turns]
        assert all((tokens is not None) == (case.way == "exact") for tokens in told)


if __name__ == "__main__":
    main()
