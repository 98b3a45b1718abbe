"""What every outbox promises (store.py), on each database it can lie in."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg2
import pytest

from ipai_bridge.errors import EventNotFound, NotElected, OutboxUnavailable, SchemaMissing
from ipai_bridge.event import Event, next_id
from ipai_bridge.outbox import postgres, sqlite
from ipai_bridge.outbox.postgres import PostgresOutbox
from ipai_bridge.outbox.sqlite import SqliteOutbox
from ipai_bridge.outbox.store import Hold, Lease, Outbox, Settlement
from tests.bridge.outbox.backends import Backend, PostgresBackend, SqliteBackend

pytestmark = pytest.mark.stack

LEASE = 60.0


@pytest.fixture(params=["postgres", "sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    if request.param == "sqlite":
        yield SqliteBackend(tmp_path / "outbox.db")
    else:
        yield PostgresBackend(request.getfixturevalue("database"))


@pytest.fixture
def outbox(backend: Backend) -> Iterator[Outbox]:
    with closing(backend.outbox()) as outbox:
        outbox.install()
        yield outbox


def event(aggregate_id: str = "1", number: int = 0, **changes: Any) -> Event:
    values: dict[str, Any] = {
        "id": next_id(),
        "event_type": "res.partner.updated",
        "aggregate_type": "res.partner",
        "aggregate_id": aggregate_id,
        "payload": {"number": number},
    }
    return Event.create(**values | changes)


def settled(lease: Lease, index: int = 0, status: str = "delivered", **changes: Any) -> Settlement:
    values: dict[str, Any] = {
        "event_id": lease.events[index].event.id,
        "token": lease.token,
        "status": status,
        "attempts": 1,
        "http_status": 200 if status == "delivered" else 500,
        "error": None if status == "delivered" else "HTTP 500",
        "delay": 0.0,
        "took": 0.01,
    }
    return Settlement(**values | changes)


def release(*leases: Lease) -> list[Hold]:
    return [Hold(lease, release=True) for lease in leases]


def deliver_all(outbox: Outbox, *, limit: int = 100) -> list[tuple[str, int]]:
    """Claim and settle until nothing is due: (aggregate id, sequence) in the order of delivery."""
    delivered = []
    while leases := outbox.claim(limit=limit, lease=LEASE):
        for lease in leases:
            delivered += [(lease.aggregate.aggregate_id, claimed.sequence) for claimed in lease.events]
        settlements = [settled(lease, index) for lease in leases for index in range(len(lease.events))]
        assert outbox.settle(settlements, release(*leases), lease=LEASE) == []
    return delivered


def claim_until(outbox: Outbox, found: Callable[[list[Lease]], bool], *, lease: float = LEASE) -> list[Lease]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        leases = outbox.claim(limit=10, lease=lease)
        if found(leases):
            return leases
        time.sleep(0.01)
    raise AssertionError("nothing of the kind was claimed within 10 s")


# --- emitting


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


# --- order


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


# --- leases


def test_an_expired_lease_is_claimed_again_and_the_old_token_changes_nothing(backend: Backend, outbox: Outbox) -> None:
    backend.emit(event())
    [stale] = outbox.claim(limit=10, lease=0.05)
    with closing(backend.outbox()) as other:
        [fresh] = claim_until(other, bool)
        assert outbox.settle([settled(stale, status="dead", error="late")], release(stale), lease=LEASE) == [stale]
        assert outbox.entries(status="pending")
        assert other.settle([settled(fresh)], release(fresh), lease=LEASE) == []
    assert outbox.settle([settled(stale, status="pending")], release(stale), lease=LEASE) == [stale]
    [entry] = outbox.entries()
    assert (entry.status, entry.attempts) == ("delivered", 1)


def test_settling_one_of_several_renews_the_lease(backend: Backend, outbox: Outbox) -> None:
    backend.emit(event(number=1), event(number=2))
    [lease] = outbox.claim(limit=10, lease=0.2)
    assert outbox.settle([settled(lease, 0)], [Hold(lease, release=False)], lease=LEASE) == []
    time.sleep(0.25)  # the first term must pass: there is no signal to wait for
    with closing(backend.outbox()) as other:
        assert other.claim(limit=10, lease=LEASE) == []
    assert outbox.settle([settled(lease, 1)], release(lease), lease=LEASE) == []


def test_a_lease_given_back_unsent_is_due_at_once(backend: Backend, outbox: Outbox) -> None:
    backend.emit(event())
    [lease] = outbox.claim(limit=10, lease=LEASE)
    outbox.settle([], release(lease), lease=LEASE)
    [again] = outbox.claim(limit=10, lease=LEASE)
    assert again.events[0].attempts == 0


def test_two_leases_of_one_aggregate_are_told_apart(backend: Backend, outbox: Outbox) -> None:
    backend.emit(event())
    [stale] = outbox.claim(limit=10, lease=0.05)
    [fresh] = claim_until(outbox, bool)
    lost = outbox.settle([settled(fresh)], [Hold(stale, release=True), Hold(fresh, release=True)], lease=LEASE)
    assert lost == [stale]


# --- dead letters, retention, depth


def test_a_dead_event_can_be_retried_with_its_old_number(backend: Backend, outbox: Outbox) -> None:
    backend.emit(event(number=1), event(number=2))
    [lease] = outbox.claim(limit=10, lease=LEASE)
    outbox.settle([settled(lease, 0, "dead"), settled(lease, 1)], release(lease), lease=LEASE)
    [dead] = outbox.entries(status="dead")
    assert outbox.retry(ids=[dead.id]) == [dead.id]
    assert outbox.entries(status="dead") == []
    assert deliver_all(outbox) == [("1", 1)]


def test_retry_takes_all_that_fit_and_nothing_else(backend: Backend, outbox: Outbox) -> None:
    backend.emit(event("1"), event("2", event_type="res.partner.created"), event("3"))
    leases = {lease.aggregate.aggregate_id: lease for lease in outbox.claim(limit=10, lease=LEASE)}
    outbox.settle([settled(leases["1"], status="dead")], release(leases["1"]), lease=LEASE)
    outbox.settle([settled(leases["2"], status="dead")], release(leases["2"]), lease=LEASE)
    outbox.settle([settled(leases["3"])], release(leases["3"]), lease=LEASE)
    assert outbox.retry(event_type="res.partner.created") == [leases["2"].events[0].event.id]
    assert outbox.retry() == [leases["1"].events[0].event.id]
    assert outbox.retry() == []
    assert sorted(deliver_all(outbox)) == [("1", 1), ("2", 1)]


def test_retrying_while_the_aggregate_is_leased_is_not_forgotten(backend: Backend, outbox: Outbox) -> None:
    backend.emit(event(number=1), event(number=2))
    [lease] = outbox.claim(limit=1, lease=LEASE)
    outbox.settle([settled(lease, status="dead")], release(lease), lease=LEASE)
    [holder] = outbox.claim(limit=10, lease=LEASE)
    outbox.retry()
    assert outbox.claim(limit=10, lease=LEASE) == []
    outbox.settle([settled(holder)], release(holder), lease=LEASE)
    assert deliver_all(outbox) == [("1", 1)]


def test_purge_never_touches_what_is_pending(backend: Backend, outbox: Outbox) -> None:
    backend.emit(event("1"), event("2"), event("3"))
    leases = {lease.aggregate.aggregate_id: lease for lease in outbox.claim(limit=10, lease=LEASE)}
    outbox.settle([settled(leases["1"])], release(leases["1"]), lease=LEASE)
    outbox.settle([settled(leases["2"], status="dead")], release(leases["2"]), lease=LEASE)
    outbox.settle([settled(leases["3"], status="pending")], release(leases["3"]), lease=LEASE)
    assert outbox.purge(status="delivered", older_than=3_600) == 0
    assert outbox.purge(status="delivered", older_than=-1) == 1
    assert outbox.purge(status="dead", older_than=-1) == 1
    assert [entry.status for entry in outbox.entries()] == ["pending"]
    assert outbox.purge(status="pending", older_than=-1) == 0  # type: ignore[arg-type]
    assert outbox.depth().pending == 1


def test_depth_says_how_much_waits_and_since_when(backend: Backend, outbox: Outbox) -> None:
    assert outbox.depth().oldest_pending_age is None
    backend.emit(event("1"), event("2"))
    [lease] = outbox.claim(limit=1, lease=LEASE)
    outbox.settle([settled(lease, status="dead")], release(lease), lease=LEASE)
    depth = outbox.depth()
    assert (depth.pending, depth.dead) == (1, 1)
    assert depth.oldest_pending_age is not None
    assert 0 <= depth.oldest_pending_age < 30


def test_entries_are_newest_first_and_filtered(backend: Backend, outbox: Outbox) -> None:
    backend.emit(event("1", 1), event("2", 2), event("1", 3))
    assert [entry.aggregate_id for entry in outbox.entries()] == ["1", "2", "1"]
    assert len(outbox.entries(limit=2)) == 2
    assert [entry.aggregate_id for entry in outbox.entries(aggregate_id="2", aggregate_type="res.partner")] == ["2"]
    assert outbox.entries(event_type="no.such") == []
    assert outbox.entries(status="delivered") == []


def test_an_unknown_event_is_said_to_be_unknown(outbox: Outbox) -> None:
    with pytest.raises(EventNotFound, match="ipai-bridge outbox list"):
        outbox.show(UUID(int=1))


# --- installation, failure


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
