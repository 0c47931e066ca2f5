"""`--ray` and `--replicas`: where a command collects."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palaestra.agents.policies.named import policy_by_name
from palaestra.agents.policy import Policy, Sampling
from palaestra.cli.options import load_environments
from palaestra.cli.strategies import with_strategy
from palaestra.envs import find
from palaestra.envs.errors import BadInput

if TYPE_CHECKING:
    from palaestra.agents.ray_cluster import RayCluster

RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        help="Environments on a Ray cluster: HOST:PORT of its head, `auto` for the one of this machine, or `local`.",
    ),
]
Replicas = Annotated[
    int, typer.Option(help="With --ray: replicas of the model on the cluster; 0 leaves it here, as for servers.")
]
ReplicaGpus = Annotated[float, typer.Option(help="With --ray: GPUs of each replica.")]


def cluster_of(
    ray: str | None, replicas: int = 0, replica_gpus: float = 0.0, make_policy: PolicyMaker | None = None
) -> RayCluster | None:
    """The cluster that the options describe; None for this machine. Raises BadInput."""
    if ray is None:
        if replicas or replica_gpus:
            raise BadInput("--replicas and --replica-gpus are of a cluster; give --ray as well")
        return None
    from palaestra.agents.ray_cluster import NO_REPLICAS, RayCluster

    if replicas and make_policy is not None and make_policy.streams:
        raise BadInput(f"--replicas: {NO_REPLICAS}")
    return RayCluster(ray, replicas, replica_gpus, make_policy=make_policy)


def joined(cluster: RayCluster | None) -> AbstractContextManager[None]:
    """Connected to the cluster, if there is one, before anything is written. Raises BadInput where none answers."""
    return nullcontext() if cluster is None else cluster.joined()


@dataclass(frozen=True)
class PolicyMaker:
    """Makes the policy of a command, here or on another machine: it can be pickled. Called, it raises BadInput.

    Attributes:
        policy, env, load, constrain: the command's options and its environment's id.
        sampling: how the model samples.
        strategy: name and calls of the strategy around it.
        env_settings: of the environment, for strategies that act in it.
        concurrency: episodes at once.
    """

    policy: str
    env: str
    load: str | None
    sampling: Sampling
    constrain: bool
    strategy: tuple[str | None, int | None]
    env_settings: Mapping[str, Any]
    concurrency: int

    @property
    def streams(self) -> bool:
        """Will it be a `StreamingPolicy`, which hands each request on by itself; strategies ask batch by batch."""
        return self.policy.partition(":")[0] in ("vllm", "openai") and self.strategy[0] is None

    def __call__(self) -> Policy:
        load_environments(self.load)
        spec = find(self.env)
        policy = policy_by_name(
            self.policy, spec, self.sampling, constrain=self.constrain, concurrency=self.concurrency
        )
        return with_strategy(policy, *self.strategy, spec, self.env_settings)
