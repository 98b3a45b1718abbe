"""The relay on the SQLite outbox: order, concurrency and pace, leases."""

from __future__ import annotations

import logging
import random
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ipai_bridge.delivery.relay import Tally
from ipai_bridge.outbox.sqlite import SqliteOutbox
from ipai_bridge.outbox.store import Lease
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
