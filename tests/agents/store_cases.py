"""Episodes for the tests of the store: one maker with few words, and hypothesis strategies for odd ones."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from palaestra.agents.episode import (
    Actor,
    Cost,
    Episode,
    Outcome,
    Provenance,
    Start,
    TokenRecord,
    Turn,
    episode_id,
    episode_key,
)
from palaestra.envs import Task

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Timing never decides a test, on a busy machine neither."""


def task(name: str = "boil/1", split: str = "train", env: str = "mine/Lab-v0") -> Task:
    return Task(env=env, name=name, split=split)


def episode(
    start: Start | Task | None = None,
    *,
    n: int = 3,
    sample: int = 0,
    outcome: Outcome = Outcome.FAILURE,
    score: float = 0.0,
    says: str = "a",
    error: str | None = None,
    **provenance: object,
) -> Episode:
    """An episode of `n` turns whose actions are `says0`, `says1`, ... counted from the root's reset."""
    start = start or task()
    start = start if isinstance(start, Start) else Start(task=start)
    origin = Provenance.model_validate({"policy": "p", **provenance})
    turns = [
        Turn(observation=f"room {step}", completion=f"{says}{step}", action=f"{says}{step}")
        for step in range(start.fork_step, start.fork_step + n)
    ]
    return Episode(
        id=episode_id(episode_key(start, origin, sample)),
        start=start,
        sample=sample,
        turns=tuple(turns),
        final_observation="the end",
        outcome=outcome,
        score=score,
        provenance=origin,
        error=error,
    )


texts = st.text(st.characters(codec=None, categories=None), max_size=12) | st.sampled_from(
    ["\ud83d\ude00", "\ud83d" + "\ude00", "\ud800", "a\x00b", "\u2028\n\r", "😀", "{", '"\\', "\ufeff"]
)
reals = st.floats(allow_nan=False)
ids = st.integers(0, 60_000) | st.integers(-(2**70), 2**70)


@st.composite
def token_records(draw: st.DrawFn) -> TokenRecord:
    completion = draw(st.lists(ids, max_size=5))
    floats = st.floats(allow_nan=False, width=draw(st.sampled_from([32, 64])))
    some = draw(st.booleans())
    logprobs = draw(st.lists(floats, min_size=len(completion), max_size=len(completion))) if some else []
    context = draw(st.lists(ids, max_size=5))
    return TokenRecord(
        context=tuple(context), completion=tuple(completion), logprobs=tuple(logprobs), fresh=draw(st.booleans())
    )


turns = st.builds(
    Turn,
    observation=texts,
    completion=texts,
    action=texts,
    thought=st.none() | texts,
    reward=reals,
    score=st.floats(0, 1),
    valid=st.booleans(),
    tokens=st.none() | token_records(),
)
plain = st.dictionaries(
    texts,
    st.recursive(
        st.none() | st.booleans() | st.integers() | reals | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)
tasks = st.builds(Task, env=texts, name=texts, split=texts, seed=st.integers(0, 2**80))
provenances = st.builds(
    Provenance,
    actor=st.sampled_from(Actor),
    policy=texts,
    policy_version=texts,
    recipe=st.none() | texts,
    iteration=st.none() | st.integers(0, 2**40),
    sampling=plain,
    conversation=plain,
    env_settings=plain,
    env_fingerprint=texts,
    palaestra=texts,
    cost=st.builds(Cost, prompt_tokens=st.integers(0, 2**40), seconds=st.floats(0, 1e9)),
)


@st.composite
def odd_episodes(draw: st.DrawFn) -> Episode:
    """Whatever the types allow, with an id that follows from its key."""
    start, origin, sample = Start(task=draw(tasks)), draw(provenances), draw(st.integers(0, 2**40))
    return Episode(
        id=episode_id(episode_key(start, origin, sample)),
        start=start,
        sample=sample,
        turns=tuple(draw(st.lists(turns, max_size=4))),
        final_observation=draw(texts),
        outcome=draw(st.sampled_from([Outcome.SUCCESS, Outcome.FAILURE, Outcome.TRUNCATED])),
        score=draw(st.floats(0, 1)),
        provenance=origin,
        error=draw(st.none() | texts),
        labels=draw(plain),
    )
