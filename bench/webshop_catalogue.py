"""How memory and time of a WebShop catalogue grow with its size: `python bench/webshop_catalogue.py 1000 20000 200000`.

For each size a product file is generated (some 3 KB a product, words drawn from a Zipf distribution over a vocabulary
that grows with the size), then indexed in one process and opened and searched in another. Peak memory is each process's
own, as the system counts it; pages of mapped files that the system may drop at any time are in it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_WORK = """
import json, random, resource, sys, time
from palaestra.envs.webshop.catalogue import Catalogue
began = time.perf_counter()
shop = Catalogue.open(sys.argv[1])
opened = time.perf_counter() - began
rng, asked = random.Random(1), 0
began = time.perf_counter()
if sys.argv[2] == "search":
    for _ in range(300):
        words = shop.at(rng.randrange(len(shop))).title.lower().split()
        asked += len(shop.search(" ".join(rng.sample(words, 4))))
searching = (time.perf_counter() - began) / 300
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
now = int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1]) / 1024
print(json.dumps([opened, searching * 1000, peak, now]))
"""


def generate(path: Path, count: int) -> None:
    """Write `count` products in the official format."""
    rng = random.Random(count)
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["".join(rng.choices(letters, k=rng.randint(3, 10))) for _ in range(20_000 + count // 2)]

    def words(number: int) -> str:
        return " ".join(vocabulary[min(int(rng.paretovariate(0.6)) - 1, len(vocabulary) - 1)] for _ in range(number))

    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for number in range(count):
            product = {
                "asin": f"S{number:09d}",
                "name": words(15),
                "category": rng.choice(("beauty", "garden", "fashion")),
                "query": words(2),
                "product_category": " › ".join(words(1) for _ in range(4)),
                "full_description": words(120),
                "small_description": [words(25) for _ in range(6)],
                "pricing": f"${rng.uniform(5, 200):.2f}",
                "images": ["https://example.org/picture.jpg"] * 6,
                "customization_options": {"Size": [{"value": words(2), "image": None} for _ in range(6)]},
            }
            file.write(("," if number else "") + "\n" + json.dumps(product))
        file.write("\n]\n")


def main() -> None:
    """Measure each size in processes of its own and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="+", type=int)
    print("products  file MB  index s  peak MB  index MB  open s  search ms  peak MB  own MB")
    for size in parser.parse_args().sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "items_shuffle.json"
            generate(path, size)
            environment = {**os.environ, "PALAESTRA_CACHE": folder}
            row: list[float] = []
            for what in ("index", "search"):
                began = time.perf_counter()
                command = [sys.executable, "-c", _WORK, str(path), what]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                opened, searching, peak, own = json.loads(done.stdout)
                if what == "index":
                    row += [time.perf_counter() - began, peak]
                else:
                    row += [opened, searching, peak, own]
            index = sum(file.stat().st_size for file in (Path(folder) / "webshop").rglob("*") if file.is_file())
            built, peak, *rest = row
            print(
                f"{size:8d} {path.stat().st_size / 1e6:8.1f} {built:8.1f} {peak:8.0f} {index / 1e6:9.1f}"
                f" {rest[0]:7.3f} {rest[1]:10.2f} {rest[2]:8.0f} {rest[3]:7.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
