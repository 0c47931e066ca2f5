"""What the tests of vLLM share: tiny models, the same log-probs by transformers, and a way in by URL."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch

from palaestra.agents.engine import Engine
from palaestra.agents.message import Message
from palaestra.agents.models import load_model, version_of
from palaestra.agents.policy import Request
from palaestra.agents.template import ChatTemplate
from palaestra.agents.tiny import env_texts, make_tiny

CONTEXT = 512
WORDS = (*"abcdefgh", " pull 1", " You get 0.", "lamp red", " door opens slowly", "漢字", "🙂", "\n")


def models(folder: Path) -> tuple[Path, Path]:
    """Two models with the same tokenizer and other weights."""
    texts = env_texts("bandit", episodes=4)
    made = [
        make_tiny(
            texts, folder / f"m{seed}", vocab=400, hidden=64, layers=2, heads=2, context=CONTEXT, seed=seed, name="tiny"
        )
        for seed in (0, 1)
    ]
    for place in made:
        _sharpen(place)
    return made[0], made[1]


def _sharpen(folder: Path) -> None:
    """Fresh weights hardly tell ids apart, so that anything would look exact: make the distributions pointed."""
    loaded = load_model(folder, device="cpu")
    with torch.no_grad():
        for name, weight in loaded.model.named_parameters():
            if weight.dim() > 1:
                weight.mul_(6 if "embed" in name else 8)
    loaded.model.save_pretrained(folder)


def engine(folder: Path, **more: object) -> Engine:
    """An engine that starts as fast as can be."""
    settings: dict[str, object] = {"device": "cpu", "concurrency": 16, "threads": 1, "memory": 1, **more}
    return Engine(folder, **settings)  # type: ignore[arg-type]


def requests(template: ChatTemplate, count: int, *, seed: int = 0) -> list[Request]:
    """Conversations of some to some hundred ids, half of which begin like the one before."""
    made: list[Request] = []
    dice = torch.Generator().manual_seed(seed)

    def words(n: int) -> str:
        return "".join(WORDS[int(place)] for place in torch.randint(len(WORDS), (n,), generator=dice))

    messages: list[Message] = []
    for number in range(count):
        if number % 2 == 0 or len(messages) > 4:
            asked = words(3 + 7 * (number % 8))
            messages = [Message(role="system", content=words(12)), Message(role="user", content=asked)]
        else:
            messages = [*messages, Message(role="assistant", content=words(3)), Message(role="user", content=words(9))]
        ids = template.opening(messages)
        assert len(ids) < CONTEXT - 16
        made.append(Request(messages, seed=number, prompt_ids=ids))
    return made


@lru_cache(maxsize=4)
def _model(folder: Path, _version: str) -> torch.nn.Module:
    return load_model(folder, device="cpu", dtype="float32").model


def logprobs(
    folder: Path | torch.nn.Module,
    prompt: Sequence[int],
    ids: Sequence[int],
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> list[float]:
    """Log-probability of each id after the prompt, as transformers computes it in float32, in one pass."""
    model = _model(folder, version_of(folder)) if isinstance(folder, Path) else folder
    with torch.inference_mode():
        scores = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1] / (temperature or 1.0)
    if top_p < 1:
        ordered, order = scores.softmax(-1).sort(dim=-1, descending=True)
        out = ordered.cumsum(-1) - ordered >= top_p
        scores = scores.masked_fill(torch.zeros_like(out).scatter(-1, order, out), float("-inf"))
    found: list[float] = scores.log_softmax(-1).gather(-1, torch.tensor(ids)[:, None])[:, 0].tolist()
    return found


def all_logprobs(folder: Path, prompt: Sequence[int]) -> list[float]:
    """Log-probability of each id of the vocabulary after the prompt, in the same way."""
    with torch.inference_mode():
        scores = _model(folder, version_of(folder))(torch.tensor([list(prompt)])).logits[0, -1]
    found: list[float] = scores.log_softmax(-1).tolist()
    return found


class Way(socketserver.ThreadingTCPServer):
    """A way to an engine's socket by a URL, which counts what goes through it.

    Attributes:
        bodies: of the completions that were asked for.
        most: completions under way at once, at the most.
        closed: nothing is let through.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, to: Engine) -> None:
        super().__init__(("127.0.0.1", 0), _Through)
        self.to = to
        self.bodies: list[bytes] = []
        self.under_way = self.most = 0
        self.lock = threading.Lock()
        self.closed = False
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes is no error."""

    def __enter__(self) -> Way:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Through(socketserver.BaseRequestHandler):
    server: Way

    def handle(self) -> None:
        while (raw := self._message(self.request)) and not self.server.closed:
            completes = raw.startswith(b"POST /v1/completions")
            with self.server.lock:
                self.server.under_way += completes
                self.server.most = max(self.server.most, self.server.under_way)
                if completes:
                    self.server.bodies.append(raw.partition(b"\r\n\r\n")[2])
            with socket.socket(socket.AF_UNIX) as inner:
                inner.connect(str(self.server.to.socket))
                inner.sendall(raw)
                answer = self._message(inner)
            with self.server.lock:
                self.server.under_way -= completes
            self.request.sendall(answer)

    @staticmethod
    def _message(source: socket.socket) -> bytes:
        """One HTTP message with its body, whose length its head tells."""
        raw = b""
        while b"\r\n\r\n" not in raw:
            if not (part := source.recv(65536)):
                return b""
            raw += part
        head, _, body = raw.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        while len(body) < length:
            if not (part := source.recv(65536)):
                return b""
            body += part
        return head + b"\r\n\r\n" + body
