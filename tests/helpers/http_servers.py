"""A local HTTP server with faults: errors, broken connections, wrong ranges."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class FaultyServer(http.server.ThreadingHTTPServer):
    """Serves `content` under every path of `url`.

    `faults` are the faults of the next requests (status, cut, shift, length); `requests` holds path and range of those
    so far; `ranges` says whether it can resume, `target` where /moved leads. While `may_send` is cleared, responses
    have no body.
    """

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), FaultyHandler)
        self.content = content
        self.faults: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str | None]] = []
        self.ranges = True
        self.target = ""
        self.may_send = threading.Event()
        self.may_send.set()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing about clients that leave."""


class FaultyHandler(http.server.BaseHTTPRequestHandler):
    """Answers a request with the server's content, and its next fault."""

    server: FaultyServer

    def do_GET(self) -> None:
        """Send the content, or a part of it."""
        server = self.server
        content = server.content
        requested = self.headers.get("Range")
        server.requests.append((self.path, requested))
        fault = server.faults.pop(0) if server.faults else {}
        if self.path == "/missing" or fault.get("status"):
            self.send_error(fault.get("status", 404))
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", server.target)
            self.end_headers()
            return
        start = int(requested[6:-1]) if requested and server.ranges else 0
        if start >= len(content) and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        shift = fault.get("shift", 0)
        if start:
            self.send_header("Content-Range", f"bytes {start + shift}-{len(content) - 1}/{len(content)}")
        if fault.get("length", True):
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        server.may_send.wait(60)
        body = content[start:]
        self.wfile.write(body[: fault.get("cut", len(body))])

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""


@contextmanager
def serve_content(content: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """Serve `content`; the network is allowed, and no proxy is used."""
    monkeypatch.delenv("THALWEG_OFFLINE", raising=False)
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    server = FaultyServer(content)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
