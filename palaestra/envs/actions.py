"""Texts as Gymnasium's spaces want them: the space of all texts, and the admissible actions of one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from gymnasium import spaces

if TYPE_CHECKING:
    from palaestra.envs.core import Task


class Text(spaces.Space[str]):
    """All strings, of any length and script.

    Gymnasium's own `spaces.Text` is alphanumeric without a blank and bounded, so no sentence is an element of it.
    With `AsyncVectorEnv` use `shared_memory=False`: shared memory silently turns custom text spaces into blanks.
    """

    def __init__(self, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(shape=None, dtype=str, seed=seed)

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """A short random string: any string is an element, few are sensible actions."""
        letters = "abcdefghijklmnopqrstuvwxyz "
        return "".join(letters[i] for i in self.np_random.integers(0, len(letters), 12))

    def contains(self, x: Any) -> bool:
        return isinstance(x, str)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Text)

    def __hash__(self) -> int:
        return hash(Text)

    def __repr__(self) -> str:
        return "Text()"


class Actions(Sequence[str]):
    """The admissible actions of one step, listed when first looked at. Pickled and copied as a plain list.

    Listing them is four fifths of a step's time in some environments, and most policies never look. If the environment
    has moved on before anyone looked, looking raises RuntimeError.

    Args:
        listing: lists them.
        step: which step they belong to: its task, and the episode's growing list of actions with its length then.
            Those of the same step are equal without being listed, so that `info`s can be compared afterwards.
    """

    def __init__(self, listing: Callable[[], Sequence[str]], step: tuple[Task, list[str], int] | None = None) -> None:
        self._listing: Callable[[], Sequence[str]] | None = listing
        self._known: tuple[str, ...] | None = None
        self._step = step

    def _all(self) -> tuple[str, ...]:
        if self._known is None:
            if self._listing is None:
                raise RuntimeError("the environment has moved on; look at info['actions'] before the next step")
            self._known, self._listing = tuple(self._listing()), None
        return self._known

    def expire(self) -> None:
        """The environment moves on: from now on only what was already listed can be read."""
        self._listing = None

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __contains__(self, value: object) -> bool:
        return value in self._all()

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, Actions):
            if self._same_step(other):
                return True
            if self._lost or other._lost:
                return False
        elif not isinstance(other, list | tuple) or self._lost:
            return False
        return list(self) == list(other)

    @property
    def _lost(self) -> bool:
        return self._known is None and self._listing is None

    def _same_step(self, other: Actions) -> bool:
        if self._step is None or other._step is None:
            return False
        (task, actions, length), (other_task, other_actions, other_length) = self._step, other._step
        return task == other_task and length == other_length and actions[:length] == other_actions[:length]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Actions({list(self._known)})" if self._known is not None else "Actions(not listed)"

    def __reduce__(self) -> tuple[type[list[str]], tuple[tuple[str, ...]]]:
        return list, (self._all(),)
