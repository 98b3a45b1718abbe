"""The statements of the relay use their indexes, however much is waiting, before and after ANALYZE has seen it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from ipai_bridge.outbox.postgres import QUERIES, PostgresOutbox
from ipai_bridge.outbox.store import Hold, Settlement

pytestmark = pytest.mark.stack

EVENTS = """
insert into ipai_bridge.outbox
    (id, aggregate_type, aggregate_id, event_type, payload, instance, sequence, status, delivered_at)
select (%(block)s || '0000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
    'res.partner', coalesce(%(only)s, n::text), 'res.partner.updated', '{"payload":{}}', 'default',
    case when %(numbered)s then case when %(only)s is null then 1 else n end end,
    %(status)s, case when %(status)s = 'delivered' then now() - n * interval '1 second' end
from generate_series(1, %(events)s) as n
"""
AGGREGATES = """
insert into ipai_bridge.aggregates (aggregate_type, aggregate_id, instance, last_sequence, due_at)
select aggregate_type, aggregate_id, instance, max(sequence),
    case when %(due)s then now() - (case aggregate_id when 'hot' then 2 else random() end) * interval '1 hour' end
from ipai_bridge.outbox where sequence is not null
group by aggregate_type, aggregate_id, instance
"""
NEW = {"block": "0", "events": 1_000_000, "only": None, "numbered": False, "status": "pending"}
SHAPES: dict[str, list[tuple[str, dict[str, object]]]] = {
    # after a day without a relay: a backlog that none has seen
    "1,000,000 not numbered": [(EVENTS, NEW)],
    # after a day without a receiver: a backlog that every relay knows, half of it of one record, which is due first
    "100,000 aggregates and one of 100,000 events": [
        (EVENTS, NEW | {"block": "1", "events": 100_000, "numbered": True}),
        (EVENTS, NEW | {"block": "2", "events": 100_000, "numbered": True, "only": "hot"}),
        (AGGREGATES, {"due": True}),
    ],
    # an ordinary day: all is delivered but the newest
    "200,000 delivered and 1,000 new": [
        (EVENTS, NEW | {"block": "1", "events": 200_000, "numbered": True, "status": "delivered"}),
        (AGGREGATES, {"due": False}),
        (EVENTS, NEW | {"events": 1_000}),
    ],
}
CLAIM = {"limit": 100, "lease": 60.0, "token": str(uuid.uuid4()), "numbering_lock": 1}


@pytest.fixture(params=SHAPES)
def backlog(request: pytest.FixtureRequest, database: str) -> Iterator[Any]:
    """A connection to an outbox with that much in it."""
    with closing(psycopg2.connect(database)) as connection, closing(PostgresOutbox.from_dsn(database)) as outbox:
        outbox.install()
        fill(connection, SHAPES[request.param])
        yield connection


def fill(connection: Any, shape: list[tuple[str, dict[str, object]]]) -> None:
    with connection, connection.cursor() as cursor:
        # So that "before ANALYZE" stays true until the test says otherwise.
        cursor.execute("alter table ipai_bridge.outbox set (autovacuum_enabled = off)")
        cursor.execute("alter table ipai_bridge.aggregates set (autovacuum_enabled = off)")
        # They cost half of the time that it takes to fill it, and no plan depends on them.
        cursor.execute(
            "select conname from pg_constraint where conrelid = 'ipai_bridge.outbox'::regclass and contype = 'c'"
        )
        for (name,) in cursor.fetchall():
            cursor.execute(f"alter table ipai_bridge.outbox drop constraint {name}")
        for statement, parameters in shape:
            cursor.execute(statement, parameters)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def plans(connection: Any, statements: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Runs each statement with EXPLAIN ANALYZE, in one transaction, which is rolled back."""
    with connection.cursor() as cursor:
        for statement in filter(str.strip, statements.decode().split(";")):
            cursor.execute("explain (analyze, timing off, format json) " + statement)
            yield statement.strip(), cursor.fetchone()[0][0]["Plan"]
    connection.rollback()


def check(connection: Any, statements: bytes) -> int:
    """How many statements there are; fails where one reads through a table, or reads much for little."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select (select count(*) from ipai_bridge.outbox), (select count(*) from ipai_bridge.aggregates)"
        )
        sizes = dict(zip(("outbox", "aggregates"), cursor.fetchone(), strict=True))
    number = 0
    for statement, plan in plans(connection, statements):
        number += 1
        for scan in nodes(plan):
            table, kind = scan.get("Relation Name"), scan["Node Type"]
            if table not in sizes or "Scan" not in kind:
                continue
            where = f"in the plan of:\n{statement}\n{json.dumps(scan, indent=1)}"
            # Of a small table no index is worth the detour.
            assert kind != "Seq Scan" or sizes[table] <= 1_000, f"{kind} of {table} {where}"
            removed = scan.get("Rows Removed by Filter", 0) + scan.get("Rows Removed by Index Recheck", 0)
            read = (scan["Actual Rows"] + removed) * scan["Actual Loops"]
            assert read <= 1_000, f"{read} rows of {table} are read {where}"
    return number


def claim_and_settle(connection: Any) -> None:
    with connection.cursor() as cursor:
        claim = cursor.mogrify(QUERIES["claim"], CLAIM)
    assert check(connection, claim) == 4
    with connection.cursor() as cursor:
        cursor.execute(QUERIES["claim"], CLAIM)
        claimed = cursor.fetchall()
        assert len(claimed) >= 100
        keys = sorted({row[:3] for row in claimed})
        settle = cursor.mogrify(
            QUERIES["settle"],
            {
                "aggregate_types": [key[0] for key in keys],
                "aggregate_ids": [key[1] for key in keys],
                "instances": [key[2] for key in keys],
                "lease_tokens": [CLAIM["token"]] * len(keys),
                "releases": [True] * len(keys),
                "lease": 60.0,
                "ids": [row[3] for row in claimed],
                "tokens": [CLAIM["token"]] * len(claimed),
                "statuses": ["delivered"] * len(claimed),
                "attempts": [1] * len(claimed),
                "last_statuses": [200] * len(claimed),
                "last_errors": [None] * len(claimed),
                "delays": [0.0] * len(claimed),
                "took": [0.01] * len(claimed),
            },
        )
    assert check(connection, settle) == 3  # and rolled back, with the claim


@pytest.mark.timeout(120)
def test_claim_and_settle_use_their_indexes(backlog: Any) -> None:
    claim_and_settle(backlog)
    say_what_it_takes(backlog)
    with backlog.cursor() as cursor:
        cursor.execute("analyze ipai_bridge.outbox, ipai_bridge.aggregates")
    backlog.commit()
    claim_and_settle(backlog)


def test_the_check_can_fail(database: str) -> None:
    with closing(psycopg2.connect(database)) as connection, closing(PostgresOutbox.from_dsn(database)) as outbox:
        outbox.install()
        fill(connection, [(EVENTS, NEW | {"events": 5_000})])
        with connection, connection.cursor() as cursor:
            cursor.execute("drop index ipai_bridge.outbox_unnumbered")
            claim = cursor.mogrify(QUERIES["claim"], CLAIM)
        with pytest.raises(AssertionError, match="Seq Scan of outbox"):
            check(connection, claim)


def test_what_a_claim_takes_when_little_is_waiting(database: str) -> None:
    with closing(psycopg2.connect(database)) as connection, closing(PostgresOutbox.from_dsn(database)) as outbox:
        outbox.install()
        fill(connection, [(EVENTS, NEW | {"events": 1_000})])
        say_what_it_takes(connection)


def say_what_it_takes(connection: Any) -> None:
    """Asserts nothing of a clock. See it with `pytest -s`."""
    claims, settles = [], []
    outbox = PostgresOutbox.from_dsn(connection.dsn + " password=" + connection.info.password)
    with closing(outbox):
        for _ in range(8):
            started = time.perf_counter()
            leases = outbox.claim(limit=100, lease=60.0)
            claims.append(time.perf_counter() - started)
            settlements = [
                Settlement(claimed.event.id, lease.token, "delivered", 1, 200, None, 0.0, 0.01)
                for lease in leases
                for claimed in lease.events
            ]
            assert settlements
            started = time.perf_counter()
            assert outbox.settle(settlements, [Hold(lease, release=True) for lease in leases], lease=60.0) == []
            settles.append(time.perf_counter() - started)
        waiting = outbox.depth().pending
    for name, taken in (("claim", claims), ("settle", settles)):
        median = sorted(taken)[len(taken) // 2] * 1000
        print(f"\n{name} of up to 100 with {waiting:,} waiting: {median:.1f} ms (median of 8)")  # noqa: T201
