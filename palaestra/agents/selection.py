"""Which episodes of a store are meant: the filters that every query takes, and the light rows that queries give."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from palaestra.agents.episode import Actor, Outcome
from palaestra.agents.packing import from_column, to_column
from palaestra.envs import Task
from palaestra.envs.errors import BadInput

Texts = str | Collection[str]
"""One text, or several of which any will do."""


class Where(TypedDict, total=False):
    """Filters; an episode must pass all that are given. None is no filter.

    `task` is a Task, its id, or its name; `parent` the id of the episode that was forked; `min_score` the least score.
    """

    env: Texts | None
    task: Task | Texts | None
    split: Texts | None
    outcome: Outcome | Texts | None
    actor: Actor | Texts | None
    policy: Texts | None
    policy_version: Texts | None
    recipe: Texts | None
    iteration: int | Collection[int] | None
    parent: Texts | None
    fork_step: int | Collection[int] | None
    min_score: float | None


@dataclass(frozen=True, slots=True)
class Head:
    """An episode without its turns. `number` counts the episodes of a store in the order they were added, from 1."""

    number: int
    id: str
    key: str
    env: str
    task: str
    name: str
    split: str
    parent: str | None
    fork_step: int
    sample: int
    outcome: Outcome
    score: float
    n_turns: int
    actor: Actor
    policy: str
    policy_version: str
    recipe: str | None
    iteration: int | None
    prompt_tokens: int
    completion_tokens: int
    seconds: float

    @property
    def success(self) -> bool:
        """Was the task solved."""
        return self.outcome is Outcome.SUCCESS

    @property
    def end_step(self) -> int:
        """Number of actions from the root's reset to the end of this episode."""
        return self.fork_step + self.n_turns


HEAD_COLUMNS = ", ".join(["row", *(name for name in Head.__slots__ if name != "number")])
ORDERS = {
    "added": "row",
    "score": "score",
    "turns": "n_turns",
    "tokens": "completion_tokens",
    **{name: name for name in ("task", "env", "split", "outcome", "actor", "policy", "recipe", "iteration")},
    **{name: name for name in ("fork_step", "seconds")},
}
"""Names of orders, and the columns they go by."""


def head(row: tuple[Any, ...]) -> Head:
    """A row of `HEAD_COLUMNS` as a Head."""
    fields: dict[str, Any] = dict(zip(Head.__slots__, map(from_column, row), strict=True))
    fields["outcome"], fields["actor"] = Outcome(fields["outcome"]), Actor(fields["actor"])
    return Head(**fields)


def condition(where: Mapping[str, object]) -> tuple[str, list[object]]:
    """The filters as an SQL condition and its parameters.

    Raises:
        BadInput: an unknown filter, with the names of those there are.
    """
    parts, parameters = ["TRUE"], list[object]()
    for name, wanted in where.items():
        if name not in Where.__annotations__:
            raise BadInput(f"episodes have no filter {name!r}; there are: {', '.join(Where.__annotations__)}")
        if wanted is None:
            continue
        if name == "min_score":
            parts.append("score >= ?")
            parameters.append(wanted)
            continue
        values = _values(name, wanted)
        marks = ", ".join("?" * len(values))
        if name == "task" and not isinstance(wanted, Task):
            parts.append(f"(task IN ({marks}) OR name IN ({marks}))")
            parameters += values
        else:
            parts.append(f"{name} IN ({marks})")
        parameters += values
    return " AND ".join(parts), parameters


def _values(name: str, wanted: object) -> list[object]:
    if isinstance(wanted, Task):
        return [to_column(wanted.id)]
    if isinstance(wanted, (str, int)):
        wanted = [wanted]
    if not isinstance(wanted, Iterable):
        raise BadInput(f"filter {name}={wanted!r} must be a value or several")
    values = [item.id if isinstance(item, Task) else item for item in wanted]
    odd = next((value for value in values if not isinstance(value, (str, int))), None)
    if odd is not None:
        raise BadInput(f"filter {name}={odd!r} must be a text or a number")
    return [to_column(str(value)) if isinstance(value, str) else value for value in values]


def ordering(order: str) -> str:
    """`order` as SQL: a name of `ORDERS`, with `-` before it for the largest or latest first. Raises BadInput."""
    column = ORDERS.get(order.removeprefix("-"))
    if column is None:
        raise BadInput(
            f"episodes have no order {order!r}; there are: {', '.join(ORDERS)}, each also with '-' before it"
        )
    direction = "DESC" if order.startswith("-") else "ASC"
    return f"row {direction}" if column == "row" else f"{column} {direction}, row"
