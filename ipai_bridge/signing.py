"""Sign a request as the relay sends it, and check one as the receiver does. Pure: the time is an argument.

    x-ipai-timestamp: 1767225600123     milliseconds since the epoch
    x-ipai-signature: 64 hex digits     HMAC-SHA256(text of the secret, timestamp + "." + raw body)
    x-idempotency-key: uuid             the event's id, the same on every attempt
    x-ipai-instance, x-ipai-sequence    which Odoo, and the event's number within its aggregate

`x-ipai-signature` does not cover the id. A standard secret (see `ipai_bridge.secret`) therefore also makes the headers
of Standard Webhooks (`webhook-id`, `webhook-timestamp` in seconds, `webhook-signature: v1,<base64>` over
`id.timestamp.body`), which do. A receiver that sees one of them demands all three, and that the ids are the same.
The instance and the sequence are covered by neither: they are hints for the receiver, which must not rely on them for
what an attacker could gain from.

To rotate, give both sides the new secret and the old one, new first: the first signs, all verify.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from ipai_bridge.errors import (
    HeaderMalformed,
    HeaderMissing,
    IdMismatch,
    SignatureError,
    SignatureMismatch,
    TimestampStale,
)
from ipai_bridge.secret import Secret, generate_secret

__all__ = ["REPLAY_WINDOW_MS", "Secret", "Verified", "generate_secret", "ipai_signature", "sign", "verify"]

REPLAY_WINDOW_MS = 300_000
"""Milliseconds: how far a timestamp may be from the receiver's clock, on either side."""

TIMESTAMP = "x-ipai-timestamp"
SIGNATURE = "x-ipai-signature"
KEY = "x-idempotency-key"
INSTANCE = "x-ipai-instance"
SEQUENCE = "x-ipai-sequence"
WEBHOOK_ID = "webhook-id"
WEBHOOK_TIMESTAMP = "webhook-timestamp"
WEBHOOK_SIGNATURE = "webhook-signature"

_IPAI = (TIMESTAMP, SIGNATURE, KEY)
_WEBHOOK = (WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE)
_NAMES = frozenset({*_IPAI, *_WEBHOOK, INSTANCE, SEQUENCE})
_MAX_VALUE = 4096

