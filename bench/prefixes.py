"""How much of its prompts vLLM has read already: requests shared out by their prefixes, and as they were asked.

    python bench/prefixes.py [--model smollm2-135m] [--layers 1] [--starts 32] [--siblings 8] [--replicas 1 2]

The case is exploration from states of episodes: so many starts, each with a context of its own, and so many answers of
each; a plan asks for the first answer of every start, then for the second of every start, and so on. An engine keeps
128 blocks of 128 ids (the engine's own block on a CPU), which is less than all contexts take, and works on eight
sequences at once. `prefixes` is `VLLMPolicy` as it is; `as asked` is the same with requests in their order, each to the
replica with least to do, which is what a client does that does not look. The share of prompt ids found in the cache is
the engine's own count and does not depend on what else the machine does; the seconds do.

Writes bench/results/prefixes.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from unittest import mock

from peers import cut

from palaestra.agents.engine import Engine, ask
from palaestra.agents.models import resolve
from palaestra.agents.policies import vllm_replicas
from palaestra.agents.policies.vllm import VLLMPolicy
from palaestra.agents.policies.vllm_prefixes import Job, Known, Waiting
from palaestra.agents.policies.vllm_server import Server
from palaestra.agents.policy import Completion, Request, Sampling

BLOCKS = 128
AT_ONCE = 8
CONTEXT, OWN, ANSWER = 1024, 64, 4


class InOrder(Waiting):
    """Jobs in the order in which they were asked."""

    def take(self, fits: Callable[[Job], bool] = lambda _: True) -> Job:
        """The one that waits longest."""
        self._round.extend(self._next)
        self._next.clear()
        return self._round.popleft()


def least_busy(job: Job, servers: list[Server], known: list[Known], limit: int) -> int:
    """The replica with least to do."""
    free = [place for place, server in enumerate(servers) if server.ready and server.in_flight < limit]
    return min(free, key=lambda place: servers[place].in_flight)


@contextlib.contextmanager
def way(name: str) -> Iterator[None]:
    """Requests shared out by prefixes, or not."""
    if name == "prefixes":
        yield
        return
    with (
        mock.patch.object(vllm_replicas, "Waiting", InOrder),
        mock.patch.object(vllm_replicas, "choose", least_busy),
        mock.patch.object(vllm_replicas, "at_home", return_value=True),
    ):
        yield


def requests(options: argparse.Namespace) -> list[Request]:
    """Every start's first sibling, then every start's second one, and so on."""
    dice = random.Random(0)

    def ids(count: int) -> list[int]:
        return [dice.randrange(1_000, 40_000) for _ in range(count)]

    contexts = [ids(CONTEXT) for _ in range(options.starts)]
    return [Request((), prompt_ids=(*context, *ids(OWN))) for _ in range(options.siblings) for context in contexts]


def counts(engines: list[Engine]) -> tuple[float, float]:
    """Prompt ids that the engines were asked for, and those of them that they had, since they were started."""
    asked = had = 0.0
    for engine in engines:
        told = ask(engine.socket, "GET", "/metrics", seconds=60)[1]
        asked += sum(map(float, re.findall(r"^vllm:prefix_cache_queries_total\S* (\S+)$", told, re.M)))
        had += sum(map(float, re.findall(r"^vllm:prefix_cache_hits_total\S* (\S+)$", told, re.M)))
    return asked, had


def measured(name: str, engines: list[Engine], options: argparse.Namespace) -> dict[str, Any]:
    """One way, on cold caches."""
    with way(name):
        policy = VLLMPolicy(*engines, sampling=Sampling(max_tokens=ANSWER), concurrency=AT_ONCE)
    try:
        policy.forget()
        before, began = counts(engines), time.perf_counter()
        waiting = []
        for request in requests(options):
            waiting.append(Future[Completion]())
            policy.submit(request, waiting[-1].set_result)
        answers = [future.result() for future in waiting]
        seconds, after = time.perf_counter() - began, counts(engines)
    finally:
        policy.close()
    assert not any(answer.error for answer in answers), next(answer.error for answer in answers if answer.error)
    asked, had = after[0] - before[0], after[1] - before[1]
    return {
        "way": name,
        "replicas": len(engines),
        "prompt_ids": round(asked),
        "found": round(had / asked, 3),
        "read": round(asked - had),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--starts", type=int, default=32)
    parser.add_argument("--siblings", type=int, default=8)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    model = cut(resolve(options.model), options.layers)
    rows = []
    with contextlib.ExitStack() as stack:
        engines = []
        for _ in range(max(options.replicas)):
            limited = ("--num-gpu-blocks-override", str(BLOCKS))
            engines.append(stack.enter_context(Engine(model, context=2048, concurrency=AT_ONCE, options=limited)))
        for count in options.replicas:
            for name in ("as asked", "prefixes"):
                rows.append(measured(name, engines[:count], options))
                print(json.dumps(rows[-1]), flush=True)
    facts = {
        "command": "python bench/prefixes.py " + " ".join(sys.argv[1:]),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "model": options.model,
        "layers": options.layers,
        "starts": options.starts,
        "siblings": options.siblings,
        "ids": {"context": CONTEXT, "own": OWN, "answer": ANSWER},
        "rows": rows,
    }
    file = Path(__file__).resolve().parent / "results" / "prefixes.json"
    file.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
