"""The outbox in a SQLite file: for Python programs outside Odoo, and for tests without a server.

The same promises as PostgreSQL's (one conformance suite runs on both), with SQLite's limits: one writer at a time, and
no wake-up between processes, so relays poll. Needs SQLite 3.38 (for `->>`).
"""

from __future__ import annotations

import json
import select
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from ipai_bridge.errors import EventNotFound, OutboxUnavailable, SchemaMissing
from ipai_bridge.event import Event
from ipai_bridge.outbox.queries import load_queries
from ipai_bridge.outbox.store import (
    SCHEMA_VERSION,
    Aggregate,
    Claimed,
    Cursor,
    Depth,
    Entry,
    Hold,
    Lease,
    Settlement,
    Status,
)

QUERIES = load_queries("sqlite.sql")
_BUSY_TIMEOUT = 30.0  # seconds that a writer waits for another one


def emit(cursor: Cursor, events: Sequence[Event], *, clock: Callable[[], float] = time.time) -> None:
    """Write events into the outbox, through the caller's cursor and so in the caller's transaction. One statement."""
    if events:
        rows = [
            (str(e.id), e.aggregate_type, e.aggregate_id, e.event_type, e.body.decode(), e.instance) for e in events
        ]
        cursor.execute(QUERIES["emit"], {"events": json.dumps(rows), "now": clock()})


