"""Episodes as chat records, in the three forms others use, and such records as episodes.

- `messages`: role and content, as OpenAI and TRL have it; `"weight": 0` marks answers that are only context.
- `eto`: ShareGPT's `conversations` of `from` and `value`, as ETO (arXiv 2403.02502) publishes its expert episodes:
  the instructions, an "OK", then observations and answers; `reward` is the score.
- `agentgym`: the same with `item_id` and a `loss` for each turn, as AgentGym (arXiv 2406.04151) has it.

A conversation that forgets gives one record for each of its transcripts. What came before a fork, and turns that are
shown again, are context: they carry no weight.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

import palaestra
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Actor, Episode, Outcome, Path, Provenance, Start, Turn, episode_id, episode_key
from palaestra.agents.message import Message
from palaestra.agents.record_files import Broken, Record, read_records, what_is_wrong
from palaestra.envs import Task, find, imagines
from palaestra.envs.errors import BadInput

CHAT_FORMS = ("messages", "eto", "agentgym")
_OK = "OK"
_AGREED = re.compile(r"ok[.!]?( I'll follow your instructions and try my best to solve the task\.)?", re.IGNORECASE)
_THOUGHT_THEN_ACTION = re.compile(r"\s*thought\s*:.*\n\s*action\s*:", re.IGNORECASE | re.DOTALL)
_ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}
Naming = Callable[[Record], Task | str]
"""Says which task a record is about: a Task, or a task's name in the environment."""


@dataclass(frozen=True)
class _Said:
    message: Message
    trained: bool


# -- episodes to records -----------------------------------------------------------------------------------------------


def check_form(form: str, conversation: Conversation) -> None:
    """Raises BadInput for an unknown form, or a conversation that lists admissible actions: episodes hold none."""
    if form not in CHAT_FORMS:
        raise BadInput(f"unknown chat form {form!r}; there are: {', '.join(CHAT_FORMS)}")
    if conversation.actions:
        raise BadInput("episodes do not hold the admissible actions; export with a Conversation that has actions=0")


def chat_records(path: Path, form: str, conversation: Conversation, instructions: str) -> Iterator[Record]:
    """The records of one path: one, or one for each transcript of a conversation that forgets.

    Raises:
        BadInput: see `check_form`.
    """
    check_form(form, conversation)
    for said in _transcripts(path, conversation, instructions):
        if any(each.trained for each in said):
            yield _record(path.episode, form, said)


def _transcripts(path: Path, conversation: Conversation, instructions: str) -> Iterator[list[_Said]]:
    said: list[_Said] = []
    for step, turn in enumerate(path.turns):
        if conversation.forgets(step):
            yield said
            opening = conversation.opening(instructions, path.turns[:step], turn.observation, note=turn.note)
            said = [_Said(message, False) for message in opening]
        else:
            said.append(_Said(conversation.newest(path.turns[:step], turn.observation, note=turn.note), False))
        said.append(_Said(Message(role="assistant", content=conversation.shown_completion(turn)), step >= path.own))
    yield said


def _record(episode: Episode, form: str, said: Sequence[_Said]) -> Record:
    task = episode.start.task
    about: Record = {"id": episode.id, "task": task.model_dump(), "reward": episode.score}
    if episode.provenance.actor is Actor.IMAGINED:
        about |= {"imagined": True, "rewards": "judged" if episode.judged else "true"}
    if form == "messages":
        weights = [{"weight": 0} if s.message["role"] == "assistant" and not s.trained else {} for s in said]
        return {"messages": [{**s.message, **weight} for s, weight in zip(said, weights, strict=True)], **about}
    instructions, *rest = said
    turns: list[Record] = [
        {"from": "human", "loss": None, "value": instructions.message["content"]},
        {"from": "gpt", "loss": False, "value": _OK},
    ]
    for each in rest:
        human = each.message["role"] == "user"
        loss = None if human else each.trained
        turns.append({"from": "human" if human else "gpt", "loss": loss, "value": each.message["content"]})
    if form == "agentgym":
        short = task.env.split("/")[-1].rsplit("-v", 1)[0].lower()
        return {"item_id": f"{short}_{task.name}", "conversations": turns, **about}
    return {"conversations": [{"from": turn["from"], "value": turn["value"]} for turn in turns], **about}


# -- records to episodes -----------------------------------------------------------------------------------------------


