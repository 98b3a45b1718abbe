"""The relay on the SQLite outbox: order, concurrency, leases, stopping, what it says."""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ipai_bridge.delivery.relay import Tally
from ipai_bridge.delivery.retry import RetryPolicy
from ipai_bridge.errors import EndpointGone, SchemaMissing
from ipai_bridge.event import Event
from ipai_bridge.outbox.sqlite import SqliteOutbox
from ipai_bridge.outbox.store import Claimed, Lease
from tests.bridge.delivery.relaying import (
    FakePoster,
    Gate,
    WatchedOutbox,
    attempt,
    emit,
    event,
    eventually,
    execute,
    relay,
    rows,
    running,
    statuses,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "outbox.db"
    with closing(SqliteOutbox(path)) as outbox:
        outbox.install()
    return path


def pass_once(path: Path, poster: FakePoster, **changes: object) -> Tally:
    with closing(relay(WatchedOutbox(path), poster, **changes)) as made:
        return made.run_once(20)


# --- order


def test_what_was_emitted_is_delivered_in_order(path: Path) -> None:
    emit(path, *(event(key, number) for number in range(20) for key in "abc"))
    poster = FakePoster()
    assert pass_once(path, poster) == Tally(delivered=60)
    for key in "abc":
        assert poster.sequences(key) == list(range(1, 21))
    assert set(statuses(path)) == {"delivered"}
    assert rows(path, "distinct due_at, lease_token", "aggregates where 1 = 1") == [(None, None)]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_an_aggregate_outlives_retries_and_dead_letters(path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    emit(path, *(event(key, number) for number in range(15) for key in "abcd"))
    poster = FakePoster(lambda _: chance.choice([200, 200, 500, 429, None, 400]))
    tally = pass_once(path, poster, claim_size=7, concurrency=3)
    for key in "abcd":
        # Each is sent until it is decided, and only then the next one.
        assert list(dict.fromkeys(poster.sequences(key))) == list(range(1, 16))
        assert poster.sequences(key) == sorted(poster.sequences(key))
        assert len(poster.sequences(key, 200, 400)) == 15
    assert (tally.delivered + tally.dead, tally.again) == (60, len(poster.sent) - 60)
    assert statuses(path).count("dead") == tally.dead
    assert sum(row[0] for row in rows(path, "attempts")) == len(poster.sent)


def test_an_event_that_waits_for_its_time_holds_up_those_behind_it_and_no_others(path: Path) -> None:
    now = 1_000_000.0
    first = event("a", 1)
    emit(path, first, event("a", 2), event("b", 1))
    execute(path, "update outbox set created_at = 1000000, next_attempt_at = 1000000")
    poster = FakePoster(lambda claimed: 503 if claimed.event == first and not claimed.attempts else 200)
    outbox = WatchedOutbox(path, clock=lambda: now)
    with closing(relay(outbox, poster, jitter=lambda: 0.5)) as made:
        made.run_once(20)
        assert (poster.sequences("a"), poster.sequences("b")) == ([1], [1])
        now += 0.4
        made.run_once(20)
        assert poster.sequences("a") == [1]
        now += 0.2
        made.run_once(20)
        assert poster.sequences("a") == [1, 1, 2]
    assert made.tally == Tally(delivered=3, again=1)


def test_equal_bodies_never_get_equal_signatures_and_others_keep_to_the_clock(path: Path) -> None:
    emit(path, *(event("a", number % 2) for number in range(8)))
    poster = FakePoster()
    pass_once(path, poster, clock_ms=lambda: 1_000)
    # In steps of two: the second POST of an attempt takes the millisecond in between.
    assert poster.timestamps == [1_000, 1_000, 1_002, 1_002, 1_004, 1_004, 1_006, 1_006]


# --- concurrency and pace


def test_aggregates_are_sent_in_parallel_up_to_the_concurrency(path: Path) -> None:
    emit(path, *(event(str(key)) for key in range(20)))
    gate = Gate()
    poster = FakePoster(gate)
    with running(relay(WatchedOutbox(path), poster, concurrency=5)) as run:
        gate.wait_reached(5)
        gate.open()
        eventually(lambda: statuses(path).count("delivered") == 20)
        run.stop()
    assert poster.most_under_way == 5


def test_one_aggregate_is_never_sent_in_parallel(path: Path) -> None:
    emit(path, *(event("a", number) for number in range(40)))
    poster = FakePoster()
    pass_once(path, poster, claim_size=3)
    assert poster.most_under_way == 1
    assert poster.sequences("a") == list(range(1, 41))


def test_behind_a_slow_receiver_no_more_is_claimed_than_is_being_sent(path: Path) -> None:
    emit(path, *(event(str(key)) for key in range(60)))
    outbox = WatchedOutbox(path)
    held = []
    outbox.after = lambda name, leases: (held.append(len(leases)) if name == "claim" else None, leases)[1]  # type: ignore[func-returns-value]
    with closing(relay(outbox, FakePoster(lambda _: attempt(200, took=10.0)), concurrency=4)) as made:
        assert made.run_once(20).delivered == 60
    assert max(held) <= 4


def test_behind_a_fast_receiver_claims_are_large(path: Path) -> None:
    emit(path, *(event(str(key)) for key in range(1_000)))
    outbox = WatchedOutbox(path)
    with closing(relay(outbox, FakePoster())) as made:
        assert made.run_once(20).delivered == 1_000
    assert max(outbox.limits) > 50
    assert outbox.calls["claim"] < 100


def test_with_every_thread_busy_it_waits_and_does_not_spin(path: Path) -> None:
    emit(path, *(event(str(key)) for key in range(8)))
    gate = Gate()
    outbox = WatchedOutbox(path)
    with running(relay(outbox, FakePoster(gate), concurrency=4, poll_interval=0.2)) as run:
        gate.wait_reached(4)
        before = dict(outbox.calls)
        started, cpu = time.monotonic(), time.process_time()
        assert not threading.Event().wait(1.0)
        waits = outbox.calls["wait"] - before["wait"]
        assert waits <= (time.monotonic() - started) / 0.2 + 2
        assert time.process_time() - cpu < 0.5
        gate.open()
        run.stop()


# --- leases


@pytest.mark.parametrize("lease", [1.0, 5.0, 6.0])
def test_a_lease_too_short_for_the_timeout_is_refused(path: Path, lease: float) -> None:
    with closing(SqliteOutbox(path)) as outbox, pytest.raises(ValueError, match=f"a lease of {lease:g} s is too short"):
        relay(outbox, FakePoster(timeout=5.0), lease=lease)


def test_a_lease_with_too_little_left_is_given_back_unsent(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="ipai_bridge")
    emit(path, event("a"))
    outbox, poster = WatchedOutbox(path), FakePoster()
    seen: list[int] = []

    def short(name: str, leases: list[Lease]) -> list[Lease]:
        if name != "claim" or seen or not leases:
            return leases
        seen.append(len(poster.sent))
        return [replace(lease, until=time.monotonic() + poster.timeout) for lease in leases]

    outbox.after = short
    with closing(relay(outbox, poster)) as made:
        assert made.run_once(20) == Tally(delivered=1)
    assert seen == [0]
    assert "lease given back unsent aggregate=default/res.partner/a" in caplog.text
    assert rows(path, "status, attempts") == [("delivered", 1)]


def test_a_lease_is_renewed_with_every_outcome(path: Path) -> None:
    emit(path, *(event("a", number) for number in range(10)))
    outbox = WatchedOutbox(path)
    seen = threading.Event()
    gate = Gate()
    poster = FakePoster(lambda claimed: gate(claimed) if claimed.sequence == 2 else 200)

    def short(name: str, leases: list[Lease]) -> list[Lease]:
        if name == "settle":
            seen.set()
            return leases
        return [replace(lease, until=time.monotonic() + poster.timeout + 1.5) for lease in leases]

    outbox.after = short
    with running(relay(outbox, poster, lease=60)) as run:
        gate.wait_reached()
        assert seen.wait(10)
        [due] = rows(path, "due_at", "aggregates")[0]
        assert due > time.time() + 50
        gate.open()
        eventually(lambda: statuses(path).count("delivered") == 10)
        run.stop()


def test_a_lost_lease_stops_the_lane_and_changes_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    emit(path, *(event("a", number) for number in range(3)))
    gate = Gate()
    poster = FakePoster(gate)
    with running(relay(WatchedOutbox(path), poster)) as run:
        gate.wait_reached()
        # As if this process had been frozen past its lease, and another relay had taken over.
        execute(path, "update aggregates set due_at = 0")
        with closing(SqliteOutbox(path)) as other:
            [taken] = other.claim(limit=10, lease=60)
            gate.open()
            eventually(lambda: "lease lost" in caplog.text)
            assert run.stop() == Tally()
            assert [claimed.sequence for claimed in taken.events] == [1, 2, 3]
    assert rows(path, "status, attempts") == [("pending", 0)] * 3
    assert rows(path, "lease_token", "aggregates") == [(str(taken.token),)]
    assert caplog.text.count("lease lost") == 1


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
