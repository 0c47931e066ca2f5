"""The frame of a report: one HTML file that needs nothing else, opens by file://, dark and light, and runs no script.

All that comes from a run (names, instructions, settings) enters through `text`, which escapes it; a policy in the page
forbids scripts, and everything from elsewhere, whatever it says.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from palaestra.agents.plain import plain

_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--panel:#f6f7f9;--ink:#1d2230;--soft:#5d6676;--rule:#dde1e8;
--one:#2b5fc4;--two:#b4530a;--won:#187a48;--bad:#c02f3a;--fill:#2b5fc422}
@media(prefers-color-scheme:dark){:root{--paper:#12151c;--panel:#1a1f29;--ink:#e7eaf0;--soft:#9aa4b5;--rule:#2c3340;
--one:#7aa7ff;--two:#f0a05a;--won:#5fc98f;--bad:#ff7b85;--fill:#7aa7ff2e}}
*{box-sizing:border-box}
body{font:15px/1.55 system-ui,sans-serif;max-width:76rem;margin:0 auto;padding:2rem 1.2rem 4rem;background:var(--paper);
color:var(--ink);overflow-wrap:break-word}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .3rem}h2{font-size:1.1rem;margin:2.4rem 0 .6rem}
p{max-width:60rem}.soft,figcaption,small{color:var(--soft)}
.facts{display:flex;flex-wrap:wrap;gap:.8rem;margin:1.2rem 0}
.facts div{background:var(--panel);border:1px solid var(--rule);border-radius:8px;padding:.6rem .9rem;min-width:8rem}
.facts b{display:block;font-size:1.35rem;font-variant-numeric:tabular-nums}
.facts span{color:var(--soft);font-size:.85rem}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,21rem),1fr));gap:1rem}
figure{margin:0;background:var(--panel);border:1px solid var(--rule);border-radius:8px;padding:.7rem .8rem .5rem}
figure.wide{margin:.8rem 0}figcaption{font-size:.85rem;margin-bottom:.3rem}figcaption b{color:var(--ink)}
svg{display:block;width:100%;height:auto;font:11px system-ui,sans-serif;fill:var(--soft)}
figure.wide svg{max-width:54rem;min-width:36rem}
svg .name{fill:var(--ink);font-size:12px}svg .figure{fill:var(--ink);font-size:11px}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.4rem 0}
th,td{padding:.32rem .8rem .32rem 0;border-bottom:1px solid var(--rule);text-align:left;vertical-align:top}
th{font-weight:600;color:var(--soft);font-size:.85rem}
td.number,th.number{text-align:right}.number,td.short{white-space:nowrap}
details{margin:.5rem 0}summary{cursor:pointer}
code{font-size:.9em;background:var(--panel);padding:.1rem .3rem;border-radius:4px}
pre{white-space:pre-wrap}a{color:var(--one)}
@media print{figure,.facts div{break-inside:avoid}}
"""
_SHORT = 28
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def text(value: object) -> str:
    """Anything as text of the page: nothing in it is markup, and what steers or cannot be shown is written out."""
    return html.escape(plain(str(value)), quote=True)


def page(title: str, lead: str, body: Iterable[str]) -> bytes:
    """The whole file.

    Args:
        title: as it is, unescaped. lead: what stands below it, as it is.
        body: HTML, escaped where it must be.
    """
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{text(title)}</title>'
        f"<style>{_STYLE}</style>"
    )
    parts = "\n".join(part for part in body if part)
    start = f'<h1>{text(title)}</h1><p class="soft">{text(lead)}</p>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{start}\n{parts}\n</body></html>\n'.encode()


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """A row of figures with their names below."""
    return (
        '<div class="facts">'
        + "".join(f"<div><b>{text(value)}</b><span>{text(name)}</span></div>" for name, value in pairs)
        + "</div>"
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table of texts; the columns `numbers` are set right. It scrolls by itself on a narrow screen."""

    def row(cells: Sequence[str], tag: str) -> str:
        kinds = ["number" if place in numbers else "short" if len(c) <= _SHORT else "" for place, c in enumerate(cells)]
        told = (f'<{tag} class="{kind}">{text(c)}</{tag}>' for c, kind in zip(cells, kinds, strict=True))
        return f"<tr>{''.join(told)}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return f'<div class="scroll"><table><thead>{row(heads, "th")}</thead><tbody>{body}</tbody></table></div>'


def folded(title: str, inside: str) -> str:
    """What is seen only when one opens it. `inside` is HTML."""
    return f"<details><summary>{text(title)}</summary>{inside}</details>"


def figure(title: str, what: str, svg: str, *, wide: bool = False) -> str:
    """A plot with what it shows above it."""
    told = f"<b>{text(title)}</b> {text(what)}" if what else f"<b>{text(title)}</b>"
    kind = ' class="wide"' if wide else ""
    drawn = f'<div class="scroll">{svg}</div>' if wide else svg
    return f"<figure{kind}><figcaption>{told}</figcaption>{drawn}</figure>"


def markdown_cell(value: str) -> str:
    """A text as a cell of a Markdown table: no bar, line end, element, link or picture of it counts."""
    flat = " ".join(plain(value).split("\n")).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return flat.replace("](", "]\\(").strip()


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [list(map(markdown_cell, heads)), ["---"] * len(heads), *(list(map(markdown_cell, row)) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
