"""Chat templates of different kinds with small tokenizers, built here: what the transcript tests run over."""

from __future__ import annotations

from functools import cache

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMOLLM2 = (
    "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (  # puts the system message in front of the last user message, as Mistral 7B v0.3 does
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}{{ bos_token }}"
    "{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}{% if loop.last and system %}[INST] {{ system + '\n\n' + m['content'] }}[/INST]"
    "{% else %}[INST] {{ m['content'] }}[/INST]{% endif %}"
    "{% else %}{{ ' ' + m['content'] | trim + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
FORGETS_THINKING = (  # as Qwen3 and DeepSeek-R1 do
    "{% for m in messages %}{% set text = m['content'] %}{% if m['role'] == 'assistant' and '</think>' in text %}"
    "{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ text }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PROMPTS_THINKING = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
NO_END_OF_TURN = (
    "{% for m in messages %}### {{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}### assistant: {% endif %}"
)
LAST_ONLY = (
    "{% set m = messages[-1] %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n<|im_start|>assistant\n"
)
SHOUTS = CHATML.replace("{{ m['content'] }}", "{{ m['content'] | upper if m['role'] == 'user' else m['content'] }}")

_TEXTS = [
    "You are in the kitchen. You see a stove, a kettle and an open door to the hallway.",
    "look around\nopen door to kitchen\ngo to workshop\npour water into metal pot\nThought: I need it.\nAction: wait",
    "[INST] user assistant model system [/INST]  \n\n\t ünïcödé 漢字 🙂 {{ }} <b> & ' \" | _ ",
]

CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA3_TOKENS = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
MISTRAL_TOKENS = ("<unk>", "<s>", "</s>")
MISTRAL_CONTROL = (*MISTRAL_TOKENS, "[INST]", "[/INST]")
GEMMA_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")


@cache
def tokenizer(kind: str) -> PreTrainedTokenizerBase:
    """A tokenizer with its template. Kinds: those of `EXACT` and `REFUSED`."""
    template, tokens, pieces, bos, eos = _KINDS[kind]
    backend = _byte_level(tokens) if pieces == "bytes" else _pieces(tokens, first_blank=pieces == "blank")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=bos,
        eos_token=eos,
        pad_token=tokens[0],
        additional_special_tokens=[token for token in tokens if token not in (bos, eos, tokens[0])],
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


def _byte_level(tokens: tuple[str, ...]) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        _TEXTS,
        trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=list(tokens),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return made


def _pieces(tokens: tuple[str, ...], *, first_blank: bool) -> Tokenizer:
    """A SentencePiece-like tokenizer: blanks are "▁" and what is unknown falls back to bytes."""
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    if first_blank:  # Mistral: a blank goes in front of the whole text
        made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    else:  # Gemma
        made.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=[*tokens, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
        max_token_length=8,
    )
    made.train_from_iterator([line for text in _TEXTS for line in text.split("\n")], trainer)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if first_blank else steps)
    return made


_KINDS = {
    "chatml": (CHATML, CHATML_TOKENS, "bytes", None, "<|im_end|>"),
    "smollm2": (SMOLLM2, CHATML_TOKENS, "bytes", None, "<|im_end|>"),
    "llama3": (LLAMA3, LLAMA3_TOKENS, "bytes", "<|begin_of_text|>", "<|end_of_text|>"),
    "mistral": (MISTRAL, MISTRAL_TOKENS, "blank", "<s>", "</s>"),
    "mistral-control": (MISTRAL, MISTRAL_CONTROL, "blank", "<s>", "</s>"),
    "gemma": (GEMMA, GEMMA_TOKENS, "plain", "<bos>", "<eos>"),
    "forgets-thinking": (FORGETS_THINKING, CHATML_TOKENS, "bytes", None, "<|im_end|>"),
    "prompts-thinking": (PROMPTS_THINKING, CHATML_TOKENS, "bytes", None, "<|im_end|>"),
    "no-end-of-turn": (NO_END_OF_TURN, CHATML_TOKENS, "bytes", None, "<|im_end|>"),
    "last-only": (LAST_ONLY, CHATML_TOKENS, "bytes", None, "<|im_end|>"),
    "shouts": (SHOUTS, CHATML_TOKENS, "bytes", None, "<|im_end|>"),
}
EXACT = ("chatml", "smollm2", "llama3", "mistral", "mistral-control", "gemma")
REFUSED = {
    "forgets-thinking": "drops the thinking",
    "prompts-thinking": "generation prompt ends in",
    "no-end-of-turn": "does not end an assistant's turn with a special token",
    "last-only": "drops, repeats, changes or moves",
    "shouts": "drops, repeats, changes or moves",
}
