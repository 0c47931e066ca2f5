"""The evaluation card: all that must be equal for two figures to stand in one column.

"WebShop score" or "ScienceWorld score" is not one number: protocols differ in data, simplifications, step caps and in
what is averaged. Every evaluation says here what it measured.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from palaestra.trainers.report_page import markdown_cell

METRIC = (
    "success: share of episodes whose outcome is `success`; score: mean final score in [0, 1] as the protocol has it; "
    "faults are excluded from both and counted"
)

_COMPARED = (
    *("env", "env_settings", "env_fingerprint", "protocol", "split", "task_names", "samples", "step_cap"),
    *("instructions", "metric"),
)


class EvaluationCard(BaseModel):
    """What was measured, on what, and how.

    Attributes:
        env, env_settings, env_fingerprint: the environment, its settings, its package version and data hash.
        protocol: name of the evaluation protocol, where the environment knows several.
        split: never a training split.
        split_tasks: tasks of the split; `tasks`: how many of them were evaluated; `task_names`: which.
        samples: episodes a task. improve: how often each was then improved on; `recall`: turns of it that were shown.
        step_cap: actions until an episode is truncated; None: no limit; "15 to 120, by task" where tasks differ.
        instructions: what the agent is told first (of the first task); `conversation`: how turns are shown.
        sampling: temperature, top_p, max_tokens, seed, and whether only admissible actions could be written.
        metric: definition of the figures.
        interval: how the intervals were made.
        policy, model_version, actor: who acted.
        faults: number of episodes that broke; `fault_treatment`: what was done with them.
        seed: of this evaluation.
        palaestra: version of this package.
        command: how to repeat it, where it came from the command line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    env: str
    env_settings: dict[str, Any]
    env_fingerprint: str
    protocol: str | None
    split: str
    split_tasks: int
    tasks: int
    task_names: tuple[str, ...]
    samples: int
    improve: int = 0
    recall: int | None = None
    step_cap: int | str | None
    instructions: str
    conversation: dict[str, Any]
    sampling: dict[str, Any]
    metric: str = METRIC
    interval: str
    policy: str
    model_version: str
    actor: str
    faults: int
    fault_treatment: str = "excluded from all means, counted, never a zero"
    seed: int
    palaestra: str
    command: str | None = None

    def comparable(self, other: EvaluationCard) -> list[str]:
        """The fields in which two cards differ so that their figures may not be compared; empty if they may."""
        return [name for name in _COMPARED if getattr(self, name) != getattr(other, name)]

    def agent_differences(self, other: EvaluationCard) -> list[str]:
        """What the agents differ in besides their weights: how turns are shown to them, and how they sample."""
        return [name for name in ("conversation", "sampling") if getattr(self, name) != getattr(other, name)]

    def markdown(self, names: int | None = None) -> str:
        """The card as a Markdown table, with so many names of tasks at the most; None: all of them."""
        rows = []
        for name, value in self.model_dump().items():
            if name == "task_names":
                more = ", ..." if names is not None and len(value) > names else ""
                value = f"{len(value)} tasks: {', '.join(value[:names])}{more}"
            text = _cell(value)
            rows.append(f"| {name.replace('_', ' ')} | {text} |")
        return "\n".join(["| evaluation card | |", "|---|---|", *rows])


def _cell(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        value = ", ".join(f"{key}={item}" for key, item in value.items()) or "none"
    return markdown_cell(str(value))
