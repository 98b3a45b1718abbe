"""A real HTTP server on a loopback port that answers as it is told, byte by byte if need be."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True)
class Request:
    """One request as it came in; header names as they were sent."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


Answer = Callable[["Receiver", socket.socket, Request], bool]
"""Writes to the socket; True to keep the connection open."""


def answer(status: int = 200, body: bytes = b'{"ok":true}', *, reason: str = "Said", **headers: str) -> Answer:
    """A complete answer; header names with `_` for `-`."""

    def write(_: Receiver, connection: socket.socket, __: Request) -> bool:
        names = {"content_length": str(len(body))} | headers
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in names.items()]
        connection.sendall(f"HTTP/1.1 {status} {reason}\r\n{''.join(lines)}\r\n".encode("latin-1") + body)
        return headers.get("connection") != "close"

    return write


def raw(data: bytes, *, keep: bool = False) -> Answer:
    """These bytes, whatever they mean."""

    def write(_: Receiver, connection: socket.socket, __: Request) -> bool:
        connection.sendall(data)
        return keep

    return write


def hang(_: Receiver, connection: socket.socket, __: Request) -> bool:
    """Say nothing until the other side has closed."""
    connection.recv(1)
    return False


def reset(_: Receiver, connection: socket.socket, __: Request) -> bool:
    """Drop the connection without a byte."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    return False


def drip(head: bytes, piece: bytes, *, every: float) -> Answer:
    """First `head`, then `piece` every so many seconds, for ever."""

    def write(receiver: Receiver, connection: socket.socket, _: Request) -> bool:
        connection.sendall(head)
        while not receiver.closing.wait(every):
            connection.sendall(piece)
        return False

    return write


class Receiver:
    """What it got is in `requests`; `script` holds the next answers, `default` is for when it is empty."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.requests: list[Request] = []
        self.script: deque[Answer] = deque()
        self.default: Answer = answer()
        self.connections = 0
        self.closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def functions_url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/functions/v1"

    def drop_connections(self) -> None:
        """Close every open connection, as a server does with idle ones."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close everything and wait for the threads."""
        self.closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                number = self.connections
            thread = threading.Thread(target=self._serve, args=(connection, number))
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), plain:
            connection = self.tls.wrap_socket(plain, server_side=True) if self.tls else plain
            with self._lock:
                self._open.add(connection)
            with connection, connection.makefile("rb") as stream:
                while (request := _read(stream, number)) is not None:
                    with self._lock:
                        self.requests.append(request)
                        say = self.script.popleft() if self.script else self.default
                    if not say(self, connection, request):
                        break


def _read(stream: Any, number: int) -> Request | None:
    line = stream.readline().decode("latin-1").rstrip("\r\n")
    if not line:
        return None
    headers = []
    while header := stream.readline().decode("latin-1").rstrip("\r\n"):
        name, _, value = header.partition(": ")
        headers.append((name, value))
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return Request(line, headers, stream.read(length), number)


@contextmanager
def receiver(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver for the time of the block."""
    running = Receiver(tls)
    try:
        yield running
    finally:
        running.close()


def refused_port() -> int:
    """A loopback port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def tls_context(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context for 127.0.0.1 with a new certificate, and the file with which a client trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted, private = directory / "trusted.pem", directory / "private.pem"
    trusted.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, private)
    return context, trusted
