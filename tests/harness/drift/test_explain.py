"""The one reason for each difference, from the facts alone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipai_harness.drift.explain import MEANING, Why, explain
from ipai_harness.drift.facts import (
    Difference,
    Facts,
    Kind,
    LastRun,
    Received,
    Record,
    Sent,
    Shadow,
    Tombstone,
    moment,
    shown,
)
from ipai_harness.drift.reconcile import plan

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone.utc)
CURSOR = NOW - timedelta(hours=1)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def record(**changes: Any) -> Record:
    return replace(Record(7, "New", True, "m.ref", ago(30), "María (maria)"), **changes)


def shadow(**changes: Any) -> Shadow:
    return replace(Shadow(7, "m.ref", "Old", True, ago(90), None, "2026-03-01 10:00:00", 5), **changes)


def sent(status: str, minutes: float = 29, **changes: Any) -> Sent:
    error = "HTTP 400: invalid_event" if status == "dead" else None
    return replace(Sent(f"s-{status}", "project.task.done", status, 3, ago(-1), error, ago(minutes)), **changes)


def received(status: str, minutes: float = 28, **changes: Any) -> Received:
    error = "handler app.f: no such function" if status == "failed" else None
    return replace(Received(f"r-{status}", "project.task.done", status, 2, error, None, ago(minutes)), **changes)


SUCCESS, FAILED = LastRun("success", CURSOR, None), LastRun("failed", ago(5), "Odoo went away")
PARTIAL, CUT, UNDER_WAY = (
    LastRun("partial", ago(5), "no access"), LastRun("running", ago(20), None), LastRun("running", ago(1), None),
)  # fmt: skip


def difference(kind: Kind, **changes: Any) -> Difference:
    return replace(Difference(kind, "default", "task", 7, "m.ref", "New", "Old"), **changes)


def facts(kind: Kind = Kind.NOT_IN_SHADOW, *, one: dict[str, Any] | None = None, **changes: Any) -> Facts:
    whole = Facts(difference(kind, **one or {}), NOW, True, True, record(), None, cursor=CURSOR, last_run=SUCCESS)
    return replace(whole, **changes)


TABLE: list[tuple[Facts, Why, str]] = [
    # How far the news came.
    (facts(), Why.NEVER_SENT, "the last complete sync was 2026-03-01 11:00:00 UTC, and no event of it in the outbox"),
    (facts(cursor=None, last_run=None), Why.NEVER_SENT, "no sync has run"),
    (facts(outbox_seen=False), Why.NEVER_SENT, "outbox not visible: give --odoo-dsn"),
    (facts(sent=[sent("dead")]), Why.DEAD, "given up after 3 attempts: HTTP 400: invalid_event"),
    (facts(sent=[sent("pending"), sent("dead")]), Why.DEAD, "given up"),
    (facts(sent=[sent("dead", 70)]), Why.NEVER_SENT, "no event"),  # from before what the sync has seen
    (facts(sent=[sent("pending")]), Why.WAITING, "3 attempts, the next 2026-03-01 12:01:00 UTC"),
    (facts(sent=[sent("pending", last_error="HTTP 503")]), Why.WAITING, "UTC: HTTP 503"),
    (facts(sent=[sent("delivered")], received=[received("pending")]), Why.NOT_SWEPT, "pending"),
    (facts(received=[received("processing")]), Why.NOT_SWEPT, "processing"),
    (
        facts(received=[received("failed", next_retry_at=ago(-2))]),
        Why.NOT_SWEPT,
        "failed 2 times, again 2026-03-01 12:02:00 UTC: handler app.f: no such function",
    ),
    (facts(received=[received("failed")]), Why.NOT_SWEPT, "failed 2 times, not by itself again"),
    (facts(sent=[sent("delivered")], received=[received("completed")]), Why.NOT_SYNCED, "was delivered"),
    (facts(received=[received("completed")], outbox_seen=False), Why.NOT_SYNCED, "was delivered"),
    (facts(last_run=FAILED), Why.SYNC_INCOMPLETE, "the last sync ended failed, 2026-03-01 11:55:00 UTC: Odoo went"),
    (facts(last_run=PARTIAL), Why.SYNC_INCOMPLETE, "ended partial, 2026-03-01 11:55:00 UTC: no access"),
    (facts(last_run=CUT), Why.SYNC_INCOMPLETE, "was cut off"),
    (facts(last_run=UNDER_WAY), Why.SYNC_INCOMPLETE, "is under way"),
    (facts(last_run=replace(FAILED, heard_at=ago(40))), Why.NEVER_SENT, "ended failed"),  # before it was written
    (facts(last_run=FAILED, sent=[sent("dead")]), Why.DEAD, "given up"),
    (facts(record=record(written=ago(90))), Why.UNEXPLAINED, "has seen Odoo as of 2026-03-01 11:00:00 UTC"),
    # The plan has it.
    (facts(Kind.MISSING), Why.NEVER_SENT, "no event"),
    (facts(Kind.MISSING, sent=[sent("dead")]), Why.DEAD, "given up"),
    (facts(Kind.MISSING, record=None), Why.ABSENT, "no record of Odoo has this reference"),
    (
        facts(Kind.MISSING, record=None, tombstone=Tombstone(9, "Gone", ago(45), 12)),
        Why.DELETED,
        "it was record 9, seen deleted 2026-03-01 11:15:00 UTC, in run 12",
    ),
    (facts(Kind.MISSING, tombstone=Tombstone(9, "Gone", ago(45), 12)), Why.NEVER_SENT, "no event"),  # made again
    (facts(Kind.MISSING, record=None, odoo_seen=False), Why.NOT_VISIBLE, "Odoo not visible"),
    (
        facts(Kind.MISSING, one={"external_ref": "m.second"}, shadow=shadow()),
        Why.DUPLICATE,
        "record 7 has this reference too, but counts as 'm.ref', its first",
    ),
    # The plan has it not.
    (facts(Kind.ORPHAN, one={"duplicate_of": 3}, shadow=shadow()), Why.DUPLICATE, "a copy: record 3, the oldest"),
    (facts(Kind.ORPHAN, shadow=shadow()), Why.NOT_PLANNED, "its reference 'm.ref' is in no plan"),
    (facts(Kind.ORPHAN, one={"external_ref": None}, shadow=shadow()), Why.NOT_PLANNED, "it has no reference"),
    (facts(Kind.ORPHAN, record=record(active=False), shadow=shadow()), Why.ARCHIVED, "archived; its reference"),
    (facts(Kind.ORPHAN, record=None, odoo_seen=False, shadow=shadow(active=False)), Why.ARCHIVED, "archived"),
    (facts(Kind.ORPHAN, record=None, shadow=shadow()), Why.DELETED, "Odoo has it no more"),
    (facts(Kind.NOT_IN_ODOO, record=None, shadow=shadow()), Why.DELETED, "the shadow does, as of 2026-03-01 10:30:00"),
    # Names.
    (
        facts(Kind.NAME, one={"renamed": True}, shadow=shadow(name="New", previous_name="Before")),
        Why.RENAMED,
        "from 'Before' to 'New'; last written by María (maria), 2026-03-01 11:30:00 UTC",
    ),
    (facts(Kind.NAME, one={"renamed": True}, shadow=shadow(previous_name=None)), Why.RENAMED, "from None to 'New'"),
    (facts(Kind.NAME, shadow=shadow(name="New", previous_name="Before")), Why.RENAMED, "from 'Before' to 'New'"),
    (facts(Kind.NAME, shadow=shadow(name="New")), Why.NAMED_OTHERWISE, "and was planned as 'Old'"),
    (facts(Kind.NAME, one={"other_name": None}, shadow=shadow(name="New")), Why.NAMED_OTHERWISE, "planned as None"),
    (
        facts(Kind.NAME, one={"renamed": True}, record=None, odoo_seen=False, shadow=shadow()),
        Why.RENAMED,
        "last written by user 5 (whose name only Odoo tells), 2026-03-01 10:00:00 UTC",
    ),
    (facts(Kind.NAME_BEHIND, shadow=shadow()), Why.RENAMED, "from 'Old' to 'New'; last written by María (maria)"),
    (facts(Kind.NAME_BEHIND, shadow=shadow(), sent=[sent("dead")]), Why.DEAD, "given up"),
    (facts(Kind.NAME_BEHIND, shadow=shadow(), sent=[sent("pending")]), Why.WAITING, "attempts"),
    (facts(Kind.NAME_BEHIND, shadow=shadow(), last_run=FAILED), Why.SYNC_INCOMPLETE, "ended failed"),
    (facts(Kind.NAME_BEHIND, shadow=shadow(), record=record(written=ago(90))), Why.UNEXPLAINED, "has seen Odoo"),
]  # fmt: skip


@pytest.mark.parametrize(("known", "why", "said"), TABLE, ids=[f"{n}-{row[1].value}" for n, row in enumerate(TABLE)])
def test_the_reason(known: Facts, why: Why, said: str) -> None:
    found = explain(known)
    assert found.why is why
    assert said in found.text
    assert json.loads(json.dumps(found.as_json()))["why"] == why.value


def test_every_reason_is_in_the_table_and_has_a_meaning() -> None:
    assert {why for _, why, _ in TABLE} == set(Why) == set(MEANING)


MOMENTS = st.integers(0, 120).map(ago)
NAMES = st.sampled_from([None, "New", "Old\nin two lines", "\x1b[2J"])
SENT = st.builds(
    Sent, st.just("s"), st.just("project.task.done"), st.sampled_from(["pending", "delivered", "dead"]),
    st.integers(0, 9), st.none() | MOMENTS, NAMES, MOMENTS,
)  # fmt: skip
RECEIVED = st.builds(
    Received, st.just("r"), st.just("project.task.done"),
    st.sampled_from(["pending", "processing", "completed", "failed"]), st.integers(0, 9), NAMES, st.none() | MOMENTS,
    MOMENTS,
)  # fmt: skip
ANY = st.builds(
    Facts,
    st.builds(
        Difference, st.sampled_from(Kind), st.just("default"), st.just("task"), st.just(7), NAMES, NAMES, NAMES,
        st.booleans(), st.none() | st.just(3),
    ),
    st.just(NOW), st.booleans(), st.booleans(),
    st.none() | st.builds(Record, st.just(7), NAMES, st.booleans(), NAMES, st.none() | MOMENTS, NAMES),
    st.none() | st.builds(
        Shadow, st.just(7), NAMES, NAMES, st.none() | st.booleans(), MOMENTS, NAMES,
        st.none() | st.just("2026-03-01 10:00:00"), st.none() | st.just(5),
    ),
    st.lists(SENT, max_size=3), st.lists(RECEIVED, max_size=3),
    st.none() | st.builds(Tombstone, st.just(9), NAMES, MOMENTS, st.just(1)),
    st.none() | MOMENTS,
    st.none() | st.builds(LastRun, st.sampled_from(["running", "success", "partial", "failed"]), MOMENTS, NAMES),
)  # fmt: skip


@given(ANY)
def test_every_difference_gets_exactly_one_reason_that_the_facts_bear_out(known: Facts) -> None:
    found = explain(known)
    assert explain(known) == found
    assert found.text
    assert "\n" not in found.text
    json.dumps(found.as_json())
    since = [event for event in known.sent if known.cursor is None or event.created_at >= known.cursor]
    here = [event for event in known.received if known.cursor is None or event.received_at >= known.cursor]
    borne_out = {
        Why.DUPLICATE: known.difference.duplicate_of is not None or known.record is not None,
        Why.DELETED: known.record is None or not known.odoo_seen or known.difference.kind is Kind.NOT_IN_ODOO,
        Why.ARCHIVED: known.difference.kind is Kind.ORPHAN,
        Why.RENAMED: known.difference.kind in (Kind.NAME, Kind.NAME_BEHIND),
        Why.NAMED_OTHERWISE: known.difference.kind is Kind.NAME and not known.difference.renamed,
        Why.NOT_PLANNED: known.difference.kind is Kind.ORPHAN,
        Why.DEAD: any(event.status == "dead" for event in since),
        Why.WAITING: any(event.status == "pending" for event in since),
        Why.NOT_SWEPT: any(event.status != "completed" for event in here),
        Why.SYNC_INCOMPLETE: known.last_run is not None and known.last_run.status != "success",
        Why.NOT_SYNCED: bool(since or here),
        Why.NEVER_SENT: not since and not here and known.record is not None,
        Why.ABSENT: known.record is None and known.tombstone is None and known.odoo_seen,
        Why.NOT_VISIBLE: known.record is None,
        Why.UNEXPLAINED: known.synced_since,
    }
    assert borne_out[found.why]
    assert plan([found, found]) == plan([found])


def test_what_is_planned_for_each_reason() -> None:
    explained = [explain(known) for known, _, _ in TABLE]
    wanted = plan(explained)
    assert wanted.retry == ["s-dead"]
    assert wanted.emit == {("default", "task"): [7]}
    assert wanted.again == [("default", "r-failed")]  # not the one that is tried again by itself
    assert wanted.full == [("default", "task")]
    assert len(wanted.lines()) == 4
    assert plan(one for one in explained if not one.facts.outbox_seen).emit == {}


def test_times() -> None:
    assert moment("2026-03-01 12:00:00") == NOW
    assert (moment(None), moment(False), moment("yesterday"), shown(None)) == (None, None, None, "?")
