"""Reports: one file that stands alone, says what was stored, and in which nothing of a run is ever markup."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from palaestra.trainers.comparison import Bin, Standing, write
from palaestra.trainers.evaluate import Evaluation
from palaestra.trainers.report import iterations, rounds, write_report
from palaestra.trainers.report_eval import write_evaluation
from palaestra.trainers.report_page import markdown_table, page, table
from palaestra.trainers.report_plots import Mark, bars, curve, intervals, points
from palaestra.trainers.rundir import read_record
from palaestra.trainers.statistics import Interval

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = "</title></table><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>|\n`\"'"
VOID = {"meta", "img", "br", "line", "circle", "rect", "polyline"}


class Structure(HTMLParser):
    """Tags that are opened and not closed, and everything that a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.titles = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.titles += tag == "title"
        outside = tag in ("script", "link", "img", "iframe", "object", "base", "form")
        active = any(name.startswith("on") or name in ("src", "srcset", "action") for name, _ in attrs)
        elsewhere = any(name == "href" and re.match("[a-z]+:|//", value or "") for name, value in attrs)
        if outside or active or elsewhere:
            self.wrong.append(self.get_starttag_text() or tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}>")


def stands_alone(file: Path) -> str:
    """Assert that a page is whole and needs nothing else; give its text."""
    text = file.read_text(encoding="utf-8")
    structure = Structure()
    structure.feed(text)
    structure.close()
    assert (structure.wrong, structure.open) == ([], [])
    assert "default-src 'none'" in text
    assert "url(" not in text
    assert "@import" not in text
    return text


def evaluation(short_run: Path, **changes: Any) -> Evaluation:
    return read_record(short_run / "start/evaluation.json", Evaluation).model_copy(update=changes)


def interval(mean: float) -> Interval:
    return Interval(mean=mean, low=max(-1.0, mean - 0.1), high=min(1.0, mean + 0.1), clusters=20)


def standing(method: str, mean: float, *, reference: bool = False, **more: Any) -> Standing:
    costs = {"seeds": 3, "rollouts": 40.0, "trained_tokens": 3000.0, "seen_tokens": 9000.0, "model_calls": 400.0}
    against = None if reference else interval(mean - 0.5)
    return Standing(
        method=method, what=HOSTILE, success=interval(mean), score=interval(mean), against=against, **costs | more
    )


def test_the_page_of_a_run_has_its_curves_settings_versions_and_cards(short_run: Path) -> None:
    text = stands_alone(short_run / "report.html")
    for name in ("Success", "Score", "Episodes", "Score of episodes", "Faults", "Tokens of episodes", "Tokens trained"):
        assert f"<b>{name}</b>" in text
    assert text.count("<b>Loss, ") == 3
    for told in ("objective.learning_rate", "0.003", "torch 2.", "palaestra 0.", "Evaluation cards", "env fingerprint"):
        assert told in text
    last = rounds(short_run)[-1].evaluation
    assert last.success.text(percent=True) in text
    assert "<title>start: " in text, "each mark says its figures"


def test_every_iteration_is_in_the_markdown_with_what_the_store_says(short_run: Path) -> None:
    made = iterations(short_run)
    assert [each.number for each in made] == [0, 1, 2]
    assert [len(each.collected.episodes) for each in made[1:]] == [6, 6]
    assert all(each.completion_tokens > 0 for each in made[1:])
    text = (short_run / "report.md").read_text()
    for each in made:
        assert (
            f"| {each.label} | {len(each.collected.episodes)} | {each.collected.successes} | {each.score:.3f} |" in text
        )
    assert "| objective.epochs | 2 |" in text


def test_nothing_of_a_run_is_markup(tmp_path: Path, short_run: Path) -> None:
    shutil.copytree(short_run, tmp_path / "run")
    record = json.loads((tmp_path / "run/run.json").read_text())
    record |= {"recipe": HOSTILE, "commands": [HOSTILE], "versions": [{HOSTILE: HOSTILE, "odd": "\ud800"}]}
    record["config"] |= {"env": HOSTILE, "model": HOSTILE, "env_settings": {HOSTILE: HOSTILE}}
    (tmp_path / "run/run.json").write_text(json.dumps(record))
    odd = evaluation(short_run, label=HOSTILE)
    row = odd.tasks[0].model_copy(update={"task": HOSTILE, "type": HOSTILE})
    card = odd.card.model_copy(update={"instructions": HOSTILE, "task_names": (HOSTILE,)})
    odd = odd.model_copy(update={"tasks": (row,), "card": card})
    (tmp_path / "run/iteration-2/evaluation.json").unlink()
    (tmp_path / "run/iteration-1/evaluation.json").unlink()
    (tmp_path / "run/iteration-0/evaluation.json").unlink()
    (tmp_path / "run/start/evaluation.json").write_text(odd.model_dump_json())
    write_report(tmp_path / "run")
    text = stands_alone(tmp_path / "run/report.html")
    assert "&lt;img src=x" in text
    assert "\\ud800" in text
    told = (tmp_path / "run/report.md").read_text()
    assert "<img" not in told
    assert "<script" not in told
    write_evaluation(tmp_path / "run", odd, bins={HOSTILE: odd.success})
    assert "&lt;img src=x" in stands_alone(tmp_path / "run/report.html")


