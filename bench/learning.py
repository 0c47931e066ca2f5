"""Every method and every control on two environments of exact rewind, with five seeds: `docs/results.md`.

    python bench/learning.py [--out DIR] [--seeds N] [--study NAME] [--docs FILE]

The same command goes on where it was killed. Seed by seed, each study compares all contestants and the page is written
anew, so that it always says what is finished. One core is enough; OMP_NUM_THREADS=1 makes the weights the same again.

Each study has a start model of its own, the same for all contestants: a fresh model of some 300,000 parameters
(`palaestra.agents.tiny`) that has cloned a few solved episodes, so that it wins sometimes and not always.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palaestra.agents.tiny import env_texts, make_tiny
from palaestra.envs import find
from palaestra.trainers.compare import compare_methods, standings_of
from palaestra.trainers.comparison import Standing, markdown
from palaestra.trainers.config import config_of
from palaestra.trainers.evaluate import Evaluation
from palaestra.trainers.methods import CONTESTANTS, contestant
from palaestra.trainers.report import rounds
from palaestra.trainers.rft import RFT, RFTConfig
from palaestra.trainers.rundir import read_record

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Study:
    """One environment with its settings.

    Attributes:
        title: of its part of the page.
        taught: training tasks whose solved episodes the start model clones; start: how many, and the ids of each round.
        settings: of all contestants. own: of some.
    """

    title: str
    env: str
    vocab: int
    taught: list[str] | None
    start: tuple[int, int]
    settings: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]]


FIT = {"learning_rate": 1e-3, "batch": 8, "micro_tokens": 4096}
SEARCH = {"width": 4, "iterations": 8}
# The papers' preference and policy-gradient rates are for models a thousand times as large.
GRADIENT = {"learning_rate": 3e-4, "micro_tokens": 4096}
BUFFER = {"minimum": 32, "capacity": 256}
OWN: dict[str, dict[str, Any]] = {
    "eef": {"states": 5},
    "eef-random": {"states": 5},
    "eef-initial": {"states": 5},
    "agent-r": {"search": SEARCH, "later_epochs": None},
    "direct-revision": {"search": SEARCH, "later_epochs": None},
    "textual-splice": {"search": SEARCH, "later_epochs": None},
    "eto": {"preference": {**FIT, "learning_rate": 1e-4}},
    "grpo": {"policy": GRADIENT},
    "exit": {"policy": GRADIENT, **BUFFER},
    "exit-plain": {"policy": GRADIENT, **BUFFER},
    "exit-improve": {"policy": GRADIENT, **BUFFER},
    "exit-curriculum": {"policy": GRADIENT, **BUFFER},
}
IMPROVED = ("grpo", "exit", "exit-plain", "exit-improve", "exit-curriculum")
"""The contestants that are also asked to improve on their attempts."""

THEMES = ("bakery", "carpentry", "garden", "pottery", "smithy", "weaving")

STUDIES = {
    "crafting": Study(
        "Crafting (targets of depth 1)",
        "palaestra/Crafting-v0",
        1024,
        ["d1"],
        (500, 700_000),
        {
            "env_settings": {"max_steps": 10},
            "tasks": [f"d1/{theme}-{n}" for n in range(10) for theme in THEMES],
            "sampling": {"temperature": 1.0, "max_tokens": 32},
            "experts": {"oracle": "default", "slip": 0.3},
            "budget": 420,  # twice: 60 tasks, each with s_0 and some 2.5 states inside the expert's episode
            "objective": {**FIT, "tokens": 120_000},
            "evaluation": {"split": "dev", "tasks": ["d1"], "recovery": True},
        },
        OWN,
    ),
    "webshop": Study(
        "WebShop (120 products of our own making)",
        "palaestra/WebShopSmall-v0",
        1500,
        None,
        (301, 1_000_000),
        {
            "env_settings": {"max_steps": 8},
            "sampling": {"temperature": 1.0, "max_tokens": 64},
            "tasks": 30,
            "experts": {"oracle": "default", "slip": 0.3},
            "budget": 300,  # twice: 30 tasks, each with s_0 and some 4 states
            "objective": {**FIT, "tokens": 120_000},
            "evaluation": {"split": "dev", "tasks": 40, "recovery": True},
        },
        OWN,
    ),
}

ENOUGH = 0.1
"""Held-out success from which on the start model is cloned no further: what never wins has nothing to learn from."""
ROUNDS = 6
"""Rounds of cloning at the most."""

CLAIMS = (
    ("At equal rollouts EEF beats RFT", "rft", "eef"),
    ("Agent-R beats direct revision", "direct-revision", "agent-r"),
    ("An executed splice beats a textual one", "textual-splice", "agent-r"),
    ("EEF's choice of a solution beats a random one", "eef-random", "eef"),
    ("ExIt beats GRPO on uniform tasks", "grpo", "exit"),
)


def start_model(study: Study, out: Path) -> Path:
    """The model that all contestants begin with; made once: rounds of cloning until it wins often enough to learn."""
    model = out / "start-model"
    if (model / "config.json").is_file():
        return model
    fresh = out / "fresh-model"
    if not (fresh / "config.json").is_file():
        make_tiny(env_texts(study.env, episodes=40), fresh, vocab=study.vocab, hidden=96, layers=2, name="tiny")
    episodes, tokens = study.start
    before = fresh
    for number in range(1, ROUNDS + 1):
        settings = {
            **shared(study, before),
            "tasks": study.taught,
            "budget": 0,
            "seed": number,
            "experts": {"oracle": "default", "tasks": episodes},
            "objective": {**FIT, "learning_rate": 3e-3, "tokens": tokens},
            "evaluation": {**study.settings["evaluation"], "recovery": False},
        }
        run = out / f"start-{number}"
        RFT(config_of(RFTConfig, settings), run, progress="quiet").train()
        before = run / "iteration-0/model"
        won = read_record(run / "iteration-0/evaluation.json", Evaluation).success.mean
        print(f"{study.env}: the start model wins {100 * won:.1f} % after {number} rounds", flush=True)
        if won >= ENOUGH:
            break
    part = out / ".start-model"
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(before, part)
    part.rename(model)
    return model


def shared(study: Study, model: Path) -> dict[str, Any]:
    """What all contestants are told."""
    return {**study.settings, "env": study.env, "model": str(model), "constrain": True, "iterations": 2}


def chosen(names: str | None) -> list[str]:
    """The contestants: those named, or all; RFT is first, as the reference."""
    every = [name for name in CONTESTANTS if name != "rft"]
    return ["rft", *(every if names is None else [name for name in names.split(",") if name != "rft"])]


def page(found: Mapping[str, list[Standing]], claims: Mapping[str, list[str]], models: Mapping[str, Path]) -> str:
    """The Markdown page of all studies."""
    parts = [
        "# What the methods learn\n\nMade by `make results` (`bench/learning.py`), which goes on where it was stopped. "
        "A fresh model of some 300,000 parameters that has cloned a few solved episodes is the start of every "
        "contestant; all have the same training tasks, the same flawed experts, the same number of rollouts and the "
        "same number of ids through the model in each fit. Answers are drawn among the admissible actions. Intervals "
        "are bootstraps over held-out tasks and seeds. A difference whose interval holds 0 is not shown here."
    ]
    for name, standings in found.items():
        study, start = STUDIES[name], rounds(models[name].parent / "rft-0")[0].evaluation
        settings = {
            **study.settings,
            "iterations": 2,
            "start": dict(zip(("episodes", "ids"), study.start, strict=True)),
        }
        parts += [
            f"## {study.title}",
            f"The start model wins {start.success.text(percent=True)} of the held-out tasks; its score is "
            f"{start.score.text()}.",
            markdown(standings).strip(),
            "### The papers' claims",
            "\n".join(claims[name]),
            f"Settings: `{json.dumps(settings)}`; of single methods: `{json.dumps(study.own)}`.",
        ]
    return "\n\n".join(parts) + "\n"


def improvement(names: list[str], out: Path, seeds: int) -> list[str]:
    """K-step self-improvement: the score when asked to improve, and its change, as means over seeds."""
    found = []
    for name in (name for name in names if name in IMPROVED):
        last = [rounds(out / f"{name}-{seed}")[-1].evaluation.improved for seed in range(seeds)]
        steps = [f"{sum(each[k].score.mean for each in last) / seeds:.3f}" for k in range(len(last[0]))]
        found.append(f"- `{name}`: score after 0, 1, ... improvements: {', '.join(steps)}.")
    return found


def claims_of(names: list[str], out: Path, seeds: int) -> list[str]:
    """Which of the claims hold, by paired differences."""
    found = []
    for claim, before, after in CLAIMS:
        if before in names and after in names:
            ends = {name: {seed: out / f"{name}-{seed}" for seed in range(seeds)} for name in (before, after)}
            gap = standings_of([contestant(before), contestant(after)], ends)[1].against
            assert gap is not None
            verdict = "holds" if gap.low > 0 else "the opposite holds" if gap.high < 0 else "is not shown here"
            points = f"{100 * gap.mean:+.1f} points [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"
            found.append(f"- {claim}: {verdict} (`{after}` against `{before}`: {points}).")
    return found


def main() -> None:
    """Run, or go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs/results", help="where the runs are kept")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--study", choices=list(STUDIES), action="append", help="one of them; default: all")
    parser.add_argument("--methods", help="contestants with commas between them; default: all")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs/results.md", help="the page")
    given = parser.parse_args()
    names = chosen(given.methods)
    found: dict[str, list[Standing]] = {}
    claims: dict[str, list[str]] = {}
    models: dict[str, Path] = {}
    for seeds in range(1, given.seeds + 1):
        for name in given.study or list(STUDIES):
            study, out = STUDIES[name], given.out / name
            find(study.env)
            models[name] = start_model(study, out)
            settings = shared(study, models[name])
            again = {"evaluation": {**settings["evaluation"], "improve": 2}}
            own = {key: {**study.own.get(key, {}), **(again if key in IMPROVED else {})} for key in names}
            found[name] = compare_methods(
                [contestant(each) for each in names], settings, out, seeds=range(seeds), own=own, progress="quiet"
            )
            claims[name] = [*claims_of(names, out, seeds), *improvement(names, out, seeds)]
            given.docs.write_text(page(found, claims, models), encoding="utf-8")
            record = {key: [s.model_dump(mode="json") for s in standings] for key, standings in found.items()}
            (given.out / "results.json").write_text(json.dumps(record, indent=1))
            print(f"{name}, {seeds} of {given.seeds} seeds: {given.docs}", flush=True)


if __name__ == "__main__":
    main()
