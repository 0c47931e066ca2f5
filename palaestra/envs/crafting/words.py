"""The words of the crafting worlds: eight themes, each with raw materials, stations to work at, and goods.

Which good is made of what is drawn anew for every world, so that no recipe can be learnt by heart: it must be read.
With `recipes="theme"` it is drawn once for a theme instead, to be learnt.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """The vocabulary of a kind of world. A name occurs once in a theme.

    Attributes:
        raw: what can be fetched as it is.
        stations: what is made once and then worked at.
        goods: what is made.
    """

    raw: tuple[str, ...]
    stations: tuple[str, ...]
    goods: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


THEMES: dict[str, Theme] = {
    "bakery": Theme(
        _words("wheat, rye grain, honey, milk, egg, sea salt, hazelnut, apple, plum, butter lump, poppy seed, water"),
        _words("stone oven, mixing trough, rolling board, cake stand, hand mill, proofing basket"),
        _words(
            "flour, rye meal, dough, sourdough, short crust, flat bread, rye loaf, braided bun, plum cake, apple tart, "
            "nut roll, honey cake, custard, glaze, crumble, syrup, caramel, poppy filling, cream layer, biscuit, "
            "waffle, dumpling, feast cake, market basket"
        ),
    ),
    "carpentry": Theme(
        _words("oak log, pine log, birch bark, resin, hemp, flint, river clay, beeswax, ash branch, goose feather"),
        _words("saw bench, carving block, turning lathe, glue pot, steam box, clamp frame"),
        _words(
            "oak plank, pine board, birch panel, wooden peg, dowel, handle, hinge block, chair leg, seat, stool, "
            "drawer, shelf, chest, ladder rung, ladder, wheel rim, spoke, cart wheel, hand cart, toy boat, picture "
            "frame, cradle, cabinet, spinning top"
        ),
    ),
    "garden": Theme(
        _words(
            "compost, river sand, willow twig, straw, pebble, rain water, seed packet, twine, moss, bone meal, peat"
        ),
        _words("potting table, cold frame, tool rack, water butt, sieve stand, drying rack"),
        _words(
            "potting soil, seed tray, seedling, plant stake, trellis, wicker basket, mulch, path slab, rockery, "
            "bird house, bean row, herb bundle, flower crown, scarecrow, straw hat, liquid feed, hedge screen, "
            "garden arch, pond liner, lily bowl, wind chime, beehive, hanging basket, show garden"
        ),
    ),
    "pottery": Theme(
        _words("red clay, white clay, quartz, wood ash, copper ore, iron sand, chalk, reed, spring water, bone ash"),
        _words("potter wheel, kiln, glaze mill, drying shelf, casting mould, clay pit"),
        _words(
            "clay slip, clay coil, raw bowl, raw jug, fired bowl, fired jug, green glaze, blue glaze, white enamel, "
            "tile, mosaic, oil lamp, flower pot, tea cup, saucer, tea pot, plate, serving dish, jar, lid, vase, "
            "figurine, fountain, tea service"
        ),
    ),
    "smithy": Theme(
        _words(
            "iron ore, copper nugget, tin ore, charcoal, limestone, leather hide, ash wood, whale oil, sulfur, coal"
        ),
        _words("forge, anvil, bellows, quench tub, grind stone, rivet press"),
        _words(
            "iron bar, copper sheet, bronze ingot, steel rod, nail, rivet, chain link, chain, hook, blade, knife, "
            "axe head, axe, horse shoe, lock plate, lock, key, lantern frame, lantern, bell, gate bar, gate, shield, "
            "weather vane"
        ),
    ),
    "weaving": Theme(
        _words("wool, flax, silk cocoon, madder root, indigo leaf, alum, walnut shell, horn, soap nut, cotton boll"),
        _words("spinning wheel, loom, dye vat, carding comb, fulling tub, needle case"),
        _words(
            "wool yarn, linen thread, silk floss, red dye, blue dye, brown dye, red yarn, blue thread, plain cloth, "
            "striped cloth, felt, ribbon, button, lining, cap, scarf, vest, coat, tapestry, pillow, blanket, curtain, "
            "banner, festive robe"
        ),
    ),
    # kept for the test split: no training world uses their words
    "clockwork": Theme(
        _words("brass rod, steel wire, glass bead, ruby chip, ebony stick, shellac, silver dust, cork, lamp oil, zinc"),
        _words("watch lathe, gear cutter, assembly tray, polishing drum, spring coiler, testing stand"),
        _words(
            "pinion, gear wheel, main spring, balance wheel, escapement, winding key, dial, hour hand, minute hand, "
            "clock case, music comb, music drum, hammer arm, chime rod, gear train, pocket watch, wall clock, "
            "music box, metronome, cuckoo, orrery, tin bird, automaton, tower clock"
        ),
    ),
    "harbour": Theme(
        _words(
            "cedar trunk, tar, sail canvas, hemp fibre, lead shot, copper tack, bamboo, fish oil, shell, drift wood"
        ),
        _words("slipway, rope walk, caulking bench, sail loft, tar kettle, rigging post"),
        _words(
            "rope, cable, pulley, net float, fishing net, crab trap, oar, rudder, mast, spar, hull plank, keel, "
            "sail, pennant, compass box, deck, bollard, buoy, lobster crate, dinghy, raft, ship lantern, skiff, "
            "fishing boat"
        ),
    ),
}
"""Name -> vocabulary."""

HELD_OUT = ("clockwork", "harbour")
"""Themes of the test split only."""
