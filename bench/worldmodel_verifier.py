"""A judge that sees no imagined page: it learns from real ends whether what was done is what was asked for.

It is the verifier of Cobbe et al. 2021 (arXiv 2110.14168) for episodes: a model is shown the task and the actions and
says 1 or 0, and has learnt that from the environment's verdict on real episodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from worldmodel_truth import Truth

from palaestra.agents.episode import Outcome
from palaestra.agents.store import EpisodeStore
from palaestra.envs import make
from palaestra.trainers.evaluate import training_splits
from palaestra.trainers.objective import CrossEntropy, fit
from palaestra.trainers.phases import Synthesis
from palaestra.trainers.rundir import write_whole
from palaestra.worldmodel.judging import Case
from palaestra.worldmodel.loading import CARD, WorldCard, load_world, template_of
from palaestra.worldmodel.page import PageFormat
from palaestra.worldmodel.samples import samples_of
from palaestra.worldmodel.training import WorldConfig
from palaestra.worldmodel.transitions import Transition, transitions_of

FILE, AGAIN = "verified.json", "rejudged.json"
PAGE = PageFormat(max_page=450, rules=False, history=8, judged="actions")


class Verified(BaseModel):
    """What a verifier learnt from, and what it says of real ends in tasks of another split.

    Attributes:
        ends: that it learnt from; won: of them. ids: that went through it.
        right: held-out ends that were won and said to be, of `good`; wrong: that were lost and said to be won, of
            `bad`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ends: int
    won: int
    ids: int
    right: int
    good: int
    wrong: int
    bad: int

    def text(self) -> str:
        """In a sentence or two."""
        return (
            f"The verifier learnt from {self.ends:,} real ends, {self.won:,} of them won ({self.ids:,} ids from the "
            f"policy's weights). Of ends of held-out tasks it calls {self.right} of {self.good} won ones solved, and "
            f"{self.wrong} of {self.bad} lost ones."
        )


class Rejudged(BaseModel):
    """What a verifier says of episodes that were imagined.

    Attributes:
        runs: that imagined them; imagined: episodes that were not cut; true: whose actions solve
            the task in the real environment.
        kept: that the judge of the runs calls solved; called: that the verifier does, and `right` of these are true.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: int
    imagined: int
    true: int
    kept: int
    called: int
    right: int

    def text(self) -> str:
        """In a sentence."""
        return (
            f"Of {self.imagined} episodes that `webevolver` imagined in {self.runs} seed(s) and that were not cut the "
            f"world model calls {self.kept} solved, the verifier {self.called} ({self.right} of these are, and of all "
            f"{self.true}); the policies above learnt what the world model kept."
        )


def rejudged(verifier: Path, runs: Mapping[Path, tuple[Synthesis, Sequence[Truth]]]) -> Rejudged:
    """Ask a verifier about the imagined episodes of WebEvolver runs.

    Args:
        runs: of each what it imagined, and what the real environment says of every episode of that, in order.
    """
    cases, rows = [], []
    for run, (found, truths) in runs.items():
        with EpisodeStore(run / "episodes.sqlite", mode="r") as store:
            for id, said in zip(found.episodes, truths, strict=True):
                path = store.path(id)
                episode = path.episode
                if not said.cut:
                    start, over = episode.start.task, episode.outcome in (Outcome.SUCCESS, Outcome.FAILURE)
                    first, last = path.turns[0].observation, episode.final_observation
                    cases.append(Case(start, "", first, path.actions, last, over))
                    rows.append(said)
    called = [value >= 1.0 for value in load_world(verifier / "model").judge.rate(cases)]
    return Rejudged(
        runs=len(runs),
        imagined=len(rows),
        true=sum(each.solved for each in rows),
        kept=sum(each.kept for each in rows),
        called=sum(called),
        right=sum(each.solved and value for each, value in zip(rows, called, strict=True)),
    )


def ends(stores: Iterable[Path], splits: Collection[str], actors: Collection[str] | None = None) -> list[Transition]:
    """The last steps of real episodes, those that the step limit ended too, by task; each once.

    Args:
        actors: of these kinds only; None for all.
    """
    found: dict[str, Transition] = {}
    for file in stores:
        with EpisodeStore(file, mode="r") as store:
            for path in store.paths():
                episode = path.episode
                if episode.start.task.split in splits and (actors is None or episode.provenance.actor in actors):
                    found.update((step.episode, step) for step in transitions_of(path)[-1:])
    return sorted(found.values(), key=lambda step: (step.task.id, step.episode))


def train_verifier(
    where: tuple[str, dict[str, Any]],
    base: Path,
    learns: Iterable[Path],
    held_out: Iterable[Path],
    objective: Mapping[str, Any],
    out: Path,
) -> Verified:
    """Train a verifier and measure it; the model is in `out`/model, a folder that judges.

    Args:
        where: the environment and its settings. base: weights to begin with.
        learns: stores of real episodes, of which those of the training split are learnt.
        held_out: stores of episodes by the policy in other splits, to measure it on.
    """
    env = make(where[0], **where[1])
    splits = training_splits(env)
    assert env.registration is not None
    # 1 or 0: what is solved in part is not solved
    known = [step.model_copy(update={"worth": float(step.success)}) for step in ends(learns, splits)]
    config = WorldConfig(page=PAGE)
    told = {step.task.id: "" for step in known}
    samples = [s for s in samples_of(known, config, template_of(str(base)), told) if s.kind == "judgement"]
    report = fit(base, samples, CrossEntropy(**objective), out / "model", splits=splits, name="verifier")
    card = WorldCard(
        env=env.registration.id,
        env_settings=where[1],
        env_fingerprint=env.fingerprint(),
        page=PAGE,
        max_tokens=16,
        temperature=0.0,
        judges=True,
        transitions=len(known),
        tasks=tuple(dict.fromkeys(step.task.id for step in known)),
        seed=0,
        held_out=0.0,
    )
    write_whole(out / "model" / CARD, card.model_dump_json().encode())
    others = [split for split in env.splits() if split not in splits]
    env.close()
    asked = ends(held_out, others, ("policy",))
    said = load_world(out / "model").judge.rate([step.case("") for step in asked])
    solved = [(step.success, value >= 1.0) for step, value in zip(asked, said, strict=True)]
    found = Verified(
        ends=len(known),
        won=sum(step.success for step in known),
        ids=report.tokens_seen,
        right=sum(won and value for won, value in solved),
        good=sum(won for won, _ in solved),
        wrong=sum(value and not won for won, value in solved),
        bad=sum(not won for won, _ in solved),
    )
    write_whole(out / FILE, found.model_dump_json().encode())
    return found
