"""Realtime when something breaks or lies: restarts, tokens that end or are forged, hostile frames, who never reads."""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.connection import Connection

from ipai_harness.stack.ports import free_port
from tests.supabase.conftest import PROJECT, Edge, Sender, Server, edge_environment, majors, rows, until
from tests.supabase.listening import CHANNEL, EVENTS, LIVE, TOPIC, Subscriber, join, raw, token

READER = token("authenticated", "events:read")
WANTED = {"event": "INSERT", "schema": "odoo", "table": "webhook_events"}


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that a test may stop."""
    mine = Server(majors()[0])
    yield mine
    mine.remove()


class Restarted:
    """A gateway that can be killed, and begun again at the same address."""

    def __init__(self, server: Server) -> None:
        self.server, self.port = server, free_port()
        self.start()

    def start(self) -> None:
        self.edge = Edge(PROJECT, edge_environment(self.server, self.port), port=self.port)


@pytest.fixture
def serving(own: Server) -> Iterator[Restarted]:
    mine = Restarted(own)
    yield mine
    mine.edge.stop()


@pytest.fixture
def subscriber(serving: Restarted) -> Iterator[Subscriber]:
    mine = Subscriber(f"http://127.0.0.1:{serving.port}", READER, (EVENTS,)).live()
    yield mine
    mine.close()


def until_closed(socket: Connection, timeout: float = 10) -> list[dict[str, Any]]:
    """What is said until the connection or the channel is closed."""
    said: list[dict[str, Any]] = []
    with contextlib.suppress(ConnectionClosed):
        while not said or said[-1]["event"] != "phx_close":
            said.append(json.loads(socket.recv(timeout)))
    return said


def test_the_gateway_killed(serving: Restarted, subscriber: Subscriber) -> None:
    serving.edge.stop(signal.SIGKILL)
    serving.start()
    subscriber.live(2)
    assert Sender(serving.port).post().status == 200
    assert [one["type"] for one in subscriber.heard(2)] == ["INSERT", "UPDATE"]


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgresql_stopped_and_started(own: Server, serving: Restarted, subscriber: Subscriber, mode: str) -> None:
    started = time.monotonic()
    own.stop(mode)
    assert time.monotonic() - started < 8  # a server that shuts down waits for who reads its log
    before = psutil.Process(serving.edge.process.pid).cpu_times()
    time.sleep(2)
    after = psutil.Process(serving.edge.process.pid).cpu_times()
    assert after.user + after.system - before.user - before.system < 1  # it waits, and does not spin
    own.start()
    subscriber.live(2)
    assert Sender(serving.port).post().status == 200
    assert [one["type"] for one in subscriber.heard(2)] == ["INSERT", "UPDATE"]
    assert len([line for line in serving.edge.lines if "realtime_disconnected" in line]) == 1


def test_nothing_is_read_while_nobody_asks(own: Server, serving: Restarted) -> None:
    slots = "select count(*) from pg_replication_slots"
    with contextlib.closing(own.connect()) as connection:
        mine = Subscriber(f"http://127.0.0.1:{serving.port}", READER, (EVENTS,)).live()
        assert rows(connection, slots) == [(1,)]
        mine.close()
        until(lambda: rows(connection, slots) == [(0,)], "the slot is gone")
        # And it begins again.
        again = Subscriber(f"http://127.0.0.1:{serving.port}", READER, (EVENTS,)).live()
        again.close()


def test_a_big_transaction_arrives_whole_and_in_order(own: Server, subscriber: Subscriber) -> None:
    count = 5_000
    with contextlib.closing(own.connect()) as connection:
        rows(connection, "insert into odoo.instances (name) values ('bulk') on conflict do nothing")
        rows(
            connection,
            "insert into odoo.webhook_events (instance_id, idempotency_key, event_type, aggregate_type, aggregate_id, "
            "payload) select i.id, gen_random_uuid(), 'a.b', 'a', g.n::text, '{}' "
            f"from odoo.instances i, generate_series(1, {count}) g (n) where i.name = 'bulk' order by g.n",
        )
    heard = subscriber.heard(count)
    assert [int(one["record"]["aggregate_id"]) for one in heard] == list(range(1, count + 1))


# --------------------------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize(
    "apikey",
    [
        "", "x", "a.b.c", token("anon", secret="another secret"), token("anon", exp=1), token("postgres"),
        token("supabase_admin"), token(""),
    ],
)  # fmt: skip
def test_who_has_no_key_does_not_get_in(edge: Edge, apikey: str) -> None:
    with pytest.raises(InvalidStatus) as refused, raw(edge.port, apikey or "%20"):
        pass
    assert refused.value.response.status_code == 401


@pytest.mark.parametrize(
    "bad", ["x", token("authenticated", "events:read", secret="another secret"), token("postgres"), token(exp=5)]
)
def test_a_forged_or_expired_token_joins_nothing(edge: Edge, sender: Sender, bad: str) -> None:
    with raw(edge.port) as socket:
        socket.send(join(bad, WANTED))
        reply = json.loads(socket.recv())["payload"]
        assert reply["status"] == "error"
        assert reply["response"]["reason"].startswith("InvalidJWTToken")
        sender.post()
        with pytest.raises(TimeoutError):
            socket.recv(1)


def test_a_token_that_ends_closes_its_channel(edge: Edge, sender: Sender) -> None:
    with raw(edge.port) as socket:
        socket.send(join(token("authenticated", "events:read", exp=int(time.time()) + 2), WANTED))
        said = until_closed(socket)
        assert [one["event"] for one in said] == ["phx_reply", "system", "system", "phx_close"]
        assert said[2]["payload"] == {
            "channel": CHANNEL, "extension": "system", "message": "Token has expired", "status": "error",
        }  # fmt: skip
        sender.post()
        with pytest.raises(TimeoutError):
            socket.recv(1)


def test_a_token_can_be_renewed_and_its_rights_with_it(edge: Edge, sender: Sender) -> None:
    def renew(socket: Connection, token: str) -> None:
        frame = {"topic": TOPIC, "event": "access_token", "payload": {"access_token": token}, "ref": None}
        socket.send(json.dumps(frame))
        assert json.loads(socket.recv())["payload"]["message"] == LIVE  # what it asked for is looked at again

    with raw(edge.port) as socket:
        socket.send(join(token("authenticated", exp=int(time.time()) + 3), WANTED))
        assert [json.loads(socket.recv())["event"] for _ in range(2)] == ["phx_reply", "system"]
        renew(socket, READER)
        time.sleep(3)
        sender.post()
        assert json.loads(socket.recv())["event"] == "postgres_changes"
        renew(socket, token("authenticated"))
        sender.post()
        with pytest.raises(TimeoutError):
            socket.recv(1)
        socket.send(json.dumps({"topic": TOPIC, "event": "access_token", "payload": {"access_token": "x"}}))
        assert [one["event"] for one in until_closed(socket)] == ["system", "phx_close"]


def test_no_token_is_logged(edge: Edge) -> None:
    with raw(edge.port, READER) as socket:
        socket.send(join(READER, WANTED))
        socket.recv()
    assert not any(READER[-40:] in line for line in edge.lines)


# ---------------------------------------------------------------------------------------------------- hostile frames


def hostile() -> st.SearchStrategy[str | bytes]:
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    )
    names = st.sampled_from([TOPIC, "realtime:", "phoenix", "realtime:__proto__", "x" * 300, ""]) | st.text(max_size=8)
    events = st.sampled_from(
        ["phx_join", "phx_leave", "heartbeat", "access_token", "broadcast", "presence", "phx_close"]
    )
    binding = st.fixed_dictionaries({}, optional={
        "event": st.sampled_from(["*", "INSERT"]) | values, "schema": st.text(max_size=70) | values,
        "table": st.text(max_size=70) | values, "filter": st.text(max_size=30) | values, "select": values,
    })  # fmt: skip
    config = st.fixed_dictionaries({}, optional={
        "postgres_changes": st.lists(binding, max_size=3) | values, "broadcast": values, "presence": values,
        "private": values,
    })  # fmt: skip
    payload = values | st.fixed_dictionaries({}, optional={
        "config": config | values, "access_token": st.just(READER) | values, "event": values, "payload": values,
    })  # fmt: skip
    one = st.fixed_dictionaries(
        {"topic": names | values, "event": events | values, "payload": payload},
        optional={"ref": values, "join_ref": values},
    ).map(json.dumps)
    two = st.tuples(values, values, names | values, events | values, payload).map(json.dumps)
    return one | two | values.map(json.dumps) | st.text(max_size=50) | st.binary(max_size=50)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(hostile(), min_size=1, max_size=5), vsn=st.sampled_from(["1.0.0", "2.0.0"]))
def test_no_frame_breaks_it(edge: Edge, frames: list[str | bytes], vsn: str) -> None:
    with raw(edge.port, vsn=vsn) as socket, contextlib.suppress(ConnectionClosed):
        for frame in frames:
            socket.send(frame)
        socket.send(
            '[null,"99","phoenix","heartbeat",{}]'
            if vsn == "2.0.0"
            else '{"topic":"phoenix","event":"heartbeat","ref":"99"}'
        )
        while '"99"' not in str(socket.recv(10)):
            pass
    assert not any("realtime_fault" in line or "uncaught" in line for line in edge.lines)


@pytest.mark.parametrize(
    "frame",
    ["[" * 500_000, '{"a":' * 200_000, "x" * 3_000_000, "\0", b"\x03\xff\xff\xff\xff\xff\x01", '"' + "\ud800".encode(
        "utf-8", "surrogatepass").decode("latin-1")],
    ids=["deep list", "deep object", "huge", "nul", "binary", "surrogate"],
)  # fmt: skip
@pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
def test_what_is_no_frame_ends_the_connection(edge: Edge, frame: str | bytes, vsn: str) -> None:
    with raw(edge.port, vsn=vsn) as socket:
        socket.send(frame)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1007
    assert Sender(edge.port).request("GET", "_health").status == 200


def test_a_broadcast_that_is_nested_too_deep_for_json(edge: Edge) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    with raw(edge.port) as socket:
        socket.send(join(READER))
        socket.recv()
        socket.send(f'{{"topic":"{TOPIC}","event":"broadcast","payload":{{"event":"x","payload":{deep}}},"ref":"2"}}')
        socket.send('{"topic":"phoenix","event":"heartbeat","ref":"3"}')
        with contextlib.suppress(ConnectionClosed):
            socket.recv(10)
    assert Sender(edge.port).request("GET", "_health").status == 200


def test_too_many_channels(edge: Edge) -> None:
    with raw(edge.port) as socket:
        for number in range(101):
            socket.send(join(READER, topic=f"realtime:{number}"))
        statuses = [json.loads(socket.recv())["payload"]["status"] for _ in range(101)]
    assert statuses == ["ok"] * 100 + ["error"]


def test_leaving_and_unknown_topics(edge: Edge, sender: Sender) -> None:
    with raw(edge.port) as socket:
        socket.send(join(READER, WANTED))
        socket.recv(), socket.recv()
        socket.send(json.dumps({"topic": TOPIC, "event": "phx_leave", "payload": {}, "ref": "2", "join_ref": "1"}))
        left, closed = json.loads(socket.recv()), json.loads(socket.recv())
        assert (left["payload"]["status"], closed["event"]) == ("ok", "phx_close")
        sender.post()
        socket.send(json.dumps({"topic": TOPIC, "event": "broadcast", "payload": {}, "ref": "3"}))
        answer = json.loads(socket.recv())
        assert answer["payload"] == {"status": "error", "response": {"reason": "unmatched topic"}}


def test_who_never_reads_is_let_go(serving: Restarted) -> None:
    gateway = psutil.Process(serving.edge.process.pid)
    chunk = "x" * 200_000
    with raw(serving.port) as deaf, raw(serving.port) as talking:
        # Of what nobody asks it for, it takes 16 frames off the wire, and then no more.
        deaf.send(join(READER))
        talking.send(join(READER, broadcast={"ack": True}))
        talking.recv()
        before = gateway.memory_info().rss
        for number in range(1_000):  # 200 MB
            said = {"event": "x", "payload": {"chunk": chunk}}
            talking.send(json.dumps({"topic": TOPIC, "event": "broadcast", "payload": said, "ref": str(number)}))
            assert json.loads(talking.recv())["payload"]["status"] == "ok"
        assert gateway.memory_info().rss - before < 100_000_000
        with pytest.raises(ConnectionClosed) as closed:
            collections.deque(iter(functools.partial(deaf.recv, 10), None), maxlen=0)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
