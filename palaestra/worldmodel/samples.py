"""What a world model learns from: transitions as samples of pages and of judgements, and the thoughts before them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from palaestra.agents.message import Message
from palaestra.agents.policy import Policy, Request
from palaestra.trainers.sample import Sample
from palaestra.worldmodel.judging import question, verdict
from palaestra.worldmodel.page import PageFormat
from palaestra.worldmodel.transitions import Transition

if TYPE_CHECKING:
    from palaestra.agents.template import ChatTemplate
    from palaestra.worldmodel.training import WorldConfig


def samples_of(
    transitions: Iterable[Transition], config: WorldConfig, template: ChatTemplate, instructions: Mapping[str, str]
) -> list[Sample]:
    """One sample a transition, the page with all weight; and one a judgement, if it learns to judge."""
    found = []
    for t in transitions:
        told = instructions[t.task.id]
        asked = t.branch(told).asked(t.action)
        answer = config.page.write(t.next, t.status, t.actions, t.thought)
        found.append(_sample(t, config.page.messages(asked), answer, template, "transition"))
        if config.judge:
            said = question(t.case(told), config.page)
            worth = t.score if config.worth == "score" else t.worth
            found.append(_sample(t, said, verdict(worth, t.success), template, "judgement"))
    return found


def rationales(transitions: Sequence[Transition], policy: Policy, page: PageFormat) -> list[Transition]:
    """The transitions with a thought each: why the action leads to that page, in the words of a policy.

    Pages are shown as `page` cuts them. What the policy does not answer (its context is too short) has no thought.
    """
    requests = []
    for number, t in enumerate(transitions):
        said = [
            Message(role="system", content="Say in one sentence why the action changes the page as it does."),
            Message(
                role="user",
                content=f"Task: {page.cut(t.first)}\nPage: {page.cut(t.page)}\nAction: {t.action}\n"
                f"The page that came: {page.cut(t.next)}",
            ),
        ]
        requests.append(Request(said, number, policy.template.opening(said) if policy.template is not None else ()))
    thoughts: list[str] = []
    for first in range(0, len(requests), policy.batch_size):
        answers = policy.act(requests[first : first + policy.batch_size])
        thoughts += ["" if answer.error else " ".join(answer.text.split()) for answer in answers]
    return [t.model_copy(update={"thought": thought}) for t, thought in zip(transitions, thoughts, strict=True)]


def _sample(
    transition: Transition, messages: Sequence[Message], answer: str, template: ChatTemplate, kind: str
) -> Sample:
    prompt, written = template.opening(messages), template.encode_completion(answer)
    return Sample(
        ids=(*prompt, *written),
        weights=(*([0.0] * len(prompt)), *([1.0] * len(written))),
        episodes=(transition.episode,),
        task=transition.task.id,
        split=transition.task.split,
        kind=kind,
    )
