"""Policies by name, as `--policy` takes them.

random                        an admissible action at random
oracle, oracle:NAME           the environment's expert
flawed:SLIP, flawed:SLIP:NAME the expert, but with this probability another admissible action
human                         a person at the terminal
openai:MODEL@URL              a model behind an OpenAI-compatible server (its key in $OPENAI_API_KEY)
vllm:MODEL                    a model in a vLLM server that is started for it, and ends with this process
vllm:MODEL@URL,URL,...        a model behind vLLM servers that run (their key in $VLLM_API_KEY); vllm:@URL: their first
anything else                 a model in this process: short name, folder or hub id
"""

from __future__ import annotations

import re
from pathlib import Path

from palaestra.agents.policies.human import HumanPolicy
from palaestra.agents.policies.oracle import OraclePolicy, flawed
from palaestra.agents.policies.random import RandomPolicy
from palaestra.agents.policy import Policy, Sampling, must_fit
from palaestra.envs import BadInput, EnvSpec

_AT_LEAST, _AT_MOST = 32, 1024
"""Requests that an OpenAI-compatible server is asked at once: few episodes ask for as many as the least where one of
them asks for several answers, and each takes a thread."""


def policy_by_name(
    name: str,
    spec: EnvSpec,
    sampling: Sampling | None = None,
    *,
    constrain: bool = False,
    batch_size: int = 16,
    concurrency: int = 16,
) -> Policy:
    """Make a policy for an environment.

    Args:
        name: see above.
        spec: the environment it will act in.
        sampling: how a model samples; the others have nothing to sample.
        constrain: a model in this process or behind vLLM writes admissible actions only.
        batch_size: requests that a model in this process runs together.
        concurrency: episodes at once that it will act in; servers are asked at least so many requests at once (one that
            is no vLLM at most 1,024).

    Raises:
        BadInput: an unknown name or one that is no text, an oracle that is not there, a slip that is no probability, or
            answers that leave no room for a prompt.
    """
    _is_text(name)
    kind, _, rest = name.partition(":")
    simple = kind in ("random", "oracle", "flawed", "human", "openai")
    if constrain and simple:
        raise BadInput(f"--constrain is for models in this process or behind vLLM, not for {name!r}")
    if kind == "oracle":
        return OraclePolicy(spec, rest or None)
    if kind == "flawed":
        slip, oracle = flaws(rest, name)
        return flawed(OraclePolicy(spec, oracle), slip)
    if kind in ("random", "human"):
        if rest:
            raise BadInput(f"policy {name!r}: {kind!r} takes nothing after the colon")
        return RandomPolicy() if kind == "random" else HumanPolicy()
    if kind == "openai":
        return _openai(name, rest, sampling, concurrency)
    if kind == "vllm":
        return _vllm(name, rest, spec, sampling, constrain, concurrency)
    from palaestra.agents.models import need_train

    need_train()
    from palaestra.agents.policies.hf import HFPolicy

    policy = HFPolicy(model_name(name, spec), sampling=sampling, batch_size=batch_size, constrain=constrain)
    must_fit(sampling, policy.prompt_limit, policy.name)
    return policy


def model_name(name: str, spec: EnvSpec) -> str:
    """The name of a model in this process, written out.

    A run directory stands for the newest weights it holds (of `palaestra worldmodel train` its world model), `tiny` for
    a tiny model of this environment's own texts; every other name stands for itself. Raises BadInput for a run without
    weights, and for what is no text.
    """
    _is_text(name)
    if name == "tiny":
        return f"tiny:{spec.id}"
    folder = Path(name).expanduser()
    if not (folder / "run.json").is_file():
        return name
    numbered = [
        path for path in folder.glob("iteration-*/model") if re.fullmatch(r"iteration-[0-9]+", path.parent.name)
    ]
    done = [path for path in numbered if (path / "config.json").is_file()]
    if not numbered and (folder / "model" / "config.json").is_file():
        return str(folder / "model")
    if not done:
        raise BadInput(f"{name} is a run that has not trained a model yet; name a model, or finish the run")
    return str(max(done, key=lambda path: int(path.parent.name.partition("-")[2])))


def _is_text(name: object) -> None:
    if not isinstance(name, str):
        raise BadInput(f"a policy or model is named by a text, not by {type(name).__name__} {name!r:.80}")


def flaws(text: str, whole: str) -> tuple[float, str | None]:
    """Read `SLIP` or `SLIP:NAME`: the probability, and the oracle's name or None. Raises BadInput, naming `whole`."""
    slip, _, oracle = text.partition(":")
    try:
        return float(slip), oracle or None
    except ValueError:
        raise BadInput(f"{whole!r} needs a probability after 'flawed:', such as flawed:0.3") from None


def _openai(name: str, rest: str, sampling: Sampling | None, concurrency: int) -> Policy:
    from palaestra.agents.policies.openai import OpenAIPolicy

    model, at, url = rest.partition("@")
    if not (model and at and url):
        raise BadInput(
            f"policy {name!r} is not of the form openai:MODEL@URL, such as openai:qwen@http://localhost:8000/v1"
        )
    each = min(max(concurrency, _AT_LEAST), _AT_MOST)
    return OpenAIPolicy(url, model, sampling=sampling, concurrency=each)


def _vllm(name: str, rest: str, spec: EnvSpec, sampling: Sampling | None, constrain: bool, concurrency: int) -> Policy:
    from palaestra.agents.policies.vllm import VLLMPolicy
    from palaestra.agents.policies.vllm_serving import at_once, engine_for

    model, at, told = rest.partition("@")
    if at and told:
        urls = [url.strip() for url in told.split(",")]
        if "" in urls and len(urls) > 1:  # the name is not shown: it may hold a password
            raise BadInput("policy 'vllm:...@URL,URL' has a comma too many: beside one of its commas is no URL")
        each = at_once(concurrency, len(urls))
        return VLLMPolicy(*urls, model=model or None, sampling=sampling, constrain=constrain, concurrency=each)
    if at or not model:
        raise BadInput(
            f"policy {name!r} is not of the form vllm:MODEL or vllm:MODEL@URL, such as vllm:smollm2-135m or "
            "vllm:qwen@http://localhost:8000"
        )
    engine = engine_for(model_name(model, spec), concurrency)
    return VLLMPolicy(engine, sampling=sampling, constrain=constrain)
