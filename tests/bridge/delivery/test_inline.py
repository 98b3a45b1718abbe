"""The relay as a thread inside Odoo: it works, stands by, goes on after a loss, and ends when it is told to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ipai_bridge.delivery import inline
from ipai_bridge.delivery.inline import InlineRelay
from ipai_bridge.delivery.relay import Relay
from ipai_bridge.errors import NotElected, OutboxUnavailable, SettingsError
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


def test_settings_that_are_refused_are_said_and_tried_again(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="ipai_bridge")
    emit(path, event())
    refusals = [SettingsError("url", "must be https"), ValueError("a lease of 1 s is too short")]

    def make_relay() -> Relay:
        if refusals:
            raise refusals.pop(0)
        return relay(WatchedOutbox(path), FakePoster())

    thread = started(make_relay)
    eventually(lambda: statuses(path) == ["delivered"])
    assert ended(thread)
    assert "inline relay of test: url must be https" in caplog.text
    assert "inline relay of test: a lease of 1 s is too short" in caplog.text


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
