"""Realtime, with the official Python client: who hears of which change of which row."""

from __future__ import annotations

import asyncio
import functools
import json
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import requests
from realtime.types import RealtimePostgresChangesListenEvent

import supabase
from tests.supabase.conftest import Edge, Sender, until
from tests.supabase.listening import CHANNEL, EVENTS, PROJECTS, TASKS, TOPIC, Subscriber, Table, join, raw, token

Inbox = Callable[..., list[tuple[Any, ...]]]
Listen = Callable[..., Subscriber]
READER = token("authenticated", "events:read", "shadow:read", "catalog:read")
SERVICE = token("service_role")


@pytest.fixture
def listen(edge: Edge) -> Iterator[Listen]:
    """Makes subscribers, which are live when it returns."""
    made: list[Subscriber] = []

    def subscribe(token: str = READER, *tables: Table, **options: Any) -> Subscriber:
        made.append(Subscriber(f"http://127.0.0.1:{edge.port}", token, tables or (EVENTS,), **options))
        return made[-1].live()

    yield subscribe
    for one in made:
        one.close()


def emit(sender: Sender, **changes: object) -> str:
    """An event of a record of its own; the record's id."""
    record = uuid.uuid4().hex
    assert sender.post(sender.body(aggregate_id=record, **changes)).status == 200
    return record


def announce(edge: Edge, token: str, event: str, **options: bool) -> int:
    """Broadcast over HTTP; the status."""
    message = {"topic": CHANNEL, "event": event, "payload": {"n": 1}, **options}
    url = f"http://127.0.0.1:{edge.port}/realtime/v1/api/broadcast"
    return requests.post(
        url, json={"messages": [message]}, headers={"authorization": f"Bearer {token}"}, timeout=10
    ).status_code


class Shadow:
    """Pages of a finance sync, for an instance of its own."""

    def __init__(self, sender: Sender) -> None:
        self.sender, self.instance = sender, f"i-{uuid.uuid4().hex[:10]}"

    def full(self, *projects: dict[str, Any]) -> None:
        run = str(uuid.uuid4())
        rows = [{"external_ref": None, "raw": {"active": True, **project}} for project in projects]
        self._post(action="begin", run=run, full=True)
        self._post(action="page", run=run, entity="project.project", rows=rows, span=[0, None])
        self._post(action="page", run=run, entity="project.task", rows=[], span=[0, None])
        self._post(action="finish", run=run, cursors={})

    def _post(self, **body: Any) -> None:
        text = json.dumps(body).encode()
        headers = self.sender.headers(text) | {"x-ipai-instance": self.instance}
        assert self.sender.request("POST", "shadow-odoo-finance", headers, text).status == 200


def test_an_event_is_heard_when_it_arrives_and_when_it_is_completed(sender: Sender, listen: Listen) -> None:
    subscriber = listen()
    emit(sender, payload={"name": "Łódź ☃", "amount": 1150.5})
    arrived, completed = subscriber.heard(2)
    assert (arrived["type"], completed["type"]) == ("INSERT", "UPDATE")
    assert (arrived["schema"], arrived["table"]) == ("odoo", "webhook_events")
    record = arrived["record"]
    assert record["payload"] == {"name": "Łódź ☃", "amount": 1150.5}
    assert (record["status"], completed["record"]["status"]) == ("pending", "completed")
    assert completed["old_record"] == {"id": record["id"]}
    assert {"name": "payload", "type": "jsonb"} in arrived["columns"]
    assert {"name": "id", "type": "int8"} in arrived["columns"]
    assert arrived["errors"] is None
    age = datetime.now(timezone.utc) - datetime.fromisoformat(arrived["commit_timestamp"].replace("Z", "+00:00"))
    assert abs(age) < timedelta(minutes=1)


