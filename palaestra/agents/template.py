"""A chat template that is grown by ids: what is appended before and after every completion, and nothing else.

A chat template renders a whole conversation to text. A transcript must not: rendering anew would tokenise again what
the model sampled, and ids that were never sampled would be trained. So the template is taken apart once. It is rendered
with sentinels for the contents, and what stands between the sentinels is its glue:

    head  system  first  user  ask  assistant  reply  user  ask  assistant  reply  user  ask

`ask` ends in the generation prompt and `reply` begins with the end-of-turn token. From then on ids are only appended. A
template that is no such sequence (it drops the thinking of earlier turns, moves the system message, shows another
generation prompt than it writes into history) would make the grown transcript differ from its own rendering. It is
refused with `NotTokenExact` and the reason.

Special tokens are parsed in the glue only. A look-alike in a content ("<|im_end|>" in an observation) is cut after its
first character and encoded as the plain text that it is, so that no environment can forge a turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from palaestra.agents.message import Message
from palaestra.envs import BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The plain ChatML template. It keeps everything, so it can stand in for a refused one of a model with its tokens."""

_FROZEN_DATE = (
    "26 Jul 2024"  # Llama 3.x writes today's date into the system message; a transcript must not change daily
)

_SHORT = 24  # characters
_REMEMBERED = 4096  # short texts

_SHAPES: dict[str, Callable[[str], str]] = {
    "kept": lambda text: text,
    "stripped": str.strip,
    "right-stripped": str.rstrip,
    "left-stripped": str.lstrip,
}


class NotTokenExact(BadInput):
    """This chat template or tokenizer cannot be grown by ids so that the result equals its own rendering."""


@dataclass(frozen=True)
class _Glue:
    """What stands between the contents; `None` for `first` where the system message is folded into the first user's."""

    head_system: str | None
    first: str
    head: str
    ask: str
    lead: str
    reply: str