class SqliteOutbox:
    """The relay's side of the outbox, on a connection of its own."""

    def __init__(self, path: Path | str, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since the epoch."""
        self._path = str(path)
        self._clock = clock
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        try:
            if self._connection is None:
                # isolation_level None: transactions are begun and ended here, in sight, not by the driver.
                self._connection = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT, isolation_level=None)
            cursor = self._connection.cursor()
            # immediate: the write lock is taken first, so what is read next cannot change before it is written.
            cursor.execute("begin immediate")
            try:
                yield cursor
            except BaseException:
                cursor.execute("rollback")
                raise
            cursor.execute("commit")
        except sqlite3.OperationalError as error:
            self.close()
            if "no such table" in str(error):
                raise SchemaMissing from error
            raise OutboxUnavailable(f"the outbox {self._path} cannot be used now: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def install(self) -> bool:
        """Create what is missing of the tables; True if anything was."""
        with self._transaction() as cursor:
            version = cursor.execute("pragma user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise SchemaMissing(
                    f"the outbox's tables are of version {version}, this library knows {SCHEMA_VERSION}: update it here"
                )
            if version == SCHEMA_VERSION:
                return False
            # Not executescript(): that would commit first, and let a second installer in between.
            for statement in QUERIES["schema"].split(";"):
                cursor.execute(statement)
            return True

    # --- claim, settle

    def claim(self, *, limit: int, lease: float) -> list[Lease]:
        """Lease up to `limit` aggregates, with up to `limit` of their events altogether."""
        until = time.monotonic() + lease
        token = uuid.uuid4()
        with self._transaction() as cursor:
            now = self._clock()
            if cursor.execute(QUERIES["ready"], {"now": now, "limit": limit}).fetchone()[0] < limit:
                self._number(cursor, limit, now)
            parameters = {"token": str(token), "until": now + lease, "now": now, "limit": limit}
            aggregates = [Aggregate(*row) for row in cursor.execute(QUERIES["lease"], parameters).fetchall()]
            depth = max(1, limit // len(aggregates)) if aggregates else 0
            return [Lease(key, token, until, self._events(cursor, key, depth, now)) for key in aggregates]

    def _number(self, cursor: sqlite3.Cursor, limit: int, now: float) -> None:
        for position, *key in cursor.execute(QUERIES["unnumbered"], {"limit": limit}).fetchall():
            sequence = cursor.execute(QUERIES["grow"], _where(Aggregate(*key)) | {"now": now}).fetchone()[0]
            cursor.execute(QUERIES["number"], {"sequence": sequence, "position": position})

    def _events(self, cursor: sqlite3.Cursor, key: Aggregate, limit: int, now: float) -> tuple[Claimed, ...]:
        rows = cursor.execute(QUERIES["events"], _where(key) | {"limit": limit, "now": now}).fetchall()
        return tuple(
            Claimed(
                Event(UUID(event_id), event_type, key.aggregate_type, key.aggregate_id, body.encode(), key.instance),
                sequence,
                attempts,
                max(0.0, trying_for),
                _time(created_at),
            )
            for event_id, event_type, body, sequence, attempts, created_at, trying_for in rows
        )

    def settle(self, settlements: Sequence[Settlement], holds: Sequence[Hold], *, lease: float) -> list[Lease]:
        """Record outcomes, give back or renew leases; the leases that were lost meanwhile are returned."""
        if not holds:
            return []
        with self._transaction() as cursor:
            now = self._clock()
            for settlement in settlements:
                cursor.execute(
                    QUERIES["settle"],
                    {
                        "id": str(settlement.event_id),
                        "token": str(settlement.token),
                        "status": settlement.status,
                        "attempts": settlement.attempts,
                        "last_status": settlement.http_status,
                        "last_error": settlement.error,
                        "delay": settlement.delay,
                        "took": settlement.took,
                        "now": now,
                    },
                )
            lost = []
            for hold in holds:
                query = QUERIES["release" if hold.release else "renew"]
                parameters = _where(hold.lease.aggregate) | {"token": str(hold.lease.token)}
                if not hold.release:
                    parameters["until"] = now + lease
                if cursor.execute(query, parameters).rowcount == 0:
                    lost.append(hold.lease)
            return lost

    def wait(self, timeout: float, wakeup: int) -> None:
        """Return when `wakeup` is readable, or after `timeout` seconds: SQLite tells nobody of a new row."""
        # Not select.select(), which fails in a process with more than 1,024 open files.
        poller = select.poll()
        poller.register(wakeup, select.POLLIN)
        poller.poll(timeout * 1000)

    # --- for people

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
        parameters = {
            "status": status,
            "event_type": event_type,
            "aggregate_type": aggregate_type,
            "aggregate_id": aggregate_id,
            "limit": limit,
        }
        with self._transaction() as cursor:
            return [_entry(row) for row in cursor.execute(QUERIES["list"], parameters).fetchall()]

    def show(self, event_id: UUID) -> Entry:
        """One row with its body. Raises `EventNotFound`."""
        with self._transaction() as cursor:
            row = cursor.execute(QUERIES["show"], {"id": str(event_id)}).fetchone()
        if row is None:
            raise EventNotFound(f"no event {event_id} in this outbox: `ipai-bridge outbox list` shows what there is")
        return _entry(row)

    def retry(self, *, ids: Sequence[UUID] | None = None, event_type: str | None = None) -> list[UUID]:
        """Make dead events pending again; their ids."""
        wanted = None if ids is None else json.dumps([str(item) for item in ids])
        with self._transaction() as cursor:
            now = self._clock()
            rows = cursor.execute(QUERIES["revive"], {"ids": wanted, "event_type": event_type, "now": now}).fetchall()
            for _, *key in rows:
                cursor.execute(QUERIES["waken"], _where(Aggregate(*key)) | {"now": now})
            return [UUID(row[0]) for row in rows]

    def purge(self, *, status: Literal["delivered", "dead"], older_than: float) -> int:
        """Delete delivered or dead events older than `older_than` seconds; how many."""
        parameters = {"status": status, "older_than": older_than, "now": self._clock()}
        with self._transaction() as cursor:
            return cursor.execute(QUERIES["purge"], parameters).rowcount

    def depth(self) -> Depth:
        """How much is waiting."""
        with self._transaction() as cursor:
            return Depth(*cursor.execute(QUERIES["depth"], {"now": self._clock()}).fetchone())


def _where(key: Aggregate) -> dict[str, Any]:
    return {"aggregate_type": key.aggregate_type, "aggregate_id": key.aggregate_id, "instance": key.instance}


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _entry(row: tuple[Any, ...]) -> Entry:
    values = dict(zip(Entry.__dataclass_fields__, row, strict=True))
    values["id"] = UUID(values["id"])
    for name in ("next_attempt_at", "created_at", "delivered_at"):
        if values[name] is not None:
            values[name] = _time(values[name])
    return Entry(**values)
