"""Emitting from Odoo's Python code: in the user's transaction, heard of after its commit, and never in its way."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest

from ipai_bridge import bridge
from ipai_bridge.bridge import emit
from ipai_bridge.errors import EventInvalid, PayloadError, RecordUnreadable, SchemaMissing, SettingsError
from ipai_bridge.outbox import postgres
from tests.bridge.fake_odoo import Cursor, Odoo
from tests.bridge.fake_records import NewId
from tests.bridge.operating import execute, own_role, rows

pytestmark = pytest.mark.stack

TYPE = "res.partner.updated"


class Listener:
    """A connection that hears what a relay would hear."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg2.connect(dsn)
        self.connection.autocommit = True
        with self.connection.cursor() as cursor:
            cursor.execute(f"listen {postgres.CHANNEL}")

    def heard(self) -> int:
        """How often since the last look. (A NOTIFY is there when the commit that made it has returned.)"""
        with self.connection.cursor() as cursor:
            cursor.execute("select 1")
        count = len(self.connection.notifies)
        self.connection.notifies.clear()
        return count


@pytest.fixture
def listener(database: str) -> Iterator[Listener]:
    listener = Listener(database)
    yield listener
    listener.connection.close()


# --- what is written


def test_events_in_the_order_of_the_records(odoo: Odoo, database: str) -> None:
    cursor = odoo.cursor()
    ids = emit(odoo.records(3, 1, 2, cursor=cursor), TYPE, ["name"])
    assert rows(database) == []
    cursor.commit()
    assert rows(database) == ids == sorted(ids)
    assert rows(database, "aggregate_id") == ["3", "1", "2"]
    assert rows(database, "aggregate_type || ' ' || event_type || ' ' || instance")[0] == f"res.partner {TYPE} default"
    assert rows(database, "payload -> 'payload' ->> 'name'") == ["Partner 3", "Partner 1", "Partner 2"]


def test_one_statement_for_any_number_of_records(odoo: Odoo) -> None:
    cursor = odoo.cursor()
    emit(odoo.records(1, cursor=cursor), TYPE)
    cursor.statements.clear()
    assert len(emit(odoo.records(*range(1, 1001), cursor=cursor), TYPE, ["name"])) == 1000
    assert len(cursor.statements) == 1


def test_no_records_are_no_events(odoo: Odoo, listener: Listener) -> None:
    cursor = odoo.cursor()
    assert emit(odoo.records(cursor=cursor), TYPE) == []
    assert emit(odoo.records(cursor=cursor), TYPE, payload={"a": 1}) == []
    cursor.commit()
    assert listener.heard() == 0


def test_a_ready_payload(odoo: Odoo, database: str) -> None:
    cursor = odoo.cursor()
    emit(odoo.records(1, 2, cursor=cursor), TYPE, payload={"said": "the same"})
    cursor.commit()
    assert rows(database, "payload ->> 'payload'") == ['{"said":"the same"}'] * 2


@pytest.mark.parametrize(
    ("ids", "arguments", "error"),
    [
        ((1,), {"fields": ["name"], "payload": {}}, PayloadError),
        ((1,), {"payload": "text"}, PayloadError),
        ((1,), {"payload": 5}, PayloadError),
        ((1,), {"payload": [("a", 1)]}, PayloadError),
        ((1,), {"payload": {"a": object()}}, EventInvalid),
        ((1, NewId()), {"payload": {}}, RecordUnreadable),
        ((NewId(),), {}, RecordUnreadable),
        ((1,), {"fields": ["nme"]}, PayloadError),
    ],
)
def test_what_is_refused(
    odoo: Odoo, database: str, ids: Any, arguments: dict[str, Any], error: type[Exception]
) -> None:
    cursor = odoo.cursor()
    emit(odoo.records(1, cursor=cursor), TYPE)
    with pytest.raises(error):
        emit(odoo.records(*ids, cursor=cursor), TYPE, **arguments)
    cursor.commit()  # the transaction is still good: what was refused was refused before the database was asked
    assert len(rows(database)) == 1


