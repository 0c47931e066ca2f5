"""The 200 recorded GPT-4o episodes of airline: replays them, and makes expert episodes of them.

    python -m palaestra.envs.taubench.recorded                    how much replaying reproduces, and why not the rest
    python -m palaestra.envs.taubench.recorded --out experts.jsonl --protocol halves --split train
    palaestra train eef --env tauairline --set protocol=halves --experts experts.jsonl ...

The agent's answers are the recorded ones, the user says what it said then, and the tools are ours: every answer of a
tool, every reward and the hash of every final database are worked out anew and compared. Expert files hold the episodes
as they come out of that, failures included, as chat records; so every step of them can be gone back to.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palaestra.envs.core import Task, TextEnv
from palaestra.envs.errors import BadInput
from palaestra.envs.registry import make
from palaestra.envs.taubench import data, judge
from palaestra.envs.taubench.env import TauBench
from palaestra.envs.taubench.world import fingerprint

TASKS_DIFFER, RENAMED = "the task's ground truth is another one today", "today's addresses say 'state', not 'province'"


@dataclass(frozen=True)
class Recording:
    """One recorded episode.

    Attributes:
        number: of the task.
        trial: 0 to 3.
        reward: as it was given, 0 or 1.
        actions: the agent's answers as our environment reads them.
        observations: what it saw, one more than actions.
        tools: for each observation, the name of the tool that gave it; None for the user's words.
        wanted: the task as it was then.
        truth: hash of the database after the ground truth, where the episode came to its end and states it.
    """

    number: int
    trial: int
    reward: float
    actions: tuple[str, ...]
    observations: tuple[str, ...]
    tools: tuple[str | None, ...]
    wanted: data.TauTask
    truth: str | None


@dataclass
class Replay:
    """What came of replaying one.

    Attributes:
        observations, score, over: of our environment, with the user's words as recorded.
        same, renamed: answers of tools that are equal, and that are equal but for a renamed key.
        other: the answers that differ otherwise: step, recorded text, ours.
    """

    recording: Recording
    observations: list[str]
    score: float = 0.0
    over: bool = False
    same: int = 0
    renamed: int = 0
    other: list[tuple[int, str, str]] = field(default_factory=list)


def read() -> list[Recording]:
    """The recorded episodes. Raises BadInput where they are not here or are not as expected."""
    found = []
    for place, row in enumerate(data.recordings()):
        try:
            found.append(_recording(row))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BadInput(f"{data.RECORDINGS}, episode {place}: {error!r}; palaestra data get {data.NAME}") from None
    return found


def _recording(row: Mapping[str, Any]) -> Recording:
    system, first, *rest = row["traj"]
    if (system["role"], first["role"]) != ("system", "user") or len(rest) % 2:
        raise ValueError("messages do not alternate")
    actions, observations, tools = [], [first["content"]], list[str | None]([None])
    for answer, seen in zip(rest[::2], rest[1::2], strict=True):
        actions.append(action_of(answer))
        observations.append(seen["content"])
        tools.append(seen["name"] if seen["role"] == "tool" else None)
    stated = (row["info"].get("reward_info") or {}).get("info", {})
    return Recording(
        number=int(row["task_id"]),
        trial=int(row["trial"]),
        reward=float(row["reward"]),
        actions=tuple(actions),
        observations=tuple(observations),
        tools=tuple(tools),
        wanted=data.task_of(row["info"]["task"]),
        truth=stated.get("gt_data_hash"),
    )


def action_of(message: Mapping[str, Any]) -> str:
    """An answer of a chat API as our environment reads it. Words beside a call stay; the user does not read them."""
    calls = message.get("tool_calls")
    if not calls:
        return str(message["content"]).strip()
    function = calls[0]["function"]
    call = json.dumps({"name": function["name"], "arguments": json.loads(function["arguments"])}, ensure_ascii=False)
    words = (message.get("content") or "").strip()
    return f"{words}\n<tool_call>\n{call}\n</tool_call>" if words else call


def replay(env: TauBench, recording: Recording) -> Replay:
    """Play a recorded episode in an environment of airline, to its end."""
    lines = {step: text for step, text in enumerate(recording.observations) if recording.tools[step] is None}
    with env.reciting(lines):
        observation, _ = env.reset(options={"task": str(recording.number)})
        played = Replay(recording, [observation])
        for step, action in enumerate(recording.actions, 1):
            if played.over:
                break
            observation, _, played.over, truncated, info = env.step(action)
            played.observations.append(observation)
            played.score = info["score"]
            _compare(played, step, recording.observations[step], observation)
            played.over = played.over or truncated
    return played


def _compare(played: Replay, step: int, recorded: str, ours: str) -> None:
    by_tool = played.recording.tools[step] is not None
    if recorded == ours:
        played.same += by_tool
    elif by_tool and recorded == ours.replace('"state": ', '"province": '):
        played.renamed += 1
    else:
        played.other.append((step, recorded, ours))


@dataclass
class Report:
    """Counts over all replays: `print` shows it."""

    episodes: int = 0
    outputs: int = 0
    same: int = 0
    renamed: int = 0
    rewards: int = 0
    hashes: int = 0
    hashes_same: int = 0
    tasks: int = 0
    unexplained: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """What was found, in words."""
        yield f"tool outputs: {self.same} of {self.outputs} equal ({self.same / max(1, self.outputs):.2%})"
        if self.renamed:
            yield f"  {self.renamed} differ by a key alone: {RENAMED} (-s release=recorded has them)"
        yield f"rewards: {self.rewards} of {self.episodes} equal"
        yield f"databases after the ground truth: {self.hashes_same} of {self.hashes} have the hash that was recorded"
        if self.renamed and not self.hashes_same:
            yield "  a hash is of the whole database, so the renamed key is in every one"
        yield f"tasks: {self.tasks} of {self.episodes} have the ground truth of today"
        yield f"unexplained: {len(self.unexplained)}"
        yield from self.unexplained


def report(replays: Sequence[Replay], domain: data.Domain) -> Report:
    """What replaying reproduced. Every difference is named by its cause, or unexplained."""
    found = Report(episodes=len(replays))
    hashes: dict[int, str] = {}
    for played in replays:
        recording = played.recording
        name = f"task {recording.number}, trial {recording.trial}"
        found.outputs += sum(tool is not None for tool in recording.tools)
        found.same += played.same
        found.renamed += played.renamed
        for step, then, now in played.other:
            found.unexplained.append(f"  {name}, step {step}: {then[:200]!r} then, {now[:200]!r} now")
        today = data.task(domain, str(recording.number))
        same_task = (today.actions, today.outputs) == (recording.wanted.actions, recording.wanted.outputs)
        found.tasks += same_task
        if played.score == recording.reward:
            found.rewards += 1
        else:
            why = "" if same_task else f" ({TASKS_DIFFER})"
            found.unexplained.append(f"  {name}: reward {recording.reward} then, {played.score} now{why}")
        if recording.truth is not None:
            found.hashes += 1
            if recording.number not in hashes:
                hashes[recording.number] = fingerprint(domain.tables, judge.after(domain, recording.wanted))
            found.hashes_same += hashes[recording.number] == recording.truth
    return found


def records(env: TextEnv[Any], replays: Sequence[Replay], splits: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The replayed episodes of some splits as chat records, which `experts.file` and `palaestra import` read."""
    tasks: dict[str, Task] = {task.name: task for split in splits for task in env.tasks(split)}
    for played in replays:
        recording = played.recording
        task = tasks.get(str(recording.number))
        if task is None:
            continue
        said = [("user", played.observations[0])]
        for action, observation in zip(recording.actions, played.observations[1:], strict=False):
            said += [("assistant", action), ("user", observation)]
        messages = [{"role": "system", "content": env.instructions(task)}]
        messages += [{"role": role, "content": text} for role, text in said]
        yield {
            "id": f"gpt-4o/{recording.number}/{recording.trial}",
            "task": task.model_dump(),
            "reward": played.score,
            "messages": messages,
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was found and write the expert file, if asked to; 1 if anything is unexplained."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--release", default="recorded", choices=data.RELEASES, help="databases to replay in")
    options.add_argument("--out", type=Path, help="write expert episodes to this file (JSON lines)")
    options.add_argument("--protocol", help="whose splits the episodes are given: halves, or none")
    options.add_argument("--split", action="append", help="only the episodes of this split; all without this")
    options.add_argument("--show", type=int, default=20, help="differences to show")
    chosen = options.parse_args(arguments)
    try:
        env = make("tauairline", user="scripted", release=chosen.release)
        assert isinstance(env, TauBench)
        replays = [replay(env, recording) for recording in read()]
        found = report(replays, env.domain)
        print(*list(found.lines())[: 8 + chosen.show], sep="\n")
        if chosen.out is not None:
            count = write(chosen.out, chosen.protocol, chosen.split)
            print(f"{count} expert episodes are in {chosen.out}")
    except BadInput as error:
        print(error)
        return 2
    return 1 if found.unexplained else 0


def write(out: Path, protocol: str | None, splits: Sequence[str] | None, release: str = "current") -> int:
    """Write the episodes as they come out of the environment that they are for. Returns how many.

    Raises:
        BadInput: there is no such protocol or split, or the file cannot be written.
    """
    env = make("tauairline", user="scripted", protocol=protocol, release=release)
    assert isinstance(env, TauBench)
    plain = make("tauairline", user="scripted", release=release)
    assert isinstance(plain, TauBench)
    replays = [replay(plain, recording) for recording in read()]
    lines = [json.dumps(each, ensure_ascii=False) for each in records(env, replays, splits or env.splits())]
    try:
        out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{out} cannot be written: {error.strerror or error}") from None
    return len(lines)


if __name__ == "__main__":
    raise SystemExit(main())
