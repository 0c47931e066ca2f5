"""A model behind any server that speaks the OpenAI chat-completions format (vLLM, llama.cpp, Ollama, a provider).

Such a server takes messages and gives text, so there are no token ids: its turns are tokenised once when a model is
trained on them, and carry no log-probs.
"""

from __future__ import annotations

import difflib
import os
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from palaestra.agents.episode import Actor
from palaestra.agents.policy import Completion, Request, Sampling
from palaestra.envs import BadInput, MissingExtra

if TYPE_CHECKING:
    import httpx

_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_NOT_THIS = {400, 413, 422}
_TOO_LONG = re.compile(
    r"context[ _](length|size|window)|prompt is too long|too many tokens|reduce the length"
    r"|longer than the maximum|maximum model length|maximum number of tokens|max_new_tokens` must be",
    re.IGNORECASE,
)
"""How servers say that a prompt does not fit (OpenAI, vLLM, llama.cpp, TGI, Anthropic, Gemini)."""
_LONGEST_PAUSE = 30.0
_IDLE = 5.0
"""Seconds after which a connection's thread ends that has nothing to do."""


class OpenAIPolicy:
    """Asks a server for chat completions, many at once and each by itself (it is a `StreamingPolicy`). See `Policy` for
    the common attributes.

    A request that the server refuses, or does not answer properly before the deadline, fails alone
    (`Completion.error`). Waiting for a server can be interrupted at any moment: the threads that wait never keep a
    process from ending.

    Args:
        url: the base, such as `http://localhost:8000/v1`. A `user:password@` in it is sent as basic authentication and
            kept nowhere else.
        model: which of the server's models; the first one if not given.
        sampling: how to sample. Each request's seed is sent along; whether it counts is up to the server.
        api_key_env: name of the environment variable that holds the key; nothing is sent if it is not set.
        concurrency: requests under way at once.
        timeout: seconds for one attempt.
        deadline: seconds for one request with all its attempts.
        pause: seconds before the first repetition; doubled with every further one.
        version: part of the episodes' key; the model's name if not given.

    Raises:
        BadInput: nothing there, not such a server, no such model, or a key that is refused. MissingExtra: `openai`.
    """

    actor = Actor.POLICY
    template = None
    wants_actions = False
    looks_inside = False

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        sampling: Sampling | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 32,
        timeout: float = 120.0,
        deadline: float = 600.0,
        pause: float = 0.5,
        version: str | None = None,
    ) -> None:
        if find_spec("httpx") is None:
            raise MissingExtra("httpx, which talks to model servers,", "openai")
        import httpx

        bare, auth = _without_credentials(url)
        self.url = bare.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise BadInput(f"{bare!r} is no server; give its base, for instance http://localhost:8000/v1")
        key = os.environ.get(api_key_env)
        self._key_env = api_key_env
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            auth=auth,
            timeout=timeout,
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )
        self._deadline, self._pause = deadline, pause
        self._closed = threading.Event()
        self._turn = threading.Condition()
        self._jobs: deque[tuple[Request, Callable[[Completion], None]]] = deque()
        self._idle = self._threads = 0
        self._wrong: BadInput | None = None
        try:
            self.model = self._choose(model)
        except BaseException:
            self._client.close()
            raise
        self.name = self.model
        self.version = version or self.model
        self.sampling: Sampling = sampling or Sampling()
        self.batch_size = concurrency
        self.extra: dict[str, Any] = {"url": self.url}

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer every request, in order. Raises BadInput when the server refuses the key."""
        futures: list[Future[Completion]] = [Future() for _ in requests]
        for request, future in zip(requests, futures, strict=True):
            self.submit(request, future.set_result)
        answers = [future.result() for future in futures]
        if self._wrong is not None:
            raise self._wrong
        return answers

    def submit(self, request: Request, done: Callable[[Completion], None]) -> None:
        """Take one request; `done` is called with its answer, from another thread.

        Raises:
            BadInput: the server has refused the key.
        """
        if self._wrong is not None:
            raise self._wrong
        with self._turn:
            self._jobs.append((request, done))
            if len(self._jobs) > self._idle and self._threads < self.batch_size:
                self._threads += 1
                # Not an executor: its threads would be waited for when the process ends, however long a server hangs.
                threading.Thread(target=self._work, name="openai", daemon=True).start()
            else:
                self._turn.notify()

    def _work(self) -> None:
        """One connection's thread: answers what waits, and ends when nothing has come for a while."""
        while True:
            with self._turn:
                while not self._jobs:
                    self._idle += 1
                    told = self._turn.wait(_IDLE)
                    self._idle -= 1
                    if not told and not self._jobs:
                        self._threads -= 1
                        return
                request, done = self._jobs.popleft()
            done(self._told(request))

    def _told(self, request: Request) -> Completion:
        try:
            return self._ask(request)
        except BadInput as error:
            self._wrong = error
            return Completion("", error=str(error))
        except Exception as error:  # whatever it is, who waits for the answer must hear of it
            return Completion("", error=f"{self.url}: {type(error).__name__}: {_line(error)}")

    def close(self) -> None:
        """Give the connections back. Nothing is waited for: what is under way fails, and nothing is asked again."""
        self._closed.set()
        self._client.close()

    # -- one request -------------------------------------------------------------------------------------------------

    def _ask(self, request: Request) -> Completion:
        import httpx

        body = {
            "model": self.model,
            "messages": list(request.messages),
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "max_tokens": min(self.sampling.max_tokens, request.max_tokens or self.sampling.max_tokens),
            "seed": (self.sampling.seed * 1_000_003 + request.seed) % 2**31,
        }
        until = time.monotonic() + self._deadline
        pause, why = self._pause, ""
        jitter = random.Random(request.seed)
        while not self._closed.is_set():
            wait = 0.0
            try:
                reply = self._client.post(f"{self.url}/chat/completions", json=body)
            except httpx.TimeoutException:
                why = "no answer in time"
            except httpx.TransportError as error:
                why = f"connection failed: {_line(error)}"
            except RuntimeError:
                if not self._closed.is_set():
                    raise
                break  # httpx: the client was closed
            else:
                if reply.status_code not in _AGAIN:
                    return self._read(reply)
                why = f"status {reply.status_code}: {_message(reply)}"
                wait = _retry_after(reply)
            # Many requests fail together; without jitter they would all come back together.
            wait = max(wait, min(pause, _LONGEST_PAUSE) * (0.5 + jitter.random() / 2))
            if time.monotonic() + wait >= until:
                return Completion("", error=f"{self.url} gave up after {self._deadline:g} s ({why})")
            self._closed.wait(wait)
            pause *= 2
        return Completion("", error=f"{self.url}: the policy was closed before the answer came")

    def _read(self, reply: httpx.Response) -> Completion:
        if reply.status_code in (401, 403):
            raise BadInput(self._refused())
        if reply.status_code != 200:
            why = _message(reply)
            too_long = reply.status_code in _NOT_THIS and bool(_TOO_LONG.search(why))
            return Completion("", error=f"{self.url} refused: status {reply.status_code}: {why}", too_long=too_long)
        try:
            answer = reply.json()
            choice = answer["choices"][0]
            text = choice["message"]["content"]
            usage = answer.get("usage") or {}
            return Completion(
                text="" if text is None else _text(text),
                finished=choice.get("finish_reason") != "length",
                prompt_tokens=int(usage.get("prompt_tokens") or 0),
                completion_tokens=int(usage.get("completion_tokens") or 0),
            )
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return Completion("", error=f"{self.url} did not answer with a chat completion: {reply.text[:80]!r}")

    # -- the server --------------------------------------------------------------------------------------------------

    def _choose(self, wanted: str | None) -> str:
        import httpx

        hint = "is it the base URL of an OpenAI-compatible server, with /v1 at its end?"
        try:
            reply = self._client.get(f"{self.url}/models")
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise BadInput(f"{self.url} cannot be reached: {_line(error)}; {hint}") from error
        if reply.status_code in (401, 403):
            raise BadInput(self._refused())
        try:
            names = [str(entry["id"]) for entry in reply.json()["data"]] if reply.status_code == 200 else []
        except (ValueError, KeyError, TypeError):
            names = []
        if not names:
            raise BadInput(f"{self.url}/models lists no models (status {reply.status_code}); {hint}")
        if wanted is None or wanted in names:
            return wanted or names[0]
        near = difflib.get_close_matches(wanted, names, n=2, cutoff=0.4) or names[:3]
        raise BadInput(f"{self.url} has no model {wanted!r}; it has {', '.join(near)}")

    def _refused(self) -> str:
        state = "holds a key it does not take" if os.environ.get(self._key_env) else "is not set"
        return f"{self.url} refuses access: ${self._key_env} {state}"


def _without_credentials(url: str) -> tuple[str, tuple[str, str] | None]:
    """A URL without its `user:password@`, for nothing that is stored or shown may hold it; and those two, if given."""
    scheme, mark, rest = url.rpartition("://")
    authority, slash, path = rest.partition("/")
    credentials, at, host = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    return f"{scheme}{mark}{host}{slash}{path}", (unquote(user), unquote(password)) if at else None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("content is no text")
    return value


def _message(reply: httpx.Response) -> str:
    try:
        error = reply.json()["error"]
        return str(error["message"] if isinstance(error, dict) else error)[:200]
    except (ValueError, KeyError, TypeError):
        return " ".join(reply.text.split())[:80]


def _retry_after(reply: httpx.Response) -> float:
    try:
        return min(max(0.0, float(reply.headers.get("retry-after", 0))), _LONGEST_PAUSE)
    except ValueError:
        return 0.0


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
