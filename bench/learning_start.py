"""What a start model is taught beside solving tasks: to judge actions, to read attempts. Experts that win or fail.

Agent-R's actor judges its own steps. The paper's actor can read and reason before it is trained; a model that begins
with nothing has to be shown what a judgement is, on tasks that nobody trains or is measured on. An action of a flawed
oracle is good where it raised the score (in the crafting world: one needed command is done), else bad.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from palaestra.agents.collect import collect, planned_keys
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Episode, Start, episode_id
from palaestra.agents.export import write_episodes
from palaestra.agents.judge import VERDICTS, Case, judge, question
from palaestra.agents.policies.oracle import OraclePolicy, flawed
from palaestra.agents.policy import Policy
from palaestra.agents.store import EpisodeStore
from palaestra.envs import find, make
from palaestra.trainers.rundir import write_whole
from palaestra.trainers.self_iteration import again

GOOD, BAD = VERDICTS[:2]


def judged(env: str, env_settings: Mapping[str, Any], tasks: Sequence[str], most: int) -> list[tuple[Case, str]]:
    """Actions of flawed oracles with their verdicts: as many good ones as bad ones, `most` at the most."""
    world = make(env, **env_settings)
    wanted = set(tasks)
    starts = [Start(task=task) for task in world.tasks("train") if task.name in wanted]
    policy = flawed(OraclePolicy(find(env)), 0.5)
    found: dict[str, list[Case]] = {GOOD: [], BAD: []}
    with EpisodeStore(":memory:") as store:
        collect(starts, policy, store, env_settings=env_settings, progress="quiet", recipe="judged", concurrency=32)
        for key in planned_keys([(start, 1) for start in starts], policy, recipe="judged"):
            path = store.path(episode_id(key))
            told, seen = world.instructions(path.episode.start.task), path.observations()
            for place, turn in enumerate(path.turns):
                case = Case(told, path.turns[:place], turn, seen[place + 1])
                found[GOOD if turn.reward > 0 else BAD].append(case)
    world.close()
    rng, count = random.Random(0), min(most // 2, *map(len, found.values()))
    chosen = [(case, verdict) for verdict, cases in found.items() for case in rng.sample(cases, count)]
    rng.shuffle(chosen)
    return chosen


def write_judgements(cases: Sequence[tuple[Case, str]], file: Path) -> None:
    """As conversations, to be learnt."""
    said = [[*question(case), {"role": "assistant", "content": verdict}] for case, verdict in cases]
    write_whole(file, "".join(json.dumps({"messages": messages}) + "\n" for messages in said).encode())


def rightly(cases: Sequence[tuple[Case, str]], policy: Policy) -> float:
    """The share of cases that a policy judges as they are."""
    answers = judge([case for case, _ in cases], policy)
    return sum(answer.text == verdict for answer, (_, verdict) in zip(answers, cases, strict=True)) / len(cases)


def write_attempts(
    env: str,
    env_settings: Mapping[str, Any],
    tasks: Sequence[str],
    policy: Policy,
    conversation: Conversation,
    recall: int,
    file: Path,
) -> None:
    """Attempts of an agent, what the oracle does where the agent is asked to improve on them, and its way alone.

    There are two attempts a task; those that won are experts too. ExIt's models read an earlier answer before they are
    trained; a model that begins with nothing has to be shown what such a request is.

    Args:
        recall: turns of an attempt that are shown at the most.
    """
    world, oracle = make(env, **env_settings), OraclePolicy(find(env))
    starts = [Start(task=task) for task in world.tasks("train") if task.name in set(tasks)]
    world.close()
    with EpisodeStore(":memory:") as store:

        def played(by: Policy, at: Sequence[Start], samples: int, recipe: str) -> list[Episode]:
            told = {"env_settings": env_settings, "conversation": conversation, "progress": "quiet", "recipe": recipe}
            collect(at, by, store, samples=samples, concurrency=32, **told)
            keys = planned_keys([(start, samples) for start in at], by, recipe=recipe)
            return [store.get(episode_id(key)) for key in keys if store.has(key)]

        attempts = [episode for episode in played(policy, starts, 2, "attempts") if episode.turns]
        asked = [again(store.path(episode.id), 0, "improve", conversation, recall) for episode in attempts]
        write_episodes([*attempts, *played(oracle, asked, 1, "improved"), *played(oracle, starts, 1, "experts")], file)


def write_experts(
    env: str,
    env_settings: Mapping[str, Any],
    tasks: Sequence[str],
    slip: float,
    file: Path,
    *,
    mastered: Collection[str] = (),
    patience: int | None = None,
) -> None:
    """Experts that are faultless where they win: the oracle's way in some tasks, a failed one in the others.

    A failed one is the first of four of an oracle that slips so often; a task where all four win has none.

    Args:
        mastered: the tasks in which they are faultless; half of the tasks where none is named.
        patience: after so many actions those that fail give up; None leaves them the environment's limit.
    """
    world = make(env, **env_settings)
    wanted = [task for task in world.tasks("train") if task.name in set(tasks)]
    random.Random(0).shuffle(wanted)  # their order is by depth
    world.close()
    won = [task for task in wanted if task.name in mastered] if mastered else wanted[::2]
    rest = [task for task in wanted if task not in won]
    oracle, found = OraclePolicy(find(env)), list[Episode]()
    with EpisodeStore(":memory:") as store:
        for policy, samples, chosen, most in ((oracle, 1, won, None), (flawed(oracle, slip), 4, rest, patience)):
            starts, told = [Start(task=task) for task in chosen], {"env_settings": env_settings, "progress": "quiet"}
            collect(starts, policy, store, samples=samples, recipe="experts", concurrency=32, max_turns=most, **told)
            for start in starts:
                keys = planned_keys([(start, samples)], policy, recipe="experts")
                episodes = [store.get(episode_id(key)) for key in keys]
                found += [each for each in episodes if (each.outcome == "success") == (policy is oracle)][:1]
    write_episodes(found, file)
