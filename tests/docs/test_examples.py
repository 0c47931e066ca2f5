"""Every example runs: against real servers, records, a real kernel; the one for a GPU with a tiny model."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from palaestra.envs import find
from tests.docs import small
from tests.docs.blocks import blocks_of
from tests.docs.play import configured

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
MAIN = "from palaestra.cli import main; main()"


class Handler(BaseHTTPRequestHandler):
    """Chat completions of a model that takes the last of the listed actions."""

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def send(self, body: object) -> None:
        raw = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def do_GET(self) -> None:
        self.send({"object": "list", "data": [{"id": "last-action"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        shown = asked["messages"][-1]["content"].splitlines()
        said = f"Thought: the last one.\nAction: {shown[-1].lstrip('- ')}"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
        self.send({"choices": [choice], "usage": {"prompt_tokens": 50, "completion_tokens": 9}})


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server that speaks OpenAI's chat format."""
    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_address[1]}/v1"
    serving.shutdown()
    serving.server_close()


def run(*command: str, cwd: Path) -> str:
    """Run a program of this Python; what it prints."""
    whole = [sys.executable, *command]
    done = subprocess.run(whole, cwd=cwd, capture_output=True, text=True, timeout=120, env={**os.environ})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_names_every_example() -> None:
    page = (ROOT / "docs" / "examples.md").read_text()
    for file in EXAMPLES.iterdir():
        if not file.name.startswith((".", "__")):
            assert f"(../examples/{file.name}" in page, f"docs/examples.md does not name {file.name}"


def test_a_model_behind_an_api_is_evaluated(server: str, tmp_path: Path) -> None:
    said = run(str(EXAMPLES / "api_model.py"), server, "last-action", "3", cwd=tmp_path)
    assert "3 episodes, 0 faults" in said
    assert re.search(r"[1-9][\d,]* tokens read, [1-9][\d,]* written", said)
    assert "| policy | last-action |" in (tmp_path / "runs" / "api" / "card.md").read_text()
    again = run(str(EXAMPLES / "api_model.py"), server, "last-action", "3", cwd=tmp_path)
    assert "3 episodes" in again


def test_the_command_for_such_a_model_runs(server: str, tmp_path: Path) -> None:
    block = next(block for block in blocks_of(ROOT / "docs" / "examples.md") if "openai:" in block.text)
    (line,) = [command.text for command in block.commands() if command.text.startswith("palaestra ")]
    line = line.replace("MODEL@https://HOST/v1", f"last-action@{server}").replace("--tasks 50", "--tasks 3")
    assert server in line
    said = run("-c", MAIN, *shlex.split(line)[1:], "--json", "-q", cwd=tmp_path)
    assert json.loads(said.splitlines()[-1])["episodes"] == 3


def test_the_command_in_which_such_a_model_plays_the_user_runs(server: str, tmp_path: Path) -> None:
    (line,) = [line for line in small.commands("docs/environments.md") if line.startswith("palaestra eval tauretail")]
    for name in ("AGENT", "USER"):
        line = line.replace(f"{name}@http://localhost:8000/v1", f"last-action@{server}")
    assert line.count(server) == 2
    said = run("-c", MAIN, *shlex.split(line)[1:], "--tasks", "2", "--json", "-q", cwd=tmp_path)
    told = json.loads(said.splitlines()[-1])
    assert [told["episodes"], told["missing"], told["card"]["protocol"]] == [2, 0, "original"]


def test_the_recorded_experts_are_what_the_commands_write(tmp_path: Path) -> None:
    load = ("--load", str(EXAMPLES / "parcels.py"))
    collect = (
        "collect",
        "mine/Parcels-v0",
        *load,
        "--policy",
        "flawed:0.5",
        "--tasks",
        "24",
        "--out",
        "recorded",
        "-q",
    )
    run("-c", MAIN, *collect, cwd=tmp_path)
    run("-c", MAIN, "export", "recorded", "made.jsonl", "--form", "eto", *load, cwd=tmp_path)
    made, kept = (
        sorted((json.loads(line) for line in file.read_text().splitlines()), key=lambda record: record["task"]["name"])
        for file in (tmp_path / "made.jsonl", EXAMPLES / "parcels_experts.jsonl")
    )
    assert made == kept
    assert sum(record["reward"] == 1 for record in kept) < len(kept) / 2  # most of them failed


