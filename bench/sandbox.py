"""Sandboxes: our backends, and their warm pool, against plain Docker and llm-sandbox, in one run on one engine.

    python bench/sandbox.py [--peer DIR/bin/python] [--rounds 10] [--row 200] [--soak 1000] [--only ...]

Root and Debian's docker.io are needed: the run has an engine of its own (`PrivateEngine`) with the sandbox image made
of this machine's files. The peer is llm-sandbox in an environment of its own (`python -m venv DIR; DIR/bin/pip install
'llm-sandbox[docker]'`), named by --peer; without it the peer's columns are empty and the result says so. Inspect AI's
docker sandbox is not measured: each of its calls is one of `docker compose`, a plugin that Debian's docker.io does not
bring; its exec would be a `docker exec` with more in front of it.

Contestants take turns in every round, in an order drawn anew, so that what else the machine does falls on all of them,
and with a pause in front, so that the engine has tidied up after the one before; times are by the clock.
Writes bench/results/sandbox.json: medians with p10 and p90 in milliseconds, the load average of each measure, and
ratios (theirs over ours).

- start: until a command can be run. exec: `echo hello`. exec_python: `python3 -c ...`. put_get: a file in and out.
- snapshot_restore: 100 files copied and put back; plain Docker and llm-sandbox can only commit an image and start it.
- row: sandboxes one after the other, each started, used once (`echo`), ended; `pool` takes them from our warm pool. Of
  the slower contestants fewer are run (`n`); the figure is per sandbox. Plain Docker's is one `docker run --rm`.
- at_once_16: sixteen of those at the same time, by the clock for all of them.
- hand_out: our pool's `take` (a fresh sandbox, which has answered), and the peer's `acquire` (a used one).
- soak: what this process holds over many sandboxes from the pool (bench/sandbox_soak.py).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sandbox_contestants import (
    COUNT,
    ECHO,
    FILES,
    MAKE,
    PYTHON,
    Contestant,
    DockerProgram,
    DockerSDK,
    LlmSandbox,
    Ours,
)

from palaestra.envs.sandbox import Limits, start
from palaestra.envs.sandbox.engine import Engine, connect
from palaestra.envs.sandbox.image import build
from palaestra.envs.sandbox.pool import Pool
from palaestra.envs.sandbox.private_engine import PrivateEngine

Row = dict[str, float | int]
CALLS = 5  # of each kind, of each contestant, in each round
PAUSE = 0.1  # seconds
PARTS = ["calls", "at_once", "hand_out", "row", "soak"]
OURS = ("bwrap", "docker", "bwrap pool", "docker pool")


class Results:
    """The figures so far, on disk after every measure."""

    def __init__(self, place: Path, facts: dict[str, object], *, go_on: bool) -> None:
        self._place = place
        before = json.loads(place.read_text(encoding="utf-8")) if go_on else {}
        self.measures: dict[str, dict[str, Row]] = before.get("milliseconds", {})
        self.loads: dict[str, float] = before.get("load_average", {})
        self.all: dict[str, object] = {**before, **facts, "load_average": self.loads, "milliseconds": self.measures}
        self.all["commands"] = [*before.get("commands", []), command()]

    def add(self, measure: str, seconds: dict[str, list[float]]) -> None:
        """Medians of what each contestant took, printed with the ratios to ours, and stored."""
        self.loads[measure] = round(os.getloadavg()[0], 1)
        rows = {name: row(taken) for name, taken in seconds.items() if taken}
        self.measures[measure] = rows
        print(f"{measure} (load {self.loads[measure]})")
        for name, one in rows.items():
            ratios = ", ".join(
                f"{one['median'] / rows[mine]['median']:.1f}x {mine}"
                for mine in OURS
                if mine in rows and name not in OURS
            )
            print(f"  {name:16} {one['median']:9.2f} [{one['p10']:.2f}, {one['p90']:.2f}] ms, n={one['n']}  {ratios}")
        self.save()

    def save(self) -> None:
        """Write all there is."""
        self.all["ratios"] = {
            measure: {
                f"{theirs} / {mine}": round(one["median"] / rows[mine]["median"], 2)
                for mine in OURS
                if mine in rows
                for theirs, one in rows.items()
                if theirs not in OURS
            }
            for measure, rows in self.measures.items()
        }
        self._place.parent.mkdir(exist_ok=True)
        self._place.write_text(json.dumps(self.all, indent=1) + "\n", encoding="utf-8")


def command() -> str:
    """How this was called, without where the peer is."""
    given = sys.argv[1:]
    return " ".join(["python bench/sandbox.py", *("PEER" if one.endswith("python") else one for one in given)])


def row(seconds: Sequence[float]) -> Row:
    """Median, p10 and p90 in milliseconds."""
    taken = sorted(1000 * one for one in seconds)
    at = [taken[round(share * (len(taken) - 1))] for share in (0.1, 0.9)]
    return {
        "median": round(statistics.median(taken), 3),
        "p10": round(at[0], 3),
        "p90": round(at[1], 3),
        "n": len(taken),
    }


def timed(work: Callable[[], object]) -> float:
    """Seconds by the clock."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def calls(all_: Sequence[Contestant], rounds: int, results: Results) -> None:
    """Start, exec, put + get, snapshot + restore, close: all in the same sandboxes, the contestants in turns."""
    taken: dict[str, dict[str, list[float]]] = {}

    def note(measure: str, one: Contestant, work: Callable[[], object]) -> None:
        taken.setdefault(measure, {}).setdefault(one.name, []).append(timed(work))

    small, large = os.urandom(1024), os.urandom(1024 * 1024)
    chance = random.Random(0)
    for number in range(rounds):
        order = chance.sample(all_, len(all_))
        for one in order:
            time.sleep(PAUSE)
            note("start", one, one.start)
            assert one.run(ECHO) == b"hello\n"  # the first call is not counted
        for one in chance.sample(order, len(order)):
            time.sleep(PAUSE)
            for _ in range(CALLS):
                note("exec", one, lambda one=one: one.run(ECHO))  # type: ignore[misc]
            for _ in range(CALLS):
                note("exec_python", one, lambda one=one: one.run(PYTHON))  # type: ignore[misc]
            for _ in range(CALLS):
                note("put_get_1KiB", one, lambda one=one: check(one.put_get(small), small))  # type: ignore[misc]
            for _ in range(CALLS):
                note("put_get_1MiB", one, lambda one=one: check(one.put_get(large), large))  # type: ignore[misc]
        for one in order:
            one.run(["sh", "-c", MAKE])
            time.sleep(PAUSE)
            note("snapshot_restore", one, one.copy_and_back)
            assert int(one.run(["sh", "-c", COUNT])) == FILES, one.name
            note("close", one, one.close)
        print(f"round {number + 1} done, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    for measure, seconds in taken.items():
        results.add(measure, seconds)


def check(got: bytes, wanted: bytes) -> None:
    """They are the same, or the measure counts for nothing."""
    assert got == wanted


def in_a_row(all_: Sequence[Contestant], count: int, results: Results) -> None:
    """Many sandboxes, one after the other: of ours all, of the others a part; then of ours through the pool."""
    taken = {}
    for one in all_:
        n = count if isinstance(one, Ours) else max(5, count // 5)
        taken[one.name] = [timed(one.one) for _ in range(n)]
    for backend in ("bwrap", "docker"):
        with Pool(lambda backend=backend: start(backend, Limits()), ready=2) as pool:  # type: ignore[misc]

            def one_from_pool(pool: Pool = pool) -> None:
                with pool.take() as box:
                    assert box.exec(ECHO).stdout == "hello\n"

            pool.fill()
            taken[f"{backend} pool"] = [timed(one_from_pool) for _ in range(count)]
    results.add("row", taken)


def at_once(all_: Sequence[Contestant], rounds: int, results: Results) -> None:
    """Sixteen at the same time."""
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        for one in all_:
            taken.setdefault(one.name, []).append(timed(lambda one=one: one.several(16)))  # type: ignore[misc]
    results.add("at_once_16", taken)


def hand_outs(peer: LlmSandbox | None, rounds: int, results: Results) -> None:
    """What a pool takes to hand out, each time with all of its sandboxes ready."""
    taken: dict[str, list[float]] = {}
    for backend in ("bwrap", "docker"):
        with Pool(lambda backend=backend: start(backend, Limits()), ready=2) as pool:  # type: ignore[misc]
            for _ in range(rounds):
                pool.fill()
                while pool.state().starting:
                    time.sleep(0.01)
                began = time.perf_counter()
                box = pool.take()
                taken.setdefault(f"{backend} pool", []).append(time.perf_counter() - began)
                box.close()
    if peer is not None:
        taken[f"{peer.name} pool, used"] = peer.hand_outs(rounds)
    results.add("hand_out", taken)


def soak(count: int, results: Results) -> None:
    """A fresh process for each backend; stored as it is, with how much it grew after the first tenth."""
    found: dict[str, object] = {}
    for backend in ("bwrap", "docker"):
        command = [sys.executable, str(Path(__file__).parent / "sandbox_soak.py"), backend, str(count)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        one = json.loads(done.stdout)
        rows = one["during"]
        one["growth"] = {key: rows[-1][key] - rows[0][key] for key in rows[0] if key not in ("after", "seconds")}
        found[backend] = one
        print(f"soak {backend}: {count} sandboxes in {rows[-1]['seconds']} s; growth since the {rows[0]['after']}th:")
        print(f"  {one['growth']}; after closing: {one['closed']}")
        results.all["soak"] = found
        results.loads[f"soak_{backend}"] = round(os.getloadavg()[0], 1)
        results.save()


def machine(engine: Engine) -> dict[str, object]:
    """What this was measured on."""
    info = engine.client.info()
    cpu = [
        line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model n" in line
    ]
    bwrap = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "cpu": cpu[0] if cpu else platform.processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "docker": info["ServerVersion"],
        "storage": info["Driver"],
        "cgroups": info.get("CgroupVersion", ""),
        "bubblewrap": bwrap,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python of an environment with llm-sandbox[docker]")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--row", type=int, default=200)
    parser.add_argument("--soak", type=int, default=1000)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS, help="measure these anew, keep the others")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sandbox.json")
    options = parser.parse_args()
    with PrivateEngine() as private:
        os.environ["DOCKER_HOST"] = private.host
        engine = connect(private.host)
        build(engine.client, origin="machine")
        facts: dict[str, object] = {"machine": machine(engine)}
        facts["inspect_ai"] = "not measured: its sandbox is `docker compose`, which the machine does not have"
        peer = LlmSandbox(options.peer) if options.peer else None
        facts["llm_sandbox"] = peer.version if peer else "not measured: no --peer was named"
        results = Results(options.out, facts, go_on=options.only != PARTS)
        contestants: list[Contestant] = [Ours("bwrap"), Ours("docker"), DockerProgram(), DockerSDK(engine.client)]
        contestants += [peer] if peer else []
        if "calls" in options.only:
            calls(contestants, options.rounds, results)
        if "at_once" in options.only:
            at_once(contestants, 3, results)
        if "hand_out" in options.only:
            hand_outs(peer, 3 * options.rounds, results)
        if "row" in options.only:
            in_a_row(contestants, options.row, results)
        if "soak" in options.only:
            soak(options.soak, results)
        for one in contestants:
            one.leave()
        results.all["load_average_at_end"] = [round(one, 1) for one in os.getloadavg()]
        results.save()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
