"""The words that the catalogue of our own making is made of. All invented here; no shop has these products."""

from __future__ import annotations

from typing import NamedTuple


class Ware(NamedTuple):
    """A kind of product.

    Attributes:
        category, query, levels: what it is found by.
        names: what it is called in titles; all their words count as nouns.
        materials: nouns that stand before the name.
        uses: what it is for, in titles.
        attributes: what it can be.
        options: option name -> values that products offer some of.
        prices: lowest and highest price in dollars.
        wish: how a customer asks for it; {what} takes attributes, {how} the options.
    """

    category: str
    query: str
    levels: tuple[str, ...]
    names: tuple[str, ...]
    materials: tuple[str, ...]
    uses: tuple[str, ...]
    attributes: tuple[str, ...]
    options: dict[str, tuple[str, ...]]
    prices: tuple[int, int]
    wish: str


_MAKERS = """
Alderfen Brackwell Corvane Dunmarrow Elmhythe Farrowby Glenhask Hollinside Ivenmoor Jarrowick Kestlewood Larkrigg
Mossgarth Norbeck Oakrind Pellworth Quenbury Rushmere Stellgate Thornlea Ulvesby Venmarch Wexholme Yarrowdene
"""
MAKERS = tuple(_MAKERS.split())

_COLOURS = ("Black", "White", "Navy", "Forest Green", "Light Grey", "Rust Red", "Mustard", "Dusty Pink")
_CLOTHES = ("Small", "Medium", "Large", "X-Large")
_SHOES = ("6", "7", "8", "9", "10", "11")
_PACKS = ("1 Pack", "2 Pack", "4 Pack")
_HOME = "Home & Kitchen"
_WEAR = "Clothing, Shoes & Jewelry"
_FOOD = "Grocery & Gourmet Food"
_CARE = "Beauty & Personal Care"
_WIRE = "Electronics"
_PLAY = "Toys & Games"

