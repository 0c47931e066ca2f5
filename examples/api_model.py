"""Evaluate a model behind an OpenAI-compatible API on held-out tasks, with an evaluation card and what it cost.

    OPENAI_API_KEY=... python examples/api_model.py https://HOST/v1 MODEL [TASKS]

Any such server will do: a provider's, vLLM's, llama.cpp's, Ollama's (extra: openai). Run again, it goes on where it
stopped.
"""

import sys
from pathlib import Path

from palaestra.agents.conversation import Conversation
from palaestra.agents.policies.openai import OpenAIPolicy
from palaestra.agents.policy import Sampling
from palaestra.agents.store import EpisodeStore
from palaestra.trainers.evaluate import evaluate


def main(url: str, model: str, tasks: int = 20, out: str = "runs/api") -> None:
    """Play `tasks` held-out worlds of crafting and write the card."""
    policy = OpenAIPolicy(url, model, sampling=Sampling(temperature=0.0, max_tokens=200), concurrency=8)
    # a thought before each action, the admissible actions under each observation, the last six turns
    conversation = Conversation(style="react", actions=20, window=6)
    with EpisodeStore(Path(out) / "episodes.sqlite") as store:
        result = evaluate("crafting", policy, store, tasks=tasks, conversation=conversation)
    Path(out, "card.md").write_text(result.card.markdown(), encoding="utf-8")
    print(f"success {result.success.text(percent=True)}   score {result.score.text()}")
    print(f"{result.episodes} episodes, {result.card.faults} faults, {result.steps:.1f} actions an episode")
    print(f"{result.prompt_tokens:,} tokens read, {result.completion_tokens:,} written")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:4]))
