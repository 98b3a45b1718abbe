"""The signed request of a sync, against a real HTTP server that misbehaves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from ipai_bridge.errors import BridgeError, SyncRefused, SyncUnavailable
from ipai_bridge.secret import generate_secret
from ipai_bridge.signing import verify
from ipai_bridge.sync.client import FunctionClient, encode
from tests.bridge.delivery.receiver import Receiver, answer, receiver, reset

SECRET = generate_secret()
JSON = "application/json"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("NO_PROXY", "*")
    with receiver() as running:
        running.default = answer(200, b'{"ok":true,"mode":"full"}', content_type=JSON)
        yield running


@pytest.fixture
def client(server: Receiver) -> Iterator[FunctionClient]:
    made = FunctionClient(server.functions_url, "f", SECRET, instance="i", timeout=5, sleep=slept.append)
    slept.clear()
    with closing(made):
        yield made


slept: list[float] = []


def test_a_request_is_signed_as_the_webhook_is(server: Receiver, client: FunctionClient) -> None:
    assert client.request(encode({"a": "é"})) == {"ok": True, "mode": "full"}
    [request] = server.requests
    assert request.line == "POST /functions/v1/f HTTP/1.1"
    assert request.body == '{"a":"é"}'.encode()
    assert request.header("x-ipai-instance") == "i"
    assert verify(request.body, request.headers, [SECRET], now_ms=time.time_ns() // 1_000_000).standard


def test_what_may_pass_is_tried_again_under_the_same_key(server: Receiver, client: FunctionClient) -> None:
    server.script.extend(
        [answer(503), reset, answer(429, retry_after="2"), answer(200, b"<html>", content_type="text/html")]
    )
    assert client.request(b"{}")["ok"] is True
    assert len(server.requests) == 5
    assert len({request.header("x-idempotency-key") for request in server.requests}) == 1
    assert len(slept) == 4
    assert slept[2] >= 2


@pytest.mark.parametrize(
    ("status", "body", "ours", "error", "said"),
    [
        (
            409,
            b'{"ok":false,"error":{"code":"run_in_progress","message":"wait"}}',
            True,
            SyncRefused,
            "run_in_progress: wait",
        ),
        (400, b"no", False, SyncRefused, "HTTP 400: no"),
        (401, b"{}", True, SyncRefused, "secret the same on both sides"),
        (401, b"{}", False, SyncRefused, "verify_jwt = false for f"),
        (404, b"Function not found", False, SyncRefused, "supabase functions deploy f"),
        (302, b"", False, SyncRefused, "HTTP 302"),
        (410, b"", False, SyncRefused, "HTTP 410"),
    ],
)
def test_what_would_always_be_refused_is_not_tried_again(
    server: Receiver, client: FunctionClient, status: int, body: bytes, ours: bool, error: type[BridgeError], said: str
) -> None:
    headers = {"content_type": JSON, **({"x_ipai_contract": "1"} if ours else {})}
    server.script.append(answer(status, body, **headers))
    with pytest.raises(error, match=said) as caught:
        client.request(b"{}")
    assert len(server.requests) == 1
    assert getattr(caught.value, "reason", None) == ("run_in_progress" if status == 409 else None)


def test_it_gives_up_in_the_end_and_shows_no_secret(server: Receiver) -> None:
    server.default = answer(503, f"debug: {SECRET.reveal()}".encode())
    now = map(float, range(0, 100_000, 20))
    client = FunctionClient(
        server.functions_url, "f", SECRET, instance="i", timeout=5, sleep=slept.append, clock=lambda: next(now)
    )
    with closing(client), pytest.raises(SyncUnavailable, match="run the sync again later") as caught:
        client.request(b"{}")
    assert 2 <= len(server.requests) <= 6
    assert SECRET.reveal() not in str(caught.value)
    assert "[redacted]" in str(caught.value)
    tries = len(server.requests)
    with closing(client), pytest.raises(SyncUnavailable, match="1 tries"):
        client.request(b"{}", once=True)
    assert len(server.requests) == tries + 1
