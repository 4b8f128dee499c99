"""What a run asks of storage, counted: calls of the protocol, and requests to an S3 server."""

from __future__ import annotations

import http.client
import threading
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs, urlsplit

from pipeline.storage.memory import MemoryBucket, MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    import pyarrow as pa

    from pipeline.storage import ObjectInfo, Staged, Storage


@dataclass
class Calls:
    """How often what was called, by the place it was called on: `out list`, `in open_input`."""

    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1

    @contextmanager
    def during(self) -> Iterator[Counter[str]]:
        """What is called within the block, which is known at its end."""
        before, found = self.counts.copy(), Counter[str]()
        yield found
        found.update(self.counts - before)


class CountedStorage:
    """A storage whose calls are counted: of staged objects published together, each."""

    def __init__(self, inner: Storage, place: str, calls: Calls) -> None:
        self._inner = inner
        self._place = place
        self._calls = calls
        self.url = inner.url

    def _count(self, name: str) -> None:
        self._calls.add(f"{self._place} {name}")

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._count("list")
        return self._inner.list(prefix)

    def info(self, name: str) -> ObjectInfo:
        self._count("info")
        return self._inner.info(name)

    def open_input(self, name: str) -> pa.NativeFile:
        self._count("open_input")
        return self._inner.open_input(name)

    def blocks(self, name: str) -> Iterator[bytes]:
        self._count("blocks")
        return self._inner.blocks(name)

    def read(self, name: str) -> bytes:
        self._count("read")
        return self._inner.read(name)

    def create(self, name: str, data: bytes) -> None:
        self._count("create")
        self._inner.create(name, data)

    def replace(self, name: str, data: bytes) -> None:
        self._count("replace")
        self._inner.replace(name, data)

    def delete(self, name: str) -> None:
        self._count("delete")
        self._inner.delete(name)

    def stage(self, name: str) -> CountedStaged:
        self._count("stage")
        return CountedStaged(self._inner.stage(name), self._count)

    def publish_all(self, staged: Sequence[Staged]) -> tuple[bool, ...]:
        for _ in staged:
            self._count("publish")
        return self._inner.publish_all([one.inner for one in staged])  # type: ignore[attr-defined]

    def hold(self, name: str, *, shared: bool = False) -> AbstractContextManager[None]:
        self._count("hold")
        return self._inner.hold(name, shared=shared)

    def sweep(self) -> int:
        self._count("sweep")
        return self._inner.sweep()

    def refuses(self, name: str) -> str | None:
        return self._inner.refuses(name)  # asks nothing of what is stored


class CountedStaged:
    """A staged object whose publishing is counted."""

    def __init__(self, inner: Staged, count: Callable[[str], None]) -> None:
        self.inner = inner
        self.path = inner.path
        self._count = count

    def write(self, data: bytes) -> None:
        self.inner.write(data)

    def publish(self, name: str | None = None) -> None:
        self._count("publish")
        self.inner.publish(name)

    def replace(self, only_if: ObjectInfo | None = None) -> None:
        self._count("replace as staged")
        self.inner.replace(only_if)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.inner.__exit__(*exc)


def counted_memory(calls: Calls) -> Callable[[str], CountedStorage]:
    """What makes the storages of a scheme, in memory. Of `scheme://bucket/place/…` the calls are
    counted under the place."""
    buckets: defaultdict[str, MemoryBucket] = defaultdict(MemoryBucket)

    def factory(address: str) -> CountedStorage:
        bucket, _, prefix = address.partition("://")[2].partition("/")
        inner = MemoryStorage(address, buckets[bucket], f"{prefix}/" if prefix else "")
        return CountedStorage(inner, prefix.partition("/")[0] or "root", calls)

    return factory


class CountingProxy:
    """Hands requests on to a server and counts them: GET, LIST, HEAD, PUT, DELETE, and those that
    bring or take more than a footer by the same names. A context manager.

    The client is told the proxy's address, and signs it: a server that checks signatures takes the
    host that the request names.

    Args:
        endpoint: The server.
        calls: Where requests are counted, under the first part of their keys.
        depth: How many parts of a path come before that part.
    """

    def __init__(self, endpoint: str, calls: Calls, depth: int) -> None:
        there = urlsplit(endpoint)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handed_on(self) -> None:
                calls.add(_named(self.command, self.path, depth))
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                onward = http.client.HTTPConnection(there.hostname or "", there.port, timeout=30)
                try:
                    onward.putrequest(
                        self.command, self.path, skip_host=True, skip_accept_encoding=True
                    )
                    for name, value in self.headers.items():
                        if name.lower() != "connection":
                            onward.putheader(name, value)
                    onward.endheaders(body or None)
                    answer = onward.getresponse()
                    data = answer.read()
                finally:
                    onward.close()
                self.send_response_only(answer.status)
                told = {name.lower(): value for name, value in answer.getheaders()}
                for name in ("connection", "transfer-encoding"):
                    told.pop(name, None)
                if self.command != "HEAD":
                    told["content-length"] = str(len(data))
                for name, value in told.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = handed_on  # noqa: N815

            def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _named(command: str, path: str, depth: int) -> str:
    parts = urlsplit(path)
    asked = parse_qs(parts.query)
    if "list-type" in asked or ("prefix" in asked and command == "GET"):
        command, key = "LIST", asked.get("prefix", [""])[0]
        depth -= 1  # the bucket is in the path, and not in the prefix
    else:
        key = parts.path.lstrip("/")
    place = key.split("/")[depth : depth + 1]
    return f"{place[0]} {command}" if place else command
