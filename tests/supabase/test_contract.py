"""Contract 1 against the running function: every answer, and what is in the database afterwards."""

from __future__ import annotations

import functools
import http.client
import json
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.supabase.conftest import ROOT, Edge, Sender, until

Ask = Callable[..., list[tuple[Any, ...]]]


def status_of(inbox: Ask, key: str) -> Any:
    found = inbox("select status, outcome from odoo.webhook_events where idempotency_key = %s", key)
    return found[0] if found else None


def test_an_event_arrives_and_is_completed(sender: Sender, inbox: Ask) -> None:
    key = str(uuid.uuid4())
    body = sender.body(aggregate_id="Ünïcode 株式会社 😀")
    answer = sender.post(body, {"x-ipai-sequence": "1", "x-ipai-instance": "prod"}, key=key)
    assert answer.status == 200
    assert answer.headers["x-ipai-contract"] == "1"
    [(event_id, aggregate_id, sequence)] = inbox(
        "select e.id, aggregate_id, sequence from odoo.webhook_events e join odoo.instances i on i.id = instance_id "
        "where idempotency_key = %s and i.name = 'prod'",
        key,
    )
    assert (aggregate_id, sequence) == ("Ünïcode 株式会社 😀", 1)
    assert answer.json == {"ok": True, "id": event_id, "duplicate": False}
    until(lambda: status_of(inbox, key) == ("completed", "applied"), "the event is completed")


def test_again_is_a_duplicate_whatever_the_body(sender: Sender, inbox: Ask) -> None:
    key = str(uuid.uuid4())
    first = sender.post(key=key)
    again = sender.post(sender.body(event_type="another.thing"), key=key)
    assert (again.status, again.json) == (200, {"ok": True, "id": first.json["id"], "duplicate": True})
    assert inbox("select count(*) from odoo.event_log where idempotency_key = %s", key) == [(1,)]


def test_the_very_same_request_again_is_a_duplicate(sender: Sender) -> None:
    body = sender.body()
    headers = sender.headers(body)
    answers = [sender.request("POST", "odoo-webhook", headers, body).json for _ in range(3)]
    assert [answer["duplicate"] for answer in answers] == [False, True, True]
    assert len({answer["id"] for answer in answers}) == 1


def test_thirty_two_at_once_under_one_key_are_one_event(sender: Sender, inbox: Ask) -> None:
    key, body = str(uuid.uuid4()), sender.body()
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: sender.post(body, key=key), range(32)))
    assert {answer.status for answer in answers} == {200}
    assert sorted(answer.json["duplicate"] for answer in answers) == [False] + [True] * 31
    counts = (
        "select (select count(*) from odoo.webhook_events where idempotency_key = %s), "
        "(select count(*) from odoo.event_log where idempotency_key = %s)"
    )
    assert inbox(counts, key, key) == [(1, 1)]


@pytest.mark.parametrize("standard", [True, False], ids=["with-webhook-headers", "without"])
def test_a_captured_request_under_another_key_or_instance_is_refused(
    sender: Sender, inbox: Ask, standard: bool
) -> None:
    body = sender.body()
    captured = sender.headers(body, standard=standard)
    assert sender.request("POST", "odoo-webhook", captured, body).status == 200
    other = str(uuid.uuid4())
    bare = {name: value for name, value in captured.items() if not name.startswith("webhook-")}
    assert (
        sender.request("POST", "odoo-webhook", bare | {"x-idempotency-key": other}, body).code == "replayed_signature"
    )
    assert (
        sender.request("POST", "odoo-webhook", captured | {"x-ipai-instance": "elsewhere"}, body).code
        == "replayed_signature"
    )
    if standard:
        mismatch = sender.request("POST", "odoo-webhook", captured | {"x-idempotency-key": other}, body)
        assert mismatch.code == "webhook_id_mismatch"
    assert status_of(inbox, other) is None
    assert inbox("select count(*) from odoo.instances where name = 'elsewhere'") == [(0,)]


def test_an_older_event_is_superseded(sender: Sender, inbox: Ask) -> None:
    record = uuid.uuid4().hex
    keys = {sequence: str(uuid.uuid4()) for sequence in (2, 1)}

    def ended(key: str) -> bool:
        return bool(status_of(inbox, key)[0] == "completed")

    for sequence, key in keys.items():
        assert sender.post(sender.body(aggregate_id=record), {"x-ipai-sequence": str(sequence)}, key=key).status == 200
        until(functools.partial(ended, key), "the event is completed")
    assert status_of(inbox, keys[2]) == ("completed", "applied")
    assert status_of(inbox, keys[1]) == ("completed", "superseded")


