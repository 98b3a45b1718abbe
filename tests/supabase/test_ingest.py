"""odoo.ingest_event: once per key, once per signature, in one transaction."""

from __future__ import annotations

import json
import secrets
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import psycopg2.errors
import pytest

from tests.supabase.conftest import Sql, rows


def test_an_event_is_pending_and_logged(sql: Sql) -> None:
    key = str(uuid.uuid4())
    event_id, duplicate, verdict = sql.ingest("7", 1, key=key, payload='{"n": 1.10}')
    assert (duplicate, verdict) == (False, "accepted")
    [event] = sql(
        "select id, idempotency_key, sequence, status, outcome, retry_count, payload::text, processed_at "
        "from odoo.webhook_events"
    )
    assert event == (event_id, key, 1, "pending", None, 0, '{"n": 1.10}', None)
    assert sql("select event_id, idempotency_key, sequence, expected_sequence, missing, stale from odoo.event_log") == [
        (event_id, key, 1, 1, 0, False)
    ]


def test_numbers_keep_their_precision(sql: Sql) -> None:
    exact = "123456789012345678901234567890.123456789012345678901234567890"
    sql.ingest(payload=f'{{"n": {exact}}}')
    assert sql("select payload ->> 'n' from odoo.webhook_events") == [(exact,)]


def test_a_key_seen_before_changes_nothing_whatever_comes_with_it(sql: Sql) -> None:
    key = str(uuid.uuid4())
    first, _, _ = sql.ingest("7", 1, key=key)
    before = sql("select e::text, l::text from odoo.webhook_events e, odoo.event_log l")
    for body in (None, "not JSON", '{"payload": "\\u0000"}'):
        assert sql.ingest("8", 2, key=key, body=body) == (first, True, "duplicate")
    assert sql("select e::text, l::text from odoo.webhook_events e, odoo.event_log l") == before


def test_concurrent_duplicates_are_one_event_and_one_log_row(sql: Sql) -> None:
    key = str(uuid.uuid4())
    connections = [sql.connect() for _ in range(16)]
    body = json.dumps({"event_type": "a.b", "aggregate_type": "a", "aggregate_id": "1", "payload": {}})
    statement = "select id, duplicate, verdict from odoo.ingest_event('new', %s, 1, %s, %s, now())"
    for _ in range(8):
        key = str(uuid.uuid4())
        with ThreadPoolExecutor(16) as pool:
            answers = list(
                pool.map(lambda c, k=key: rows(c, statement, k, body, secrets.token_hex(32))[0], connections)
            )
        assert len({answer[0] for answer in answers}) == 1
        assert sorted(answer[1] for answer in answers) == [False] + [True] * 15
        assert sql("select count(*) from odoo.event_log where idempotency_key = %s", key) == [(1,)]
    assert sql("select count(*), (select count(*) from odoo.instances) from odoo.webhook_events") == [(8, 1)]


def test_a_signature_is_accepted_once_whatever_the_key_and_the_instance(sql: Sql) -> None:
    key, signature = str(uuid.uuid4()), secrets.token_hex(32)
    first, _, _ = sql.ingest(key=key, signature=signature)
    assert sql.ingest(key=key, signature=signature) == (first, True, "duplicate")
    assert sql.ingest(signature=signature) == (None, False, "replayed_signature")
    assert sql.ingest(key=key, signature=signature, instance="other") == (None, False, "replayed_signature")
    assert sql("select name from odoo.instances") == [("default",)]
    assert sql("select count(*) from odoo.webhook_events") == [(1,)]


def test_the_signature_of_a_duplicate_is_remembered_too(sql: Sql) -> None:
    key, again = str(uuid.uuid4()), secrets.token_hex(32)
    sql.ingest(key=key)
    assert sql.ingest(key=key, signature=again)[2] == "duplicate"
    assert sql.ingest(signature=again)[2] == "replayed_signature"


def test_one_signature_under_many_keys_at_once_is_one_event(sql: Sql) -> None:
    connections = [sql.connect() for _ in range(12)]
    body = json.dumps({"event_type": "a.b", "aggregate_type": "a", "aggregate_id": "1", "payload": {}})
    signature = secrets.token_hex(32)
    statement = "select verdict from odoo.ingest_event('default', %s, null, %s, %s, now())"
    with ThreadPoolExecutor(12) as pool:
        verdicts = list(pool.map(lambda c: rows(c, statement, str(uuid.uuid4()), body, signature)[0][0], connections))
    assert sorted(verdicts) == ["accepted"] + ["replayed_signature"] * 11
    assert sql("select count(*) from odoo.webhook_events") == [(1,)]


