"""An HTTP session that a misbehaving server can neither hold up nor fill.

What `requests` leaves open, and what is done about it here:

- Its timeout is for each wait for bytes, so a server that sends one byte now and then holds a thread for ever. Here the
  whole answer (status line, headers, and as much of the body as is read) has the timeout, from the request's end on.
- It prepares the request that would follow a redirect even where none is to be followed, and for that reads the whole
  body, decompressed, into memory. Here no answer is a redirect.
- It keeps cookies and sends them back: every cookie that a gateway sets would make the next request larger.
- It looks into the environment and ~/.netrc at every request. Here never.
"""

from __future__ import annotations

import io
import os
import socket
import time
from http.client import HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import requests
import requests.adapters
import requests.utils
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def new_session(user_agent: str) -> requests.Session:
    """A session for one thread. Give `timeout`, and the `surroundings`, with each request."""
    session = _Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers["user-agent"] = user_agent
    # The body is read raw and cut short, so a compressed one would be of no use.
    session.headers["accept-encoding"] = "identity"
    session.mount("https://", _Adapter())
    session.mount("http://", _Adapter())
    return session


def surroundings(url: str) -> dict[str, Any]:
    """What the environment says now of the way to `url`: `proxies` and `verify`, to be given with each request."""
    return {
        "proxies": requests.utils.get_environ_proxies(url),
        "verify": os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True,
    }


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002
        return None


class _UntilDeadline(io.RawIOBase):
    """The bytes of a socket for as long as its timeout lasts, from now and in all."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = time.monotonic() + (sock.gettimeout() or float("inf"))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        if left != float("inf"):
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_UntilDeadline(self.fp.detach(), sock))


class _HttpConnection(HTTPConnection):
    response_class = _Response


class _HttpsConnection(HTTPSConnection):
    response_class = _Response


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


class _Adapter(requests.adapters.HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _bound(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return _bound(super().proxy_manager_for(*args, **kwargs))


def _bound(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
    return manager
