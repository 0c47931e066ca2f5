"""Writes the files of the small catalogue: `python -m palaestra.envs.webshop.small.make`.

The same files come out every time; a test compares them with those in the package.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from palaestra.envs.webshop.small.vocabulary import MAKERS, WARES, Ware

SEED = 2024
EACH = 6
"""Products of each kind."""

_LETTERS = "BCDFGHJKLMNPQRSTVWXYZ0123456789"


def files() -> dict[str, str]:
    """File name -> content."""
    rng = random.Random(SEED)
    products: list[dict[str, object]] = []
    said: dict[str, Mapping[str, object]] = {}
    written: dict[str, list[dict[str, object]]] = {}
    nouns: list[dict[str, object]] = []
    for ware in WARES:
        for number in range(EACH):
            asin = "P" + "".join(rng.choices(_LETTERS, k=9))
            product, about, noun_list = _product(ware, asin, rng)
            attributes = [str(each) for each in about["attributes"]]
            if number < EACH - 2:  # the others can be bought, but nobody asks for them
                said[asin] = {**about, **_instruction(ware, attributes, rng)}
            else:
                said[asin] = about
            if number < 2:
                written[asin] = [_wish(ware, asin, attributes, product["customization_options"], rng)]
            products.append(product)
            nouns.append({"name": product["name"], "nouns": noun_list})
    rng.shuffle(products)
    return {
        "items_shuffle.json": _lines(products),
        "items_ins_v2.json": json.dumps(said, indent=0, ensure_ascii=False) + "\n",
        "items_human_ins.json": json.dumps(written, indent=0, ensure_ascii=False) + "\n",
        "nouns.jsonl": "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in nouns),
    }


def _lines(rows: Sequence[object]) -> str:
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n"


def _product(ware: Ware, asin: str, rng: random.Random) -> tuple[dict[str, object], dict[str, list[str]], list[str]]:
    """The record, what the attribute file says of it, and the nouns of its title."""
    maker, name, material = rng.choice(MAKERS), rng.choice(ware.names), rng.choice(ware.materials)
    use = rng.choice(ware.uses)
    attributes = rng.sample(ware.attributes, rng.randint(2, 4))
    first, *others = attributes
    title = f"{maker} {material} {name}, {first.title()}, for {use}"
    # what is in the title is not in the attribute list of every product: the reward looks into the texts, too
    known = attributes if rng.random() < 0.8 else others
    options = {option: sorted(rng.sample(values, rng.randint(2, min(3, len(values)))), key=values.index)
               for option, values in ware.options.items()}  # fmt: skip
    features = [f"{attribute.capitalize()}: made with care by {maker}." for attribute in attributes]
    features.append(f"{material} {name.lower()} for {use.lower()}.")
    record: dict[str, object] = {
        "asin": asin,
        "name": title,
        "category": ware.category,
        "query": ware.query,
        "product_category": " › ".join(ware.levels),
        "full_description": f"This {name.lower()} by {maker} is {_joined(attributes)}. Good for {use.lower()}.",
        "small_description": features,
        "pricing": _pricing(ware, rng),
        "images": [],
        "customization_options": {
            option.title(): [{"value": value, "image": None} for value in values] for option, values in options.items()
        },
    }
    nouns = [word.lower() for word in f"{maker} {material} {name} {use}".split()]
    return record, {"attributes": known}, nouns


def _pricing(ware: Ware, rng: random.Random) -> str:
    low, high = ware.prices
    price = rng.randint(low * 100, high * 100) / 100
    if rng.random() < 0.4:
        return f"${price:.2f} - ${price * rng.choice((1.2, 1.5)):.2f}"
    return f"${price:.2f}"


def _joined(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else words[0]


def _instruction(ware: Ware, attributes: Sequence[str], rng: random.Random) -> dict[str, object]:
    wanted = rng.sample(list(attributes), min(len(attributes), rng.randint(1, 3)))
    return {
        "instruction": f"I am looking for {ware.query} that are {_joined(wanted)}",
        "instruction_attributes": wanted,
    }


def _wish(ware: Ware, asin: str, attributes: Sequence[str], options: object, rng: random.Random) -> dict[str, object]:
    assert isinstance(options, dict)
    wanted = rng.sample(list(attributes), min(len(attributes), rng.randint(1, 2)))
    names = rng.sample(sorted(options), rng.randint(1, len(options)))
    chosen = [rng.choice(options[name])["value"].lower() for name in names]
    return {
        "asin": asin,
        "instruction": ware.wish.format(what=_joined(wanted), how=f", in {_joined(chosen)}") + ".",
        "attributes": list(attributes),
        "options": [f"{name.lower()}: {value}" for name, value in zip(names, chosen, strict=True)],
        "instruction_attributes": wanted,
        "instruction_options": chosen,
    }


if __name__ == "__main__":
    for name, content in files().items():
        (Path(__file__).parent / name).write_text(content, encoding="utf-8")
