"""General chat as samples, to be mixed with what an agent learns so that it does not forget how to talk."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from palaestra.agents.message import Message
from palaestra.agents.record_files import Record, read_records
from palaestra.envs import BadInput
from palaestra.trainers.sample import Sample

if TYPE_CHECKING:
    from palaestra.agents.template import ChatTemplate


def read_chats(source: str, template: ChatTemplate, split: str) -> list[Sample]:
    """Read conversations: every answer of the assistant has weight 1.

    Args:
        source: a JSONL file whose records hold `messages` of `role` and `content`, or "own".
        template: renders them. split: the split that the samples are given: they belong to no task.

    Raises:
        BadInput: the file, line and what is wrong with it.
    """
    if source == "own":
        with as_file(files("palaestra.trainers") / "general_chat.jsonl") as path:
            return _read(path, template, split)
    return _read(Path(source), template, split)


def mixed(agent: Sequence[Sample], general: Sequence[Sample], eta: float) -> list[Sample]:
    """Both kinds, weighted so that the agent's have the share `eta` of all weight (eq. 5 of arXiv 2501.11425)."""
    ours, theirs = (sum(sum(sample.weights) for sample in samples) for samples in (agent, general))
    if not ours or not theirs or eta == 1.0:
        return list(agent)
    factor = (1 - eta) / eta * ours / theirs
    scaled = [s.model_copy(update={"weights": tuple(w * factor for w in s.weights)}) for s in general]
    return [*agent, *scaled]


def _read(path: Path, template: ChatTemplate, split: str) -> list[Sample]:
    return [_sample(where, record, template, split) for where, record in read_records(path)]


def _sample(where: str, record: Record, template: ChatTemplate, split: str) -> Sample:
    messages = record.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadInput(f"{where}: holds no list 'messages'")
    ids: list[int] = []
    weights: list[float] = []
    before: list[Message] = []
    for place, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
            raise BadInput(f"{where}: message {place} needs texts 'role' and 'content'")
        if message["role"] != "assistant":
            before.append(Message(role=message["role"], content=message["content"]))
            continue
        if not before or before[-1]["role"] != "user":
            raise BadInput(f"{where}: message {place} is an answer to nothing")
        context = template.extend(before, closed=True) if ids else template.opening(before)
        answer = template.encode_completion(message["content"])
        ids += [*context, *answer]
        weights += [0.0] * len(context) + [1.0] * len(answer)
        before = []
    if not ids:
        raise BadInput(f"{where}: holds no answer of an assistant")
    return Sample(ids=tuple(ids), weights=tuple(weights), episodes=(where,), task="chat", split=split, kind="general")
