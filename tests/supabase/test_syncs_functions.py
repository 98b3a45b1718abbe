"""The Edge Functions of the syncs, over HTTP, in the real Deno: who gets in, what is answered, what may be repeated."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.supabase.conftest import SECRET, Answer, Edge, Sender

FINANCE, MODULES = "shadow-odoo-finance", "sync-odoo-modules"


class Run:
    """A run of an instance of its own."""

    def __init__(self, sender: Sender, function: str = FINANCE) -> None:
        self.sender, self.function = sender, function
        self.id, self.instance = str(uuid.uuid4()), f"i-{uuid.uuid4().hex[:10]}"

    def post(self, action: str, *, key: str | None = None, **body: Any) -> Answer:
        text = json.dumps({"action": action, "run": self.id, **body}, ensure_ascii=False).encode()
        headers = self.sender.headers(text, key=key) | {"x-ipai-instance": self.instance}
        return self.sender.request("POST", self.function, headers, text)


def row(number: int, name: str) -> dict[str, Any]:
    return {"external_ref": f"r{number}", "raw": {"id": number, "name": name, "active": True}}


def test_a_run_from_its_begin_to_its_end(sender: Sender, inbox: Callable[..., list[Any]]) -> None:
    run = Run(sender)
    begun = run.post("begin", full=False)
    assert (begun.status, begun.json) == (200, {"ok": True, "mode": "full", "cursors": {}, "duplicate": False})
    assert begun.headers["x-ipai-contract"] == "1"
    key = str(uuid.uuid4())
    page: dict[str, Any] = {"entity": "project.project", "rows": [row(1, "Łódź ☃"), row(2, "")], "span": [0, None]}
    first = run.post("page", key=key, **page).json
    assert (first["inserted"], first["duplicate"]) == (2, False)
    assert run.post("page", key=key, **page).json == first | {"duplicate": True}
    assert run.post("page", entity="project.task", rows=[], span=[0, None]).status == 200
    assert run.post("finish", cursors={}).json["status"] == "success"
    assert run.post("page", **page).code == "run_ended"
    names = (
        "select s.name from odoo_seed.shadow_projects s join odoo.instances i on i.id = s.instance_id where i.name = %s"
    )
    assert inbox(names + " order by s.odoo_id", run.instance) == [("Łódź ☃",), ("",)]


@pytest.mark.parametrize("function", [FINANCE, MODULES, "catalog-sync"])
def test_who_does_not_sign_does_not_get_in(sender: Sender, function: str) -> None:
    body = json.dumps({"action": "begin", "run": str(uuid.uuid4()), "full": True}).encode()
    good = sender.headers(body)
    post = sender.request
    assert post("POST", function, {"content-type": "application/json"}, body).code == "missing_signature"
    assert post("POST", function, good, body + b" ").code == "bad_signature"
    assert post("POST", function, sender.headers(body, timestamp="1767225600123"), body).code == "stale_timestamp"
    assert post("POST", function, good | {"x-idempotency-key": str(uuid.uuid4())}, body).code == "webhook_id_mismatch"
    assert Sender(sender.port, SECRET[:-4] + "AAA=").post(body).status == 401
    assert post("GET", function).code == "method_not_allowed"
    assert post("POST", f"{function}/other", good, body).code == "not_found"
    assert post("POST", function, good | {"content-type": "text/plain"}, body).code == "unsupported_media_type"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"[]", "invalid_page"),
        (b"\xff{}", "invalid_utf8"),
        (b"{}", "invalid_page"),
        (b'{"action":"drop","run":"019b76da-a87b-7000-8000-00000000abcd"}', "invalid_page"),
        (b'{"action":"begin","run":"1"}', "invalid_page"),
        (
            b'{"action":"begin","run":"019b76da-a87b-7000-8000-00000000abcd","full":true,"edition":"\\u0000"}',
            "invalid_page",
        ),
        (
            b'{"action":"begin","run":"019b76da-a87b-7000-8000-00000000abcd","full":true,"edition":"gold"}',
            "invalid_page",
        ),
        (b'{"action":"finish","run":"019b76da-a87b-7000-8000-00000000dead"}', "unknown_run"),
        (b"[" * 100_000, "invalid_json"),
        (b" " * 1_048_577, "payload_too_large"),
    ],
)
def test_a_permanent_error_is_a_4xx_and_says_which(sender: Sender, body: bytes, code: str) -> None:
    answer = sender.request("POST", FINANCE, sender.headers(body) | {"x-ipai-instance": "refused"}, body)
    assert answer.code == code
    assert 400 <= answer.status < 500


def test_two_runs_and_a_gap_are_conflicts(sender: Sender) -> None:
    run = Run(sender, MODULES)
    assert run.post("begin", full=True, edition="ce").status == 200
    other = Run(sender, MODULES)
    other.instance = run.instance
    assert (other.post("begin", full=True).status, other.post("begin", full=True).code) == (409, "run_in_progress")
    gap = run.post("page", entity="ir.module.module", rows=[], span=[5, None])
    assert (gap.status, gap.code) == (409, "page_out_of_order")


def test_nothing_that_was_sent_is_logged(sender: Sender, edge: Edge) -> None:
    run = Run(sender)
    run.post("begin", full=True)
    run.post("page", entity="project.project", rows=[row(1, "Top secret close")], span=[0, None])
    run.post("page", entity="Top secret close")
    assert not any("Top secret" in line or SECRET in line for line in edge.lines)
