"""What every outbox promises of emitting, and of order."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing

import pytest

from ipai_bridge.outbox.store import Outbox
from tests.bridge.outbox.acts import LEASE, claim_until, deliver_all, event, release, settled
from tests.bridge.outbox.backends import Backend, PostgresBackend

pytestmark = pytest.mark.stack


def test_what_is_claimed_is_what_was_emitted_byte_for_byte(backend: Backend, outbox: Outbox) -> None:
    payload = {
        "text": "Peñaranda – 株式会社 😀 \u2028 \\ ' \" %s %(x)s :now",
        "amount": 1150.0,
        "lines": [1, None, {"a": []}],
    }
    emitted = event(payload=payload, instance="paris")
    backend.emit(emitted)
    [lease] = outbox.claim(limit=10, lease=LEASE)
    [claimed] = lease.events
    assert claimed.event == emitted
    assert claimed.event.body == emitted.body
    assert json.loads(outbox.show(emitted.id).body or "")["payload"] == payload
    assert (claimed.sequence, claimed.attempts, claimed.trying_for) == (1, 0, 0.0)
    assert lease.aggregate.instance == "paris"


def test_a_transaction_that_rolls_back_leaves_nothing(backend: Backend, outbox: Outbox) -> None:
    with backend.transaction(commit=False) as cursor:
        backend.emit_through(cursor, [event()])
    assert outbox.claim(limit=10, lease=LEASE) == []
    assert outbox.depth().pending == 0


def test_a_savepoint_that_rolls_back_takes_its_events_with_it(backend: Backend, outbox: Outbox) -> None:
    kept, dropped = event("1"), event("2")
    with backend.transaction() as cursor:
        backend.emit_through(cursor, [kept])
        cursor.execute("savepoint inner_act")
        backend.emit_through(cursor, [dropped])
        cursor.execute("rollback to savepoint inner_act")
    [lease] = outbox.claim(limit=10, lease=LEASE)
    assert [claimed.event.id for claimed in lease.events] == [kept.id]


def test_postgres_claims_nothing_before_the_commit(database: str) -> None:
    # SQLite has one writer at a time: there a claim waits for the commit.
    backend = PostgresBackend(database)
    with closing(backend.outbox()) as outbox:
        outbox.install()
        with backend.transaction() as cursor:
            backend.emit_through(cursor, [event()])
            assert outbox.claim(limit=10, lease=LEASE) == []
        assert len(outbox.claim(limit=10, lease=LEASE)) == 1


def test_many_events_are_one_statement(backend: Backend, outbox: Outbox) -> None:
    events = [event(str(number % 3), number) for number in range(1_000)]
    statements = backend.count_statements(lambda cursor: backend.emit_through(cursor, events))
    assert statements == 1
    assert len(deliver_all(outbox)) == 1_000


def test_no_event_is_no_statement(backend: Backend, outbox: Outbox) -> None:
    assert backend.count_statements(lambda cursor: backend.emit_through(cursor, [])) == 0


def test_the_same_id_twice_is_refused(backend: Backend, outbox: Outbox) -> None:
    emitted = event()
    backend.emit(emitted)
    with pytest.raises(backend.integrity_error):
        backend.emit(emitted)


def test_an_aggregate_is_numbered_densely_in_the_order_of_insertion(backend: Backend, outbox: Outbox) -> None:
    backend.emit(*[event(str(number % 5), number) for number in range(500)])
    delivered = deliver_all(outbox, limit=7)
    for aggregate_id in "01234":
        assert [sequence for key, sequence in delivered if key == aggregate_id] == list(range(1, 101))


def test_numbering_goes_on_where_it_stopped(backend: Backend, outbox: Outbox) -> None:
    backend.emit(event())
    assert deliver_all(outbox) == [("1", 1)]
    outbox.purge(status="delivered", older_than=-1)
    backend.emit(event())
    assert deliver_all(outbox) == [("1", 2)]


def test_two_instances_are_two_aggregates(backend: Backend, outbox: Outbox) -> None:
    backend.emit(event(instance="paris"), event(instance="manila"))
    leases = outbox.claim(limit=10, lease=LEASE)
    assert sorted((lease.aggregate.instance, lease.events[0].sequence) for lease in leases) == [
        ("manila", 1),
        ("paris", 1),
    ]


def test_a_leased_aggregate_is_nobody_elses(backend: Backend, outbox: Outbox) -> None:
    backend.emit(event("1"), event("2"))
    first = outbox.claim(limit=1, lease=LEASE)
    with closing(backend.outbox()) as other:
        second = other.claim(limit=10, lease=LEASE)
        assert {lease.aggregate for lease in first}.isdisjoint(lease.aggregate for lease in second)
        assert other.claim(limit=10, lease=LEASE) == []


def test_a_new_event_of_a_leased_aggregate_waits_for_its_turn(backend: Backend, outbox: Outbox) -> None:
    backend.emit(event(number=1))
    [lease] = outbox.claim(limit=10, lease=LEASE)
    backend.emit(event(number=2))
    assert outbox.claim(limit=10, lease=LEASE) == []
    outbox.settle([settled(lease)], release(lease), lease=LEASE)
    [again] = outbox.claim(limit=10, lease=LEASE)
    assert [claimed.sequence for claimed in again.events] == [2]


def test_an_event_that_waits_for_its_retry_holds_up_its_aggregate_only(backend: Backend, outbox: Outbox) -> None:
    backend.emit(event("1", 1), event("1", 2), event("2"))
    leases = {lease.aggregate.aggregate_id: lease for lease in outbox.claim(limit=10, lease=LEASE)}
    later = settled(leases["1"], status="pending", delay=3_600.0)
    outbox.settle([later], release(leases["1"]), lease=LEASE)
    outbox.settle([settled(leases["2"])], release(leases["2"]), lease=LEASE)
    backend.emit(event("1", 3), event("2", 2))
    assert deliver_all(outbox) == [("2", 2)]


def test_a_retry_comes_when_it_is_due_and_counts(backend: Backend, outbox: Outbox) -> None:
    backend.emit(event())
    [lease] = outbox.claim(limit=10, lease=LEASE)
    outbox.settle([settled(lease, status="pending", delay=0.05, took=2.0)], release(lease), lease=LEASE)
    [again] = claim_until(outbox, bool)
    [claimed] = again.events
    assert (claimed.sequence, claimed.attempts) == (1, 1)
    assert claimed.trying_for >= 2.0


def test_a_dead_event_lets_the_next_one_pass(backend: Backend, outbox: Outbox) -> None:
    backend.emit(event(number=1), event(number=2))
    [lease] = outbox.claim(limit=1, lease=LEASE)
    outbox.settle([settled(lease, status="dead", error="HTTP 400", http_status=400)], release(lease), lease=LEASE)
    assert deliver_all(outbox) == [("1", 2)]
    [dead] = outbox.entries(status="dead")
    assert (dead.sequence, dead.last_status, dead.last_error) == (1, 400, "HTTP 400")


def test_relays_side_by_side_deliver_each_event_once_and_in_order(backend: Backend, outbox: Outbox) -> None:
    total, lock = 600, threading.Lock()
    delivered: list[tuple[str, int]] = []

    def relay() -> None:
        with closing(backend.outbox()) as mine:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                leases = mine.claim(limit=10, lease=LEASE)
                with lock:
                    delivered.extend(
                        (lease.aggregate.aggregate_id, c.sequence) for lease in leases for c in lease.events
                    )
                    if not leases and len(delivered) >= total:
                        return
                settlements = [settled(lease, index) for lease in leases for index in range(len(lease.events))]
                assert mine.settle(settlements, release(*leases), lease=LEASE) == []

    threads = [threading.Thread(target=relay) for _ in range(4)]
    for thread in threads:
        thread.start()
    for start in range(0, total, 20):
        backend.emit(*[event(str(number % 7), number) for number in range(start, start + 20)])
    for thread in threads:
        thread.join()
    assert len(delivered) == total
    for key in {key for key, _ in delivered}:
        sequences = [sequence for other, sequence in delivered if other == key]
        assert sequences == list(range(1, len(sequences) + 1))
