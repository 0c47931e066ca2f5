"""What the commands of world models would do and what that costs, before anything is done."""

from __future__ import annotations

from pathlib import Path

from palaestra.agents.typical import typical
from palaestra.trainers.estimate import Acting, Estimate, Part, estimate
from palaestra.trainers.objective import CrossEntropy
from palaestra.worldmodel.loading import FIDELITY, WorldCard
from palaestra.worldmodel.training import TrainConfig, store_file


def of_training(config: TrainConfig, out: Path) -> Estimate:
    """What `train_world` would do. Raises BadInput where there is no store."""
    file = store_file(config.store)
    found = typical([file], config.env)
    known = f"{found.held:,} episodes of {found.turns:.1f} turns" if found else "no episode"
    limits = f"at most {config.per_start or 'all'} transitions a task, {config.per_kind or 'all'} a kind of action"
    objective = config.objective
    tokens = objective.tokens if isinstance(objective, CrossEntropy) else None
    more = [f"{file} holds {known} of {config.env}; {limits}, {100 * config.held_out:.0f} % of the tasks set aside"]
    more += [] if tokens else ["ids of the fit depend on the transitions; set objective.tokens to bound them"]
    return estimate(
        f"train a world model of {config.env} with {config.model}",
        out,
        [],
        Acting(None, found),
        fits=1,
        fit_tokens=tokens,
        weights=(config.model, 1),
        more=more,
    )


def of_measuring(
    world: str, card: WorldCard, store: str, *, horizons: int, origins: int, episodes: int | None
) -> Estimate:
    """What `fidelity` would do: pages that the world model writes, at the most. Raises BadInput without a store."""
    file = store_file(store)
    found = typical([file], card.env)
    count = min(found.held, episodes or found.held) if found else 0
    pages = count * origins * horizons
    return Estimate(
        does=f"measure {world} on {count:,} episodes of {card.env}",
        out=f"{FIDELITY} beside the weights, where nothing was measured before",
        parts=(
            Part(
                what="imagined pages", episodes=pages, model=True, told=f"at most, {count:,} x {origins} x {horizons}"
            ),
        ),
        model_calls=pages,
        completion_tokens=pages * card.max_tokens,
        episode_bytes=0,
        model_bytes=0,
        basis=(f"{file}; episodes of tasks that it learnt from are left out; pages of {card.max_tokens} tokens",),
    )
