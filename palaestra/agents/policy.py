"""What acts: a batch of requests in, a batch of completions out.

A policy keeps no episode state, so rewinding an agent costs nothing. It may keep caches of what it computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Actor, Turn
from palaestra.agents.message import Message
from palaestra.envs import BadInput, PalaestraError, Task, TextEnv

if TYPE_CHECKING:
    from palaestra.agents.template import ChatTemplate


class Sampling(BaseModel):
    """How completions are sampled.

    Attributes:
        temperature: 0 is greedy.
        top_p: nucleus; 1 is off.
        max_tokens: completion tokens a turn at the most.
        seed: all sampling follows from it; each request adds its own number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=1.0, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    max_tokens: int = Field(default=64, ge=1)
    seed: int = Field(default=0, ge=0)


def must_fit(sampling: Sampling | None, context: int | None, model: str) -> None:
    """Refuse answers that leave no room for any prompt.

    Args:
        context: ids of a prompt and its answer together; None where it is not known.
        model: its name, for the message.

    Raises:
        BadInput: `max_tokens` is as many or more.
    """
    if sampling is not None and context is not None and sampling.max_tokens >= context:
        raise BadInput(
            f"max_tokens is {sampling.max_tokens}, and the context of {model} holds {context} ids, those of the prompt "
            "among them; use fewer max_tokens or a longer context"
        )


@dataclass(frozen=True)
class Situation:
    """Where an episode stands, for policies that think on from there (look-ahead): nothing that is hidden.

    Attributes:
        task, instructions: what is to be done, and what the environment tells every agent first.
        turns: all turns so far, from the root's reset on.
        observation: the newest one, as the environment said it.
        conversation: how the episode is shown, and answers are read.
        actions: the admissible actions, where somebody wanted them.
        key: of the episode, so that what was thought out for it at an earlier turn is found again; empty for none.
        cap: turns from the root's reset until the episode is truncated; None for no limit.
    """

    task: Task
    instructions: str
    turns: Sequence[Turn]
    observation: str
    conversation: Conversation
    actions: Sequence[str] | None = None
    key: str = ""
    cap: int | None = None


@dataclass(frozen=True)
class Request:
    """One waiting turn.

    Attributes:
        messages: the conversation so far, the newest observation last.
        prompt_ids: the exact ids of the transcript so far, generation prompt included; empty without a template.
        actions: the admissible actions, where the environment lists them and the policy `wants_actions`.
        env: the running environment, for policies that `looks_inside` (oracles, humans' undo); None for all others.
        seed: of this one turn: a function of the run's seed, the start, the sample and the turn.
        situation: where the episode stands; None for requests that belong to no episode.
        max_tokens: ids that this answer may have, where that is less than the policy's sampling allows; None for that.
    """

    messages: Sequence[Message]
    seed: int = 0
    prompt_ids: Sequence[int] = ()
    actions: Sequence[str] | None = None
    env: TextEnv[Any] | None = None
    situation: Situation | None = None
    max_tokens: int | None = None


@dataclass(frozen=True)
class Completion:
    """The answer to one request.

    Attributes:
        text: what was written, without the template's end-of-turn token.
        ids: the sampled ids, end-of-turn token included when it was sampled; empty for policies without template.
        logprobs: log-probability of each id under the distribution it was sampled from; empty where unknown.
        finished: False when `max_tokens` cut it off.
        action: set by policies that choose an action instead of writing (oracles, scripts): the collector then writes
            the completion in the conversation's style, and `text` is not looked at.
        error: why this one request could not be answered (a prompt longer than the model's context), in one line. The
            collector ends that episode as `policy_error`; the others of the batch go on.
        too_long: the error is that the prompt does not fit into the policy's window: a shorter one would be answered.
        calls: model calls that it took: more than one, or none, where a strategy answers.
        certainty: mean over the ids of KL(uniform || p), in nats, p being the model's own distribution (Kang et al.,
            arXiv 2502.18581); None where the policy does not tell it.
        version: of the weights that wrote it, where they may change while episodes are under way; empty: the policy's.
    """

    text: str
    ids: Sequence[int] = ()
    logprobs: Sequence[float] = ()
    finished: bool = True
    prompt_tokens: int = 0
    completion_tokens: int = 0
    action: str | None = None
    error: str | None = None
    too_long: bool = False
    calls: int = 1
    certainty: float | None = None
    version: str = ""


@runtime_checkable
class Policy(Protocol):
    """What acts.

    Attributes:
        name: shown to people; part of the provenance.
        version: changes whenever the weights do; part of the episode key.
        actor: as whom it is recorded.
        sampling: how it samples, for the provenance.
        template: renders conversations to exact ids; None for policies that read messages.
        batch_size: how many requests are worth handing over at once.
        wants_actions: hand over the admissible actions.
        looks_inside: hand over the environment itself. Such a policy is asked in the environment's own thread, one
            request at a time and from several threads at once.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def actor(self) -> Actor: ...
    @property
    def sampling(self) -> Sampling | None: ...
    @property
    def template(self) -> ChatTemplate | None: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def wants_actions(self) -> bool: ...
    @property
    def looks_inside(self) -> bool: ...

    def act(self, requests: Sequence[Request]) -> Sequence[Completion]:
        """Answer every request, in order. Raises what the engine raises: the collector turns it into `policy_error`."""
        ...


@dataclass
class PolicyBase:
    """Defaults of `Policy` for policies without a model."""

    name: str = "policy"
    version: str = "0"
    actor: Actor = Actor.POLICY
    sampling: Sampling | None = None
    template: ChatTemplate | None = None
    batch_size: int = 1024
    wants_actions: bool = False
    looks_inside: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


class PolicyFault(PalaestraError):
    """A policy whose word decides something did not answer, and not because what it was asked is too long."""


def ask(policy: Policy, requests: Sequence[Request], *, retries: int = 2) -> list[Completion]:
    """Ask a policy whose word decides something (a judge, a world model), as many requests at once as it takes.

    Args:
        policy: who is asked.
        requests: what; retries: how often each is asked again that got no answer, though it was not too long.

    Returns:
        One answer a request, in order. One with an error is `too_long`.

    Raises:
        PolicyFault: one of them still has no answer. What the engine raises.
    """
    answers: dict[int, Completion] = {}
    for _ in range(retries + 1):
        left = [n for n in range(len(requests)) if n not in answers or _failed(answers[n])]
        for first in range(0, len(left), policy.batch_size):
            some = left[first : first + policy.batch_size]
            answers |= zip(some, policy.act([requests[n] for n in some]), strict=True)
    if failed := [answer for answer in answers.values() if _failed(answer)]:
        raise PolicyFault(
            f"{policy.name} left {len(failed)} of {len(requests)} questions without an answer, asked {retries + 1} "
            f"times; the last one: {failed[-1].error}"
        )
    return [answers[n] for n in range(len(requests))]


def _failed(answer: Completion) -> bool:
    return answer.error is not None and not answer.too_long