def test_signatures_are_forgotten_after_the_window_and_not_before(sql: Sql) -> None:
    recent, old = secrets.token_hex(32), secrets.token_hex(32)
    sql.ingest(signature=recent)
    sql.ingest(signature=old)
    sql(
        "update odoo.accepted_signatures set expires_at = now() - interval '6 minutes' where signature = %s",
        bytes.fromhex(old),
    )
    assert sql("select signatures_pruned from odoo.sweep_events()") == [(1,)]
    assert sql("select encode(signature, 'hex') from odoo.accepted_signatures") == [(recent,)]
    [(left,)] = sql("select extract(epoch from expires_at - now()) from odoo.accepted_signatures")
    assert 290 < left <= 300


def test_an_inactive_instance_is_refused(sql: Sql) -> None:
    sql("insert into odoo.instances (name, active) values ('closed', false)")
    assert sql.ingest(instance="closed") == (None, False, "instance_inactive")
    assert sql("select count(*) from odoo.webhook_events") == [(0,)]


def test_instances_do_not_share_keys_or_sequences(sql: Sql) -> None:
    key = str(uuid.uuid4())
    assert sql.ingest("1", 5, key=key, instance="a")[2] == "accepted"
    assert sql.ingest("1", 1, key=key, instance="b")[2] == "accepted"
    assert sql("select stale from odoo.event_log order by id") == [(False,), (False,)]


def test_gaps_and_stale_events_are_in_the_log(sql: Sql) -> None:
    for sequence in (1, 2, 5, 3, 5, 6, None):
        sql.ingest("9", sequence)
    assert sql("select sequence, expected_sequence, missing, stale from odoo.event_log order by id") == [
        (1, 1, 0, False),
        (2, 2, 0, False),
        (5, 3, 2, False),
        (3, 6, 0, True),
        (5, 6, 0, True),
        (6, 6, 0, False),
        (None, None, 0, False),
    ]


EVENT = {"event_type": "a.b", "aggregate_type": "a", "aggregate_id": "1", "payload": {}}


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "null",
        "{}",
        json.dumps({**EVENT, "more": 1}),
        json.dumps(EVENT)[:-1] + ', "payload": {}}',
        json.dumps({**EVENT, "aggregate_id": 1}),
        json.dumps({**EVENT, "aggregate_id": ""}),
        json.dumps({**EVENT, "aggregate_id": "a\n"}),
        json.dumps({**EVENT, "aggregate_id": "x" * 201}),
        json.dumps({**EVENT, "event_type": "a"}),
        json.dumps({**EVENT, "event_type": "a.b\n"}),
        json.dumps({**EVENT, "aggregate_type": "A"}),
        json.dumps({**EVENT, "payload": []}),
        json.dumps({**EVENT, "payload": {"x": "\0"}}),
        json.dumps({**EVENT, "payload": {"x": "\ud800"}}),
        json.dumps(EVENT).replace("{}", '{"n": 1e400000}'),
        json.dumps(EVENT).replace("{}", '{"n": ' + "[" * 60000 + "]" * 60000 + "}"),
    ],
    ids=lambda body: body[:60],
)
def test_what_is_not_an_event_is_a_data_error_and_leaves_nothing(sql: Sql, body: str) -> None:
    with pytest.raises(psycopg2.Error) as caught:
        sql.ingest(body=body)
    state = caught.value.pgcode or ""
    assert state.startswith("22") or state in {"23514", "54001"}
    assert sql(
        "select (select count(*) from odoo.webhook_events), (select count(*) from odoo.event_log), "
        "(select count(*) from odoo.instances), (select count(*) from odoo.accepted_signatures)"
    ) == [(0,) * 4]


def test_sequence_and_instance_have_their_form(sql: Sql) -> None:
    for options in ({"sequence": 0}, {"sequence": -1}, {"instance": "Ä"}, {"instance": ""}):
        with pytest.raises(psycopg2.errors.CheckViolation):
            sql.ingest(**options)


def test_the_log_is_append_only_even_for_the_owner(sql: Sql) -> None:
    sql.ingest()
    for statement in (
        "update odoo.event_log set event_type = 'x.y'",
        "update odoo.event_log set event_type = 'x.y' where false",
        "delete from odoo.event_log",
        "truncate odoo.event_log",
        "truncate odoo.webhook_events, odoo.event_log",
        "insert into odoo.event_log select * from odoo.event_log on conflict (event_id) do update set sequence = 1",
    ):
        with pytest.raises((psycopg2.errors.ObjectNotInPrerequisiteState, psycopg2.errors.GeneratedAlways)):
            sql(statement)
    assert sql("select count(*) from odoo.event_log") == [(1,)]
