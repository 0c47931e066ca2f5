"""A model behind vLLM: the same token ids and log-probs as in this process, from an engine that batches continuously.

The conversation is rendered here, by the model's own chat template taken apart (`template`), and goes to the server as
token ids; the sampled ids come back with their log-probs. So an episode that vLLM wrote is as token-exact as one that a
transformers model in this process wrote, and nothing is ever tokenised twice.

    policy = VLLMPolicy(Engine("smollm2-135m"))                 # a server of our own, started and stopped
    policy = VLLMPolicy("http://gpu1:8000", "http://gpu2:8000") # servers that run, as replicas
    policy.update("runs/mine/iteration-1/model")                # new weights
"""

from __future__ import annotations

import copy
import itertools
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palaestra.agents.engine import Engine
from palaestra.agents.episode import Actor
from palaestra.agents.message import Message
from palaestra.agents.models import quiet, read_card, resolve, version_of
from palaestra.agents.policy import Completion, Request, Sampling, must_fit
from palaestra.agents.template import ChatTemplate
from palaestra.envs import BadInput, MissingExtra

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from palaestra.agents.policies.vllm_server import Answer, Served

KEY = "VLLM_API_KEY"
"""Name of the environment variable that holds the key of servers that are found by their URL."""
_SAME = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size")

