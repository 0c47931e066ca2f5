"""Product files for the tests: records in the official format, written to a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def record(asin: str = "B000000001", **fields: Any) -> dict[str, Any]:
    """A record with all fields that the loader reads; `fields` replace some."""
    return {
        "asin": asin,
        "name": "Green Mug",
        "category": "garden",
        "query": "Mugs ",
        "product_category": "Home › Kitchen › Mugs",
        "full_description": "Holds tea.",
        "small_description": ["Dishwasher safe", "Made of clay"],
        "pricing": "$5.50",
        "images": ["a.jpg", "b.jpg"],
        "customization_options": {"Color": [{"value": " Dark/Green ", "image": "g.jpg"}]},
        **fields,
    }


def write(folder: Path, records: list[dict[str, Any]], said: Any = None, human: Any = None) -> Path:
    """Write a catalogue's files; returns the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "items_shuffle.json").write_text(json.dumps(records, indent=1, ensure_ascii=False), encoding="utf-8")
    for name, content in (("items_ins_v2.json", said), ("items_human_ins.json", human)):
        if content is not None:
            (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    return folder