def test_each_hears_what_its_claims_permit_and_only_that(sender: Sender, listen: Listen) -> None:
    both = listen(READER, EVENTS, PROJECTS)
    events = listen(token("authenticated", "events:read"), EVENTS, PROJECTS)
    shadows = listen(token("authenticated", "shadow:read"), EVENTS, PROJECTS)
    nothing = listen(token("authenticated"), EVENTS, PROJECTS)
    # Claims outside app_metadata are the user's own, and permit nothing.
    pretender = listen(token("authenticated", user_metadata={"ipai_permissions": ["events:read", "shadow:read"]}))
    anonymous = listen(token("anon", "events:read", "shadow:read"), EVENTS, PROJECTS)
    service = listen(SERVICE, EVENTS, PROJECTS)
    emit(sender)
    both.heard(2)  # or the two could come in any order
    Shadow(sender).full({"id": 1, "name": "P"})
    assert {one["table"] for one in both.heard(3)} == {"webhook_events", "shadow_projects"}
    assert service.heard(3) == both.changes
    assert {one["table"] for one in events.heard(2)} == {"webhook_events"}
    assert {one["table"] for one in shadows.heard(1)} == {"shadow_projects"}
    assert (nothing.changes, pretender.changes, anonymous.changes) == ([], [], [])


def test_what_anon_is_told_holds_nothing_of_the_row(sender: Sender, edge: Edge) -> None:
    anon = token("anon")
    with raw(edge.port, anon) as socket:
        socket.send(join(anon, {"event": "*", "schema": "odoo", "table": "webhook_events"}))
        assert [json.loads(socket.recv())["event"] for _ in range(2)] == ["phx_reply", "system"]
        record = emit(sender, payload={"what": "Top secret"})
        for kind in ("INSERT", "UPDATE"):
            text = str(socket.recv())
            assert not any(secret in text for secret in ("Top secret", record))
            data = json.loads(text)["payload"]["data"]
            assert data == {
                "schema": "odoo", "table": "webhook_events", "type": kind, "columns": [], "commit_timestamp": None,
                "errors": ["Error 401: Unauthorized"],
            }  # fmt: skip


def test_a_sync_is_heard_row_by_row(sender: Sender, listen: Listen) -> None:
    subscriber = listen(READER, PROJECTS, TASKS)
    shadow = Shadow(sender)
    shadow.full({"id": 1, "name": "Old"}, {"id": 2, "name": "Gone"})
    subscriber.heard(2)  # a row that is gone again by then is not told of: nobody could see it
    shadow.full({"id": 1, "name": "New"})
    first, second, changed, gone = subscriber.heard(4)
    assert [one["type"] for one in subscriber.changes] == ["INSERT", "INSERT", "UPDATE", "DELETE"]
    assert {first["record"]["name"], second["record"]["name"]} == {"Old", "Gone"}
    assert (changed["record"]["name"], changed["record"]["previous_name"]) == ("New", "Old")
    identity = {"instance_id": first["record"]["instance_id"], "odoo_id": 2}
    assert gone["old_record"] == identity
    assert "record" not in gone


def test_of_a_deleted_row_everyone_learns_the_key_and_no_more(sender: Sender, listen: Listen) -> None:
    # As on the platform: there is no row left that a policy could be asked about.
    without = listen(token("authenticated"), PROJECTS)
    anonymous = listen(token("anon"), PROJECTS)
    shadow = Shadow(sender)
    shadow.full({"id": 7, "name": "Top secret"})
    shadow.full()
    [told] = without.heard(1)
    assert (told["type"], sorted(told["old_record"]), told["old_record"]["odoo_id"]) == (
        "DELETE", ["instance_id", "odoo_id"], 7,
    )  # fmt: skip
    [told] = anonymous.heard(1)
    assert (told["type"], told["old_record"], told["columns"]) == ("DELETE", {}, [])


def test_the_catalog_is_heard_of(inbox: Inbox, listen: Listen) -> None:
    subscriber = listen(READER, Table("catalog.assets"))
    name = f"a.b.c{uuid.uuid4().hex[:10]}"
    inbox("insert into catalog.assets (fqdn, type) values (%s, 'view')", name)
    subscriber.heard(1)
    inbox("update catalog.assets set title = 'T' where fqdn = %s", name)
    subscriber.heard(2)
    inbox("delete from catalog.assets where fqdn = %s", name)
    assert [one["type"] for one in subscriber.heard(3)] == ["INSERT", "UPDATE", "DELETE"]
    assert subscriber.changes[1]["record"]["title"] == "T"


