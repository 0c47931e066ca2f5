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
from palaestra.trainers.methods import CONTESTANTS, contestant
from palaestra.trainers.rft import RFT, RFTConfig

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Study:
    """One environment with its settings.

    Attributes:
        title: of its part of the page.
        start: episodes that the start model has cloned, and the ids of that fit.
        settings: of all contestants. own: of some.
    """

    title: str
    env: str
    vocab: int
    start: tuple[int, int]
    settings: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]]


FIT = {"learning_rate": 1e-3, "batch": 8, "micro_tokens": 4096}
SEARCH = {"width": 4, "iterations": 8}
# The papers' preference and policy-gradient rates are for models a thousand times as large.
OWN: dict[str, dict[str, Any]] = {
    "eef": {"states": 5},
    "eef-random": {"states": 5},
    "eef-initial": {"states": 5},
    "agent-r": {"search": SEARCH, "later_epochs": None},
    "direct-revision": {"search": SEARCH, "later_epochs": None},
    "textual-splice": {"search": SEARCH, "later_epochs": None},
    "eto": {"preference": {**FIT, "learning_rate": 1e-4}},
}

STUDIES = {
    "crafting": Study(
        "Crafting (targets of depth 1)",
        "palaestra/Crafting-v0",
        1024,
        (300, 700_000),
        {
            "env_settings": {"max_steps": 10},
            "tasks": ["d1"],
            "sampling": {"temperature": 1.0, "max_tokens": 32},
            "experts": {"oracle": "default", "slip": 0.3, "tasks": 60},
            "budget": 360,
            "objective": {**FIT, "tokens": 120_000},
            "evaluation": {"split": "dev", "tasks": ["d1"], "recovery": True},
        },
        OWN,
    ),
    "webshop": Study(
        "WebShop (120 products of our own making)",
        "palaestra/WebShopSmall-v0",
        1500,
        (150, 500_000),
        {
            "env_settings": {"max_steps": 8},
            "sampling": {"temperature": 1.0, "max_tokens": 64},
            "experts": {"oracle": "default", "slip": 0.3, "tasks": 60},
            "budget": 360,
            "objective": {**FIT, "tokens": 200_000},
            "evaluation": {"split": "dev", "tasks": 60, "recovery": True},
        },
        OWN,
    ),
}

CLAIMS = (
    ("At equal rollouts EEF beats RFT", "rft", "eef"),
    ("Agent-R beats direct revision", "direct-revision", "agent-r"),
    ("An executed splice beats a textual one", "textual-splice", "agent-r"),
    ("EEF's choice of a solution beats a random one", "eef-random", "eef"),
    ("ExIt beats GRPO on uniform tasks", "grpo", "exit"),
)


def start_model(study: Study, out: Path) -> Path:
    """The model that all contestants begin with; made once."""
    model = out / "start-model"
    if (model / "config.json").is_file():
        return model
    fresh = out / "fresh-model"
    if not (fresh / "config.json").is_file():
        make_tiny(env_texts(study.env, episodes=40), fresh, vocab=study.vocab, hidden=96, layers=2, name="tiny")
    episodes, tokens = study.start
    settings = {
        **shared(study, fresh),
        "budget": 0,
        "experts": {"oracle": "default", "tasks": episodes},
        "objective": {**FIT, "learning_rate": 3e-3, "tokens": tokens},
        "evaluation": {**study.settings["evaluation"], "recovery": False},
    }
    run = out / "start-run"
    RFT(config_of(RFTConfig, settings), run, progress="quiet").train()
    part = out / ".start-model"
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(run / "iteration-0/model", part)
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
        study, start = (
            STUDIES[name],
            json.loads((models[name].parent / "start-run/iteration-0/evaluation.json").read_text()),
        )
        settings = {
            **study.settings,
            "iterations": 2,
            "start": dict(zip(("episodes", "ids"), study.start, strict=True)),
        }
        parts += [
            f"## {study.title}",
            f"The start model wins {100 * start['success']['mean']:.1f} % of the held-out tasks "
            f"(score {start['score']['mean']:.3f}).",
            markdown(standings).strip(),
            "### The papers' claims",
            "\n".join(claims[name]),
            f"Settings: `{json.dumps(settings)}`; of single methods: `{json.dumps(study.own)}`.",
        ]
    return "\n\n".join(parts) + "\n"


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
            own = {key: value for key, value in study.own.items() if key in names}
            settings = shared(study, models[name])
            found[name] = compare_methods(
                [contestant(each) for each in names], settings, out, seeds=range(seeds), own=own, progress="quiet"
            )
            claims[name] = claims_of(names, out, seeds)
            given.docs.write_text(page(found, claims, models), encoding="utf-8")
            record = {key: [s.model_dump(mode="json") for s in standings] for key, standings in found.items()}
            (given.out / "results.json").write_text(json.dumps(record, indent=1))
            print(f"{name}, {seeds} of {given.seeds} seeds: {given.docs}", flush=True)


if __name__ == "__main__":
    main()
