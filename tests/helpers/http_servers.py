"""A server on this machine that breaks, lies and forbids, as servers do."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class FaultyHandler(http.server.BaseHTTPRequestHandler):
    """Serves the server's `content`; its `plan` says what goes wrong with each request, in order."""

    def do_GET(self):
        server, content = self.server, self.server.content
        server.asked.append((self.path, self.headers.get("Range")))
        plan = server.plan.pop(0) if server.plan else {}
        if self.path == "/missing" or plan.get("status"):
            self.send_error(plan.get("status", 404))
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", server.target)
            self.end_headers()
            return
        start = int(self.headers["Range"][6:-1]) if self.headers.get("Range") and server.ranges else 0
        if start >= len(content) and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        shift = plan.get("shift", 0)
        if start:
            self.send_header("Content-Range", f"bytes {start + shift}-{len(content) - 1}/{len(content)}")
        if plan.get("length", True):
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        server.may_go_on.wait(60)
        body = content[start:]
        self.wfile.write(body[: plan.get("cut", len(body))])

    def log_message(self, *arguments):
        pass


@contextmanager
def serve_content(content: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    """A server of `content` under every path, reached by `url`; the network is allowed, and goes through no proxy.

    `plan` are the faults of the next requests (status, cut, shift, length), `asked` the requests so far; `ranges` says
    whether it can resume, `target` where /moved leads; while `may_go_on` is cleared, answers have no body.
    """
    monkeypatch.delenv("THALWEG_OFFLINE", raising=False)
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FaultyHandler)
    made.handle_error = lambda *arguments: None
    made.content, made.plan, made.asked, made.ranges, made.may_go_on = content, [], [], True, threading.Event()
    made.may_go_on.set()
    made.url = f"http://127.0.0.1:{made.server_port}"
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()
