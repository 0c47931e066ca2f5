"""What made-up homes consist of: kinds of rooms, their furniture, and things with the places where one keeps them.

Written for Palaestra; nothing here is taken from ALFWorld's data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Furniture:
    """A kind of receptacle.

    Attributes:
        word: "in" or "on".
        openable: has a door or a lid that is closed at first.
        wet, hot, cold: a sink (things can be cleaned with it), an oven, a fridge.
    """

    word: str = "on"
    openable: bool = False
    wet: bool = False
    hot: bool = False
    cold: bool = False


@dataclass(frozen=True)
class Thing:
    """A kind of object.

    Attributes:
        places: kinds of furniture that it may stand on or lie in.
        wash, heat, cool: can it be cleaned, heated, cooled.
        lamp: gives light when used, and stays where it is.
    """

    places: tuple[str, ...]
    wash: bool = False
    heat: bool = False
    cool: bool = False
    lamp: bool = False


FURNITURE: Mapping[str, Furniture] = {
    "armchair": Furniture(),
    "basket": Furniture("in"),
    "bathtub": Furniture("in", wet=True),
    "bed": Furniture(),
    "bench": Furniture(),
    "bookcase": Furniture(),
    "cabinet": Furniture("in", openable=True),
    "chest": Furniture("in", openable=True),
    "coffeetable": Furniture(),
    "counter": Furniture(),
    "cupboard": Furniture("in", openable=True),
    "desk": Furniture(),
    "dishrack": Furniture(),
    "drawer": Furniture("in", openable=True),
    "fridge": Furniture("in", openable=True, cold=True),
    "hook": Furniture(),
    "microwave": Furniture("in", openable=True, hot=True),
    "nightstand": Furniture(),
    "safe": Furniture("in", openable=True),
    "shelf": Furniture(),
    "sideboard": Furniture(),
    "sink": Furniture("in", wet=True),
    "sofa": Furniture(),
    "stool": Furniture(),
    "stove": Furniture(),
    "table": Furniture(),
    "toilet": Furniture(),
    "trashcan": Furniture("in"),
    "wardrobe": Furniture("in", openable=True),
    "washingmachine": Furniture("in", openable=True),
    "windowsill": Furniture(),
    "workbench": Furniture(),
}

ROOMS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "kitchen": {
        "counter": (1, 3), "cupboard": (2, 6), "drawer": (2, 5), "fridge": (1, 1), "microwave": (1, 1), "sink": (1, 1),
        "stove": (1, 2), "table": (0, 2), "trashcan": (1, 1), "dishrack": (0, 1), "shelf": (0, 3), "stool": (0, 2),
        "windowsill": (0, 1), "cabinet": (0, 4), "sideboard": (0, 1),
    },
    "living room": {
        "sofa": (1, 2), "armchair": (0, 2), "coffeetable": (1, 2), "sideboard": (0, 2), "shelf": (0, 4), "desk": (0, 1),
        "bookcase": (0, 2), "drawer": (0, 5), "trashcan": (0, 1), "windowsill": (0, 2), "cabinet": (0, 3),
        "safe": (0, 1), "table": (0, 1), "chest": (0, 1), "stool": (0, 1),
    },
    "bedroom": {
        "bed": (1, 2), "nightstand": (1, 2), "wardrobe": (0, 2), "desk": (0, 1), "drawer": (1, 6), "shelf": (0, 4),
        "basket": (0, 1), "armchair": (0, 1), "trashcan": (0, 1), "safe": (0, 1), "chest": (0, 1), "windowsill": (0, 1),
        "bookcase": (0, 1),
    },
    "bathroom": {
        "sink": (1, 2), "toilet": (1, 1), "bathtub": (0, 1), "cabinet": (1, 4), "shelf": (0, 3), "hook": (1, 3),
        "basket": (0, 1), "trashcan": (1, 1), "stool": (0, 1), "windowsill": (0, 1), "drawer": (0, 3),
    },
    "study": {
        "desk": (1, 2), "bookcase": (1, 3), "shelf": (1, 4), "drawer": (1, 6), "armchair": (0, 1), "cabinet": (0, 2),
        "safe": (0, 1), "trashcan": (0, 1), "windowsill": (0, 1), "sideboard": (0, 1), "table": (0, 1),
    },
    "utility room": {
        "washingmachine": (1, 1), "sink": (1, 1), "workbench": (0, 1), "shelf": (1, 4), "cabinet": (0, 3),
        "basket": (1, 2), "hook": (0, 3), "bench": (0, 1), "drawer": (0, 4), "trashcan": (0, 1), "chest": (0, 1),
    },
}  # fmt: skip
"""Kind of room -> kind of furniture -> how many there are, at least and at most."""

_TOPS = ("counter", "table", "stove", "dishrack", "shelf", "sideboard")
_DISHES = ("counter", "table", "dishrack", "sink", "cupboard", "cabinet", "shelf", "sideboard")
_CUTLERY = ("drawer", "counter", "table", "dishrack", "sink")
_FOOD = ("fridge", "counter", "table", "trashcan", "microwave", "sideboard")
_FRUIT = (*_FOOD, "sink")
_SMALL = ("desk", "drawer", "nightstand", "coffeetable", "sideboard", "shelf", "table", "bookcase", "safe")
_SOFT = ("sofa", "armchair", "bed", "chest", "wardrobe", "bench")
_BATH = ("sink", "shelf", "cabinet", "bathtub", "windowsill", "drawer", "toilet")
_TOOLS = ("workbench", "shelf", "drawer", "cabinet", "chest")

THINGS: Mapping[str, Thing] = {
    "apple": Thing(_FRUIT, wash=True, heat=True, cool=True),
    "bottle": Thing(("fridge", "counter", "table", "shelf", "trashcan", "cupboard", "coffeetable"), cool=True),
    "bowl": Thing((*_DISHES, "microwave", "fridge", "coffeetable"), wash=True, heat=True, cool=True),
    "box": Thing(("table", "sofa", "shelf", "sideboard", "desk", "wardrobe", "bench", "workbench", "coffeetable")),
    "bread": Thing(_FOOD, heat=True, cool=True),
    "brush": Thing((*_BATH, "workbench", "basket"), wash=True),
    "camera": Thing(_SMALL),
    "candle": Thing((*_SMALL, "windowsill", "toilet", "bathtub")),
    "carrot": Thing(_FRUIT, wash=True, heat=True, cool=True),
    "clock": Thing(("desk", "nightstand", "shelf", "sideboard", "bookcase", "windowsill")),
    "cloth": Thing(("sink", "basket", "cabinet", "counter", "washingmachine", "hook", "drawer"), wash=True),
    "coin": Thing((*_SMALL, "chest", "sofa", "armchair")),
    "comb": Thing((*_BATH, "nightstand")),
    "cup": Thing((*_DISHES, "microwave", "fridge", "desk", "coffeetable"), wash=True, heat=True, cool=True),
    "cushion": Thing(_SOFT),
    "dictionary": Thing(("desk", "bookcase", "shelf", "sideboard", "nightstand", "table")),
    "egg": Thing(_FOOD, wash=True, heat=True, cool=True),
    "flashlight": Thing(("drawer", "shelf", "workbench", "cabinet", "nightstand", "hook")),
    "fork": Thing(_CUTLERY, wash=True),
    "glass": Thing((*_DISHES, "nightstand", "desk", "coffeetable", "fridge"), wash=True, cool=True),
    "glove": Thing(("drawer", "wardrobe", "basket", "hook", "bench", "washingmachine", "chest")),
    "hammer": Thing(_TOOLS),
    "headset": Thing(("desk", "sofa", "bed", "shelf", "drawer", "hook", "coffeetable", "armchair")),
    "jar": Thing(("cupboard", "shelf", "counter", "fridge", "table", "workbench", "windowsill"), wash=True, cool=True),
    "key": Thing((*_SMALL, "hook", "sofa", "bench")),
    "knife": Thing(_CUTLERY, wash=True),
    "lamp": Thing(("desk", "nightstand", "sideboard", "coffeetable", "bookcase", "shelf", "windowsill"), lamp=True),
    "lemon": Thing(_FRUIT, wash=True, cool=True),
    "letter": Thing((*_SMALL, "trashcan", "bed", "sofa")),
    "magazine": Thing(("coffeetable", "sofa", "desk", "bed", "basket", "toilet", "nightstand", "armchair", "shelf")),
    "mug": Thing((*_DISHES, "microwave", "desk", "coffeetable", "fridge"), wash=True, heat=True, cool=True),
    "notebook": Thing(("desk", "drawer", "bookcase", "nightstand", "sofa", "table", "shelf")),
    "onion": Thing(("counter", "table", "fridge", "basket", "trashcan", "sideboard"), wash=True, heat=True),
    "pan": Thing((*_TOPS, "sink", "cupboard", "cabinet", "fridge"), wash=True, cool=True),
    "pen": Thing((*_SMALL, "windowsill")),
    "perfume": Thing(("shelf", "cabinet", "nightstand", "windowsill", "drawer")),
    "phone": Thing((*_SMALL, "bed", "sofa", "counter", "armchair")),
    "pillow": Thing(_SOFT),
    "plate": Thing((*_DISHES, "microwave", "fridge", "coffeetable"), wash=True, heat=True, cool=True),
    "pot": Thing((*_TOPS, "sink", "cupboard", "cabinet", "fridge"), wash=True, cool=True),
    "potato": Thing(_FRUIT, wash=True, heat=True, cool=True),
    "radio": Thing(("shelf", "sideboard", "windowsill", "desk", "workbench", "counter", "nightstand")),
    "razor": Thing(("sink", "cabinet", "shelf", "drawer", "bathtub")),
    "remote": Thing(("sofa", "coffeetable", "armchair", "sideboard", "drawer", "shelf", "bed")),
    "ring": Thing(("drawer", "nightstand", "safe", "shelf", "sink", "desk", "chest")),
    "rope": Thing((*_TOOLS, "hook", "bench")),
    "screwdriver": Thing(_TOOLS),
    "shirt": Thing(("wardrobe", "bed", "basket", "washingmachine", "bench", "armchair", "hook")),
    "soap": Thing((*_BATH, "counter"), wash=True),
    "sock": Thing(("drawer", "basket", "bed", "washingmachine", "wardrobe", "bench")),
    "sponge": Thing(("sink", "counter", "bathtub", "cabinet", "dishrack", "drawer"), wash=True),
    "spoon": Thing(_CUTLERY, wash=True),
    "stapler": Thing(("drawer", "desk", "shelf", "workbench", "cabinet", "counter")),
    "statue": Thing(("shelf", "sideboard", "bookcase", "desk", "coffeetable", "windowsill", "safe")),
    "tissuebox": Thing(("toilet", "nightstand", "desk", "coffeetable", "sideboard", "shelf", "cabinet")),
    "tomato": Thing(_FRUIT, wash=True, heat=True, cool=True),
    "toothbrush": Thing(("sink", "cabinet", "shelf", "drawer")),
    "towel": Thing(("hook", "bathtub", "basket", "shelf", "cabinet", "washingmachine", "stool")),
    "vase": Thing(("table", "windowsill", "shelf", "sideboard", "coffeetable", "desk", "bookcase")),
    "wallet": Thing((*_SMALL, "bed", "sofa", "armchair")),
    "watch": Thing((*_SMALL, "sofa", "stool")),
}

BELONGS: Mapping[str, frozenset[str]] = {
    room: frozenset(words.split())
    for room, words in {
        "kitchen": "apple bottle bowl bread brush candle carrot cloth cup egg fork glass jar knife lemon "
        "magazine mug onion pan phone plate pot potato radio soap sponge spoon tomato towel vase key",
        "living room": "bottle bowl box camera candle clock coin cup cushion glass headset key lamp letter "
        "magazine mug notebook pen phone pillow plate radio remote statue tissuebox vase wallet watch",
        "bedroom": "box camera candle clock coin comb cushion flashlight glass glove headset key lamp letter magazine "
        "mug notebook pen perfume phone pillow radio remote ring shirt sock statue tissuebox wallet watch",
        "bathroom": "brush candle cloth comb cup glass magazine perfume razor "
        "ring soap sock shirt sponge tissuebox toothbrush towel radio watch",
        "study": "box camera clock coin cup dictionary glass headset key lamp letter magazine "
        "mug notebook pen phone radio stapler statue tissuebox vase wallet watch plate",
        "utility room": "bottle box brush cloth flashlight glove hammer jar key "
        "radio rope screwdriver shirt soap sock sponge towel stapler",
    }.items()
}
"""Kind of room -> kinds of things that one finds there."""
