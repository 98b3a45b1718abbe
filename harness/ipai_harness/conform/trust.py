"""Cases: who sent it, and when. Gateway, signature, timestamp."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import datetime, timezone

from ipai_bridge.signing import REPLAY_WINDOW_MS, SIGNATURE, TIMESTAMP
from ipai_harness.conform.case import Case, Need, Table
from ipai_harness.conform.shot import (  # fmt: skip
    NEW,
    UNREADABLE,
    UNTRUSTED,
    Bench,
    Drop,
    Edit,
    Expect,
    Made,
    Put,
    Shot,
    Signer,
    Signing,
    Twice,
    Upper,
)

HOUR_MS = 3_600_000
ZEROS = "0" * 64


def _edited(expect: Expect, **edits: Edit) -> Callable[[Bench], list[Shot]]:
    named = {{"signature": SIGNATURE, "timestamp": TIMESTAMP}.get(name, name): edit for name, edit in edits.items()}
    return lambda bench: [Shot(expect, bench.number(), bench.event(), edits=named)]


def _signed_at(expect: Expect, shift: Callable[[Bench], int]) -> Callable[[Bench], list[Shot]]:
    return lambda bench: [Shot(expect, bench.number(), bench.event(), shift_ms=shift(bench))]


def _stamped(expect: Expect, stamp: Callable[[int], str], shift_ms: int = 0) -> Callable[[Bench], list[Shot]]:
    return lambda bench: [Shot(expect, bench.number(), bench.event(), shift_ms=shift_ms, stamp=stamp)]


def gateway() -> list[Case]:
    """The platform's own check of tokens must neither stand in the way nor take the place of the signature."""
    table = Table("gateway")
    table.add(
        "no-jwt", "a good event without an authorization header",
        "the sender has no JWT: the gateway must let it through to the function (verify_jwt = false)",
        lambda bench: [Shot(NEW, bench.number(), bench.event(), jwt=False)],
    )  # fmt: skip
    table.add(
        "jwt", "a good event with a JWT that the gateway takes", "a token that is not asked for changes nothing",
        lambda bench: [Shot(NEW, bench.number(), bench.event())], Need.JWT,
    )  # fmt: skip
    table.add(
        "jwt-for-signature", "an event with a good JWT and without a signature",
        "a JWT says who may call, not who signed: without a signature it is 401",
        lambda bench: [Shot(UNTRUSTED, bench.number(), bench.event(), edits={SIGNATURE: Drop()})], Need.JWT,
    )  # fmt: skip
    forged = "Bearer " + ".".join([base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode(), "e30", ""])
    table.add(
        "forged-jwt", "an event with a JWT that nobody signed, and without a signature",
        "a JWT says who may call, not who signed: without a signature it is 401",
        lambda bench: [
            Shot(
                Expect((401,), gateway=True), bench.number(), bench.event(),
                edits={SIGNATURE: Drop(), "authorization": Put(forged)},
            )
        ],
    )  # fmt: skip
    return table.cases


def signature() -> list[Case]:
    """x-ipai-signature: HMAC-SHA256(secret, timestamp + "." + raw body), 64 lower-case hexadecimal digits."""
    table = Table("signature")
    rule = 'x-ipai-signature is HMAC-SHA256(secret, timestamp + "." + raw body)'
    form = "x-ipai-signature is 64 lower-case hexadecimal digits, and nothing else"
    table.add(
        "missing", "no x-ipai-signature", "401: bad or stale signature", _edited(UNTRUSTED, signature=Drop())
    )  # fmt: skip
    table.add("zeros", "64 zeros", rule, _edited(UNTRUSTED, signature=Put(ZEROS)))
    table.add(
        "other-body", "the signature of another body", "the signature covers the raw body: an altered one is refused",
        lambda bench: [
            Shot(
                UNTRUSTED, bench.number(), bench.event(payload={"amount": 900}),
                edits={SIGNATURE: Made(lambda s: _over(s, s.timestamp.encode() + b"." + s.body.replace(b"900", b"1")))},
            )
        ],
    )  # fmt: skip
    table.add(
        "one-space-more", "a body to which a space was added after it was signed",
        "what is signed is the raw body, not what it means",
        lambda bench: [
            Shot(
                UNTRUSTED, bench.number(), bench.event() + b" ",
                edits={SIGNATURE: Made(lambda s: _over(s, s.timestamp.encode() + b"." + s.body[:-1]))},
            )
        ],
    )  # fmt: skip
    table.add(
        "stranger", "signed with a secret that the receiver has not", rule,
        lambda bench: [Shot(UNTRUSTED, bench.number(), bench.event(), signer=Signer.STRANGER)],
    )  # fmt: skip
    table.add(
        "old-secret", "signed with the old secret of a rotation", "every active secret is tried, the new and the old",
        lambda bench: [Shot(NEW, bench.number(), bench.event(), signer=Signer.OLD)], Need.ROTATION,
    )  # fmt: skip
    table.add("upper-case", "the right digits in upper case", form, _edited(UNREADABLE, signature=Upper()))
    table.add("empty", "an empty x-ipai-signature", form, _edited(UNREADABLE, signature=Put("")))
    table.add(
        "base64", "the right signature in base64", form,
        _edited(UNREADABLE, signature=Made(lambda s: base64.b64encode(bytes.fromhex(s.right())).decode())),
    )  # fmt: skip
    table.add(
        "prefixed", "the right digits after sha256=", form,
        _edited(UNREADABLE, signature=Made(lambda s: "sha256=" + s.right())),
    )  # fmt: skip
    table.add(
        "half", "the first 32 of the right digits", form,
        _edited(UNREADABLE, signature=Made(lambda s: s.right()[:32])),
    )  # fmt: skip
    table.add(
        "longer", "the right digits and two more", form,
        _edited(UNREADABLE, signature=Made(lambda s: s.right() + "00")),
    )  # fmt: skip
    table.add(
        "decoded-key", "signed with what follows whsec_, decoded", "the key of x-ipai-signature is the secret's text",
        _edited(UNTRUSTED, signature=Made(lambda s: s.digest(s.key(), s.timestamp.encode() + b"." + s.body).hex())),
        Need.STANDARD,
    )  # fmt: skip
    table.add(
        "body-alone", "the signature of the body without the timestamp", rule,
        _edited(UNTRUSTED, signature=Made(lambda s: _over(s, s.body))),
    )  # fmt: skip
    table.add(
        "no-dot", "the signature of timestamp and body without the dot", rule,
        _edited(UNTRUSTED, signature=Made(lambda s: _over(s, s.timestamp.encode() + s.body))),
    )  # fmt: skip
    table.add(
        "plain-hash", "SHA-256 of secret, timestamp and body in place of the HMAC", rule,
        _edited(
            UNTRUSTED,
            signature=Made(lambda s: hashlib.sha256(s.text() + s.timestamp.encode() + b"." + s.body).hexdigest()),
        ),
    )  # fmt: skip
    twice = "a header that comes twice has no value: which of them was signed?"
    table.add(
        "twice-right-first", "the right signature, then 64 zeros", twice,
        _edited(UNREADABLE, signature=Twice(None, ZEROS)),
    )  # fmt: skip
    table.add(
        "twice-right-last", "64 zeros, then the right signature", twice,
        _edited(UNREADABLE, signature=Twice(ZEROS, None)),
    )  # fmt: skip
    return table.cases


