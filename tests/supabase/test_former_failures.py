"""How earlier implementations of these functions failed, one test each, on the real Deno and PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ipai_bridge.delivery.retry import RetryPolicy, Verdict, decide
from ipai_bridge.errors import OdooRefused
from ipai_bridge.secret import Secret
from ipai_bridge.sync import finance
from ipai_bridge.sync.client import FunctionClient
from ipai_bridge.sync.run import Report
from ipai_harness.bench.generated import GeneratedOdoo
from tests.supabase.conftest import PROJECT, SECRET, Answer, Edge, Sender, Server, Sql
from tests.supabase.test_syncs_sql import row, seed, snapshot

Inbox = Callable[..., list[tuple[Any, ...]]]


class Shadow:
    """The finance sync of an instance of its own, through the real function."""

    def __init__(self, edge: Edge, inbox: Inbox) -> None:
        self.instance = f"former-{uuid.uuid4().hex[:8]}"
        self.client = FunctionClient(
            f"http://127.0.0.1:{edge.port}/functions/v1", finance.FUNCTION, Secret(SECRET), instance=self.instance,
            timeout=30,
        )  # fmt: skip
        self._inbox = inbox

    def sync(self, odoo: GeneratedOdoo, **options: Any) -> Report:
        return finance.sync_finance(odoo, self.client, **{"page_size": 1_000, **options})

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """A statement over rows `s` of the instance."""
        return self._inbox(
            f"{statement} join odoo.instances i on i.id = s.instance_id where i.name = %s", self.instance
        )


@pytest.fixture
def shadow(edge: Edge, inbox: Inbox) -> Iterator[Shadow]:
    made = Shadow(edge, inbox)
    yield made
    made.client.close()


def test_one_page_of_1000_rows_and_no_more(shadow: Shadow) -> None:
    assert shadow.sync(GeneratedOdoo(1, 2_500)).status == "success"
    assert shadow.ask("select count(*), max(odoo_id) from odoo_seed.shadow_tasks s") == [(2_500, 2_500)]


def test_archived_records_skipped(shadow: Shadow) -> None:
    shadow.sync(GeneratedOdoo(1, 100))
    found = shadow.ask("select count(*) filter (where s.active), count(*) from odoo_seed.shadow_tasks s")
    assert found == [(98, 100)]


@pytest.mark.parametrize("full", [True, False])
def test_deleted_records_kept_for_ever(shadow: Shadow, full: bool) -> None:
    shadow.sync(GeneratedOdoo(1, 300))
    assert shadow.sync(GeneratedOdoo(1, 200), full=full).deleted == 100
    assert shadow.ask("select max(odoo_id) from odoo_seed.shadow_tasks s") == [(200,)]
    assert shadow.ask("select count(*), min(odoo_id) from odoo_seed.tombstones s") == [(100, 201)]


class Refusing(GeneratedOdoo):
    """One of its records may be read by nobody."""

    def call(self, model: str, method: str, *args: Any, **kwargs: Any) -> Any:
        if method == "search":
            return [found["id"] for found in self.rows(model, [], args[0], kwargs["limit"])]
        answer = super().call(model, method, *args, **kwargs)
        if method == "search_read" and model == "project.task" and any(found["id"] == 7 for found in answer):
            raise OdooRefused("no access to 7")
        return answer


def test_errors_of_single_rows_logged_while_the_run_says_success(shadow: Shadow) -> None:
    report = shadow.sync(Refusing(1, 20))
    assert (report.status, report.error_count) == ("partial", 1)
    assert report.errors == [{"entity": "project.task", "odoo_id": 7, "error": "no access to 7"}]
    assert shadow.ask("select s.status, s.error_count from odoo_seed.sync_runs s") == [("partial", 1)]
    assert shadow.ask("select count(*) from odoo_seed.shadow_tasks s") == [(19,)]
    # The next run asks again.
    assert shadow.sync(GeneratedOdoo(1, 20)).mode == "full"


@pytest.mark.parametrize("secret", [None, "", " ", "short"])
def test_a_token_compared_to_an_unset_variable(server: Server, secret: str | None) -> None:
    environment = {"SUPABASE_DB_URL": server.url()} | ({} if secret is None else {"IPAI_BRIDGE_SECRET": secret})
    edge = Edge(PROJECT, environment)
    try:
        for guess in ("", "undefined", "null", secret or ""):
            sender = Sender(edge.port, guess)
            body = sender.body()
            headers = sender.headers(body, standard=False) | {"authorization": f"Bearer {guess}"}
            for function in ("odoo-webhook", "shadow-odoo-finance", "sync-odoo-modules"):
                answer = sender.request("POST", function, headers, body)
                assert (answer.status, answer.code) == (500, "not_configured")
    finally:
        edge.stop()


def test_audit_rows_per_delivery(sender: Sender, inbox: Inbox) -> None:
    key, body = str(uuid.uuid4()), sender.body()
    answers = [sender.post(body, key=key) for _ in range(5)]
    assert [answer.json["duplicate"] for answer in answers] == [False, True, True, True, True]
    assert inbox("select count(*) from odoo.event_log where idempotency_key = %s", key) == [(1,)]


def test_claimed_rows_never_reclaimed(sql: Sql) -> None:
    event, _, _ = sql.ingest()
    sql("update odoo.webhook_events set status = 'processing' where id = %s", event)  # and its consumer crashes
    sql("select odoo.sweep_events()")
    assert sql("select status from odoo.webhook_events") == [("processing",)]
    # A trigger stamps the time; what is five minutes old is as if it had been stamped then.
    sql("update odoo.webhook_events set processing_since = clock_timestamp() - interval '6 min'")
    sql("select odoo.sweep_events()")
    assert sql("select status from odoo.webhook_events") == [("completed",)]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"event_type":"x"}', b"\xff", b'{"payload":"\\u0000"}'])
def test_a_permanent_error_answered_as_500(sender: Sender, body: bytes) -> None:
    for function in ("odoo-webhook", "shadow-odoo-finance", "sync-odoo-modules"):
        answer = sender.request("POST", function, sender.headers(body), body)
        assert 400 <= answer.status < 500
        verdict = decide(
            answer.status, retry_after=None, attempt=1, trying_for=0.0, policy=RetryPolicy(), jitter=0.5
        ).verdict  # fmt: skip
        assert verdict is Verdict.DEAD, answer


def test_a_missing_route_acknowledged_as_done(sender: Sender, sql: Sql) -> None:
    def post(path: str) -> Answer:
        body = sender.body()
        return sender.request("POST", path, sender.headers(body), body)

    for path in ("odoo-webhook/unknown", "shadow-odoo-finance/x", "no-such-function"):
        assert post(path).status == 404
    # Nor is an event done whose handler is not there.
    handler = "app.gone(odoo.webhook_events)"
    sql("insert into odoo.event_handlers (event_type, handler) values ('account.move.*', %s)", handler)
    event, _, _ = sql.ingest()
    sql("select odoo.process_event(%s)", event)
    [(status, error)] = sql("select status, error_message from odoo.webhook_events")
    assert status == "failed"
    assert "no such function" in error


def test_null_names_never_seen_as_drift(sql: Sql) -> None:
    def drift() -> set[tuple[Any, ...]]:
        return set(sql("select odoo_id, seed_name, name, differs_from_seed, renamed from odoo_seed.v_name_drift"))

    snapshot(sql, [row(1, None, "a"), row(2, "B", "b"), row(3, None, "c")])
    for ref, name in (("a", "A"), ("b", None), ("c", None)):
        seed(sql, "project", ref, name)
    assert drift() == {(1, "A", None, True, False), (2, None, "B", True, False)}
    snapshot(sql, [row(1, "A", "a"), row(2, None, "b"), row(3, "C", "c")])
    assert drift() == {(1, "A", "A", False, True), (2, None, None, False, True), (3, None, "C", True, True)}


def test_a_copied_project_doubling_every_row(sql: Sql) -> None:
    copies = [row(number, "Close", "close") for number in (4, 9, 12)]
    snapshot(sql, copies, [row(number, "Task", "task", project_id=4) for number in (1, 2)])
    seed(sql, "project", "close", "Planned")
    seed(sql, "task", "task", "Task")
    assert sql("select count(*) from odoo_seed.v_missing_in_odoo") == [(0,)]
    assert sql("select odoo_id from odoo_seed.v_name_drift") == [(4,)]
    orphans = sql("select entity, odoo_id, duplicate_of from odoo_seed.v_orphan_in_odoo order by 1, 2")
    assert orphans == [("project", 9, 4), ("project", 12, 4), ("task", 2, 1)]
