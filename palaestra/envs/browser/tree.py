"""What an agent sees of a page: the accessibility tree as text, one element a line, with numbers to act on.

    [1] RootWebArea 'Opening hours' focused
        [2] link 'Home'
        [3] textbox 'Search' value: 'owls'

A name or value stands in single quotes, one with an apostrophe in double ones. Numbers count the lines of this one
observation. Lines without a name or a use of their own are left out and their children moved up; a text that only
repeats the name of its element is, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Node = Mapping[str, Any]
"""An AXNode of the DevTools protocol (Accessibility.AXNode)."""

LONGEST_NAME = 400
"""Characters of a name or value that are shown."""

DEEPEST = 300
"""Levels of a page's tree that are read; a line says how many elements lie below."""

_NEVER = {"InlineTextBox", "LineBreak", "none", "ListMarker"}
_ONLY_NAMED = {
    "generic",
    "form",
    "paragraph",
    "group",
    "GenericContainer",
    "MenuListPopup",
    "LayoutTable",
    "LayoutTableRow",
    "LayoutTableCell",
    "Section",
    "DescriptionListTerm",
    "LabelText",
    "Legend",
    "rowgroup",
    "IframePresentational",
    "image",
    "strong",
    "emphasis",
    "mark",
}
_LEAVES = {"textbox", "searchbox", "button", "option", "Date", "DateTime", "InputTime", "ColorWell", "slider", "link"}
_FIELDS = {"radio", "checkbox", "textbox", "searchbox", "combobox", "spinbutton", "slider", "switch", "listbox"}
_FIELDS |= {"Date", "DateTime", "InputTime", "ColorWell"}
_FLAGS = ("focused", "disabled", "required", "readonly")
_STATES = ("checked", "selected", "expanded", "pressed")


@dataclass
class Element:
    """A line of the tree.

    Attributes:
        role, name, value: as the accessibility tree has them.
        states: further words, such as "focused" or "checked: true".
        backend: the node's id in the DevTools protocol, to act on.
        children: the lines below it.
        number: what the agent calls it; 0 before it has one.
    """

    role: str
    name: str
    value: str
    states: tuple[str, ...]
    backend: int | None
    children: list[Element] = field(default_factory=list)
    number: int = 0

    def line(self, depth: int) -> str:
        """As it is shown."""
        parts = [f"[{self.number}]", self.role]
        if self.name:
            parts.append(_quoted(self.name))
        if self.value:
            parts.append(f"value: {_quoted(self.value)}")
        return "\t" * depth + " ".join([*parts, *self.states])


def elements(nodes: Sequence[Node], frames: Mapping[int, Sequence[Node]]) -> list[Element]:
    """The tree of a page.

    Args:
        nodes: of the page itself.
        frames: backend id of a frame's element -> the nodes in it.
    """
    by_id = {str(node["nodeId"]): node for node in nodes}
    roots = [node for node in nodes if node.get("parentId") is None]
    made: list[Element] = []
    for root in roots:
        made += _element(root, by_id, frames, 0)
    return made


def render(tree: Sequence[Element], limit: int) -> tuple[str, list[Element]]:
    """Number the elements and write them down.

    Args:
        limit: characters at most; what is longer ends with a line that says how many elements are not shown.

    Returns:
        The text, and the elements in the order of their numbers, the first being 1.
    """
    numbered: list[Element] = []
    lines: list[str] = []
    size = hidden = 0
    stack = [(element, 0) for element in reversed(tree)]
    while stack:
        element, depth = stack.pop()
        element.number = len(numbered) + 1
        line = element.line(min(depth, 20))
        if hidden or size + len(line) > limit:
            hidden += 1
        else:
            numbered.append(element)
            lines.append(line)
            size += len(line) + 1
        stack += [(child, depth + 1) for child in reversed(element.children)]
    if hidden:
        lines.append(f"({hidden} more elements are not shown)")
    return "\n".join(lines), numbered


def _element(node: Node, by_id: Mapping[str, Node], frames: Mapping[int, Sequence[Node]], depth: int) -> list[Element]:
    """The lines of a node: one with its children below, or its children alone where it has none of its own."""
    role = str(node.get("role", {}).get("value", ""))
    if role in _NEVER and not node.get("ignored"):
        return []
    children: list[Element] = []
    if depth < DEEPEST:
        for child in _below(node, by_id):
            children += _element(child, by_id, frames, depth + 1)
    elif (deeper := _count(node, by_id)) > 0:
        children.append(Element("note", f"{deeper} more elements lie deeper and are not shown", "", (), None))
    backend = node.get("backendDOMNodeId")
    if backend is not None and backend in frames:
        children += elements(frames[backend], {key: value for key, value in frames.items() if key != backend})
    name = " ".join(str(node.get("name", {}).get("value") or "").split())
    properties = {each["name"]: each["value"].get("value") for each in node.get("properties", ())}
    bare = not name and not properties.get("focusable")
    if node.get("ignored") or (role in _ONLY_NAMED and bare) or (role == "StaticText" and not name):
        return children
    value = str(node.get("value", {}).get("value") or "")
    if not (any(_acts(child) for child in children) if role in _LEAVES else _says_more(name, children)):
        children = []
    return [Element(role, name, value, _states(properties), backend, _without_labels(children))]


def _below(node: Node, by_id: Mapping[str, Node]) -> list[Node]:
    return [by_id[str(key)] for key in node.get("childIds", ()) if str(key) in by_id]


def _count(node: Node, by_id: Mapping[str, Node]) -> int:
    """How many nodes below this one may be lines of their own."""
    count, stack = 0, _below(node, by_id)
    while stack:
        each = stack.pop()
        count += not each.get("ignored") and each.get("role", {}).get("value") not in _NEVER
        stack += _below(each, by_id)
    return count


def _says_more(name: str, children: Sequence[Element]) -> bool:
    """Do the lines below say more than the name does."""
    texts = [child.name for child in children if child.role == "StaticText"]
    return len(texts) < len(children) or "".join("".join(texts).split()) != "".join(name.split())


def _without_labels(children: Sequence[Element]) -> list[Element]:
    """Without the texts that only repeat the name of the field beside them."""
    kept: list[Element] = []
    for place, child in enumerate(children):
        beside = [*children[max(0, place - 1) : place], *children[place + 1 : place + 2]]
        labels = child.role == "StaticText" and any(each.name == child.name and each.role in _FIELDS for each in beside)
        if not labels:
            kept.append(child)
    return kept


def _acts(element: Element) -> bool:
    return element.role not in ("StaticText", "image", "generic") or any(map(_acts, element.children))


def _states(properties: Mapping[str, Any]) -> tuple[str, ...]:
    flags = [name for name in _FLAGS if properties.get(name) in (True, "true")]
    for name in _STATES:
        said = properties.get(name)
        if name == "selected" and said in (False, "false"):
            continue
        if said is not None:
            flags.append(f"{name}: {str(said).lower()}")
    return tuple(flags)


_HIDDEN = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}
"""Marks that turn the direction of a text around, so that a person reads other words than stand there."""


def _quoted(text: str) -> str:
    """In quotes that the text cannot close: no page writes what looks like an element of its own."""
    short = text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"
    short = short.replace("\n", "\\n").replace("\t", " ").translate(_HIDDEN)
    if "'" not in short:
        return f"'{short}'"
    if '"' not in short:
        return f'"{short}"'
    return "'" + short.replace("\\", "\\\\").replace("'", "\\'") + "'"