def test_a_timestamp_in_seconds_and_an_upper_case_key(sender: Sender, inbox: Ask) -> None:
    key = str(uuid.uuid4())
    answer = sender.post(timestamp=str(int(time.time())), key=key.upper())
    assert answer.status == 200
    assert sender.post(key=key).json == {**answer.json, "duplicate": True}


def test_the_limit_is_one_mebibyte_of_body(sender: Sender, inbox: Ask) -> None:
    empty = sender.body(payload={"x": ""})
    full = empty.replace(b'"x": ""', b'"x": "' + b"y" * (1_048_576 - len(empty)) + b'"')
    assert len(full) == 1_048_576
    assert sender.post(full).status == 200
    assert sender.post(full + b" ").code == "payload_too_large"


def test_the_limit_counts_a_body_of_unknown_length(edge: Edge, sender: Sender) -> None:
    headers = sender.headers(b"") | {"transfer-encoding": "chunked"}
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=20)
    connection.request("POST", "/functions/v1/odoo-webhook", iter([b"x" * 65536] * 17), headers, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["error"]["code"] == "payload_too_large"
    connection.close()


def test_other_methods(sender: Sender) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"):
        answer = sender.request(method, "odoo-webhook")
        assert (answer.status, answer.code, answer.headers["allow"]) == (405, "method_not_allowed", "POST")
    assert sender.request("HEAD", "odoo-webhook").status == 405


def test_other_paths(sender: Sender) -> None:
    body = sender.body()
    assert sender.request("POST", "odoo-webhook/batch", sender.headers(body), body).code == "not_found"
    assert sender.request("POST", "odoo-webhook/", sender.headers(body), body).status == 200
    assert sender.request("POST", "odoo-webhook?x=1", sender.headers(body), body).status == 200


def test_other_content_types(sender: Sender) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"):
        answer = sender.post(headers={"content-type": content_type})
        assert (answer.status, answer.code) == (415, "unsupported_media_type")


FORGED = {
    "no signature": ({"x-ipai-signature": None}, 401, "missing_signature"),
    "no timestamp": ({"x-ipai-timestamp": None}, 401, "missing_signature"),
    "wrong signature": ({"x-ipai-signature": "0" * 64}, 401, "bad_signature"),
    "upper-case signature": ({"x-ipai-signature": "A" * 64}, 401, "malformed_signature"),
    "stale": ({"x-ipai-timestamp": str(time.time_ns() // 1_000_000 - 301_000)}, 401, "stale_timestamp"),
    "future": ({"x-ipai-timestamp": str(time.time_ns() // 1_000_000 + 601_000)}, 401, "stale_timestamp"),
    "not a timestamp": ({"x-ipai-timestamp": "now"}, 401, "malformed_timestamp"),
    "no key": ({"x-idempotency-key": None}, 400, "missing_idempotency_key"),
    "not a key": ({"x-idempotency-key": "42"}, 400, "malformed_idempotency_key"),
    "not an instance": ({"x-ipai-instance": "Prod!"}, 400, "malformed_instance"),
    "not a sequence": ({"x-ipai-sequence": "0"}, 400, "malformed_sequence"),
    "half the webhook headers": ({"webhook-id": None}, 401, "malformed_webhook_headers"),
    "wrong webhook signature": ({"webhook-signature": "v1," + "A" * 43 + "="}, 401, "bad_webhook_signature"),
}


@pytest.mark.parametrize(("changes", "status", "code"), FORGED.values(), ids=FORGED)
def test_headers_that_do_not_hold(
    sender: Sender, inbox: Ask, changes: dict[str, str | None], status: int, code: str
) -> None:
    key, body = str(uuid.uuid4()), sender.body()
    headers = sender.headers(body, key=key) | changes
    answer = sender.request("POST", "odoo-webhook", {n: v for n, v in headers.items() if v is not None}, body)
    assert (answer.status, answer.code) == (status, code)
    assert status_of(inbox, key) is None


def test_a_header_that_comes_twice_is_refused(sender: Sender) -> None:
    body = sender.body()
    pairs = list(sender.headers(body).items())
    for name, value in pairs:
        answer = sender.request("POST", "odoo-webhook", [*pairs, (name, value)], body)
        assert answer.status in {400, 401, 415}, name
        assert answer.code.startswith(("malformed_", "webhook_id_mismatch", "unsupported_media_type"))


def test_an_altered_body_is_refused(sender: Sender) -> None:
    body = sender.body(payload={"amount": 100})
    altered = body.replace(b"100", b"900")
    assert sender.request("POST", "odoo-webhook", sender.headers(body), altered).code == "bad_signature"


def test_the_vectors_are_refused_as_stale_and_hold_when_signed_now(sender: Sender) -> None:
    for vector in json.loads((ROOT / "tests/vectors/signing.json").read_text()):
        body = vector["body"].encode()
        old = {"x-ipai-timestamp": vector["timestamp"], "x-ipai-signature": vector["signature"]}
        headers = sender.headers(body, standard=False)
        assert sender.request("POST", "odoo-webhook", headers | old, body).code == "stale_timestamp"
        assert sender.request("POST", "odoo-webhook", headers, body).status == 200


CONTENT = {
    "not UTF-8": (b'{"event_type":"\xff"}', "invalid_utf8"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "invalid_utf8"),
    "empty": (b"", "invalid_json"),
    "not JSON": (b"event_type=a.b", "invalid_json"),
    "NaN": (b'{"event_type":"a.b","aggregate_type":"a","aggregate_id":"1","payload":{"n":NaN}}', "invalid_json"),
    "an array": (b"[]", "invalid_event"),
    "five keys": (b'{"event_type":"a.b","aggregate_type":"a","aggregate_id":"1","payload":{},"x":1}', "invalid_event"),
    "a key twice": (
        b'{"event_type":"a.b","event_type":"a.b","aggregate_type":"a","aggregate_id":"1","payload":{}}',
        "invalid_event",
    ),
    "an id that is a number": (
        b'{"event_type":"a.b","aggregate_type":"a","aggregate_id":1,"payload":{}}',
        "invalid_event",
    ),
    "a NUL": (
        b'{"event_type":"a.b","aggregate_type":"a","aggregate_id":"1","payload":{"x":"\\u0000"}}',
        "invalid_event",
    ),
    "half a pair": (
        b'{"event_type":"a.b","aggregate_type":"a","aggregate_id":"1","payload":{"x":"\\ud800"}}',
        "invalid_event",
    ),
    "too big a number": (
        b'{"event_type":"a.b","aggregate_type":"a","aggregate_id":"1","payload":{"x":1e999}}',
        "invalid_event",
    ),
    "too deep": (
        b'{"event_type":"a.b","aggregate_type":"a","aggregate_id":"1","payload":{"x":'
        + b"[" * 90000
        + b"]" * 90000
        + b"}}",
        "invalid_event",
    ),
}


@pytest.mark.parametrize(("body", "code"), CONTENT.values(), ids=CONTENT)
def test_bodies_that_are_not_events(sender: Sender, inbox: Ask, body: bytes, code: str) -> None:
    key = str(uuid.uuid4())
    answer = sender.post(body, key=key)
    assert (answer.status, answer.code) == (400, code)
    assert status_of(inbox, key) is None


def test_an_inactive_instance(sender: Sender, inbox: Ask) -> None:
    inbox("insert into odoo.instances (name, active) values ('closed', false) on conflict do nothing")
    answer = sender.post(headers={"x-ipai-instance": "closed"})
    assert (answer.status, answer.code) == (403, "instance_inactive")


def test_numbers_keep_their_precision(sender: Sender, inbox: Ask) -> None:
    key, exact = str(uuid.uuid4()), "9007199254740993.000000000000000001"
    body = f'{{"event_type":"a.b","aggregate_type":"a","aggregate_id":"{key}","payload":{{"n":{exact}}}}}'.encode()
    assert sender.post(body, key=key).status == 200
    assert inbox("select payload ->> 'n' from odoo.webhook_events where idempotency_key = %s", key) == [(exact,)]


def test_the_logs_hold_no_body_and_no_secret(edge: Edge, sender: Sender) -> None:
    key = str(uuid.uuid4())
    assert sender.post(sender.body(payload={"x": "confidential-7391"}), key=key).status == 200
    assert sender.post(b'{"confidential-7391": 1}').code == "invalid_event"
    assert (
        sender.request(
            "POST", "odoo-webhook?token=confidential-7391", {"authorization": "Bearer confidential-7391"}
        ).status
        == 415
    )
    until(lambda: any('"status":415' in line for line in edge.lines), "the last request is logged")
    printed = "\n".join(edge.lines)
    assert f'"idempotency_key":"{key}"' in printed
    assert '{"level":"warning","event":"refused","code":"invalid_event"}' in printed
    for hidden in ("confidential-7391", sender.secret, sender.secret[6:]):
        assert hidden not in printed
