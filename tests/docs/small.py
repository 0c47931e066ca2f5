"""The commands of the documents in small: run as the pages show them, with less of what is only much.

What a page names that is elsewhere (servers, a cluster) or large (a model, hundreds of tasks) is replaced by what is
here; everything else of a command stays, so that it is the page's own command that runs. Every command of a shell block
has a place in which it runs, or a reason why it does not: `place`.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    *(f"docs/{name}.md" for name in ("environments", "scale", "security", "serving", "strategies", "viewer", "vllm")),
    "docs/world-model.md",
)
"""Documents whose commands are run in small; those of all other pages run as they are."""

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

NOT_RUN = {
    r"palaestra data get (\w+)": "it fetches; tests/envs/test_data.py has it fetch from a server of its own",
    r"palaestra train webevolver ": "docs/methods/webevolver.md runs it in another environment",
    r"palaestra train eef --env tauairline ": "tests/envs/taubench/test_taubench_recorded.py reads such records",
    r"palaestra check worldmodel ": "tests/worldmodel/test_training.py checks a world model of smaller pages",
    r"palaestra .*--sandbox docker": "tests/envs/sandbox/test_docker_episodes.py does it in an engine of its own",
    r"palaestra eval tauretail .*openai:": "tests/docs/test_examples.py runs it against a server of its own",
    r"palaestra eval remote .*:8001": "tests/envs/serving/test_serving_openenv.py plays what OpenEnv serves",
    r"python3 dev\.py demo": "it takes a quarter of an hour; tests/cli/test_scripts.py runs it dry",
    r"python3 dev\.py test": "it is what runs here",
    r"pip install|apt-get ": "it installs; tests/test_package.py installs the wheel into an empty environment",
    r"python -m pytest ": "the tests of that file run as all do",
    r"python examples/trl_grpo\.py ": "tests/envs/serving/test_serving_openenv.py runs it with a tiny model",
}
"""Commands that do not run in small, and what runs in their place."""

SETTINGS = (
    *("--set env_settings.max_steps=3", "--set iterations=1", "--set objective.epochs=1"),
    *("--set evaluation.tasks=1", "--set sampling.max_tokens=4"),
)
"""What keeps a training small, beside its budget."""


def commands(page: str) -> list[str]:
    """The commands of a document's shell blocks, and the `palaestra` ones of its indented lines, each once."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [block for language, block in _BLOCK.findall(text) if not language]
    found += re.findall(r"^    (palaestra .*)$", text, re.MULTILINE)
    lines = [line.partition("  #")[0].strip() for block in found for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line))


def place(command: str) -> str:
    """Where it runs: `vllm`, `ray`, `here`; or why it does not."""
    for pattern, reason in NOT_RUN.items():
        if re.match(pattern, command):
            return reason
    if re.search(r"vllm:|engine=", command):
        return "vllm"
    return "ray" if "--ray" in command else "here"


TINY = {"docs/serving.md": "tiny:webshopsmall"}
"""The tiny model of the pages whose environment has no texts before it is served."""


def small(command: str, *, model: str = "tiny", url: str = "", cluster: str = "") -> str:
    """A command in small.

    Args:
        command: as the page shows it. model: what stands for its model. url: of a vLLM server to ask, in place of
            one that the command names or would start. cluster: of a Ray head.
    """
    changes = [
        (r"^(palaestra (?:eval|collect|train) (?!.*--tasks).*)$", r"\1 --tasks 2"),
        (r"^(palaestra worldmodel act .*)$", r"\1 --tasks 1 -s max_steps=3"),
        (r"--tasks \d+", "--tasks 1" if "scienceworld" in command else "--tasks 2"),
        (r"--budget \d+", "--budget 4"),
        (r"--seeds \d+", "--seeds 1"),
        (r"--horizons \d+", "--horizons 1"),
        (r"--calls \d+", "--calls 4"),
        (r"evaluation\.tasks=\d+", "evaluation.tasks=1"),
        (r"--replicas \d+ --replica-gpus \d+", "--replicas 1 --replica-gpus 0"),
        (r"--ray \S+", f"--ray {cluster}"),
        *((r"vllm:\S+", f"vllm:@{url}"), (r"engine=\S+", f"engine={url}")) * bool(url),
        (r"\b(smollm2-135m|MODEL)\b", model),
        (r"^(palaestra play .*)$", r"printf ':hint!\\n:undo\\n:quit\\n' | \1"),
        (r"\$\(openssl rand -hex 16\)", "0123456789abcdef" * 2),
        (r"^curl -s (\S+/reset .*)$", r"curl -sSf --noproxy '*' \1 | tee session.json"),
        (r"^curl -s ", "curl -sSf --noproxy '*' "),
        (r'"ID"', r'''"'$(sed 's/.*"session_id": *"\\([^"]*\\)".*/\\1/' session.json)'"'''),
    ]
    for pattern, change in changes:
        command = re.sub(pattern, change, command)
    if command.startswith("palaestra train ") and "--dry-run" not in command:
        settings = SETTINGS if "env_settings" not in command else SETTINGS[1:]
        command = " ".join([command, *(each for each in settings if each.split("=")[0] not in command)])
    elif command.startswith("palaestra compare "):
        command = " ".join([command, "--tokens 400", *SETTINGS[:2], *SETTINGS[3:]])
    elif command.startswith("palaestra worldmodel train "):
        command += " --set objective.epochs=1"
    elif re.match(r"palaestra (eval|collect) ", command) and re.search(r"--policy (?!oracle|flawed|random)", command):
        command += " --max-tokens 4 -s max_steps=3"
    return command


PREPARED = {
    "docs/viewer.md": ("palaestra collect bandit --policy random --tasks 2 --out runs/eef -q",),
}
"""What is there before the commands of a page, which speak of it."""


def words(command: str) -> list[str]:
    """What follows `palaestra`."""
    found = shlex.split(command.removesuffix(" &"))
    return found[found.index("palaestra") + 1 :]