def test_a_rolled_back_transaction_and_savepoint_leave_nothing(odoo: Odoo, database: str, listener: Listener) -> None:
    cursor = odoo.cursor()
    emit(odoo.records(1, cursor=cursor), TYPE)
    cursor.rollback()
    cursor.commit()
    assert (rows(database), listener.heard()) == ([], 0)
    (kept,) = emit(odoo.records(1, cursor=cursor), TYPE)
    cursor.execute("savepoint a")
    emit(odoo.records(2, cursor=cursor), TYPE)
    cursor.execute("rollback to savepoint a")
    cursor.commit()
    assert (rows(database), listener.heard()) == ([kept], 1)


# --- the wake-up


def test_one_wake_up_per_transaction_after_its_commit(odoo: Odoo, listener: Listener) -> None:
    cursor = odoo.cursor()
    for _ in range(3):
        emit(odoo.records(1, 2, cursor=cursor), TYPE)
    assert listener.heard() == 0
    cursor.commit()
    assert listener.heard() == 1
    assert cursor.commits == 2
    cursor.commit()
    assert listener.heard() == 0
    emit(odoo.records(1, cursor=cursor), TYPE)
    cursor.commit()
    assert listener.heard() == 1


def test_other_callbacks_come_first_and_outside(odoo: Odoo, listener: Listener) -> None:
    """Were they run within our commit, what they raise would be swallowed with what a NOTIFY raises."""
    cursor = odoo.cursor()
    emit(odoo.records(1, cursor=cursor), TYPE)
    depths = []
    cursor.postcommit.add(lambda: depths.append(cursor.commits))

    def fail() -> None:
        raise psycopg2.OperationalError("another's")

    cursor.commit()
    assert depths == [1]
    assert listener.heard() == 1
    emit(odoo.records(1, cursor=cursor), TYPE)
    cursor.postcommit.add(fail)
    with pytest.raises(psycopg2.OperationalError, match="another's"):
        cursor.commit()


def test_what_a_callback_emits_and_commits_is_heard(odoo: Odoo, database: str, listener: Listener) -> None:
    cursor = odoo.cursor()
    emit(odoo.records(1, cursor=cursor), TYPE)

    def more() -> None:
        emit(odoo.records(2, cursor=cursor), TYPE)
        cursor.commit()

    cursor.postcommit.add(more)
    cursor.commit()
    assert len(rows(database)) == 2
    assert listener.heard() >= 1


