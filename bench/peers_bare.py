"""The limit: episodes by asyncio and a socket each, nothing kept. A child of bench/peers.py."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from urllib.parse import urlsplit

from peers_case import FORM, Case, Meter, first_line, read_case

from palaestra.envs import Task


async def worker(case: Case, left: deque[Task]) -> None:
    """Makes episodes one after the other on one connection."""
    at = urlsplit(case.url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    env = case.make()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {at.netloc}\r\ncontent-type: application/json\r\n"
    while left:
        task = left.popleft()
        observation, _ = env.reset(options={"task": task})
        messages = [
            {"role": "system", "content": f"{env.instructions(task)}\n{FORM}"},
            {"role": "user", "content": observation},
        ]
        for _ in range(case.turns):
            asked = {"model": case.model, "messages": messages, "max_tokens": case.tokens, "temperature": 1.0}
            body = json.dumps(asked).encode()
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            said = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(said.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            text = json.loads(await reader.readexactly(length))["choices"][0]["message"]["content"]
            observation, _, over, cut, _ = env.step(first_line(text))
            messages += [{"role": "assistant", "content": text}, {"role": "user", "content": observation}]
            if over or cut:
                break
    writer.close()
    env.close()


async def run(case: Case, tasks: Sequence[Task]) -> None:
    left = deque(tasks)
    await asyncio.gather(*(worker(case, left) for _ in range(case.concurrency)))


async def main() -> None:
    case = read_case()
    meter = Meter(case)
    await run(case, case.tasks(case.warm))
    meter.start()
    await run(case, case.tasks(case.episodes, case.warm))
    meter.stop(case.episodes)


if __name__ == "__main__":
    asyncio.run(main())
