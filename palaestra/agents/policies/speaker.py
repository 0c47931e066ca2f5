"""A policy that plays somebody inside an environment: chat messages in, words out.

Environments may not import policies; one that has a user in it (tau-bench) loads this by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import cast

from palaestra.agents.message import Message
from palaestra.agents.policies.named import policy_by_name
from palaestra.agents.policy import Policy, Request, Sampling
from palaestra.envs import BadInput, EnvFault, find

SAMPLING = Sampling(temperature=0.0, max_tokens=512)
"""How a policy that is given by its name speaks: greedily, so that the environment is as steady as the model is."""


def speaker(wanted: Policy | str, env_id: str) -> tuple[Callable[[Sequence[dict[str, str]], int], str], str]:
    """What asks a policy, and what the policy is called.

    Args:
        wanted: a policy, or a name as `--policy` takes it. The policy of a name is made once in a process and shared.
        env_id: of the environment that it speaks in.

    Raises:
        BadInput: no such policy, or one that cannot speak. MissingExtra: what it needs is not installed.
    """
    policy = _named(wanted, env_id) if isinstance(wanted, str) else wanted

    def say(messages: Sequence[dict[str, str]], seed: int) -> str:
        chat = [cast(Message, message) for message in messages]
        prompt = policy.template.opening(chat) if policy.template is not None else ()
        (answer,) = policy.act([Request(chat, seed, prompt)])
        if answer.error is not None:
            raise EnvFault(f"{policy.name}, which plays the user, did not answer: {answer.error}")
        return answer.text

    return say, f"{policy.name} {policy.version}"


@lru_cache(maxsize=8)
def _named(name: str, env_id: str) -> Policy:
    kind = name.partition(":")[0]
    if kind in ("random", "oracle", "flawed", "human"):
        raise BadInput(f"the policy {name!r} cannot play a user; a model can, such as openai:MODEL@URL")
    if kind == "tiny" and find(name.partition(":")[2] or env_id).id == env_id:
        raise BadInput(
            f"the policy {name!r} cannot play a user: it is made of the words of {env_id}, which has none yet"
        )
    return policy_by_name(name, find(env_id), SAMPLING, batch_size=1)