# ASCII digits only (`\d` takes those of every script), and fullmatch, so that no line feed passes at the end.
_TIMESTAMP = re.compile(r"[0-9]{1,16}")
_SECONDS = re.compile(r"[0-9]{1,11}")
_HEX = re.compile(r"[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_INSTANCE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Verified:
    """What is known of a request once it is verified.

    `id`: the event's. `timestamp_ms`: when it was signed. `secret_index`: which of the active secrets signed it.
    `standard`: the Standard Webhooks headers were there and hold, so the id is the one that was signed.
    """

    id: UUID
    timestamp_ms: int
    secret_index: int
    standard: bool


def ipai_signature(body: bytes, timestamp: str, secret: Secret) -> str:
    """The value of `x-ipai-signature` for this body and this timestamp, as sent."""
    mac = secret.text_mac()
    mac.update(timestamp.encode() + b".")
    mac.update(body)  # apart, so that a large body is not copied
    return mac.hexdigest()


def _webhook_signature(body: bytes, id: str, timestamp: str, mac: hmac.HMAC) -> str:
    mac.update(f"{id}.{timestamp}.".encode())
    mac.update(body)
    return base64.b64encode(mac.digest()).decode()


def sign(
    body: bytes,
    *,
    id: UUID | str,
    timestamp_ms: int,
    secret: Secret,
    sequence: int | None = None,
    instance: str = "default",
) -> dict[str, str]:
    """The headers of one attempt, names in lower case: exactly those that the relay sends.

    `timestamp_ms`: now, in milliseconds since the epoch; take it afresh for every attempt.
    Raises `HeaderMalformed` for a value that no header may have.
    """
    key = str(id)
    timestamp = str(timestamp_ms)
    if not isinstance(body, bytes):
        raise SignatureError(f"the body must be bytes, not {type(body).__name__}: sign what is sent, untouched")
    if not isinstance(id, UUID) and not _UUID.fullmatch(key):
        raise HeaderMalformed(f"{KEY} must be a UUID in its form with hyphens")
    if type(timestamp_ms) is not int or not 10**11 <= timestamp_ms < 10**14:
        raise HeaderMalformed(f"{TIMESTAMP} must be milliseconds since the epoch, 12 to 14 digits")
    if not isinstance(instance, str) or not _INSTANCE.fullmatch(instance):
        raise HeaderMalformed(f"{INSTANCE} must be 1 to 63 of a-z, 0-9, '_' and '-'")
    headers = {
        "content-type": "application/json",
        TIMESTAMP: timestamp,
        SIGNATURE: ipai_signature(body, timestamp, secret),
        KEY: key,
        INSTANCE: instance,
    }
    if sequence is not None:
        if not isinstance(sequence, int) or sequence < 1:
            raise HeaderMalformed(f"{SEQUENCE} must be a whole number from 1")
        headers[SEQUENCE] = str(int(sequence))
    mac = secret.key_mac()
    if mac is not None:
        seconds = timestamp[:-3]
        headers[WEBHOOK_ID] = key
        headers[WEBHOOK_TIMESTAMP] = seconds
        headers[WEBHOOK_SIGNATURE] = "v1," + _webhook_signature(body, key, seconds, mac)
    return headers


def verify(
    body: bytes,
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    secrets: Sequence[Secret],
    *,
    now_ms: int,
    tolerance_ms: int = REPLAY_WINDOW_MS,
) -> Verified:
    """What is known of a request that one of `secrets` signed for this raw body, `tolerance_ms` ago or ahead at most.

    Header names in any case; headers that are not the contract's are passed over. Whatever the headers hold, only the
    family of `SignatureError` is raised: `HeaderMissing`, `HeaderMalformed`, `TimestampStale`, `SignatureMismatch`,
    `IdMismatch`; the class itself if there is nothing to verify with. No text of a header is repeated in an error.
    """
    if not isinstance(body, (bytes, bytearray)):
        raise SignatureError(f"the body must be the raw bytes that came in, not {type(body).__name__}")
    if not secrets:
        raise SignatureError("there is no active secret, so no request can be trusted: set one")
    given = _contract_headers(headers)
    standard = any(name in given for name in _WEBHOOK)
    for name in (*_IPAI, *_WEBHOOK) if standard else _IPAI:
        if name not in given:
            others = "; the headers of Standard Webhooks are sent all three or not at all" if name in _WEBHOOK else ""
            raise HeaderMissing(f"{name} is missing{others}: send every header that `ipai-bridge sign` prints")
    if not _UUID.fullmatch(given[KEY]):
        raise HeaderMalformed(f"{KEY} must be a UUID in its form with hyphens")
    timestamp_ms = _fresh(TIMESTAMP, given[TIMESTAMP], _TIMESTAMP, now_ms, tolerance_ms)
    if not _HEX.fullmatch(given[SIGNATURE]):
        raise HeaderMalformed(f"{SIGNATURE} must be 64 hexadecimal digits, in lower case")
    index = _signed_by(body, given[TIMESTAMP], given[SIGNATURE], secrets)
    if index is None:
        raise SignatureMismatch(
            f"no active secret ({len(secrets)}) made {SIGNATURE} for these {len(body)} bytes: "
            "sign the raw body untouched, with the secret that both sides hold"
        )
    if standard:
        _check_webhook(body, given, secrets, now_ms, tolerance_ms)
    return Verified(UUID(given[KEY]), timestamp_ms, index, standard)


def _contract_headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    """The headers of the contract by their names in lower case, each once and of printable ASCII."""
    pairs: object = headers.items() if hasattr(headers, "items") else headers
    if not isinstance(pairs, Iterable):
        raise HeaderMalformed(f"the headers must be a mapping or pairs, not {type(headers).__name__}")
    given: dict[str, str] = {}
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise HeaderMalformed("the headers must be pairs of a name and a value")
        name, value = pair
        if not isinstance(name, str):
            raise HeaderMalformed(f"a header's name must be text, not {type(name).__name__}")
        # Not before it is known to be ASCII: the Kelvin sign, for one, becomes a "k" in lower case.
        name = name.lower() if name.isascii() else ""
        if name not in _NAMES:
            continue
        if name in given:
            raise HeaderMalformed(f"{name} is there twice, so it is not clear which one counts")
        if not isinstance(value, str):
            raise HeaderMalformed(f"{name} must be text, not {type(value).__name__}")
        if len(value) > _MAX_VALUE or not value.isascii() or not value.isprintable():
            raise HeaderMalformed(f"{name} must be printable ASCII, at most {_MAX_VALUE} characters")
        given[name] = value
    return given


def _fresh(name: str, value: str, form: re.Pattern[str], now_ms: int, tolerance_ms: int) -> int:
    """The timestamp in milliseconds; one of fewer than 12 digits is in seconds."""
    if not form.fullmatch(value):
        raise HeaderMalformed(f"{name} must be decimal digits: {_unit(name)} since the epoch")
    timestamp_ms = int(value) * 1000 if len(value) < 12 else int(value)
    away = timestamp_ms - now_ms
    if abs(away) > tolerance_ms:
        raise TimestampStale(
            f"{name} is {abs(away) / 1000:,.0f} s {'ahead of' if away > 0 else 'behind'} the clock here, and "
            f"{tolerance_ms / 1000:g} s is the most: sign each attempt afresh, and set both clocks by NTP"
        )
    return timestamp_ms


def _unit(name: str) -> str:
    return "seconds" if name == WEBHOOK_TIMESTAMP else "milliseconds"


def _signed_by(body: bytes, timestamp: str, signature: str, secrets: Sequence[Secret]) -> int | None:
    """The index of the first secret that made the signature. Tries all, so that the time taken tells nothing."""
    given = signature.encode()
    found: int | None = None
    for index, secret in enumerate(secrets):
        holds = hmac.compare_digest(ipai_signature(body, timestamp, secret).encode(), given)
        if holds and found is None:
            found = index
    return found


def _check_webhook(
    body: bytes, given: Mapping[str, str], secrets: Sequence[Secret], now_ms: int, tolerance_ms: int
) -> None:
    # As text, not as UUIDs: the text is what was signed, and only one way of writing it is ever sent.
    if not hmac.compare_digest(given[WEBHOOK_ID].encode(), given[KEY].encode()):
        raise IdMismatch(f"{KEY} and {WEBHOOK_ID} are not the same: the request was put together from two")
    _fresh(WEBHOOK_TIMESTAMP, given[WEBHOOK_TIMESTAMP], _SECONDS, now_ms, tolerance_ms)
    # A list, for rotation. What is of another version or malformed is passed over: it must not break the others.
    entries = [entry[3:].encode() for entry in given[WEBHOOK_SIGNATURE].split(" ") if entry.startswith("v1,")]
    if not entries:
        raise HeaderMalformed(f"{WEBHOOK_SIGNATURE} must hold a signature of the form v1,<base64>")
    holds = False
    for secret in secrets:
        mac = secret.key_mac()
        if mac is None:
            continue
        expected = _webhook_signature(body, given[WEBHOOK_ID], given[WEBHOOK_TIMESTAMP], mac).encode()
        for entry in entries:
            holds |= hmac.compare_digest(expected, entry)
    if not holds:
        raise SignatureMismatch(
            f"no active secret made {WEBHOOK_SIGNATURE} for this id, timestamp and body: "
            "was the idempotency key changed on the way, or is the secret not of the form whsec_<base64>?"
        )
