"""Every setting of every environment takes what it says and refuses all else in one line, before anything starts."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from palaestra.envs import BadInput, find, make, specs

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 5, 10**400, float("nan"), float("inf"), "", "x", "no/such", "~nobody/x", "..:x", "json:",
    "a.test:99999999", "\0", "\ud800", [], [1], [[1]], {"a": 1},
)  # fmt: skip
"""What a command line or a configuration file may hold."""

NEEDED = {"remote": {"url": "http://127.0.0.1:9"}}
OURS = sorted(spec.id for spec in specs().values() if spec.id.startswith("palaestra/") and not spec.imagined)


@pytest.mark.parametrize("env_id", OURS)
def test_a_setting_that_cannot_be_used_is_refused_in_one_line(
    env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # screenshots may go into a folder of any name
    spec = find(env_id)
    lines: list[str] = []
    for setting in [*inspect.signature(spec.load()).parameters, "max_steps"]:
        for value in ODD:
            try:
                made = make(env_id, **{**NEEDED.get(spec.family, {}), setting: value})
            except BadInput as error:
                lines.append(f"{setting}={value!r:.40}: {error}")
            else:
                made.close()
    assert [line for line in lines if "\n" in line] == []
    assert len(lines) >= len(ODD) - 3  # of `max_steps` alone: None and whole numbers from 1 on are taken


@pytest.mark.parametrize("url", ["http://a..b:9", "http://\ud800:9", f"http://{'a' * 64}.test", "http://[::1", ","])
def test_an_address_that_is_none_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(BadInput, match="url") as told:
        make("remote", url=url)
    assert "\n" not in str(told.value)
