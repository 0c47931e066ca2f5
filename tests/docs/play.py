"""Runs the blocks of pages, each page in a child of its own: `python -m tests.docs.play RESULTS PAGE...`.

The heavy modules are imported once, before the children are forked. A page's folder is empty but for a link to
`examples`, its python blocks share their names, and its first block that does not keep its promise ends it. RESULTS is
a JSON object of what went wrong by page, empty texts for those where nothing did.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.docs.blocks import Block, Command, blocks_of

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("data", "sandbox", "worldmodel")
"""Commands of two words."""


def flat(text: str) -> str:
    """Without line breaks and runs of blanks: tables are as wide as the terminal."""
    return " ".join(text.split())


def agrees(shown: list[str], said: str) -> bool:
    """Is what a page shows what was said; `...` stands for anything."""
    wanted = flat(" ".join(shown))
    return (
        not wanted or re.fullmatch(".*".join(re.escape(part) for part in wanted.split("...")), flat(said)) is not None
    )


def palaestra(words: list[str]) -> tuple[int, str]:
    """Run the command line in this process: its status, and what it printed (with the error, where it refused)."""
    from palaestra.cli import run

    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["palaestra", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run(words)
    finally:
        sys.argv = before
    refused = [line for line in err.getvalue().splitlines() if line.startswith("error: ")]
    return status, out.getvalue() + ("\n".join(refused) or err.getvalue() if status else "")


def parsed(command: str) -> None:
    """A command that is not run: its options are known, and so is the configuration that it names."""
    words = shlex.split(command.removesuffix(" &"))
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        del words[0]
    if words[0] != "palaestra":
        return
    words = words[1:]
    status, told = palaestra([*words, "--no-such-option"])
    assert status == 2, command
    assert "No such option: --no-such-option" in told, f"{command}: {told}"
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    status, listed = palaestra([*words[: 2 if words[0] in GROUPS else 1], "--help"])
    assert status == 0, command
    assert all(option in listed for option in options), f"{command}: unknown options"
    if words[0] == "train" and "--config" in words:
        configured(words[1], Path(words[words.index("--config") + 1]))


def configured(method: str, file: Path) -> Any:
    """The configuration of a method, as `palaestra train METHOD --config FILE` reads it."""
    from palaestra.cli.training import read_settings
    from palaestra.trainers.config import config_of
    from palaestra.worldmodel.methods import METHODS

    return config_of(METHODS[method].config_type, read_settings(file))


class Player:
    """Plays one page, in the current directory."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__page__"}
        self.running: list[subprocess.Popen[str]] = []
        self.ports: dict[str, str] = {}  # that a page names, and those that its servers listen at

    def play(self, block: Block) -> None:
        """Do what a block says. Raises what goes wrong."""
        if block.file is not None:
            file = Path(block.file)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        if block.language == "console":
            for command in block.commands():
                if block.reason is not None:
                    parsed(command.text)
                else:
                    self.command(command)
        elif block.language == "python":
            code = compile(block.text, block.where, "exec")
            if block.reason is None and block.file is None:
                exec(code, self.names)
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "yaml":
            assert list(yaml.safe_load_all(block.text))

    def command(self, command: Command) -> None:
        """Run a command and compare its output."""
        line = re.sub(r"(127\.0\.0\.1|localhost):(\d+)", self._at, command.text)
        words = shlex.split(line.removesuffix(" &"))
        if command.background:
            said, status = self.started(words), 0
        elif words[0] == "palaestra" and not re.search(r"[|>;<]", line):
            status, said = palaestra(words[1:])
        else:
            done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
            status, said = done.returncode, done.stdout + (done.stderr if done.returncode else "")
        refused = any(line.startswith("error: ") for line in command.output)
        assert status == (2 if refused else 0), f"$ {command.text}\nended with {status}: {said}"
        shown = "\n".join(command.output)
        assert agrees(command.output, said), f"$ {command.text}\nthe page shows:\n{shown}\nit said:\n{said}"

    def _at(self, address: re.Match[str]) -> str:
        """The address of a page's own server, where one was started that listens there in the page."""
        return f"{address[1]}:{self.ports.get(address[2], address[2])}"

    def started(self, words: list[str]) -> str:
        """Start a server on a free port and ask it for its first page. Returns the line with its address."""
        given = dict(word.split("=", 1) for word in words[: words.index("palaestra")])  # variables before the command
        words = words[len(given) :]
        program = [sys.executable, "-c", "from palaestra.cli import main; main()", *words[1:], "--port", "0"]
        server = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env={**os.environ, **given})
        self.running.append(server)
        assert server.stdout is not None
        line = ""
        while "http://" not in line:
            line = server.stdout.readline()
            assert line, f"{words} ended without an address"
        address = re.search(r"http://[\w.-]+:(\d+)[\w./-]*", line)
        assert address is not None, line
        self.ports[words[words.index("--port") + 1] if "--port" in words else "8000"] = address[1]
        for _ in range(600):
            try:
                with urllib.request.urlopen(address[0], timeout=10):
                    return line
            except urllib.error.HTTPError as refused:
                # a served environment has no first page, and one with a token shows it to nobody else
                if words[1] == "serve" and refused.code == (401 if "PALAESTRA_TOKEN" in given else 404):
                    return line
                raise
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"{address[0]} does not answer")

    def end(self) -> None:
        """End what was started."""
        for server in self.running:
            server.terminate()
            server.wait(30)


def one(page: Path, folder: Path) -> str:
    """Play a page in its folder; what went wrong, or an empty text."""
    os.chdir(folder)
    Path("examples").symlink_to(ROOT / "examples")
    player = Player()
    where = page.name
    try:
        for block in blocks_of(page):
            where = block.where
            player.play(block)
    except BaseException:
        return f"{where}\n{traceback.format_exc()}"
    finally:
        player.end()
    return ""


def child(page: Path, folder: Path) -> str:
    """`one`, in a fork of this process: what a page registers and imports stays its own."""
    told = folder.with_suffix(".txt")
    if (forked := os.fork()) == 0:
        ended = 1
        try:
            told.write_text(one(page, folder), encoding="utf-8")
            ended = 0
        finally:
            os._exit(ended)
    status = os.waitpid(forked, 0)[1]
    return told.read_text(encoding="utf-8") if status == 0 else f"{page.name}: the child ended with {status}"


def main(results: str, *pages: str) -> None:
    """Play pages and write what went wrong."""
    import palaestra.agents.policies.hf
    import palaestra.trainers.clipped
    import palaestra.trainers.cross_entropy
    import palaestra.trainers.preference
    import palaestra.worldmodel.methods  # noqa: F401  # the children need not import them again

    found = {}
    with tempfile.TemporaryDirectory(prefix="pages-") as scratch:
        # one cache for all: models that are made once; and the width of a page
        os.environ |= {"PALAESTRA_CACHE": str(Path(scratch, "cache")), "COLUMNS": "100"}
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        for number, page in enumerate(pages):
            folder = Path(scratch, f"{number}-{Path(page).stem}")
            folder.mkdir()
            begun = time.monotonic()
            found[page] = {"wrong": child(Path(page).resolve(), folder), "seconds": time.monotonic() - begun}
            Path(results).write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