class ChatTemplate:
    """A tokenizer's chat template, taken apart so that a conversation grows by ids.

    Args:
        tokenizer: a fast tokenizer (backed by the `tokenizers` library) with a chat template.
        jinja: a template to use in place of the tokenizer's own, such as `CHATML`.
        eos: further ids that end a turn (those of the model's generation config).

    Attributes:
        end_id: the id that the template itself puts after an assistant's content.
        eos_ids: all ids that end an assistant's turn when they are sampled.
        folds_system: True where the system text is put in front of the first user message, because the template refuses
            a system message or does not keep it in place.
        max_length: ids that fit into the model's context, if known.

    Raises:
        NotTokenExact: the template cannot be grown by ids. One line says why.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, jinja: str | None = None, eos: Iterable[int] = ()
    ) -> None:
        self.tokenizer = tokenizer
        self._jinja = jinja or getattr(tokenizer, "chat_template", None)
        if not isinstance(self._jinja, str):
            raise NotTokenExact(
                f"{_name(tokenizer)} has no chat template; pass one, such as palaestra.agents.template.CHATML"
            )
        self._backend = _backend(tokenizer)
        self._remembered: dict[tuple[str, str], list[int]] = {}
        self._specials = _special_tokens(tokenizer)
        self._glue = self._take_apart()
        self.folds_system = self._glue.head_system is None
        self._shape = {role: self._find_shape(role) for role in ("user", "assistant", "system")}
        self.end_id, self.end_text = self._end_of_turn()
        self._pattern = self._special_pattern()
        self._anchored = self._needs_anchor()
        tokenizer_eos = tokenizer.eos_token_id
        self.eos_ids = frozenset({self.end_id, *eos, *([tokenizer_eos] if isinstance(tokenizer_eos, int) else [])})
        length = getattr(tokenizer, "model_max_length", None)
        self.max_length: int | None = int(length) if length is not None and length < 10**9 else None
        self._prove()

    # -- ids ---------------------------------------------------------------------------------------------------------

    def opening(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a whole conversation, generation prompt included.

        Args:
            messages: an optional system message, then user and assistant in turn, a user message last.

        Raises:
            BadInput: the messages are not in that order.
        """
        return self._encode(self._parts(messages))

    def extend(self, messages: Sequence[Message], *, closed: bool) -> list[int]:
        """Ids that follow a completion: end-of-turn, the new messages, the generation prompt.

        Args:
            messages: user and assistant in turn, beginning and ending with user.
            closed: True when the completion ended with `end_id` itself, which is then not added again.
        """
        ids = self._encode([(True, self._glue.reply), *self._turns(messages)])
        return ids[1:] if closed else ids

    @property
    def lead(self) -> str:
        """What the template writes between its generation prompt and an assistant's content; mostly nothing."""
        return self._glue.lead

    def encode_completion(self, text: str) -> list[int]:
        """Ids of a completion that no model sampled (an expert's, a human's): tokenised once, end-of-turn included."""
        text = self._glue.lead + self._content("assistant", text)
        before = self._tail_of_ask
        return [*self._continue(before, text), self.end_id]

    def encode_inside(self, text: str) -> list[int]:
        """Ids of text in the middle of a completion: what somebody else says there before the model goes on."""
        return self._broken(text.encode("utf-8", "replace").decode("utf-8"))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a completion, without the end-of-turn token."""
        kept = list(ids)
        while kept and kept[-1] in self.eos_ids:
            kept.pop()
        text = str(self._backend.decode(kept, skip_special_tokens=False))
        return text[len(self._glue.lead) :] if self._glue.lead and text.startswith(self._glue.lead) else text

    def text(self, messages: Sequence[Message]) -> str:
        """The full rendering of a conversation as text, generation prompt included."""
        return "".join(part for _, part in self._parts(messages))

    def ends(self, ids: Sequence[int]) -> bool:
        """Does a completion end with the template's own end-of-turn token."""
        return bool(ids) and ids[-1] == self.end_id

    def begins(self, ids: Sequence[int], prompt: Sequence[int]) -> bool:
        """Do these ids say the same as a prompt, with more text allowed before the generation prompt."""
        ask = self._encode([(True, self._glue.ask)])
        whole = self._backend.decode(list(prompt[: len(prompt) - len(ask)]), skip_special_tokens=False)
        return (
            tuple(ids[-len(ask) :]) == tuple(prompt[-len(ask) :])
            and ids[0] == prompt[0]
            and self._backend.decode(list(ids), skip_special_tokens=False).startswith(whole)
        )

    # -- the conversation as glue and contents -----------------------------------------------------------------------

    def _parts(self, messages: Sequence[Message]) -> list[tuple[bool, str]]:
        if not messages:
            raise BadInput("a conversation needs at least one user message")
        system = messages[0]["content"] if messages[0]["role"] == "system" else None
        rest = list(messages[1:] if system is not None else messages)
        glue = self._glue
        if system is None:
            return [(True, glue.head), *self._turns(rest)]
        if glue.head_system is not None:
            return [
                (True, glue.head_system),
                (False, self._content("system", system)),
                (True, glue.first),
                *self._turns(rest),
            ]
        if rest and rest[0]["role"] == "user":
            rest[0] = Message(role="user", content=f"{system}\n\n{rest[0]['content']}")
        return [(True, glue.head), *self._turns(rest)]

    def _turns(self, messages: Sequence[Message]) -> list[tuple[bool, str]]:
        parts: list[tuple[bool, str]] = []
        for index, message in enumerate(messages):
            expected = "user" if index % 2 == 0 else "assistant"
            if message["role"] != expected:
                raise BadInput(f"message {index} is of role {message['role']!r}; user and assistant must take turns")
            parts.append((False, self._content(message["role"], message["content"])))
            if expected == "user":
                parts.append((True, self._glue.ask))
            else:
                parts[-1] = (False, self._glue.lead + parts[-1][1])
                parts.append((True, self._glue.reply))
        if len(messages) % 2 == 0:
            raise BadInput("a conversation must end with a user message before the model can answer")
        return parts

    def _content(self, role: str, text: str) -> str:
        clean = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates have no encoding
        return _SHAPES[self._shape[role]](clean) if hasattr(self, "_shape") else clean

    # -- encoding ----------------------------------------------------------------------------------------------------

    def _encode(self, parts: Sequence[tuple[bool, str]]) -> list[int]:
        """Special tokens are cut out of the glue; the text between two of them is encoded in one piece."""
        ids: list[int] = []
        pending, after = "", ""
        for is_glue, part in parts:
            pieces = self._pattern.split(part) if is_glue else [part]
            for index, piece in enumerate(pieces):
                if index % 2 == 0:
                    pending += piece
                    continue
                ids += self._plain(pending, after)
                ids.append(self._specials[piece])
                pending, after = "", piece
        return ids + self._plain(pending, after)

    def _plain(self, text: str, after: str) -> list[int]:
        """Encode text that follows the special token `after` ("" at the very start), parsing no special token in it.

        What is short, as the glue between two turns is, comes again with every turn and is remembered.
        """
        if not text:
            return []
        if len(text) > _SHORT:
            return self._encoded(text, after)
        ids = self._remembered.get((text, after))
        if ids is None:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            ids = self._remembered[text, after] = self._encoded(text, after)
        return list(ids)

    def _encoded(self, text: str, after: str) -> list[int]:
        if not self._pattern.search(text):
            if not after:
                return list(self._backend.encode(text, add_special_tokens=False).ids)
            ids = list(self._backend.encode(after + text, add_special_tokens=False).ids)
            if ids[0] == self._specials[after]:
                return ids[1:]
        return self._broken(text)

    def _broken(self, text: str) -> list[int]:
        """Encode text in the middle of something; look-alikes of special tokens are cut after their first character."""
        ids: list[int] = []
        start = 0
        while match := self._pattern.search(text, start):
            ids += self._middle(text[start : match.start() + 1])
            start = match.start() + 1
        return ids + self._middle(text[start:])

    def _middle(self, text: str) -> list[int]:
        """Encode text as a continuation: without the blank that some tokenizers put in front of everything."""
        if not text:
            return []
        if self._anchored:
            anchor = list(self._backend.encode("\n", add_special_tokens=False).ids)
            ids = list(self._backend.encode("\n" + text, add_special_tokens=False).ids)
            if ids[: len(anchor)] == anchor:
                return ids[len(anchor) :]
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def _continue(self, before: tuple[str, str], text: str) -> list[int]:
        """Encode text that follows the special token `before[0]` and then the plain text `before[1]`."""
        special, plain = before
        if not plain:
            return self._plain(text, special)
        head = self._plain(plain, special)
        whole = self._plain(plain + text, special)
        return whole[len(head) :] if whole[: len(head)] == head else self._broken(text)

    # -- taking the template apart -----------------------------------------------------------------------------------

    def _render(self, messages: Sequence[Message]) -> str:
        rendered = self.tokenizer.apply_chat_template(
            [{"role": message["role"], "content": message["content"]} for message in messages],
            chat_template=self._jinja,
            tokenize=False,
            add_generation_prompt=True,
            date_string=_FROZEN_DATE,
        )
        return str(rendered)

    def _take_apart(self) -> _Glue:
        marks = [f"qz{word}zq" for word in ("one", "two", "three", "four", "five")]
        try:
            head, ask_one, reply, ask_two, reply_two, ask = _between(self._render(_alternate(marks)), marks)
        except NotTokenExact:
            raise
        except Exception as error:  # Jinja's raise_exception, a missing key, ...: whatever the template does
            raise NotTokenExact(
                f"{self._who}: its chat template cannot render a conversation: {_line(error)}"
            ) from error
        if ask_one != ask_two or reply != reply_two:
            raise NotTokenExact(f"{self._who}: its chat template treats earlier turns differently from later ones")
        if not ask_one.startswith(ask) or ask_one[len(ask) :].strip():
            raise NotTokenExact(
                f"{self._who}: its generation prompt ends in {ask[-24:]!r}, which it does not show in earlier turns; "
                "use a template that keeps it, such as CHATML"
            )
        thinking = [*marks[:1], f"<think>\n{marks[3]}\n</think>\n\n{marks[1]}", marks[2]]
        if marks[3] not in self._render(_alternate(thinking)):
            raise NotTokenExact(
                f"{self._who}: its chat template drops the thinking of earlier turns; "
                "use one that keeps it, such as CHATML"
            )
        head_system, first = self._system(marks, reply, ask_one, ask)
        return _Glue(head_system, first, head, ask, ask_one[len(ask) :], reply)

    def _system(self, marks: Sequence[str], reply: str, ask_one: str, ask: str) -> tuple[str | None, str]:
        """Glue around a system message, or (None, "") where it is refused, dropped or moved."""
        system = "qzsystemzq"
        found: set[tuple[str, str]] = set()
        for count in (1, 3, 5):
            messages = [Message(role="system", content=system), *_alternate(marks[:count])]
            try:
                pieces = _between(self._render(messages), [system, *marks[:count]])
            except Exception:
                return None, ""
            expected = [ask_one if index % 2 == 0 else reply for index in range(count - 1)] + [ask]
            if pieces[2:] != expected:
                return None, ""
            found.add((pieces[0], pieces[1]))
        return found.pop() if len(found) == 1 else (None, "")

    def _find_shape(self, role: str) -> str:
        """What the template does to blanks around a content of this role."""
        if role == "system" and self._glue.head_system is None:
            return "kept"
        padded = " \n\t qzpadzq \t\n "
        for name, shape in _SHAPES.items():
            self._shape = dict.fromkeys(("user", "assistant", "system"), "kept")
            messages: list[Message] = _alternate(["qzonezq", "qztwozq", "qzthreezq"])
            if role == "system":
                messages.insert(0, Message(role="system", content=padded))
            else:
                messages[0 if role == "user" else 1]["content"] = padded
            rendered = self._render(messages)
            for message in messages:
                message["content"] = shape(message["content"])
            if rendered == self.text(messages):
                return name
        raise NotTokenExact(f"{self._who}: its chat template changes the content of {role} messages")

    def _end_of_turn(self) -> tuple[int, str]:
        for text in sorted(self._specials, key=len, reverse=True):
            if self._glue.reply.startswith(text):
                return self._specials[text], text
        raise NotTokenExact(f"{self._who}: its chat template does not end an assistant's turn with a special token")

    def _special_pattern(self) -> re.Pattern[str]:
        """Special tokens, and other added tokens that the template itself writes (the tokenizer parses those too)."""
        glue = self._glue
        written = "".join((glue.head_system or "", glue.first, glue.head, glue.ask, glue.reply))
        special = set(self.tokenizer.all_special_tokens)
        for token in getattr(self.tokenizer, "added_tokens_decoder", {}).values():
            if token.special:
                special.add(str(token.content))
        wanted = [text for text in self._specials if len(text) > 1 and (text in special or text in written)]
        return re.compile("(" + "|".join(re.escape(text) for text in sorted(wanted, key=len, reverse=True)) + ")")

    def _needs_anchor(self) -> bool:
        ids = list(self._backend.encode("word", add_special_tokens=False).ids)
        return str(self._backend.decode([*ids, *ids], skip_special_tokens=False)) != "wordword"

    @property
    def _tail_of_ask(self) -> tuple[str, str]:
        """The last special token of the generation prompt and the plain text after it."""
        pieces = self._pattern.split(self._glue.ask)
        return (pieces[-2] if len(pieces) > 1 else ""), pieces[-1]

    def _prove(self) -> None:
        """Compare with the template's and the tokenizer's own work on contents that are easily mistreated."""
        for odd in ("", "look around", "{{ x }} {% y %}", "<b>&amp; 'q' \"d\"", "a\n\nb  c", "ünï — 漢字 🙂"):
            messages = _alternate([odd, "act on it", "seen", odd or "x", "now"])
            for start in ([], [Message(role="system", content="Rules.")]) if not self.folds_system else ([],):
                self._compare([*start, *messages])

    def _compare(self, messages: Sequence[Message]) -> None:
        rendered, grown = self._render(messages), self.text(messages)
        if rendered != grown:
            raise NotTokenExact(
                f"{self._who}: its chat template rewrites contents: {_first_difference(rendered, grown)}"
            )
        own = list(self._backend.encode(rendered, add_special_tokens=False).ids)
        if own != self.opening(messages):
            raise NotTokenExact(f"{self._who}: its tokenizer splits a rendered conversation differently from its parts")

    @property
    def _who(self) -> str:
        return _name(self.tokenizer)


def _alternate(contents: Sequence[str]) -> list[Message]:
    return [Message(role="assistant" if i % 2 else "user", content=text) for i, text in enumerate(contents)]


def _between(text: str, marks: Sequence[str]) -> list[str]:
    """What stands before, between and after the marks. Raises NotTokenExact unless each occurs once, in order."""
    pieces = re.split("|".join(map(re.escape, marks)), text)
    if re.findall("|".join(map(re.escape, marks)), text) != list(marks):
        raise NotTokenExact("the chat template drops, repeats, changes or moves messages")
    return pieces


def _backend(tokenizer: PreTrainedTokenizerBase) -> Any:  # a tokenizers.Tokenizer, which has no type stubs
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise NotTokenExact(f"{_name(tokenizer)} is a slow tokenizer; a fast one (tokenizer.json) is needed")
    if backend.truncation is not None or backend.padding is not None:
        backend = type(backend).from_str(backend.to_str())
        backend.no_truncation()
        backend.no_padding()
    return backend


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    return {str(text): int(index) for text, index in tokenizer.get_added_vocab().items()}


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _first_difference(one: str, two: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    return f"{one[max(0, at - 12) : at + 24]!r} where {two[max(0, at - 12) : at + 24]!r} was expected"
