"""The harness's gateway: what the platform answers before a function sees anything, and how it starts and stops."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.supabase.conftest import JWT_SECRET, Edge, Sender, until

CONFIG = """
[functions.open]
verify_jwt = false
[functions.off]
enabled = false
[functions.elsewhere]
verify_jwt = false
entrypoint = "./functions/_moved/main.ts"
"""
ECHO = """
Deno.serve(async (request) => Response.json({
  path: new URL(request.url).pathname, method: request.method, body: await request.text(),
  header: request.headers.get("x-some"), search: new URL(request.url).search,
}));
"""
FUNCTIONS = {
    "open/index.ts": ECHO,
    "guarded/index.ts": ECHO,
    "off/index.ts": ECHO,
    "_moved/main.ts": "Deno.serve({ port: 1 }, () => new Response('moved'));",
    "modern/index.ts": "export default { fetch: () => new Response('modern') };",
    "broken/index.ts": "throw new Error('no luck today');",
    "silent/index.ts": "export const nothing = 1;",
    "raises/index.ts": "Deno.serve(() => { throw new Error('in the handler'); });",
    "rejects/index.ts": "Deno.serve(() => { Promise.reject(new Error('later')); return new Response('fine'); });",
    "later/index.ts": "Deno.serve(() => { EdgeRuntime.waitUntil(new Promise((done) => setTimeout(() => {"
    " console.log('{\"event\":\"done later\"}'); done(null); }, 300))); return new Response('answered'); });",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("a project")
    (root / "functions").mkdir()
    (root / "functions/deno.json").write_text("{}")
    (root / "config.toml").write_text(CONFIG)
    for name, text in FUNCTIONS.items():
        path = root / "functions" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(scope="module")
def other(project: Path) -> Iterator[Edge]:
    serving = Edge(project, {"SUPABASE_JWT_SECRET": JWT_SECRET})
    yield serving
    serving.stop()


@pytest.fixture
def client(other: Edge) -> Sender:
    return Sender(other.port)


def token(secret: str = JWT_SECRET, **claims: object) -> str:
    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    signed = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
    mac = base64.urlsafe_b64encode(hmac.digest(secret.encode(), signed, hashlib.sha256)).rstrip(b"=")
    return (signed + b"." + mac).decode()


def test_a_function_sees_its_own_path_and_all_else_untouched(client: Sender) -> None:
    answer = client.request("PUT", "open/a/b?c=d", {"x-some": "thing"}, b"bytes")
    assert answer.json == {"path": "/open/a/b", "method": "PUT", "body": "bytes", "header": "thing", "search": "?c=d"}


def test_verify_jwt_is_on_unless_turned_off(client: Sender) -> None:
    refused = client.request("POST", "guarded")
    assert (refused.status, refused.json) == (401, {"code": 401, "message": "Missing authorization header"})
    assert "x-ipai-contract" not in refused.headers
    for bad in (token("another secret"), token(exp=time.time() - 5), "x"):
        assert client.request("POST", "guarded", {"authorization": f"Bearer {bad}"}).status == 401
    good = {"authorization": f"Bearer {token(role='anon', exp=time.time() + 60)}"}
    assert client.request("POST", "guarded", good).status == 200
    assert client.request("OPTIONS", "guarded").status == 200


def test_unknown_and_disabled_functions_are_plain_text(client: Sender) -> None:
    for name in ("nothing", "off", "_moved", "", "open%2f", "__proto__"):
        answer = client.request("POST", name)
        assert (answer.status, answer.headers["content-type"]) == (404, "text/plain")


def test_methods_that_no_function_can_see(client: Sender) -> None:
    for method in ("TRACE", "TRACK"):
        assert client.request(method, "open").status == 405


def test_another_entrypoint_and_another_style(client: Sender) -> None:
    assert client.request("GET", "elsewhere").body == b"moved"
    assert client.request("GET", "modern", {"authorization": f"Bearer {token()}"}).body == b"modern"


def test_a_function_that_does_not_load_is_a_boot_error_and_the_health_says_why(client: Sender) -> None:
    for name in ("broken", "silent"):
        answer = client.request("GET", name, {"authorization": f"Bearer {token()}"})
        assert (answer.status, answer.json["code"]) == (503, "BOOT_ERROR")
    health = client.request("GET", "_health")
    assert health.status == 503
    assert health.json["ok"] is False
    assert health.json["boot_errors"]["broken"] == "no luck today"
    assert "open" in health.json["functions"]


def test_a_fault_of_one_function_leaves_the_others_alone(client: Sender) -> None:
    bearer = {"authorization": f"Bearer {token()}"}
    assert client.request("GET", "raises", bearer).json["code"] == "WORKER_ERROR"
    assert client.request("GET", "rejects", bearer).body == b"fine"
    assert client.request("GET", "open").status == 200


def test_the_project_itself_is_healthy(sender: Sender) -> None:
    health = sender.request("GET", "_health")
    assert (health.status, health.json) == (
        200,
        {
            "ok": True,
            "functions": [
                "catalog-sync",
                "odoo-webhook",
                "realtime-sync",
                "shadow-odoo-finance",
                "sync-documents",
                "sync-odoo-modules",
            ],
        },
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_and_lets_background_work_end(project: Path, number: signal.Signals) -> None:
    serving = Edge(project, {"SUPABASE_JWT_SECRET": JWT_SECRET})
    assert Sender(serving.port).request("GET", "later", {"authorization": f"Bearer {token()}"}).body == b"answered"
    assert serving.stop(number) == 0
    assert serving.lines[-2:] == ['{"event":"done later"}', '{"event":"stopped"}']


def test_the_access_log(other: Edge, client: Sender) -> None:
    key = "0190f3a0-0000-7000-8000-0000000000aa"
    headers = {"x-idempotency-key": key, "authorization": "Bearer hidden-1", "x-some": "hidden-2"}
    client.request("POST", "open/logged?hidden-3", headers, b"hidden-4")
    client.request("POST", "open/logged", {"x-idempotency-key": "hidden-5"})
    lines = until(
        lambda: (found := [line for line in other.lines if "open/logged" in line])[1:] and found, "it is logged"
    )
    first, second = (json.loads(line) for line in lines)
    assert first.pop("ms") >= 0
    assert first == {
        "event": "request",
        "method": "POST",
        "path": "/functions/v1/open/logged",
        "status": 200,
        "idempotency_key": key,
    }
    assert second["idempotency_key"] is None
    assert "hidden" not in "".join(lines)
