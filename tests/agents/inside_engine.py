"""An engine in this process, which `test_vllm_inside` starts: it says in lines of JSON what is answered.

    python inside_engine.py MODEL NEW

It is given the new weights while it runs, and its core hangs later. At the end this process waits to be killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import served

from palaestra.agents.policies.vllm import VLLMPolicy
from palaestra.agents.policy import Completion, Request, Sampling
from palaestra.envs import keeper

ACTIONS = ["pull 1", "pull 2", "look at the door (slowly)"]


def tell(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def plain(answers: list[Completion]) -> list[dict[str, object]]:
    return [
        {"ids": answer.ids, "logprobs": answer.logprobs, "text": answer.text, "error": answer.error}
        for answer in answers
    ]


def core() -> list[int]:
    """The engine's processes: all below this one but the guard, which ends them, and Python's tracker of resources."""
    made = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in keeper.descendants(os.getpid())}
    return [pid for pid, line in made.items() if b"--guard" not in line and b"resource_tracker" not in line]


def main(model: Path, new: Path) -> None:
    policy = VLLMPolicy(served.engine(model, inside=True), sampling=Sampling(max_tokens=8, seed=3))
    asked = served.requests(policy.template, 6)
    tell(answers=plain(policy.act(asked)), version=policy.version, limit=policy.prompt_limit)

    before = core()
    policy.update(new)
    tell(answers=plain(policy.act(asked)), version=policy.version, faults=policy.faults, stayed=core() == before)

    restricted = policy.sampled(Sampling(max_tokens=40))
    restricted.constrain = True
    first = asked[0]
    tell(answers=plain(restricted.act([Request(first.messages, n, first.prompt_ids, ACTIONS) for n in range(8)])))

    patient, policy._replicas._deadline = policy._replicas._deadline, 2.0  # what is stopped answers in no time at all
    for pid in core():
        os.kill(pid, signal.SIGSTOP)
    tell(answers=plain(policy.act(asked[:1])))
    policy._replicas._deadline = patient
    tell(answers=plain(policy.act(asked)), faults=policy.faults, processes=list(keeper.descendants(os.getpid())))
    sys.stdin.read()


if __name__ == "__main__":  # vLLM's processes begin by importing this file
    main(Path(sys.argv[1]), Path(sys.argv[2]))
