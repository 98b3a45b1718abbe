"""Signing: the contract's golden vectors, the round trip, and refusal of everything else by one family of errors."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections import UserDict
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from http.client import HTTPMessage
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from ipai_bridge.errors import (
    HeaderMalformed,
    HeaderMissing,
    IdMismatch,
    SignatureError,
    SignatureMismatch,
    TimestampStale,
)
from ipai_bridge.signing import REPLAY_WINDOW_MS, Secret, Verified, generate_secret, ipai_signature, sign, verify

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "signing.json").read_text(encoding="utf-8"))
NOW = 1_767_225_600_123
ID = UUID("019b76da-a87b-7000-8000-00000000abcd")
BODY = b'{"event_type":"a.b","aggregate_type":"a","aggregate_id":"1","payload":{}}'
STANDARD = Secret("whsec_0123456789abcdef0123456789abcdef")
PLAIN = Secret("an existing deployment's own secret")
ALL = (
    "x-ipai-timestamp",
    "x-ipai-signature",
    "x-idempotency-key",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
)

vectors = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
new_secrets = st.one_of(
    st.binary(min_size=24, max_size=64).map(lambda key: Secret("whsec_" + base64.b64encode(key).decode())),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=24).map(Secret),
)


def signed(secret: Secret = STANDARD) -> dict[str, str]:
    return sign(BODY, id=ID, timestamp_ms=NOW, secret=secret)


def check(headers: Any, *secrets: Secret, body: bytes = BODY, now_ms: int = NOW) -> Verified:
    return verify(body, headers, secrets or (STANDARD,), now_ms=now_ms)


@vectors
def test_vectors_are_signed_alike(vector: dict[str, str]) -> None:
    assert ipai_signature(vector["body"].encode(), vector["timestamp"], Secret(vector["secret"])) == vector["signature"]


@vectors
def test_vectors_are_signed_alike_by_sign(vector: dict[str, str]) -> None:
    if len(vector["timestamp"]) < 12:
        with pytest.raises(HeaderMalformed):
            sign(vector["body"].encode(), id=ID, timestamp_ms=int(vector["timestamp"]), secret=Secret(vector["secret"]))
        return
    headers = sign(
        vector["body"].encode(), id=ID, timestamp_ms=int(vector["timestamp"]), secret=Secret(vector["secret"])
    )
    assert headers["x-ipai-signature"] == vector["signature"]
    assert headers["x-ipai-timestamp"] == vector["timestamp"]


@vectors
@pytest.mark.parametrize("position", [0, 1, 2])
def test_vectors_verify_with_each_active_secret(vector: dict[str, str], position: int) -> None:
    secrets = [generate_secret(), PLAIN]
    secrets.insert(position, Secret(vector["secret"]))
    headers = {
        "X-Ipai-Timestamp": vector["timestamp"],
        "X-Ipai-Signature": vector["signature"],
        "X-Idempotency-Key": str(ID),
    }
    verified = verify(vector["body"].encode(), headers, secrets, now_ms=NOW)
    scale = 1000 if vector["name"] == "seconds" else 1
    assert verified == Verified(ID, int(vector["timestamp"]) * scale, position, standard=False)


@vectors
def test_vectors_fail_with_one_byte_more(vector: dict[str, str]) -> None:
    headers = {
        "x-ipai-timestamp": vector["timestamp"],
        "x-ipai-signature": vector["signature"],
        "x-idempotency-key": str(ID),
    }
    with pytest.raises(SignatureMismatch):
        verify(vector["body"].encode() + b"\n", headers, [Secret(vector["secret"])], now_ms=NOW)


def test_headers_are_exactly_those_that_the_relay_sends() -> None:
    assert signed(PLAIN) == {
        "content-type": "application/json",
        "x-ipai-timestamp": "1767225600123",
        "x-ipai-signature": hmac.new(
            PLAIN.reveal().encode(), b"1767225600123." + BODY, hashlib.sha256
        ).hexdigest(),
        "x-idempotency-key": str(ID),
        "x-ipai-instance": "default",
    }  # fmt: skip
    key = base64.b64decode("0123456789abcdef0123456789abcdef")
    webhook = hmac.new(key, f"{ID}.1767225600.".encode() + BODY, hashlib.sha256).digest()
    headers = sign(BODY, id=str(ID), timestamp_ms=NOW, secret=STANDARD, sequence=7, instance="eu")
    assert headers == signed() | {
        "x-ipai-instance": "eu",
        "x-ipai-sequence": "7",
        "webhook-id": str(ID),
        "webhook-timestamp": "1767225600",
        "webhook-signature": "v1," + base64.b64encode(webhook).decode(),
    }


@given(
    st.binary(max_size=200),
    st.uuids(),
    st.integers(10**11, 10**14 - 1),
    st.lists(new_secrets, min_size=1, max_size=4, unique=True),
    st.data(),
)
def test_what_is_signed_verifies(body: bytes, id: UUID, now: int, secrets: list[Secret], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(secrets) - 1))
    away = data.draw(st.integers(-REPLAY_WINDOW_MS + 1000, REPLAY_WINDOW_MS - 1000))
    headers = sign(body, id=id, timestamp_ms=now, secret=secrets[index])
    verified = verify(body, headers, secrets, now_ms=now + away)
    assert verified == Verified(id, now, index, secrets[index].is_standard)


@given(st.sampled_from(ALL), st.integers(0, 87), st.integers(0, 7))
def test_any_bit_of_a_header_flipped_is_refused(name: str, at: int, bit: int) -> None:
    headers = signed()
    value = bytearray(headers[name].encode())
    value[at % len(value)] ^= 1 << bit
    headers[name] = value.decode("latin-1")
    with pytest.raises(SignatureError):
        check(headers)


def test_every_bit_of_the_body_flipped_is_refused() -> None:
    for secret in (STANDARD, PLAIN):
        headers = signed(secret)
        for at in range(len(BODY) * 8):
            body = bytearray(BODY)
            body[at // 8] ^= 1 << at % 8
            with pytest.raises(SignatureMismatch):
                check(headers, secret, body=bytes(body))


def test_every_bit_of_the_signed_headers_flipped_is_refused() -> None:
    for name in ALL:
        whole = signed()[name].encode()
        for at in range(len(whole) * 8):
            value = bytearray(whole)
            value[at // 8] ^= 1 << at % 8
            with pytest.raises(SignatureError):
                check(signed() | {name: value.decode("latin-1")})


hostile_values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.binary(), st.text(st.characters()), st.builds(object),
    st.lists(st.text(), max_size=2), st.dictionaries(st.text(), st.text(), max_size=1),
    st.sampled_from(["", " ", "-", "0", "9" * 5000, "x" * 1_000_000,
                     "١٧٦٧٢٢٥٦٠٠١٢٣", "1767225600123\n", "+1767225600123",
                     "1_767_225_600_123", "1e12", "nan", "v1,", "v1,=", "v1, v1,",
                     ",", "v2,x", "v1a,AAAA", "\x00", "\ud800",
                     "²", "0x1", "{" + str(ID) + "}", ID.hex, "urn:uuid:" + str(ID), "A" * 64,
                     "é" * 64, "0" * 63, "0" * 65]),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from([*ALL, "x-ipai-instance", "x-ipai-sequence"]), hostile_values, min_size=1))
def test_hostile_values_raise_only_the_family(changes: dict[str, object]) -> None:
    headers: dict[str, Any] = signed() | changes
    if any(headers[name] != signed()[name] for name in ALL):
        with pytest.raises(SignatureError) as caught:
            check(headers)
        assert len(str(caught.value)) < 300


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(ALL) | st.text() | hostile_values, hostile_values),
            st.sampled_from(list(signed().items())),
            hostile_values,
        )
    )
)
def test_hostile_lists_of_headers_raise_only_the_family(headers: list[Any]) -> None:
    try:
        verified = check(headers)
    except SignatureError:
        return
    assert verified.id == ID
    assert set(ALL[:3]) <= {pair[0] for pair in headers}


@given(hostile_values)
def test_hostile_headers_as_a_whole_raise_only_the_family(headers: Any) -> None:
    with pytest.raises(SignatureError):
        check(headers)


@pytest.mark.parametrize("body", [None, "text", 1, memoryview(b"x"), [b"x"]])
def test_a_body_that_is_not_raw_bytes_is_refused(body: Any) -> None:
    with pytest.raises(SignatureError, match="raw bytes"):
        check(signed(), body=body)
    with pytest.raises(SignatureError, match="bytes"):
        sign(body, id=ID, timestamp_ms=NOW, secret=STANDARD)


def message(headers: Mapping[str, str]) -> HTTPMessage:
    parsed = HTTPMessage()
    for name, value in headers.items():
        parsed[name] = value
    return parsed


@pytest.mark.parametrize("form", [dict, lambda h: list(h.items()), lambda h: iter(h.items()), UserDict, message])
@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
def test_headers_come_in_any_case_and_form(form: Any, case: Any) -> None:
    headers = {case(name): value for name, value in signed().items()}
    assert check(form(headers)) == Verified(ID, NOW, 0, standard=True)


@pytest.mark.parametrize("name", [*ALL, "x-ipai-instance"])
def test_a_header_that_is_there_twice_is_refused(name: str) -> None:
    headers = signed()
    for second in ((name, headers[name]), (name.upper(), "other")):
        with pytest.raises(HeaderMalformed, match="twice"):
            check([*headers.items(), second])


def test_a_name_that_only_looks_like_the_contracts_does_not_count() -> None:
    kelvin = "x-idempotency-\u212aey"
    assert kelvin.lower() == "x-idempotency-key"
    headers = signed(PLAIN)
    with pytest.raises(HeaderMissing):
        check({kelvin: headers.pop("x-idempotency-key"), **headers}, PLAIN)
    assert check({**signed(PLAIN), kelvin: "other"}, PLAIN)


@pytest.mark.parametrize("name", ALL)
def test_a_header_that_is_missing_is_named(name: str) -> None:
    headers = signed()
    del headers[name]
    with pytest.raises(HeaderMissing, match=f"^{name} is missing"):
        check(headers)


@pytest.mark.parametrize("names", [ALL[3:4], ALL[4:5], ALL[5:], ALL[3:5]])
def test_some_of_the_webhook_headers_are_not_enough(names: Iterable[str]) -> None:
    headers = signed(PLAIN) | {name: signed()[name] for name in names}
    with pytest.raises(HeaderMissing, match="all three or not at all"):
        check(headers, PLAIN, STANDARD)


def test_without_the_webhook_headers_the_id_is_not_bound() -> None:
    headers = {name: value for name, value in signed().items() if not name.startswith("webhook")}
    assert check(headers).standard is False


def test_another_key_is_refused_where_the_webhook_headers_bind_it() -> None:
    other = str(UUID(int=ID.int + 1))
    with pytest.raises(IdMismatch):
        check(signed() | {"x-idempotency-key": other})
    with pytest.raises(IdMismatch):
        check(signed() | {"webhook-id": other})
    with pytest.raises(SignatureMismatch):
        check(signed() | {"webhook-id": other, "x-idempotency-key": other})


def test_webhook_headers_that_no_secret_can_hold_are_refused() -> None:
    headers = signed(PLAIN) | {name: signed()[name] for name in ALL[3:]}
    with pytest.raises(SignatureMismatch, match="webhook-signature"):
        check(headers, PLAIN)
    assert check(headers, PLAIN, STANDARD).secret_index == 0


@pytest.mark.parametrize("away", [-REPLAY_WINDOW_MS, REPLAY_WINDOW_MS])
def test_the_replay_window_is_five_minutes_to_the_millisecond(away: int) -> None:
    assert check(signed(PLAIN), PLAIN, now_ms=NOW + away)
    one_more = away + (1 if away > 0 else -1)
    with pytest.raises(TimestampStale, match="behind" if away > 0 else "ahead"):
        check(signed(PLAIN), PLAIN, now_ms=NOW + one_more)


def test_a_stale_webhook_timestamp_is_refused_beside_a_fresh_one() -> None:
    old = sign(BODY, id=ID, timestamp_ms=NOW - REPLAY_WINDOW_MS - 1000, secret=STANDARD)
    with pytest.raises(TimestampStale, match="webhook-timestamp"):
        check(signed() | {name: old[name] for name in ALL[3:]})


def test_a_signature_of_milliseconds_does_not_hold_for_seconds() -> None:
    with pytest.raises(SignatureMismatch):
        check(signed(PLAIN) | {"x-ipai-timestamp": "1767225600"}, PLAIN)


def test_no_secret_is_never_open() -> None:
    with pytest.raises(SignatureError, match="no active secret"):
        verify(BODY, signed(), [], now_ms=NOW)


def test_an_upper_case_signature_is_malformed() -> None:
    with pytest.raises(HeaderMalformed):
        check(signed() | {"x-ipai-signature": signed()["x-ipai-signature"].upper()})


def test_rotation_takes_old_and_new_and_then_only_new() -> None:
    old, new = STANDARD, generate_secret()
    assert check(signed(old), new, old).secret_index == 1
    assert check(signed(new), new, old).secret_index == 0
    with pytest.raises(SignatureMismatch):
        check(signed(old), new)


def test_one_malformed_entry_does_not_break_the_list_of_signatures() -> None:
    good = signed()["webhook-signature"]
    for value in (f"v1,not-base64 {good}", f"v1a,xyz {good} v2,", f"v1, {good}", f"  {good} v1,AAAA"):
        assert check(signed() | {"webhook-signature": value}).standard
    with pytest.raises(HeaderMalformed):
        check(signed() | {"webhook-signature": "v2," + good[3:]})


def test_errors_repeat_no_text_of_a_header() -> None:
    for name in ALL:
        with pytest.raises(SignatureError) as caught:
            check(signed() | {name: "marked-by-the-attacker"})
        assert "attacker" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "not a uuid"}, {"id": ID.hex}, {"id": f"{ID}\r\nx-evil: 1"}, {"id": None},
        {"timestamp_ms": 1_767_225_600}, {"timestamp_ms": -NOW}, {"timestamp_ms": 10**14},
        {"timestamp_ms": 1767225600123.5},
        {"timestamp_ms": "1767225600123\n"}, {"instance": ""}, {"instance": "a\r\nx-evil: 1"}, {"instance": "A"},
        {"instance": None}, {"sequence": 0}, {"sequence": -1}, {"sequence": 1.5}, {"sequence": "1"},
    ],
)  # fmt: skip
def test_sign_refuses_what_no_header_may_have(changes: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"id": ID, "timestamp_ms": NOW, "secret": STANDARD} | changes
    with pytest.raises(HeaderMalformed):
        sign(BODY, **arguments)


@given(st.binary(min_size=24, max_size=64), st.text(st.characters(exclude_categories=["Cs"])), st.uuids())
def test_the_standard_webhooks_library_agrees(key: bytes, body: str, id: UUID) -> None:
    now = datetime.now(timezone.utc)  # the library reads the clock itself
    now_ms = int(now.timestamp() * 1000)
    text = "whsec_" + base64.b64encode(key).decode()
    theirs = standardwebhooks.Webhook(text)
    raw = json.dumps(body).encode()
    ours = sign(raw, id=id, timestamp_ms=now_ms, secret=Secret(text))
    assert theirs.verify(raw, ours) == body
    assert theirs.sign(str(id), now, raw.decode()) == ours["webhook-signature"]
