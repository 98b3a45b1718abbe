"""The outbox in Odoo's PostgreSQL, schema `ipai_bridge`.

See it work: `select * from ipai_bridge.outbox order by position desc limit 10`, or `ipai-bridge outbox list`.

Emitting needs nothing but a cursor, so this module is importable without psycopg2; the relay's side needs it (every
Odoo has it; elsewhere: `pip install ipai-bridge[postgres]`).

Order: events are numbered per aggregate in the order in which they were inserted, among those that are visible when a
relay looks; one that becomes visible later gets a later number. Two transactions that write the same record cannot
overlap (Odoo's are REPEATABLE READ: the second is refused and run again), so for events about what a transaction wrote,
this is the order of the commits.
"""

from __future__ import annotations

import select
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from ipai_bridge.errors import EventNotFound, NotElected, OutboxUnavailable, SchemaMissing
from ipai_bridge.event import Event
from ipai_bridge.outbox.queries import load_queries, read_sql
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
    emit_parameters,
)

if TYPE_CHECKING:
    import psycopg2.extensions

QUERIES = load_queries("postgres.sql")
CHANNEL = "ipai_bridge"
"""NOTIFY on this channel wakes relays before their next poll."""

_INSTALL_LOCK = 0x69706169_00000001  # "ipai": our corner of PostgreSQL's advisory lock space
_NUMBERING_LOCK = 0x69706169_00000002
RELAY_LOCK = 0x69706169_00000003
"""The advisory lock that elects the one inline relay of a database."""


def schema_sql() -> str:
    """The DDL of the outbox, as `install` runs it."""
    return read_sql("schema.sql")


def emit(cursor: Cursor, events: Sequence[Event]) -> None:
    """Write events into the outbox, through the caller's cursor and so in the caller's transaction and savepoint.

    One statement, whatever the number of events. Raises whatever the driver raises, as any statement of the caller's
    would: a serialization failure must reach Odoo, which then runs the whole transaction again.
    """
    if events:
        cursor.execute(QUERIES["emit"], emit_parameters(events))


def is_installed(cursor: Any) -> bool:
    """Whether the outbox's tables are there, in the version that this library knows.

    Raises:
        SchemaMissing: they are of a newer version.
    """
    cursor.execute(QUERIES["installed"])
    if not cursor.fetchone()[0]:
        return False
    cursor.execute(QUERIES["version"])
    version = cursor.fetchone()[0]
    if version > SCHEMA_VERSION:
        raise SchemaMissing(
            f"the outbox's tables are of version {version}, this library knows {SCHEMA_VERSION}: update it here"
        )
    return bool(version == SCHEMA_VERSION)


def install(cursor: Any) -> bool:
    """Create what is missing of the outbox's tables in the cursor's transaction; True if anything was.

    Whoever comes second waits for the first one's commit, and then finds nothing to do.
    """
    if is_installed(cursor):
        return False
    cursor.execute(QUERIES["lock_install"], {"lock": _INSTALL_LOCK})
    if is_installed(cursor):
        return False
    cursor.execute(schema_sql())
    return True


