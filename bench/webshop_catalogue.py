"""How memory and time of a WebShop catalogue grow with its size: `python bench/webshop_catalogue.py 1000 20000 200000`.

For each size a product file is generated (some 4 KB a product, words drawn from a Zipf distribution over a vocabulary
that grows with the size, which is harder than a shop's: in most searches each word stands in most products), then
indexed and, in another process, opened and searched. "Index s" is by the clock, from the start of the process; "CPU s"
is of all processes that take part, since two help with a large file. Peak memory is the indexing process's, and that of
the larger helper; then the searching process's. Pages of mapped files that the system may drop at any time are in it.
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
each = [0.0]
if sys.argv[2] == "search":
    for _ in range(300):
        words = shop.at(rng.randrange(len(shop))).title.lower().split()
        began = time.perf_counter()
        asked += len(shop.search(" ".join(rng.sample(words, 4))))
        each.append(1000 * (time.perf_counter() - began))
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
now = int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1]) / 1024
found = {"opened": opened, "mean": sum(each) / 300, "slowest": max(each), "own": now}
found["cpu"] = sum(use.ru_utime + use.ru_stime for use in used)
found["peak"], found["helper"] = (use.ru_maxrss / 1024 for use in used)
print(json.dumps(found))
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
    print("products  file MB  index s  CPU s  peak MB  helper  index MB  open s  search ms  slowest  peak MB  own MB")
    for size in parser.parse_args().sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "items_shuffle.json"
            generate(path, size)
            environment = {**os.environ, "PALAESTRA_CACHE": folder}
            found: dict[str, dict[str, float]] = {}
            for what in ("index", "search"):
                began = time.perf_counter()
                command = [sys.executable, "-c", _WORK, str(path), what]
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
                found[what] = {**json.loads(done.stdout), "took": time.perf_counter() - began}
            index = sum(file.stat().st_size for file in (Path(folder) / "webshop").rglob("*") if file.is_file())
            built, searched = found["index"], found["search"]
            print(
                f"{size:8d} {path.stat().st_size / 1e6:8.1f} {built['took']:8.1f} {built['cpu']:6.1f}"
                f" {built['peak']:8.0f} {built['helper']:7.0f} {index / 1e6:9.1f} {searched['opened']:7.3f}"
                f" {searched['mean']:10.2f} {searched['slowest']:8.1f} {searched['peak']:8.0f} {searched['own']:7.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
