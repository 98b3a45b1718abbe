"""realtime-sync: what is missing, what is broadcast, and a cursor that moves only when Realtime took it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg2.extensions
import pytest

from tests.supabase.conftest import PROJECT, Answer, Edge, Sender, Server, Sql, edge_environment, rows, until
from tests.supabase.listening import Subscriber, token

FUNCTION = "realtime-sync"
Inbox = Callable[..., list[tuple[Any, ...]]]


class Instance:
    """An instance of its own, its events, and requests in its name."""

    def __init__(self, sender: Sender) -> None:
        self.sender, self.name = sender, f"i-{uuid.uuid4().hex[:10]}"

    def post(self, body: dict[str, Any] | bytes, **options: Any) -> Answer:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = self.sender.headers(text, **options) | {"x-ipai-instance": self.name}
        return self.sender.request("POST", FUNCTION, headers, text)

    def broadcast(self) -> Answer:
        return self.post({"action": "broadcast"})

    def emit(self) -> None:
        assert self.sender.post(headers={"x-ipai-instance": self.name}).status == 200

    def cursor(self, inbox: Inbox) -> list[tuple[Any, ...]]:
        return inbox(
            "select c.cursor from odoo.sync_cursors c join odoo.instances i on i.id = c.instance_id "
            "where i.name = %s and c.entity = 'realtime'",
            self.name,
        )


@pytest.fixture
def instance(sender: Sender) -> Instance:
    return Instance(sender)


class Pretender:
    """Answers at the address of Realtime, whatever it is told to."""

    def __init__(self, status: int, headers: dict[str, str] | None = None, delay: float = 0.0) -> None:
        self.bodies: list[Any] = []
        pretender = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                pretender.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                time.sleep(delay)
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in (headers or {}).items():
                        self.send_header(name, value)
                    self.send_header("content-length", "0")
                    self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@contextlib.contextmanager
def with_realtime_at(server: Server, url: str, **changes: str) -> Iterator[Edge]:
    edge = Edge(PROJECT, edge_environment(server, 1) | {"SUPABASE_URL": url} | changes)
    try:
        yield edge
    finally:
        edge.stop()


def test_all_is_there(instance: Instance) -> None:
    answer = instance.post({"action": "status"})
    assert answer.status == 200
    said = answer.json
    tables = {table["name"]: table for table in said["tables"]}
    assert set(tables) == {
        "odoo.webhook_events", "odoo_seed.shadow_projects", "odoo_seed.shadow_tasks", "catalog.assets",
    }  # fmt: skip
    assert tables["odoo.webhook_events"] == {
        "name": "odoo.webhook_events", "permission": "events:read", "exists": True, "published": True, "rls": True,
        "policies": ["events_readers"], "readable": True, "missing": [],
    }  # fmt: skip
    assert said["complete"] is (tables["catalog.assets"]["missing"] == [])


@pytest.mark.parametrize(
    ("fault", "missing"),
    [
        ("alter publication supabase_realtime drop table odoo.webhook_events", ["publication"]),
        ("alter table odoo.webhook_events disable row level security", ["row level security"]),
        ("drop policy events_readers on odoo.webhook_events", ["policy"]),
        ("revoke select on odoo.webhook_events from authenticated", ["grant"]),
        ("revoke usage on schema odoo from authenticated", ["grant"]),
    ],
)
def test_the_status_names_what_is_missing(sql: Sql, fault: str, missing: list[str]) -> None:
    connection = sql.connect()
    connection.autocommit = False
    rows(connection, fault)
    [(found,)] = rows(connection, "select odoo.realtime_status()")
    connection.rollback()
    [table] = [one for one in found["tables"] if one["name"] == "odoo.webhook_events"]
    assert (table["missing"], found["complete"]) == (missing, False)


def test_a_slot_and_how_far_behind_it_is(edge: Edge, instance: Instance) -> None:
    subscriber = Subscriber(f"http://127.0.0.1:{edge.port}", token("authenticated", "events:read")).live()
    try:
        [slot] = instance.post({"action": "status"}).json["slots"]
        assert (slot["plugin"], slot["active"]) == ("pgoutput", True)
        assert slot["lag_bytes"] >= 0
    finally:
        subscriber.close()


def test_subscribers_hear_the_summary_once(edge: Edge, instance: Instance, inbox: Inbox) -> None:
    url = f"http://127.0.0.1:{edge.port}"
    reader = Subscriber(url, token("authenticated", "events:read"), (), private=True)
    public = Subscriber(url, token("anon"), ())
    try:
        for _ in range(3):
            instance.emit()
        until(
            lambda: inbox("select count(*) from odoo.webhook_events where status = 'pending'") == [(0,)], "all is done"
        )
        answer = instance.broadcast()
        assert (answer.status, answer.json["sent"], answer.json["moved"]) == (200, True, True)
        until(lambda: reader.broadcasts, "the summary")
        said = reader.broadcasts[0]
        assert said["event"] == "summary"
        assert said["payload"] == answer.json["summary"]
        assert said["payload"]["instance"] == instance.name
        [(highest,)] = inbox("select max(id) from odoo.webhook_events")
        line = {"table": "odoo.webhook_events", "changed": 3, "highest_id": highest, "deleted": 0}
        assert [one for one in said["payload"]["tables"] if one["table"] != "catalog.assets"] == [line]
        assert public.broadcasts == []

        [(before,)] = instance.cursor(inbox)
        again = instance.broadcast().json
        assert (again["sent"], again["summary"]["tables"]) == (False, [])
        assert instance.cursor(inbox) == [(before,)]
        instance.emit()
        assert instance.broadcast().json["summary"]["tables"][0]["changed"] >= 1
        assert instance.cursor(inbox) != [(before,)]
    finally:
        reader.close()
        public.close()


@pytest.mark.parametrize(
    ("status", "headers", "code", "answered"),
    [
        (200, {}, "realtime_refused", 424),
        (204, {}, "realtime_refused", 424),
        (302, {"location": "/realtime/v1/api/broadcast"}, "realtime_refused", 424),
        (401, {}, "realtime_refused", 424),
        (404, {}, "realtime_refused", 424),
        (422, {}, "realtime_refused", 424),
        (429, {}, "realtime_unavailable", 503),
        (500, {}, "realtime_unavailable", 503),
        (503, {}, "realtime_unavailable", 503),
    ],
)
def test_what_realtime_did_not_take_is_not_marked_as_sent(
    server: Server, inbox: Inbox, status: int, headers: dict[str, str], code: str, answered: int
) -> None:
    pretender = Pretender(status, headers)
    try:
        with with_realtime_at(server, pretender.url) as edge:
            instance = Instance(Sender(edge.port))
            instance.emit()
            answer = instance.broadcast()
            assert (answer.status, answer.code) == (answered, code)
            assert instance.cursor(inbox) == []
            assert len(pretender.bodies) == 1
            [message] = pretender.bodies[0]["messages"]
            assert (message["topic"], message["event"], message["private"]) == ("odoo-sync", "summary", True)
    finally:
        pretender.close()


def test_realtime_that_does_not_answer(server: Server, inbox: Inbox) -> None:
    pretender = Pretender(202, delay=7)
    try:
        with with_realtime_at(server, pretender.url) as edge:
            instance = Instance(Sender(edge.port))
            instance.emit()
            started = time.monotonic()
            assert instance.broadcast().code == "realtime_unavailable"
            assert time.monotonic() - started < 7
            assert instance.cursor(inbox) == []
    finally:
        pretender.close()


def test_realtime_that_is_not_there(server: Server, inbox: Inbox) -> None:
    with with_realtime_at(server, "http://127.0.0.1:1") as edge:
        instance = Instance(Sender(edge.port))
        instance.emit()
        assert instance.broadcast().code == "realtime_unavailable"
        assert instance.cursor(inbox) == []


@pytest.mark.parametrize("name", ["SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY"])
def test_what_is_not_configured_is_named(server: Server, inbox: Inbox, name: str) -> None:
    with with_realtime_at(server, "http://127.0.0.1:1", **{name: ""}) as edge:
        instance = Instance(Sender(edge.port))
        instance.emit()
        answer = instance.broadcast()
        assert (answer.status, answer.code) == (500, "not_configured")
        assert "SUPABASE_SERVICE_ROLE_KEY" in answer.json["error"]["message"]
        assert instance.cursor(inbox) == []


def test_what_it_takes_and_from_whom(instance: Instance, sender: Sender) -> None:
    for body in (b"{}", b"[]", b'{"action":"drop"}', b'{"action":null}', b'{"action":"\\u0000"}'):
        assert instance.post(body).code == "invalid_action"
    assert instance.post(b"{").code == "invalid_json"
    body = b'{"action":"status"}'
    good = sender.headers(body)
    request = sender.request
    assert request("POST", FUNCTION, {"content-type": "application/json"}, body).code == "missing_signature"
    assert request("POST", FUNCTION, good, body + b" ").code == "bad_signature"
    assert request("GET", FUNCTION).code == "method_not_allowed"
    # No address out of a request is used.
    elsewhere = {"action": "broadcast", "url": "http://127.0.0.1:1", "SUPABASE_URL": "http://127.0.0.1:1"}
    instance.emit()
    assert instance.post(elsewhere).json["sent"] is True


def test_nothing_secret_is_logged_or_answered(edge: Edge, server: Server, instance: Instance) -> None:
    instance.emit()
    answer = instance.broadcast()
    key = edge_environment(server, 1)["SUPABASE_SERVICE_ROLE_KEY"]
    assert key.encode() not in answer.body
    assert not any(key in line for line in edge.lines)


# ------------------------------------------------------------------------------------------------------------ the SQL


def summary(sql: Sql, connection: psycopg2.extensions.connection | None = None) -> dict[str, Any]:
    statement = "select odoo.realtime_summary((select id from odoo.instances where name = 'default'))"
    [(found,)] = rows(connection, statement) if connection else sql(statement)
    return dict(found)


def tell(sql: Sql) -> dict[str, int]:
    """A broadcast that Realtime took: how many rows changed, by table."""
    found = summary(sql)
    if found["changed"]:
        assert sql("select odoo.realtime_sent('default', %s, %s)", found["before"], found["after"]) == [(True,)]
    return {line["table"]: line["changed"] for line in found["summary"]["tables"] if line["table"] != "catalog.assets"}


def test_what_commits_late_with_a_lower_number_is_told_of(sql: Sql) -> None:
    sql.ingest("first")
    late = sql.connect()
    late.autocommit = False
    body = '{"event_type":"a.b","aggregate_type":"a","aggregate_id":"late","payload":{}}'
    call = "select odoo.ingest_event('default', gen_random_uuid(), null, %s, repeat('0d', 32), now())"
    rows(late, call, body)
    sql.ingest("second")
    assert tell(sql) == {"odoo.webhook_events": 2}
    late.commit()
    # What ran meanwhile may be told of again; what was not seen is never left out.
    assert tell(sql)["odoo.webhook_events"] >= 1
    assert tell(sql) == {}


def test_what_a_subtransaction_wrote_is_told_of(sql: Sql) -> None:
    sql.ingest("1")
    assert tell(sql) == {"odoo.webhook_events": 1}
    inside = sql.connect()
    inside.autocommit = False
    rows(inside, "savepoint a")
    rows(inside, "update odoo.webhook_events set error_message = 'x'")
    rows(inside, "release a")
    sql("insert into odoo.sync_cursors (instance_id, entity) select id, 'other' from odoo.instances")
    assert tell(sql) == {}
    inside.commit()
    assert tell(sql) == {"odoo.webhook_events": 1}


def test_rows_of_the_shadow_and_those_that_are_gone(sql: Sql) -> None:
    sql("insert into odoo.instances (name) values ('default')")
    begin = '{"action":"begin","run":"019b76da-a87b-7000-8000-00000000abcd","full":true}'
    call = "select verdict from odoo_seed.sync_request('finance', 'default', gen_random_uuid(), %s, %s, now())"
    assert sql(call, begin, uuid.uuid4().hex * 2) == [("accepted",)]

    def page(entity: str, *ids: int) -> None:
        run = "019b76da-a87b-7000-8000-00000000abcd"
        listed = [{"external_ref": None, "raw": {"id": number, "name": "n", "active": True}} for number in ids]
        body = {"action": "page", "run": run, "entity": entity, "rows": listed, "span": [0, None]}
        assert sql(call, json.dumps(body), uuid.uuid4().hex * 2) == [("accepted",)]

    page("project.project", 1, 2)
    found = summary(sql)
    lines = [line for line in found["summary"]["tables"] if line["table"] != "catalog.assets"]
    assert lines == [{"table": "odoo_seed.shadow_projects", "changed": 2, "highest_id": 2, "deleted": 0}]
    tell(sql)
    sql("delete from odoo_seed.shadow_projects where odoo_id = 2")
    sql(
        "insert into odoo_seed.tombstones (instance_id, entity, odoo_id, run_id, raw) "
        "select id, 'project.project', 2, 1, '{}' from odoo.instances"
    )
    [line] = [one for one in summary(sql)["summary"]["tables"] if one["table"] != "catalog.assets"]
    assert line == {"table": "odoo_seed.shadow_projects", "changed": 0, "highest_id": None, "deleted": 1}


def test_a_cursor_moves_once(sql: Sql) -> None:
    sql.ingest("1")
    first, second = summary(sql), summary(sql)
    sent = "select odoo.realtime_sent('default', %s, %s)"
    assert sql(sent, first["before"], first["after"]) == [(True,)]
    assert sql(sent, second["before"], second["after"]) == [(False,)]
    assert sql("select cursor from odoo.sync_cursors where entity = 'realtime'") == [(first["after"],)]
    for bad in (None, "{}", '{"xid":"x"}', "1"):
        with pytest.raises(psycopg2.errors.DataError):
            sql(sent, first["after"], bad)


def test_a_cursor_of_another_cluster_begins_anew(sql: Sql) -> None:
    sql.ingest("1")
    sql(
        "insert into odoo.sync_cursors (instance_id, entity, cursor) select id, 'realtime', "
        """'{"xid":"999999999999","at":"2026-01-01T00:00:00Z","id":5000000}' from odoo.instances"""
    )
    found = summary(sql)
    assert (found["changed"] >= 1, found["summary"]["since"]) == (True, None)


@pytest.mark.parametrize(
    ("xmin", "since", "expected"),
    [("3", None, True), ("3", "3", True), ("2", "3", False), ("4294967295", "3", False)],
)
def test_transactions_are_compared_in_the_epoch_that_they_are_of(
    sql: Sql, xmin: str, since: str | None, expected: bool
) -> None:
    assert sql("select odoo.written_since(%s::xid, %s::xid8)", xmin, since) == [(expected,)]
