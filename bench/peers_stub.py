"""A model server that answers at once and always the same: what is left of a run's time is the client's own.

    python bench/peers_stub.py --port 0 --model stub --tokenizer FOLDER --text "pull 2" --ids "[5, 6]"

It speaks what vLLM's server speaks as far as the contestants ask: chat completions, completions with token ids and
log-probs, the list of models, the version, the count of answered requests. It prints its port and does not read what it
is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import json


def page(body: object, kind: str = "application/json") -> bytes:
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(raw)}\r\n\r\n"
    return head.encode() + raw


class Answers:
    """All answers, made once."""

    def __init__(self, model: str, tokenizer: str, text: str, ids: list[int]) -> None:
        self.asked = 0
        card = {"id": model, "object": "model", "owned_by": "stub", "root": tokenizer, "max_model_len": 4096}
        usage = {"prompt_tokens": 64, "completion_tokens": len(ids), "total_tokens": 64 + len(ids)}
        base = {"id": "stub", "created": 0, "model": model, "usage": usage}
        message = {"role": "assistant", "content": text}
        chat = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        logprobs = {
            "tokens": [f"token_id:{index}" for index in ids],
            "token_logprobs": [-0.5] * len(ids),
            "top_logprobs": None,
            "text_offset": [0] * len(ids),
        }
        plain = {"index": 0, "text": text, "token_ids": ids, "logprobs": logprobs, "finish_reason": "stop"}
        self.pages = {
            b"/v1/models": page({"object": "list", "data": [card]}),
            b"/version": page({"version": "0.32.0"}),
            b"/server_info": page({"vllm_config": {"model_config": {"logprobs_mode": "processed_logprobs"}}}),
            b"/health": page(""),
        }
        self.chat = page({**base, "object": "chat.completion", "choices": [chat]})
        self.plain = page({**base, "object": "text_completion", "choices": [plain]})
        self.none = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"

    def to(self, path: bytes) -> bytes:
        """The answer to one request."""
        if path == b"/v1/chat/completions":
            self.asked += 1
            return self.chat
        if path == b"/v1/completions":
            self.asked += 1
            return self.plain
        if path == b"/metrics":
            return page(f"vllm:request_success_total {self.asked}\n", "text/plain")
        return self.pages.get(path.partition(b"?")[0], self.none)


class Connection(asyncio.Protocol):
    """HTTP/1.1 as far as it is needed: requests with a content-length, one after the other."""

    def __init__(self, answers: Answers) -> None:
        self.answers, self.buffer = answers, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"\r\ncontent-length:")
            length = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            self.transport.write(self.answers.to(self.buffer.split(b" ", 2)[1]))
            self.buffer = self.buffer[end + 4 + length :]


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    for name in ("model", "tokenizer", "text", "ids"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    answers = Answers(options.model, options.tokenizer, options.text, json.loads(options.ids))
    server = await asyncio.get_running_loop().create_server(lambda: Connection(answers), "127.0.0.1", options.port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
