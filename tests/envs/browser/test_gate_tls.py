"""Pages over https, through the gate's tunnel: a real TLS server that is allowed, one that is not, a certificate."""

from __future__ import annotations

import base64
import datetime
import hashlib
import http.server
import ipaddress
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from palaestra.envs import EnvFault, make
from palaestra.envs.browser import thread
from palaestra.envs.browser.env import BrowserEnv

PAGE = """<!DOCTYPE html><title>Vault</title><h1>Vault</h1><a href="/inside">Inside</a><p id="said">waiting</p><script>
const get = at => fetch(at, {mode: "no-cors"}).then(() => "got", () => "refused");
const tries = ["https://OTHER/fetched", "/own"].map(get);
const socket = new Promise(done => {
  const made = new WebSocket("wss://OTHER/s"); made.onopen = made.onerror = event => done(event.type); });
Promise.all([...tries, socket]).then(all => document.getElementById("said").textContent = JSON.stringify(all));
</script>"""


@dataclass
class Vault:
    """A server that speaks TLS alone.

    Attributes:
        connections: how many were made to it. asked: the paths that came through a finished handshake.
    """

    host: str
    connections: int = 0
    asked: list[str] = field(default_factory=list)
    page: str = PAGE


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A certificate that nobody but itself vouches for, with its key, as a file; the digest of its public key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("certificate") / "both.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(secret + made.public_bytes(Encoding.PEM))
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return file, base64.b64encode(hashlib.sha256(public).digest()).decode()


def serving(file: Path) -> Iterator[Vault]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)

    class Handler(http.server.BaseHTTPRequestHandler):
        def setup(self) -> None:
            self.request = context.wrap_socket(self.request, server_side=True)  # here, in the connection's own thread
            super().setup()

        def do_GET(self) -> None:
            vault.asked.append(self.path)
            said = {"/": vault.page, "/inside": "<h1>Gold</h1>"}.get(self.path, "other").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *args: object) -> None: ...

    class Server(http.server.ThreadingHTTPServer):
        def process_request(self, request: object, address: object) -> None:
            vault.connections += 1
            super().process_request(request, address)  # type: ignore[arg-type]

        def handle_error(self, request: object, address: object) -> None:
            pass  # a browser that does not take the certificate hangs up

    server: socketserver.BaseServer = Server(("127.0.0.1", 0), Handler)
    vault = Vault(f"127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield vault
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def allowed(certificate: tuple[Path, str]) -> Iterator[Vault]:
    yield from serving(certificate[0])


@pytest.fixture
def other(certificate: tuple[Path, str]) -> Iterator[Vault]:
    yield from serving(certificate[0])


@pytest.fixture
def trusting(certificate: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Browsers of a thread of their own that take this one certificate, and no other that nobody vouches for."""
    flag = f"--ignore-certificate-errors-spki-list={certificate[1]}"
    monkeypatch.setattr(thread, "FLAGS", (*thread.FLAGS, flag))
    monkeypatch.setattr(thread, "_current", own := thread.BrowserThread())
    yield
    own.close()


def task(folder: Path, vault: Vault) -> str:
    file = folder / "tasks.jsonl"
    file.write_text(json.dumps({"id": "in", "ques": "Get in.", "web": f"https://{vault.host}/", "answer": "x"}))
    return str(file)


@pytest.mark.usefixtures("trusting")
def test_an_allowed_host_is_reached_over_tls_and_no_other_one(tmp_path: Path, allowed: Vault, other: Vault) -> None:
    allowed.page = PAGE.replace("OTHER", other.host)
    env = make("webtasks", file=task(tmp_path, allowed))
    assert isinstance(env, BrowserEnv)
    seen, info = env.reset(options={"task": "in"})
    for _ in range(25):
        if "waiting" not in seen:
            break
        seen, *_, info = env.step("wait")
    assert "heading 'Vault'" in seen
    assert info["url"] == f"https://{allowed.host}/"
    assert json.loads(env.evaluate("document.getElementById('said').textContent")) == ["refused", "got", "error"]
    assert info["refused"] == (other.host,)
    link = next(element.number for element in env.state.elements if element.name == "Inside")
    assert "heading 'Gold'" in env.step(f"click [{link}]")[0]
    seen, *_, info = env.step(f"goto [https://{other.host}/]")
    env.close()
    assert not info["valid"]
    assert "heading 'Gold'" in seen
    assert {"/", "/own", "/inside"} <= set(allowed.asked)
    assert other.connections == 0


@pytest.mark.usefixtures("trusting")
def test_a_page_that_sends_the_browser_on_to_a_host_over_tls_that_is_not_allowed_stays_where_it_is(
    tmp_path: Path, allowed: Vault, other: Vault
) -> None:
    allowed.page = f"<script>location = 'https://{other.host}/'</script>"
    env = make("webtasks", file=task(tmp_path, allowed))
    seen, info = env.reset(options={"task": "in"})
    for _ in range(25):
        if other.host in info["refused"]:
            break
        seen, *_, info = env.step("wait")
    env.close()
    assert info["refused"] == (other.host,)
    assert "Vault" not in seen
    assert other.connections == 0


def test_a_certificate_that_nobody_vouches_for_is_a_fault_by_name(tmp_path: Path, allowed: Vault) -> None:
    env = make("webtasks", file=task(tmp_path, allowed))
    with pytest.raises(EnvFault, match="did not load: net::ERR_CERT_AUTHORITY_INVALID"):
        env.reset(options={"task": "in"})
    env.close()
    assert allowed.connections > 0  # the tunnel was made
    assert allowed.asked == []
