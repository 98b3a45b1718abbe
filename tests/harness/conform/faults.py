"""Receivers that work, each with exactly one fault, and the cases that must say so: no more, no fewer."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from tests.harness.conform.receiver import Faultless, Refused

FAULTS: dict[type[Faultless], set[str]] = {}
Fault = type[Faultless]


def cases(group: str, names: str) -> set[str]:
    return {f"{group}/{name}" for name in names.split()}


def found_by(*sets: set[str]) -> Callable[[Fault], Fault]:
    def register(fault: Fault) -> Fault:
        FAULTS[fault] = set[str]().union(*sets)
        return fault

    return register


# --- who sent it, and when


@found_by(
    cases("signature", "zeros other-body one-space-more stranger decoded-key body-alone no-dot plain-hash"),
    cases("timestamp", "changed seconds-signed-as-milliseconds"),
)
class SignatureNotChecked(Faultless):
    def holds(self, timestamp: str, signature: str, body: bytes) -> bool:
        return True


@found_by(cases("timestamp", "past-outside future-outside"))
class WindowOf50Minutes(Faultless):
    window_s = 3000.0


@found_by(cases("timestamp", "past-inside future-inside"))
class WindowOf4Minutes(Faultless):
    window_s = 240.0


@found_by(cases("timestamp", "past-outside hour-old seconds-old"), {"standard-webhooks/stale"})
class OldIsNotStale(Faultless):
    def is_fresh(self, seconds: float) -> bool:
        return seconds - time.time() <= self.window_s


@found_by(cases("timestamp", "changed"))
class NeighbouringTimestampsTried(Faultless):
    """The signature need not be of the timestamp that came with it."""

    def holds(self, timestamp: str, signature: str, body: bytes) -> bool:
        holds, at = super().holds, int(timestamp)
        return any(holds(str(one), signature, body) for one in (at, at - 1))


@found_by({"signature/body-alone"})
class BodyAloneTakenToo(Faultless):
    def holds(self, timestamp: str, signature: str, body: bytes) -> bool:
        alone = [hmac.digest(secret.encode(), body, hashlib.sha256).hex() for secret in self.secrets()]
        return super().holds(timestamp, signature, body) or signature in alone


@found_by({"timestamp/seconds"})
class SecondsRefused(Faultless):
    def seconds(self, timestamp: str) -> float:
        return int(timestamp) / 1000


@found_by(cases("timestamp", "seconds seconds-signed-as-milliseconds"))
class SecondsSignedAsMilliseconds(Faultless):
    def signed(self, timestamp: str, body: bytes) -> bytes:
        return (timestamp if len(timestamp) >= 12 else timestamp + "000").encode() + b"." + body


@found_by({"signature/old-secret", "standard-webhooks/old-secret"})
class OldSecretRefused(Faultless):
    def secrets(self) -> list[str]:
        return self.server.secrets[:1]


@found_by({"signature/upper-case"})
class UpperCaseTaken(Faultless):
    def one(self, name: str) -> str | None:
        value = super().one(name)
        return value.lower() if value and name == "x-ipai-signature" else value


@found_by({"signature/twice-right-first", "timestamp/twice", "key/twice"})
class FirstOfTwo(Faultless):
    def one(self, name: str) -> str | None:
        return self.headers.get(name)


@found_by({"signature/twice-right-last"})
class LastSignatureOfTwo(Faultless):
    def one(self, name: str) -> str | None:
        values = self.headers.get_all(name, [])
        return values[-1] if name == "x-ipai-signature" and values else super().one(name)


@found_by({"signature/decoded-key"})
class DecodedKeyTakenToo(Faultless):
    def holds(self, timestamp: str, signature: str, body: bytes) -> bool:
        signed = self.signed(timestamp, body)
        keys = [base64.b64decode(secret[6:]) for secret in self.secrets()]
        decoded = [hmac.digest(key, signed, hashlib.sha256).hex() for key in keys]
        return super().holds(timestamp, signature, body) or signature in decoded


@found_by({"gateway/no-jwt"})
class GatewayWantsAToken(Faultless):
    """As the platform with verify_jwt on."""

    def do(self) -> None:
        if self.headers.get("authorization"):
            super().do()
        else:
            self.read()
            self.answer(401, {"code": 401, "message": "Missing authorization header"})

    do_POST = do


@found_by(cases("gateway", "jwt-for-signature"), {"standard-webhooks/alone", "signature/missing"})
class TokenInPlaceOfSignature(Faultless):
    def check_signature(self, body: bytes) -> None:
        token = self.headers.get("authorization", "")
        if "x-ipai-signature" in self.headers or token.count(".") < 2 or token.endswith("."):
            super().check_signature(body)
        else:
            self.headers["x-ipai-signature"] = hashlib.sha256(body).hexdigest()


# --- how often, under which id


@found_by(cases("key", "same-body same-request other-body at-once upper-case"))
class NoDedupe(Faultless):
    def same_event(self, instance: str, key: str, body: bytes) -> Any:
        return len(self.server.events)


@found_by(cases("key", "other-body new-key-same-body"))
class DedupeByBody(Faultless):
    def same_event(self, instance: str, key: str, body: bytes) -> Any:
        return hashlib.sha256(body).digest()


@found_by({"key/new-key-same-body"})
class OneIdForAll(Faultless):
    def store(self, instance: str, key: str, body: bytes) -> dict[str, Any]:
        return {**super().store(instance, key, body), "id": 1}


@found_by({"key/at-once"})
class LooksFirstAndWritesLater(Faultless):
    """As two statements without a unique constraint do."""

    def store(self, instance: str, key: str, body: bytes) -> dict[str, Any]:
        seen = (instance, key) in self.server.events
        time.sleep(0.1)
        return {**super().store(instance, key, body), "duplicate": seen}


@found_by(cases("key", "same-body same-request other-body at-once upper-case"))
class DuplicateIsAConflict(Faultless):
    def store(self, instance: str, key: str, body: bytes) -> dict[str, Any]:
        stored = super().store(instance, key, body)
        if stored["duplicate"]:
            raise Refused(409, "conflict")
        return stored


@found_by({"key/upper-case"})
class KeyAsText(Faultless):
    def key(self) -> str:
        super().key()
        return str(self.one("x-idempotency-key"))


@found_by({"key/replay-new-key"})
class ReplayUnderANewKey(Faultless):
    def signed_for(self, instance: str, key: str) -> tuple[str, str]:
        return instance, ""


@found_by({"key/replay-new-instance"})
class ReplayUnderANewInstance(Faultless):
    def signed_for(self, instance: str, key: str) -> tuple[str, str]:
        return "", key


@found_by(cases("key", "not-a-uuid quoted"))
class AnyKey(Faultless):
    def key(self) -> str:
        key = self.one("x-idempotency-key")
        if not key:
            raise Refused(400, "missing_idempotency_key")
        return key.lower()


@found_by(
    cases(
        "standard-webhooks", "other-id wrong-signature text-key no-webhook-id no-webhook-timestamp stale milliseconds"
    ),
    {"standard-webhooks/no-webhook-signature"},
)
class StandardWebhooksIgnored(Faultless):
    """A replay under a new key is still noticed, by the signature that was seen before."""

    def check_standard(self, body: bytes, key: str) -> None:
        """Not looked at."""


@found_by({"standard-webhooks/other-id"})
class IdsNotCompared(Faultless):
    def check_standard(self, body: bytes, key: str) -> None:
        super().check_standard(body, (self.one("webhook-id") or key).lower())


# --- what it says


@found_by({"body/bom"})
class ByteOrderMarkTaken(Faultless):
    def text(self, body: bytes) -> str:
        return body.decode("utf-8-sig")

    def check_text(self, body: bytes) -> None:
        super().check_text(body.removeprefix(b"\xef\xbb\xbf"))


@found_by(
    cases("body", "escaped spaced numbers surrogate huge-number bom utf-16"),
    {"field/twice", "signature/one-space-more"},
)
class Reserialised(Faultless):
    """Parses first, and verifies what it writes of that, as a framework that hides the raw body makes one do."""

    def signed(self, timestamp: str, body: bytes) -> bytes:
        with contextlib.suppress(ValueError, RecursionError):
            body = json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False).encode("utf-8", "ignore")
        return super().signed(timestamp, body)


@found_by({"body/one-mebibyte"})
class OneMebibyteRefused(Faultless):
    limit = 1_000_000


@found_by(cases("body", "over-limit twice-limit"))
class NoLimit(Faultless):
    limit = 2**40


@found_by({"field/extra"})
class ExtraFieldTaken(Faultless):
    def check_keys(self, event: Any) -> None:
        if not isinstance(event, dict):
            raise ValueError
        event.pop("user_id", None)
        super().check_keys(event)


@found_by({"field/twice"})
class LastKeyOfTwo(Faultless):
    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return dict(pairs)


@found_by({"field/aggregate_id-type"})
class NumberAsId(Faultless):
    def check_types(self, event: dict[str, Any]) -> None:
        super().check_types({**event, "aggregate_id": str(event["aggregate_id"] or "")})


@found_by(cases("body", "nul surrogate"))
class TextNotLookedAt(Faultless):
    def check_text(self, body: bytes) -> None:
        """Not looked at."""


@found_by({"body/nan"})
class NanTaken(Faultless):
    def parse(self, body: bytes) -> Any:
        return json.loads(self.text(body), object_pairs_hook=self.pairs)


@found_by(cases("http", "no-content-type text form json-like latin-1"))
class AnyContentType(Faultless):
    def is_json(self, kinds: list[str]) -> bool:
        return True


@found_by(cases("http", "utf-8 upper-case"))
class OneSpellingOfJson(Faultless):
    def is_json(self, kinds: list[str]) -> bool:
        return kinds == ["application/json"]


@found_by(cases("hints", "sequence-zero sequence-word sequence-huge"))
class AnySequence(Faultless):
    def sequence(self) -> None:
        """Not looked at."""


@found_by({"http/get"})
class GetShowsAPage(Faultless):
    def do(self) -> None:
        if self.command == "GET":
            self.answer(200, {"status": "up"})
        else:
            super().do()

    do_GET = do
