"""One request over the wire as a case says: a header twice, half a body, no length. Follows no redirect."""

from __future__ import annotations

import base64
import contextlib
import http.client
import select
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

import requests.utils

from ipai_bridge.delivery.session import surroundings
from ipai_harness.conform.shot import Request

MAX_ANSWER = 65_536
_PIECE = 65_536
_EARLY_S = 0.2
"""How long an answer to the headers alone is waited for, before a large body follows."""


@dataclass(frozen=True)
class Answer:
    """What came back. `status` is None when nothing did; `fault` says why."""

    status: int | None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0
    fault: str | None = None


def send(url: str, request: Request, timeout: float) -> Answer:
    """The answer to one request, on a connection of its own. Raises nothing of the network's."""
    started = time.monotonic()
    answer = _try(url, request, timeout)
    if answer.status is None and len(request.body) > _PIECE:
        # A receiver may answer early and close; what is still on the way then resets the connection under its answer.
        answer = _try(url, request, timeout)
    return Answer(answer.status, answer.headers, answer.body, time.monotonic() - started, answer.fault)


def _try(url: str, request: Request, timeout: float) -> Answer:
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with contextlib.closing(_connection(parts, url, timeout)) as connection:
        try:
            connection.putrequest(request.method, path, skip_accept_encoding=True)
            connection.putheader("user-agent", "ipai-harness conform")
            connection.putheader("accept-encoding", "identity")
            connection.putheader("connection", "close")
            if request.chunked:
                connection.putheader("transfer-encoding", "chunked")
            elif request.body or request.method not in ("GET", "HEAD"):
                connection.putheader("content-length", str(len(request.body)))
            for name, value in request.headers:
                connection.putheader(name, value.encode("latin-1"))
            connection.endheaders()
            with contextlib.suppress(ConnectionError, ssl.SSLError):  # it may have answered before it closed
                _send_body(connection, request)
            response = connection.getresponse()
            body = response.read(MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            return Answer(None, fault=_said(error, timeout))
        headers: dict[str, str] = {}
        for name, value in response.getheaders():
            headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
        return Answer(response.status, headers, body)


def _send_body(connection: http.client.HTTPConnection, request: Request) -> None:
    for number, piece in enumerate(_pieces(request)):
        if number == 1 and request.pause:
            time.sleep(request.pause)
        early = _EARLY_S if number == 0 and len(request.body) > 4 * _PIECE else 0.0
        # Over TLS there is something to read before there is an answer: the server's session tickets.
        if (early or number) and not isinstance(connection.sock, ssl.SSLSocket):
            readable, _, _ = select.select([connection.sock], [], [], early)
            if readable:
                return
        connection.send(piece)


def _pieces(request: Request) -> Iterator[bytes]:
    size = max(1, len(request.body) // 2) if request.pause else _PIECE
    for at in range(0, len(request.body), size):
        piece = request.body[at : at + size]
        yield b"%x\r\n%s\r\n" % (len(piece), piece) if request.chunked else piece
    if request.chunked:
        yield b"0\r\n\r\n"


def _connection(parts: SplitResult, url: str, timeout: float) -> http.client.HTTPConnection:
    host, port = parts.hostname or "", parts.port
    if parts.scheme != "https":
        return http.client.HTTPConnection(host, port, timeout=timeout)
    around = surroundings(url)
    trusted = around["verify"] if isinstance(around["verify"], str) else requests.utils.DEFAULT_CA_BUNDLE_PATH
    context = ssl.create_default_context()
    context.load_verify_locations(**_where(trusted))
    proxy = urlsplit(around["proxies"].get("https") or around["proxies"].get("all") or "")
    if not proxy.hostname:
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    connection = http.client.HTTPSConnection(proxy.hostname, proxy.port or 3128, timeout=timeout, context=context)
    named = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}".encode()
    login = {"proxy-authorization": "Basic " + base64.b64encode(named).decode()} if proxy.username else {}
    connection.set_tunnel(host, port, headers=login)
    return connection


def _where(trusted: str) -> dict[str, str]:
    return {"capath": trusted} if Path(trusted).is_dir() else {"cafile": trusted}


def _said(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closed the connection without an answer"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"the connection broke off ({type(error).__name__})"