_NOTHING_ELSE = {
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""A found server may have defaults of its own: what a sampling does not say must not count."""

_COMPARED = (
    Message(role="system", content="Answer with one action and nothing else."),
    Message(role="user", content="The door is shut. A red lamp, 17 keys and a box are on the table. You may: open"),
)
"""What replicas are compared by."""


class VLLMPolicy:
    """Samples from vLLM servers. See `Policy` for the common attributes; it is a `StreamingPolicy`, too.

    Log-probs are those of the distribution that was sampled from, as with `HFPolicy`. A found server that does not say
    that it gives these (`--logprobs-mode processed_logprobs`) is asked for the model's own, and they are kept only
    where that is the same: at temperature 1, without nucleus and without `constrain`.

    Args:
        places: engines, which are started where they do not run and then end with the policy; and URLs of vLLM servers.
            Several are replicas: they serve the same weights.
        model: under which name a found server serves the model; its first one by default.
        tokenizer: folder or hub id of the tokenizer; by default what the server says that its model is.
        sampling: how to sample.
        constrain: write only admissible actions. For conversations of the style `action`, in environments that list
            their actions. The grammar allows every way to spell an action in ids, not only the tokenizer's own.
        jinja: a chat template to use in place of the model's own.
        concurrency: requests under way at each server; as many as the engine works on at once, by default.
        deadline: seconds that a server may take for one request. Then it is asked for one token: where that comes, the
            request fails alone; where it does not, the server hangs and is started again, if it is ours.
        patience: seconds that requests wait for a found server that does not answer.
        version: of the weights of found servers, where they do not say it themselves; else a hash of the weight files
            where those are here, else the model's name.

    Raises:
        BadInput: nothing there, not a vLLM server, a version known not to work, unknown model, or answers that leave no
            room for a prompt. NotTokenExact: its chat template cannot be grown by ids. MissingExtra: `vllm`.
            EngineFault: an engine does not start.
    """

    actor = Actor.POLICY
    looks_inside = False
    template: ChatTemplate

    def __init__(
        self,
        *places: Engine | str,
        model: str | None = None,
        tokenizer: str | Path | None = None,
        sampling: Sampling | None = None,
        constrain: bool = False,
        jinja: str | None = None,
        concurrency: int | None = None,
        deadline: float = 300.0,
        patience: float = 300.0,
        version: str | None = None,
    ) -> None:
        for module in ("aiohttp", "transformers"):
            if find_spec(module) is None:
                raise MissingExtra(f"{module}, which a policy behind vLLM needs,", "vllm")
        if not places:
            raise BadInput("a policy behind vLLM needs an engine or the URL of a server")
        if deadline <= 0 or patience <= 0 or (concurrency is not None and concurrency < 1):
            raise BadInput("deadline and patience are seconds above 0, concurrency is at least 1")
        from palaestra.agents.policies.vllm_replicas import Replicas

        engines = [place for place in places if isinstance(place, Engine)]
        each = concurrency or (engines[0].concurrency if engines else 64)
        place = engines[0].folder if engines and tokenizer is None else tokenizer
        if place is not None:  # what is wrong with a template is told before an engine is started
            self.template = template_of(place, jinja)
        for engine in engines:  # so is what leaves no room for a prompt
            must_fit(sampling, engine.context, _shown(engine.folder))
        self._replicas = Replicas(
            places,
            model=model,
            key=os.environ.get(KEY),
            concurrency=each,
            deadline=deadline,
            patience=patience,
        )
        try:
            served = self._replicas.served
            must_fit(sampling, served.context, served.name)
            self._folder = engines[0].folder if engines else _local(served.root)
            if place is None:
                self.template = template_of(_found(served), jinja)
            self._replicas.compare(self.template.opening(_COMPARED))
            self._replicas.version = served.version or self._told(served, engines, version)
        except BaseException:
            self._replicas.close()
            raise
        self._replicas.name = _shown(engines[0].folder) if engines else served.name
        self.batch_size = 2 * each * len(places)
        self.prompt_limit = self.template.max_length = served.context
        self._restrict(constrain)
        self._exact = served.exact
        self._numbers = itertools.count()
        self.sampling: Sampling = sampling or Sampling()

    @property
    def version(self) -> str:
        """Of the weights that answer what is asked next."""
        return self._replicas.version

    @property
    def name(self) -> str:
        """Of the model, for people: as its card says, or of its folder; of a found server's, as the server calls it."""
        return self._replicas.name

    @property
    def faults(self) -> int:
        """How often a server was found dead or hanging."""
        return self._replicas.faults

    def sampled(self, sampling: Sampling, *, constrain: bool | None = None) -> VLLMPolicy:
        """The same model, asked in another way: it shares the servers, and `update` and `close` concern both.

        Args:
            sampling: how to sample.
            constrain: write only admissible actions, or not; as before where it is not given.
        """
        other = copy.copy(self)
        other.sampling = sampling
        other._restrict(self.constrain if constrain is None else constrain)
        return other

    def _restrict(self, constrain: bool) -> None:
        self.constrain = self.wants_actions = constrain
        self.extra: dict[str, Any] = {"engine": "vllm"} | ({"constrain": True} if constrain else {})
        if self._replicas.urls:
            self.extra["url"] = " ".join(self._replicas.urls)

    def update(self, model: str | Path, version: str | None = None) -> None:
        """Go on with new weights of the same architecture and tokenizer, or with a LoRA adapter of those there are.

        Requests under way are answered by the old weights first, those that wait by the new ones; `version` changes in
        between, so that every episode that begins from then on records it. Blocks until all servers have them.

        Args:
            model: the weights: a name or path, which the servers must see under the same path; or an adapter's folder.
            version: what identifies them; by default a hash of the weight files.

        Raises:
            BadInput: they do not fit, or the servers take none. EngineFault: a server broke.
        """
        adapter = Path(model).expanduser()
        if (adapter / "adapter_config.json").is_file():
            base = self.version.partition("+")[0]
            adapted = version or f"{base}+{version_of(adapter)}"
            self._replicas.load(adapter.resolve(), adapted, self.name, adapter=True)
            return
        folder = resolve(model).resolve()
        if self._folder is not None:
            _must_fit(self._folder, folder)
        self._replicas.load(folder, version or version_of(folder), _shown(folder))

    def forget(self) -> None:
        """Empty the servers' prefix caches. Raises BadInput where they do not let us."""
        self._replicas.forget()

    def close(self) -> None:
        """Give the connections back, and end the engines that were started with this policy."""
        self._replicas.close()

    # -- requests ----------------------------------------------------------------------------------------------------

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer every request, in order. One that cannot be answered fails alone, with `Completion.error`."""
        futures: list[Future[Completion]] = [Future() for _ in requests]
        for request, future in zip(requests, futures, strict=True):
            self.submit(request, future.set_result)
        return [future.result() for future in futures]

    def submit(self, request: Request, done: Callable[[Completion], None]) -> None:
        """Take one request; `done` is called with its answer, from another thread."""
        from palaestra.agents.policies.vllm_prefixes import Job

        prompt = tuple(request.prompt_ids) or tuple(self.template.opening(request.messages))
        limit = self.prompt_limit
        if limit is not None and len(prompt) >= limit:
            why = (
                f"the prompt has {len(prompt)} ids, {self.name} takes {limit} with the answer; show fewer turns "
                "(window) or shorter observations (max_observation), or start the engine with a longer context"
            )
            done(Completion("", error=why, too_long=True))
            return
        body = self._body(request, len(prompt))
        if isinstance(body, str):
            done(Completion("", error=body))
            return
        told = bool(self._exact or self._plain)
        self._replicas.submit(
            Job(prompt, next(self._numbers), body, lambda answer: done(self._completion(answer, len(prompt), told)))
        )

    @property
    def _plain(self) -> bool:
        """Is the distribution that is sampled from the model's own."""
        return self.sampling.temperature in (0, 1) and self.sampling.top_p == 1 and not self.constrain

    def _body(self, request: Request, length: int) -> dict[str, Any] | str:
        """What the server is asked, or why it cannot be."""
        limit, sampling = self.prompt_limit, self.sampling
        room = sampling.max_tokens if limit is None else limit - length
        body: dict[str, Any] = {
            "max_tokens": min(sampling.max_tokens, request.max_tokens or sampling.max_tokens, room),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": (sampling.seed * 1_000_003 + request.seed) % 2**63,
            "stop_token_ids": sorted(self.template.eos_ids),
            "logprobs": 0,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            **_NOTHING_ELSE,
        }
        if self.constrain:
            if not request.actions:
                return "no admissible actions are listed here, so the answer cannot be constrained to them"
            body["structured_outputs"] = {"choice": [self.template.lead + action for action in request.actions]}
        return body

    def _completion(self, answer: Answer | str, prompt: int, told: bool) -> Completion:
        if isinstance(answer, str):
            return Completion("", error=answer)
        return Completion(
            text=self.template.decode(answer.ids),
            ids=answer.ids,
            logprobs=answer.logprobs if told else (),
            finished=bool(answer.ids) and answer.ids[-1] in self.template.eos_ids,
            prompt_tokens=prompt,
            completion_tokens=len(answer.ids),
            version=self.version,  # it changes only while no request is under way
        )

    def _told(self, served: Served, engines: Sequence[Engine], version: str | None) -> str:
        """The weights' version, where the server was never told one."""
        if engines:
            return engines[0].version
        return version or (version_of(self._folder) if self._folder is not None else served.name)


def template_of(model: str | Path, jinja: str | None = None) -> ChatTemplate:
    """The chat template of a model, without its weights. Raises BadInput, NotTokenExact."""
    folder = resolve(model)
    return ChatTemplate(_tokenizer(folder), jinja=jinja, eos=_eos(folder))


def _shown(folder: Path) -> str:
    return str(read_card(folder).get("name") or folder.name)


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    with quiet():
        from transformers import AutoTokenizer

        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            line = " ".join(str(error).split())[:160]
            raise BadInput(f"{folder} holds no tokenizer that can be loaded: {line}") from error
    return tokenizer


def _eos(folder: Path) -> list[int]:
    """Ids that end an answer, as the model's own files say."""
    for name in ("generation_config.json", "config.json"):
        eos = _read(folder / name).get("eos_token_id")
        if eos is not None:
            return [eos] if isinstance(eos, int) else [int(index) for index in eos]
    return []


def _must_fit(old: Path, new: Path) -> None:
    """Refuse weights of another shape before a server has half of them. Raises BadInput."""
    had, has = _read(old / "config.json"), _read(new / "config.json")
    for key in _SAME:
        if key in had and had[key] != has.get(key):
            raise BadInput(
                f"{new} has {key}={has.get(key)!r}, the engine was started with {had[key]!r}; new weights need the "
                "same architecture (start another engine)"
            )


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _local(root: str) -> Path | None:
    folder = Path(root)
    return folder if (folder / "config.json").is_file() else None


def _found(served: Served) -> Path:
    """Where the tokenizer of a found server's model is. Raises BadInput."""
    try:
        return resolve(served.root)
    except BadInput as error:
        raise BadInput(
            f"the server's model {served.root!r} is not here: {error}; give the folder or hub id of its tokenizer"
        ) from error
