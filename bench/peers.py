"""Episodes a second beside peers: the same server, the same environment, the same episodes.

    python bench/peers.py [--engine stub|vllm] [--model NAME] [--layers N] [--only bare palaestra ...]
                          [--concurrency 16 32] [--episodes 256] [--turns 8] [--tokens 16] [--rounds 3]

The contestants, each in a process and the peers each in a virtual environment of its own, which the first run makes:

    bare              an asyncio loop and a socket an episode, nothing kept: the limit
    palaestra         `collect` with everything on: exact token ids, episodes stored on disk, progress
    palaestra-chat    the same through `OpenAIPolicy`: messages, no ids
    verifiers         a `MultiTurnEnv`
    inspect-ai        a task with a solver
    trl               the asynchronous rollout worker's loop, with exact token ids

The engines: `stub` answers at once, so what is measured is the client; `vllm` is a vLLM server with a model, of which
`--layers` leaves so many (on a slow machine a whole one hides every difference between clients). The rounds take turns,
so that what else the machine does hits all alike; the best round of each counts, for the same reason. Ratios are to the
bare client's best. Engine steps are the server's own count: a slow client breaks up its batches. CPU is that of the
client's process, environment and all, a model call that the server counted.

Writes bench/results/peers-ENGINE.json (with -N for N layers); what it held of other contestants and concurrencies
stays, so that they can be measured one after the other, always beside `bare`. Each row has the machine's load then.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from palaestra.agents.models import resolve
from palaestra.agents.policies.vllm import template_of
from palaestra.envs.data import cache_dir

HERE = Path(__file__).resolve().parent
ANSWER = "pull 2\nIt has paid well so far."
NEEDS = {
    "verifiers": ("verifiers==0.3.1", "gymnasium>=1.1,<2", "typer", "rich"),
    "inspect-ai": ("inspect-ai==0.3.285", "openai", "gymnasium>=1.1,<2", "typer", "rich"),
}
CONTESTANTS = {
    "bare": ("peers_bare.py", ""),
    "palaestra": ("peers_palaestra.py", "exact"),
    "palaestra-chat": ("peers_palaestra.py", "chat"),
    "verifiers": ("peers_verifiers.py", ""),
    "inspect-ai": ("peers_inspect.py", ""),
    "trl": ("peers_trl.py", ""),
}


def python_of(name: str) -> str:
    """The interpreter of a contestant; makes a peer's environment."""
    if name not in NEEDS:
        return sys.executable
    folder = cache_dir() / "peers" / "-".join([name, NEEDS[name][0].partition("==")[2]])
    python = folder / "bin" / "python"
    if not (folder / "ready").is_file():
        print(f"making an environment for {name} in {folder}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-qq", *NEEDS[name]], check=True)
        (folder / "ready").touch()
    return str(python)


def cut(model: Path, layers: int) -> Path:
    """The model with its first layers alone, kept in the cache."""
    from palaestra.agents.models import load_model, save_model

    folder = cache_dir() / "peers" / f"{model.name}-{layers}"
    if not (folder / "config.json").is_file():
        loaded = load_model(model, device="cpu", dtype="float32")
        loaded.model.model.layers = loaded.model.model.layers[:layers]
        loaded.model.config.num_hidden_layers = layers
        if getattr(loaded.model.config, "layer_types", None):
            loaded.model.config.layer_types = loaded.model.config.layer_types[:layers]
        save_model(loaded.model, loaded.tokenizer, folder, name=folder.name)
    return folder