@pytest.mark.parametrize(
    "condition", ["aggregate_id=eq.{0}", "aggregate_id=in.({0},x)", "event_type=neq.a.b,aggregate_id=eq.{0}"]
)
def test_a_filter(sender: Sender, listen: Listen, condition: str) -> None:
    record = uuid.uuid4().hex
    wanted = Table("odoo.webhook_events", "INSERT", f"{condition.format(record)},status=eq.pending")
    subscriber = listen(READER, wanted)
    other = listen(READER, Table("odoo.webhook_events", "UPDATE", "status=eq.failed"))
    sender.post(sender.body(aggregate_id=record))
    [heard] = subscriber.heard(1)
    assert heard["record"]["aggregate_id"] == record
    emit(sender)
    sender.post(sender.body(aggregate_id=record))
    subscriber.heard(2)
    assert other.changes == []


def test_a_filter_of_numbers_compares_numbers(sender: Sender, listen: Listen) -> None:
    subscriber = listen(READER, Table("odoo_seed.shadow_projects", "*", "odoo_id=gte.10"))
    Shadow(sender).full({"id": 9, "name": "9"}, {"id": 10, "name": "10"}, {"id": 100, "name": "100"})
    assert {one["record"]["odoo_id"] for one in subscriber.heard(2)} == {10, 100}


def test_columns_can_be_chosen(sender: Sender, edge: Edge) -> None:
    wanted: dict[str, Any] = {
        "event": "INSERT",
        "schema": "odoo",
        "table": "webhook_events",
        "select": ["id", "status"],
    }
    with raw(edge.port) as socket:
        socket.send(join(READER, wanted))
        socket.recv(), socket.recv()
        emit(sender)
        assert sorted(json.loads(socket.recv())["payload"]["data"]["record"]) == ["id", "status"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (Table("odoo.instances"), "Please check Realtime is enabled"),
        (Table("odoo.nothing"), "Please check Realtime is enabled"),
        (Table("odoo.webhook_events", filter="nothing=eq.1"), "invalid column for filter"),
        (Table("odoo.webhook_events", filter="id=eq.one"), "invalid value for filter"),
        (Table("odoo.webhook_events", filter="id=eq.1); drop table x"), "invalid value for filter"),
    ],
)
def test_what_cannot_be_subscribed_to_says_so(edge: Edge, table: Table, said: str) -> None:
    subscriber = Subscriber(f"http://127.0.0.1:{edge.port}", READER, (table,))
    try:
        until(lambda: any(said in error for error in subscriber.errors), said)
    finally:
        subscriber.close()


def test_one_change_is_told_once_to_a_client_that_asked_twice(edge: Edge, sender: Sender) -> None:
    both = {"event": "*", "schema": "odoo", "table": "*"}, {"event": "INSERT", "schema": "*"}
    with raw(edge.port) as socket:
        socket.send(join(READER, *both))
        reply = json.loads(socket.recv())["payload"]["response"]["postgres_changes"]
        assert [{key: one[key] for key in one if key != "id"} for one in reply] == list(both)
        socket.recv()
        emit(sender)
        ids = [one["id"] for one in reply]
        assert [json.loads(socket.recv())["payload"]["ids"] for _ in range(2)] == [ids, ids[:1]]


def test_a_large_value_that_did_not_change_is_left_out_and_numbers_keep_their_digits(
    sender: Sender, listen: Listen, inbox: Inbox
) -> None:
    subscriber = listen()
    noise = "".join(uuid.uuid4().hex for _ in range(400))
    emit(sender, payload={"noise": noise, "id": 9007199254740993})
    arrived, completed = subscriber.heard(2)
    assert arrived["record"]["payload"] == {"noise": noise, "id": 9007199254740993}
    assert "payload" not in completed["record"]
    assert completed["record"]["outcome"] == "applied"


