"""The relay on the SQLite outbox: stopping, one pass, an endpoint that is gone, waking, what it says."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from ipai_bridge.delivery.relay import Tally
from ipai_bridge.delivery.retry import RetryPolicy
from ipai_bridge.errors import EndpointGone, SchemaMissing
from ipai_bridge.event import Event
from ipai_bridge.outbox.store import Claimed
from tests.bridge.delivery.relaying import (
    FakePoster,
    Gate,
    WatchedOutbox,
    attempt,
    emit,
    event,
    eventually,
    execute,
    pass_once,
    relay,
    rows,
    running,
    statuses,
)

# --- stopping


def test_stop_finishes_the_request_under_way_settles_and_gives_back_the_rest(path: Path) -> None:
    emit(path, *(event(key, number) for number in range(2) for key in "abcdef"))
    gate = Gate()
    poster = FakePoster(gate)
    with running(relay(WatchedOutbox(path), poster, concurrency=2, poll_interval=30)) as run:
        gate.wait_reached(2)
        run.relay.stop()
        assert not threading.Event().wait(0.2)
        assert run.is_alive, "two requests are still under way"
        gate.open()
        assert run.stop() == Tally(delivered=2)
    assert len(poster.sent) == 2
    assert statuses(path).count("delivered") == 2
    assert rows(path, "distinct lease_token", "aggregates where 1 = 1") == [(None,)], "another relay can go on at once"


def test_stop_from_a_signal_handler(path: Path) -> None:
    emit(path, *(event("a", number) for number in range(5)))

    def answer(_: Claimed) -> int:
        os.kill(os.getpid(), signal.SIGUSR1)
        return 200

    made = relay(WatchedOutbox(path), FakePoster(answer), poll_interval=30)
    before = signal.signal(signal.SIGUSR1, lambda *_: made.stop())
    try:
        with closing(made):
            tally = made.run()  # in the main thread, where handlers run
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert 1 <= tally.delivered <= 5
    assert statuses(path).count("delivered") == tally.delivered


def test_stop_before_the_start_is_not_forgotten(path: Path) -> None:
    emit(path, event())
    with closing(relay(WatchedOutbox(path), FakePoster(), poll_interval=30)) as made:
        made.stop()
        assert made.run() == Tally()


def test_an_idle_relay_stops_at_once(path: Path) -> None:
    with running(relay(WatchedOutbox(path), FakePoster(), poll_interval=60)) as run:
        started = time.monotonic()
        run.stop()
    assert time.monotonic() - started < 5


def test_waking_a_closed_relay_touches_nobody_elses_file(path: Path) -> None:
    made = relay(WatchedOutbox(path), FakePoster())
    made.close()
    pairs = [socket.socketpair() for _ in range(4)]  # these get the numbers that are free now
    made.wake()
    made.stop()
    ends = [end for pair in pairs for end in pair]
    try:
        for end in ends:
            end.setblocking(False)
            with pytest.raises(BlockingIOError):
                end.recv(1)
    finally:
        for end in ends:
            end.close()


# --- one pass


def test_a_pass_takes_what_is_due_and_returns(path: Path) -> None:
    made = relay(WatchedOutbox(path), FakePoster(), poll_interval=60)
    with closing(made):
        assert made.run_once(20) == Tally()
        emit(path, event("a"), event("b"))
        assert made.run_once(20) == Tally(delivered=2)
        emit(path, event("a"))
        assert made.run_once(20) == Tally(delivered=3), "a relay may make several passes"


def test_a_pass_ends_in_its_time_and_waits_for_the_request_under_way_without_spinning(path: Path) -> None:
    emit(path, *(event("a", number) for number in range(3)))
    gate = Gate()
    outbox = WatchedOutbox(path)
    timer = threading.Timer(0.8, gate.open)
    timer.start()
    with closing(relay(outbox, FakePoster(gate), poll_interval=0.1)) as made:
        tally = made.run_once(0.2)
    timer.join()
    assert tally == Tally(delivered=1)
    assert statuses(path) == ["delivered", "pending", "pending"]
    assert outbox.calls["wait"] < 20


# --- the endpoint


def test_410_stops_the_relay_and_keeps_the_events(path: Path) -> None:
    emit(path, *(event(str(key)) for key in range(30)))
    poster = FakePoster(lambda _: 410)
    with running(relay(WatchedOutbox(path), poster, concurrency=2)) as run:
        run.join()
        assert isinstance(run.error, EndpointGone)
        assert "410" in str(run.error)
    assert statuses(path) == ["pending"] * 30
    assert len(poster.sent) <= 4
    assert rows(path, "distinct lease_token", "aggregates where 1 = 1") == [(None,)]


def test_after_410_a_pass_may_be_tried_again(path: Path) -> None:
    now = 1_000_000.0
    emit(path, event())
    execute(path, "update outbox set created_at = 1000000, next_attempt_at = 1000000")
    poster = FakePoster(lambda _: 410)
    with closing(relay(WatchedOutbox(path, clock=lambda: now), poster)) as made:
        with pytest.raises(EndpointGone):
            made.run_once(20)
        poster.answer = lambda _: 200
        now += RetryPolicy().cap
        assert made.run_once(20).delivered == 1


def test_tables_that_are_not_there_end_it(tmp_path: Path) -> None:
    with closing(relay(WatchedOutbox(tmp_path / "empty.db"), FakePoster())) as made, pytest.raises(SchemaMissing):
        made.run()


# --- waking


def test_wake_makes_it_look_at_once(path: Path) -> None:
    outbox = WatchedOutbox(path)
    with running(relay(outbox, FakePoster(), poll_interval=60)) as run:
        eventually(lambda: outbox.calls["wait"] == 1)
        emit(path, event())
        run.relay.wake()
        eventually(lambda: statuses(path) == ["delivered"])
        run.stop()


def test_a_wake_between_the_look_and_the_wait_is_not_lost(path: Path) -> None:
    outbox = WatchedOutbox(path)
    made = relay(outbox, FakePoster(), poll_interval=60)

    def emit_just_before(name: str) -> None:
        if name == "wait" and outbox.calls["wait"] == 1:
            emit(path, event())
            made.wake()

    outbox.before = emit_just_before
    with running(made) as run:
        eventually(lambda: statuses(path) == ["delivered"])
        run.stop()


def test_any_number_of_wakes_is_one(path: Path) -> None:
    outbox = WatchedOutbox(path)
    made = relay(outbox, FakePoster(), poll_interval=60)
    for _ in range(100_000):
        made.wake()
    emit(path, event())
    with running(made) as run:
        eventually(lambda: statuses(path) == ["delivered"])
        assert outbox.calls["wait"] < 10
        run.stop()


# --- what it says


def test_one_line_for_each_change_of_state(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="ipai_bridge")
    good, bad, late = event("good"), event("bad"), event("late")
    emit(path, good, bad, late)

    def answer(claimed: Claimed) -> int | None:
        return {"good": 200, "bad": 400, "late": 200 if claimed.attempts else None}[claimed.event.aggregate_id]

    assert pass_once(path, FakePoster(answer)) == Tally(delivered=2, again=1, dead=1)
    lines = {(record.levelname, record.getMessage().partition(" took=")[0]) for record in caplog.records}

    def about(item: Event) -> str:
        return f"id={item.id} type=res.partner.updated aggregate=default/res.partner/{item.aggregate_id} sequence=1"

    assert lines == {
        ("INFO", f"delivered {about(good)} attempt=1 status=200"),
        ("ERROR", f"dead {about(bad)} attempt=1 status=400 reason=HTTP 400"),
        ("WARNING", f"again {about(late)} attempt=1 status=None next_in=0.0 reason=HTTP None"),
        ("INFO", f"delivered {about(late)} attempt=2 status=200"),
    }
    assert "body-not-for-logs" not in caplog.text
    assert {record.name for record in caplog.records} == {"ipai_bridge.relay"}


def test_what_the_outbox_keeps_of_an_attempt(path: Path) -> None:
    emit(path, event())
    said = [attempt(503, posts=2, error="HTTP 503: no", retry_after=0.0), attempt(400, error="HTTP 400: never")]
    pass_once(path, FakePoster(lambda _: said.pop(0)))
    assert rows(path, "status, attempts, last_status, last_error") == [("dead", 3, 400, "HTTP 400: never")]
