"""One signed POST to a real server that answers in every way a server can."""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bridge.delivery.posting import (
    SLACK,
    claimed,
    now_ms,
    post,
    transport,
)
from tests.bridge.delivery.receiver import (
    Answer,
    Receiver,
    answer,
    drip,
    hang,
    raw,
    receiver,
)

# --- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(server: Receiver, status: int) -> None:
    with receiver() as other:
        attempt = post(server, answer(status, b"", location=f"{other.functions_url}?token=x"))
        assert other.requests == []
    assert (attempt.status, attempt.posts, len(server.requests)) == (status, 1, 1)
    assert attempt.error is not None
    assert "redirect is not followed" in attempt.error
    assert "token" not in attempt.error


def test_a_redirects_endless_body_is_not_read(server: Receiver) -> None:
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    head = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ntransfer-encoding: chunked\r\n\r\n"
    attempt = post(server, drip(head, piece, every=0))
    assert attempt.status == 302
    assert attempt.took < SLACK


@pytest.mark.parametrize("location", ["http://[::1", "//", "http://\x80..\xff/", "x" * 9000, "http://a:b@c:99999/"])
def test_a_redirect_to_nonsense_is_still_a_redirect(server: Receiver, location: str) -> None:
    assert post(server, answer(302, b"", location=location)).status == 302


# --- answers cut short, slow, or endless


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nonly this",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nonly this\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\nonly this\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope",
        b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe\x00",
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    ],
)
def test_a_2xx_counts_whatever_becomes_of_its_body(server: Receiver, data: bytes) -> None:
    attempt = post(server, raw(data))
    assert (attempt.status, attempt.error) == (200, None)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\nx: y",
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 1000 High\r\n\r\n",
        b"HTTP/9.9 abc\r\n\r\n",
        b"\x00" * 100,
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\nabcdef",
    ],
)
def test_an_answer_that_is_none_is_explained(server: Receiver, data: bytes) -> None:
    server.default = raw(data)
    attempt = post(server)
    # A head that breaks off may pass for a whole one: then its status has arrived, and that is what counts.
    assert attempt.status in ({200} if data == b"HTTP/1.1 200 OK\r\nx: y" else {None})
    assert (attempt.error is None) == (attempt.status == 200)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=200)
    | st.builds(
        lambda status, headers, body: b"HTTP/1.1 %d X\r\n%b\r\n%b" % (status, b"".join(headers), body),
        st.integers(100, 999),
        st.lists(
            st.sampled_from(
                [b"content-length: ", b"transfer-encoding: ", b"retry-after: ", b"date: ", b"location: "]
            ).flatmap(lambda name: st.binary(max_size=20).map(lambda value: name + value + b"\r\n")),
            max_size=4,
        ),
        st.binary(max_size=100),
    )
)
def test_no_answer_makes_it_raise(server: Receiver, data: bytes) -> None:
    server.default = raw(data)
    attempt = transport(server, timeout=1.0).post(claimed(), timestamp_ms=now_ms())
    assert (attempt.error is None) == (attempt.status is not None and 200 <= attempt.status < 300)


def test_no_answer_within_the_timeout(server: Receiver) -> None:
    attempt = post(server, hang, timeout=0.3)
    assert (attempt.status, attempt.error, attempt.posts) == (None, "no answer within 0.3 s", 1)
    assert 0.3 <= attempt.took < 0.3 + SLACK


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"", id="status line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: ", id="headers"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n", id="interim answers"),
    ],
)
def test_a_head_in_drips_has_the_timeout_in_all(server: Receiver, head: bytes) -> None:
    piece = b"HTTP/1.1 100 Continue\r\n\r\n" if b"100" in head else b"H"
    attempt = post(server, drip(head + (b"\r\n" if b"100" in head else b""), piece, every=0.05), timeout=0.5)
    assert (attempt.status, attempt.error) == (None, "no answer within 0.5 s")
    assert 0.5 <= attempt.took < 0.5 + SLACK


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("head", [b"", b"content-length: 1000000\r\n", b"transfer-encoding: chunked\r\n"])
def test_a_body_in_drips_has_the_timeout_in_all(server: Receiver, status: int, head: bytes) -> None:
    piece = b"1\r\nx\r\n" if b"chunked" in head else b"x"
    attempt = post(server, drip(b"HTTP/1.1 %d X\r\n%b\r\n" % (status, head), piece, every=0.05), timeout=0.5)
    assert attempt.status == status, "the status has arrived: that is what counts"
    assert 0.5 <= attempt.took < 0.5 + SLACK


