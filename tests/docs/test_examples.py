"""Every example runs: against real servers, records, a real kernel. Those that need a GPU or a cluster are read."""

from __future__ import annotations

import json
import os
import re
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

from tests.docs.play import configured

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


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


def test_the_recorded_experts_are_what_the_commands_write(tmp_path: Path) -> None:
    program = "from palaestra.cli import main; main()"
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
    run("-c", program, *collect, cwd=tmp_path)
    run("-c", program, "export", "recorded", "made.jsonl", "--form", "eto", *load, cwd=tmp_path)
    made, kept = (
        sorted((json.loads(line) for line in file.read_text().splitlines()), key=lambda record: record["task"]["name"])
        for file in (tmp_path / "made.jsonl", EXAMPLES / "parcels_experts.jsonl")
    )
    assert made == kept
    assert sum(record["reward"] == 1 for record in kept) < len(kept) / 2  # most of them failed


def test_the_configuration_of_a_7b_model_is_valid() -> None:
    config = configured("eef", EXAMPLES / "eef_7b_vllm_lora.toml")
    assert config.objective.lora is not None
    assert config.objective.gradient_checkpointing
    assert config.engine == "vllm"


def test_the_cluster_file_is_what_ray_reads() -> None:
    cluster = yaml.safe_load((EXAMPLES / "ray_cluster.yaml").read_text())
    assert {"cluster_name", "provider", "auth", "available_node_types", "head_node_type"} <= set(cluster)
    assert cluster["head_node_type"] in cluster["available_node_types"]
    for kind in cluster["available_node_types"].values():
        assert set(kind) <= {"resources", "node_config", "min_workers", "max_workers", "worker_setup_commands"}
    assert (
        sum(kind.get("max_workers", 0) for kind in cluster["available_node_types"].values()) <= cluster["max_workers"]
    )


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