@contextlib.contextmanager
def stub(model: Path) -> Iterator[str]:
    """The server that answers at once."""
    template = template_of(model)
    ids = template.encode_completion(ANSWER)
    command = [sys.executable, str(HERE / "peers_stub.py"), "--model", "stub", "--tokenizer", str(model)]
    server = subprocess.Popen([*command, "--text", ANSWER, "--ids", json.dumps(ids)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def vllm(model: Path, concurrency: int) -> Iterator[str]:
    """A vLLM server with a port, as anybody would start one."""
    from palaestra.agents.engine import installed

    found = installed()
    port = 18_765
    more = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(os.cpu_count() or 1),
        "HF_HUB_OFFLINE": "1",
    }
    if found.path is not None:
        more["PYTHONPATH"] = str(found.path)
    command = [found.python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--port", str(port)]
    command += ["--served-model-name", "stub", "--dtype", "float32", "--max-num-seqs", str(concurrency)]
    command += ["--logprobs-mode", "processed_logprobs", "--max-model-len", "2048"]
    # A CPU's core dies where a prompt is read in parts and its request has a seed; see docs/vllm.md.
    command += ["--no-enable-chunked-prefill"]
    log = cache_dir() / "peers" / "vllm.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **more})
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/health", timeout=1).close()
                break
            if server.poll() is not None:
                raise SystemExit(f"vLLM did not start; see {log}")
            time.sleep(1)
        yield url
    finally:
        server.terminate()
        server.wait()


def one(name: str, url: str, model: Path, concurrency: int, options: argparse.Namespace) -> dict[str, Any]:
    """One contestant's run."""
    script, way = CONTESTANTS[name]
    case = {
        "url": url,
        "model": "stub",
        "tokenizer": str(model),
        "episodes": options.episodes,
        "warm": concurrency,
        "concurrency": concurrency,
        "turns": options.turns,
        "tokens": options.tokens,
        "way": way or "-",
    }
    command = [python_of(name), str(HERE / script), *(f"--{key}={value}" for key, value in case.items())]
    there = {**os.environ, "PYTHONPATH": f"{HERE.parent}", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=there)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"episodes"')]
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def row(name: str, concurrency: int, runs: list[dict[str, Any]], bare: float | None) -> dict[str, Any]:
    """The figures of one contestant, of its best round."""
    best = max(runs, key=lambda run: run["episodes"] / run["wall"])
    speed = best["episodes"] / best["wall"]
    return {
        "contestant": name,
        "at_once": concurrency,
        "episodes_per_second": round(speed, 1),
        "ratio_to_bare": None if bare is None else round(speed / bare, 2),
        "cpu_ms_per_call": round(min(1000 * run["cpu"] / run["calls"] for run in runs), 2),
        "calls_per_episode": round(best["calls"] / best["episodes"], 2),
        "engine_steps": best["engine_steps"],
        "memory_mb": round(best["memory_mb"]),
        "episodes": best["episodes"],
        "load": round(os.getloadavg()[0], 1),
        "speeds": [round(run["episodes"] / run["wall"], 1) for run in runs],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("stub", "vllm"), default="stub")
    parser.add_argument("--model", default="tiny:bandit", help="whose tokenizer, and with vllm weights, are used")
    parser.add_argument("--layers", type=int, help="cut the model to so many")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--concurrency", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = resolve(options.model)
    if options.layers is not None:
        model = cut(model, options.layers)
    for name in options.only:
        python_of(name)
    rows = []
    server = stub(model) if options.engine == "stub" else vllm(model, max(options.concurrency))
    with server as url:
        for concurrency in options.concurrency:
            runs: dict[str, list[dict[str, Any]]] = {name: [] for name in options.only}
            for _ in range(options.rounds):
                for name in options.only:
                    runs[name].append(one(name, url, model, concurrency, options))
            speeds = {name: max(run["episodes"] / run["wall"] for run in found) for name, found in runs.items()}
            for name in options.only:
                rows.append(row(name, concurrency, runs[name], speeds.get("bare")))
                print(json.dumps(rows[-1]), flush=True)
    facts: dict[str, Any] = {
        "command": "python bench/peers.py " + " ".join(sys.argv[1:]),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "engine": options.engine,
        "model": options.model,
        "layers": options.layers,
        "turns": options.turns,
        "tokens": options.tokens,
        "needs": {name: needs[0] for name, needs in NEEDS.items()},
        "rows": rows,
    }
    suffix = "" if options.layers is None else f"-{options.layers}"
    file = HERE / "results" / f"peers-{options.engine}{suffix}.json"
    if file.is_file():
        had = json.loads(file.read_text())
        if all(had.get(key) == facts[key] for key in ("model", "turns", "tokens", "needs")):
            new = {(row["contestant"], row["at_once"]) for row in rows}
            facts["rows"] = [row for row in had["rows"] if (row["contestant"], row["at_once"]) not in new] + rows
    file.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