def _over(signing: Signing, signed: bytes) -> str:
    return signing.digest(signing.text(), signed).hex()


def timestamp() -> list[Case]:
    """x-ipai-timestamp: milliseconds since the epoch, decimal, within 5 minutes on either side; seconds are taken."""
    table = Table("timestamp")
    window = "refuses a timestamp more than 5 minutes away on either side"
    form = "x-ipai-timestamp is decimal digits: milliseconds since the epoch"
    table.add("missing", "no x-ipai-timestamp", "401: bad or stale signature", _edited(UNTRUSTED, timestamp=Drop()))
    for name, sign in (("past", -1), ("future", 1)):
        where = "old" if sign < 0 else "ahead"

        def inside(bench: Bench, sign: int = sign) -> int:
            return sign * (REPLAY_WINDOW_MS - bench.margin_ms)

        def outside(bench: Bench, sign: int = sign) -> int:
            return sign * (REPLAY_WINDOW_MS + bench.margin_ms)

        table.add(f"{name}-inside", f"signed almost 5 minutes {where}", window, _signed_at(NEW, inside))
        table.add(f"{name}-outside", f"signed just over 5 minutes {where}", window, _signed_at(UNTRUSTED, outside))
    table.add("hour-old", "signed an hour ago", window, _signed_at(UNTRUSTED, lambda _: -HOUR_MS))
    table.add("day-ahead", "signed for tomorrow", window, _signed_at(UNTRUSTED, lambda _: 24 * HOUR_MS))
    table.add(
        "changed", "a fresh timestamp in place of the one that was signed",
        "the signature covers the timestamp: else a captured request never grows stale",
        _edited(UNTRUSTED, timestamp=Made(lambda s: str(int(s.timestamp) + 1))),
    )  # fmt: skip
    seconds = "accepts a timestamp in seconds too (fewer than 12 digits), signed as it was sent"
    table.add("seconds", "in seconds, signed as sent", seconds, _stamped(NEW, _seconds))
    table.add(
        "seconds-old", "in seconds, an hour old", f"{seconds}; {window}", _stamped(UNTRUSTED, _seconds, -HOUR_MS)
    )  # fmt: skip
    table.add(
        "seconds-signed-as-milliseconds", "in seconds, signed in milliseconds", seconds,
        lambda bench: [
            Shot(
                UNTRUSTED, bench.number(), bench.event(), stamp=_seconds,
                edits={SIGNATURE: Made(lambda s: _over(s, s.timestamp.encode() + b"000." + s.body))},
            )
        ],
    )  # fmt: skip
    garbage: dict[str, tuple[str, Callable[[int], str]]] = {
        "word": ("the word now", lambda _: "now"),
        "empty": ("nothing", lambda _: ""),
        "negative": ("a minus in front", lambda ms: f"-{ms}"),
        "fraction": ("seconds with a fraction", lambda ms: f"{ms / 1000:.3f}"),
        "exponent": ("seconds as 1.7e9", lambda ms: f"{ms / 1000:.9e}"),
        "hexadecimal": ("hexadecimal digits", lambda ms: hex(ms)),
        "date": ("a date of ISO 8601", _date),
        "microseconds": ("microseconds", lambda ms: f"{ms}000"),
        "400-digits": ("400 digits", lambda _: "9" * 400),
    }
    for name, (what, stamp) in garbage.items():
        table.add(name, f"{what} as the timestamp, signed as sent", form, _stamped(UNREADABLE, stamp))
    table.add(
        "twice", "a stale timestamp beside the right one",
        "a header that comes twice has no value: which of them was signed?",
        _edited(UNREADABLE, timestamp=Twice(None, "1767225600123")),
    )  # fmt: skip
    return table.cases


def _seconds(ms: int) -> str:
    return str(ms // 1000)


def _date(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, timezone.utc).isoformat()
