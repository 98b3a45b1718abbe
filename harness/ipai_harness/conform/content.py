"""Cases: what it says, and how it comes. Body, method, content type, transport."""

from __future__ import annotations

from collections.abc import Callable

from ipai_bridge.event import MAX_BODY, MAX_DEPTH
from ipai_harness.conform.case import Case, Table
from ipai_harness.conform.shot import (
    CONTENT_TYPE,
    MALFORMED,
    NEW,
    NOT_JSON,
    TOO_LARGE,
    Bench,
    Drop,
    Edit,
    Expect,
    Put,
    Shot,
)

FIELDS = ("event_type", "aggregate_type", "aggregate_id", "payload")
SLOW_S = 0.5
HARMLESS = Expect((200, 400, 413))
"""The contract sets no limit here: taken or refused, but answered in its form, and nothing crashes."""


def _padded(bench: Bench, size: int) -> bytes:
    empty = bench.raw_event('{"x":""}')
    return empty.replace(b'"x":""', b'"x":"' + b"y" * (size - len(empty)) + b'"')


def accepted() -> list[Case]:
    """Bodies that every receiver takes: the bytes that were signed count, not how another program would write them."""
    table = Table("body")
    untouched = "what was signed is what is sent: a receiver that writes the JSON anew gets another signature"
    table.body("unicode", "letters of many scripts", "the body is JSON in UTF-8",
               lambda bench: bench.event(aggregate_id="Ünïcode " + bench.number(), payload={"name": "株式会社 😀 ñ"}),
               NEW)  # fmt: skip
    table.body("escaped", "the same letters as \\u escapes", untouched,
               lambda bench: bench.raw_event(r'{"name":"\u682a\ud83d\ude00","slash":"\/"}'), NEW)  # fmt: skip
    table.body("spaced", "spaces around every token and a line feed at the end", untouched,
               lambda bench: bench.event().replace(b",", b" , ").replace(b":", b" : ") + b"\n", NEW)  # fmt: skip
    table.body("numbers", "numbers that a double would write otherwise", untouched,
               lambda bench: bench.raw_event('{"a":1150.00,"b":9007199254740993,"c":1E2,"d":-0.0}'), NEW)  # fmt: skip
    table.body("order", "the four keys in another order", untouched,
               lambda bench: b'{"payload":{},' + bench.event(payload=...)[1:], NEW)  # fmt: skip
    table.body("empty-payload", "an empty payload", "payload is an object",
               lambda bench: bench.event(payload={}), NEW)  # fmt: skip
    table.body("nested", f"a payload nested {MAX_DEPTH} deep, as a sender may", "payload is an object",
               lambda bench: bench.raw_event('{"x":' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}"),
               NEW)  # fmt: skip
    table.body("one-mebibyte", f"{MAX_BODY} bytes", "1 MiB is taken: the limit is inclusive",
               lambda bench: _padded(bench, MAX_BODY), NEW)  # fmt: skip
    return table.cases


def malformed() -> list[Case]:
    """Bodies that no receiver takes: 400 malformed, 413 too large."""
    table = Table("body")
    json, utf8 = "400 malformed: the body is JSON", "400 malformed: the body is JSON in UTF-8"
    large = "413 too large: more than 1 MiB"
    bodies: list[tuple[str, str, str, Callable[[Bench], bytes]]] = [
        ("empty", "no bytes at all", json, lambda _: b""),
        ("not-json", "a form in place of JSON", json, lambda _: b"event_type=a.b&aggregate_id=42"),
        ("cut", "JSON without its last byte", json, lambda bench: bench.event()[:-1]),
        ("two", "two events one after the other", json, lambda bench: bench.event() * 2),
        ("nan", "NaN in the payload", "400 malformed: JSON has no NaN", lambda bench: bench.raw_event('{"x":NaN}')),
        ("control", "a raw control character in a text", json, lambda bench: bench.raw_event('{"x":"\x01"}')),
        ("not-utf-8", "a byte that UTF-8 has not", utf8, lambda bench: bench.event().replace(b"conform", b"\xff", 1)),
        ("latin-1", "an é in Latin-1", utf8, lambda bench: bench.raw_event("@").replace(b"@", b'{"x":"\xe9"}')),
        ("utf-16", "the event in UTF-16", utf8, lambda bench: bench.event().decode().encode("utf-16")),
        ("bom", "a byte order mark in front", f"{utf8}, without a byte order mark",
         lambda bench: b"\xef\xbb\xbf" + bench.event()),
        ("nul", "\\u0000 in the payload", "400 malformed: PostgreSQL stores no NUL",
         lambda bench: bench.raw_event(r'{"x":"\u0000"}')),
        ("surrogate", "half a surrogate pair in the payload", "400 malformed: no text in UTF-8 holds it",
         lambda bench: bench.raw_event(r'{"x":"\ud800"}')),
    ]  # fmt: skip
    for name, sent, why, make in bodies:
        table.body(name, sent, why, make, MALFORMED)
    for name, text in (("array", "[]"), ("text", '"event"'), ("number", "42"), ("null", "null")):
        table.body(name, f"{text} as the body", "400 malformed: the body is an object", _constant(text), MALFORMED)
    table.body("huge-number", "1e999 in the payload", "nothing that comes in can crash the receiver",
               lambda bench: bench.raw_event('{"x":1e999}'), HARMLESS)  # fmt: skip
    table.body("deep", "a payload nested 90,000 deep", "nothing that comes in can crash the receiver",
               lambda bench: bench.raw_event('{"x":' + "[" * 90_000 + "]" * 90_000 + "}"), HARMLESS)  # fmt: skip
    table.body("over-limit", f"{MAX_BODY + 1} bytes", large, lambda bench: _padded(bench, MAX_BODY + 1), TOO_LARGE)
    table.body("twice-limit", f"{2 * MAX_BODY} bytes", large, lambda bench: _padded(bench, 2 * MAX_BODY), TOO_LARGE)
    return table.cases


