"""What a case is made of: requests as data, and what may be answered. Pure: time and randomness are arguments."""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ipai_bridge.secret import Secret
from ipai_bridge.signing import (
    INSTANCE,
    KEY,
    SIGNATURE,
    TIMESTAMP,
    WEBHOOK_ID,
    WEBHOOK_SIGNATURE,
    WEBHOOK_TIMESTAMP,
    ipai_signature,
)

CONTENT_TYPE = "content-type"
EVENT_TYPE, AGGREGATE_TYPE = "ipai.conform.sent", "ipai.conform"


class Signer(enum.Enum):
    """Whose secret signs."""

    FIRST = "the first secret"
    OLD = "the second secret, the old one of a rotation"
    STRANGER = "a secret that the receiver does not know"


@dataclass(frozen=True)
class Signing:
    """What a signature is made of; for cases that make one otherwise than the contract says."""

    secret: Secret
    timestamp: str
    body: bytes
    id: str

    def right(self) -> str:
        """The value of x-ipai-signature by the contract."""
        return ipai_signature(self.body, self.timestamp, self.secret)

    def digest(self, key: bytes, signed: bytes) -> bytes:
        """HMAC-SHA256 of something else."""
        return hmac.digest(key, signed, hashlib.sha256)

    def key(self) -> bytes:
        """What follows whsec_, decoded; empty for a secret that is not standard."""
        return base64.b64decode(self.secret.reveal()[6:]) if self.secret.is_standard else b""

    def text(self) -> bytes:
        """The secret's text, which is the key of x-ipai-signature."""
        return self.secret.reveal().encode()

    def standard(self, seconds: str, id: str | None = None) -> str:
        """The value of webhook-signature for this time and id; empty for a secret that is not standard."""
        if not self.secret.is_standard:
            return ""
        signed = f"{id or self.id}.{seconds}.".encode() + self.body
        return "v1," + base64.b64encode(self.digest(self.key(), signed)).decode()


@dataclass(frozen=True)
class Drop:
    """The header is left out."""


@dataclass(frozen=True)
class Put:
    """The header has this value."""

    value: str


@dataclass(frozen=True)
class Twice:
    """The header comes twice; None stands for the value that it would have had."""

    first: str | None = None
    second: str | None = None


@dataclass(frozen=True)
class Upper:
    """The value in upper case."""


@dataclass(frozen=True)
class Made:
    """The value is made from what is signed."""

    make: Callable[[Signing], str]


Edit = Drop | Put | Twice | Upper | Made


@dataclass(frozen=True)
class Expect:
    """What may be answered.

    `duplicate`: what a 200 has to say. `same_id`, `other_id`: its id is that of the case's first answer, or is not.
    `one_new`: of several at once exactly one is new. `gateway`: what stands in front may answer as well, in its form.
    `capabilities`: a 200 has the form of GET's.
    """

    statuses: tuple[int, ...]
    duplicate: bool | None = None
    same_id: bool = False
    other_id: bool = False
    one_new: bool = False
    gateway: bool = False
    capabilities: bool = False

    def __str__(self) -> str:
        said = " or ".join(map(str, self.statuses))
        return said if self.duplicate is None else f"{said} duplicate:{str(self.duplicate).lower()}"


NEW = Expect((200,), duplicate=False)
AGAIN = Expect((200,), duplicate=True, same_id=True)
UNTRUSTED = Expect((401,))
UNREADABLE = Expect((400, 401))
"""A header that has not its form: malformed, or not to be trusted; the contract leaves it open which of the two."""
MALFORMED = Expect((400,))
TOO_LARGE = Expect((413,), gateway=True)
NOT_JSON = Expect((415,))


