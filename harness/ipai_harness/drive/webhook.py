"""Requests to the functions, signed as the relay signs them, or with one thing wrong on purpose."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ipai_bridge.event import next_id
from ipai_bridge.secret import Secret
from ipai_bridge.signing import sign

__all__ = ["Reply", "Sender", "event_body"]

PATH = "odoo-webhook"


def event_body(event_type: str, aggregate_id: str, payload: str | Mapping[str, Any] = "{}") -> bytes:
    """An event of the contract as bytes; a payload that is text goes in as it is, digit for digit."""
    text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
    aggregate_type = event_type.rpartition(".")[0]
    head = {"event_type": event_type, "aggregate_type": aggregate_type, "aggregate_id": aggregate_id}
    return (json.dumps(head, separators=(",", ":"))[:-1] + f',"payload":{text}}}').encode()


@dataclass(frozen=True)
class Reply:
    """What the receiver answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def code(self) -> str | None:
        """The error's code, of a refusal of the contract's form."""
        error = self.json.get("error") if isinstance(self.json, dict) else None
        return error.get("code") if isinstance(error, dict) else None


@dataclass
class Sender:
    """Sends to one functions URL, as one instance."""

    functions_url: str
    secret: str
    instance: str
    authorization: str | None = None
    """A bearer token, for a gateway that demands one."""

    def headers(
        self, body: bytes, *, key: str | None = None, age: float = 0.0, sequence: int | None = None,
        secret: str | None = None,
    ) -> dict[str, str]:  # fmt: skip
        """All headers of the contract; signed `age` seconds ago."""
        made = sign(
            body, id=key or next_id(), timestamp_ms=time.time_ns() // 1_000_000 - round(age * 1000),
            secret=Secret(secret or self.secret), sequence=sequence, instance=self.instance,
        )  # fmt: skip
        return made | ({"authorization": f"Bearer {self.authorization}"} if self.authorization else {})

    def post(self, body: bytes, headers: Mapping[str, str], *, method: str = "POST", path: str = PATH) -> Reply:
        """Send exactly this."""
        url = urlsplit(self.functions_url)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        with closing(kind(url.hostname or "", url.port, timeout=30)) as connection:
            connection.request(method, f"{url.path.rstrip('/')}/{path}", body, dict(headers))
            response = connection.getresponse()
            return Reply(response.status, {n.lower(): v for n, v in response.getheaders()}, response.read())

    def send(self, body: bytes, **options: Any) -> Reply:
        """Sign and send."""
        return self.post(body, self.headers(body, **options))
