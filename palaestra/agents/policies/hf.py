"""A transformers model in this process: the default policy.

In an agent's episode the prompts are long and the answers short, so nearly all work is reading prompts. What was once
read is kept (`prefix_cache`): the next turn reads only what was appended, all episodes share their instructions, and a
fork shares its parent's path. Waiting requests run as one batch, padded on the left; each draws from its own random
numbers, so what a request samples does not depend on its neighbours (but for rounding in the matrix products).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from palaestra.agents.episode import Actor
from palaestra.agents.freed import give_back
from palaestra.agents.models import LoadedModel, load_model
from palaestra.agents.policies.decoding import ActionTree, action_tree, certainties, draw, only_way
from palaestra.agents.policies.prefix_cache import BatchCache, PrefixCache
from palaestra.agents.policy import Completion, Request, Sampling
from palaestra.agents.template import ChatTemplate
from palaestra.envs import BadInput

_SHARED = 32  # ids that several prompts must share before reading them once, apart, pays
_PADDED = 1.3  # from so much padding on (ids with padding over ids), reading in groups pays
_ALIKE = 0.7  # a group's shortest over its longest
_REMEMBERED_ACTIONS = 50_000


@dataclass
class _Job:
    """One request on its way."""

    prompt: list[int]
    limit: int
    dice: random.Random
    node: ActionTree | None = None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    certainties: list[float] = field(default_factory=list)
    done: bool = False


class HFPolicy:
    """Samples from a transformers model. See `Policy` for the common attributes.

    Log-probs are those of the distribution that was sampled from (`decoding.draw`): at temperature 1 without a nucleus
    and without `constrain` they are the model's own.

    Args:
        model: a loaded model, or its name or path.
        sampling: how to sample.
        batch_size: requests that run together.
        constrain: write only admissible actions: every id is drawn among those that continue one. For conversations of
            the style `action`, in environments that list their actions.
        jinja: a chat template to use in place of the model's own.
        memory: bytes kept for prefixes.
        certainty: tell how certain the model was of each answer (`Completion.certainty`).

    Raises:
        BadInput: unknown model. NotTokenExact: its chat template cannot be grown by ids.
    """

    actor = Actor.POLICY
    looks_inside = False

    def __init__(
        self,
        model: LoadedModel | str | Path,
        *,
        sampling: Sampling | None = None,
        batch_size: int = 16,
        constrain: bool = False,
        jinja: str | None = None,
        memory: int = 2 << 30,
        certainty: bool = False,
    ) -> None:
        give_back()  # what the prefixes of earlier policies took
        loaded = model if isinstance(model, LoadedModel) else load_model(model)
        self.name, self.version = loaded.name, loaded.version
        self.sampling: Sampling = sampling or Sampling()
        self.batch_size = batch_size
        self.certainty = certainty
        self.constrain = self.wants_actions = constrain
        self.extra: dict[str, Any] = {"constrain": True} if constrain else {}
        self.template = ChatTemplate(loaded.tokenizer, jinja=jinja, eos=_eos(loaded.model))
        self._model: PreTrainedModel = loaded.model
        self._keeps = attends_fully(loaded.model)
        self._cache = PrefixCache(memory if self._keeps else 0)
        self._actions: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        self.prompt_limit = _context(loaded.model)
        self.template.max_length = self.prompt_limit

    def update(self, model: PreTrainedModel | str | Path, version: str | None = None) -> None:
        """Go on with new weights of the same architecture and tokenizer.

        Args:
            model: the weights: a live model, or a name or path.
            version: what identifies them; needed for a live model.
        """
        if isinstance(model, (str, Path)):
            device = str(self._model.device)
            loaded = load_model(model, device=device)
            model, version = loaded.model, version or loaded.version
        if version is None:
            raise BadInput("new weights need a version, because episodes are kept under it")
        with self._lock:
            self._model, self.version = model, version
            self._cache.clear()

    def act(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer every request, in order. A prompt that does not fit fails alone, with `Completion.error`."""
        with self._lock, torch.inference_mode():
            self._model.train(False)
            answers: dict[int, Completion] = {}
            jobs: list[tuple[int, _Job]] = []
            for index, request in enumerate(requests):
                job = self._job(request)
                if isinstance(job, Completion):
                    answers[index] = job
                else:
                    jobs.append((index, job))
            self._share([job.prompt for _, job in jobs])
            jobs.sort(key=lambda pair: len(pair[1].prompt) - self._cache.longest(pair[1].prompt)[1])
            for first in range(0, len(jobs), self.batch_size):
                batch = [job for _, job in jobs[first : first + self.batch_size]]
                self._read_ahead(batch)
                self._run(batch)
            for index, job in jobs:
                answers[index] = self._completion(job)
        return [answers[index] for index in range(len(requests))]

    # -- one request -------------------------------------------------------------------------------------------------

    def _job(self, request: Request) -> _Job | Completion:
        prompt = list(request.prompt_ids) or self.template.opening(request.messages)
        if self.prompt_limit is not None and len(prompt) >= self.prompt_limit:
            why = (
                f"the prompt has {len(prompt)} ids, {self.name} takes {self.prompt_limit}; show fewer turns (window) "
                "or shorter observations (max_observation)"
            )
            return Completion("", error=why, too_long=True)
        room = self.sampling.max_tokens if self.prompt_limit is None else self.prompt_limit - len(prompt)
        limit = min(self.sampling.max_tokens, request.max_tokens or self.sampling.max_tokens, room)
        job = _Job(prompt, limit, random.Random(f"{self.sampling.seed}:{request.seed}"))
        if self.constrain:
            if not request.actions:
                why = "no admissible actions are listed here, so the answer cannot be constrained to them"
                return Completion("", error=why)
            job.node = action_tree(self._encoded(action) for action in request.actions)
        return job

    def _encoded(self, action: str) -> list[int]:
        if action not in self._actions:
            if len(self._actions) >= _REMEMBERED_ACTIONS:
                self._actions.clear()
            self._actions[action] = self.template.encode_completion(action)
        return self._actions[action]

    def _completion(self, job: _Job) -> Completion:
        return Completion(
            text=self.template.decode(job.ids),
            ids=tuple(job.ids),
            logprobs=tuple(job.logprobs),
            finished=bool(job.ids) and job.ids[-1] in self.template.eos_ids,
            prompt_tokens=len(job.prompt),
            completion_tokens=len(job.ids),
            certainty=sum(job.certainties) / len(job.certainties) if job.certainties else None,
        )

    # -- a batch -----------------------------------------------------------------------------------------------------

    def _share(self, prompts: list[list[int]]) -> None:
        """Read what several prompts have in common once, before they run side by side."""
        if self._cache.max_bytes and len(prompts) > 1:
            self._share_from(sorted(prompts), 0)

    def _share_from(self, prompts: list[list[int]], known: int) -> None:
        if len(prompts) < 2:
            return
        first, last = prompts[0], prompts[-1]
        shared = next(
            (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last))
        )
        shared = min(shared, len(first) - 1)
        if shared - max(known, self._cache.longest(first)[1]) >= _SHARED:
            self._run([_Job(first[:shared], 0, random.Random())])
        for _, group in groupby(prompts, key=lambda ids: ids[shared : shared + 1]):
            members = list(group)
            if len(members) < len(prompts):
                self._share_from(members, shared)

    def _read_ahead(self, jobs: list[_Job]) -> None:
        """Read what is new in groups of like length, where side by side most of the work would go into padding.

        An episode that begins brings some hundred new ids, its neighbours a few dozen each.
        """
        if not self._cache.max_bytes:
            return
        new = sorted(((len(job.prompt) - self._cache.longest(job.prompt)[1], job) for job in jobs), key=lambda p: -p[0])
        if len(new) * new[0][0] < _PADDED * sum(length for length, _ in new):
            return
        group: list[tuple[int, _Job]] = []
        for length, job in [*new, (0, new[-1][1])]:
            if group and length < _ALIKE * group[0][0]:
                self._run([_Job(each.prompt[:-1], 0, random.Random()) for _, each in group])
                group = []
            if length < _SHARED:
                break
            group.append((length, job))

    def _run(self, jobs: list[_Job]) -> None:
        """Read the prompts and write the answers of one batch. A job of limit 0 only reads."""
        prefixes = [self._cache.longest(job.prompt) for job in jobs]
        width = max(length for _, length in prefixes)
        new = [job.prompt[length:] for job, (_, length) in zip(jobs, prefixes, strict=True)]
        read, written = max(map(len, new)), max(job.limit for job in jobs)
        model, device = self._model, self._model.device
        pad = self.template.end_id
        tokens = torch.tensor([[pad] * (read - len(ids)) + ids for ids in new], device=device)
        mask = torch.zeros(len(jobs), width + read + written, dtype=torch.long, device=device)
        for row, (_, length) in enumerate(prefixes):
            mask[row, width - length : width] = 1
            mask[row, width + read - len(new[row]) : width + read] = 1
        places = (mask.cumsum(-1) - 1).clamp(min=0)[:, width : width + read]
        cache: Any = DynamicCache(config=model.config)
        if self._keeps:
            cache = BatchCache(model.config.get_text_config().num_hidden_layers, prefixes, read + written)
        end, rows = width + read, list(jobs)
        while True:
            output = model(
                input_ids=tokens,
                attention_mask=mask[:, :end],
                position_ids=places,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            if not written:
                break
            self._write(rows, output.logits[:, -1])
            going = [row for row, job in enumerate(rows) if not job.done]
            if not going:
                break
            if self._keeps and 2 * len(going) <= len(rows):  # the finished rows would cost as much as the others
                self._keep(rows, cache, mask[:, :end], leaving=set(range(len(rows))) - set(going))
                cache.select(going)
                mask, places = mask[going], places[going]
                rows = [rows[row] for row in going]
            tokens = torch.tensor([[pad if job.done else job.ids[-1]] for job in rows], device=device)
            mask[:, end] = torch.tensor([not job.done for job in rows], device=device)
            end += 1
            places = places[:, -1:] + 1
        if self._keeps:
            self._keep(rows, cache, mask[:, :end], leaving=set(range(len(rows))))

    def _write(self, rows: list[_Job], logits: torch.Tensor) -> None:
        """Draw the next id of every row that is not done."""
        allowed = [list(job.node) if job.node is not None and not job.done else None for job in rows]
        draws = [0.0 if job.done else job.dice.random() for job in rows]
        ids, logprobs = draw(
            logits, draws, temperature=self.sampling.temperature, top_p=self.sampling.top_p, allowed=allowed
        )
        told = certainties(logits) if self.certainty else [None] * len(rows)
        for job, index, logprob, certainty in zip(rows, ids, logprobs, told, strict=True):
            if job.done:
                continue
            if certainty is not None:
                job.certainties.append(certainty)
            job.ids.append(index)
            job.logprobs.append(logprob)
            if job.node is not None:
                job.node = job.node[index]
                forced = only_way(job.node)[: job.limit - len(job.ids)]
                job.ids += forced  # no choice is left, so each has probability 1 and need not be computed
                job.logprobs += [0.0] * len(forced)
            job.done = job.ids[-1] in self.template.eos_ids or len(job.ids) >= job.limit

    def _keep(self, rows: list[_Job], cache: BatchCache, mask: torch.Tensor, leaving: set[int]) -> None:
        """Put what was computed for these rows into the prefix cache."""
        for row in sorted(leaving):
            where = mask[row].nonzero()[:, 0]
            known = [*rows[row].prompt, *rows[row].ids][: len(where)]
            self._cache.put(cache.row(row, where, known))


def attends_fully(model: PreTrainedModel) -> bool:
    """Can prefixes be kept: every layer attends to everything before, and there is no other state."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    sliding = getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
    full = all(kind == "full_attention" for kind in kinds) if kinds else not sliding
    return full and not getattr(model, "_is_stateful", False)


def _context(model: PreTrainedModel) -> int | None:
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else None


def _eos(model: PreTrainedModel) -> list[int]:
    config = getattr(model, "generation_config", None)
    eos = getattr(config, "eos_token_id", None)
    return [eos] if isinstance(eos, int) else [int(index) for index in eos or ()]
