"""Who takes part in bench/sandbox.py: our backends, plain Docker by its program and by its SDK, and llm-sandbox.

All do the same work on the same engine with the same image. Plain Docker and llm-sandbox run as root, with a writable
root disk and without limits, which is their default and costs them less than our walls would.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from palaestra.envs.sandbox import Limits, start
from palaestra.envs.sandbox.client import GuestSandbox
from palaestra.envs.sandbox.image import NAME

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

FILES = 100  # of a snapshot
MAKE = f"mkdir -p /work/d && cd /work/d && i=0; while [ $i -lt {FILES} ]; do echo file $i > f$i; i=$((i+1)); done"
COUNT = "ls /work/d | wc -l"
ECHO = ["echo", "hello"]
PYTHON = ["python3", "-c", "print(6 * 7)"]


class Contestant(ABC):
    """One way to have a sandbox. It holds one at a time, between `start` and `close`; `one` makes its own."""

    name: str

    @abstractmethod
    def start(self) -> None:
        """Start a sandbox; on return a command can be run in it."""

    @abstractmethod
    def run(self, command: list[str]) -> bytes:
        """Run a command to its end; its stdout."""

    @abstractmethod
    def put_get(self, content: bytes) -> bytes:
        """Put a file in and take it out again."""

    @abstractmethod
    def copy_and_back(self) -> None:
        """Copy the sandbox's files, and go back to that copy; what was started since is gone."""

    @abstractmethod
    def close(self) -> None:
        """End it; on return it is gone."""

    @abstractmethod
    def one(self) -> None:
        """Start a sandbox, run a command in it, end it. Safe to call from several threads."""

    def several(self, count: int) -> None:
        """That many of `one`, all at the same time."""
        with ThreadPoolExecutor(count) as threads:
            for done in [threads.submit(self.one) for _ in range(count)]:
                done.result()

    def leave(self) -> None:  # noqa: B027  # most have nothing to give back
        """Give back what was taken."""


class Ours(Contestant):
    """A backend of Palaestra with its default limits."""

    def __init__(self, backend: str) -> None:
        self.name = backend
        self._box: GuestSandbox | None = None

    def start(self) -> None:
        self._box = start(self.name, Limits())

    def run(self, command: list[str]) -> bytes:
        assert self._box is not None
        return self._box.exec(command).raw_stdout

    def put_get(self, content: bytes) -> bytes:
        assert self._box is not None
        self._box.write_file("file", content)
        return self._box.read_bytes("file")

    def copy_and_back(self) -> None:
        assert self._box is not None
        self._box.restore(self._box.snapshot())

    def close(self) -> None:
        assert self._box is not None
        self._box.close()

    def one(self) -> None:
        with start(self.name, Limits()) as box:
            assert box.exec(ECHO).stdout == "hello\n"


class DockerProgram(Contestant):
    """`docker run`, `docker exec`, `docker cp`, `docker commit`, `docker rm`."""

    name = "docker program"

    def __init__(self) -> None:
        self._id, self._image = "", ""
        self._scratch = Path(tempfile.mkdtemp())

    @staticmethod
    def _docker(*arguments: str) -> bytes:
        return subprocess.run(["docker", *arguments], check=True, capture_output=True).stdout

    def _begin(self, image: str) -> str:
        return self._docker("run", "-d", "--network=none", "-u", "0", image, "sleep", "infinity").decode().strip()

    def start(self) -> None:
        self._id = self._begin(NAME)

    def run(self, command: list[str]) -> bytes:
        return self._docker("exec", self._id, *command)

    def put_get(self, content: bytes) -> bytes:
        here = self._scratch / "file"
        here.write_bytes(content)
        self._docker("cp", str(here), f"{self._id}:/work/file")
        self._docker("cp", f"{self._id}:/work/file", str(here))
        return here.read_bytes()

    def copy_and_back(self) -> None:
        image = self._docker("commit", self._id).decode().strip()
        self._docker("rm", "-f", self._id)
        self._id, self._image = self._begin(image), image

    def close(self) -> None:
        self._docker("rm", "-f", self._id)
        if self._image:
            self._docker("rmi", self._image)
        self._image = ""

    def one(self) -> None:
        assert self._docker("run", "--rm", "--network=none", "-u", "0", NAME, *ECHO) == b"hello\n"

    def leave(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)


