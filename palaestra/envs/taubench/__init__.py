"""tau-bench (Yao et al., arXiv 2406.12045): a user, an agent that must follow a policy, and tools over databases.

Databases, policies, tool schemas and tasks are those of the data set `tau_bench`; the tools are ours. `data.py` reads
the files, `world.py` keeps what an episode changes, `airline.py` and `retail.py` are the tools and `toolbox.py` makes
calls of them, `user.py` plays the user, `judge.py` gives the reward, `env.py` holds the conversation, `recorded.py`
replays the recorded GPT-4o episodes and makes expert episodes of them.
"""

from __future__ import annotations

from palaestra.envs.registry import register
from palaestra.envs.taubench.data import SIZES, names
from palaestra.envs.taubench.protocols import PROTOCOLS

ABOUT = {
    "airline": "tau-bench, an airline's service: 50 tasks, a policy, 14 tools, a user (a script, or -s user=MODEL)",
    "retail": "tau-bench, a shop's service: 635 tasks, a policy, 16 tools, a user (a script, or -s user=MODEL)",
}


def register_all() -> None:
    """Register `palaestra/TauAirline-v0` and `palaestra/TauRetail-v0`. Reads no data."""
    for domain, sizes in SIZES.items():
        register(
            f"palaestra/Tau{domain.title()}-v0",
            f"palaestra.envs.taubench.env:Tau{domain.title()}",
            splits={split: names(domain, split) for split in sizes},
            max_steps=30,  # the benchmark's own
            oracles={"truth": "palaestra.envs.taubench.oracle:truth"},
            family="taubench",
            summary=ABOUT[domain],
            protocols=PROTOCOLS[domain],
            not_ready="palaestra.envs.taubench.data:why_not_ready",
            style="text",
            answer_tokens=512,
        )
