"""inspect-ai: the same episodes as a task with a solver. A child of bench/peers.py; needs `inspect-ai` and `openai`."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog
from inspect_ai.model import ChatMessageSystem, ChatMessageUser
from inspect_ai.scorer import Score, Target, mean, scorer
from inspect_ai.solver import Generate, TaskState, solver
from peers_case import FORM, Case, Meter, first_line, read_case


@solver
def play(case: Case, known: dict[str, Any]) -> Any:
    """An episode: the model and the environment in turn."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        env, task = case.make(), known[str(state.metadata["task"])]
        observation, _ = env.reset(options={"task": task})
        state.messages = [
            ChatMessageSystem(content=f"{env.instructions(task)}\n{FORM}"),
            ChatMessageUser(content=observation),
        ]
        for _ in range(case.turns):
            state = await generate(state)
            observation, _, over, cut, info = env.step(first_line(state.output.completion))
            state.messages.append(ChatMessageUser(content=observation))
            if over or cut:
                break
        state.metadata["score"] = info["score"]
        return state

    return solve


@scorer(metrics=[mean()])
def reached() -> Any:
    """The environment's score."""

    async def score(state: TaskState, target: Target) -> Score:
        return Score(value=float(state.metadata["score"]))

    return score


def run(case: Case, first: int, count: int, folder: str) -> int:
    known = {task.name: task for task in case.tasks(count, first)}
    rows = [Sample(input=name, metadata={"task": name}) for name in known]
    logs: list[EvalLog] = eval(
        Task(dataset=MemoryDataset(rows), solver=play(case, known), scorer=reached()),
        model=f"openai-api/peers/{case.model}",
        model_base_url=f"{case.url}/v1",
        max_connections=case.concurrency,
        max_samples=case.concurrency,
        max_tokens=case.tokens,
        temperature=1.0,
        display="none",
        log_dir=folder,
    )
    (log,) = logs
    assert log.status == "success", log.error
    return len(log.samples or ())


def main() -> None:
    case = read_case()
    os.environ["PEERS_API_KEY"] = "none"
    meter = Meter(case)
    with tempfile.TemporaryDirectory() as folder:
        run(case, 0, case.warm, folder)
        meter.start()
        made = run(case, case.warm, case.episodes, folder)
        meter.stop(made)


if __name__ == "__main__":
    main()
