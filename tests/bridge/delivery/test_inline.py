"""The relay as a thread inside Odoo: it works, stands by, goes on after a loss, and ends when it is told to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from ipai_bridge.delivery import inline
from ipai_bridge.delivery.inline import InlineRelay
from ipai_bridge.delivery.relay import Relay
from ipai_bridge.delivery.retry import RetryPolicy
from ipai_bridge.errors import NotElected, OutboxUnavailable, SettingsError
from ipai_bridge.outbox.postgres import RELAY_LOCK, PostgresOutbox
from tests.bridge.delivery.relaying import (
    DEADLINE,
    FakePoster,
    Gate,
    WatchedOutbox,
    emit,
    event,
    eventually,
    relay,
    statuses,
)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline, "_STAND_BY", 0.01)
    monkeypatch.setattr(inline, "_REFUSED", 0.02)


def started(make_relay: Callable[[], Relay | None]) -> InlineRelay:
    thread = InlineRelay("test", make_relay)
    thread.start()
    return thread


def ended(thread: InlineRelay) -> bool:
    thread.stop(DEADLINE)
    return not thread.is_alive()


def test_it_relays_until_it_is_stopped(path: Path) -> None:
    thread = started(lambda: relay(WatchedOutbox(path), FakePoster()))
    assert thread.daemon
    assert thread.name == "ipai_bridge-relay-test"
    emit(path, event())
    eventually(lambda: statuses(path) == ["delivered"])
    assert ended(thread)


def test_it_finishes_the_request_under_way(path: Path) -> None:
    emit(path, event())
    gate = Gate()
    thread = started(lambda: relay(WatchedOutbox(path), FakePoster(gate)))
    gate.wait_reached()
    thread.stop(0.05)
    assert thread.is_alive()
    gate.open()
    assert ended(thread)
    assert statuses(path) == ["delivered"]


def test_it_ends_where_no_inline_relay_is_wanted() -> None:
    thread = started(lambda: None)
    thread.join(DEADLINE)
    assert not thread.is_alive()


@pytest.mark.parametrize("error", [NotElected(), OutboxUnavailable(), PermissionError("odd")])
def test_it_stands_by_and_takes_over(path: Path, error: Exception) -> None:
    emit(path, event())
    terms = []

    def make_relay() -> Relay:
        outbox = WatchedOutbox(path)
        terms.append(outbox)
        if len(terms) < 3:

            def refuse(_: str) -> None:
                # Once in a loop would be a loss to sit out; here the relay is to end.
                raise error

            outbox.before = refuse
        made = relay(outbox, FakePoster())
        if isinstance(error, OutboxUnavailable) and len(terms) < 3:
            made.stop()
        return made

    thread = started(make_relay)
    eventually(lambda: statuses(path) == ["delivered"])
    assert len(terms) == 3
    assert ended(thread)


def test_what_only_people_can_mend_is_said_and_tried_again(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="ipai_bridge")
    emit(path, event())
    refusals = [SettingsError("url", "must be https"), ValueError("a bug of ours")]

    def make_relay() -> Relay:
        if refusals:
            raise refusals.pop(0)
        return relay(WatchedOutbox(path), FakePoster())

    thread = started(make_relay)
    eventually(lambda: statuses(path) == ["delivered"])
    assert ended(thread)
    settings, bug = caplog.records
    assert (settings.getMessage(), settings.exc_info) == ("inline relay of test: url must be https", None)
    assert bug.getMessage() == "inline relay of test failed"
    assert "a bug of ours" in caplog.text


def test_a_database_that_is_away_when_the_relay_is_made(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    emit(path, event())
    refusals = [OutboxUnavailable(), OutboxUnavailable()]

    def make_relay() -> Relay:
        if refusals:
            raise refusals.pop(0)
        return relay(WatchedOutbox(path), FakePoster())

    thread = started(make_relay)
    eventually(lambda: statuses(path) == ["delivered"])
    assert ended(thread)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_waiting_for_a_turn_ends_with_stop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline, "_STAND_BY", 3600)
    refused = threading.Event()

    def make_relay() -> Relay:
        refused.set()
        raise NotElected

    thread = started(make_relay)
    assert refused.wait(DEADLINE)
    assert ended(thread)


@pytest.mark.stack
def test_the_next_one_takes_over_when_the_connection_ends(database: str) -> None:
    """Elected by the advisory lock: one works; the other stands by until the first one's connection is gone."""
    terms: list[str] = []

    def make_relay(name: str) -> Callable[[], Relay]:
        def make() -> Relay:
            outbox = PostgresOutbox(lambda: psycopg2.connect(database, application_name=name), exclusive=True)
            outbox.install()  # the first use of the connection: from here on it is elected, or has said that it is not
            terms.append(name)
            return Relay(outbox, FakePoster(), policy=RetryPolicy(), poll_interval=0.05)

        return make

    def connected() -> set[str]:
        with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute(
                "select a.application_name from pg_locks as l join pg_stat_activity as a using (pid)"
                " where l.locktype = 'advisory' and a.application_name in ('one', 'two') and l.granted"
                " and l.classid = %s and l.objid = %s",
                (RELAY_LOCK >> 32, RELAY_LOCK & 0xFFFFFFFF),
            )
            return {row[0] for row in cursor.fetchall()}

    one = started(make_relay("one"))
    eventually(lambda: connected() == {"one"})
    two = started(make_relay("two"))
    try:
        threading.Event().wait(0.1)  # time in which `two` would have taken it, were there no election
        assert terms == ["one"]
        one.stop(DEADLINE)
        eventually(lambda: connected() == {"two"}, lambda: terms)
        eventually(lambda: terms == ["one", "two"], lambda: terms)
        with closing(psycopg2.connect(database)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                # Its connection is cut; it comes back by itself, and is elected again.
                cursor.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'two'")
        eventually(lambda: connected() == {"two"}, lambda: terms)
    finally:
        assert ended(one)
        assert ended(two)
    assert connected() == set()


def test_an_endpoint_that_is_gone_is_said(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    emit(path, event())
    thread = started(lambda: relay(WatchedOutbox(path), FakePoster(lambda _: 410)))
    eventually(lambda: "inline relay of test: the receiver answered 410" in caplog.text)
    assert ended(thread)
    assert statuses(path) == ["pending"]


def test_a_stop_while_the_relay_is_being_made_is_not_lost(path: Path) -> None:
    making, go_on = threading.Event(), threading.Event()

    def make_relay() -> Relay:
        making.set()
        assert go_on.wait(DEADLINE)
        return relay(WatchedOutbox(path), FakePoster(), poll_interval=60)

    thread = started(make_relay)
    assert making.wait(DEADLINE)
    thread.stop(0.01)
    go_on.set()
    thread.join(DEADLINE)
    assert not thread.is_alive()
