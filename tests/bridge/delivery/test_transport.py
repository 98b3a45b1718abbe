"""One signed POST to a real server: what is sent, over which connection, and that nothing is given away."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from ipai_bridge.delivery.transport import Transport
from ipai_bridge.secret import Secret
from ipai_bridge.signing import sign, verify
from tests.bridge.delivery.posting import (
    SECRET,
    SECRET_TEXT,
    SLACK,
    TIMEOUT,
    claimed,
    now_ms,
    post,
    signed_headers,
    transport,
)
from tests.bridge.delivery.receiver import (
    Answer,
    Receiver,
    Request,
    answer,
    drip,
    raw,
    refused_port,
    reset,
)

# --- what is sent


def test_the_headers_are_exactly_those_of_sign_and_the_body_is_the_events_bytes(server: Receiver) -> None:
    sent, timestamp = claimed(), now_ms()
    attempt = transport(server).post(sent, timestamp_ms=timestamp)
    [request] = server.requests
    event = sent.event
    assert request.line == "POST /functions/v1/odoo-webhook HTTP/1.1"
    assert request.body == event.body
    expected = sign(event.body, id=event.id, timestamp_ms=timestamp, secret=SECRET, sequence=3, instance="paris")
    assert signed_headers(request) == expected
    assert len([name for name, _ in request.headers if name.startswith("x-")]) == 5, "each once"
    assert verify(request.body, request.headers, [SECRET], now_ms=timestamp).standard
    assert request.header("user-agent") == "ipai-bridge/0"
    assert request.header("accept-encoding") == "identity"
    assert request.header("content-length") == str(len(event.body))
    assert request.header("transfer-encoding") is None
    assert (attempt.status, attempt.error, attempt.retry_after, attempt.posts) == (200, None, None, 1)
    assert 0 < attempt.took < TIMEOUT


def test_a_secret_of_another_form_sends_the_contracts_headers_only(server: Receiver) -> None:
    secret = Secret("an-existing-deployments-secret")
    Transport(server.functions_url, secret, timeout=TIMEOUT, user_agent="x").post(claimed(), timestamp_ms=now_ms())
    [request] = server.requests
    assert not verify(request.body, request.headers, [secret], now_ms=now_ms()).standard
    assert request.header("webhook-id") is None


def test_a_slash_at_the_end_of_the_url_changes_nothing(server: Receiver) -> None:
    url = server.functions_url + "/"
    Transport(url, SECRET, timeout=TIMEOUT, user_agent="x").post(claimed(), timestamp_ms=now_ms())
    assert server.requests[0].line == "POST /functions/v1/odoo-webhook HTTP/1.1"


def test_the_largest_body_arrives_whole(server: Receiver) -> None:
    sent = claimed(payload={"text": "é" * 500_000})
    assert transport(server).post(sent, timestamp_ms=now_ms()).status == 200
    assert server.requests[0].body == sent.event.body


# --- connections


@pytest.mark.parametrize(
    "say",
    [
        answer(),
        answer(204, b""),
        answer(503, b"x" * 60_000),
        raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", keep=True),
    ],
    ids=["length", "empty", "long error", "chunked"],
)
def test_one_connection_serves_many_posts(server: Receiver, say: Answer) -> None:
    server.default = say
    sender = transport(server)
    for _ in range(20):
        sender.post(claimed(), timestamp_ms=now_ms())
    assert (len(server.requests), server.connections) == (20, 1)


def test_each_thread_has_a_connection_of_its_own_and_keeps_it(server: Receiver) -> None:
    sender = transport(server)
    barrier = threading.Barrier(4, timeout=10)

    def work(_: int) -> list[int | None]:
        barrier.wait()  # so that every task gets a thread of its own
        return [sender.post(claimed(), timestamp_ms=now_ms()).status for _ in range(10)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [[200] * 10] * 4
    assert (len(server.requests), server.connections) == (40, 4)


def test_no_cookie_is_ever_sent_back(server: Receiver) -> None:
    server.default = answer(set_cookie="__cf_bm=" + "x" * 3000 + "; path=/")
    sender = transport(server)
    for _ in range(3):
        sender.post(claimed(), timestamp_ms=now_ms())
    assert [request.header("cookie") for request in server.requests] == [None] * 3


@pytest.mark.parametrize("end", [reset, raw(b"")], ids=["reset", "closed"])
def test_a_stale_connection_is_tried_again_at_once_with_a_fresh_signature(server: Receiver, end: Answer) -> None:
    sender = transport(server)
    sender.post(claimed(), timestamp_ms=now_ms())
    sent, timestamp = claimed(), now_ms()
    server.script.append(end)
    attempt = sender.post(sent, timestamp_ms=timestamp)
    assert (attempt.status, attempt.posts) == (200, 2)
    _, first, second = server.requests
    assert first.body == second.body == sent.event.body
    assert first.header("x-idempotency-key") == second.header("x-idempotency-key") == str(sent.event.id)
    assert [request.header("x-ipai-timestamp") for request in (first, second)] == [str(timestamp), str(timestamp + 1)]
    assert first.header("x-ipai-signature") != second.header("x-ipai-signature")
    assert first.connection != second.connection
    verify(second.body, second.headers, [SECRET], now_ms=timestamp)


def test_it_is_tried_again_once_only(server: Receiver) -> None:
    attempt = post(server, reset, reset, reset)
    assert (attempt.status, attempt.posts, len(server.requests)) == (None, 2, 2)
    assert attempt.error is not None
    assert attempt.error.startswith("no connection: ")


def test_a_connection_that_the_server_closed_while_idle_costs_nothing(server: Receiver) -> None:
    sender = transport(server)
    for _ in range(3):
        assert sender.post(claimed(), timestamp_ms=now_ms()).status == 200
        server.drop_connections()
    assert len(server.requests) == 3


def test_a_refused_connection_is_not_tried_again_at_once(server: Receiver) -> None:
    url = f"http://127.0.0.1:{refused_port()}/functions/v1"
    sender = Transport(url, SECRET, timeout=TIMEOUT, user_agent="x")
    attempt = sender.post(claimed(), timestamp_ms=now_ms())
    assert (attempt.status, attempt.posts, attempt.retry_after) == (None, 1, None)
    assert attempt.error is not None
    assert "refused" in attempt.error


def test_a_host_without_a_name_is_explained(server: Receiver) -> None:
    sender = Transport("https://nowhere.invalid/functions/v1", SECRET, timeout=TIMEOUT, user_agent="x")
    attempt = sender.post(claimed(), timestamp_ms=now_ms())
    assert (attempt.status, attempt.posts) == (None, 1)
    assert attempt.error is not None
    assert attempt.error.startswith("no connection: ")


def test_tls_with_the_environments_ca_bundle(secure: Receiver) -> None:
    sender = transport(secure)
    assert [sender.post(claimed(), timestamp_ms=now_ms()).status for _ in range(3)] == [200] * 3
    assert secure.connections == 1


@pytest.mark.parametrize("end", [reset, raw(b"")], ids=["reset", "closed"])
def test_a_stale_connection_over_tls_is_tried_again_at_once(secure: Receiver, end: Answer) -> None:
    sender = transport(secure)
    sender.post(claimed(), timestamp_ms=now_ms())
    secure.script.append(end)
    attempt = sender.post(claimed(), timestamp_ms=now_ms())
    assert (attempt.status, attempt.posts) == (200, 2)


def test_an_answer_in_drips_over_tls_has_the_timeout_in_all(secure: Receiver) -> None:
    attempt = post(secure, drip(b"HTTP/1.1 200", b"x", every=0.05), timeout=0.5)
    assert attempt.error == "no answer within 0.5 s"
    assert attempt.took < 0.5 + SLACK


def test_a_certificate_that_is_not_trusted_is_explained(secure: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    attempt = post(secure)
    assert (attempt.status, attempt.posts, secure.requests) == (None, 1, [])
    assert attempt.error is not None
    assert attempt.error.startswith("TLS failed: ")
    assert "check the URL and the CA bundle (REQUESTS_CA_BUNDLE)" in attempt.error


def test_a_ca_bundle_that_is_not_there_is_explained(server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    sender = Transport("https://127.0.0.1:1/functions/v1", SECRET, timeout=TIMEOUT, user_agent="x")
    attempt = sender.post(claimed(), timestamp_ms=now_ms())
    assert attempt.status is None
    assert "/nowhere/ca.pem" in (attempt.error or "")


# --- the environment


def test_proxies_are_read_once_when_the_transport_is_made(server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/somewhere/ca.pem")
    sender = Transport("http://supabase.test/functions/v1", SECRET, timeout=TIMEOUT, user_agent="x")
    monkeypatch.delenv("http_proxy")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert sender.post(claimed(), timestamp_ms=now_ms()).status == 200
    assert server.requests[0].line == "POST http://supabase.test/functions/v1/odoo-webhook HTTP/1.1"
    assert sender._surroundings["verify"] == "/somewhere/ca.pem"
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{refused_port()}")
    assert sender.post(claimed(), timestamp_ms=now_ms()).status == 200


def test_no_proxy_is_honoured(server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{refused_port()}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert post(server).status == 200


def test_a_netrc_never_adds_a_password(server: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password something\n")
    monkeypatch.setenv("NETRC", str(netrc))
    post(server)
    assert server.requests[0].header("authorization") is None


def test_a_drip_through_a_proxy_has_the_timeout_in_all(server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    server.default = drip(b"HTTP/1.1 200", b"x", every=0.05)
    sender = Transport("http://supabase.test/functions/v1", SECRET, timeout=0.5, user_agent="x")
    attempt = sender.post(claimed(), timestamp_ms=now_ms())
    assert attempt.error == "no answer within 0.5 s"
    assert attempt.took < 0.5 + SLACK


# --- nothing is given away


def echo(status: int, pad: int = 0) -> Answer:
    def write(running: Receiver, connection: Any, request: Request) -> bool:
        said = "x" * pad + "".join(f"{name}={value}; " for name, value in request.headers) + SECRET_TEXT
        return answer(status, said.encode())(running, connection, request)

    return write


@pytest.mark.parametrize("pad", [0, 1_600, 1_700, 1_800, 1_900, 2_000, 2_040])
def test_no_secret_and_no_signature_in_an_error(server: Receiver, pad: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="ipai_bridge")
    sender = transport(server)
    server.default = echo(500, pad)
    attempt = sender.post(claimed(), timestamp_ms=now_ms())
    [request] = server.requests
    shown = f"{attempt!r} {attempt.error} {sender!r} {caplog.text}"
    for value in (SECRET_TEXT, request.header("x-ipai-signature"), request.header("webhook-signature")):
        assert value is not None
        secret = value.removeprefix("v1,")
        assert not any(secret[start : start + 16] in shown for start in range(len(secret) - 15))


def test_an_unexpected_error_of_the_client_gives_nothing_away(
    server: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, headers: dict[str, str], **__: object) -> requests.Response:
        raise requests.exceptions.InvalidHeader(f"bad headers {headers} {SECRET_TEXT}")

    monkeypatch.setattr(requests.Session, "post", fail)
    error = post(server).error
    assert error is not None
    assert "bad headers" in error
    assert SECRET_TEXT not in error
    assert "v1,[redacted]" in error
