"""Queues what is missing. Everything it does is a durable row, and doing it twice does nothing more:

- a dead event is pending again, with a new allowance of attempts (the outbox's own retry);
- a record that was never sent gets an event `<model>.reconciled`, with the fields that the shadow keeps;
- an event that Supabase gave up is tried again by the next sweep;
- what a complete sync left behind makes the next run of the sync a full one.

All else waits for the relay, the sweep and the next sync, which are on their way.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg2

from ipai_bridge.event import Event, next_ids
from ipai_bridge.outbox import postgres
from ipai_bridge.outbox.postgres import PostgresOutbox
from ipai_harness.drift.explain import Explained, Why
from ipai_harness.drift.facts import MODELS
from ipai_harness.drift.look import Sides
from ipai_harness.drift.views import connect
from ipai_harness.errors import DriftUnseen

_LOCK = 0x69706169_00000010  # two reconciliations at once would each find the record without an event
_KNOWN = """
    select distinct aggregate_id from ipai_bridge.outbox
    where instance = %s and aggregate_type = %s and aggregate_id = any (%s)
      and (%s::timestamptz is null or created_at >= %s)
"""
_AGAIN = """
    update odoo.webhook_events e set next_retry_at = clock_timestamp()
    from odoo.instances i
    where i.id = e.instance_id and i.name = %s and e.idempotency_key = any (%s::uuid[])
      and e.status = 'failed' and e.next_retry_at is null
    returning e.idempotency_key::text
"""
_FULL = """
    update odoo.sync_cursors c set cursor = null from odoo.instances i
    where i.id = c.instance_id and i.name = %s and c.entity = %s and c.cursor is not null
    returning c.entity
"""


@dataclass
class Plan:
    """What is to be queued; after `carry_out`, what was."""

    retry: list[str] = field(default_factory=list)
    """Dead events."""
    emit: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """Records without an event, by instance and entity."""
    again: list[tuple[str, str]] = field(default_factory=list)
    """Instance and event that Supabase gave up."""
    full: list[tuple[str, str]] = field(default_factory=list)
    """Instance and entity whose next sync is to be a full one."""

    def lines(self) -> list[str]:
        """For people, one line for each thing."""
        return [
            *(f"event {one}: dead ▶ pending" for one in self.retry),
            *(
                f"{instance}: {MODELS[entity]} {odoo_id}: emit {MODELS[entity]}.reconciled"
                for (instance, entity), ids in self.emit.items()
                for odoo_id in ids
            ),
            *(f"{instance}: event {one}: the next sweep tries it again" for instance, one in self.again),
            *(f"{instance}: {MODELS[entity]}: the next sync is a full one" for instance, entity in self.full),
        ]

    def as_json(self) -> dict[str, Any]:
        """The form that `drift --reconcile --json` prints."""
        emit = [
            {"instance": instance, "entity": entity, "odoo_ids": ids} for (instance, entity), ids in self.emit.items()
        ]
        again = [{"instance": instance, "event": one} for instance, one in self.again]
        full = [{"instance": instance, "entity": entity} for instance, entity in self.full]
        return {"retry": self.retry, "emit": emit, "again": again, "full": full}


def plan(explained: Iterable[Explained]) -> Plan:
    """What would be queued for these differences. Pure."""
    made = Plan()
    for one in explained:
        at = (one.difference.instance, one.difference.entity)
        record = one.facts.record
        if one.why is Why.DEAD and one.event and one.event not in made.retry:
            made.retry.append(one.event)
        elif one.why is Why.NEVER_SENT and record and one.facts.outbox_seen:
            ids = made.emit.setdefault(at, [])
            if record.odoo_id not in ids:
                ids.append(record.odoo_id)
        elif one.why is Why.NOT_SWEPT and one.evidence["status"] == "failed" and not one.evidence["next_retry_at"]:
            if (at[0], one.event) not in made.again:
                made.again.append((at[0], str(one.event)))
        elif one.why is Why.UNEXPLAINED and at not in made.full:
            made.full.append(at)
    return made


def carry_out(wanted: Plan, sides: Sides, supabase_dsn: str) -> Plan:
    """Queue it; what was queued, which is less where somebody was quicker. Raises `DriftUnseen`."""
    done = Plan()
    try:
        if wanted.retry or wanted.emit:
            if sides.outbox is None:
                raise DriftUnseen("nothing can be queued in an outbox that is not given: see --odoo-dsn")
            _into_outbox(wanted, done, sides, sides.outbox.dsn)
        if wanted.again or wanted.full:
            with closing(connect(supabase_dsn, "Supabase", readonly=False)) as connection, connection:
                cursor = connection.cursor()
                for instance, event in wanted.again:
                    cursor.execute(_AGAIN, (instance, [event]))
                    done.again += [(instance, row[0]) for row in cursor.fetchall()]
                for instance, entity in wanted.full:
                    cursor.execute(_FULL, (instance, MODELS[entity]))
                    done.full += [(instance, entity) for _ in cursor.fetchall()]
    except psycopg2.Error as error:
        reason = str(error).strip().partition("\n")[0]
        raise DriftUnseen(
            f"not queued ({reason}): the databases have to be given with logins that may write the outbox, "
            "odoo.webhook_events and odoo.sync_cursors"
        ) from error
    return done


def _into_outbox(wanted: Plan, done: Plan, sides: Sides, dsn: str) -> None:
    if wanted.retry:
        with closing(PostgresOutbox.from_dsn(dsn)) as outbox:
            done.retry = [str(one) for one in outbox.retry(ids=[UUID(one) for one in wanted.retry])]
    if not wanted.emit:
        return
    with closing(connect(dsn, "the outbox", readonly=False)) as connection:
        with connection, connection.cursor() as cursor:  # one transaction
            cursor.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
            for (instance, entity), ids in wanted.emit.items():
                since = sides.views.cursor(instance, entity)
                events = _events(cursor, sides, instance, entity, ids, since)
                postgres.emit(cursor, events)
                done.emit[instance, entity] = [int(event.aggregate_id) for event in events]
        with connection, connection.cursor() as cursor:
            # A hint to relays, apart from what it tells of: it would make other commits wait.
            cursor.execute(f"notify {postgres.CHANNEL}")


def _events(
    cursor: Any, sides: Sides, instance: str, entity: str, ids: list[int], since: datetime | None
) -> list[Event]:
    model = MODELS[entity]
    cursor.execute(_KNOWN, (instance, model, [str(one) for one in ids], since, since))
    known = {int(row[0]) for row in cursor.fetchall()}
    if sides.odoo is None:
        return []
    wanted = [one for one in ids if one not in known]
    rows = [row for found, _errors in sides.odoo.reader(entity).records(wanted) for row in found]
    return [
        Event.create(
            id=event_id, event_type=f"{model}.reconciled", aggregate_type=model, aggregate_id=str(row["raw"]["id"]),
            payload={"external_ref": row["external_ref"], **row["raw"]}, instance=instance,
        )
        for event_id, row in zip(next_ids(len(rows)), rows, strict=True)
    ]  # fmt: skip
