"""The child of bench/sandbox.py that drives llm-sandbox; runs in an environment with `llm-sandbox[docker]` only.

Reads one JSON object a line, does what it says, and answers with one. Two settings are in the peer's favour: the set-up
of a virtual environment is left out (it needs a network), and its containers end by SIGKILL, since the image's first
process does not listen to SIGTERM and the engine would wait ten seconds for each.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shlex
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
from llm_sandbox.docker import SandboxDockerSession
from llm_sandbox.pool import PoolConfig, create_pool_manager

IMAGE = sys.argv[1]
SETTINGS: dict[str, Any] = {
    "lang": "python",
    "skip_environment_setup": True,
    "runtime_configs": {"network_mode": "none", "stop_signal": "SIGKILL"},
}
COPY = "palaestra-bench-copy:1"


class Peer:
    """Each public method but `answer` is something that can be asked for."""

    def __init__(self) -> None:
        self._client = docker.from_env(max_pool_size=32)
        self._box: Any = None
        self._scratch = Path(tempfile.mkdtemp())
        self._copied = False

    def version(self) -> str:
        return importlib.metadata.version("llm-sandbox")

    def _open(self, image: str = IMAGE, **more: Any) -> Any:
        box = SandboxDockerSession(
            client=self._client, image=image, keep_template=True, workdir="/work", **SETTINGS, **more
        )
        box.open()
        return box

    def start(self) -> None:
        self._box = self._open(commit_image_tag=COPY)

    def run(self, command: list[str]) -> str:
        return str(self._box.execute_command(shlex.join(command)).stdout)

    def put_get(self, size: int) -> int:
        content = os.urandom(size)
        there, back = self._scratch / "file", self._scratch / "back"
        there.write_bytes(content)
        self._box.copy_to_runtime(str(there), "/work/file")
        self._box.copy_from_runtime("/work/file", str(back))
        assert back.read_bytes() == content
        return size

    def copy_and_back(self) -> None:
        """Its way to keep files is to commit a container to an image when a session closes."""
        self._box.commit_container = True
        self._box.close()
        self._copied = True
        self._box = self._open(image=COPY)

    def close(self) -> None:
        self._box.close()
        if self._copied:
            self._client.images.remove(COPY)
        self._copied = False

    def one(self) -> None:
        box = self._open()
        assert box.execute_command("echo hello").stdout == "hello\n"
        box.close()

    def several(self, count: int) -> None:
        with ThreadPoolExecutor(count) as threads:
            for done in [threads.submit(self.one) for _ in range(count)]:
                done.result()

    def hand_outs(self, count: int) -> list[float]:
        config = PoolConfig(max_pool_size=2, min_pool_size=2)
        taken = []
        with create_pool_manager(client=self._client, config=config, image=IMAGE, **SETTINGS) as pool:
            for _ in range(count):
                began = time.perf_counter()
                held = pool.acquire()
                taken.append(time.perf_counter() - began)
                pool.release(held)
        return taken


def main() -> None:
    peer, answers = Peer(), os.fdopen(os.dup(1), "w")
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                answer = {"value": getattr(peer, asked.pop("do"))(**asked)}
            except Exception as error:  # told to whoever asked
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
