"""A small web server that holds files, knows ranges, and can hang up in the middle: what real hosts do."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Host:
    """What the server holds and how it behaves; may be changed while it runs.

    Attributes:
        url: its address, without a path.
        files: path -> content.
        breaks: after how many bytes each of the next answers ends, though it promised more; then it behaves.
        knows_ranges: answers a range with a part, else with the whole file.
        asked: the requests so far: path and range (empty without).
        web_page: answers everything with HTML, as hosts do that want to be clicked.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    breaks: list[int] = field(default_factory=list)
    knows_ranges: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)
    web_page: bool = False


@contextlib.contextmanager
def running() -> Iterator[Host]:
    """A host on a free port of this machine."""
    host = Host()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            host.asked.append((self.path, asked))
            if host.web_page:
                self._answer(200, b"<html>Are you sure?</html>", kind="text/html; charset=utf-8")
                return
            content = host.files.get(self.path)
            if content is None:
                self._answer(404, b"")
                return
            tag = f'"{hash(content)}"'
            found = re.fullmatch(r"bytes=(\d+)-", asked)
            if found is None or not host.knows_ranges or self.headers.get("If-Range", tag) != tag:
                self._answer(200, content, tag=tag)
            elif int(found[1]) >= len(content):
                self._answer(416, b"", part=f"bytes */{len(content)}")
            else:
                start = int(found[1])
                part = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self._answer(206, content[start:], tag=tag, part=part)

        def _answer(self, status: int, body: bytes, *, tag: str = "", part: str = "", kind: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind or "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            if tag:
                self.send_header("ETag", tag)
            if part:
                self.send_header("Content-Range", part)
            self.end_headers()
            if host.breaks and body:
                self.wfile.write(body[: host.breaks.pop(0)])
                self.close_connection = True
            else:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    host.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
