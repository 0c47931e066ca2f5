"""vLLM without a server: its asynchronous engine, asked in this process.

The core, where the model is, is a process of its own here too: it would otherwise change torch's settings for all that
is in this one. But requests do not go through HTTP. vLLM's core does not notice when whoever started it is killed, so a
guard ends it then (`palaestra.envs.keeper`). Everything else is as with a server: `Inside` is one, to those who ask it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from palaestra.agents.engine import Engine, EngineFault
from palaestra.agents.policies.vllm_http import Down
from palaestra.agents.policies.vllm_server import PACK, Answer, Refused, Served, Server, in_thread
from palaestra.envs import keeper

_SERVERS_OWN = ("VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING")


class Inside(Server):
    """vLLM's asynchronous engine as a `Server`.

    Args:
        engine: says how it runs.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.label = "the engine in this process"
        self._of, self._version = engine, ""
        self._llm: Any = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._adapters: dict[str, Any] = {}
        self._numbers = itertools.count()

    # -- its life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the core and wait until it is ready. Raises EngineFault."""
        try:
            await asyncio.wait_for(in_thread(self._start), self._of.patience)
        except TimeoutError:
            raise EngineFault(f"vLLM was not ready within {self._of.patience:g} s") from None

    def _start(self) -> None:
        sys.path += [path for path in self._of.search if path not in sys.path]  # last, lest others come from there
        kept = dict(os.environ)
        os.environ.update({key: value for key, value in self._of.environ().items() if key not in _SERVERS_OWN})
        try:
            self._make()
        finally:  # vLLM has its core preload libraries, which is for no other process
            for key in set(os.environ) - set(kept):
                del os.environ[key]
            for key, value in kept.items():
                if os.environ.get(key) != value:
                    os.environ[key] = value

    def _make(self) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.utils.argparse_utils import FlexibleArgumentParser
        from vllm.v1.engine.async_llm import AsyncLLM

        parser = AsyncEngineArgs.add_cli_args(FlexibleArgumentParser())
        settings = AsyncEngineArgs.from_cli_args(parser.parse_args(self._of.words()))
        before = set(keeper.descendants(os.getpid()))
        self._llm = AsyncLLM.from_engine_args(settings)
        made = [str(pid) for pid in keeper.descendants(os.getpid()) if pid not in before and not _tracks(pid)]
        command = [sys.executable, "-I", keeper.__file__, "--guard", *made]
        self._guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    async def revive(self) -> None:
        await self.end()
        await self.start()

    async def close(self) -> None:
        """Nothing is connected; the core stays until `end`."""

    async def end(self) -> None:
        """End the core."""
        llm, self._llm = self._llm, None
        guard, self._guard = self._guard, None
        self._adapters.clear()
        if llm is not None:
            await in_thread(partial(llm.shutdown, timeout=5))
        if guard is not None:
            assert guard.stdin is not None
            guard.stdin.close()  # it ends what is left
            await in_thread(guard.wait)

    # -- as a server -------------------------------------------------------------------------------------------------

    async def identify(self, wanted: str | None) -> Served:
        context = int(self._llm.vllm_config.model_config.max_model_len)
        return Served(self._of.name, str(self._of.folder), context, self._version, exact=True)

    async def names(self) -> list[str]:
        return [self._of.name, *self._adapters]

    async def _completed(self, body: Mapping[str, Any], seconds: float) -> Answer:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        told = dict(body)
        prompt, model = list(told.pop("prompt")), told.pop("model", self._of.name)
        for key in ("return_token_ids", "return_tokens_as_token_ids"):
            told.pop(key, None)
        if "structured_outputs" in told:
            told["structured_outputs"] = StructuredOutputsParams(**told["structured_outputs"])
        try:
            settings = SamplingParams(**told, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY)
            return await asyncio.wait_for(self._drawn(prompt, settings, model), seconds)
        except ValueError as error:
            raise Refused(f"{self.label} refused: {' '.join(str(error).split())[:200]}") from error

    async def _drawn(self, prompt: list[int], settings: Any, model: str) -> Answer:
        from vllm import TokensPrompt
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        if self._llm is None:
            raise Down(f"{self.label} is not running")
        asked = self._llm.generate(
            TokensPrompt(prompt_token_ids=prompt),
            settings,
            f"palaestra-{next(self._numbers)}",
            lora_request=self._adapters.get(model),
        )
        try:
            last: Any = None
            async for output in asked:
                last = output
        except (EngineDeadError, EngineGenerateError) as error:
            raise Down(f"{self.label}: {' '.join(str(error).split())[:200]}") from error
        if last is None:
            raise Down(f"{self.label} gave no answer")
        made = last.outputs[0]
        ids = tuple(int(index) for index in made.token_ids)
        rows = made.logprobs or ()
        return Answer(
            ids, tuple(float(row[i].logprob) for row, i in zip(rows, ids, strict=True)), str(made.finish_reason)
        )

    async def _one_token(self, seconds: float) -> bool:
        from vllm import SamplingParams

        try:
            settings = SamplingParams(max_tokens=1, temperature=0, detokenize=False, logprobs=0)
            await asyncio.wait_for(self._drawn([0], settings, self._of.name), seconds)
        except (Down, TimeoutError):
            return False
        return True

    async def healthy(self) -> bool:
        return self._llm is not None and not self._llm.errored

    async def load(self, folder: str, version: str) -> None:
        if not self._of.reloads:
            await self._renew(folder)
            return
        try:
            await self._llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
            if self._of.device == "cpu":
                await self._llm.collective_rpc(PACK)
        except Exception as error:  # whatever the worker raised, as text
            raise Down(f"{self.label} does not take the weights: {' '.join(str(error).split())[:200]}") from error
        await self.forget()
        self._version = version

    async def _renew(self, folder: str) -> None:
        before = self._of.folder
        self._of.holds(Path(folder))
        try:
            await self.revive()
        except EngineFault as error:
            self._of.holds(before)
            raise Down(f"{self.label} does not start with {folder}: {error}") from error

    async def forget(self) -> None:
        if not await self._llm.reset_prefix_cache():
            raise Refused(f"{self.label} does not empty its prefix cache: something still runs there")

    async def adapt(self, folder: str, name: str) -> None:
        from vllm.lora.request import LoRARequest

        request = LoRARequest(name, next(self._numbers) + 1, folder)
        try:
            await self._llm.add_lora(request)
        except Exception as error:  # LoRA not enabled, or an adapter that does not fit
            raise Refused(f"{self.label} takes no such adapter: {' '.join(str(error).split())[:200]}") from error
        self._adapters[name] = request

    async def drop(self, name: str) -> None:
        request = self._adapters.pop(name, None)
        if request is not None:
            await self._llm.remove_lora(request.lora_int_id)


def _tracks(pid: int) -> bool:
    """Is it Python's own tracker of this process's resources, which ends by itself."""
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
