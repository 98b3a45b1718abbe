"""Cases: how often and under which id. Idempotency key, Standard Webhooks, instance and sequence."""

from __future__ import annotations

import base64
from collections.abc import Callable

from ipai_bridge.signing import (
    INSTANCE,
    KEY,
    SEQUENCE,
    SIGNATURE,
    TIMESTAMP,
    WEBHOOK_ID,
    WEBHOOK_SIGNATURE,
    WEBHOOK_TIMESTAMP,
)
from ipai_harness.conform.case import Build, Case, Need, Table
from ipai_harness.conform.shot import (
    AGAIN,
    MALFORMED,
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
)

AT_ONCE = 10
HOUR_S = 3_600


def key() -> list[Case]:
    """x-idempotency-key: the event's id, the same on every attempt."""
    table = Table("key")
    once = "200 duplicate:true for a key seen before: an event takes effect once, however often it is sent"
    replay = "a given signature is accepted once, whatever the key: a captured request is not a new event"

    def again(bench: Bench) -> list[Shot]:
        name, body = bench.number(), bench.event()
        return [Shot(NEW, name, body, shift_ms=-1000), Shot(AGAIN, name, body)]

    def other_body(bench: Bench) -> list[Shot]:
        name = bench.number()
        return [Shot(NEW, name, bench.event()), Shot(AGAIN, name, bench.event())]

    def other_key(bench: Bench) -> list[Shot]:
        body = bench.event()
        new = Expect((200,), duplicate=False, other_id=True)
        return [Shot(NEW, bench.number(), body, shift_ms=-1000), Shot(new, bench.number(), body)]

    def upper(bench: Bench) -> list[Shot]:
        name, body = "abcdef" + bench.number()[6:], bench.event()
        same = Expect((200, 400), duplicate=True, same_id=True)
        return [Shot(NEW, name, body, shift_ms=-1000), Shot(same, name.upper(), body)]

    def replayed(expect: Expect, *, standard: bool = False, **edits: str) -> Build:
        names = {"key": KEY, "instance": INSTANCE}

        def build(bench: Bench) -> list[Shot]:
            values = {"key": bench.number(), "instance": f"{bench.instance}-2"}
            changed: dict[str, Edit] = {names[name]: Put(values[name]) for name in edits}
            first = Shot(NEW, bench.number(), bench.event(), standard=standard)
            return [first, Shot(expect, "", again=0, edits=changed)]

        return build

    table.add("new", "a new key", "200 duplicate:false", lambda bench: [Shot(NEW, bench.number(), bench.event())])
    table.add("same-body", "the same key and body, signed afresh", once, again)
    table.add(
        "same-request", "the very same request again", once,
        lambda bench: [Shot(NEW, bench.number(), bench.event()), Shot(AGAIN, "", again=0)],
    )  # fmt: skip
    table.add("other-body", "the same key with another body", once, other_body)
    table.add(
        "new-key-same-body", "the same body under a new key, signed afresh",
        "the key says which event it is, not the body: the same thing may happen twice", other_key,
    )  # fmt: skip
    table.add(
        "at-once", f"the same request {AT_ONCE} times at once", f"{once}: also when they arrive together",
        lambda bench: [Shot(Expect((200,), one_new=True), bench.number(), bench.event(), times=AT_ONCE)],
    )  # fmt: skip
    table.add("upper-case", "the same key in upper case", "a UUID is the same in upper case; or it is refused", upper)
    table.add("replay-new-key", "a captured request under a new key", replay, replayed(UNTRUSTED, key=""))
    table.add(
        "replay-new-instance", "a captured request under another instance", replay, replayed(UNTRUSTED, instance="")
    )  # fmt: skip
    table.add(
        "replay-standard", "a captured request with webhook-id under a new x-idempotency-key",
        "a receiver that sees Standard Webhooks headers demands that the two ids agree",
        replayed(UNREADABLE, standard=True, key=""), Need.STANDARD,
    )  # fmt: skip
    for name, sent, edit in (
        ("missing", "no x-idempotency-key", Drop()),
        ("empty", "an empty x-idempotency-key", Put("")),
        ("not-a-uuid", "42 as the key", Put("42")),
        ("quoted", "a key with SQL in it", Put("' or 1=1 --")),
    ):
        table.add(name, sent, "400 malformed: x-idempotency-key is a UUID", _one(MALFORMED, {KEY: edit}))
    table.add(
        "twice", "two different keys", "a header that comes twice has no value: which of them is the event's?",
        _one(UNREADABLE, {KEY: Twice(None, "019b76da-a87b-7000-8000-00000000abcd")}),
    )  # fmt: skip
    return table.cases


def _one(expect: Expect, edits: dict[str, Edit], *, standard: bool = False, signer: Signer = Signer.FIRST) -> Build:
    return lambda bench: [
        Shot(expect, bench.number(), bench.event(), edits=edits, standard=standard, signer=signer)
    ]  # fmt: skip