def _constant(text: str) -> Callable[[Bench], bytes]:
    return lambda _: text.encode()


def fields() -> list[Case]:
    """Exactly these four keys, each of its type."""
    table = Table("field")
    exactly = "400 malformed: exactly the keys event_type, aggregate_type, aggregate_id and payload"
    wrong: dict[str, object] = {"event_type": 7, "aggregate_type": ["account.move"], "aggregate_id": 42, "payload": []}
    kinds = {
        "event_type": "event_type is a text", "aggregate_type": "aggregate_type is a text",
        "aggregate_id": "aggregate_id is a string, also where the record's id is a number",
        "payload": "payload is an object",
    }  # fmt: skip

    def changed(name: str, value: object) -> Callable[[Bench], bytes]:
        return lambda bench: bench.event(**{name: value})

    for name in FIELDS:
        why = f"400 malformed: {kinds[name]}"
        table.body(f"{name}-missing", f"an event without {name}", exactly, changed(name, ...), MALFORMED)
        table.body(f"{name}-null", f"null as {name}", why, changed(name, None), MALFORMED)
        table.body(f"{name}-type", f"{wrong[name]!r} as {name}", why, changed(name, wrong[name]), MALFORMED)
    for name in FIELDS[:3]:
        table.body(f"{name}-empty", f"an empty {name}", f"400 malformed: {name} names something",
                   changed(name, ""), MALFORMED)  # fmt: skip
    table.body("payload-text", "a text as payload", "400 malformed: payload is an object",
               changed("payload", "{}"), MALFORMED)  # fmt: skip
    table.body("extra", "a fifth key", exactly, changed("user_id", 2), MALFORMED)
    table.body("twice", "event_type twice", exactly,
               lambda bench: b'{"event_type":"ipai.other",' + bench.event()[1:], MALFORMED)  # fmt: skip
    return table.cases


def http() -> list[Case]:
    """Method, content type, and how the bytes come."""
    table = Table("http")

    def method(name: str, expect: Expect) -> None:
        table.add(
            name.lower(), f"{name} in place of POST", "405: only POST is taken",
            lambda bench: [Shot(expect, bench.number(), bench.event(), method=name)],
        )  # fmt: skip

    # A receiver that takes batches says so in answer to a GET.
    table.add(
        "get", "GET in place of POST", "405, or 200 with what the receiver can do: only POST is taken",
        lambda bench: [Shot(Expect((405, 200), capabilities=True), bench.number(), method="GET")],
    )  # fmt: skip
    for name in ("PUT", "PATCH", "DELETE"):
        method(name, Expect((405,), gateway=True))

    def content_type(name: str, value: str | None, expect: Expect) -> None:
        edit: Edit = Drop() if value is None else Put(value)
        table.add(
            name, "no content type" if value is None else f"content-type: {value}",
            "the content type is application/json, in UTF-8; anything else is 415",
            lambda bench: [Shot(expect, bench.number(), bench.event(), edits={CONTENT_TYPE: edit})],
        )  # fmt: skip

    content_type("no-content-type", None, NOT_JSON)
    content_type("text", "text/plain", NOT_JSON)
    content_type("form", "application/x-www-form-urlencoded", NOT_JSON)
    content_type("json-like", "application/jsonx", NOT_JSON)
    content_type("latin-1", "application/json; charset=latin-1", NOT_JSON)
    content_type("utf-8", "application/json; charset=utf-8", NEW)
    content_type("upper-case", "Application/JSON", NEW)
    table.add(
        "slow", f"the second half of the body after {SLOW_S:g} s", "the raw body is read first, to its end",
        lambda bench: [Shot(NEW, bench.number(), bench.event(), pause=SLOW_S)],
    )  # fmt: skip
    either = Expect((200, 411), duplicate=False, gateway=True)
    table.add(
        "chunked", "a body without content-length, in chunks", "the raw body is read first; or it is refused with 411",
        lambda bench: [Shot(either, bench.number(), bench.event(), chunked=True)],
    )  # fmt: skip
    table.add(
        "chunked-over-limit", f"{2 * MAX_BODY} bytes without content-length, in chunks",
        "413 too large: the limit counts what comes, not what is announced; or it is refused with 411",
        lambda bench: [
            Shot(Expect((413, 411), gateway=True), bench.number(), _padded(bench, 2 * MAX_BODY), chunked=True)
        ],
    )  # fmt: skip
    return table.cases
