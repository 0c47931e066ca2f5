"""Takes sandboxes from a pool, one after the other, and watches what this process holds; run by bench/sandbox.py.

    python bench/sandbox_soak.py bwrap 1000

Prints one JSON object: what there was after every tenth of them, and after the pool was closed.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import threading
import time
from pathlib import Path

from palaestra.envs.sandbox import Limits, cgroups, start
from palaestra.envs.sandbox.pool import Pool


def held(backend: str) -> dict[str, int]:
    """What this process has: resident memory in KiB, open files, threads, children, control groups, containers ..."""
    gc.collect()
    me = Path("/proc/self")
    pages = int((me / "statm").read_text().split()[1])
    found = {
        "rss_kib": pages * resource.getpagesize() // 1024,
        "open_files": len(os.listdir(me / "fd")),
        "threads": threading.active_count(),
        "children": sum(len(file.read_text().split()) for file in me.glob("task/*/children")),
        "control_groups": sum(
            1 for hierarchy in cgroups.hierarchies() for _ in hierarchy.parent.glob(f"palaestra-*-{os.getpid()}-*")
        ),
    }
    if backend == "docker":
        from palaestra.envs.sandbox.docker import engine_at
        from palaestra.envs.sandbox.engine import OWNER, owner_labels

        client = engine_at(os.environ["DOCKER_HOST"]).client
        mine: dict[str, str | list[str] | bool] = {"label": f"{OWNER}={owner_labels()[OWNER]}"}
        found["containers"] = len(client.containers.list(all=True, filters=mine, ignore_removed=True))
        found["volumes"] = len(client.volumes.list())
    return found


def still(pool: Pool) -> None:
    """Wait until the pool is full and starts nothing."""
    pool.fill()
    while pool.state().starting:
        time.sleep(0.01)


def main() -> None:
    backend, count = sys.argv[1], int(sys.argv[2])
    each = max(1, count // 10)
    rows = []
    before = held(backend) if backend == "bwrap" else {}
    with Pool(lambda: start(backend, Limits())) as pool:
        began = time.perf_counter()
        for number in range(1, count + 1):
            with pool.take() as box:
                box.write_file("x", "hello\n")
                assert box.exec(["cat", "x"]).stdout == "hello\n"
            if number % each == 0:
                seconds = time.perf_counter() - began
                still(pool)
                rows.append({"after": number, "seconds": round(seconds, 1), **held(backend)})
                print(rows[-1], file=sys.stderr, flush=True)
    print(json.dumps({"before": before, "during": rows, "closed": held(backend)}))


if __name__ == "__main__":
    main()
