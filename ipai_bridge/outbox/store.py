"""What an outbox promises, whatever database it lies in.

Writing and sending are two sides that meet only in the table:

- *Emitting* uses the **caller's** cursor and never opens, commits or rolls back: the event lives and dies with the
  business transaction (laws 1 and 2). It waits for no lock of another emit or of a relay (law 5).
- *Relaying* uses a connection of its own. No transaction is open while an HTTP request is under way.

The life of an event, and of the lease on its aggregate::

                     emit                    settle(DELIVERED)
    (transaction) ─────────▶ pending ──────────────────────────▶ delivered ──▶ purged, when old
                              ▲  │ ▲
          settle(RETRY later) └──┘ │ retry            purge(dead) only when asked for
                                   │      settle(DEAD)     ▲
                                   └──── dead ◀────────────┘ … pending ▶ dead

    aggregate:  free ──claim──▶ leased(token, until) ──settle(release)──▶ free
                                     │ until passes: any relay may claim it; the old token changes nothing any more

An aggregate's events are sent one after the other by whoever holds its lease, so their order is kept over retries,
several relays and restarts (law 4). A dead event no longer holds up those behind it; the gap shows in the sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID

from ipai_bridge.event import Event

SCHEMA_VERSION = 1
"""The version of the outbox's tables that this library reads and writes."""

Status = Literal["pending", "delivered", "dead"]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Whose events are kept in order: one record of one Odoo."""

    aggregate_type: str
    aggregate_id: str
    instance: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """An event that the holder of its aggregate's lease may send now."""

    event: Event
    sequence: int
    attempts: int
    """Attempts made before."""
    trying_for: float
    """Seconds since the first attempt; 0 before it."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to send for one aggregate until `until`, and what there is to send, in order."""

    aggregate: Aggregate
    token: UUID
    until: float
    """On this process's monotonic clock, seconds; reckoned from before the claim, so never later than the truth."""
    events: tuple[Claimed, ...]


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of one event in one or more attempts."""

    event_id: UUID
    token: UUID
    status: Status
    """`pending`: to be tried again after `delay`."""
    attempts: int
    """Attempts made altogether: settling the same outcome twice, after a lost answer, counts it once."""
    http_status: int | None
    error: str | None
    delay: float
    """Seconds until the next attempt; 0 unless pending."""
    took: float
    """Seconds that the attempts took."""


@dataclass(frozen=True, slots=True)
class Hold:
    """What to do with a lease at settlement: give it back, or keep it for another full term."""

    lease: Lease
    release: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the outbox, for people; `body` only where one row was asked for."""

    id: UUID
    instance: str
    aggregate_type: str
    aggregate_id: str
    event_type: str
    sequence: int | None
    status: Status
    attempts: int
    next_attempt_at: datetime
    last_status: int | None
    last_error: str | None
    created_at: datetime
    delivered_at: datetime | None
    body: str | None = None


@dataclass(frozen=True, slots=True)
class Depth:
    """How much is waiting."""

    pending: int
    dead: int
    oldest_pending_age: float | None
    """Seconds; None when nothing is pending."""


class Cursor(Protocol):
    """The part of a DB-API cursor that emitting needs: psycopg2's, sqlite3's, and Odoo's own `env.cr`."""

    def execute(self, query: str, params: Any = ..., /) -> object:
        """Run one statement."""


class Outbox(Protocol):
    """The relay's side of an outbox. Not to be shared between threads.

    Every method raises `OutboxUnavailable` when the database cannot be reached; a later call connects again.
    """

    def install(self) -> bool:
        """Create what is missing of the tables; True if anything was. Safe when several processes do it at once."""

    def claim(self, *, limit: int, lease: float) -> list[Lease]:
        """Lease up to `limit` aggregates for `lease` seconds, with up to `limit` of their events altogether."""

    def settle(self, settlements: Sequence[Settlement], holds: Sequence[Hold], *, lease: float) -> list[Lease]:
        """Record outcomes, give back or renew leases; the leases that were lost meanwhile are returned.

        Every lease that a settlement belongs to must be among `holds`. A settlement under a lost lease changes nothing.
        """

    def wait(self, timeout: float, wakeup: int) -> None:
        """Return when something was perhaps emitted, `wakeup` (a file descriptor) is readable, or after `timeout` s."""

    def close(self) -> None:
        """Close the connection. Leases stay until they are settled or expire."""

    def entries(
        self,
        *,
        status: Status | None = None,
        event_type: str | None = None,
        aggregate_type: str | None = None,
        aggregate_id: str | None = None,
        limit: int = 100,
    ) -> list[Entry]:
        """The newest rows that fit."""

    def show(self, event_id: UUID) -> Entry:
        """One row with its body. Raises `EventNotFound`."""

    def retry(self, *, ids: Sequence[UUID] | None = None, event_type: str | None = None) -> list[UUID]:
        """Make dead events pending again (all that fit); their ids."""

    def purge(self, *, status: Literal["delivered", "dead"], older_than: float) -> int:
        """Delete delivered or dead events older than `older_than` seconds; how many. Pending ones are never touched."""

    def depth(self) -> Depth:
        """How much is waiting."""


def emit_parameters(events: Sequence[Event]) -> Mapping[str, list[Any]]:
    """The events as columns: the parameters of the `emit` statement."""
    return {
        "ids": [str(event.id) for event in events],
        "aggregate_types": [event.aggregate_type for event in events],
        "aggregate_ids": [event.aggregate_id for event in events],
        "event_types": [event.event_type for event in events],
        "bodies": [event.body.decode() for event in events],
        "instances": [event.instance for event in events],
    }
