"""Policies whose engine takes requests at any time and answers each when it is done (continuous batching)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from palaestra.agents.policy import Completion, Policy, Request


@runtime_checkable
class StreamingPolicy(Policy, Protocol):
    """A policy that is not asked batch by batch: no request waits for another one's answer.

    The collector hands over up to `batch_size` requests at once, and the next one whenever one is answered.
    """

    def submit(self, request: Request, done: Callable[[Completion], None]) -> None:
        """Take one request; do not wait for its answer.

        Args:
            done: to be called once, from any thread, with the answer. What went wrong with this one request is
                `Completion.error`.

        Raises:
            BadInput: what a person can mend; the collection ends.
        """
        ...
