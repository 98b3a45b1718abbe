"""The two databases that an outbox can lie in, as the conformance suite drives them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg2

from ipai_bridge.event import Event
from ipai_bridge.outbox import postgres, sqlite
from ipai_bridge.outbox.postgres import PostgresOutbox
from ipai_bridge.outbox.sqlite import SqliteOutbox
from ipai_bridge.outbox.store import Outbox


class CountingCursor:
    """Passes statements on and counts them."""

    def __init__(self, cursor: Any) -> None:
        self.cursor = cursor
        self.statements = 0

    def execute(self, query: str, parameters: Any = None, /) -> object:
        self.statements += 1
        return self.cursor.execute(query, parameters)


class Backend(Protocol):
    """One database, empty at the start."""

    table: str
    integrity_error: type[Exception]
    refused_errors: tuple[type[Exception], ...]

    def outbox(self) -> Outbox: ...
    def transaction(self, *, commit: bool = True) -> AbstractContextManager[Any]: ...
    def emit_through(self, cursor: Any, events: list[Event]) -> None: ...
    def emit(self, *events: Event) -> None: ...
    def execute(self, statement: str) -> None: ...
    def count_statements(self, act: Callable[[Any], None]) -> int: ...
    def set_version(self, version: int) -> None: ...


class _Common:
    def emit(self: Any, *events: Event) -> None:
        with self.transaction() as cursor:
            self.emit_through(cursor, list(events))

    def execute(self: Any, statement: str) -> None:
        with self.transaction() as cursor:
            cursor.execute(statement)

    def count_statements(self: Any, act: Callable[[Any], None]) -> int:
        with self.transaction() as cursor:
            counting = CountingCursor(cursor)
            act(counting)
        return counting.statements


class PostgresBackend(_Common):
    table = "ipai_bridge.outbox"
    integrity_error: type[Exception] = psycopg2.IntegrityError
    refused_errors: tuple[type[Exception], ...] = (psycopg2.IntegrityError, psycopg2.DataError)

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    def outbox(self) -> Outbox:
        return PostgresOutbox.from_dsn(self.dsn)

    @contextmanager
    def transaction(self, *, commit: bool = True) -> Iterator[Any]:
        with closing(psycopg2.connect(self.dsn)) as connection:
            # As Odoo's cursors are.
            connection.set_session(isolation_level="REPEATABLE READ")
            yield connection.cursor()
            if commit:
                connection.commit()

    def emit_through(self, cursor: Any, events: list[Event]) -> None:
        postgres.emit(cursor, events)

    def set_version(self, version: int) -> None:
        self.execute(f"insert into ipai_bridge.schema_version (version) values ({version})")


class SqliteBackend(_Common):
    table = "outbox"
    integrity_error: type[Exception] = sqlite3.IntegrityError
    refused_errors: tuple[type[Exception], ...] = (sqlite3.IntegrityError,)

    def __init__(self, path: Path) -> None:
        self.path = path

    def outbox(self) -> Outbox:
        return SqliteOutbox(self.path)

    @contextmanager
    def transaction(self, *, commit: bool = True) -> Iterator[Any]:
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as connection:
            cursor = connection.cursor()
            cursor.execute("begin immediate")
            yield cursor
            if commit:
                cursor.execute("commit")

    def emit_through(self, cursor: Any, events: list[Event]) -> None:
        sqlite.emit(cursor, events)

    def set_version(self, version: int) -> None:
        self.execute(f"pragma user_version = {version}")
