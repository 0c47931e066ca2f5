"""`--ray` and `--replicas`: where a command collects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
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
    int, typer.Option(help="With --ray: replicas of the policy on the cluster; 0 leaves it here, where servers are.")
]
ReplicaGpus = Annotated[float, typer.Option(help="With --ray: GPUs of each replica.")]


def cluster_of(
    ray: str | None, replicas: int, replica_gpus: float, make_policy: Callable[[], Policy]
) -> RayCluster | None:
    """The cluster that the options describe; None for this machine. Raises BadInput."""
    if ray is None:
        if replicas or replica_gpus:
            raise BadInput("--replicas and --replica-gpus are of a cluster; give --ray as well")
        return None
    from palaestra.agents.ray_cluster import RayCluster

    return RayCluster(ray, replicas, replica_gpus, make_policy=make_policy)


def policy_maker(
    policy: str,
    env: str,
    load: str | None,
    sampling: Sampling,
    constrain: bool,
    strategy: tuple[str | None, int | None],
    env_settings: Mapping[str, Any],
) -> Callable[[], Policy]:
    """What makes the policy of a command, here or on another machine: it can be pickled."""
    return partial(_make, policy, env, load, sampling, constrain, strategy, dict(env_settings))


def _make(
    policy: str,
    env: str,
    load: str | None,
    sampling: Sampling,
    constrain: bool,
    strategy: tuple[str | None, int | None],
    env_settings: Mapping[str, Any],
) -> Policy:
    load_environments(load)
    spec = find(env)
    return with_strategy(policy_by_name(policy, spec, sampling, constrain=constrain), *strategy, spec, env_settings)
