"""The upload of one content, against a real HTTP server that misbehaves; and whereto one may lead at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipai_bridge.errors import BridgeError, SyncRefused, SyncUnavailable
from ipai_bridge.sync.upload import Uploader, storage_url
from tests.bridge.delivery.receiver import Answer, Receiver, answer, receiver, reset

PATH = "bir/2026/1601-C/BIR 1601-C (1).pdf"
SIGNED = "/object/upload/sign/documents/bir/2026/1601-C/BIR%201601-C%20(1).pdf?token=a.b-c_d"
CONTENT = b"%PDF" + bytes(range(256)) * 1000
slept: list[float] = []


def storage_says(status: int, error: str, message: str = "because") -> Answer:
    """As the platform refuses: always with 400, and what it means in the body."""
    said = {"statusCode": str(status), "error": error, "message": message}
    return answer(400 if status < 500 else status, json.dumps(said).encode())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("NO_PROXY", "*")
    with receiver() as running:
        running.default = answer(200, b'{"Key":"documents/x","Id":"y"}')
        yield running


@pytest.fixture
def uploader(server: Receiver) -> Iterator[Uploader]:
    slept.clear()
    with closing(Uploader(server.functions_url, timeout=5, sleep=slept.append)) as made:
        yield made


def test_the_content_goes_as_it_is_and_nothing_else_goes_along(server: Receiver, uploader: Uploader) -> None:
    uploader.put(PATH, SIGNED, CONTENT, "application/pdf")
    [request] = server.requests
    assert request.line.startswith("PUT /storage/v1/object/upload/sign/documents/bir/2026/1601-C/BIR%201601-C%20")
    assert request.line.endswith("?token=a.b-c_d HTTP/1.1")
    assert request.body == CONTENT
    assert request.header("content-type") == "application/pdf"
    # No key, no signature of ours: the URL is all the leave there is.
    assert {name.lower() for name, _ in request.headers} <= {
        "host", "user-agent", "accept", "accept-encoding", "connection", "content-type", "content-length",
        "cache-control",
    }  # fmt: skip


def test_what_may_pass_is_tried_again(server: Receiver, uploader: Uploader) -> None:
    server.script.extend([answer(503), reset, storage_says(544, "DatabaseTimeout"), storage_says(429, "SlowDown")])
    uploader.put(PATH, SIGNED, CONTENT, "application/pdf")
    assert len(server.requests) == 5
    assert len(slept) == 4


def test_an_upload_whose_answer_was_lost_is_there_already(server: Receiver, uploader: Uploader) -> None:
    server.script.extend([reset, reset, storage_says(409, "Duplicate")])
    uploader.put(PATH, SIGNED, CONTENT, "application/pdf")
    assert len(server.requests) >= 3


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (
            storage_says(413, "Payload too large", "The object exceeded the maximum allowed size"),
            "HTTP 413: The object",
        ),
        (storage_says(415, "invalid_mime_type"), "HTTP 415"),
        (storage_says(400, "InvalidJWT", "Invalid JWT"), "Invalid JWT"),
        (storage_says(403, "Unauthorized"), "HTTP 403"),
        (answer(401, b"no"), "HTTP 401: no"),
        (answer(307, b"", location="http://127.0.0.1:1/"), "HTTP 307"),
        (answer(413, b"<html>\n too large"), "<html> too large"),
    ],
)
def test_what_would_be_refused_again_is_not_tried_again(
    server: Receiver, uploader: Uploader, said: Answer, text: str
) -> None:
    server.default = said
    with pytest.raises(SyncRefused) as refused:
        uploader.put(PATH, SIGNED, CONTENT, "application/pdf")
    assert text in str(refused.value)
    assert len(server.requests) == 1
    assert "token" not in str(refused.value)


def test_a_storage_that_stays_away_is_given_up(server: Receiver) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds + 10

    server.default = answer(503, b"down")
    for url, said in ((server.functions_url, "HTTP 503: down"), ("http://127.0.0.1:1/functions/v1", "no answer")):
        uploader = Uploader(url, timeout=5, sleep=sleep, clock=lambda: now[0])
        with closing(uploader), pytest.raises(SyncUnavailable, match=said):
            uploader.put(PATH, SIGNED, b"x", "application/pdf")


@pytest.mark.parametrize(
    ("functions", "storage"),
    [
        (
            "https://abcdefghijklmnopqrst.supabase.co/functions/v1",
            "https://abcdefghijklmnopqrst.supabase.co/storage/v1",
        ),
        (
            "https://abcdefghijklmnopqrst.supabase.co/functions/v1/",
            "https://abcdefghijklmnopqrst.supabase.co/storage/v1",
        ),
        ("https://abcdefghijklmnopqrst.functions.supabase.co", "https://abcdefghijklmnopqrst.supabase.co/storage/v1"),
        ("http://127.0.0.1:54321/functions/v1", "http://127.0.0.1:54321/storage/v1"),
        ("https://supabase.example.com/functions/v1", "https://supabase.example.com/storage/v1"),
    ],
)
def test_the_storage_is_that_of_the_same_project(functions: str, storage: str) -> None:
    assert storage_url(functions) == storage


@pytest.mark.parametrize(
    "signed",
    [
        "https://evil.example.com/storage/v1" + SIGNED,
        "//evil.example.com" + SIGNED,
        "@evil.example.com" + SIGNED,
        ":1@evil.example.com" + SIGNED,
        SIGNED.replace("BIR%201601-C", "other"),
        SIGNED.replace("/documents/", "/other/"),
        SIGNED.replace("bir/", "../bir/"),
        SIGNED.replace("2026", "2026/../2026"),
        SIGNED.replace("upload/sign", "sign"),
        SIGNED.replace("?token=", "?x=1&token="),
        SIGNED + "&x=1",
        SIGNED + "#x",
        SIGNED + "\r\nx: y",
        SIGNED.partition("?")[0],
        "http://127.0.0.1:1/storage/v1" + SIGNED,
        "",
        "?token=a",
    ],
)
def test_a_url_that_leads_elsewhere_is_refused_unasked(server: Receiver, uploader: Uploader, signed: str) -> None:
    with pytest.raises(SyncRefused):
        uploader.put(PATH, signed, CONTENT, "application/pdf")
    assert server.requests == []


def test_with_the_address_it_is_taken_too(server: Receiver, uploader: Uploader) -> None:
    uploader.put(PATH, uploader.base + SIGNED, b"x", "application/pdf")
    assert len(server.requests) == 1


@given(st.text(max_size=200))
def test_whatever_is_named_it_stays_within_the_storage(signed: str) -> None:
    with closing(Uploader("http://127.0.0.1:1/functions/v1", timeout=1)) as uploader:
        try:
            url = uploader._checked(PATH, SIGNED.partition("?")[0] + signed)
        except BridgeError:
            return
        assert url.startswith("http://127.0.0.1:1/storage/v1/object/upload/sign/documents/bir/2026/1601-C/BIR%20")