WARES = (
    Ware("garden", "table lamps", (_HOME, "Lighting", "Lamps", "Table Lamps"),
         ("Table Lamp", "Bedside Lamp", "Desk Lamp"), ("Brass", "Ceramic", "Bamboo"), ("Bedroom", "Office", "Nursery"),
         ("energy efficient", "easy assemble", "dimmable light", "touch control", "usb port"),
         {"color": _COLOURS, "size": ("10 Inch", "14 Inch", "18 Inch")}, (18, 85),
         "I would like a {what} lamp for the table{how}"),
    Ware("garden", "throw blankets", (_HOME, "Bedding", "Blankets & Throws", "Throws"),
         ("Throw Blanket", "Sofa Throw"), ("Wool", "Cotton", "Fleece"), ("Couch", "Travel", "Picnic"),
         ("machine washable", "super soft", "double sided", "fade resistant", "hand knitted"),
         {"color": _COLOURS, "size": ("40\" x 50\"", "50\" x 60\"", "60\" x 80\"")}, (15, 70),
         "winter is coming, find me a {what} blanket{how}"),
    Ware("garden", "storage baskets", (_HOME, "Storage & Organization", "Baskets & Bins", "Baskets"),
         ("Storage Basket", "Laundry Basket", "Shelf Bin"), ("Seagrass", "Rope", "Wicker"),
         ("Closet", "Bathroom", "Pantry"),
         ("space saving", "eco friendly", "easy clean", "removable liner", "stackable design"),
         {"color": ("Natural", "Black", "White"), "pattern name": _PACKS}, (12, 55),
         "my closet is a mess and i need a {what} basket{how}"),
    Ware("garden", "bookcases", (_HOME, "Furniture", "Home Office Furniture", "Bookcases"),
         ("Bookcase", "Ladder Shelf", "Corner Shelf"), ("Pine", "Walnut", "Steel"), ("Library", "Hallway", "Study"),
         ("solid wood", "easy assemble", "heavy duty", "wall mounted", "adjustable shelves"),
         {"color": ("Walnut", "White", "Black"), "size": ("3 Tier", "4 Tier", "5 Tier")}, (60, 260),
         "looking for a {what} bookcase{how}"),
    Ware("fashion", "running shoes", (_WEAR, "Men", "Shoes", "Athletic", "Running"),
         ("Running Shoes", "Trail Runners"), ("Mesh", "Knit"), ("Marathon", "Gym", "Forest Trails"),
         ("rubber sole", "arch support", "quick drying", "non slip", "memory foam"),
         {"color": _COLOURS, "size": _SHOES}, (45, 130),
         "i run every day, get me {what} running shoes{how}"),
    Ware("fashion", "women's sweaters", (_WEAR, "Women", "Clothing", "Sweaters", "Pullovers"),
         ("Pullover Sweater", "Cardigan"), ("Merino", "Cotton", "Cashmere"), ("Winter", "Office", "Evenings"),
         ("long sleeve", "machine wash", "loose fit", "ribbed hem", "crew neck"),
         {"color": _COLOURS, "size": _CLOTHES}, (25, 120),
         "please find a sweater that is {what}{how}"),
    Ware("fashion", "men's rain jackets", (_WEAR, "Men", "Clothing", "Jackets & Coats", "Rain"),
         ("Rain Jacket", "Rain Parka"), ("Nylon", "Canvas"), ("Hiking", "Cycling", "Sailing"),
         ("water resistant", "light weight", "adjustable hood", "zipper closure", "reflective strips"),
         {"color": _COLOURS, "size": _CLOTHES}, (35, 150),
         "i need something {what} for hiking in the rain{how}"),
    Ware("fashion", "backpacks", (_WEAR, "Luggage & Travel Gear", "Backpacks", "Casual Daypacks"),
         ("Backpack", "Daypack", "Rucksack"), ("Canvas", "Leather", "Polyester"), ("School", "Commuting", "Camping"),
         ("laptop compartment", "water bottle pocket", "padded straps", "hidden pocket", "tear resistant"),
         {"color": _COLOURS, "size": ("15 Liter", "20 Liter", "30 Liter")}, (25, 110),
         "which backpack has {what}? i want one{how}"),
    Ware("grocery", "herbal tea", (_FOOD, "Beverages", "Tea", "Herbal"),
         ("Herbal Tea", "Tea Sampler"), ("Chamomile", "Ginger", "Rooibos"), ("Evening", "Breakfast", "Iced Drinks"),
         ("caffeine free", "certified organic", "gluten free", "individually wrapped", "no added sugar"),
         {"flavor name": ("Lemon Ginger", "Apple Cinnamon", "Mint", "Wild Berry"),
          "size": ("20 Count", "40 Count", "100 Count")},
         (6, 32), "i like to drink {what} tea at night{how}"),
    Ware("grocery", "granola bars", (_FOOD, "Breakfast Foods", "Cereal Bars", "Granola"),
         ("Granola Bars", "Oat Bars"), ("Almond", "Honey", "Cashew"), ("Lunchbox", "Hikes", "Snacks"),
         ("high protein", "nut free", "low sugar", "plant based", "whole grain"),
         {"flavor name": ("Chocolate Chip", "Peanut Butter", "Cranberry", "Coconut"),
          "size": ("6 Count", "12 Count", "24 Count")},
         (8, 38), "pack me a box of {what} bars for school{how}"),
    Ware("grocery", "olive oil", (_FOOD, "Oils & Vinegars", "Oils", "Olive"),
         ("Olive Oil", "Finishing Oil"), ("Garlic", "Basil", "Chili"), ("Salads", "Roasting", "Gifts"),
         ("cold pressed", "extra virgin", "single origin", "glass bottle", "gmo free"),
         {"size": ("8 Fl Oz", "16 Fl Oz", "32 Fl Oz"), "pattern name": _PACKS}, (9, 60),
         "for my salads i want oil that is {what}{how}"),
    Ware("grocery", "coffee beans", (_FOOD, "Beverages", "Coffee", "Whole Beans"),
         ("Coffee Beans", "Espresso Beans"), ("Arabica", "Robusta"), ("Espresso", "Cold Brew", "Filters"),
         ("fair trade", "dark roast", "low acid", "freshly roasted", "resealable bag"),
         {"flavor name": ("Hazelnut", "Vanilla", "Unflavored"), "size": ("12 Ounce", "2 Pound", "5 Pound")}, (10, 75),
         "buy coffee that is {what}{how}"),
    Ware("beauty", "face moisturizers", (_CARE, "Skin Care", "Face", "Moisturizers"),
         ("Face Cream", "Day Moisturizer"), ("Aloe", "Shea", "Oatmeal"), ("Sensitive Skin", "Winter", "Mornings"),
         ("cruelty free", "fragrance free", "hyaluronic acid", "dry skin", "non greasy"),
         {"size": ("1 Fl Oz", "2 Fl Oz", "4 Fl Oz"), "pattern name": _PACKS}, (8, 58),
         "my face is so dry, i need a {what} cream{how}"),
    Ware("beauty", "hair brushes", (_CARE, "Hair Care", "Styling Tools", "Brushes"),
         ("Hair Brush", "Paddle Brush"), ("Bamboo", "Boar Bristle", "Silicone"), ("Curls", "Scalp Massage", "Travel"),
         ("anti static", "hair growth", "detangling bristles", "easy carry", "long lasting"),
         {"color": _COLOURS, "style": ("Round", "Paddle", "Vented")}, (7, 35),
         "can you find a {what} brush for my hair{how}"),
    Ware("beauty", "scented candles", (_CARE, "Fragrance", "Candles", "Scented"),
         ("Scented Candle", "Jar Candle"), ("Soy Wax", "Beeswax"), ("Bath", "Living Room", "Presents"),
         ("lead free", "long burning", "soy wax", "essential oils", "hand poured"),
         {"scent": ("Lavender", "Cedar", "Vanilla", "Sea Salt"), "size": ("5 Ounce", "9 Ounce", "15 Ounce")}, (9, 42),
         "a {what} candle would make a nice present{how}"),
    Ware("electronics", "wireless earbuds", (_WIRE, "Headphones", "Earbuds", "Wireless"),
         ("Wireless Earbuds", "Sport Earphones"), ("Graphene", "Silicone"), ("Workouts", "Calls", "Flights"),
         ("noise cancelling", "fast charging", "water resistant", "stereo sound", "long battery life"),
         {"color": _COLOURS, "style": ("Standard", "With Charging Case", "With Neckband")}, (20, 140),
         "i want {what} earbuds for the train{how}"),
    Ware("electronics", "phone chargers", (_WIRE, "Accessories", "Chargers & Adapters", "Wall Chargers"),
         ("Wall Charger", "Travel Charger"), ("Aluminum", "Gallium"), ("Phones", "Tablets", "Laptops"),
         ("fast charging", "usb port", "foldable plug", "overheat protection", "dual port"),
         {"color": ("Black", "White"), "size": ("20 Watt", "45 Watt", "65 Watt"),
          "style": ("With Cable", "Without Cable")},
         (9, 49), "my phone is always empty, find a {what} charger{how}"),
    Ware("electronics", "bluetooth speakers", (_WIRE, "Audio", "Speakers", "Portable Bluetooth"),
         ("Bluetooth Speaker", "Party Speaker"), ("Fabric", "Rubber"), ("Garden", "Shower", "Beach"),
         ("hands free", "stereo sound", "dust proof", "built in microphone", "easy carry"),
         {"color": _COLOURS, "size": ("Mini", "Standard", "Maxi")}, (22, 180),
         "for a party i need a speaker with {what}{how}"),
    Ware("toys", "wooden puzzles", (_PLAY, "Puzzles", "Jigsaw", "Wooden"),
         ("Wooden Puzzle", "Shape Puzzle"), ("Beech", "Birch"), ("Toddlers", "Rainy Days", "Grandparents"),
         ("non toxic", "rounded edges", "hand painted", "storage tray", "fine motor skills"),
         {"style": ("Animals", "Planets", "Harbor", "Alphabet"),
          "size": ("12 Pieces", "48 Pieces", "200 Pieces")}, (10, 44),
         "a puzzle with {what} for my daughter{how}"),
    Ware("toys", "board games", (_PLAY, "Games", "Board Games", "Strategy"),
         ("Board Game", "Card Game"), ("Linen", "Cardboard"), ("Families", "Two Players", "Parties"),
         ("easy learn", "solo mode", "cooperative play", "short rounds", "travel size"),
         {"style": ("Base Game", "Expansion", "Big Box"), "edition": ("English", "German", "French")}, (12, 90),
         "we are looking for a {what} game{how}"),
)  # fmt: skip
