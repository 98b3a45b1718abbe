"""Requests that are sent to the receiver directly, and what it answers: good ones, and ones with one thing wrong."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable

from pytest_bdd import parsers, then, when

from ipai_bridge.secret import generate_secret
from ipai_harness.drive.webhook import Reply, event_body
from ipai_harness.steps.waiting import until
from ipai_harness.steps.world import World

Request = tuple[bytes, dict[str, str]]

BODY = event_body("project.task.done", "42", {"name": "Close the books"})


def _good(world: World, body: bytes = BODY, **options: object) -> Request:
    return body, world.sender.headers(body, **options)  # type: ignore[arg-type]


def _with(world: World, name: str, value: str | None, body: bytes = BODY) -> Request:
    headers = world.sender.headers(body)
    if value is None:
        del headers[name]
    else:
        headers[name] = value
    return body, headers


def _of(world: World, other: Request, *names: str) -> Request:
    """A good request with some headers of another one."""
    body, headers = _good(world)
    return body, headers | {name: other[1][name] for name in names}


def _large() -> bytes:
    return event_body("project.task.done", "42", {"name": "x" * 1_048_576})


FAULTS: dict[str, Callable[[World], Request]] = {
    "a body that was altered on its way": lambda world: (BODY.replace(b"42", b"43"), _good(world)[1]),
    "a space added to its body": lambda world: (BODY + b" ", _good(world)[1]),
    "a signature made with another secret": lambda world: _of(
        world, _good(world, secret=generate_secret().reveal()), "x-ipai-signature", "x-ipai-timestamp"
    ),
    "a signature of another timestamp": lambda world: _of(world, _good(world, age=1), "x-ipai-signature"),
    "a signature in upper case": lambda world: _with(
        world, "x-ipai-signature", _good(world)[1]["x-ipai-signature"].upper()
    ),
    "a timestamp of 6 minutes ago": lambda world: _good(world, age=360),
    "a timestamp 6 minutes ahead": lambda world: _good(world, age=-360),
    "a timestamp that is no number": lambda world: _with(world, "x-ipai-timestamp", "yesterday"),
    "no signature": lambda world: _with(world, "x-ipai-signature", None),
    "the Standard Webhooks id of another event": lambda world: _of(
        world, _good(world), "webhook-id", "webhook-signature"
    ),
    "a Standard Webhooks signature of another secret": lambda world: _of(
        world, _good(world, secret=generate_secret().reveal()), "webhook-signature"
    ),
    "no idempotency key": lambda world: _with(world, "x-idempotency-key", None),
    "an idempotency key that is no UUID": lambda world: _with(world, "x-idempotency-key", "42"),
    "an instance name with a space": lambda world: _with(world, "x-ipai-instance", "two words"),
    "a body that is not JSON": lambda world: _good(world, b"{"),
    "a body that is not UTF-8": lambda world: _good(world, BODY.replace(b"Close", b"\xff")),
    "a byte order mark": lambda world: _good(world, b"\xef\xbb\xbf" + BODY),
    "a body without a payload": lambda world: _good(world, BODY.partition(b',"payload"')[0] + b"}"),
    "a fifth key in its body": lambda world: _good(world, BODY[:-1] + b',"note":1}'),
    "a number as the record's id": lambda world: _good(world, BODY.replace(b'"42"', b"42")),
    "a body of more than 1 MiB": lambda world: _good(world, _large()),
    "the method GET": lambda world: (b"", _good(world)[1]),
    "the content type text/plain": lambda world: _with(world, "content-type", "text/plain"),
    "a timestamp of 4 minutes ago": lambda world: _good(world, age=240),
    "a timestamp 4 minutes ahead": lambda world: _good(world, age=-240),
    "a timestamp in seconds, signed as it was sent": lambda world: _in_seconds(world),
}
"""Each thing that can be wrong with (or odd about) a request, by the feature's words."""


def _in_seconds(world: World) -> Request:
    from ipai_bridge.secret import Secret
    from ipai_bridge.signing import ipai_signature

    seconds = str(int(time.time()))
    signed = ipai_signature(BODY, seconds, Secret(world.sender.secret))
    body, headers = _good(world)
    return body, headers | {"x-ipai-timestamp": seconds, "x-ipai-signature": signed}


@when(parsers.parse("a request is sent with {fault}"))
def send_faulty(world: World, fault: str) -> None:
    """Everything else about it is right."""
    body, headers = FAULTS[fault](world)
    world.post(body, headers, method="GET" if fault == "the method GET" else "POST")


@when(parsers.parse('the event "{event_type}" of the record "{record}" is sent with {payload}'))
def send_event(world: World, event_type: str, record: str, payload: str) -> None:
    """A good one; the payload goes in digit for digit."""
    world.post(*_good(world, event_body(event_type, record, payload)))


