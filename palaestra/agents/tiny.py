"""A fresh, tiny Llama with a small tokenizer made of an environment's own texts: for tests, and many seeds on a CPU.

It knows nothing until it is trained. Everything follows from the texts and the seed.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from palaestra.agents.models import need_train, quiet, save_model
from palaestra.agents.template import CHATML
from palaestra.envs import BadInput, TextEnv, find, make
from palaestra.envs.data import cache_dir, cache_folder
from palaestra.envs.errors import MissingExtra

_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def make_tiny(
    texts: Iterable[str],
    path: str | Path,
    *,
    vocab: int = 2048,
    hidden: int = 192,
    layers: int = 4,
    heads: int = 4,
    context: int = 4096,
    seed: int = 0,
    name: str = "tiny",
) -> Path:
    """Write a fresh Llama (some 2 million parameters by default) with a byte-level BPE tokenizer and a ChatML template.

    Args:
        texts: what the tokenizer is trained on; any other text still encodes, in more ids.
        vocab: number of ids at the most, special ones included; at least 300.
        hidden, layers, heads: width, depth, attention heads; `heads` divides `hidden`.
        context: longest sequence, in ids.
        seed: of the weights.

    Returns:
        The folder, which `load_model` reads.

    Raises:
        BadInput: sizes that do not fit, or a folder that cannot be written. MissingExtra: `train`.
    """
    if vocab < 300 or hidden < heads or hidden % heads or (hidden // heads) % 2:
        raise BadInput(
            f"vocab {vocab}, hidden {hidden}, heads {heads}: vocab >= 300 and hidden = heads x an even number"
        )
    need_train()
    with quiet():
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

        tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=_tokenizer(texts, vocab),
            eos_token="<|im_end|>",
            pad_token="<|endoftext|>",
            additional_special_tokens=["<|im_start|>"],
            chat_template=CHATML,
            model_max_length=context,
            clean_up_tokenization_spaces=False,
        )
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=hidden * 8 // 3 // 8 * 8,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    save_model(model, tokenizer, path, name=name)
    return Path(path)


def env_texts(env_id: str, episodes: int = 20, seed: int = 0) -> list[str]:
    """Instructions, observations and actions of an environment, from its training tasks.

    The oracle acts, and where there is none (or on every other episode) admissible actions are drawn at random.

    Raises:
        BadInput: unknown environment. MissingExtra, EnvFault: it cannot run here.
    """
    spec = find(env_id)
    rng = random.Random(seed)
    tasks = spec.split(next(iter(spec.splits)))
    texts: list[str] = []
    env = make(spec.id)
    try:
        for episode in range(episodes):
            task = tasks[rng.randrange(len(tasks))]
            by_oracle = bool(spec.oracles) and (episode % 2 == 0 or not env.lists_actions)
            observation, info = env.reset(options={"task": task})
            texts += [env.instructions(task), observation]
            for _ in range(40):
                action = spec.oracle()(env) if by_oracle else _random_action(info["actions"], rng)
                observation, _, over, truncated, info = env.step(action)
                texts += [action, observation]
                if over or truncated:
                    break
    finally:
        env.close()
    return texts


def folder(env_id: str, *, seed: int = 0) -> Path:
    """The tiny model of an environment, made on the first call and kept in the user's cache.

    Raises:
        BadInput: no such environment, one that cannot be made without settings or data, or the cache cannot be written
            to. MissingExtra: `train`, or what the environment needs.
    """
    spec = find(env_id)
    try:
        env: TextEnv[Any] = make(spec.id)
    except MissingExtra:
        raise
    except BadInput as error:
        told = "cannot be made without settings or data"
        raise BadInput(
            f"tiny:{env_id}: a tiny model is made of an environment's own texts, and {spec.id} {told} ({error}); "
            "name an environment that can: tiny:ENV"
        ) from error
    key = hashlib.sha256(f"{spec.id} {env.fingerprint()} {seed}".encode()).hexdigest()[:8]
    env.close()
    target = cache_dir() / "models" / f"tiny-{spec.family}-{key}"
    if not os.path.isfile(target / "config.json"):
        cache_folder("models")  # told before the environment is played for its words
        make_tiny(env_texts(spec.id, seed=seed), target, seed=seed, name=f"tiny:{spec.family}")
    return target


def _random_action(actions: Sequence[str] | None, rng: random.Random) -> str:
    return rng.choice(list(actions)) if actions else "look around"


def _tokenizer(texts: Iterable[str], vocab: int) -> Any:  # a tokenizers.Tokenizer, which has no type stubs
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(_SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["system user assistant\n", *texts], trainer)
    return tokenizer