@dataclass(frozen=True)
class Shot:
    """One request: the relay's own, but for what is said here.

    `shift_ms`: how far from now it is signed. `stamp`: the timestamp's text, of the milliseconds; signed as sent.
    `standard`: with the headers of Standard Webhooks. `jwt`: with the gateway's token, where there is one.
    `again`: the request with this number in the case once more, byte for byte but for `edits` (and `body` if given).
    `pause`: seconds between the two halves of the body. `chunked`: without a content-length. `times`: so often at once.
    """

    expect: Expect
    key: str
    body: bytes | None = None
    method: str = "POST"
    shift_ms: int = 0
    stamp: Callable[[int], str] | None = None
    signer: Signer = Signer.FIRST
    standard: bool = False
    jwt: bool = True
    edits: Mapping[str, Edit] = field(default_factory=dict)
    again: int | None = None
    pause: float = 0.0
    chunked: bool = False
    times: int = 1


@dataclass(frozen=True)
class Bench:
    """What a case needs of the world: who signs, under which name, and ids of its own.

    `number` gives a new id on every call; `margin_ms` keeps the edges of the window clear of the way there.
    """

    secrets: tuple[Secret, ...]
    stranger: Secret
    instance: str
    number: Callable[[], str]
    jwt: str | None = field(default=None, repr=False)
    margin_ms: int = 5_000

    def event(self, **changes: Any) -> bytes:
        """A good body, unlike every other, but for `changes`; a change to None of ... leaves the field out."""
        event = {
            "event_type": EVENT_TYPE, "aggregate_type": AGGREGATE_TYPE, "aggregate_id": self.number(),
            "payload": {"name": "conformance", "amount_total": 1150.5},
        } | changes  # fmt: skip
        kept = {name: value for name, value in event.items() if value is not ...}
        return json.dumps(kept, separators=(",", ":"), ensure_ascii=False).encode()

    def raw_event(self, payload: str) -> bytes:
        """A good body with this text as the payload."""
        return self.event(payload=...)[:-1] + b',"payload":' + payload.encode() + b"}"

    def secret(self, signer: Signer) -> Secret:
        """The secret of a signer."""
        return {Signer.FIRST: self.secrets[0], Signer.OLD: self.secrets[-1], Signer.STRANGER: self.stranger}[signer]


@dataclass(frozen=True)
class Request:
    """A request as it is sent; header names in lower case."""

    method: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    pause: float = 0.0
    chunked: bool = False

    def values(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key == name]


def render(shot: Shot, bench: Bench, now_ms: int, before: list[Request]) -> Request:
    """The shot as it is sent now, after the case's earlier requests."""
    secret = bench.secret(shot.signer)
    if shot.again is not None:
        first = before[shot.again]
        body = first.body if shot.body is None else shot.body
        headers = {name: [value] for name, value in first.headers}
    else:
        body = shot.body or b""
        ms = now_ms + shot.shift_ms
        timestamp = shot.stamp(ms) if shot.stamp else str(ms)
        signing = Signing(secret, timestamp, body, shot.key)
        seconds = str(ms // 1000)
        headers = {
            CONTENT_TYPE: ["application/json"], TIMESTAMP: [timestamp], SIGNATURE: [signing.right()], KEY: [shot.key],
            INSTANCE: [bench.instance],
        }  # fmt: skip
        if shot.standard and secret.is_standard:
            standard = {WEBHOOK_ID: shot.key, WEBHOOK_TIMESTAMP: seconds, WEBHOOK_SIGNATURE: signing.standard(seconds)}
            headers |= {name: [value] for name, value in standard.items()}
        if shot.jwt and bench.jwt:
            headers["authorization"] = [f"Bearer {bench.jwt}"]
    signing = Signing(secret, headers.get(TIMESTAMP, [""])[0], body, headers.get(KEY, [shot.key])[0])
    for name, edit in shot.edits.items():
        headers[name] = _edited(edit, headers.get(name, []), signing)
    pairs = tuple((name, value) for name, values in headers.items() for value in values)
    return Request(shot.method, pairs, body, shot.pause, shot.chunked)


def _edited(edit: Edit, values: list[str], signing: Signing) -> list[str]:
    if isinstance(edit, Drop):
        return []
    if isinstance(edit, Put):
        return [edit.value]
    if isinstance(edit, Made):
        return [edit.make(signing)]
    value = values[0] if values else ""
    if isinstance(edit, Upper):
        return [value.upper()]
    return [value if part is None else part for part in (edit.first, edit.second)]