@when(parsers.parse('event {number:d} of the record "{record}" is sent and processed'))
def send_numbered(world: World, number: int, record: str) -> None:
    """With that sequence."""
    body = event_body("project.task.done", record, {"number": number})
    world.post(body, world.sender.headers(body, sequence=number))
    assert world.reply.status == 200, world.reply
    until(
        lambda: [event for event in world.events() if event.webhook_status != "completed"],
        lambda left: not left,
        what="every event is processed",
    )


@when("the same event is sent again, signed afresh")
def send_again(world: World) -> None:
    """The one that Odoo sent: its key, its very bytes."""
    [(key, body)] = world.odoo_sql(
        "select id::text, payload::text from ipai_bridge.outbox where instance = %s", world.instance
    )
    world.post(body.encode(), world.sender.headers(body.encode(), key=key, sequence=1))


@when(parsers.parse("the same event is sent {count:d} times at once"))
def send_at_once(world: World, count: int) -> None:
    """One key, signed afresh each time."""
    key, start = str(uuid.uuid4()), threading.Barrier(count)
    world.keys.append(key)
    replies: list[Reply] = []

    def one() -> None:
        headers = world.sender.headers(BODY, key=key)
        start.wait()
        replies.append(world.sender.post(BODY, headers))

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.replies += replies


@when("another body is sent under the same key")
def other_body(world: World) -> None:
    """As a sender with a fault would."""
    body = event_body("project.task.done", "42", {"state": "something else"})
    world.post(body, world.sender.headers(body, key=world.sent[1]["x-idempotency-key"]))


@when(parsers.re("the captured request is sent again (?P<how>under another key, without.*|as another Odoo's)"))
def replay(world: World, how: str) -> None:
    """What is not signed is replaced; the signature stays the captured one."""
    body, headers = world.sent
    if how == "as another Odoo's":
        headers = headers | {"x-ipai-instance": f"{world.instance}-b"}
    else:
        headers = {name: value for name, value in headers.items() if not name.startswith("webhook-")}
        headers["x-idempotency-key"] = str(uuid.uuid4())
    world.post(body, headers)


# --- what it answers


@then(parsers.re(r"the answer is (?P<status>\d+) and says that it is (?P<what>new|a duplicate)"))
def answer_is(world: World, status: str, what: str) -> None:
    """In the contract's form."""
    assert world.reply.status == int(status), f"{world.reply.status} {world.reply.body[:300]!r}"
    assert (world.reply.json["ok"], world.reply.json["duplicate"]) == (True, what == "a duplicate")


@then(parsers.parse("one answer says that it is new, and {count:d} say that it is a duplicate"))
def one_is_new(world: World, count: int) -> None:
    """Whoever came first."""
    assert [reply.status for reply in world.replies] == [200] * (count + 1)
    assert sorted(reply.json["duplicate"] for reply in world.replies) == [False, *[True] * count]
    assert len({reply.json["id"] for reply in world.replies}) == 1


@then(parsers.parse('it is refused with {status:d} "{code}"'))
def refused_with(world: World, status: int, code: str) -> None:
    """With the code that programs branch on, and in JSON."""
    assert (world.reply.status, world.reply.code) == (status, code), f"{world.reply.status} {world.reply.body[:300]!r}"
    assert world.reply.json["ok"] is False
    assert world.reply.json["error"]["message"]


@then(parsers.re(r"it is refused with (?P<status>\d+)$"))
def refused_as(world: World, status: str) -> None:
    """Whatever the code is: it is there, and in the contract's form."""
    assert world.reply.status == int(status), f"{world.reply.status} {world.reply.body[:300]!r}"
    assert world.reply.code


@then("nothing of it is stored")
def nothing_stored(world: World) -> None:
    """No event of this sender, nor any under this key."""
    if world.target.supabase_dsn is not None:
        assert world.events() == []
    # Without a look into the database: a good request is new, so nothing had been stored under this key.
    key = world.sent[1].get("x-idempotency-key", "")
    if len(key) == 36:
        again = world.sender.send(BODY, key=key)
        assert (again.status, again.json["duplicate"]) == (200, False), again


@then(parsers.parse("Supabase stored {payload}"))
def stored(world: World, payload: str) -> None:
    """The last event that was sent, as a JSON value."""
    there = {event.idempotency_key: event.received for event in world.events()}
    assert there[world.sent[1]["x-idempotency-key"]] == json.loads(payload)


@then(parsers.parse("every digit of {payload} is stored"))
def stored_exactly(world: World, payload: str) -> None:
    """Compared as PostgreSQL's numeric."""
    [(same, there)] = world.ours(
        "select e.payload = %s::jsonb, e.payload::text from odoo.webhook_events e "
        "join odoo.instances i on i.id = e.instance_id where e.idempotency_key = %s and",
        payload, world.sent[1]["x-idempotency-key"],
    )  # fmt: skip
    assert same, f"Supabase has {there}"
