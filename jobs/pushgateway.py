"""Telling a Prometheus Pushgateway, without ever waiting for it while there is work.

The standard library is enough: a push is one POST of a text. It is sent by a thread of its own,
since no timeout of a socket covers the look-up of a name, or an answer that comes a byte at a time.
While a push is under way the next is left out; the last one of a run is waited for, `LAST_SECONDS`
at most.
"""

from __future__ import annotations

import re
import time
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pipeline.errors import printable

if TYPE_CHECKING:
    from pipeline.metrics import Labels

SOCKET_SECONDS = 3.0
"""How long each step of a push may take: connecting, sending, answering."""

LAST_SECONDS = 5.0
"""How long the end of a run waits for its last push."""

GROUP = "/metrics/job/shardscore"


class Pushgateway:
    """A Pushgateway, told by POST: what a push does not say stays as it was there.

    The group is `job="shardscore"` and the labels that are on each sample. An instance is none of
    them: who runs the job tonight is no matter, and each pod would leave a group of its own.

    Args:
        address: `http[s]://[user:password@]host[:port][/prefix]`.

    Raises:
        ValueError: It is none.
    """

    def __init__(self, address: str) -> None:
        try:
            parts = urlsplit(address)
            whole = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            whole = False
        if not whole:  # the address is not repeated: it may hold a password
            raise ValueError("an address like http://gateway:9091 is wanted")
        if parts.query or parts.fragment or re.search(r"/metrics(/|$)", parts.path):
            raise ValueError(f"the gateway's address alone is wanted: {GROUP} is added to it")
        host = parts.netloc.rpartition("@")[2]
        self.shown = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
        self._login = None
        if parts.username is not None:
            self._login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        self._sending: Thread | None = None
        self._problem: str | None = None

    def tell(self, text: str, labels: Labels, *, last: bool) -> str | None:
        """Sends a text.

        Args:
            text: Metrics in Prometheus' text format.
            labels: What is on each of them.
            last: Whether it is a run's last one, which is waited for.

        Returns:
            What went wrong with this push or one before it, if anything is known to have.
        """
        deadline = time.monotonic() + LAST_SECONDS
        if self._sending is not None and last:
            self._sending.join(LAST_SECONDS)
        if self._sending is not None and self._sending.is_alive():
            return "it does not answer" if last else None
        url = self.shown + GROUP + "".join(f"/{name}/{value}" for name, value in labels.items())
        self._sending = Thread(target=self._send, args=(url, text.encode()), daemon=True)
        self._sending.start()
        if last:
            self._sending.join(max(0.0, deadline - time.monotonic()))
            if self._sending.is_alive():
                return "it does not answer"
        problem, self._problem = self._problem, None
        return problem

    def _send(self, url: str, body: bytes) -> None:
        try:
            self._problem = _posted(url, body, self._login)
        except Exception as error:
            # A figure that is not told is no reason to end a run; the reason is shown.
            reason = getattr(error, "reason", None)  # that of a URLError says all
            self._problem = printable(str(reason or f"{type(error).__name__}: {error}"))


def _posted(url: str, body: bytes, login: str | None) -> str | None:
    """Posts a text; says what the server has against it, if anything."""
    import base64
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class NoRedirects(HTTPRedirectHandler):
        """A POST that is sent elsewhere would become a GET, and seem to have been heard."""

        def redirect_request(self, *_: Any) -> None:
            return None

    headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    if login is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    request = Request(url, body, headers, method="POST")  # noqa: S310 - http and https alone
    try:
        with build_opener(NoRedirects).open(request, timeout=SOCKET_SECONDS):
            return None
    except HTTPError as error:
        said = error.read(200).decode(errors="replace").strip()
        return printable(f"it answers {error.code} {error.reason}: {said}".rstrip(": "))
