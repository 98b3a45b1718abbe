"""A functions URL before the real one: it sees each request and each answer, and may answer itself.

    with Proxy(functions_url, answered=lambda request, answer: relay.kill()) as proxy:
        … a relay that sends to proxy.url …

Whoever waits for an answer hears it only after `answered` has returned.
"""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["Answer", "Proxy", "Request"]

_HOP = {"transfer-encoding", "content-length", "connection", "keep-alive", "date", "server"}


class Request(NamedTuple):
    """One POST, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """What the sender is told."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Proxy:
    """Listens on a free port of `host` from `start` (or entering) to `stop`."""

    def __init__(
        self,
        upstream: str,
        *,
        intercept: Callable[[Request], Answer | None] = lambda _request: None,
        answered: Callable[[Request, Answer], None] = lambda _request, _answer: None,
        host: str = "127.0.0.1",
    ) -> None:
        """`intercept`: an answer in place of the receiver's, which then hears nothing."""
        self._upstream = urlsplit(upstream)
        self._intercept = intercept
        self._answered = answered
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                answer = proxy._pass_on(Request(self.path, dict(self.headers), body))
                self.send_response(answer.status)
                for name, value in answer.headers:
                    if name.lower() not in _HOP:
                        self.send_header(name, value)
                self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # the sender was killed while it waited: that is what such a proxy is for

        self._server = Server((host, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="fault proxy", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def path(self) -> str:
        """The path of the functions URL."""
        return self._upstream.path

    @property
    def url(self) -> str:
        """The functions URL to give to a sender on this machine."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    def _pass_on(self, request: Request) -> Answer:
        answer = self._intercept(request)
        if answer is not None:
            return answer
        connection = http.client.HTTPConnection(self._upstream.hostname or "", self._upstream.port, timeout=60)
        try:
            connection.request("POST", request.path, request.body, request.headers)
            response = connection.getresponse()
            answer = Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()
        self._answered(request, answer)
        return answer

    def start(self) -> Proxy:
        """Begin to listen."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Listen no more; requests under way are left to end."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Proxy:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
