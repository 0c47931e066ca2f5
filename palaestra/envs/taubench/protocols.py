"""Protocols of tau-bench.

`original`: as the benchmark is reported; the user must be played by a model. `halves`: airline has test tasks only, so
half of its users train and the others test, all tasks of one user on the same side (several are variants of one wish).
The division is ours: its figures are of the same rules on other tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

from palaestra.envs.errors import BadInput
from palaestra.envs.taubench.data import Domain, names
from palaestra.envs.taubench.user import SCRIPTED

PROTOCOLS: Mapping[str, tuple[str, ...]] = {"airline": ("original", "halves"), "retail": ("original",)}


def check(domain: str, protocol: str | None, user: object) -> None:
    """Raises BadInput for a protocol that the domain has not, or `original` with a scripted user."""
    known = PROTOCOLS[domain]
    if protocol is not None and protocol not in known:
        raise BadInput(f"tau-bench's {domain} has no protocol {protocol!r}; it has: {', '.join(known)}, or None")
    if protocol == "original" and user == SCRIPTED:
        raise BadInput(
            "protocol 'original' wants a user played by a model; name it with -s user=openai:MODEL@URL, or in the "
            "variable PALAESTRA_USER"
        )


def splits(domain: str, protocol: str | None) -> Sequence[str] | None:
    """The splits of a protocol; None where they are the files' own."""
    return ("train", "test") if protocol == "halves" else None


@lru_cache(maxsize=8)
def half(domain: Domain, split: str) -> tuple[str, ...]:
    """The tasks of `train` or `test` under `halves`, in the benchmark's order: 25 each.

    User by user, in the order in which they first call, the side that has fewer tasks gets all of the user's.
    """
    tasks = dict(zip(names(domain.name, "test"), domain.tasks["test"], strict=True))
    counts = Counter(each.user for each in tasks.values())
    sides: dict[str, list[str]] = {"train": [], "test": []}
    for user in counts:
        smaller = min(sides, key=lambda side: sum(counts[other] for other in sides[side]))
        sides[smaller].append(user)
    return tuple(name for name, each in tasks.items() if each.user in sides[split])