class PostgresOutbox:
    """The relay's side of the outbox, on a connection of its own: READ COMMITTED, autocommit."""

    def __init__(self, connect: Callable[[], psycopg2.extensions.connection], *, exclusive: bool = False) -> None:
        """`connect` opens a new psycopg2 connection to Odoo's database; it is called again after a loss.

        With `exclusive`, only one such outbox of a database works at a time, over all processes: the others raise
        `NotElected` until its connection ends.
        """
        self._connect = connect
        self._exclusive = exclusive
        self._connection: psycopg2.extensions.connection | None = None
        self._listening = False

    @classmethod
    def from_dsn(cls, dsn: str) -> PostgresOutbox:
        """For a libpq connection string or URL."""

        def connect() -> psycopg2.extensions.connection:
            import psycopg2

            return psycopg2.connect(dsn, connect_timeout=10, application_name="ipai_bridge")

        return cls(connect)

    # --- connection

    @property
    def connection(self) -> psycopg2.extensions.connection:
        """The open connection; opened if need be. Raises `OutboxUnavailable`, `NotElected`."""
        import psycopg2

        if self._connection is None or self._connection.closed:
            try:
                connection = self._connect()
                connection.set_session(isolation_level="READ COMMITTED", autocommit=True)
                elected = not self._exclusive or _elect(connection)
            except psycopg2.Error as error:
                raise OutboxUnavailable(_unavailable(error)) from error
            if not elected:
                connection.close()
                raise NotElected
            self._connection, self._listening = connection, False
        return self._connection

    @contextmanager
    def _cursor(self) -> Iterator[psycopg2.extensions.cursor]:
        import psycopg2

        connection = self.connection
        try:
            with connection.cursor() as cursor:
                yield cursor
        except psycopg2.errors.UndefinedTable as error:
            raise SchemaMissing("the outbox's tables are not in this database: run `ipai-bridge install`") from error
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            self.close()
            raise OutboxUnavailable(_unavailable(error)) from error

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def install(self) -> bool:
        """Create what is missing of the tables; True if anything was."""
        with self._cursor() as cursor:
            cursor.execute("begin")
            try:
                return install(cursor)
            finally:
                # After an error this rolls back.
                cursor.execute("commit")

    # --- claim, settle

    def claim(self, *, limit: int, lease: float) -> list[Lease]:
        """Lease up to `limit` aggregates, with up to `limit` of their events altogether."""
        until = time.monotonic() + lease
        token = uuid.uuid4()
        with self._cursor() as cursor:
            cursor.execute(
                QUERIES["claim"],
                {"limit": limit, "lease": lease, "token": str(token), "numbering_lock": _NUMBERING_LOCK},
            )
            rows = cursor.fetchall()
        claimed: dict[Aggregate, list[Claimed]] = {}
        for row in rows:
            aggregate_type, aggregate_id, instance, event_id, event_type, body, sequence, attempts, created, trying = (
                row
            )
            events = claimed.setdefault(Aggregate(aggregate_type, aggregate_id, instance), [])
            if event_id is None:  # nothing is pending after all: the lease is only to be given back
                continue
            event = Event(UUID(event_id), event_type, aggregate_type, aggregate_id, body.encode(), instance)
            events.append(Claimed(event, sequence, attempts, max(0.0, trying), created))
        return [Lease(aggregate, token, until, tuple(events)) for aggregate, events in claimed.items()]

    def settle(self, settlements: Sequence[Settlement], holds: Sequence[Hold], *, lease: float) -> list[Lease]:
        """Record outcomes, give back or renew leases; the leases that were lost meanwhile are returned."""
        if not holds:
            return []
        with self._cursor() as cursor:
            cursor.execute(
                QUERIES["settle"],
                {
                    "aggregate_types": [hold.lease.aggregate.aggregate_type for hold in holds],
                    "aggregate_ids": [hold.lease.aggregate.aggregate_id for hold in holds],
                    "instances": [hold.lease.aggregate.instance for hold in holds],
                    "lease_tokens": [str(hold.lease.token) for hold in holds],
                    "releases": [hold.release for hold in holds],
                    "lease": lease,
                    "ids": [str(settlement.event_id) for settlement in settlements],
                    "tokens": [str(settlement.token) for settlement in settlements],
                    "statuses": [settlement.status for settlement in settlements],
                    "attempts": [settlement.attempts for settlement in settlements],
                    "last_statuses": [settlement.http_status for settlement in settlements],
                    "last_errors": [settlement.error for settlement in settlements],
                    "delays": [settlement.delay for settlement in settlements],
                    "took": [settlement.took for settlement in settlements],
                },
            )
            kept = {(Aggregate(*row[:3]), UUID(row[3])) for row in cursor.fetchall()}
        return [hold.lease for hold in holds if (hold.lease.aggregate, hold.lease.token) not in kept]

    def wait(self, timeout: float, wakeup: int) -> None:
        """Return on a NOTIFY, when `wakeup` is readable, or after `timeout` seconds.

        Where NOTIFY does not come through (a transaction pooler), this is a poll at every `timeout`.
        """
        with self._cursor() as cursor:
            if not self._listening:
                cursor.execute(f"listen {CHANNEL}")
                self._listening = True
            connection = self.connection
            connection.poll()
            if not connection.notifies:
                # Not select.select(), which fails in a process with more than 1,024 open files.
                poller = select.poll()
                poller.register(connection, select.POLLIN)
                poller.register(wakeup, select.POLLIN)
                poller.poll(timeout * 1000)
                connection.poll()
            connection.notifies.clear()

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
        with self._cursor() as cursor:
            cursor.execute(
                QUERIES["list"],
                {
                    "status": status,
                    "event_type": event_type,
                    "aggregate_type": aggregate_type,
                    "aggregate_id": aggregate_id,
                    "limit": limit,
                },
            )
            return [_entry(row) for row in cursor.fetchall()]

    def show(self, event_id: UUID) -> Entry:
        """One row with its body. Raises `EventNotFound`."""
        with self._cursor() as cursor:
            cursor.execute(QUERIES["show"], {"id": str(event_id)})
            row = cursor.fetchone()
        if row is None:
            raise EventNotFound(f"no event {event_id} in this outbox: `ipai-bridge outbox list` shows what there is")
        return _entry(row)

    def retry(self, *, ids: Sequence[UUID] | None = None, event_type: str | None = None) -> list[UUID]:
        """Make dead events pending again; their ids."""
        with self._cursor() as cursor:
            parameters = {"ids": None if ids is None else [str(item) for item in ids], "event_type": event_type}
            cursor.execute(QUERIES["retry"], parameters)
            return [UUID(row[0]) for row in cursor.fetchall()]

    def purge(self, *, status: Literal["delivered", "dead"], older_than: float) -> int:
        """Delete delivered or dead events older than `older_than` seconds; how many."""
        with self._cursor() as cursor:
            cursor.execute(QUERIES["purge"], {"status": status, "older_than": older_than})
            return cursor.rowcount

    def depth(self) -> Depth:
        """How much is waiting."""
        with self._cursor() as cursor:
            cursor.execute(QUERIES["depth"])
            row = cursor.fetchone()
            assert row is not None  # noqa: S101  an aggregate without GROUP BY gives one row
            return Depth(*row)


def _elect(connection: psycopg2.extensions.connection) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(%s)", (RELAY_LOCK,))
        row = cursor.fetchone()
        return bool(row and row[0])


def _entry(row: tuple[Any, ...]) -> Entry:
    return Entry(UUID(row[0]), *row[1:])


def _unavailable(error: BaseException) -> str:
    reason = str(error).strip().splitlines()
    shown = reason[0] if reason else type(error).__name__
    return f"Odoo's database does not answer ({shown}); trying again helps when it is up"


__all__ = [
    "CHANNEL",
    "QUERIES",
    "RELAY_LOCK",
    "PostgresOutbox",
    "emit",
    "install",
    "is_installed",
    "schema_sql",
]