def read_conversations(
    file: FilePath,
    *,
    env: str | None = None,
    naming: Naming | None = None,
    conversation: Conversation | None = None,
    actor: Actor = Actor.EXPERT,
    policy: str | None = None,
    score: float | None = 1.0,
    broken: Broken | None = None,
) -> Iterator[Episode]:
    """Recorded conversations (`conversations` or `messages`; JSON lines or one array) as episodes.

    The instructions and the "OK" after them are left out: the environment's own take their place. Earlier rewards are
    not in such files; the last turn gets the record's.

    Args:
        env: the environment that task names belong to; not needed where `naming` or the records give whole Tasks.
        naming: says which task a record is about; without it the record's field `task` does.
        conversation: how to read actions out of answers; thought and action if None.
        actor: as whom the episodes are recorded.
        policy: name for the provenance; the file's name if None. The policy version is the hash of the file.
        score: score in [0, 1] of records that hold neither `reward` nor `score` (published expert sets hold only
            solved tasks); None refuses such records.
        broken: told what is wrong with a record, which is then left out; None raises it.

    Raises:
        BadInput: the file, line and what is wrong with it.
    """
    reader = conversation or Conversation(style="react")
    try:
        version = hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror or error}") from None
    provenance = Provenance(
        actor=actor,
        policy=policy or f"file:{file.stem}",
        policy_version=version,
        conversation=reader.model_dump(),
        palaestra=palaestra.__version__,
    )
    samples: Counter[str] = Counter()
    splits = _splits(env) if env is not None else {}
    for where, record in read_records(file, broken):
        try:
            task = _task(where, record, env, naming, splits)
            if actor is not Actor.IMAGINED and (record.get("imagined") or imagines(task.env)):
                raise BadInput(f"{where}: what happens there was imagined, so it is nobody's own episode; leave it out")
            final = _score(where, record, score)
            turns, last = _turns(where, record, reader, final)
        except BadInput as error:
            if broken is None:
                raise
            broken(error)
            continue
        start, sample = Start(task=task), samples[task.id]
        samples[task.id] += 1
        yield Episode(
            id=episode_id(episode_key(start, provenance, sample)),
            start=start,
            sample=sample,
            turns=turns,
            final_observation=last,
            outcome=Outcome.SUCCESS if final >= 1 else Outcome.FAILURE,
            score=final,
            provenance=provenance,
            labels={"record": str(record.get("item_id", record.get("id", "")))},
        )


def _splits(env: str) -> dict[str, list[str]]:
    spec = find(env)
    splits: dict[str, list[str]] = {}
    for split, names in spec.splits.items():
        for name in names:
            splits.setdefault(str(name), []).append(split)
    return splits


def _task(
    where: str, record: Record, env: str | None, naming: Naming | None, splits: Mapping[str, Sequence[str]]
) -> Task:
    named: Any = naming(record) if naming is not None else record.get("task")
    if isinstance(named, Task):
        return named
    if isinstance(named, dict):
        try:
            return Task.model_validate(named)
        except ValidationError as error:
            raise BadInput(f"{where}: not a task ({what_is_wrong(error)})") from None
    if not isinstance(named, str):
        why = "which task this is about is not said; give it a field 'task' (in Python also: naming=)"
        raise BadInput(f"{where}: {why}")
    if env is None:
        raise BadInput(f"{where}: task {named!r} has no environment; pass env=")
    known = splits.get(named, ())
    if len(known) != 1:  # a guess could make a test task a training one
        found = f"is in the splits {', '.join(known)}; name a whole Task" if known else "is in none of its splits"
        raise BadInput(f"{where}: task {named!r} of {env} {found}")
    return Task(env=find(env).id, name=named, split=known[0])


def _score(where: str, record: Record, default: float | None) -> float:
    score = next((record[name] for name in ("reward", "score") if record.get(name) is not None), default)
    if score is None:
        raise BadInput(f"{where}: holds neither 'reward' nor 'score'; give it one, or say what they all have (score=)")
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise BadInput(f"{where}: its score is {score!r}, a number from 0 to 1 is expected; rescale it first")
    return float(score)


def _turns(where: str, record: Record, reader: Conversation, score: float) -> tuple[tuple[Turn, ...], str]:
    said = _said(where, record)
    if said and said[0][0] == "system":
        said = said[1:]
    if len(said) > 2 and said[0][0] == "user" and isinstance(record.get("conversations"), list) and _is_ok(said[1]):
        said = said[2:]
    for place, (role, _) in enumerate(said):
        wanted = "assistant" if place % 2 else "user"
        if role != wanted:
            raise BadInput(f"{where}: observations and answers do not alternate ({role} where {wanted} belongs)")
    final = said.pop()[1] if len(said) % 2 else ""
    if not said:
        raise BadInput(f"{where}: holds no answer of an agent")
    if reader.style != "react" and all(_THOUGHT_THEN_ACTION.match(text) for _, text in said[1::2]):
        raise BadInput(f"{where}: every answer is a thought and an action; read it with conversation.style=react")
    turns: list[Turn] = []
    for (_, observation), (_, completion) in zip(said[::2], said[1::2], strict=True):
        answer = reader.read(completion)
        last = score if 2 * len(turns) + 2 == len(said) else 0.0
        turns.append(
            Turn(
                observation=observation,
                completion=completion,
                action=answer.action,
                thought=answer.thought,
                reward=last,
                score=last,
                valid=answer.problem is None,
            )
        )
    return tuple(turns), final


def _said(where: str, record: Record) -> list[tuple[str, str]]:
    form = next((name for name in ("conversations", "messages") if isinstance(record.get(name), list)), None)
    if form is None:
        raise BadInput(f"{where}: holds no list 'conversations' or 'messages'")
    who, what = ("from", "value") if form == "conversations" else ("role", "content")
    said: list[tuple[str, str]] = []
    for place, turn in enumerate(record[form], 1):
        role = _ROLES.get(str(turn.get(who))) if isinstance(turn, dict) else None
        if role is None or not isinstance(turn.get(what), str):
            raise BadInput(f"{where}: turn {place} needs {who!r} ({', '.join(_ROLES)}) and a text {what!r}")
        said.append((role, turn[what]))
    return said


def _is_ok(said: tuple[str, str]) -> bool:
    """Is this the answer to the instructions in ETO's and AgentGym's files, and not a first action ("ok, pull 2")."""
    role, text = said
    return role == "assistant" and _AGREED.fullmatch(text.strip()) is not None
