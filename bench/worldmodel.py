"""The world model against the real environment: steps a second, and what one decision of look-ahead costs.

    python bench/worldmodel.py [--env webshopsmall --env miniwob ...] [--steps 48] [--model FOLDER]    # some minutes

Steps: the same recorded actions, taken in the real environment and in the one that is imagined, one episode at a time
and many at once (what several threads ask goes to the model together). Without --model a fresh tiny model of the
environment's words writes the pages: what it writes is nonsense and as long as it may be, so its cost is that of pages
of `--page-tokens`. Look-ahead: calls and batches of one decision by depth, for one episode and for many at once,
counted with a world that answers at once, so that every branch is as deep as it may be. Writes
bench/results/worldmodel.json, environment by environment. Time is processor time of this process, so that others on the
machine decide little; of environments that wait for another process (a browser) it is time by the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from palaestra.agents.conversation import Conversation
from palaestra.agents.policies.hf import HFPolicy
from palaestra.agents.policies.random import RandomPolicy
from palaestra.agents.policy import Completion, PolicyBase, Request, Sampling, Situation
from palaestra.envs import Fidelity, find, make
from palaestra.worldmodel.lookahead import LookAhead, LookAheadPlan
from palaestra.worldmodel.page import Asked, PageFormat
from palaestra.worldmodel.world import LearnedWorld, RealWorld, World

RESULTS = Path(__file__).parent / "results" / "worldmodel.json"


SETTINGS: dict[str, dict[str, object]] = {"palaestra/MiniWoB-v0": {"protocol": "solved"}}
"""Of environments with pages on which the oracle does not reach the reward of 1."""


def recorded(env_id: str, steps: int) -> list[Asked]:
    """Steps of random episodes, or of the oracle's where no actions are listed, as questions to a world."""
    env, found = make(env_id, **SETTINGS.get(env_id, {})), list[Asked]()
    policy, oracle = RandomPolicy(), None if env.lists_actions else find(env_id).oracle()
    for task in env.tasks(env.splits()[0]):
        page, info = env.reset(options={"task": task})
        first, done, over = page, list[str](), False
        while not over and len(done) < 6 and len(found) < steps:
            if oracle is not None:
                action = oracle(env)
            else:
                request = Request((), seed=len(found), actions=list(info["actions"]))
                action = policy.act([request])[0].action or ""
            found.append(Asked(task, env.instructions(task), first, tuple(done), page, action, seed=len(found)))
            page, _, over, _, info = env.step(action)
            done.append(action)
        if len(found) >= steps:
            break
    env.close()
    return found


def rate(world: World, steps: list[Asked], at_once: int, clock: Callable[[], float]) -> float:
    """Steps a second, of callers in so many threads."""
    began = clock()
    if at_once == 1:
        for step in steps:
            world.predict([step])
    else:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda step: world.predict([step]), steps))
    return len(steps) / (clock() - began)


class Goes(PolicyBase):
    """A world's policy whose pages always go on, and a judge's."""

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        return [Completion(f"Page {request.seed}.\nScore: 0.5\n== going") for request in requests]


def decisions(steps: list[Asked], depth: int, at_once: int) -> dict[str, float]:
    """What look-ahead asks for, a decision, over `at_once` episodes together."""
    words = RandomPolicy([f"action {number}" for number in range(1000)])
    ahead = LookAhead(words, LearnedWorld(Goes()), plan=LookAheadPlan(candidates=3, depth=depth, after=0))
    conversation = Conversation(window=0)
    requests = []
    for step in steps[:at_once]:
        at = Situation(step.task, step.instructions, (), step.page, conversation)
        requests.append(Request(conversation.opening(step.instructions, (), step.page), step.seed, situation=at))
    ahead.act(requests)
    spent = ahead.spent
    return {
        "depth": depth,
        "at_once": len(requests),
        "policy": spent.policy / len(requests),
        "world": spent.world / len(requests),
        "judge": spent.judge / len(requests),
        "calls": (spent.policy + spent.world + spent.judge) / len(requests),
        "batches": spent.policy_batches + spent.world_batches + spent.judge_batches,
    }


def measured(env_id: str, given: argparse.Namespace) -> dict[str, object]:
    """Real and imagined steps a second of one environment."""
    steps, rows = recorded(env_id, given.steps), {}
    waits = make(env_id).fidelity is Fidelity.REPLAY
    clock = time.perf_counter if waits else time.process_time
    with tempfile.TemporaryDirectory() as scratch:
        if given.model:
            from palaestra.worldmodel.loading import load_world

            learned = load_world(given.model, env_id)
        else:
            from palaestra.agents.tiny import make_tiny

            words = [text for step in steps for text in (step.instructions, step.first, step.page, step.action)]
            folder = make_tiny(words, Path(scratch) / "tiny", vocab=1000)
            policy = HFPolicy(folder, sampling=Sampling(temperature=0.0, max_tokens=given.page_tokens))
            learned = LearnedWorld(policy, PageFormat(max_page=800))
        learned.predict(steps[:1])  # what is only done once is done before
        for at_once in (1, 16):
            world = RealWorld(env_id, SETTINGS.get(env_id))
            world.predict(steps[:1])
            rates = []
            for _ in range(3):
                world._seen.clear()  # a browser's steps are remembered, and would cost nothing
                rates.append(rate(world, steps, at_once, clock))
            real = statistics.median(rates)
            world.close()
            learned._kept.clear()
            imagined = rate(learned, steps, at_once, clock)
            rows[at_once] = {"real": real, "imagined": imagined, "ratio": imagined / real}
            print(
                f"{env_id}, {at_once:>2} at once: real {real:,.1f} steps/s, imagined {imagined:.2f}, "
                f"ratio {imagined / real:.4f}",
                flush=True,
            )
        written = {"tokens": learned.completion_tokens / max(1, learned.calls), "model": learned.name}
    return {"steps": len(steps), "pages": written, "clock": "wall" if waits else "processor", "rates": rows}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--env", action="append", help="default: webshopsmall, webshopsite and miniwob")
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--page-tokens", type=int, default=96)
    parser.add_argument("--model", help="a world model; a fresh tiny one without this")
    given = parser.parse_args()
    names = [find(name).id for name in given.env or ("webshopsmall", "webshopsite", "miniwob")]
    record = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    environments = {**record.get("environments", {}), **{name: measured(name, given) for name in names}}
    steps = recorded(find("crafting").id, 16)
    looks = [decisions(steps, depth, at_once) for depth in (1, 2, 3) for at_once in (1, 16)]
    for look in looks:
        print(", ".join(f"{name} {value:g}" for name, value in look.items()))
    RESULTS.write_text(json.dumps({"environments": environments, "look_ahead": looks}, indent=1) + "\n")


if __name__ == "__main__":
    main()
