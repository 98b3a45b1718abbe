"""What a relay does with an outbox, in short words for the conformance suite."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ipai_bridge.event import Event, next_id
from ipai_bridge.outbox.store import Hold, Lease, Outbox, Settlement

LEASE = 60.0


def event(aggregate_id: str = "1", number: int = 0, **changes: Any) -> Event:
    values: dict[str, Any] = {
        "id": next_id(),
        "event_type": "res.partner.updated",
        "aggregate_type": "res.partner",
        "aggregate_id": aggregate_id,
        "payload": {"number": number},
    }
    return Event.create(**values | changes)


def settled(lease: Lease, index: int = 0, status: str = "delivered", **changes: Any) -> Settlement:
    values: dict[str, Any] = {
        "event_id": lease.events[index].event.id,
        "token": lease.token,
        "status": status,
        "attempts": 1,
        "http_status": 200 if status == "delivered" else 500,
        "error": None if status == "delivered" else "HTTP 500",
        "delay": 0.0,
        "took": 0.01,
    }
    return Settlement(**values | changes)


def release(*leases: Lease) -> list[Hold]:
    return [Hold(lease, release=True) for lease in leases]


def deliver_all(outbox: Outbox, *, limit: int = 100) -> list[tuple[str, int]]:
    """Claim and settle until nothing is due: (aggregate id, sequence) in the order of delivery."""
    delivered = []
    while leases := outbox.claim(limit=limit, lease=LEASE):
        for lease in leases:
            delivered += [(lease.aggregate.aggregate_id, claimed.sequence) for claimed in lease.events]
        settlements = [settled(lease, index) for lease in leases for index in range(len(lease.events))]
        assert outbox.settle(settlements, release(*leases), lease=LEASE) == []
    return delivered


def claim_until(outbox: Outbox, found: Callable[[list[Lease]], bool], *, lease: float = LEASE) -> list[Lease]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        leases = outbox.claim(limit=10, lease=lease)
        if found(leases):
            return leases
        time.sleep(0.01)
    raise AssertionError("nothing of the kind was claimed within 10 s")
