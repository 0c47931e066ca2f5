"""Plays paths on the original WebShop, for `bench/envs.py`. Run by an interpreter that can import `web_agent_site`.

Reads {"paths": [[task name, [action, ...]], ...], "seconds": S} from stdin, writes one JSON line. Goals are taken by
number, in the original's order; what is timed is `reset` and `step` of `WebAgentTextEnv` in the mode `text_rich`, on
the 1,000 products.
"""

import contextlib
import json
import resource
import sys
import time
from statistics import median


def main() -> None:
    asked = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        from web_agent_site.envs.web_agent_text_env import WebAgentTextEnv  # type: ignore[import-not-found]

        env = WebAgentTextEnv(observation_mode="text_rich", num_products=1000)
        resets, steps = [], []
        until = time.perf_counter() + asked["seconds"]
        turn = 0
        while turn < len(asked["paths"]) or time.perf_counter() < until:
            _, actions = asked["paths"][turn % len(asked["paths"])]
            start = time.perf_counter()
            env.reset(session=turn)
            resets.append(time.perf_counter() - start)
            turn += 1
            for action in actions:
                start = time.perf_counter()
                env.step(action)
                steps.append(time.perf_counter() - start)
    found = {
        "engine": "WebShop's WebAgentTextEnv, text_rich, 1,000 products",
        "steps_per_second": round(len(steps) / sum(steps), 2),
        "reset_ms": round(1000 * median(resets), 2),
        "process_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, 1),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
