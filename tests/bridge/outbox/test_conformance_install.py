"""What every outbox promises of its tables, and when its database is away."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from ipai_bridge.errors import NotElected, OutboxUnavailable, SchemaMissing
from ipai_bridge.outbox import postgres, sqlite
from ipai_bridge.outbox.postgres import PostgresOutbox
from ipai_bridge.outbox.sqlite import SqliteOutbox
from ipai_bridge.outbox.store import Outbox
from tests.bridge.outbox.acts import LEASE, event
from tests.bridge.outbox.backends import Backend, PostgresBackend

pytestmark = pytest.mark.stack


def test_install_says_whether_there_was_anything_to_do(backend: Backend) -> None:
    with closing(backend.outbox()) as outbox:
        assert outbox.install() is True
        assert outbox.install() is False


def test_several_installers_at_once(backend: Backend) -> None:
    results, errors = [], []

    def install() -> None:
        try:
            with closing(backend.outbox()) as outbox:
                results.append(outbox.install())
        except Exception as error:  # noqa: BLE001  reported by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=install) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(results) == [False] * 7 + [True]


def test_a_missing_schema_is_named_with_its_remedy(backend: Backend) -> None:
    with closing(backend.outbox()) as outbox, pytest.raises(SchemaMissing, match="ipai-bridge install"):
        outbox.claim(limit=10, lease=LEASE)


def test_tables_of_a_newer_version_are_left_alone(backend: Backend, outbox: Outbox) -> None:
    backend.set_version(999)
    with pytest.raises(SchemaMissing, match="999"):
        outbox.install()


@pytest.mark.parametrize(
    "change",
    [
        "set status = 'sent'",
        "set status = 'delivered'",
        "set status = 'delivered', delivered_at = created_at",  # never numbered
        "set status = 'dead', sequence = 1",  # without a reason
        "set sequence = 0",
        "set attempts = -1",
        "set aggregate_id = ''",
        "set payload = 'no json'",
    ],
)
def test_the_invariants_are_the_tables_own(backend: Backend, outbox: Outbox, change: str) -> None:
    backend.emit(event())
    with pytest.raises(backend.refused_errors):
        backend.execute(f"update {backend.table} {change}")


def test_a_database_that_is_away_is_an_error_of_ours(tmp_path: Path) -> None:
    for outbox in (
        SqliteOutbox(tmp_path / "missing" / "outbox.db"),
        PostgresOutbox.from_dsn(f"host={tmp_path} port=1 dbname=nowhere"),
    ):
        with pytest.raises(OutboxUnavailable):
            outbox.claim(limit=1, lease=LEASE)


def test_waiting_ends_at_the_wakeup_and_at_the_timeout(outbox: Outbox) -> None:
    read, write = os.pipe()
    started = time.monotonic()
    outbox.wait(0.05, read)
    assert 0.04 < time.monotonic() - started < 5
    os.write(write, b".")
    started = time.monotonic()
    outbox.wait(60, read)
    assert time.monotonic() - started < 5
    os.close(read)
    os.close(write)


def test_postgres_waiting_ends_at_a_notification(database: str) -> None:
    backend = PostgresBackend(database)
    read, write = os.pipe()
    with closing(backend.outbox()) as outbox:
        outbox.wait(0.01, read)  # listens from here on
        backend.execute(f"notify {postgres.CHANNEL}")
        started = time.monotonic()
        outbox.wait(60, read)
        assert time.monotonic() - started < 5
    os.close(read)
    os.close(write)


def test_one_exclusive_outbox_works_at_a_time(database: str) -> None:
    def connect() -> Any:
        return psycopg2.connect(database)

    with (
        closing(PostgresOutbox(connect, exclusive=True)) as first,
        closing(PostgresOutbox(connect, exclusive=True)) as second,
    ):
        first.install()
        with pytest.raises(NotElected):
            second.depth()
        first.close()
        assert second.depth().pending == 0
        with pytest.raises(NotElected):
            first.depth()


def test_both_backends_speak_of_the_same_statements() -> None:
    assert {"emit", "list", "show", "purge", "depth", "settle"} <= set(postgres.QUERIES) & set(sqlite.QUERIES)
