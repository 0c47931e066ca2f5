"""verifiers: the same episodes as a `MultiTurnEnv`. A child of bench/peers.py; needs `verifiers`."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import verifiers.legacy as vf
from datasets import Dataset
from peers_case import FORM, Case, Meter, first_line, read_case
from verifiers.legacy.types import ClientConfig


class Bandits(vf.MultiTurnEnv):
    """The environment behind messages."""

    def __init__(self, case: Case, first: int, count: int) -> None:
        self.case = case
        self.known = {task.name: task for task in case.tasks(count, first)}
        env, rows = case.make(), []
        for name, task in self.known.items():
            observation, _ = env.reset(options={"task": task})
            system = {"role": "system", "content": f"{env.instructions(task)}\n{FORM}"}
            rows.append({"prompt": [system, {"role": "user", "content": observation}], "answer": name})
        rubric = vf.Rubric(funcs=[self.score], weights=[1.0])
        super().__init__(eval_dataset=Dataset.from_list(rows), rubric=rubric, max_turns=case.turns)

    async def setup_state(self, state: Any) -> Any:
        env = self.case.make()
        env.reset(options={"task": self.known[state["answer"]]})
        state["env"] = env
        return state

    async def env_response(self, messages: Any, state: Any, **_: Any) -> Any:
        observation, *_ = state["env"].step(first_line(str(messages[-1]["content"])))
        return [vf.UserMessage(content=observation)]

    async def score(self, state: Any, **_: Any) -> float:
        """The last answer is taken here: the environment is not asked again after the last turn."""
        env = state["env"]
        env.step(first_line(str(state["trajectory"][-1]["completion"][-1]["content"])))
        return float(env.score)


def run(case: Case, first: int, count: int) -> int:
    bandits = Bandits(case, first, count)
    client = ClientConfig(api_key_var="PEERS_KEY", api_base_url=f"{case.url}/v1")
    work = bandits.evaluate(
        client,
        case.model,
        sampling_args={"max_tokens": case.tokens, "temperature": 1.0},
        max_concurrent=case.concurrency,
        independent_scoring=True,
    )
    outputs = asyncio.run(work)["outputs"]
    wrong = [one["error"] for one in outputs if one.get("error")]
    assert not wrong, wrong[0]
    return len(outputs)


def main() -> None:
    case = read_case()
    os.environ["PEERS_KEY"] = "none"
    meter = Meter(case)
    run(case, 0, case.warm)
    meter.start()
    made = run(case, case.warm, case.episodes)
    meter.stop(made)


if __name__ == "__main__":
    main()
