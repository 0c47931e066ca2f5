"""The promises of `TextEnv`, one function each: it returns what it tried, or raises `Broken` with what it found."""

from __future__ import annotations

import itertools
import pickle
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from palaestra.envs.check.bench import Bench, Broken
from palaestra.envs.check.elsewhere import Job, go_on
from palaestra.envs.check.hostile import HOSTILE, LONGEST_ANSWER
from palaestra.envs.check.keeping import keeping
from palaestra.envs.check.leaks import growth
from palaestra.envs.check.walk import (
    Trace,
    answer_problem,
    begin,
    follow,
    of_info,
    of_step,
    random_action,
    walk,
)
from palaestra.envs.core import Reply, Snapshot, Task, TextEnv
from palaestra.envs.errors import NoOracle
from palaestra.envs.registry import make
from palaestra.envs.source import Source


def registration(bench: Bench) -> str:
    """The spec agrees with the class; task names are unique within a split."""
    spec, env = bench.spec, bench.make()
    if env.fidelity is not spec.fidelity:
        raise Broken(f"registered with fidelity {spec.fidelity}, but the class says {env.fidelity}")
    for split in env.splits():
        tasks = env.tasks(split)
        if not tasks:
            raise Broken(f"split {split!r} has no tasks")
        if len({task.id for task in tasks}) != len(tasks):
            raise Broken(f"split {split!r} holds two tasks of the same id")
    if not bench.tasks or not env.instructions(bench.tasks[0]).strip():
        raise Broken("an agent is told nothing first: give the class a docstring or register(..., instructions=...)")
    return f"{len(env.splits())} splits, {sum(len(env.tasks(split)) for split in env.splits())} tasks"


