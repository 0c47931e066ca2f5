"""The conformance check passes honest environments and names the promise that a dishonest one breaks."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import broken
import pytest

from palaestra.envs import BadInput, TextEnv, register
from palaestra.envs.check import Report, check
from palaestra.envs.check.leaks import growth
from palaestra.envs.check.promises import PROMISES

EXAMPLES = Path(__file__).parents[2] / "examples"


def checked(cls: type[TextEnv], **rest: object) -> Report:
    oracles = rest.pop("oracles", {"right": broken.go_right})
    register(
        "broken/Street-v0", cls, splits={"train": range(100), "test": range(100, 120)}, max_steps=30, oracles=oracles
    )
    return check("broken/Street-v0", fast=True, tasks=3, cycles=24, **rest)  # type: ignore[arg-type]


@pytest.mark.usefixtures("clean_registry")
def test_an_honest_environment_keeps_every_promise() -> None:
    report = checked(broken.Honest)
    assert report.passed, report
    assert [result.name for result in report.results] == list(PROMISES)
    assert report.tasks == 6
    assert "solved 6 of 6" in report.result("oracle").detail
    assert "keeps none" in report.result("keeping").detail


@pytest.mark.usefixtures("clean_registry")
def test_an_environment_that_stores_its_states_is_resumed_from_them() -> None:
    report = checked(broken.Keeps)
    assert report.passed, report
    assert report.result("keeping").detail.startswith("6 episodes, up to ")


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize(
    ("cls", "promise"),
    [
        (broken.Undescribed, "registration"),
        (broken.ForgetsInfo, "five-tuple"),
        (broken.NumpyFlags, "five-tuple"),
        (broken.ScoresInPercent, "five-tuple"),
        (broken.RewardsWithoutNumber, "five-tuple"),
        (broken.SeedsByTheClock, "seeds"),
        (broken.Dicey, "determinism"),
        (broken.SharesState, "determinism"),
        (broken.ListingChangesState, "determinism"),
        (broken.CannotPickle, "pickle"),
        (broken.KeepsStateOutside, "rewind"),
        (broken.KeepsStateOutside, "other instance"),
        (broken.ReplaysOtherwise, "rewind"),
        (broken.KnowsItsProcess, "other process"),
        (broken.KeepsHalf, "keeping"),
        (broken.TakesAnything, "keeping"),
        (broken.KeepsNothing, "keeping"),
        (broken.ListsWhatItRefuses, "actions"),
        (broken.RaisesOnBadActions, "bad actions"),
        (broken.EndsOnBadActions, "bad actions"),
        (broken.RewardsBadActions, "bad actions"),
        (broken.EchoesEverything, "bad actions"),
        (broken.EchoesSurrogates, "bad actions"),
        (broken.NeverTruncates, "step limit"),
        (broken.GoesOnAfterTheEnd, "step limit"),
        (broken.ClosesOnce, "close"),
    ],
)
def test_a_broken_promise_is_found_and_named(cls: type[TextEnv], promise: str) -> None:
    report = checked(cls)
    assert not report.passed
    assert not report.result(promise).passed, report


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize(
    ("cls", "only"),
    [
        (broken.KnowsItsProcess, "other process"),
        (broken.ListsWhatItRefuses, "actions"),
        (broken.EchoesEverything, "bad actions"),
    ],
)
def test_promises_that_are_kept_are_not_blamed(cls: type[TextEnv], only: str) -> None:
    assert [result.name for result in checked(cls).failures] == [only]


@pytest.mark.usefixtures("clean_registry")
def test_a_loose_listing_that_is_declared_is_measured_and_told() -> None:
    result = checked(broken.ListsLoosely).result("actions")
    assert result.passed
    assert "refused (declared: at most 70%)" in result.detail


@pytest.fixture
def _cleared() -> Iterator[None]:
    broken.LeaksThreads.never.clear()
    yield
    broken.LeaksThreads.never.set()
    broken.LeaksMemory.kept.clear()
    for file in broken.LeaksFiles.opened:
        file.close()
    for process in broken.LeaksProcesses.started:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("clean_registry", "_cleared")
@pytest.mark.parametrize(
    ("cls", "what"),
    [
        (broken.LeaksMemory, "objects"),
        (broken.LeaksThreads, "threads"),
        (broken.LeaksFiles, "files"),
        (broken.LeaksProcesses, "processes"),
    ],
)
def test_what_an_environment_leaves_behind_is_found_and_named(cls: type[TextEnv], what: str) -> None:
    report = checked(cls)
    assert not report.result("leaks").passed
    assert f"{what} grew by" in report.result("leaks").detail


def test_growth_that_ends_is_no_leak() -> None:
    cache: list[bytes] = []

    def cycle(_: bool) -> None:
        if len(cache) < 100:
            cache.append(bytes(100_000))

    assert growth(cycle, cycles=200, limit_s=10.0).leaks == ()


def test_native_memory_that_python_does_not_count_is_found() -> None:
    held: list[mmap.mmap] = []

    def leak(_: bool) -> None:
        held.append(mmap.mmap(-1, 100_000))  # pages of its own: `malloc` may be served from what was freed before
        held[-1].write(b"x" * 100_000)

    found = growth(leak, cycles=200, limit_s=10.0)
    assert any(leak.startswith("memory grew") for leak in found.leaks), found


@pytest.mark.usefixtures("clean_registry")
def test_an_oracle_that_solves_nothing_or_remembers_is_found() -> None:
    assert "solved none" in checked(broken.Honest, oracles={"left": broken.go_left}).result("oracle").detail
    report = checked(broken.Honest, oracles={"fickle": broken.Fickle()})
    assert not report.result("oracle").passed


def test_an_oracle_may_say_that_there_is_none_but_not_that_its_input_is_bad() -> None:
    result = checked(broken.Honest, oracles={"none": broken.knows_no_way}).result("oracle")
    assert result.passed
    assert result.detail == "none for these tasks: this street has no oracle"
    result = checked(broken.Honest, oracles={"bad": broken.refuses}).result("oracle")
    assert not result.passed
    assert "what was handed in is bad" in result.detail


@pytest.mark.usefixtures("clean_registry")
def test_a_wrong_fidelity_in_the_registration_is_found() -> None:
    register(
        "broken/Lazy-v0", "broken:ReplaysOtherwise", splits={"train": range(30)}, max_steps=30
    )  # by name, so the class is not looked at
    assert "fidelity" in check("broken/Lazy-v0", fast=True, tasks=2, cycles=8).result("registration").detail


@pytest.mark.usefixtures("clean_registry")
def test_a_slow_environment_is_tried_less_often_but_on_every_split(monkeypatch: pytest.MonkeyPatch) -> None:
    from palaestra.envs.check.bench import Bench

    monkeypatch.setattr(Bench, "limit_s", 0.0)  # no time at all
    report = checked(broken.Honest)
    assert report.passed, report
    assert report.tasks == 2


def test_the_same_seed_finds_the_same() -> None:
    def found(seed: int) -> list[str]:
        return [result.detail for result in check("bandit", fast=True, tasks=2, cycles=8, seed=seed).results]

    assert found(3) == found(3)


def test_a_report_is_json_and_text() -> None:
    seen = []
    report = check("bandit", fast=True, tasks=1, cycles=8, settings={"show": "table"}, progress=seen.append)
    data = json.loads(report.to_json())
    assert data["passed"] is True
    assert data["env"] == "palaestra/Bandit-v0"
    assert data["settings"] == {"show": "table"}
    assert [each["name"] for each in data["results"]] == list(PROMISES) == [result.name for result in seen]
    assert "other process" in str(report)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env_id": "nothing"}, "unknown environment"),
        ({"env_id": "bandit", "tasks": 0}, "tasks >= 1"),
        ({"env_id": "bandit", "load": "no/such/file.py"}, "there is no file"),
        ({"env_id": "bandit", "load": "no_such_module"}, "cannot import no_such_module"),
    ],
)
def test_what_cannot_be_checked_is_one_line(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message) as raised:
        check(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_file_passes_when_it_is_run_as_a_script(tmp_path: Path) -> None:
    output = run(str(EXAMPLES / "guess.py"), cwd=tmp_path)
    assert "mine/Guess-v0" in output
    assert output.count("ok ") == len(PROMISES)
    assert "FAILED" not in output


def test_the_example_file_passes_when_it_is_loaded_by_path(tmp_path: Path) -> None:
    code = (
        "from palaestra.envs.check import check\n"
        f"print(check('mine/Guess-v0', fast=True, load={str(EXAMPLES / 'guess.py')!r}).to_json())\n"
    )
    report = json.loads(run("-c", code, cwd=tmp_path))
    assert report["passed"], report


def test_an_environment_of_an_installed_package_is_found_and_passes(tmp_path: Path) -> None:
    install(tmp_path, "towers-env", "towers = towers:register_all")
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(EXAMPLES / 'own_package')!r}]\n"
        "import palaestra; from palaestra.envs.check import check\n"
        "assert 'towers/Hanoi-v0' in palaestra.specs()\n"
        "print(check('hanoi', fast=True).to_json())\n"
    )
    report = json.loads(run("-c", code, cwd=tmp_path))
    assert report["passed"], report


def test_a_package_that_fails_to_load_takes_nothing_along(tmp_path: Path) -> None:
    install(tmp_path, "sick-env", "sick = no_such_module:register_all")
    code = (
        f"import sys, warnings; sys.path[:0] = [{str(tmp_path)!r}]\n"
        "import palaestra\n"
        "with warnings.catch_warnings(record=True) as told:\n"
        "    warnings.simplefilter('always')\n"
        "    assert 'palaestra/Bandit-v0' in palaestra.specs()\n"
        "print(told[0].message)\n"
    )
    assert "entry point sick = no_such_module:register_all failed to load" in run("-c", code, cwd=tmp_path)


def install(where: Path, name: str, entry_point: str) -> None:
    """Write what an installer would leave beside a package's files, so that no build backend is needed."""
    info = where / f"{name.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(f"[palaestra.envs]\n{entry_point}\n")