def test_the_configuration_of_a_7b_model_runs_with_a_tiny_one_in_its_place(tmp_path: Path) -> None:
    """Whole, on recorded experts, in a shop of our own; not its model, engine and bfloat16, and less of everything."""
    config = configured("eef", EXAMPLES / "eef_7b_vllm_lora.toml")
    assert config.engine == "vllm"
    assert config.objective.bf16
    assert config.protocol in find(config.env).protocols
    experts = ("collect", "webshopsmall", "--policy", "flawed:0.5", "--tasks", "4", "--out", "recorded", "-q")
    run("-c", MAIN, *experts, cwd=tmp_path)
    run(
        "-c",
        MAIN,
        "export",
        "recorded",
        "webshop_experts.jsonl",
        "--form",
        "eto",
        "--style",
        "react",
        "-q",
        cwd=tmp_path,
    )
    smaller = {
        "env": "webshopsmall",
        "protocol": "null",
        "model": "tiny",
        "engine": "null",
        "objective.bf16": "false",
        "budget": "4",
    }
    smaller |= {"tasks": "2", "states": "1", "iterations": "1", "objective.epochs": "1", "evaluation.tasks": "1"}
    smaller |= {"env_settings.max_steps": "8", "sampling.max_tokens": "4", "experts.score": "0.5"}
    words = [word for key, value in smaller.items() for word in ("--set", f"{key}={value}")]
    command = (
        "train",
        "eef",
        "--config",
        str(EXAMPLES / "eef_7b_vllm_lora.toml"),
        "--out",
        "runs/eef-7b",
        "-q",
        *words,
    )
    run("-c", MAIN, *command, cwd=tmp_path)
    fitted = tmp_path / "runs" / "eef-7b" / "iteration-1"
    assert (tmp_path / "runs" / "eef-7b" / "report.html").is_file()
    assert fitted.is_dir()


LOADER = """
import sys, yaml
from ray.autoscaler._private.util import prepare_config, validate_config
made = prepare_config(yaml.safe_load(open(sys.argv[1])))
validate_config(made)
print(made["max_workers"], len(made["provider"]["worker_ips"]))
"""


def test_the_cluster_file_is_read_by_rays_own_loader_and_its_commands_are_rays(tmp_path: Path) -> None:
    """As `ray up` reads it before it logs in anywhere: its schema, its defaults, its checks of own machines."""
    file = EXAMPLES / "ray_cluster.yaml"
    assert run("-c", LOADER, str(file), cwd=tmp_path).split() == ["4", "4"]
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(file.read_text().replace("max_workers", "max_wokers"))
    refused = subprocess.run([sys.executable, "-c", LOADER, str(wrong)], capture_output=True, text=True, timeout=120)
    assert "max_wokers" in refused.stderr
    cluster = yaml.safe_load(file.read_text())
    lines = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    starts = [shlex.split(line.partition("ray start ")[2]) for line in lines if "ray start " in line]
    assert len(starts) == 2
    program = "from ray.scripts.scripts import start; import sys; start(sys.argv[1:])"
    for words in starts:
        command = [sys.executable, "-c", program, *words, "--no-such-option"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=120).stderr
        assert "No such option" in told
        assert "--no-such-option" in told


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PALAESTRA_CACHE", str(tmp_path / "cache"))
    shutil.copy(EXAMPLES / "parcels.py", tmp_path)
    notebook = nbformat.read(EXAMPLES / "palaestra.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # kept without outputs
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "episodes=12" in said
    assert (tmp_path / "runs" / "notebook" / "report.html").is_file()
