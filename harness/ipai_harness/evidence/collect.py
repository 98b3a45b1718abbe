"""What happened during one scenario, read from the stack when it ends."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ipai_bridge.errors import SignatureError
from ipai_bridge.secret import Secret
from ipai_bridge.signing import verify
from ipai_harness.evidence.masking import Mask

__all__ = ["Scenario", "Step", "collect", "exchanges"]

MAX_LOG = 40_000  # characters of each log
MAX_ROWS = 200  # of each table
Query = Callable[..., list[tuple[Any, ...]]]

_WITH_INSTANCE = """
    select c.table_schema, c.table_name
    from information_schema.columns c join information_schema.tables t using (table_schema, table_name)
    where c.column_name = 'instance_id' and t.table_type = 'BASE TABLE'
      and c.table_schema not in ('pg_catalog', 'information_schema')
    order by 1, 2
"""
_CHANGED_IN_ODOO = """
    select c.table_name
    from information_schema.columns c join information_schema.tables t using (table_schema, table_name)
    where c.table_schema = 'public' and c.column_name = 'write_date' and t.table_type = 'BASE TABLE' order by 1
"""


@dataclass
class Step:
    """One sentence of a scenario."""

    keyword: str
    text: str
    seconds: float = 0.0
    status: str = "not run"
    error: str = ""


@dataclass
class Scenario:
    """One scenario's evidence."""

    name: str
    feature: str
    file: str
    line: int
    tags: list[str]
    instance: str = ""
    status: str = "not run"
    reason: str = ""
    """Why it failed, or was not run."""
    started: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    seconds: float = 0.0
    steps: list[Step] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    """Each event's way, a line each."""
    exchanges: list[dict[str, Any]] = field(default_factory=list)
    rows: dict[str, list[Any]] = field(default_factory=dict)
    """By database and table: what this scenario wrote."""
    logs: dict[str, str] = field(default_factory=dict)


def collect(
    scenario: Scenario,
    *,
    odoo: Query,
    supabase: Query,
    logs: Mapping[str, Callable[[int], tuple[str, int]]],
    since: Mapping[str, int],
    recorded: Path | None,
    secrets: Sequence[str],
    mask: Mask,
) -> None:
    """Put into `scenario` what the databases, the logs and the recorder know of it, masked.

    `logs`: of each part, what it has printed since a position; `since`: where each was when the scenario began.
    """
    for side, found in (("odoo", _odoo_rows(odoo, scenario)), ("supabase", _supabase_rows(supabase, scenario))):
        try:
            for table, rows in found:
                scenario.rows[f"{side}: {table}"] = mask.value(rows)
        except Exception as error:  # noqa: BLE001 -- a database that is down is part of the evidence, not the end of it
            scenario.rows[f"{side}: could not be read"] = [mask.text(str(error))]
    for name, read in logs.items():
        scenario.logs[name] = mask.text(_cut(read(since.get(name, 0))[0]))
    if recorded is not None:
        scenario.exchanges = [
            mask.value(exchange)
            for exchange in exchanges(recorded, since.get("exchanges", 0), scenario.instance, secrets)
        ]
    scenario.events = [mask.text(line) for line in scenario.events]
    scenario.reason = mask.text(scenario.reason)
    for step in scenario.steps:
        step.error = mask.text(step.error)


def exchanges(recorded: Path, start: int, instance: str, secrets: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The requests that name this instance, with what a receiver that knows `secrets` makes of their signatures."""
    try:
        with recorded.open("rb") as file:
            file.seek(start)
            lines = file.read().splitlines()
    except OSError:
        return
    known = [Secret(secret) for secret in secrets]
    for line in lines:
        try:
            one = json.loads(line)
        except ValueError:
            continue  # cut off: the recorder was killed while it wrote
        if one["headers"].get("x-ipai-instance") != instance:
            continue
        body = base64.b64decode(one["body"]["base64"])
        yield {
            "at": _moment(one["at"] / 1000),
            "ms": one["ms"],
            "request": f"{one['method']} {one['path']}",
            "signature": _verdict(body, one, known),
            "headers": one["headers"],
            "body": _shown(body, one["body"]["size"]),
            "status": one["status"],
            "answer_headers": one["answer_headers"],
            "answer": _shown(base64.b64decode(one["answer"]["base64"]), one["answer"]["size"]),
        }


def _verdict(body: bytes, one: Mapping[str, Any], known: Sequence[Secret]) -> str:
    if len(body) < one["body"]["size"]:
        return "not judged: the body was too large to keep"
    try:
        verified = verify(body, one["headers"], known, now_ms=one["at"])
    except SignatureError as error:
        return f"does not hold: {error.code}"
    return f"holds, by secret {verified.secret_index + 1} of {len(known)}" + (
        ", id signed" if verified.standard else ""
    )


def _shown(body: bytes, size: int) -> Any:
    text = body.decode("utf-8", "backslashreplace")
    if len(body) < size:
        return f"{text} … ({size:,} bytes)"
    try:
        return json.loads(text)
    except ValueError:
        return text


def _odoo_rows(query: Query, scenario: Scenario) -> Iterator[tuple[str, list[Any]]]:
    rows = query(
        "select row_to_json(o)::text from ipai_bridge.outbox o where instance = %s order by position limit %s",
        scenario.instance, MAX_ROWS,
    )  # fmt: skip
    yield "ipai_bridge.outbox", [json.loads(text) for (text,) in rows]
    since = datetime.fromtimestamp(scenario.started, timezone.utc).replace(tzinfo=None)
    tables = [name for (name,) in query(_CHANGED_IN_ODOO)]
    if not tables:
        return
    every = " union all ".join(
        f"(select '{table}', id, write_date::text from public.\"{table}\" where write_date >= %s limit 20)"  # noqa: S608
        for table in tables
    )
    changed: dict[str, list[Any]] = {}
    for table, record, written in query(every, *[since] * len(tables)):
        changed.setdefault(table, []).append({"id": record, "write_date": written})
    yield from changed.items()


def _supabase_rows(query: Query, scenario: Scenario) -> Iterator[tuple[str, list[Any]]]:
    for schema, table in query(_WITH_INSTANCE):
        rows = query(
            f'select row_to_json(t)::text from "{schema}"."{table}" t '  # noqa: S608 -- names out of the catalog
            "join odoo.instances i on i.id = t.instance_id where i.name = %s limit %s",
            scenario.instance, MAX_ROWS,
        )  # fmt: skip
        if rows:
            yield f"{schema}.{table}", [json.loads(text) for (text,) in rows]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_LOG else f"{text[:MAX_LOG]}\n… (cut after {MAX_LOG:,} characters)"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
