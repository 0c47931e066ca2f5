"""Task files and judges that cannot be used are refused when the environment is made, before a browser starts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from palaestra.envs import BadInput, make
from palaestra.envs.browser.judging import Case, by_reference, find_judge
from palaestra.envs.browser.task_file import read

ONE = {"id": "one", "ques": "Which?", "web": "http://library.test/"}


def written(folder: Path, *lines: dict[str, object]) -> str:
    """A task file of these lines."""
    file = folder / "tasks.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(file)


@pytest.mark.parametrize("answer", [{}, {"answer": ""}, {"answer": []}, {"answer": [" "]}], ids=str)
def test_a_file_whose_answers_nobody_could_judge_is_refused(tmp_path: Path, answer: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=r"no task of .* has a reference answer; name a file of them .* or who judges"):
        make("webtasks", file=written(tmp_path, {**ONE, **answer}))
    make("webtasks", file=written(tmp_path, {**ONE, **answer}), judge="builtins:len").close()


def test_a_task_whose_answer_nobody_could_judge_does_not_begin(tmp_path: Path) -> None:
    env = make("webtasks", file=written(tmp_path, ONE, {**ONE, "id": "two", "answer": "B5"}))
    with pytest.raises(BadInput, match="the task one has no reference answer"):
        env.reset(options={"task": "one"})
    env.close()


def test_a_file_that_was_changed_is_read_anew(tmp_path: Path) -> None:
    file = written(tmp_path, ONE)
    assert read(file).tasks["one"].ques == "Which?"
    written(tmp_path, {**ONE, "ques": "What else?"})
    os.utime(file, ns=(1, 1))
    assert read(file).tasks["one"].ques == "What else?"
    Path(file).unlink()
    with pytest.raises(BadInput, match="No such file"):
        read(file)


@pytest.mark.parametrize(
    ("web", "hosts"),
    [
        ("http://[::1]:8000/", ("[::1]:8000",)),
        ("http://127.0.0.1:8000/", ("127.0.0.1:8000",)),
        ("https://www.shop.example/a", ("*.shop.example",)),
    ],
)
def test_a_task_may_visit_its_own_host(tmp_path: Path, web: str, hosts: tuple[str, ...]) -> None:
    assert read(written(tmp_path, {**ONE, "web": web})).tasks["one"].allowed == hosts


@pytest.mark.parametrize(
    "line",
    [{"web": "http://b\u00fccher.example/"}, {"hosts": ["http://a.test/"]}, {"hosts": ["a.test", "a b"]}],
    ids=str,
)
def test_a_host_that_is_none_is_told_with_its_line(tmp_path: Path, line: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=r"tasks\.jsonl, line 2: .* is no host to allow"):
        read(written(tmp_path, ONE, {**ONE, "id": "two", **line}))


def test_hosts_may_be_a_list_or_have_commas_between() -> None:
    for hosts in ("a.test, b.test:8080", ["a.test", " b.test:8080"]):
        env = make("webtasks", hosts=hosts)
        assert env.plan(env.tasks("test")[0]).allowed.hosts[-2:] == ("a.test", "b.test:8080")  # type: ignore[attr-defined]
        env.close()


@pytest.mark.parametrize(
    ("reference", "answer", "right"),
    [("\u2605\u2605\u2605", "\u2605\u2605\u2605", 1.0), ("\u2605\u2605\u2605", "\u2605\u2605", 0.0), ("-", "", 0.0)],
)
def test_a_reference_of_signs_alone_counts_sign_by_sign(reference: str, answer: str, right: float) -> None:
    assert by_reference(Case("?", answer, (reference,), (), "")) == right


def test_a_judge_whose_module_breaks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "odd_judge.py").write_text("1 / 0\n")
    for name, said in (
        ("odd_judge:judge", "division by zero"),
        ("..:x", "relative import"),
        ("os:name", "no function"),
    ):
        with pytest.raises(BadInput, match=said) as told:
            find_judge(name)
        assert "\n" not in str(told.value)
