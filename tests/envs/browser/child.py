"""A process with an open page, for the tests of how browsers end: prints the pids of its descendants and waits."""

from __future__ import annotations

import os
import sys
import time

import psutil

from palaestra.envs import make


def main() -> None:
    env = make("webtasks")
    env.reset(options={"task": "Library--0"})
    if sys.argv[1] == "fork" and os.fork() == 0:
        time.sleep(600)  # a forked child that lives on must not keep the browser alive
        os._exit(0)
    print(*(each.pid for each in psutil.Process().children(recursive=True) if "python" not in each.name()), flush=True)
    if sys.argv[1] == "exit":
        return
    time.sleep(600)


main()
