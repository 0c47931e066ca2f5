"""TRL's GRPO trains on an environment that Palaestra serves, several turns an episode, through OpenEnv's own client.

    palaestra serve crafting &
    pip install openenv          # into an environment of its own, with trl
    python examples/trl_grpo.py MODEL http://127.0.0.1:8000 --task d1/bakery-0 --task d1/pottery-0

Nothing of Palaestra is imported: this is what a user of TRL writes. A group of GRPO is `--generations` episodes of one
task; what the environment says is in the context and carries no loss (`env_mask`), and the score of the episode is the
reward.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from datasets import Dataset
from openenv.core import GenericEnvClient
from trl import GRPOConfig, GRPOTrainer


class Rollout:
    """Plays one episode for each prompt; a prompt names a task of the served environment."""

    def __init__(self, url: str, turns: int, max_tokens: int) -> None:
        self.url, self.turns, self.max_tokens = url, turns, max_tokens

    def __call__(self, prompts: list[list[dict[str, str]]], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        played = [self.episode(prompt[-1]["content"], trainer) for prompt in prompts]
        return {key: [one[key] for one in played] for key in played[0]}

    def episode(self, task: str, trainer: GRPOTrainer) -> dict[str, Any]:
        """One episode: the ids of the prompt and of all that follows it, which of those the model wrote, the score."""
        tokenizer = trainer.processing_class
        with GenericEnvClient(base_url=self.url).sync() as env:
            result = env.reset(task=task, split="train")
            first = f"{result.observation['instructions']}\n\n{result.observation['text']}"
            prompt = said(tokenizer, first)
            ids, logprobs, mask = list[int](), list[float](), list[int]()
            for turn in range(self.turns):
                answer, chances = sample(trainer, prompt + ids, self.max_tokens)
                ids += answer
                logprobs += chances
                mask += [1] * len(answer)
                result = env.step({"message": tokenizer.decode(answer, skip_special_tokens=True)})
                if result.done or turn == self.turns - 1:
                    break
                told = said(tokenizer, result.observation["text"])
                ids += told
                logprobs += [0.0] * len(told)
                mask += [0] * len(told)
            score = float(result.observation["score"])
        return {"prompt_ids": prompt, "completion_ids": ids, "logprobs": logprobs, "env_mask": mask, "score": score}


def said(tokenizer: Any, text: str) -> list[int]:
    """The ids of one message of the user's, up to where the model answers."""
    message = [{"role": "user", "content": text}]
    rendered: str = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    return ids


def sample(trainer: GRPOTrainer, ids: list[int], max_tokens: int) -> tuple[list[int], list[float]]:
    """An answer of the model and the log-probability of each of its ids."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    given = torch.tensor([ids], device=model.device)
    with torch.no_grad():
        out = model.generate(
            given, do_sample=True, max_new_tokens=max_tokens, output_logits=True, return_dict_in_generate=True
        )
    answer = out.sequences[0, given.shape[1] :]
    logits = torch.cat(out.logits).float().log_softmax(-1)
    return answer.tolist(), logits.gather(1, answer[:, None])[:, 0].tolist()


def main() -> None:
    """Train, and print the mean score of each step."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("model")
    asked.add_argument("url")
    asked.add_argument("--task", action="append", required=True)
    asked.add_argument("--steps", type=int, default=4)
    asked.add_argument("--generations", type=int, default=4)
    asked.add_argument("--turns", type=int, default=4)
    asked.add_argument("--max-tokens", type=int, default=24)
    asked.add_argument("--out", default="trl-grpo")
    given = asked.parse_args()
    settings = GRPOConfig(
        output_dir=given.out,
        max_steps=given.steps,
        per_device_train_batch_size=given.generations,
        num_generations=given.generations,
        max_completion_length=4096,
        learning_rate=1e-4,
        gradient_checkpointing=False,
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available(),
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=given.model,
        args=settings,
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": task}]} for task in given.task]),
        reward_funcs=lambda score, **_: score,
        rollout_func=Rollout(given.url, given.turns, given.max_tokens),
    )
    trainer.train()
    for entry in trainer.state.log_history:
        if "reward" in entry:
            print(f"step {entry['step']}: mean score {entry['reward']:.3f}, tokens {entry['num_tokens']:.0f}")
    trainer.save_model(given.out)


if __name__ == "__main__":
    main()
