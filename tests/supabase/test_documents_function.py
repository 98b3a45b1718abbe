"""The Edge Function `sync-documents` over HTTP, with the storage beside it: what it gives leave to, and what never."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ipai_harness.stack.ports import free_port
from ipai_harness.stack.supabase import jwt
from tests.supabase.conftest import JWT_SECRET, PROJECT, SECRET, Edge, Sender, Server
from tests.supabase.test_documents_sql import ATTACHMENT, document
from tests.supabase.test_syncs_functions import Run

FUNCTION = "sync-documents"
KEY = jwt(JWT_SECRET, "service_role")


def names(count: int) -> list[str]:
    """Of nobody else's."""
    return [f"f-{uuid.uuid4().hex}.pdf" for _ in range(count)]


def begun(sender: Sender) -> Run:
    run = Run(sender, FUNCTION)
    assert run.post("begin", full=True).json["mode"] == "full"
    return run


def page(run: Run, *found: dict[str, Any], **more: Any) -> Any:
    return run.post("page", entity=ATTACHMENT, rows=list(found), span=[0, None], **more)


def test_what_is_wanted_comes_with_leave_to_upload_it(sender: Sender, edge: Edge) -> None:
    run = begun(sender)
    one, two = names(2)
    key = str(uuid.uuid4())
    answer = page(run, document(1, b"one", one), document(2, b"two", two), key=key).json
    assert [entry["path"] for entry in answer["wanted"]] == [f"bir/2026/1601-C/{one}", f"bir/2026/1601-C/{two}"]
    first, second = answer["wanted"]
    assert first["url"].startswith(f"/object/upload/sign/documents/bir/2026/1601-C/{one}?token=")
    # Asked again, since the answer was lost: the same, with leave that is good again.
    again = page(run, document(1, b"one", one), document(2, b"two", two), key=key).json
    assert (again["duplicate"], len(again["wanted"])) == (True, 2)

    base = f"http://127.0.0.1:{edge.port}/storage/v1"
    put = httpx.put(base + first["url"], content=b"one", headers={"content-type": "application/pdf"})
    assert put.status_code == 200
    assert httpx.put(base + first["url"], content=b"other").json()["error"] == "Duplicate"
    elsewhere = first["url"].replace(one, two)
    assert httpx.put(base + elsewhere, content=b"one").json()["error"] == "InvalidSignature"
    assert run.post("stored", entity=ATTACHMENT, ids=[1, 2]).json == {
        "ok": True,
        "stored": [1],
        "missing": [2],
        "duplicate": False,
    }
    assert httpx.put(base + second["url"], content=b"2wo").status_code == 200  # of the same size
    assert run.post("stored", entity=ATTACHMENT, ids=[2]).json["missing"] == [2]
    ended = run.post("finish", cursors={}).json
    assert (ended["status"], ended["error_count"]) == ("partial", 1)

    following = Run(sender, FUNCTION)
    following.instance = run.instance
    following.post("begin", full=True)
    [wanted] = page(following, document(1, b"one", one), document(2, b"two", two)).json["wanted"]
    assert (wanted["id"], wanted.get("url"), wanted["error"]) == (
        2,
        None,
        "another object is at this path of the bucket",
    )
    assert not any(KEY in line or "token=" in line or one.encode().hex() in line for line in edge.lines)


def test_a_whole_page_of_them(sender: Sender) -> None:
    run = begun(sender)
    found = [document(number, bytes([number]), name) for number, name in enumerate(names(100), 1)]
    answer = page(run, *found)
    assert answer.status == 200
    assert [entry["id"] for entry in answer.json["wanted"]] == list(range(1, 101))
    assert all(entry["url"] for entry in answer.json["wanted"])


def test_what_is_no_document_is_a_bad_page(sender: Sender) -> None:
    run = begun(sender)
    answer = page(run, document(1) | {"filename": "../../etc/passwd"})
    assert (answer.status, answer.code) == (400, "invalid_page")
    assert run.post("stored", ids="all").code == "invalid_page"


def test_who_does_not_sign_gets_no_leave(sender: Sender) -> None:
    body = json.dumps({"action": "begin", "run": str(uuid.uuid4()), "full": True}).encode()
    assert sender.request("POST", FUNCTION, {"content-type": "application/json"}, body).code == "missing_signature"
    assert sender.request("POST", FUNCTION, sender.headers(body), body + b" ").code == "bad_signature"
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    assert sender.request("POST", FUNCTION, headers, body).code == "missing_signature"


@pytest.fixture
def serving(server: Server, tmp_path: Path) -> Iterator[Callable[..., Sender]]:
    """The functions with other settings."""
    running: list[Edge] = []

    def serve(**settings: str) -> Sender:
        port = free_port()
        environment = {
            "SUPABASE_DB_URL": server.url(), "IPAI_BRIDGE_SECRET": SECRET, "SUPABASE_JWT_SECRET": JWT_SECRET,
            "SUPABASE_URL": f"http://127.0.0.1:{port}", "SUPABASE_SERVICE_ROLE_KEY": KEY,
        }  # fmt: skip
        environment |= settings
        running.append(Edge(PROJECT, environment, storage=tmp_path / "storage", port=port))
        return Sender(port)

    yield serve
    for edge in running:
        edge.stop()


@pytest.mark.parametrize(
    ("settings", "status", "code"),
    [
        ({"SUPABASE_URL": "http://127.0.0.1:1"}, 503, "storage_unavailable"),
        ({"SUPABASE_URL": ""}, 500, "not_configured"),
        ({"SUPABASE_SERVICE_ROLE_KEY": ""}, 500, "not_configured"),
        ({"SUPABASE_SERVICE_ROLE_KEY": jwt(JWT_SECRET, "anon")}, 409, "storage_refused"),
        (
            {"SUPABASE_SERVICE_ROLE_KEY": jwt("another secret, long enough for it", "service_role")},
            409,
            "storage_refused",
        ),
    ],
)
def test_a_storage_that_does_not_answer_or_refuses(
    serving: Callable[..., Sender], settings: dict[str, str], status: int, code: str
) -> None:
    sender = serving(**settings)
    run = begun(sender)
    [name] = names(1)
    answer = page(run, document(1, b"x", name))
    assert (answer.status, answer.code) == (status, code)
    assert KEY not in answer.body.decode()
    # A page of which nothing is wanted needs no storage.
    empty = Run(sender, FUNCTION)
    empty.post("begin", full=True)
    assert page(empty).json["wanted"] == []


def test_the_hash_is_compared(sender: Sender, edge: Edge, inbox: Callable[..., list[Any]]) -> None:
    [name] = names(1)
    run = begun(sender)
    [wanted] = page(run, document(1, b"x" * 1000, name)).json["wanted"]
    httpx.put(f"http://127.0.0.1:{edge.port}/storage/v1{wanted['url']}", content=b"x" * 1000)
    assert run.post("stored", ids=[1]).json["stored"] == [1]
    kept = "select status, sha256 from erp.document_objects where path = %s"
    assert inbox(kept, wanted["path"]) == [("stored", hashlib.sha256(b"x" * 1000).hexdigest())]