def test_broadcasts_go_round_a_public_channel(edge: Edge) -> None:
    one, two = (Subscriber(f"http://127.0.0.1:{edge.port}", READER, ()) for _ in range(2))
    private = Subscriber(f"http://127.0.0.1:{edge.port}", READER, (), private=True)
    try:
        one.run(one.channel.send_broadcast("hello", {"to": "you"}))
        until(lambda: two.broadcasts, "the broadcast")
        assert two.broadcasts == [{"event": "hello", "payload": {"to": "you"}}]
        assert announce(edge, READER, "over http") == 202
        until(lambda: one.broadcasts and two.broadcasts[1:], "the one over HTTP")
        assert one.broadcasts[0]["event"] == two.broadcasts[1]["event"] == "over http"
        assert private.broadcasts == []
    finally:
        for each in (one, two, private):
            each.close()


def test_the_private_channel_is_for_those_who_may_read_events(edge: Edge) -> None:
    url = f"http://127.0.0.1:{edge.port}"
    reader = Subscriber(url, READER, (), private=True)
    others = [
        Subscriber(url, each, (), private=True)
        for each in (token("authenticated", "shadow:read"), token("anon", "events:read"))
    ]
    try:
        for other in others:
            until(functools.partial(getattr, other, "errors"), "the refusal")
            assert "You do not have permissions to read from this Channel topic: odoo-sync" in other.errors[0]
        # Nobody but the service role may send there.
        reader.run(reader.channel.send_broadcast("forged", {}))
        # As on the platform, 202 is said to everybody with a token.
        assert announce(edge, READER, "forged too", private=True) == 202
        assert announce(edge, SERVICE, "summary", private=True) == 202
        until(lambda: reader.broadcasts, "the summary")
        assert [one["event"] for one in reader.broadcasts] == ["summary"]
    finally:
        for each in (reader, *others):
            each.close()


def test_presence(edge: Edge) -> None:
    with raw(edge.port) as one, raw(edge.port) as two:
        for socket, key in ((one, "first"), (two, "second")):
            socket.send(join(READER, presence={"enabled": True, "key": key}))
            assert json.loads(socket.recv())["payload"]["status"] == "ok"
            assert json.loads(socket.recv())["event"] == "presence_state"
        track = {"type": "presence", "event": "track", "payload": {"who": "me"}}
        one.send(json.dumps({"topic": TOPIC, "event": "presence", "payload": track, "ref": "2", "join_ref": "1"}))
        joined = json.loads(two.recv())
        assert joined["event"] == "presence_diff"
        [meta] = joined["payload"]["joins"]["first"]["metas"]
        assert meta["who"] == "me"
        assert joined["payload"]["leaves"] == {}
        one.close()
        left = json.loads(two.recv())
        assert left["payload"] == {"joins": {}, "leaves": {"first": {"metas": [meta]}}}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"messages":[]}', b'{"messages":[{"topic":"x","event":"y"}]}', b" " * 4_000_000]
)
def test_what_is_no_broadcast(edge: Edge, body: bytes) -> None:
    url = f"http://127.0.0.1:{edge.port}/realtime/v1/api/broadcast"
    post = functools.partial(requests.post, url, data=body, timeout=10)
    assert post(headers={"authorization": f"Bearer {SERVICE}"}).status_code == 422
    assert post(headers={"authorization": f"Bearer {token(secret='other')}"}).status_code == 401
    assert post().status_code == 401
    assert requests.get(url, timeout=10).status_code == 405


def test_one_base_address_for_the_official_client(edge: Edge, sender: Sender) -> None:
    async def first_change() -> dict[str, Any]:
        client = await supabase.acreate_client(f"http://127.0.0.1:{edge.port}", token("anon"))
        try:
            await client.realtime.set_auth(READER)
            heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
            live = asyncio.Event()
            channel = client.channel(CHANNEL)
            channel.on_system(lambda _: live.set())
            channel.on_postgres_changes(
                RealtimePostgresChangesListenEvent.Insert,
                lambda said: heard.put_nowait(dict(said["data"])),
                schema="odoo",
            )
            await channel.subscribe()
            await asyncio.wait_for(live.wait(), 10)
            await asyncio.to_thread(emit, sender)
            return await asyncio.wait_for(heard.get(), 10)
        finally:
            await client.remove_all_channels()

    assert asyncio.run(first_change())["table"] == "webhook_events"
