"""An event to post, and a transport to post it with."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

from ipai_bridge.delivery.transport import Attempt, Transport
from ipai_bridge.event import Event, next_id
from ipai_bridge.outbox.store import Claimed
from ipai_bridge.secret import Secret
from tests.bridge.delivery.receiver import (
    Answer,
    Receiver,
    Request,
)

SECRET_TEXT = "whsec_" + "c2VjcmV0LW9mLXRoZS10cmFuc3BvcnQtdGVzdHMhISE="
SECRET = Secret(SECRET_TEXT)
TIMEOUT = 5.0
SLACK = 2.0  # seconds that a slow machine may take on top


def transport(server: Receiver, **changes: Any) -> Transport:
    values: dict[str, Any] = {"timeout": TIMEOUT, "user_agent": "ipai-bridge/0"}
    return Transport(server.functions_url, SECRET, **(values | changes))


def claimed(**changes: Any) -> Claimed:
    values: dict[str, Any] = {
        "id": next_id(),
        "event_type": "res.partner.updated",
        "aggregate_type": "res.partner",
        "aggregate_id": "7",
        "payload": {"name": "Peñaranda - 株式会社 😀", "amount": 1150.0},
        "instance": "paris",
    }
    return Claimed(Event.create(**(values | changes)), 3, 0, 0.0, datetime.now(timezone.utc))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def post(server: Receiver, *answers: Answer, **changes: Any) -> Attempt:
    server.script.extend(answers)
    return transport(server, **changes).post(claimed(), timestamp_ms=now_ms())


def signed_headers(request: Request) -> dict[str, str]:
    names = ("content-type", "x-", "webhook-")
    return {name: value for name, value in request.headers if name.startswith(names)}
