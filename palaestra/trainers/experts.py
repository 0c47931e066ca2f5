"""Experts: episodes to begin with, from an environment's oracle (flawed if asked), a stronger policy, or a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from palaestra.agents.collect import collect, planned_keys
from palaestra.agents.conversation import Conversation
from palaestra.agents.episode import Episode, Start, episode_id
from palaestra.agents.policies.named import policy_by_name
from palaestra.agents.policies.oracle import OraclePolicy, flawed
from palaestra.agents.policy import Policy, Sampling
from palaestra.agents.progress import Progress
from palaestra.agents.ray_cluster import RayCluster
from palaestra.agents.store import EpisodeStore
from palaestra.envs import BadInput, EnvSpec, Task, TextEnv
from palaestra.trainers.evaluate import choose_tasks
from palaestra.trainers.expert_files import read_experts


class Experts(BaseModel):
    """Where expert episodes come from: an oracle, a policy or a file, one of them.

    Attributes:
        oracle: name of one of the environment's oracles; "default" is its first one.
        slip: probability that the oracle takes another admissible action at a turn, which makes failed experts.
        policy: the name of a policy (see `policy_by_name`), as of a stronger model behind an OpenAI-compatible server
            (`openai:MODEL@URL`). It is shown what the run's agent is shown, and what it fails is kept, too.
        temperature: of that policy's sampling; its answers are as long as the run's at the most.
        samples: episodes a task by the oracle or the policy.
        tasks: how many of the training tasks these play (spread over the types), or None for all of them.
        file: recorded episodes: Parquet or JSON lines that `palaestra.agents.export` wrote, or conversations in the
            forms of others (ETO, AgentGym, messages) whose records name their `task` and their `reward`; their answers
            are read in the style of the run's conversation.
        score: score in [0, 1] of conversations that name none (published expert sets hold solved tasks only: 1.0);
            None refuses such records.
        replay: leave out episodes of a file that the environment does not show as they are recorded (see
            `expert_files`). Without it they are believed, which is enough for cloning and not for forks. What was
            imagined is not imagined again: its first page is compared, with the real environment's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    oracle: str | None = None
    slip: float = Field(default=0.0, ge=0.0, le=1.0)
    policy: str | None = None
    temperature: float = Field(default=0.0, ge=0.0)
    samples: int = Field(default=1, ge=1)
    tasks: int | None = Field(default=None, ge=1)
    file: str | None = None
    score: float | None = Field(default=None, ge=0.0, le=1.0)
    replay: bool = True

    @model_validator(mode="after")
    def _one(self) -> Experts:
        if sum(given is not None for given in (self.oracle, self.policy, self.file)) != 1:
            raise ValueError("experts come from 'oracle', from 'policy' or from 'file': give one of them")
        if self.file is not None and (self.slip or self.samples != 1 or self.tasks is not None):
            raise ValueError("'slip', 'samples' and 'tasks' are of an oracle; episodes of a file are taken as they are")
        if self.policy is not None and self.slip:
            raise ValueError("'slip' is of an oracle; a policy fails by itself")
        if self.policy is None and self.temperature:
            raise ValueError("'temperature' is of a 'policy'; nobody else samples")
        if self.score is not None and self.file is None:
            raise ValueError("'score' is of the conversations in a 'file'; an oracle's episodes have their own")
        return self

    def check(self, spec: EnvSpec) -> None:
        """Raises BadInput if there is no such oracle or file."""
        if self.file is not None and not Path(self.file).is_file():
            raise BadInput(f"experts file {self.file} does not exist")
        if self.oracle is not None:
            spec.oracle(None if self.oracle == "default" else self.oracle)

    def check_records(
        self, spec: EnvSpec, env: TextEnv[Any], splits: Sequence[str], conversation: Conversation
    ) -> None:
        """Look through a file without replaying it, and at who plays. Raises BadInput if a file holds nothing that can
        be used, and for a policy that is not there."""
        if self.policy is not None:
            _closed(self.player(spec, Sampling(), 1))
        if self.file is not None:
            self._read(spec, env, splits, conversation, replay=False, progress="quiet")

    def player(self, spec: EnvSpec, sampling: Sampling, concurrency: int) -> Policy:
        """Who plays, where no file is read. Raises BadInput: see `policy_by_name`, `EnvSpec.oracle`.

        Args:
            sampling: of the run's agent; concurrency: episodes at once.
        """
        if self.policy is not None:
            drawn = sampling.model_copy(update={"temperature": self.temperature})
            return policy_by_name(self.policy, spec, drawn, concurrency=concurrency)
        oracle = OraclePolicy(spec, None if self.oracle == "default" else self.oracle)
        return flawed(oracle, self.slip) if self.slip else oracle

    def _read(
        self,
        spec: EnvSpec,
        env: TextEnv[Any],
        splits: Sequence[str],
        conversation: Conversation,
        *,
        replay: bool,
        progress: Progress | Literal["auto", "bar", "lines", "quiet"],
    ) -> tuple[list[Episode], list[str]]:
        assert self.file is not None
        return read_experts(
            Path(self.file),
            spec,
            env,
            splits=splits,
            allowed={task.id for split in splits for task in env.tasks(split)},
            conversation=conversation,
            score=self.score,
            replay=replay,
            progress=progress,
        )


def gather(
    experts: Experts,
    spec: EnvSpec,
    tasks: Sequence[Task],
    store: EpisodeStore,
    *,
    env: TextEnv[Any],
    splits: Sequence[str],
    env_settings: Mapping[str, Any],
    conversation: Conversation,
    sampling: Sampling,
    recipe: str,
    seed: int,
    concurrency: int,
    progress: Progress | Literal["auto", "bar", "lines", "quiet"],
    env_factory: Callable[[str], TextEnv[Any]] | None = None,
    cluster: RayCluster | None = None,
    left_out: Callable[[Sequence[str]], None] | None = None,
) -> list[str]:
    """Put the expert episodes into the store, faults apart.

    Args:
        tasks: the training tasks that an oracle or a policy plays.
        env: the run's environment: only the tasks of its training `splits` are learnt from, whatever a file states.
        left_out: told of the records of a file that cannot be used, if there are any: what is wrong with each.

    Returns:
        Ids of the expert episodes, successes and failures, in an order that depends on the tasks alone.

    Raises:
        BadInput: no such oracle, policy or file, or nothing in the file that can be used.
        TooManyFaults, Interrupted: see `collect`.
    """
    experts.check(spec)
    if experts.file is not None:
        found, wrong = experts._read(spec, env, splits, conversation, replay=experts.replay, progress=progress)
        if wrong and left_out is not None:
            left_out(wrong)
        store.add_all(found)
        return [episode.id for episode in found]
    policy = experts.player(spec, sampling, concurrency)
    tasks = choose_tasks(tasks, experts.tasks, f"the training tasks of {spec.id}")
    try:
        collect(
            tasks,
            policy,
            store,
            samples=experts.samples,
            env_settings=env_settings,
            conversation=conversation,
            concurrency=concurrency,
            recipe=recipe,
            iteration=0,
            progress=progress,
            seed=seed,
            env_factory=env_factory,
            cluster=cluster,
        )
    finally:
        _closed(policy)
    plan = [(Start(task=task), experts.samples) for task in tasks]
    keys = planned_keys(plan, policy, recipe=recipe, iteration=0)
    return [episode_id(key) for key in keys if store.has(key)]


def _closed(policy: Policy) -> None:
    """Give back what a policy holds: connections, threads."""
    close = getattr(policy, "close", None)
    if close is not None:
        close()
