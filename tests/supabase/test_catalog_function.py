"""The Edge Function catalog-sync, over HTTP, in the real Deno: every action; every refusal as a 4xx with its code."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.supabase.cataloguing import field, model
from tests.supabase.conftest import Answer, Edge, Sender

FUNCTION = "catalog-sync"
RUN = b"019b76da-a87b-7000-8000-00000000abcd"


class Asking:
    """Requests of an instance of its own."""

    def __init__(self, sender: Sender) -> None:
        self.sender, self.run = sender, str(uuid.uuid4())
        self.instance = self.database = f"i{uuid.uuid4().hex[:10]}"

    def raw(self, body: bytes, *, key: str | None = None) -> Answer:
        headers = self.sender.headers(body, key=key) | {"x-ipai-instance": self.instance}
        return self.sender.request("POST", FUNCTION, headers, body)

    def __call__(self, action: str, **body: Any) -> Answer:
        return self.raw(json.dumps({"action": action, **body}, ensure_ascii=False).encode())

    def step(self, step: str, **body: Any) -> Answer:
        return self("sync_odoo_models", step=step, run=self.run, **body)

    def sync(self, *models: Any) -> Any:
        self.run = str(uuid.uuid4())
        assert self.step("begin", full=True, database=self.database).status == 200
        assert self.step("page", entity="ir.model", rows=models, span=[0, None]).status == 200
        return self.step("finish", cursors={}).json


@pytest.fixture
def asking(sender: Sender) -> Asking:
    return Asking(sender)


def test_every_action(asking: Asking, inbox: Callable[..., list[tuple[Any, ...]]]) -> None:
    done = asking.sync(model(1, "x_close", "Month-end close ☃", {"x_when": field("Zamknięcie")}))
    assert (done["ok"], done["status"], done["inserted"], done["duplicate"]) == (True, "success", 1, False)
    fqdn = f"odoo.{asking.database}.x_close"
    assert inbox("select title from catalog.assets where fqdn = %s", fqdn) == [("Month-end close ☃",)]
    views = asking("sync_scout_views").json
    assert (views["ok"], views["inserted"], views["archived"]) == (True, 0, 0)
    search = asking("search_assets", query="zamknięcie", within=f"odoo.{asking.database}.*").json
    assert [(found["fqdn"], found["title"]) for found in search["assets"]] == [(fqdn, "Month-end close ☃")]
    assert asking("get_tools", name="no.such").json == {"ok": True, "tools": []}
    lineage = asking("get_lineage", fqdn="scout.gold.v_revenue_summary", direction="up").json
    assert "supabase.odoo.webhook_events" in [asset["fqdn"] for asset in lineage["assets"]]
    own = f"crm.{asking.database}.lead"
    assert asking("register_asset", fqdn=own, type="table").json == {"ok": True, "fqdn": own, "outcome": "inserted"}
    asked = asking("check_permission", principals=["role:x"], operation="read", fqdn=own).json
    assert asked == {"ok": True, "allowed": False, "reason": "not_granted", "granted_by": None}


def test_the_events_that_arrived_are_in_the_lineage(asking: Asking) -> None:
    asking.sync(model(1, "account.move"))
    event = asking.sender.body()
    headers = asking.sender.headers(event) | {"x-ipai-instance": asking.instance}
    assert asking.sender.request("POST", "odoo-webhook", headers, event).status == 200
    assert asking("sync_scout_views").status == 200
    down = asking("get_lineage", fqdn=f"odoo.{asking.database}.account.move", direction="down", depth=3).json
    assert [asset["fqdn"] for asset in down["assets"]][:2] == [
        f"event.{asking.database}.account.move.posted",
        "supabase.odoo.webhook_events",
    ]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_request"),
        (b"\xff{}", 400, "invalid_utf8"),
        (b"{}", 400, "unknown_action"),
        (b'{"action":"sync_everything"}', 400, "unknown_action"),
        (b'{"action":["get_tools"]}', 400, "unknown_action"),
        (b'{"action":"begin","run":"%s","full":true}' % RUN, 400, "unknown_action"),
        (b'{"action":"sync_odoo_models"}', 400, "invalid_page"),
        (b'{"action":"sync_odoo_models","step":"begin","run":"%s"}' % RUN, 400, "invalid_request"),
        (b'{"action":"sync_odoo_models","step":"finish","run":"%s"}' % RUN, 409, "unknown_run"),
        (b'{"action":"search_assets","query":"\\u0000"}', 400, "invalid_request"),
        (b'{"action":"search_assets","query":"x","limit":1e400}', 400, "invalid_request"),
        (b'{"action":"search_assets","query":"x","limit":1000000000000}', 400, "invalid_request"),
        (b'{"action":"register_asset","fqdn":"a.b.c","type":"t","metadata":{"a":"\\ud800"}}', 400, "invalid_request"),
        (b'{"action":"register_asset","fqdn":"crm.eu.x; drop","type":"table"}', 400, "invalid_fqdn"),
        (b'{"action":"register_asset","fqdn":"odoo.odoo.x","type":"odoo_model"}', 409, "asset_reserved"),
        (b'{"action":"get_lineage","fqdn":"no.such.asset"}', 404, "unknown_asset"),
        (b" " * 1_048_577, 413, "payload_too_large"),
    ],
)  # fmt: skip
def test_a_permanent_error_is_a_4xx_and_says_which(asking: Asking, body: bytes, status: int, code: str) -> None:
    answer = asking.raw(body)
    assert (answer.status, answer.code) == (status, code)


def test_what_is_wrong_is_said_in_our_words(asking: Asking) -> None:
    answer = asking("search_assets", query="x", limit="drop table")
    assert answer.json["error"]["message"] == "limit must be an integer from 1 to 100"


def test_an_asset_that_is_too_large_to_search_is_refused_for_good(asking: Asking) -> None:
    words = {"description": " ".join(f"w{number:x}" for number in range(140_000))}
    answer = asking("register_asset", fqdn="crm.big.x", type="table", metadata=words)
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert "54000" in answer.json["error"]["message"]


def test_a_captured_request_is_not_taken_twice_under_another_key(asking: Asking) -> None:
    body = b'{"action":"sync_scout_views"}'
    headers = asking.sender.headers(body, standard=False) | {"x-ipai-instance": asking.instance}
    assert asking.sender.request("POST", FUNCTION, headers, body).status == 200
    again = asking.sender.request("POST", FUNCTION, headers | {"x-idempotency-key": str(uuid.uuid4())}, body)
    assert (again.status, again.code) == (401, "replayed_signature")


def test_a_page_sent_again_is_a_duplicate(asking: Asking) -> None:
    key = str(uuid.uuid4())
    assert asking.step("begin", full=True, database="x").status == 200
    page = json.dumps(
        {"action": "sync_odoo_models", "step": "page", "run": asking.run, "entity": "ir.model", "span": [0, None]}
        | {"rows": [model(1, "x_a")]}
    ).encode()
    first = asking.raw(page, key=key).json
    assert (first["inserted"], first["duplicate"]) == (1, False)
    assert asking.raw(page, key=key).json == first | {"duplicate": True}


def test_nothing_that_was_sent_is_logged(asking: Asking, edge: Edge) -> None:
    asking("search_assets", query="Top secret query")
    asking("Top secret action")
    asking("register_asset", fqdn="Top secret name", type="table")
    assert not any("Top secret" in line for line in edge.lines)