def test_the_page_of_an_evaluation_says_what_its_record_says(tmp_path: Path, short_run: Path) -> None:
    found = evaluation(short_run)
    write_evaluation(tmp_path, found)
    text = stands_alone(tmp_path / "report.html")
    assert f"{100 * found.success.mean:.1f} %" in text
    assert all(row.task in text for row in found.tasks)
    assert found.success.text(percent=True) in (tmp_path / "report.md").read_text()


def test_the_page_of_a_comparison_has_intervals_differences_and_costs(tmp_path: Path, short_run: Path) -> None:
    shutil.copytree(short_run, tmp_path / "rft-0")
    bins = (Bin(name="never", success=interval(0.2)), Bin(name="often", success=interval(0.9)))
    rows = [
        standing("rft", 0.5, reference=True, bins=bins),
        standing("eef", 0.75, bins=bins, recovery=interval(0.3)),
        standing(HOSTILE, 0.2),
    ]
    write(tmp_path, rows)
    text = stands_alone(tmp_path / "comparison.html")
    for name in (
        "Success",
        "Difference",
        "Score",
        "Recovery",
        "Rollouts",
        "Model calls",
        "Ids in fits",
        "Tokens trained",
    ):
        assert f"<b>{name}</b>" in text
    assert "+25.0 [+15.0, +35.0]" in text
    assert "var(--won)" in text, "a difference that is surely above zero"
    assert "var(--bad)" in text, "one that is surely below"
    assert '<a href="rft-0/report.html">' in text
    told = (tmp_path / "comparison.md").read_text()
    assert "| eef | 75.0 % [65.0, 85.0] |" in told
    assert "<script" not in told


@pytest.mark.parametrize(
    "values", [[], [float("nan")], [0.0], [-0.001], [6.79, 6.71], [1e-9, 1e-9], [2.0, float("inf"), 1.0], [1e9] * 5000]
)
def test_odd_curves_are_drawn(values: list[float]) -> None:
    drawn = curve(values, "a curve")
    assert drawn.startswith("<svg")
    assert "nan" not in drawn.lower().replace("no finite", "")
    assert len(drawn) < 30_000


def test_many_marks_and_long_names_fit() -> None:
    marks = [Mark(f"a rather long name of iteration {k}", k / 300, 0.0, 1.0, share=k / 600) for k in range(300)]
    for drawn in (points(marks, percent=True), bars(marks), intervals([(m.label, None) for m in marks], low=0, high=1)):
        assert "nan" not in drawn
    assert points(marks, percent=True).count('text-anchor="middle"') < 12


def test_what_is_negative_is_drawn_below_zero() -> None:
    drawn = points([Mark("1", -0.4, -0.45, -0.34), Mark("2", 0.5, 0.4, 0.6)], percent=False)
    assert "1: -0.400 [-0.450, -0.340]" in drawn
    heights = [float(y) for y in re.findall('<circle [^>]*cy="([0-9.]+)"', drawn)]
    bottom, zero = (float(y) for y in re.findall('y="([0-9.]+)" text-anchor="end">(?:0|-1)<', drawn))
    assert heights[1] < zero < heights[0] < bottom
    assert 'text-anchor="end">-1<' not in points([Mark("1", 0.4, 0.0, 0.6)], percent=False)


def test_markdown_cells_stay_cells() -> None:
    assert markdown_table(["a"], [["x|y\nz<b>"]]).splitlines()[2] == "| x\\|y z&lt;b> |"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    import os

    from playwright.sync_api import sync_playwright

    from palaestra.envs.browser.chromium import find_chromium

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=find_chromium().path, chromium_sandbox=os.geteuid() != 0, timeout=120_000
        )
        yield chromium
        chromium.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_opens_it_from_the_disk_and_runs_nothing(
    tmp_path: Path, short_run: Path, browser: Browser, width: int, scheme: Any
) -> None:
    shutil.copy(short_run / "report.html", tmp_path / "run.html")
    # even a page that forgot to escape runs nothing and fetches nothing
    odd = page("odd", HOSTILE, [table([HOSTILE], [[HOSTILE]]), HOSTILE, '<img src="http://127.0.0.1:9/x.png">'])
    (tmp_path / "odd.html").write_bytes(odd)
    for name, title in (("run.html", "RFT on toy/Lamps-v0"), ("odd.html", "odd")):
        opened = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        told: list[str] = []
        asked: list[str] = []
        opened.on("console", lambda message, told=told: told.append(message.text))
        opened.on("requestfinished", lambda request, asked=asked: asked.append(request.url))
        opened.goto((tmp_path / name).as_uri())
        assert opened.title().startswith(title)
        assert asked == [(tmp_path / name).as_uri()]
        if name == "run.html":
            assert told == []
            assert opened.evaluate("document.documentElement.scrollWidth") <= width
            paper = opened.evaluate("getComputedStyle(document.body).backgroundColor")
            assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(18, 21, 28)")
        opened.close()
