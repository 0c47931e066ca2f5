"""Reads HTML as a browser would, with the standard library's parser: visible texts, forms, links and radio buttons."""

from __future__ import annotations

import hashlib
from html.parser import HTMLParser

from palaestra.envs.webshop.pages import Role, Words, visible

_EMPTY = {"meta", "link", "img", "br", "hr", "input"}
_UNSEEN = {"script", "style", "title", "head", "html"}


def digest(text: str) -> str:
    """As in `recorded.jsonl`."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Read(HTMLParser):
    """What stands in a page.

    Attributes:
        words: its visible texts.
        forms: text of a form's button -> address.
        links: text of a link -> address.
        options: (name, value) of a radio button -> its attributes.
        loaded: addresses of style sheets, scripts and pictures.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[Words] = []
        self.forms: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.options: dict[tuple[str, str], dict[str, str | None]] = {}
        self.loaded: list[str] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._end()
        found = dict(attrs)
        if tag == "input" and found.get("type") == "radio":
            self.options[str(found["name"]), str(found["value"])] = found
        if tag in ("img", "script", "link") and (where := found.get("src") or found.get("href")):
            self.loaded.append(where)
        if tag not in _EMPTY:
            self._open.append((tag, found))

    def handle_endtag(self, tag: str) -> None:
        self._end()
        if tag in [each for each, _ in self._open]:
            while self._open.pop()[0] != tag:
                pass

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_comment(self, data: str) -> None:
        self._end()

    def _end(self) -> None:
        text, self._text = self._text, ""
        if not text or not self._open or self._open[-1][0] in _UNSEEN:
            return
        tag, attributes = self._open[-1]
        role = Role.PLAIN
        if tag == "button":
            role = Role.BUTTON
            self.forms[text] = str(next(found for each, found in reversed(self._open) if each == "form")["action"])
        elif tag == "label":
            role = Role.OPTION
        elif tag == "a":
            role = Role.PRODUCT
            self.links[text] = str(attributes["href"])
        self.words.append(Words(text, role))


def read(html: str) -> Read:
    """Read a page."""
    reader = Read()
    reader.feed(html)
    reader.close()
    return reader


def read_words(html: str) -> list[Words]:
    """The visible texts of a page."""
    return visible(read(html).words)
