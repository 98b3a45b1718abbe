"""The relay when its database, its receiver or its transport fails, and when there are two of it."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from ipai_bridge.delivery.relay import Tally
from ipai_bridge.errors import OutboxUnavailable
from ipai_bridge.outbox.sqlite import SqliteOutbox
from ipai_bridge.outbox.store import Claimed, Lease
from tests.bridge.delivery.relaying import (
    FakePoster,
    Gate,
    WatchedOutbox,
    emit,
    event,
    eventually,
    execute,
    fails,
    relay,
    rows,
    running,
    statuses,
)

# --- the outbox is away


@pytest.mark.parametrize("names", [("claim",), ("settle",), ("wait",), ("claim", "settle", "wait")])
@pytest.mark.parametrize("times", [1, 3])
def test_after_a_loss_of_the_database_it_goes_on(path: Path, names: tuple[str, ...], times: int) -> None:
    emit(path, *(event(key, number) for number in range(5) for key in "abc"))
    outbox, poster = WatchedOutbox(path), FakePoster()
    outbox.before = fails(*names, times=times)
    with running(relay(outbox, poster)) as run:
        eventually(lambda: statuses(path).count("delivered") == 15)
        assert run.stop() == Tally(delivered=15)
    assert len(poster.sent) == 15, "what was sent before the loss is settled after it, not sent again"
    assert rows(path, "distinct attempts") == [(1,)]


def test_a_commit_whose_answer_was_lost_is_not_settled_twice(path: Path) -> None:
    emit(path, *(event(key, number) for number in range(5) for key in "abc"))
    outbox, poster = WatchedOutbox(path), FakePoster()
    lost = [3]

    def lose(name: str, leases: list[Lease]) -> list[Lease]:
        if name == "settle" and lost[0]:
            lost[0] -= 1
            raise OutboxUnavailable("the connection broke after the commit")
        return leases

    outbox.after = lose
    with running(relay(outbox, poster)) as run:
        eventually(lambda: statuses(path).count("delivered") == 15)
        run.stop()
    assert len(poster.sent) == 15
    assert rows(path, "distinct attempts") == [(1,)]


def test_a_claim_whose_answer_was_lost_is_made_good_when_its_lease_ends(path: Path) -> None:
    emit(path, event("a"))
    outbox, poster = WatchedOutbox(path), FakePoster(timeout=0.5)
    lost = [1]

    def lose(name: str, leases: list[Lease]) -> list[Lease]:
        if name == "claim" and lost[0]:
            lost[0] -= 1
            raise OutboxUnavailable("the connection broke after the commit")
        return leases

    outbox.after = lose
    with running(relay(outbox, poster, lease=2.0)) as run:
        eventually(lambda: statuses(path) == ["delivered"])
        run.stop()
    assert len(poster.sent) == 1


def test_while_the_database_is_away_it_pauses_ever_longer(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outbox = WatchedOutbox(path)
    outbox.before = fails("claim", times=4)
    with running(relay(outbox, FakePoster())) as run:
        eventually(lambda: outbox.calls["wait"] > 0)
        run.stop()
    pauses = [line.rpartition("next look in ")[2] for line in caplog.text.splitlines()]
    assert pauses == ["0.1 s", "0.2 s", "0.4 s", "0.8 s"]


def test_outcomes_and_wakes_do_not_shorten_the_pause(path: Path) -> None:
    emit(path, *(event(str(key)) for key in range(8)))
    gate = Gate()
    outbox = WatchedOutbox(path)
    away = threading.Event()

    def before(_: str) -> None:
        if away.is_set():
            raise OutboxUnavailable("away")

    outbox.before = before
    with running(relay(outbox, FakePoster(gate))) as run:
        gate.wait_reached(8)
        away.set()
        run.relay.wake()
        before_calls = sum(outbox.calls.values())
        gate.open()
        for _ in range(1_000):
            run.relay.wake()
        assert not threading.Event().wait(0.5)
        assert sum(outbox.calls.values()) - before_calls < 8
        away.clear()
        eventually(lambda: statuses(path).count("delivered") == 8)
        run.stop()


def test_stop_while_the_database_is_away_returns_without_waiting_for_it(path: Path) -> None:
    outbox = WatchedOutbox(path)
    outbox.before = fails("claim", "settle", "wait", times=10**6)
    with running(relay(outbox, FakePoster())) as run:
        eventually(lambda: outbox.calls["claim"] >= 4)  # now the pause is 0.8 s or more
        started = time.monotonic()
        assert run.stop() == Tally()
    assert time.monotonic() - started < 0.7


def test_what_is_under_way_at_the_stop_is_settled_if_the_database_is_back_by_then(path: Path) -> None:
    emit(path, *(event(str(key)) for key in range(4)))
    gate = Gate()
    outbox = WatchedOutbox(path)
    with running(relay(outbox, FakePoster(gate))) as run:
        gate.wait_reached(4)
        eventually(lambda: outbox.calls["wait"] > 0)
        outbox.before = fails("wait")
        waits = outbox.calls["wait"]
        run.relay.stop()
        eventually(lambda: outbox.calls["wait"] > waits)
        gate.open()
        assert run.stop() == Tally(delivered=4)
    assert statuses(path) == ["delivered"] * 4


def test_what_cannot_be_settled_at_the_end_is_sent_again_by_the_next(path: Path) -> None:
    emit(path, event("a", 1), event("a", 2))
    gate = Gate()
    outbox = WatchedOutbox(path)
    with running(relay(outbox, FakePoster(gate))) as run:
        gate.wait_reached()
        outbox.before = fails("wait", "settle", times=10**6)
        run.relay.stop()
        gate.open()
        assert run.stop() == Tally()
    assert statuses(path) == ["pending", "pending"]
    execute(path, "update aggregates set due_at = 0")  # its lease has run out
    poster = FakePoster()
    with closing(relay(WatchedOutbox(path), poster)) as made:
        assert made.run_once(20) == Tally(delivered=2)
    assert poster.sequences("a") == [1, 2]


def test_an_error_that_is_no_loss_of_the_database_ends_it_with_what_was_sent_settled(path: Path) -> None:
    emit(path, *(event(str(key)) for key in range(3)))
    gate = Gate()
    outbox = WatchedOutbox(path)

    def before(name: str) -> None:
        if name == "wait":
            gate.wait_reached(3)
            gate.open()
            raise PermissionError("no more")

    outbox.before = before
    with running(relay(outbox, FakePoster(gate))) as run:
        run.join()
        assert isinstance(run.error, PermissionError)
    assert statuses(path) == ["delivered"] * 3


# --- the transport fails


def test_a_transport_that_raises_counts_as_an_attempt_and_does_not_spin(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1_000_000.0
    bad = event("bad")
    emit(path, bad, event("good", 1), event("good", 2))
    execute(path, "update outbox set created_at = 1000000, next_attempt_at = 1000000")

    def answer(claimed: Claimed) -> int:
        if claimed.event == bad:
            raise RuntimeError("a bug")
        return 200

    poster = FakePoster(answer)
    with closing(relay(WatchedOutbox(path, clock=lambda: now), poster, jitter=lambda: 0.5)) as made:
        assert made.run_once(20) == Tally(delivered=2, again=1)
    [(status, attempts, reason)] = rows(path, "status, attempts, last_error", "outbox where aggregate_id = 'bad'")
    assert (status, attempts) == ("pending", 1)
    assert reason == "the relay failed to send it (RuntimeError): see its log"
    assert caplog.text.count("post failed") == 1
    assert "a bug" in caplog.text


def test_a_lane_that_fails_ends_and_holds_up_no_other(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    emit(path, event("a"), event("b"))
    calls = []

    def clock() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("no clock")
        return 1_000

    with closing(relay(WatchedOutbox(path), FakePoster(), clock_ms=clock)) as made:
        assert made.run_once(20) == Tally(delivered=2)
    assert caplog.text.count("lane failed") == 1


# --- two relays


def test_two_relays_at_once_send_each_event_once_and_in_order(path: Path) -> None:
    emit(path, *(event(str(key), number) for number in range(10) for key in range(20)))
    posters = FakePoster(), FakePoster()
    both = FakePoster()
    for poster in posters:
        poster.answer = lambda claimed: both.post(claimed, timestamp_ms=0)
    with (
        running(relay(WatchedOutbox(path), posters[0], claim_size=10)) as one,
        running(relay(WatchedOutbox(path), posters[1], claim_size=10)) as two,
    ):
        eventually(lambda: statuses(path).count("delivered") == 200)
        assert one.stop().delivered + two.stop().delivered == 200
    assert len(both.sent) == 200
    for key in range(20):
        assert both.sequences(str(key)) == list(range(1, 11))


@pytest.mark.parametrize("seed", range(6))
def test_whatever_fails_nothing_is_lost_and_first_effects_are_in_order(
    path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    chance, lock = random.Random(seed), threading.Lock()  # noqa: S311

    def unlucky(percent: int) -> bool:
        with lock:
            return chance.randrange(100) < percent

    def answer(claimed: Claimed) -> int | None:
        if unlucky(5):
            raise RuntimeError("a bug")
        if unlucky(20):
            # The answer is lost, but the receiver had the request: it takes effect.
            effects.append((claimed.event.aggregate_id, claimed.sequence))
            return None
        if unlucky(10):
            return 503
        effects.append((claimed.event.aggregate_id, claimed.sequence))
        return 200

    def before(_: str) -> None:
        if unlucky(5):
            raise OutboxUnavailable("away")

    def after(_: str, leases: list[Lease]) -> list[Lease]:
        if unlucky(5):
            raise OutboxUnavailable("the connection broke after the commit")
        return leases

    caplog.set_level(logging.CRITICAL, logger="ipai_bridge")
    effects: list[tuple[str, int]] = []
    emit(path, *(event(key, number) for number in range(12) for key in "abcdef"))
    made = []
    for _ in range(2):
        outbox = WatchedOutbox(path)
        outbox.before, outbox.after = before, after
        made.append(relay(outbox, FakePoster(answer, timeout=0.2), lease=1.5, claim_size=9, concurrency=3))
    with running(made[0]), running(made[1]):
        eventually(lambda: set(statuses(path)) == {"delivered"}, lambda: statuses(path))
    for key in "abcdef":
        first_effects = list(dict.fromkeys(number for at, number in effects if at == key))
        assert first_effects == list(range(1, 13))


# --- many open files


def test_waiting_works_in_a_process_with_many_open_files(path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = 1_200
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number + 1), hard))
    reading, writing = os.pipe()
    try:
        os.dup2(reading, number)  # select.select() refuses numbers from 1,024
        os.write(writing, b".")
        with closing(SqliteOutbox(path)) as outbox:
            started = time.monotonic()
            outbox.wait(30, number)
            assert time.monotonic() - started < 10
    finally:
        for each in (reading, writing, number):
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_was_sent_under_a_lost_lease_is_not_in_the_tally(path: Path) -> None:
    emit(path, event("a"))
    outbox = WatchedOutbox(path)

    def take_away(name: str, leases: list[Lease]) -> list[Lease]:
        if name == "claim" and outbox.calls["claim"] == 1:
            execute(path, "update aggregates set lease_token = 'another', due_at = 0")
        return leases

    outbox.after = take_away
    poster = FakePoster()
    with closing(relay(outbox, poster)) as made:
        assert made.run_once(20) == Tally(delivered=1)
    assert len(poster.sent) == 2
    assert rows(path, "status, attempts") == [("delivered", 1)]
