"""vLLM's engine inside the process that asks: exact as a server is, with new weights too, restarted where it hangs, and
gone with its owner.

It runs in a process of its own here, for whoever imports vLLM has other packages find it, too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import inside_engine
import pytest
import served

from palaestra.agents.engine import EngineFault
from palaestra.agents.engine_found import ties
from palaestra.agents.models import version_of
from palaestra.agents.policies.vllm import VLLMPolicy, template_of
from palaestra.agents.policies.vllm_inside import Inside
from palaestra.agents.policies.vllm_server import Answer
from palaestra.agents.policy import Request
from palaestra.cli import run
from palaestra.envs import keeper
from tests.docs import small

pytestmark = pytest.mark.xdist_group("vllm")
CLOSE = 2e-4
"""How far log-probs of the two may differ, in nats: float32, summed in another order."""


@pytest.mark.timeout(1500)  # the engine starts twice
def test_an_engine_inside_answers_exactly_takes_weights_comes_back_when_it_hangs_and_ends_with_its_owner(
    tmp_path: Path,
) -> None:
    """Its output head shares the embeddings' weights, whose packed copy on a CPU vLLM itself would not renew."""
    model, new = served.models(tmp_path)
    assert ties(model)
    assert ties(new)
    with (tmp_path / "log").open("wb") as log:
        owner = subprocess.Popen(
            [sys.executable, inside_engine.__file__, str(model), str(new)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

    def told() -> dict[str, Any]:
        assert owner.stdout is not None
        for line in owner.stdout:
            if line.startswith("{"):  # vLLM says something in between
                found: dict[str, Any] = json.loads(line)
                return found
        raise AssertionError((tmp_path / "log").read_text()[-3000:])

    try:
        before = told()
        asked = served.requests(template_of(model), 6)
        assert (before["version"], before["limit"]) == (version_of(model), served.CONTEXT)
        for request, answer in zip(asked, before["answers"], strict=True):
            assert answer["error"] is None
            expected = served.logprobs(model, request.prompt_ids, answer["ids"])
            assert answer["logprobs"] == pytest.approx(expected, abs=CLOSE)
        changed = told()
        assert (changed["version"], changed["faults"]) == (version_of(new), 0)
        assert changed["stayed"], "it takes new weights while it runs"
        for request, answer in zip(asked, changed["answers"], strict=True):
            expected = served.logprobs(new, request.prompt_ids, answer["ids"])
            assert answer["logprobs"] == pytest.approx(expected, abs=CLOSE)
            assert expected != pytest.approx(served.logprobs(model, request.prompt_ids, answer["ids"]), abs=CLOSE)
        restricted = {answer["text"] for answer in told()["answers"]}
        assert restricted <= set(inside_engine.ACTIONS)
        [lost] = told()["answers"]
        assert "the engine in this process: it hangs" in lost["error"]
        after = told()
        assert [answer["ids"] for answer in after["answers"]] == [answer["ids"] for answer in changed["answers"]]
        assert after["faults"] == 1
        assert len(after["processes"]) >= 3  # the core, its worker, the guard
        since = {pid: keeper.started(pid) for pid in after["processes"]}
    finally:
        owner.kill()
        owner.communicate()
    while any(since[pid] and keeper.started(pid) == since[pid] for pid in since):
        threading.Event().wait(0.05)


def test_weights_that_do_not_start_leave_the_engine_with_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would start with them for ever. The core is the test's own: nothing but whether it starts counts here."""
    good, bad = served.models(tmp_path)
    started: list[Path] = []

    class Core:
        vllm_config = SimpleNamespace(model_config=SimpleNamespace(max_model_len=served.CONTEXT))

        def shutdown(self, timeout: float) -> None:
            pass

    def start(inside: Inside) -> None:
        started.append(inside._of.folder)
        if inside._of.folder == bad:
            raise RuntimeError("header too large")
        inside._llm = Core()

    async def completed(inside: Inside, body: object, seconds: float) -> Answer:
        return Answer((7,), (-0.5,), "length")

    monkeypatch.setattr(Inside, "_start", start)
    monkeypatch.setattr(Inside, "_completed", completed)
    engine = served.engine(good, inside=True, options=("--worker-extension-cls", "somebody.Elses"))
    policy = VLLMPolicy(engine)
    with pytest.raises(EngineFault, match=r"does not start with .*m1: header too large"):
        policy.update(bad)
    assert (policy.version, engine.folder) == (version_of(good), good)
    assert policy.act([Request((), 0, (5, 6))])[0].error is None
    assert started == [good, bad, good]
    policy.close()


def test_an_engine_that_a_command_names_is_started_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page's command, with a tiny model; here, because no other engine runs beside it."""
    monkeypatch.chdir(tmp_path)
    model, _ = served.models(tmp_path)
    line = next(line for line in small.commands("docs/vllm.md") if " eval " in line)
    assert run([*small.words(small.small(line, model=str(model))), "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["episodes"] == 2
