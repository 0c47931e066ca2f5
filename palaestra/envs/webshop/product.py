"""A product as the original's loader makes it of a record of the official product file."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from operator import attrgetter

DEFAULT_PRICE = 100.0
"""Dollars, where the record names no price."""

NO_ATTRIBUTE = "DUMMY_ATTR"
"""The one attribute of a product that the attribute file does not know."""

LONGEST_ASIN = 10

FIELDS = (
    "asin",
    "name",
    "full_description",
    "small_description",
    "category",
    "query",
    "product_category",
    "pricing",
    "images",
    "customization_options",
)
"""The fields of a record that make a product; official files hold more."""


@dataclass(frozen=True, slots=True)
class Product:
    """One product of the shop.

    Attributes:
        asin: its number, what a click opens.
        title, description, bullet_points: its texts; bullet points are the page Features.
        category, query, product_category: what it was found by; category levels are divided by "›".
        pricing: one price in dollars, or lowest and highest.
        price_tag: the price as it is shown.
        options: option name -> values, both lower-case.
        option_images: option value -> address of its picture, or None.
        attributes: what the reward compares with the goal's.
        images: addresses of pictures; `main_image` is the first.
        rating, reviews: "N.A." and none: the original's files hold no reviews.
    """

    asin: str
    title: str
    description: str
    bullet_points: tuple[str, ...]
    category: str
    query: str
    product_category: str
    pricing: tuple[float, ...]
    price_tag: str
    options: Mapping[str, tuple[str, ...]]
    option_images: Mapping[str, str | None]
    attributes: tuple[str, ...]
    images: tuple[str, ...]
    rating: str = "N.A."
    reviews: tuple[str, ...] = ()

    @property
    def main_image(self) -> str:
        """Address of the picture on the product's page."""
        return self.images[0] if self.images else ""


_FIELDS = attrgetter(*(field.name for field in fields(Product)))
_ENCODE = json.JSONEncoder(ensure_ascii=False).encode


class BadRecord(ValueError):
    """A record of the product file that cannot be understood."""


def is_product(record: Mapping[str, object]) -> bool:
    """Does the original keep this record: has it a number, and one of at most ten characters."""
    asin = _text(record, "asin")
    return asin != "nan" and len(asin) <= LONGEST_ASIN


def read(record: Mapping[str, object], attributes: Sequence[str] | None) -> Product:
    """The product of a record. `attributes` are its entry in the attribute file, None where it has none.

    Raises:
        BadRecord: a field is missing or of another kind than in the official files.
    """
    options, option_images = _options(record.get("customization_options"))
    pricing, price_tag = _pricing(record.get("pricing"))
    features = record.get("small_description")
    features = features if isinstance(features, list) else ["" if features is None else features]
    images = [image for image in _list("images", record.get("images")) if image is not None]
    return Product(
        asin=_text(record, "asin"),
        title=_text(record, "name"),
        description=_text(record, "full_description"),
        bullet_points=_texts("small_description", features),
        category=_text(record, "category"),
        query=_text(record, "query").lower().strip(),
        product_category=_text(record, "product_category"),
        pricing=pricing,
        price_tag=price_tag,
        options=options,
        option_images=option_images,
        attributes=tuple(attributes) if attributes is not None else (NO_ATTRIBUTE,),
        images=_texts("images", images),
    )


def searchable(product: Product) -> str:
    """What the search engine indexes of a product: title, description, first bullet point and options, lower-case."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in product.options.items())
    first = product.bullet_points[0] if product.bullet_points else ""
    return " ".join([product.title, product.description, first, options]).lower()


def pack(product: Product) -> bytes:
    """A product as few bytes, for the index. Raises BadRecord for a text that is none (half of a surrogate pair)."""
    try:
        return zlib.compress(_ENCODE(_FIELDS(product)).encode(), 1)
    except UnicodeEncodeError:
        raise BadRecord("a text holds half of a surrogate pair, which is no text") from None


def unpack(packed: bytes) -> Product:
    """The product that `pack` packed."""
    *texts, options, images, attributes, pictures, rating, reviews = json.loads(zlib.decompress(packed))
    asin, title, description, bullet_points, category, query, product_category, pricing, price_tag = texts
    return Product(
        asin,
        title,
        description,
        tuple(bullet_points),
        category,
        query,
        product_category,
        tuple(pricing),
        price_tag,
        {name: tuple(values) for name, values in options.items()},
        images,
        tuple(attributes),
        tuple(pictures),
        rating,
        tuple(reviews),
    )


def _text(record: Mapping[str, object], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise BadRecord(f"{key!r} should be a text, is {_short(value)}")
    return value


def _list(key: str, value: object) -> list[object]:
    if value is not None and not isinstance(value, list):
        raise BadRecord(f"{key!r} should be a list, is {_short(value)}")
    return value or []


def _texts(key: str, values: list[object]) -> tuple[str, ...]:
    wrong = next((value for value in values if not isinstance(value, str)), None)
    if wrong is not None:
        raise BadRecord(f"{key!r} should hold texts, holds {_short(wrong)}")
    return tuple(str(value) for value in values)


def _pricing(tag: object) -> tuple[tuple[float, ...], str]:
    if tag is None or tag == "":
        return (DEFAULT_PRICE,), f"${DEFAULT_PRICE}"
    if not isinstance(tag, str):
        raise BadRecord(f"'pricing' should be a text, is {_short(tag)}")
    try:
        prices = tuple(float(Decimal(re.sub(r"[^\d.]", "", price))) for price in tag.split("$")[1:])
    except InvalidOperation:
        raise BadRecord(f"'pricing' cannot be read: {_short(tag)}") from None
    if not all(map(math.isfinite, prices)):
        raise BadRecord(f"'pricing' cannot be read: {_short(tag)}")
    if not prices:
        raise BadRecord(f"'pricing' holds no price: {_short(tag)}")
    if len(prices) == 1:
        return prices, f"${prices[0]}"
    return prices[:2], f"${prices[0]} to ${prices[1]}"


def _options(groups: object) -> tuple[dict[str, tuple[str, ...]], dict[str, str | None]]:
    options: dict[str, tuple[str, ...]] = {}
    images: dict[str, str | None] = {}
    if groups in (None, "", []):
        return options, images
    if not isinstance(groups, dict):
        raise BadRecord(f"'customization_options' should be an object, is {_short(groups)}")
    for name, contents in groups.items():
        if contents is None:
            continue
        values = []
        for content in _list(f"option {name}", contents):
            if not isinstance(content, dict) or not isinstance(content.get("value"), str):
                raise BadRecord(f"an option of {name!r} has no text as its 'value'")
            value = content["value"].strip().replace("/", " | ").lower()
            image = content.get("image")
            if not isinstance(image, str | None):
                raise BadRecord(f"the 'image' of an option of {name!r} should be a text, is {_short(image)}")
            values.append(value)
            images[value] = image
        options[str(name).lower()] = tuple(values)
    return options, images


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:59]}…"
