"""Each event's way from Odoo's outbox to Supabase, read from both databases and joined by the idempotency key."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg2

from ipai_harness.errors import HarnessError
from ipai_harness.observe.rows import ReceivedEvent

_OUTBOX = """
    select id, event_type, aggregate_type, aggregate_id, sequence, status, attempts, last_error, payload::text,
           created_at
    from ipai_bridge.outbox
    where instance = %s
    order by position
"""
_RECEIVED = """
    select e.idempotency_key, e.event_type, e.aggregate_type, e.aggregate_id, e.sequence, e.status, e.error_message,
           e.payload::text, e.received_at, e.processed_at,
           (select count(*) from odoo.event_log as l
            where l.instance_id = e.instance_id and l.idempotency_key = e.idempotency_key),
           e.id, e.outcome
    from odoo.webhook_events as e
    join odoo.instances as i on i.id = e.instance_id
    where i.name = %s
    order by e.id
"""


class OutcomeTimeout(HarnessError):  # noqa: N818  named after what is the case, like ipai_harness.errors
    """What was waited for did not happen in time."""


@dataclass(frozen=True, slots=True)
class Journey:
    """One event: what Odoo's outbox holds of it, and what Supabase does. None where that side does not know it."""

    idempotency_key: str
    event_type: str
    aggregate_type: str
    aggregate_id: str
    sequence: int | None
    outbox_status: str | None
    attempts: int | None
    last_error: str | None
    sent: Any
    webhook_status: str | None
    webhook_error: str | None
    received: Any
    log_rows: int
    arrival: int | None
    """Grows in the order of arrival."""
    outcome: str | None
    """`applied`, or `superseded` when something newer of the record had been applied before."""
    emitted_at: datetime | None
    received_at: datetime | None
    processed_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """The form that `demo --json` prints."""
        return {
            "idempotency_key": self.idempotency_key,
            "event_type": self.event_type,
            "aggregate_type": self.aggregate_type,
            "aggregate_id": self.aggregate_id,
            "outbox_status": self.outbox_status,
            "attempts": self.attempts,
            "webhook_status": self.webhook_status,
            "hops": {
                name: None if value is None else value.isoformat()
                for name, value in (
                    ("emitted_at", self.emitted_at),
                    ("received_at", self.received_at),
                    ("processed_at", self.processed_at),
                )
            },
        }


def journeys(odoo_dsn: str | None, supabase_dsn: str | None, instance: str) -> list[Journey]:
    """Every event that either side knows of this instance, in the order of emitting.

    None for a side that cannot be looked at: nothing is known of it then.
    """
    outbox = {row[0]: row for row in _query(odoo_dsn, _OUTBOX, (instance,))} if odoo_dsn else {}
    received = {row[0]: row for row in _query(supabase_dsn, _RECEIVED, (instance,))} if supabase_dsn else {}
    found = []
    for key in dict.fromkeys([*outbox, *received]):
        here, there = outbox.get(key), received.get(key)
        named = here or there
        assert named is not None  # noqa: S101  the key came from one of the two
        found.append(
            Journey(
                idempotency_key=str(key),
                event_type=named[1],
                aggregate_type=named[2],
                aggregate_id=named[3],
                sequence=named[4],
                outbox_status=here[5] if here else None,
                attempts=here[6] if here else None,
                last_error=here[7] if here else None,
                sent=json.loads(here[8]).get("payload") if here else None,
                webhook_status=there[5] if there else None,
                webhook_error=there[6] if there else None,
                received=json.loads(there[7]) if there else None,
                log_rows=there[10] if there else 0,
                arrival=there[11] if there else None,
                outcome=there[12] if there else None,
                emitted_at=here[9] if here else None,
                received_at=there[8] if there else None,
                processed_at=there[9] if there else None,
            )
        )
    return found


def arrived(event: ReceivedEvent) -> Journey:
    """An event of which only the receiver's side can be seen."""
    return Journey(
        idempotency_key=event.key, event_type=event.event_type, aggregate_type=event.aggregate_type,
        aggregate_id=event.aggregate_id, sequence=event.sequence, outbox_status=None, attempts=None, last_error=None,
        sent=None, webhook_status=event.status, webhook_error=event.error, received=event.payload, log_rows=0,
        arrival=None, outcome=None, emitted_at=None, received_at=event.received_at, processed_at=event.processed_at,
    )  # fmt: skip


def eventually(
    look: Callable[[], Sequence[Journey]],
    done: Callable[[Sequence[Journey]], bool],
    *,
    what: str,
    timeout: float = 30.0,
    interval: float = 0.05,
) -> Sequence[Journey]:
    """Look until `done`; what was seen then.

    Raises:
        OutcomeTimeout: not within `timeout` seconds; the text says what was last seen.
    """
    deadline = time.monotonic() + timeout
    while True:
        seen = look()
        if done(seen):
            return seen
        if time.monotonic() >= deadline:
            lines = "\n".join(f"  {describe(journey)}" for journey in seen) or "  no event at all"
            raise OutcomeTimeout(f"not within {timeout:g} s: {what}. Last seen:\n{lines}")
        time.sleep(interval)


def describe(journey: Journey) -> str:
    """One line for people."""
    why = journey.last_error or journey.webhook_error
    return (
        f"{journey.event_type} {journey.aggregate_type},{journey.aggregate_id} #{journey.sequence} "
        f"outbox={journey.outbox_status} attempts={journey.attempts} supabase={journey.webhook_status}"
        + (f" ({why})" if why else "")
    )


def broken_laws(seen: Iterable[Journey]) -> list[str]:
    """What is wrong with settled events, by law; empty when all is well."""
    broken = []
    aggregates: dict[tuple[str, str], list[Journey]] = {}
    for journey in seen:
        name = describe(journey)
        if journey.outbox_status is None:
            broken.append(f"law 2, never sent for a transaction that rolled back: {name} is in Supabase only")
        elif journey.webhook_status is None:
            broken.append(f"law 1, never lost: {name} did not arrive")
        elif journey.outbox_status != "delivered" or journey.webhook_status != "completed":
            broken.append(f"law 1, never lost: {name} is not completed")
        elif journey.sent != journey.received:
            broken.append(f"law 6, nothing altered is stored: {name} arrived with another payload")
        if journey.webhook_status is not None and journey.log_rows != 1:
            broken.append(f"law 3, once in effect: {name} has {journey.log_rows} rows in event_log")
        aggregates.setdefault((journey.aggregate_type, journey.aggregate_id), []).append(journey)
    for (aggregate_type, aggregate_id), events in aggregates.items():
        record = f"{aggregate_type},{aggregate_id}"
        numbers = [journey.sequence for journey in events]
        if numbers != list(range(1, len(numbers) + 1)):
            broken.append(f"law 4, in order: {record} was numbered {numbers}")
        arrived = sorted((journey for journey in events if journey.arrival is not None), key=_arrival)
        if [journey.sequence for journey in arrived] != sorted(journey.sequence or 0 for journey in arrived):
            broken.append(f"law 4, in order: {record} arrived as {[journey.sequence for journey in arrived]}")
        if late := [journey.sequence for journey in events if journey.outcome == "superseded"]:
            broken.append(f"law 4, in order: of {record}, {late} came after something newer and had no effect")
    return broken


def _arrival(journey: Journey) -> int:
    return journey.arrival or 0


def _query(dsn: str, sql: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()
