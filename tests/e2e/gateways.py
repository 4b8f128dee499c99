"""Servers in the place of a Pushgateway: what they were told, and how they answer."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Told:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: str


@dataclass
class Answering:
    """A server that keeps what it is told.

    Attributes:
        status: What it answers.
        body: What it says with it.
        headers: What it sends with it.
        silent: Whether it waits with its answers until it is ended.
    """

    status: int = 202
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False
    told: list[Told] = field(default_factory=list)
    address: str = ""
    heard: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(answering: Answering) -> Iterator[Answering]:
    """Serves on a port of its own until the block is left."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            told = Told(self.command, self.path, dict(self.headers), body)
            answering.told.append(told)
            answering.heard.set()
            if answering.silent:
                ended.wait()
                return
            self.send_response(answering.status)
            for name, value in answering.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answering.body.encode())

        do_POST = do_PUT = do_GET = _answer  # noqa: N815 - the names that http.server looks for

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    answering.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield answering
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
