"""One vLLM server: token ids in, token ids and log-probs out, new weights, health.

All of it runs in the event loop of `vllm_replicas`. What a server says of a request is told apart from what it says of
itself: `Refused` is the request's own fault, `Down` is the server's, and the request may be sent again.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from palaestra.agents.engine import EXTENSION, Engine, EngineFault
from palaestra.agents.engine_found import must_work, ties
from palaestra.agents.policies.vllm_http import HINT, Connections, Down, line_of, message_of, object_of, parsed
from palaestra.envs import BadInput, PalaestraError

PACK = "palaestra_pack_heads"
"""Method of our extension of vLLM's worker (`engine.EXTENSION`)."""
_PROBE = 30.0
"""Seconds within which a server that works answers a request for one token."""
_SAYS = 30.0
"""Seconds within which it says what it is."""


class Refused(Exception):
    """The server does not take this one request. The message is one line."""


@dataclass(frozen=True)
class Served:
    """What a server says of itself.

    Attributes:
        name: of the model, as requests must give it.
        root: the folder or hub id that it was loaded from.
        context: ids of a prompt and its answer together; None where it does not say.
        version: of the weights, as it was told when it took them; empty where it was not.
        exact: are its log-probs those of the distribution that was sampled from. Without that they are the model's own,
            which is the same at temperature 1 without a nucleus and without restriction.
    """

    name: str
    root: str
    context: int | None
    version: str
    exact: bool