class DockerSDK(Contestant):
    """The same through Docker's Python SDK: no program is started for a call."""

    name = "docker SDK"

    def __init__(self, client: DockerClient) -> None:
        self._client = client
        self._box: Container | None = None
        self._image = ""

    def _begin(self, image: str) -> Container:
        made: Container = self._client.containers.run(
            image, ["sleep", "infinity"], detach=True, network_mode="none", user="0"
        )
        return made

    def start(self) -> None:
        self._box = self._begin(NAME)

    def run(self, command: list[str]) -> bytes:
        assert self._box is not None
        output = self._box.exec_run(command).output
        assert isinstance(output, bytes)
        return output

    def put_get(self, content: bytes) -> bytes:
        assert self._box is not None
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            entry = tarfile.TarInfo("file")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        self._box.put_archive("/work", archive.getvalue())
        back = b"".join(self._box.get_archive("/work/file")[0])
        with tarfile.open(fileobj=io.BytesIO(back)) as tar:
            file = tar.extractfile("file")
            assert file is not None
            return file.read()

    def copy_and_back(self) -> None:
        assert self._box is not None
        self._image = str(self._box.commit().id)
        self._box.remove(force=True)
        self._box = self._begin(self._image)

    def close(self) -> None:
        assert self._box is not None
        self._box.remove(force=True)
        if self._image:
            self._client.images.remove(self._image)
        self._image = ""

    def one(self) -> None:
        box = self._begin(NAME)
        assert box.exec_run(ECHO).output == b"hello\n"
        box.remove(force=True)


class LlmSandbox(Contestant):
    """llm-sandbox, in its own virtual environment: bench/sandbox_llm_sandbox.py does what is asked on its stdin.

    Args:
        python: the interpreter of an environment with `llm-sandbox[docker]`.
    """

    name = "llm-sandbox"

    def __init__(self, python: str) -> None:
        self._child = subprocess.Popen(
            [python, str(Path(__file__).parent / "sandbox_llm_sandbox.py"), NAME],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "DOCKER_HOST": os.environ["DOCKER_HOST"]},
        )
        self.version = str(self.ask("version"))

    def ask(self, what: str, **values: object) -> object:
        """Have something done. Raises RuntimeError with what went wrong there."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps({"do": what, **values}).encode() + b"\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        answer = json.loads(line) if line else {"error": "the child is gone"}
        if "error" in answer:
            raise RuntimeError(f"llm-sandbox, {what}: {answer['error']}")
        return answer["value"]

    def start(self) -> None:
        self.ask("start")

    def run(self, command: list[str]) -> bytes:
        return str(self.ask("run", command=command)).encode()

    def put_get(self, content: bytes) -> bytes:
        # The bytes are made in the child, so that the pipe between us is not part of the measure.
        assert self.ask("put_get", size=len(content)) == len(content)
        return content

    def copy_and_back(self) -> None:
        self.ask("copy_and_back")

    def close(self) -> None:
        self.ask("close")

    def one(self) -> None:
        self.ask("one")

    def several(self, count: int) -> None:
        self.ask("several", count=count)

    def hand_outs(self, count: int) -> list[float]:
        """Seconds that its own pool takes to hand out a container: a used one that was given back."""
        taken = self.ask("hand_outs", count=count)
        assert isinstance(taken, list)
        return [float(each) for each in taken]

    def leave(self) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        self._child.wait(60)
        self._child.stdout.close()
