"""What every outbox promises of leases, dead letters and retention."""

from __future__ import annotations

import time
from contextlib import closing
from uuid import UUID

import pytest

from ipai_bridge.errors import EventNotFound
from ipai_bridge.outbox.store import Hold, Outbox
from tests.bridge.outbox.acts import LEASE, claim_until, deliver_all, event, release, settled
from tests.bridge.outbox.backends import Backend

pytestmark = pytest.mark.stack


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
