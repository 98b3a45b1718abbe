"""What breaks: the database away, a crash between ingest and processing, a handler that hangs, nothing configured."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
import uuid
from collections.abc import Iterator

import pytest

from tests.supabase.conftest import PROJECT, SECRET, Edge, Sender, Server, majors, rows, until

MODES = ["fast", "immediate"]


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that a test may stop."""
    mine = Server(majors()[0])
    yield mine
    mine.remove()


@pytest.fixture
def serving(own: Server) -> Iterator[Edge]:
    edge = Edge(PROJECT, {"SUPABASE_DB_URL": own.url(), "IPAI_BRIDGE_SECRET": SECRET})
    yield edge
    edge.stop()


@pytest.mark.parametrize("mode", MODES)
def test_database_away_and_back(own: Server, serving: Edge, mode: str) -> None:
    sender, key, body = Sender(serving.port), str(uuid.uuid4()), Sender(0).body()
    assert sender.post(body).status == 200
    own.stop(mode)
    for _ in range(5):
        answer = sender.post(body, key=key)
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "database_unavailable", "5")
    own.start()
    started = time.monotonic()
    answer = until(lambda: (a := sender.post(body, key=key)).status == 200 and a, "it takes events again")
    assert time.monotonic() - started < 5
    assert answer.json["duplicate"] is False
    with contextlib.closing(own.connect()) as connection:
        assert rows(connection, "select count(*) from odoo.event_log where idempotency_key = %s", key) == [(1,)]


def test_a_server_that_starts_before_its_database(own: Server) -> None:
    own.stop()
    edge = Edge(PROJECT, {"SUPABASE_DB_URL": own.url(), "IPAI_BRIDGE_SECRET": SECRET})
    try:
        assert Sender(edge.port).post().status == 503
        own.start()
        until(lambda: Sender(edge.port).post().status == 200, "it takes events")
    finally:
        edge.stop()


def test_a_crash_between_ingest_and_processing_is_swept(own: Server, serving: Edge) -> None:
    sender, body = Sender(serving.port), Sender(0).body(aggregate_id=uuid.uuid4().hex)
    key = str(uuid.uuid4())
    with contextlib.closing(own.connect()) as holder, contextlib.closing(own.connect()) as connection:
        sender.post()  # The instance exists.
        holder.autocommit = False
        # Whoever processes must wait here, so that the crash surely comes between.
        rows(holder, "lock table odoo.entity_mappings in access exclusive mode")
        assert sender.post(body, key=key).status == 200
        serving.stop(signal.SIGKILL)
        holder.rollback()
        status = "select status from odoo.webhook_events where idempotency_key = %s"
        # Its connection is gone; what it had begun is rolled back or, at the latest now, done.
        until(
            lambda: rows(
                connection, "select count(*) = 0 from pg_stat_activity where application_name like 'odoo-webhook%%'"
            )[0][0],
            "the function's connections end",
        )
        until(
            lambda: (
                rows(connection, "select odoo.sweep_events('0')") and rows(connection, status, key) == [("completed",)]
            ),
            "the sweep completes it",
        )
        assert rows(connection, "select count(*) from odoo.event_log where idempotency_key = %s", key) == [(1,)]


def test_events_come_in_while_handlers_hang(own: Server, serving: Edge) -> None:
    sender = Sender(serving.port)
    sender.post()
    with contextlib.closing(own.connect()) as holder:
        holder.autocommit = False
        rows(holder, "lock table odoo.entity_mappings in access exclusive mode")
        assert {sender.post().status for _ in range(12)} == {200}
        holder.rollback()
    with contextlib.closing(own.connect()) as connection:
        until(
            lambda: rows(connection, "select count(*) from odoo.webhook_events where status <> 'completed'") == [(0,)],
            "all are completed once it goes on",
        )


@pytest.mark.parametrize(
    "environment",
    [{}, {"IPAI_BRIDGE_SECRET": SECRET}, {"IPAI_BRIDGE_SECRET": "short"}, {"SUPABASE_DB_URL": "x"}],
    ids=["nothing", "no database", "weak secret", "no secret"],
)
def test_without_configuration_it_is_never_open(server: Server, environment: dict[str, str]) -> None:
    if environment != {"IPAI_BRIDGE_SECRET": SECRET} and "SUPABASE_DB_URL" in environment:
        environment = {"SUPABASE_DB_URL": server.url()}
    edge = Edge(PROJECT, environment)
    try:
        answer = Sender(edge.port).post()
        assert (answer.status, answer.code) == (500, "not_configured")
    finally:
        edge.stop()


def test_a_client_that_leaves_in_the_middle_of_its_body(edge: Edge, sender: Sender) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as connection:
            connection.sendall(
                b"POST /functions/v1/odoo-webhook HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b"content-length: 1000\r\n\r\n{"
            )
    until(lambda: sum('"code":"body_incomplete"' in line for line in edge.lines) >= 20, "each of them is noticed")
    assert sender.post().status == 200


def test_ten_thousand_bytes_of_headers(sender: Sender) -> None:
    answer = sender.post(headers={f"x-filler-{n}": "y" * 1000 for n in range(10)})
    assert answer.status == 200