@dataclass(frozen=True)
class Answer:
    """Ids of a completion, each with its log-probability, and why it ended there."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    reason: str


class Server:
    """A server, found by its URL or started by an engine of ours.

    Args:
        where: the URL, or the engine.
        key: sent as a bearer token; None for none.

    Attributes:
        label: the URL without credentials, or what stands for our own engine.
        owned: does it start and end with the policy.
        in_flight: requests under way.
        ready: False while it is mended.
    """

    def __init__(self, where: Engine | str, key: str | None = None) -> None:
        self.engine = where if isinstance(where, Engine) else None
        self.owned = self.engine is not None and not self.engine.running
        self.in_flight, self.ready = 0, True
        self._http = Connections(where, key)
        self.label = self._http.label
        self._probe: asyncio.Task[bool] | None = None

    @property
    def ours(self) -> bool:
        """Was it started by us, so that we can start it again."""
        return self.engine is not None

    async def start(self) -> None:
        """Start it, if it is to start and end with the policy. Raises EngineFault."""
        if self.owned and self.engine is not None:
            await in_thread(self.engine.start)

    async def end(self) -> None:
        """End what the connections do not: an engine with a server is ended before, from outside the loop."""

    async def revive(self) -> None:
        """Start it again, if it is ours and nobody else has yet. Raises EngineFault."""
        if self.engine is not None:
            await in_thread(partial(self.engine.restart, self._http.seen))

    async def close(self) -> None:
        """Give the connections back; calls that are under way are Down."""
        await self._http.close()

    # -- what it is --------------------------------------------------------------------------------------------------

    async def identify(self, wanted: str | None) -> Served:
        """Ask the server what it is.

        Raises:
            BadInput: nothing there, not a vLLM server, a version that is known not to work, no such model, or a key
                that is refused.
        """
        status, text = await self._says("/v1/models")
        if status in (401, 403):
            raise BadInput(f"{self.label} refuses access: $VLLM_API_KEY holds no key that it takes")
        cards = _listed(text) if status == 200 else []
        if not cards:
            raise BadInput(f"{self.label}/v1/models lists no models (status {status}); {HINT}")
        await self._must_be_vllm()
        names = [str(card["id"]) for card in cards]
        if wanted is not None and wanted not in names:
            raise BadInput(f"{self.label} has no model {wanted!r}; it has {', '.join(names[:4])}")
        card = cards[names.index(wanted) if wanted is not None else 0]
        context = card.get("max_model_len")
        return Served(
            name=str(card["id"]),
            root=str(card.get("root") or card["id"]),
            context=int(context) if isinstance(context, int) else None,
            version=await self.version(),
            exact=self.engine is not None or await self._exact(),
        )

    async def _says(self, route: str) -> tuple[int, str]:
        """Status and text of a page by which a server is known. Raises BadInput where there is none."""
        try:
            return await self._http.call("GET", route, seconds=_SAYS)
        except TimeoutError as error:
            raise BadInput(f"{self.label}{route} has given no whole answer within {_SAYS:g} s; {HINT}") from error
        except Down as error:
            raise BadInput(f"{error}; {HINT}") from error

    async def names(self) -> list[str]:
        """Of the models and adapters that it serves just now; none where it does not answer."""
        return [str(card["id"]) for card in _listed(json.dumps(await self._http.json("GET", "/v1/models")))]

    async def version(self) -> str:
        """Of its weights, as it was told when it took them; empty where it was not."""
        version = (await self._http.json("GET", "/weight_info")).get("weight_version")
        return version if isinstance(version, str) and version != "default" else ""

    async def _exact(self) -> bool:
        """Are log-probs those of the distribution that is sampled from: is an id certain where no other may come."""
        body = {"prompt": [0], "max_tokens": 1, "temperature": 1, "allowed_token_ids": [1], "logprobs": 0}
        try:
            return abs((await self.complete({**body, "return_token_ids": True}, _PROBE)).logprobs[0]) < 1e-6
        except (Refused, Down):
            return False

    async def _must_be_vllm(self) -> None:
        status, text = await self._says("/version")
        version = object_of(text).get("version") if status == 200 else None
        if not isinstance(version, str):
            raise BadInput(
                f"{self.label} is an OpenAI-compatible server, but not vLLM, which gives exact token ids; "
                f"name it openai:MODEL@{self.label}/v1"
            )
        must_work(version, f"the vLLM at {self.label}")

    # -- requests ----------------------------------------------------------------------------------------------------

    async def complete(self, body: Mapping[str, Any], seconds: float) -> Answer:
        """Have a prompt completed.

        Raises:
            Refused: the server does not take it, or it took longer than `seconds` on a server that works.
            Down: the server is gone or hangs.
        """
        try:
            return await self._completed(body, seconds)
        except TimeoutError:
            if await self.answers(seconds):
                raise Refused(f"{self.label}: no answer within {seconds:g} s, though it works") from None
            raise Down(f"{self.label}: it hangs (no answer within {seconds:g} s, none to one token either)") from None

    async def _completed(self, body: Mapping[str, Any], seconds: float) -> Answer:
        """The same. Raises TimeoutError, too."""
        status, text = await self._http.call("POST", "/v1/completions", body, seconds=seconds)
        if status >= 500:
            raise Down(f"{self.label}: status {status}: {message_of(text)}")
        if status != 200:
            raise Refused(f"{self.label} refused: status {status}: {message_of(text)}")
        try:
            choice = parsed(text)["choices"][0]
            ids = tuple(int(index) for index in choice["token_ids"])
            told = (choice["logprobs"] or {}).get("token_logprobs") or ()
            logprobs = tuple(float(value) for value in told)
            if len(logprobs) != len(ids):
                raise ValueError(f"{len(logprobs)} log-probs for {len(ids)} ids")
            return Answer(ids, logprobs, str(choice["finish_reason"]))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise Refused(f"{self.label} did not answer with token ids ({line_of(error)}): {text[:80]!r}") from error

    async def read(self, prompts: Sequence[Sequence[int]], name: str) -> tuple[float, ...]:
        """Log-probability of the id that is most probable after each prompt; none where it does not say.

        (Not those of a prompt's own ids: asked for them several times at once, the core of the CPU build 0.32.0 dies.)

        Args:
            name: under which it serves the model.
        """
        body = {"model": name, "prompt": prompts, "max_tokens": 1, "temperature": 0, "logprobs": 0}
        try:
            status, text = await self._http.call("POST", "/v1/completions", body, seconds=_PROBE)
            choices = parsed(text)["choices"] if status == 200 else []
            told = {int(choice["index"]): float(choice["logprobs"]["token_logprobs"][0]) for choice in choices}
            return tuple(told[number] for number in range(len(prompts)))
        except (Down, TimeoutError, ValueError, LookupError, TypeError):
            return ()

    async def answers(self, seconds: float = _PROBE) -> bool:
        """Does the server complete one token in time. Those who ask at once share one probe."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._one_token(min(seconds, _PROBE)))
        return await asyncio.shield(self._probe)

    async def _one_token(self, seconds: float) -> bool:
        body = {"prompt": [0], "max_tokens": 1, "temperature": 0}
        try:
            status, _ = await self._http.call("POST", "/v1/completions", body, seconds=seconds)
        except (Down, TimeoutError):
            return False
        return status == 200

    async def healthy(self) -> bool:
        """Does the server say that it is well."""
        try:
            return (await self._http.call("GET", "/health", seconds=10))[0] == 200
        except (Down, TimeoutError):
            return False

    # -- weights -----------------------------------------------------------------------------------------------------

    async def load(self, folder: str, version: str) -> None:
        """Take new weights in place of the old ones, and forget what was computed with those.

        Raises:
            Refused: the server takes no weights, or not these. Down: it broke.
        """
        if self.engine is not None and not self.engine.reloads:
            await self._renew(folder)
            return
        packs = await self._packs(Path(folder))
        body = {"method": "reload_weights", "kwargs": {"weights_path": folder}}
        await self._told("/collective_rpc", body, "takes no new weights (was it started with VLLM_SERVER_DEV_MODE=1?)")
        if packs:
            await self._told("/collective_rpc", {"method": PACK}, "does not pack its output head again")
        await self.forget()
        await self._told("/update_weight_version", {"new_version": version}, "does not note the weights' version")

    async def _packs(self, folder: Path) -> bool:
        """Has it our extension, which a CPU server with a tied output head needs. Raises Refused where it lacks it."""
        if self.engine is not None:
            return self.engine.device == "cpu"
        told = (await self._http.json("GET", "/server_info?config_format=json", seconds=120)).get("vllm_config")
        device, worker = _part(told, "device_config"), _part(told, "parallel_config")
        if "cpu" not in device.values():  # or it does not say
            return False
        extended = worker.get("worker_extension_cls") == EXTENSION
        if not extended and ties(folder):
            raise Refused(
                f"{self.label} runs on a CPU, where vLLM goes on with the old output head of a model that ties its "
                f"embeddings; start it again with the new weights ({folder})"
            )
        return extended

    async def _renew(self, folder: str) -> None:
        """Start the engine again with new weights: what it packed of the old ones would stay in use."""
        assert self.engine is not None
        before = self.engine.folder
        self.engine.holds(Path(folder))
        await self.close()
        try:
            await in_thread(self.engine.restart)
        except EngineFault as error:
            self.engine.holds(before)
            raise Down(f"{self.label} does not start with {folder}: {error}") from error

    async def forget(self) -> None:
        """Empty the prefix cache. Raises Refused, Down."""
        text = await self._told("/reset_prefix_cache", None, "does not empty its prefix cache")
        if '"success":false' in text.replace(" ", ""):
            raise Refused(f"{self.label} does not empty its prefix cache: something still runs there")

    async def adapt(self, folder: str, name: str) -> None:
        """Take a LoRA adapter under a name. Raises Refused, Down."""
        body = {"lora_name": name, "lora_path": folder}
        hint = "takes no adapters (VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora; Engine(adapters=RANK))"
        await self._told("/v1/load_lora_adapter", body, hint)

    async def drop(self, name: str) -> None:
        """Let an adapter go. Raises Refused, Down."""
        await self._told("/v1/unload_lora_adapter", {"lora_name": name}, f"does not let the adapter {name!r} go")

    async def _told(self, route: str, body: Mapping[str, Any] | None, otherwise: str) -> str:
        try:
            status, text = await self._http.call("POST", route, body, seconds=600)
        except TimeoutError:
            raise Down(f"{self.label}: {route} took longer than 600 s") from None
        if status in (404, 405):
            raise Refused(f"{self.label} {otherwise}")
        if status != 200:
            kind = Down if status >= 500 else Refused
            raise kind(f"{self.label} {otherwise}: status {status}: {message_of(text)}")
        return text


async def in_thread(call: Callable[[], object]) -> None:
    """A call that blocks, in a thread that nobody waits for when the process ends."""
    done: Future[None] = Future()

    def work() -> None:
        found: BaseException | None = None
        try:
            call()
        except BaseException as error:
            found = error if isinstance(error, PalaestraError) else EngineFault(line_of(error))
        if done.set_running_or_notify_cancel():  # else nobody waits any more
            done.set_exception(found) if found is not None else done.set_result(None)

    threading.Thread(target=work, name="vllm engine", daemon=True).start()
    await asyncio.wrap_future(done)


def _part(config: object, name: str) -> dict[str, Any]:
    """Of what a server says of its settings; nothing where it says it in another form, as older ones do."""
    part = config.get(name) if isinstance(config, dict) else None
    return part if isinstance(part, dict) else {}


def _listed(text: str) -> Sequence[dict[str, Any]]:
    try:
        return [dict(card) for card in parsed(text)["data"] if "id" in card]
    except (ValueError, KeyError, TypeError):
        return []
