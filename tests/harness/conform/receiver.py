"""A receiver of the webhook written from the contract alone, sharing no code with the product; made to be spoilt.

Each step is a method of its own: a fault is a subclass that overrides one.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import re
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LIMIT = 1_048_576
WINDOW_S = 300.0
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
FIELDS = {"event_type": str, "aggregate_type": str, "aggregate_id": str, "payload": dict}


class Refused(Exception):  # noqa: N818  an answer, no error
    def __init__(self, status: int, code: str, message: str = "not taken", **headers: str) -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.headers = status, code, message, headers


class Faultless(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Running
    limit = LIMIT
    window_s = WINDOW_S

    # --- the order of things

    def do(self) -> None:
        try:
            self.answer(200, self.take())
        except Refused as refused:
            self.refuse(refused)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do

    def take(self) -> dict[str, Any]:
        body = self.read()
        if self.command != "POST":
            raise Refused(405, "method_not_allowed", allow="POST")
        if not self.is_json(self.headers.get_all("content-type", [])):
            raise Refused(415, "unsupported_media_type")
        self.check_signature(body)
        key, instance = self.key(), self.instance()
        self.sequence()
        self.check_standard(body, key)
        self.check_event(body)
        return self.store(instance, key, body)

    # --- the bytes

    def read(self) -> bytes:
        if self.headers.get("transfer-encoding"):
            self.close_connection = True
            raise Refused(411, "length_required")
        size = int(self.headers.get("content-length", 0))
        if size > self.limit:
            self.rfile.read(size)  # else what was not read resets the connection under the answer
            self.close_connection = True
            raise Refused(413, "payload_too_large")
        return self.rfile.read(size)

    def is_json(self, kinds: list[str]) -> bool:
        return len(kinds) == 1 and bool(
            re.fullmatch(r'application/json\s*(;\s*charset="?utf-8"?)?', kinds[0], re.IGNORECASE)
        )

    # --- who sent it, and when

    def one(self, name: str) -> str | None:
        """The header's value, if it is there once; None for none and for several."""
        values = self.headers.get_all(name, [])
        return values[0] if len(values) == 1 else None

    def check_signature(self, body: bytes) -> None:
        timestamp, signature = self.one("x-ipai-timestamp"), self.one("x-ipai-signature")
        if timestamp is None or not re.fullmatch("[0-9]{1,16}", timestamp):
            raise Refused(401, "malformed_timestamp")
        if signature is None or not re.fullmatch("[0-9a-f]{64}", signature):
            raise Refused(401, "malformed_signature")
        if not self.is_fresh(self.seconds(timestamp)):
            raise Refused(401, "stale_timestamp")
        if not self.holds(timestamp, signature, body):
            raise Refused(401, "bad_signature")

    def seconds(self, timestamp: str) -> float:
        return float(timestamp) if len(timestamp) < 12 else int(timestamp) / 1000

    def is_fresh(self, seconds: float) -> bool:
        return abs(time.time() - seconds) <= self.window_s

    def signed(self, timestamp: str, body: bytes) -> bytes:
        return timestamp.encode() + b"." + body

    def secrets(self) -> list[str]:
        return self.server.secrets

    def holds(self, timestamp: str, signature: str, body: bytes) -> bool:
        return any(
            hmac.compare_digest(
                hmac.digest(secret.encode(), self.signed(timestamp, body), hashlib.sha256).hex(), signature
            )
            for secret in self.secrets()
        )

    def check_standard(self, body: bytes, key: str) -> None:
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        if not any(name in self.headers for name in names):
            return
        id, timestamp, signatures = (self.one(name) for name in names)
        if id is None or signatures is None or timestamp is None or not re.fullmatch("[0-9]{1,11}", timestamp):
            raise Refused(401, "malformed_webhook_headers")
        if id.lower() != key or not self.is_fresh(float(timestamp)):
            raise Refused(401, "webhook_headers_do_not_fit")
        right = {
            "v1," + base64.b64encode(hmac.digest(base64.b64decode(secret[6:]), signed, hashlib.sha256)).decode()
            for secret in self.secrets()
            for signed in [f"{id}.{timestamp}.".encode() + body]
        }
        if not right & set(signatures.split(" ")):
            raise Refused(401, "bad_webhook_signature")

    # --- what it says

    def key(self) -> str:
        key = self.one("x-idempotency-key")
        if key is None or not UUID.fullmatch(key):
            raise Refused(400, "malformed_idempotency_key")
        return key.lower()

    def instance(self) -> str:
        instance = self.headers.get("x-ipai-instance", "default")
        if not re.fullmatch("[a-z0-9][a-z0-9_-]{0,62}", instance):
            raise Refused(400, "malformed_instance")
        return instance

    def sequence(self) -> None:
        if not re.fullmatch("[1-9][0-9]{0,17}", self.headers.get("x-ipai-sequence", "1")):
            raise Refused(400, "malformed_sequence")

    def check_event(self, body: bytes) -> None:
        try:
            self.check_keys(self.parse(body))
            self.check_text(body)
        except (ValueError, RecursionError) as error:
            raise Refused(400, "invalid_event") from error

    def text(self, body: bytes) -> str:
        text = body.decode("utf-8")
        if text.startswith("\ufeff"):
            raise ValueError
        return text

    def parse(self, body: bytes) -> Any:
        def refuse(_: str) -> None:
            raise ValueError

        return json.loads(self.text(body), parse_constant=refuse, object_pairs_hook=self.pairs)

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError
        return dict(pairs)

    def check_keys(self, event: Any) -> None:
        if not isinstance(event, dict) or set(event) != set(FIELDS):
            raise ValueError
        self.check_types(event)

    def check_types(self, event: dict[str, Any]) -> None:
        if not all(isinstance(event[name], kind) for name, kind in FIELDS.items()):
            raise ValueError
        if not all(event[name] for name in FIELDS if name != "payload"):
            raise ValueError

    def check_text(self, body: bytes) -> None:
        """No NUL, and no half of a surrogate pair."""
        text = json.dumps(json.loads(body), ensure_ascii=False)
        if "\\u0000" in text:
            raise ValueError
        text.encode("utf-8")

    # --- once

    def store(self, instance: str, key: str, body: bytes) -> dict[str, Any]:
        seen = self.server
        with seen.lock:
            who = self.signed_for(instance, key)
            if seen.signatures.setdefault(self.headers["x-ipai-signature"], who) != who:
                raise Refused(401, "replayed_signature")
            name = self.same_event(instance, key, body)
            duplicate = name in seen.events
            return {"ok": True, "id": seen.events.setdefault(name, len(seen.events) + 1), "duplicate": duplicate}

    def signed_for(self, instance: str, key: str) -> tuple[str, str]:
        return instance, key

    def same_event(self, instance: str, key: str, body: bytes) -> Any:
        return instance, key

    # --- the answer

    def refuse(self, refused: Refused) -> None:
        error = {"code": refused.code, "message": refused.message}
        self.answer(refused.status, {"ok": False, "error": error}, **refused.headers)

    def answer(self, status: int, value: Any, **headers: str) -> None:
        self.say(status, json.dumps(value).encode(), content_type="application/json", **headers)

    def say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet."""


class Running(ThreadingHTTPServer):
    """The receiver at work; what it stored lives as long as it runs."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: type[Faultless], secrets: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.secrets = secrets
        self.lock = threading.Lock()
        self.signatures: dict[str, tuple[str, str]] = {}
        self.events: dict[Any, int] = {}

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # without asking a name server for this machine's name
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet: a client that went away."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hooks/odoo"


@contextlib.contextmanager
def serving(handler: type[Faultless], secrets: list[str]) -> Iterator[Running]:
    """A receiver for the time of the block."""
    running = Running(handler, secrets)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield running
    finally:
        running.shutdown()
        thread.join()
        running.server_close()