@pytest.mark.parametrize("error", [psycopg2.OperationalError("gone"), AssertionError("tests may not commit")])
def test_a_wake_up_that_fails_fails_nobody(
    odoo: Odoo, database: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor = odoo.cursor()
    emit(odoo.records(1, cursor=cursor), TYPE)
    real = cursor.execute

    def fail(query: str, params: Any = None) -> None:
        if query.startswith("notify"):
            raise error
        real(query, params)

    def no_thread(_: str) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(cursor, "execute", fail)
    monkeypatch.setattr(bridge, "ensure_inline_relay", no_thread)
    cursor.commit()
    assert len(rows(database)) == 1


# --- first use


def test_the_outbox_stays_when_the_first_transaction_does_not(odoo: Odoo, database: str) -> None:
    cursor = odoo.cursor()
    emit(odoo.records(1, cursor=cursor), TYPE)
    cursor.rollback()
    assert rows(database) == []
    assert len(odoo.cursors) == 2


def test_several_workers_use_it_first_at_once(odoo: Odoo, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its snapshot before any of them has installed, as threads of Odoo have."""
    workers = 6
    barrier = threading.Barrier(workers)
    failures: list[BaseException] = []
    real = postgres.is_installed

    def all_at_once(cursor: Any) -> bool:
        found = real(cursor)
        if not found and cursor not in seen:
            seen.append(cursor)
            barrier.wait(30)
        return found

    seen: list[Any] = []
    monkeypatch.setattr(postgres, "is_installed", all_at_once)

    def work(number: int) -> None:
        try:
            with odoo.cursor() as cursor:
                bridge._install_if_missing(cursor)
                postgres.emit(cursor, [])
                emit(odoo.records(number + 1, cursor=cursor), TYPE)
        except BaseException as error:  # noqa: BLE001 -- it is the test's to look at
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(rows(database)) == workers


def test_a_user_who_may_not_create_it(odoo: Odoo, database: str) -> None:
    odoo.dsn = own_role(database)
    with pytest.raises(SchemaMissing, match="grant create on database") as caught:
        emit(odoo.records(1), TYPE)
    assert "permission denied for database" in str(caught.value)
    assert caught.value.__context__ is None
    name = database.rpartition("/")[2]
    execute(database, f"grant create on database {name} to small")
    cursor = odoo.cursor()
    emit(odoo.records(1, cursor=cursor), TYPE)
    cursor.commit()
    assert len(rows(database)) == 1
    execute(database, "drop owned by small cascade")


def test_a_user_who_may_not_use_what_another_installed(odoo: Odoo, database: str) -> None:
    with closing(Cursor(database)) as cursor:
        postgres.install(cursor)
        cursor.commit()
    odoo.dsn = own_role(database)
    with pytest.raises(SchemaMissing, match="grant that user all on schema ipai_bridge"):
        emit(odoo.records(1), TYPE)


def test_a_database_that_was_made_again_is_looked_up_again(odoo: Odoo, database: str) -> None:
    cursor = odoo.cursor()
    emit(odoo.records(1, cursor=cursor), TYPE)
    cursor.rollback()
    execute(database, "drop schema ipai_bridge cascade")
    odoo.registry = type(odoo.registry)()
    gc.collect()
    emit(odoo.records(1, cursor=cursor), TYPE)
    cursor.commit()
    assert len(rows(database)) == 1


# --- which Odoo


def instance_of(odoo: Odoo) -> str:
    with odoo.cursor() as cursor:
        (event,) = emit(odoo.records(1, cursor=cursor), TYPE)
    return str(execute(odoo.dsn, "select instance from ipai_bridge.outbox where id = %s", (event,))[0][0])


def test_the_instance(odoo: Odoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert instance_of(odoo) == "default"
    odoo.values["ipai_bridge.instance"] = " by-parameter "
    assert instance_of(odoo) == "by-parameter"
    odoo.values["ipai_bridge.instance"] = " "
    assert instance_of(odoo) == "default"
    odoo.values["ipai_bridge.instance"] = "by-parameter"
    odoo.conf_path = str(tmp_path / "odoo.conf")
    odoo.registry = type(odoo.registry)()
    assert instance_of(odoo) == "by-parameter"  # there is no such file
    Path(odoo.conf_path).write_text("[ipai_bridge]\ninstance = by-conf\n")
    odoo.registry = type(odoo.registry)()
    assert instance_of(odoo) == "by-conf"
    monkeypatch.setenv("IPAI_BRIDGE_INSTANCE", "by-environment")
    odoo.registry = type(odoo.registry)()
    assert instance_of(odoo) == "by-environment"


def test_an_instance_that_is_refused(odoo: Odoo, monkeypatch: pytest.MonkeyPatch) -> None:
    odoo.values["ipai_bridge.instance"] = "No Good"
    with pytest.raises(EventInvalid, match="instance"):
        emit(odoo.records(1), TYPE)
    monkeypatch.setenv("IPAI_BRIDGE_INSTANCE", "No Good")
    odoo.registry = type(odoo.registry)()
    with pytest.raises(SettingsError, match="IPAI_BRIDGE_INSTANCE"):
        emit(odoo.records(1), TYPE)


def test_emitting_reads_no_secret(odoo: Odoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPAI_BRIDGE_SECRET", "short")
    assert instance_of(odoo) == "default"


def test_the_log_says_that_it_was_installed(odoo: Odoo, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="ipai_bridge")
    instance_of(odoo)
    assert caplog.text.count("outbox installed in test_") == 1
