"""What the commands and the bridge are tested with: an outbox to look into, and what a command said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

import psycopg2
import psycopg2.extensions

from ipai_bridge.event import Event, next_id
from ipai_bridge.outbox import postgres
from tests.conftest import PASSWORD

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
UNKNOWN = "019b76da-a87b-7000-8000-00000000abcd"


class Done(NamedTuple):
    code: object
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


def refused(done: Done, code: str) -> str:
    """The text of the one line that says why it was not done."""
    assert (done.code, done.out) == (1, "")
    match = re.fullmatch(rf"ipai-bridge: {code}: ([^\n]+)\n", done.err)
    assert match, done.err
    return match[1]


def execute(dsn: str, statement: str, values: Any = None) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []


def parameters(dsn: str, **values: str) -> None:
    execute(dsn, "create table if not exists ir_config_parameter (key text, value text)")
    for name, value in values.items():
        execute(dsn, "insert into ir_config_parameter values (%s, %s)", (f"ipai_bridge.{name}", value))


def emit(dsn: str, *aggregate_ids: str, event_type: str = "res.partner.updated", **changes: Any) -> list[str]:
    events = [
        Event.create(
            id=next_id(),
            event_type=event_type,
            aggregate_type="res.partner",
            aggregate_id=aggregate_id,
            payload={"name": "Peñaranda"},
            **changes,
        )
        for aggregate_id in aggregate_ids
    ]
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        postgres.install(cursor)
        postgres.emit(cursor, events)
    return [str(event.id) for event in events]


def kill(dsn: str, *ids: str, why: str = "HTTP 422: no such thing") -> None:
    execute(
        dsn,
        "update ipai_bridge.outbox set status = 'dead', sequence = position, attempts = 3, last_status = 422,"
        " last_error = %s where id = any(%s::uuid[])",
        (why, list(ids)),
    )


def deliver(dsn: str, *ids: str, ago: str = "0") -> None:
    execute(
        dsn,
        "update ipai_bridge.outbox set status = 'delivered', sequence = position, delivered_at = now() - %s::interval"
        " where id = any(%s::uuid[])",
        (ago, list(ids)),
    )


def rows(dsn: str, columns: str = "id::text") -> list[Any]:
    found = execute(dsn, f"select {columns} from ipai_bridge.outbox order by position")
    return [row[0] if len(row) == 1 else row for row in found]


def statuses(dsn: str) -> dict[str, str]:
    return dict(execute(dsn, "select id::text, status from ipai_bridge.outbox"))


def own_role(dsn: str) -> str:
    """The DSN of a user who may connect, and nothing else."""
    execute(
        dsn,
        "do $$ begin if not exists (select from pg_roles where rolname = 'small') then"
        f" create role small login password '{PASSWORD}'; end if; end $$",
    )
    return str(psycopg2.extensions.make_dsn(dsn, user="small"))
