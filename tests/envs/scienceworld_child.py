"""A process that holds a ScienceWorld JVM and then ends in the way it is told. Prints the JVM's process id."""

from __future__ import annotations

import os
import sys
import threading
import time

from palaestra.envs import make

how = sys.argv[1]
env = make("scienceworld", simplifications="easy")


def begin() -> None:
    env.reset(options={"task": "lifespan-longest-lived/3"})


if how == "thread":  # the thread that started the JVM ends; the process goes on and the JVM with it
    worker = threading.Thread(target=begin)
    worker.start()
    worker.join()
else:
    begin()
print(env.unwrapped._engine.jvm.process.pid, flush=True)  # type: ignore[attr-defined]

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
    time.sleep(1)
    print(env.step("look around")[0].splitlines()[0], flush=True)
time.sleep(600)