def standard() -> list[Case]:
    """webhook-id, webhook-timestamp, webhook-signature: all three or none; where they are, they must hold."""
    table = Table("standard-webhooks")
    hold = "a receiver that sees Standard Webhooks headers demands that they hold"
    agree = "a receiver that sees Standard Webhooks headers demands that the two ids agree"
    table.add("absent", "none of the three", "x-ipai-signature alone is enough", _one(NEW, {}))
    table.add("right", "all three, right", hold, _one(NEW, {}, standard=True), Need.STANDARD)
    table.add(
        "old-secret", "all three, with the old secret of a rotation", "every active secret is tried",
        _one(NEW, {}, standard=True, signer=Signer.OLD), Need.STANDARD, Need.ROTATION,
    )  # fmt: skip
    table.add(
        "several", "the right signature among others", "a list of signatures: others do not break it",
        _one(NEW, {WEBHOOK_SIGNATURE: _signature("v1a,AAAA v1,!! v1,{zeros} {right}")}, standard=True), Need.STANDARD,
    )  # fmt: skip
    table.add(
        "other-id", "a webhook-id other than the key, with its own right signature", agree, _other_id, Need.STANDARD
    )  # fmt: skip
    table.add(
        "wrong-signature", "a webhook-signature of zeros", hold,
        _one(UNTRUSTED, {WEBHOOK_SIGNATURE: _signature("v1,{zeros}")}, standard=True), Need.STANDARD,
    )  # fmt: skip
    table.add(
        "text-key", "webhook-signature keyed with the secret's text", "its key is what follows whsec_, decoded",
        _one(UNTRUSTED, {WEBHOOK_SIGNATURE: _with_text_key()}, standard=True), Need.STANDARD,
    )  # fmt: skip
    for name in (WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE):
        table.add(
            f"no-{name}", f"the other two without {name}", "Standard Webhooks headers come all three or not at all",
            _one(UNREADABLE, {name: Drop()}, standard=True), Need.STANDARD,
        )  # fmt: skip
    table.add(
        "stale", "a webhook-timestamp an hour old, with its right signature", hold,
        _webhook_time(UNTRUSTED, lambda ms: str(ms // 1000 - HOUR_S)), Need.STANDARD,
    )  # fmt: skip
    table.add(
        "milliseconds", "a webhook-timestamp in milliseconds, with its right signature",
        "webhook-timestamp is in seconds", _webhook_time(UNREADABLE, str), Need.STANDARD,
    )  # fmt: skip
    table.add(
        "alone", "the three without x-ipai-timestamp and x-ipai-signature", "they come on top of x-ipai-signature",
        _one(UNTRUSTED, {TIMESTAMP: Drop(), SIGNATURE: Drop()}, standard=True), Need.STANDARD,
    )  # fmt: skip
    return table.cases


def _with_text_key() -> Made:
    def make(s: Signing) -> str:
        digest = s.digest(s.text(), f"{s.id}.{_seconds_of(s.timestamp)}.".encode() + s.body)
        return "v1," + base64.b64encode(digest).decode()

    return Made(make)


def _signature(form: str) -> Made:
    zeros = "A" * 43 + "="
    return Made(lambda s: form.format(zeros=zeros, right=s.standard(_seconds_of(s.timestamp))))


def _seconds_of(timestamp: str) -> str:
    return timestamp[:-3]


def _other_id(bench: Bench) -> list[Shot]:
    other = bench.number()
    edits: dict[str, Edit] = {
        WEBHOOK_ID: Put(other),
        WEBHOOK_SIGNATURE: Made(lambda s: s.standard(_seconds_of(s.timestamp), other)),
    }
    return [Shot(UNREADABLE, bench.number(), bench.event(), standard=True, edits=edits)]


def _webhook_time(expect: Expect, stamp: Callable[[int], str]) -> Build:
    edits: dict[str, Edit] = {
        WEBHOOK_TIMESTAMP: Made(lambda s: stamp(int(s.timestamp))),
        WEBHOOK_SIGNATURE: Made(lambda s: s.standard(stamp(int(s.timestamp)))),
    }
    return _one(expect, edits, standard=True)


def hints() -> list[Case]:
    """x-ipai-instance and x-ipai-sequence: not among the signed bytes, so all the more to be looked at."""
    table = Table("hints")
    whole = (
        "x-ipai-sequence is a dense number per aggregate (1, 2, 3 …): anything else is malformed, and crashes nothing"
    )
    table.add(
        "sequence", "the first event of a record, as number 1", "x-ipai-sequence: given by the relay",
        _one(NEW, {SEQUENCE: Put("1")}),
    )  # fmt: skip
    for name, value in (("zero", "0"), ("word", "first"), ("huge", "9" * 30)):
        table.add(f"sequence-{name}", f"{value} as the sequence", whole, _one(MALFORMED, {SEQUENCE: Put(value)}))
    table.add(
        "instance-form", "an instance with a space and a quote in its name",
        "x-ipai-instance is 1 to 63 of a-z, 0-9, '_' and '-': anything else is malformed",
        lambda bench: [
            Shot(MALFORMED, bench.number(), bench.event(), edits={INSTANCE: Put(f"{bench.instance} '")})
        ],
    )  # fmt: skip
    return table.cases
