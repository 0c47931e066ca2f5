"""The promise of environments that bring `to_bytes` and `from_bytes`: what was kept of a step leads back to it."""

from __future__ import annotations

from typing import Any

from palaestra.envs.check.bench import Bench, Broken
from palaestra.envs.check.walk import Trace, follow, of_info
from palaestra.envs.core import TextEnv
from palaestra.envs.errors import BadInput


def keeping(bench: Bench) -> str:
    """What is kept of a step makes a new instance go on the same way; bytes that `to_bytes` never wrote are refused."""
    if not (env := bench.make()).keeps:
        return "this environment keeps none: its episodes are replayed"
    sizes: list[int] = []

    def one(trace: Trace) -> str | None:
        step, snapshot = bench.rewinds(trace)[-1]
        env.restore(snapshot)
        try:
            kept = env.keep()
        except BadInput:  # more than is kept
            return None
        if kept is None:
            return None
        sizes.append(len(kept))
        other = bench.make()
        try:
            return _resumed(other, trace, step, kept)
        finally:
            other.close()

    tried = bench.each(bench.traces, one)
    if not sizes:
        raise Broken("it says that it keeps steps, but of no step anything was kept")
    return f"{tried}, up to {max(sizes):,} bytes"


def _resumed(env: TextEnv[Any], trace: Trace, step: int, kept: bytes) -> str | None:
    texts = [seen.observation for seen in trace.seen[: step + 1]]
    head = kept.partition(b"\n")[0]
    for wrong in (b"", b"\xff\x00 nobody wrote this"):
        try:
            env.resume(trace.task, trace.actions[:step], texts, head + b"\n" + wrong)
        except BadInput:
            continue
        return f"from_bytes took {wrong!r}, which to_bytes never wrote; let it raise BadInput"
    seen = of_info(*(answer := env.resume(trace.task, trace.actions[:step], texts, kept)))
    if problem := trace.seen[step].difference(seen, start=True):
        return f"resumed at step {step}: {problem}"
    listed = None if answer[1]["actions"] is None else list(answer[1]["actions"])
    if listed != trace.listed[step]:
        return f"resumed at step {step}: the listed actions are {listed}, they were {trace.listed[step]}"
    problem = follow(env, trace, step)
    return f"resumed at step {step}, {problem}" if problem else None