def test_of_an_endless_body_only_the_first_is_read(server: Receiver) -> None:
    attempt = post(server, drip(b"HTTP/1.1 500 X\r\n\r\n", b"x" * 65536, every=0))
    assert attempt.status == 500
    assert attempt.error is not None
    assert len(attempt.error) < 2_200
    assert attempt.took < SLACK


def test_a_connection_is_not_used_again_after_a_timeout(server: Receiver) -> None:
    sender = transport(server, timeout=0.3)
    server.script.append(hang)
    sender.post(claimed(), timestamp_ms=now_ms())
    assert sender.post(claimed(), timestamp_ms=now_ms()).status == 200
    assert server.connections == 2


def test_a_bomb_is_not_decompressed(server: Receiver) -> None:
    bomb = gzip.compress(b"\x00" * 100_000_000)
    attempt = post(server, answer(500, bomb, content_encoding="gzip"))
    assert attempt.status == 500
    assert attempt.took < SLACK
    assert len(attempt.error or "") < 2_200


@pytest.mark.parametrize("status", [101, 102, 103])
def test_an_interim_answer_is_never_taken_for_the_next_events(server: Receiver, status: int) -> None:
    interim = raw(b"HTTP/1.1 %d Early\r\nlink: x\r\n\r\n" % status, keep=True)
    refused = answer(400, b"the second's own")
    sender = transport(server)
    server.script.extend([interim, refused])
    first = sender.post(claimed(), timestamp_ms=now_ms())
    second = sender.post(claimed(), timestamp_ms=now_ms())
    assert (first.status, second.status) == (status, 400)
    assert first.error is not None
    assert "interim" in first.error
    assert server.requests[0].connection != server.requests[1].connection


# --- what an answer is said to mean

CONTRACT = {"x_ipai_contract": "1"}


def error_of(server: Receiver, say: Answer) -> str:
    error = post(server, say).error
    assert error is not None
    return error


def test_a_401_of_the_function_is_told_from_the_gateways(server: Receiver) -> None:
    body = json.dumps({"ok": False, "error": {"code": "bad_signature", "message": "no"}}).encode()
    by_function = error_of(server, answer(401, body, **CONTRACT))
    assert "refused by the function" in by_function
    assert "bad_signature" in by_function
    assert "verify_jwt" not in by_function
    by_gateway = error_of(server, answer(401, b'{"code":401,"message":"Missing authorization header"}'))
    assert "verify_jwt = false" in by_gateway
    assert "Missing authorization header" in by_gateway


@pytest.mark.parametrize(("seconds", "said"), [(-3600, True), (3600, True), (5, False)])
def test_a_401_says_when_the_clocks_differ(server: Receiver, seconds: int, said: bool) -> None:
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)
    assert ("the clocks differ by" in error_of(server, answer(401, b"", date=date, **CONTRACT))) == said


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 01 Jan 99999 00:00:00 GMT", "Thu, 01 Jan 2026 00:00:00 -0000"])
def test_a_401_with_an_odd_date_is_still_explained(server: Receiver, date: str) -> None:
    assert "refused by the function" in error_of(server, answer(401, b"", date=date, **CONTRACT))


@pytest.mark.parametrize(
    ("say", "words"),
    [
        (answer(404, b"Function not found"), "no such function there"),
        (answer(404, b"{}", **CONTRACT), "HTTP 404"),
        (answer(410, b"bye"), "gone for good"),
        (answer(503, b'{"code":"BOOT_ERROR"}'), "BOOT_ERROR"),
        (answer(546, b'{"code":"WORKER_LIMIT"}'), "WORKER_LIMIT"),
        (answer(413, b"", **CONTRACT), "HTTP 413"),
        (answer(502, b"<html><body>\r\n<h1>502 Bad Gateway</h1>\x1b[31m\x00</body></html>"), "502 Bad Gateway"),
    ],
)
def test_an_answer_is_explained_on_one_line(server: Receiver, say: Answer, words: str) -> None:
    error = error_of(server, say)
    assert words in error
    assert error.startswith("HTTP ")
    assert error.isprintable()


def test_retry_after_is_handed_on(server: Receiver) -> None:
    assert post(server, answer(429, b"", retry_after="17")).retry_after == 17.0
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=100), usegmt=True)
    asked = post(server, answer(503, b"", retry_after=date)).retry_after
    assert asked is not None
    assert 90 < asked <= 100
    assert post(server, answer(503, b"", retry_after="soon")).retry_after is None
