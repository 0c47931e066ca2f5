"""Texts of environments, models and files where they could steer what shows them: a terminal, a report, Markdown."""

from __future__ import annotations

import unicodedata


def plain(text: str) -> str:
    """The text with everything written out that a terminal would obey or not show (escapes, lone surrogates, signs that
    turn the order of letters round, ...); line ends, tabs and blanks of all widths stay."""
    if text.isprintable():
        return text
    return "".join(_shown(sign) for sign in text.replace("\r\n", "\n"))


def _shown(sign: str) -> str:
    if sign.isprintable() or sign in "\n\t" or unicodedata.category(sign) == "Zs":
        return sign
    return sign.encode("unicode_escape").decode("ascii")
