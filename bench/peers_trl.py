"""TRL's asynchronous rollout worker: the same episodes by its loop, with exact ids. A child of bench/peers.py.

Its own turn loop is for tool calls; an environment of texts has its `_generate_one`, as TRL's own harness for OpenEnv
has. The loop runs in this process, as it does in the worker's.
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import time
import uuid
from typing import Any

from accelerate.state import PartialState
from datasets import Dataset
from peers_case import FORM, Case, Meter, first_line, read_case
from transformers import AutoTokenizer
from trl.experimental.async_grpo.async_rollout_worker import TurnRecord, _AsyncRolloutLoop, _chain_to_sequences


class Loop(_AsyncRolloutLoop):
    """Rollouts of bandits; measures from the first one after the warm ones to the last."""

    _provides_rollout_reward = True

    def __init__(self, case: Case, meter: Meter, **more: Any) -> None:
        super().__init__(**more)
        self.reward_func_names.append("environment")
        self.case, self.meter, self.done = case, meter, 0
        self.known = {task.name: task for task in case.tasks(case.warm + case.episodes)}
        self.idle = [case.make() for _ in range(case.concurrency)]

    async def _generate_one(self, prompt: Any, tool_dict: Any, tools: Any, group_id: int = 0) -> Any:
        began, loop = time.monotonic(), asyncio.get_running_loop()
        env = self.idle.pop()
        task = self.known[prompt[-1]["content"]]
        observation, _ = await loop.run_in_executor(
            self._tool_pool, functools.partial(env.reset, options={"task": task})
        )
        messages: list[Any] = [
            {"role": "system", "content": f"{env.instructions(task)}\n{FORM}"},
            {"role": "user", "content": observation},
        ]
        turns, said, completion = [], [], []
        for _ in range(self.case.turns):
            prompt_ids = self.tokenizer.apply_chat_template(messages, return_dict=False, add_generation_prompt=True)
            ids, logprobs = await self._generate_one_turn(prompt_ids)
            text = self.tokenizer.decode(ids, skip_special_tokens=True)
            turns.append(TurnRecord(prompt_ids, ids, logprobs))
            said += ids
            step = await loop.run_in_executor(self._tool_pool, env.step, first_line(text))
            new = [{"role": "assistant", "content": text}, {"role": "user", "content": step[0]}]
            messages += new
            completion += new
            if step[2] or step[3]:
                break
        sequences, tally = _chain_to_sequences(turns, uuid.uuid4().hex, self._fork_threshold_tokens)
        self._push_rollout_metrics(
            turns=len(turns),
            sequences=len(sequences),
            completion_ids=said,
            tally=tally,
            loop_exhausted=False,
            duration_s=time.monotonic() - began,
        )
        self.idle.append(env)
        self._count()
        return completion, said, sequences, 0, 0, float(env.score)

    def _count(self) -> None:
        self.done += 1
        if self.done == self.case.warm:
            self.meter.start()
        elif self.done == self.case.warm + self.case.episodes:
            self.meter.stop(self.case.episodes)
            self._stop_event.set()


def drain(samples: Any) -> None:
    """The trainer's side, in a process of its own, which is not measured."""
    while True:
        samples.get()


def main() -> None:
    case = read_case()
    PartialState()
    context = multiprocessing.get_context("spawn")
    samples: Any = context.Queue()
    tokenizer = AutoTokenizer.from_pretrained(case.tokenizer)
    tokenizer.response_schema = {"type": "object"}  # of tool calls, which nobody makes here
    rows = [{"prompt": [{"role": "user", "content": t.name}]} for t in case.tasks(case.warm + case.episodes)]
    loop = Loop(
        case,
        Meter(case),
        model_name=case.model,
        dataset=Dataset.from_list(rows),
        reward_funcs=[],
        processing_class=tokenizer,
        eos_token_ids=[tokenizer.eos_token_id],
        rollout_buffer=samples,
        model_version_value=context.Value("i", 0),
        heartbeat_value=context.Value("d", 0.0),
        failed_event=context.Event(),
        exception_info_queue=context.Queue(maxsize=1),
        metrics_queue=context.Queue(maxsize=4096),
        num_generations=1,
        max_inflight_tasks=case.concurrency,
        vllm_server_url=case.url,
        max_tokens=case.tokens,
        temperature=1.0,
    )
    trainer = multiprocessing.get_context("fork").Process(target=drain, args=(samples,), daemon=True)
    trainer.start()
    loop.run()
    trainer.terminate()
    for waiting in (samples, loop._metrics_queue):
        waiting.cancel_join_thread()


if __name__ == "__main__":
    main()
