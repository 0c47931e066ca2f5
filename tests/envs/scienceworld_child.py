"""A process that holds a ScienceWorld JVM and then ends in the way it is told. Prints the JVM's process id."""

from __future__ import annotations

import os
import sys
import threading
import time

from palaestra.envs.scienceworld.engine import Engine, pool

how = sys.argv[1]
engines: list[Engine] = []


def begin() -> None:
    engines.append(pool.borrow())


if how == "thread":  # the thread that started the JVM ends; the process goes on and the JVM with it
    worker = threading.Thread(target=begin)
    worker.start()
    worker.join()
else:
    begin()
print(engines[0].jvm.process.pid, flush=True)

if how == "exit":
    sys.exit(0)
if how == "exception":
    raise RuntimeError("on purpose")
if how == "fork":  # a forked child that outlives its parent must not keep the parent's JVM
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    os._exit(0)
if how == "thread":
    time.sleep(0.5)
    print(engines[0].load("find-plant", 1, "")[1].text.splitlines()[0], flush=True)
time.sleep(600)