def spaces(bench: Bench) -> str:
    """Gymnasium's own `check_env`, on the environment as `gymnasium.make` makes it."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        env = gymnasium.make(bench.spec.id, **bench.settings)
        try:
            check_env(env.unwrapped)
        finally:
            env.close()
    return "gymnasium's check_env" + (f", {len(told)} warnings, first: {told[0].message}" if told else "")


def vector(bench: Bench) -> str:
    """Two of them run as a vector environment."""
    one = partial(gymnasium.make, bench.spec.id, **bench.settings)
    envs = gymnasium.vector.SyncVectorEnv([one, one])
    try:
        observations, _ = envs.reset(seed=[bench.seed, bench.seed + 1])
        answer = envs.step(("1", "1"))
    finally:
        envs.close()
    if not all(isinstance(text, str) for text in (*observations, *answer[0])):
        raise Broken(f"SyncVectorEnv gave the observations {observations!r}, then {answer[0]!r}")
    return "SyncVectorEnv of 2"


def five_tuple(bench: Bench) -> str:
    """Walk the episodes that the other checks use; every answer on the way is well formed."""
    env = bench.make()
    oracle = bench.spec.oracle() if bench.spec.oracles else None
    steps = 12 if bench.fast else 40

    def one(task: Task) -> str | None:
        problems: list[str] = []

        def inspect(answer: Any, reply: Reply | None) -> None:
            if problem := answer_problem(answer, task, reply):
                problems.append(f"{task.split}:{task.name}: {problem}")

        trace = walk(env, task, seed=bench.seed, steps=steps, snapshots=3, oracle=oracle, inspect=inspect)
        bench.traces.append(trace)
        return problems[0] if problems else None

    tried = bench.each(bench.tasks, one)
    return f"{tried}, {sum(len(trace.actions) for trace in bench.traces)} steps"


def seeds(bench: Bench) -> str:
    """The same seed gives the same task and first observation in two instances, other seeds other tasks."""
    one, other = bench.make(), bench.make()
    count = 3 if bench.fast else 10
    names = set()
    for seed in range(bench.seed, bench.seed + count):
        text, info = one.reset(seed=seed)
        names.add(info["task"].name)
        if bench.fast and seed > bench.seed:
            continue
        text2, info2 = other.reset(seed=seed)
        if info["task"] != info2["task"] or text != text2:
            raise Broken(f"seed {seed} gave {info['task'].id} and {text!r}, then {info2['task'].id} and {text2!r}")
    if len(names) == 1 and len(one.tasks(one.splits()[0])) >= 20:  # by chance: at most 1 in 400
        raise Broken(f"seeds {bench.seed} to {bench.seed + count - 1} all gave the task {names.pop()!r}")
    return f"{count} seeds"


def determinism(bench: Bench) -> str:
    """The same task and actions give the same episode, in other instances that take turns and do not list actions."""
    one, other = bench.make(), bench.make()

    def pair(traces: tuple[Trace, ...]) -> str | None:
        playing = list(zip((one, other), traces, strict=False))
        for env, trace in playing:
            if problem := trace.seen[0].difference(begin(env, trace.task)):
                return f"{trace.task.split}:{trace.task.name}: at reset: {problem}"
        for step in range(max(len(trace.actions) for trace in traces)):
            for env, trace in playing:
                if step < len(trace.actions):
                    seen = of_step(env.step(trace.actions[step]))
                    if problem := trace.seen[step + 1].difference(seen):
                        return f"{trace.task.split}:{trace.task.name}: after action {step + 1}: {problem}"
        return None

    pairs = [tuple(bench.traces[start : start + 2]) for start in range(0, len(bench.traces), 2)]
    return bench.each(pairs, pair, "pairs of episodes")


def _rewound(env: TextEnv[Any], trace: Trace, step: int, snapshot: Snapshot) -> str | None:
    seen = of_info(*(answer := env.restore(snapshot)))
    if problem := trace.seen[step].difference(seen, start=True):
        return f"restored to step {step}: {problem}"
    listed = None if answer[1]["actions"] is None else list(answer[1]["actions"])
    if listed != trace.listed[step]:
        return f"restored to step {step}: the listed actions are {listed}, they were {trace.listed[step]}"
    problem = follow(env, trace, step)
    return f"restored to step {step}, {problem}" if problem else None


def rewind(bench: Bench) -> str:
    """A restored instance goes on as it went on before, also after another branch was taken from there."""
    env = bench.make()
    rng = np.random.default_rng(bench.seed)
    rewinds = 0

    def one(trace: Trace) -> str | None:
        nonlocal rewinds
        for step, snapshot in bench.rewinds(trace):
            rewinds += 1
            if bench.exact or not bench.fast:
                env.restore(snapshot)
                env.step(random_action(rng, trace.listed[step] or []))
            if problem := _rewound(env, trace, step, snapshot):
                return problem
        return None

    tried = bench.each(bench.traces, one)
    return f"{tried}, {rewinds} rewinds, none diverged"


def other_instance(bench: Bench) -> str:
    """A snapshot restored into a new instance goes on the same way."""

    def one(trace: Trace) -> str | None:
        step, snapshot = bench.rewinds(trace)[-1]
        env = bench.make()
        try:
            return _rewound(env, trace, step, snapshot)
        finally:
            env.close()

    return bench.each(bench.traces, one)


def other_process(bench: Bench) -> str:
    """A snapshot restored in a fresh process goes on the same way."""
    most = len(bench.traces) if bench.exact else (len(bench.spec.splits) if bench.fast else 12)
    picked = [(trace, *bench.rewinds(trace)[-1]) for trace in bench.traces[:most]]
    if not picked:
        raise Broken("there is no episode to try it on; see 'five-tuple'")
    jobs = [Job(snapshot, tuple(trace.actions[step:])) for trace, step, snapshot in picked]
    answers = go_on(Source.of(bench.spec, bench.load), bench.settings, jobs, timeout_s=120.0 if bench.fast else 600.0)
    if isinstance(answers, str):
        raise Broken(answers)
    wrong = []
    for (trace, step, _), answer in zip(picked, answers, strict=True):
        where = f"{trace.task.split}:{trace.task.name}: restored to step {step}"
        if isinstance(answer, str):
            wrong.append(f"{where}: {answer}")
            continue
        for offset, (before, now) in enumerate(zip(trace.seen[step:], answer, strict=True)):
            if problem := before.difference(now, start=offset == 0):
                wrong.append(f"{where}, after {offset} actions: {problem}")
                break
    if wrong:
        raise Broken(f"{len(wrong)} of {len(picked)} episodes; first {wrong[0]}")
    return f"{len(picked)} episodes"


def pickling(bench: Bench) -> str:
    """Snapshots and infos pickle and come back as they were."""
    sizes = []

    def one(trace: Trace) -> str | None:
        listed = pickle.loads(trace.info)["actions"]
        if listed is not None and not isinstance(listed, list):
            return f"info['actions'] came back as a {type(listed).__name__}, not a list"
        for _, snapshot in bench.rewinds(trace):
            data = pickle.dumps(snapshot)
            if pickle.loads(data) != snapshot:
                return "a snapshot came back as another one"
            sizes.append(len(data))
        return None

    tried = bench.each(bench.traces, one)
    return f"{tried}, up to {max(sizes):,} bytes"


def actions(bench: Bench) -> str:
    """Every action that is listed is understood, or as large a share as the class declares (`loose_listing`)."""
    env = bench.make()
    if not env.lists_actions:
        return "this environment lists none"
    rng = np.random.default_rng(bench.seed)
    count = 0
    refused: list[str] = []

    def judge(action: str, valid: bool, answer: str) -> None:
        nonlocal count
        count += 1
        if not valid:
            refused.append(f"{action!r} was listed, then answered {answer[:120]!r}")

    def one(trace: Trace) -> str | None:
        for action, offered, seen in zip(trace.actions, trace.offered, trace.seen[1:], strict=True):
            if offered:
                judge(action, seen.valid, seen.observation)
        for step, listed in trace.listed.items():
            if listed is None or any(not isinstance(action, str) for action in listed):
                return f"listed {listed!r} at step {step}"
            if len(set(listed)) != len(listed):
                return f"listed an action twice at step {step}"
        for step, snapshot in bench.rewinds(trace) if bench.exact else ():
            listed = trace.listed[step] or []
            for index in rng.permutation(len(listed))[:8]:
                env.restore(snapshot)
                answer = of_step(env.step(listed[index]))
                judge(listed[index], answer.valid, answer.observation)
        return None

    tried = bench.each(bench.traces, one)
    if not count:
        raise Broken("no action was ever listed")
    if len(refused) > env.loose_listing * count:
        allowed = f" (declared: at most {env.loose_listing:.0%})" if env.loose_listing else ""
        raise Broken(f"{len(refused)} of {count} listed actions were not understood{allowed}; first {refused[0]}")
    loose = f", {len(refused)} refused (declared: at most {env.loose_listing:.0%})" if env.loose_listing else ""
    return f"{tried}, {count} listed actions{loose}"


def bad_actions(bench: Bench) -> str:
    """A bad action is answered with `valid`, never raises, gains nothing, and the episode goes on."""
    env = bench.make()
    tasks = itertools.cycle(bench.tasks)
    tried = refused = 0
    for start in range(0, len(HOSTILE), 5):
        task = next(tasks)
        seen = begin(env, task)
        for place, action in enumerate(HOSTILE[start : start + 5]):
            if seen.over or seen.truncated:
                break
            name = ascii(action if len(action) <= 40 else action[:40]) + (
                f" ({len(action)} characters)" * (len(action) > 40)
            )
            try:
                answer = env.step(action)
            except Exception as error:
                raise Broken(f"the action {name} raised {type(error).__name__}: {str(error)[:200]}") from error
            if problem := answer_problem(answer, task, None):
                raise Broken(f"after the action {name}: {problem}")
            before, seen = seen, of_step(answer)
            tried += 1
            refused += not seen.valid
            if len(seen.observation) > LONGEST_ANSWER:
                raise Broken(f"the action {name} was answered with {len(seen.observation):,} characters")
            if not seen.valid and seen.score > before.score:
                anyway = _anyway(bench, task, HOSTILE[start : start + place])
                if anyway is None or seen.score > anyway:
                    raise Broken(f"the action {name} was not understood, but raised the score to {seen.score}")
            if not seen.valid and seen.over and place == 0:
                raise Broken(f"the action {name} was not understood, and ended the episode at its first step")
    return f"{tried} of {len(HOSTILE)} hostile actions, {refused} refused"


def _anyway(bench: Bench, task: Task, before: Sequence[str]) -> float | None:
    """The least score that three understood actions lead to in place of a bad one; None where none can be listed.

    In some worlds things happen as time goes by, whatever the agent does.
    """
    scores = []
    for place in range(3):
        env = bench.make()
        begin(env, task)
        for action in before:
            env.step(action)
        listed = list(env.admissible(env.state) or ())
        if len(listed) <= place:
            break
        scores.append(of_step(env.step(listed[place])).score)
    return min(scores, default=None)


def step_limit(bench: Bench) -> str:
    """An episode is truncated at its limit, not before; a step after the end raises; a reset begins anew."""
    limit = 3
    env = bench.make(max_steps=limit)

    def one(trace: Trace) -> str | None:
        begin(env, trace.task)
        for step in range(1, limit + 1):
            seen = of_step(env.step(trace.actions[step - 1] if step <= len(trace.actions) else "1"))
            if seen.truncated != (step == limit and not seen.over):
                return f"truncated is {seen.truncated} and terminated {seen.over} at step {step} of at most {limit}"
            if seen.over:
                break
        try:
            env.step("1")
        except gymnasium.error.ResetNeeded:
            return None
        return "a step after the end did not raise ResetNeeded"

    return bench.each(bench.traces, one)


def oracle(bench: Bench) -> str:
    """The default oracle solves tasks, and says the same when asked twice; the others can be followed."""
    if not bench.spec.oracles:
        return "this environment has none"
    env = bench.make()
    solved = 0
    scores: list[float] = []
    faults: list[str] = []
    without: list[str] = []

    def play(name: str, task: Task) -> tuple[float, bool]:
        wise = bench.spec.oracle(name)
        seen = begin(env, task)
        for step in range(env.max_steps or 1000):
            action = wise(env)
            if step < 5 and wise(env) != action:
                raise Broken(f"oracle {name!r} said {action!r}, then something else at the same step")
            seen = of_step(env.step(action))
            if seen.over or seen.truncated:
                break
        return seen.score, seen.success

    def one(trace: Trace) -> str | None:
        nonlocal solved
        try:
            score, success = play(default, trace.task)
        except Broken:
            raise
        except NoOracle as error:
            without.append(str(error))
            return None
        except Exception as error:
            faults.append(f"{trace.task.name}: {type(error).__name__}: {error}")
            return None
        scores.append(score)
        solved += success
        return None

    default, *others = bench.spec.oracles
    tried = bench.each(bench.traces, one)
    if without and not scores and not faults:
        return f"none for these tasks: {without[0]}"
    trouble = f"; raised in {len(faults)}, first {faults[0]}" if faults else ""
    if not solved:
        raise Broken(f"{default!r} solved none of {tried}{trouble}")
    for name in others:
        play(name, bench.traces[0].task)
    total = len(scores) + len(faults)
    lacking = f"; none for {len(without)} others" if without else ""
    return (
        f"{default!r} solved {solved} of {total} ({solved / total:.0%}), mean score {np.mean(scores):.2f}"
        f"{lacking}{trouble}"
    )


def close(bench: Bench) -> str:
    """Closing twice, and closing what never began, is allowed."""
    fresh = bench.make()
    fresh.close()
    fresh.close()
    used = bench.make()
    begin(used, bench.tasks[0])
    used.step("1")
    used.close()
    used.close()
    return "twice, before and after an episode"


def leaks(bench: Bench) -> str:
    """Create/close cycles leave memory, threads, processes and open files as they were."""
    bench.close()
    tasks = itertools.cycle(bench.tasks[:4])

    def cycle(with_episode: bool) -> None:
        env = make(bench.spec.id, **bench.settings)
        if with_episode:
            begin(env, next(tasks))
            env.step("1")
            env.snapshot()
        env.close()

    found = growth(cycle, cycles=bench.cycles, limit_s=6.0 if bench.fast else 120.0)
    if found.leaks:
        raise Broken("; ".join(found.leaks))
    unknown = [name for name, value in found.least.items() if value is None]
    return f"{found.cycles} cycles, {found.resets} with an episode" + (
        f"; not measured on this machine: {', '.join(unknown)}" if unknown else ""
    )


PROMISES: dict[str, Callable[[Bench], str]] = {
    "registration": registration,
    "spaces": spaces,
    "vector": vector,
    "five-tuple": five_tuple,
    "seeds": seeds,
    "determinism": determinism,
    "pickle": pickling,
    "rewind": rewind,
    "other instance": other_instance,
    "other process": other_process,
    "keeping": keeping,
    "actions": actions,
    "bad actions": bad_actions,
    "step limit": step_limit,
    "oracle": oracle,
    "close": close,
    "leaks": leaks,
}
"""Name -> check. `five-tuple` comes before those that use its episodes."""
