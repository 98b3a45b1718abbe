"""What Supabase says: the drift views, the shadow, tombstones, the inbox, the runs. Reads only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg2
import psycopg2.extensions

from ipai_bridge.endpoint import broken_dsn_rule, deprecated_project, shown_dsn
from ipai_harness.drift.facts import MODELS, Difference, Kind, LastRun, Received, Shadow, Tombstone, moment
from ipai_harness.errors import DriftUnseen

CONNECT_TIMEOUT = 10  # seconds

_INSTANCES = "select name from odoo.instances order by name"
_MISSING = """
    select external_ref, name from odoo_seed.v_missing_in_odoo
    where instance = %s and entity = %s order by external_ref
"""
_ORPHANS = """
    select odoo_id, external_ref, name, duplicate_of from odoo_seed.v_orphan_in_odoo
    where instance = %s and entity = %s order by odoo_id
"""
_NAMES = """
    select odoo_id, external_ref, name, case when renamed then previous_name else seed_name end, renamed
    from odoo_seed.v_name_drift where instance = %s and entity = %s order by odoo_id
"""
_SPAN = """
    select s.odoo_id, s.external_ref, s.name from odoo_seed.v_shadow s join odoo.instances i on i.id = s.instance_id
    where i.name = %s and s.entity = %s and s.odoo_id > %s and (%s::bigint is null or s.odoo_id <= %s)
"""
_SHADOW = {
    entity: f"""
    select s.odoo_id, s.external_ref, s.name, s.active, s.synced_at, s.previous_name, s.raw ->> 'write_date',
           (s.raw ->> 'write_uid')::bigint
    from odoo_seed.shadow_{entity}s s join odoo.instances i on i.id = s.instance_id
    where i.name = %s and s.odoo_id = any (%s)
"""  # noqa: S608 -- one of two names, ours
    for entity in MODELS
}
_TOMBSTONES = """
    select distinct on (t.external_ref) t.external_ref, t.odoo_id, t.name, t.deleted_at, t.run_id
    from odoo_seed.tombstones t join odoo.instances i on i.id = t.instance_id
    where i.name = %s and t.entity = %s and t.external_ref = any (%s)
    order by t.external_ref, t.deleted_at desc
"""
_RECEIVED = """
    select e.aggregate_id, e.idempotency_key::text, e.event_type, e.status, e.retry_count, e.error_message,
           e.next_retry_at, e.received_at
    from odoo.webhook_events e join odoo.instances i on i.id = e.instance_id
    where i.name = %s and e.aggregate_type = %s and e.aggregate_id = any (%s) order by e.id
"""
_CURSOR = """
    select c.cursor from odoo.sync_cursors c join odoo.instances i on i.id = c.instance_id
    where i.name = %s and c.entity = %s
"""
_LAST_RUN = """
    select r.status, r.heard_at, r.errors
    from odoo_seed.sync_runs r join odoo.instances i on i.id = r.instance_id
    where i.name = %s and r.sync = 'finance' order by r.id desc limit 1
"""


def connect(dsn: str, whose: str, *, readonly: bool = True) -> psycopg2.extensions.connection:
    """A connection that cannot write, unless it is to. Raises `DriftUnseen`; never repeats a password."""
    broken = broken_dsn_rule(dsn)
    if broken:
        raise DriftUnseen(f"{whose}: the DSN {broken}")
    if (ref := deprecated_project(dsn)) is not None:
        raise DriftUnseen(f"{whose}: the Supabase project {ref} is deprecated and refused: name the one in use")
    where = shown_dsn(dsn)
    try:
        connection = psycopg2.connect(dsn, connect_timeout=CONNECT_TIMEOUT, application_name="ipai-harness drift")
    except psycopg2.Error as error:
        # libpq repeats a password that it takes for a part of the address.
        why = str(error).strip().splitlines()[-1] if where.startswith("postgres") else type(error).__name__
        raise DriftUnseen(
            f"{whose}: no connection to {where}: {why}. Check the address, the login and the network."
        ) from None
    connection.set_session(readonly=readonly, autocommit=readonly)
    return connection


class Views:
    """One Supabase database."""

    def __init__(self, dsn: str) -> None:
        """Connects. Raises `DriftUnseen`."""
        self._connection = connect(dsn, "Supabase")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _ask(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement, parameters or None)
                return cursor.fetchall()
        except psycopg2.Error as error:
            reason = str(error).strip().partition("\n")[0]
            raise DriftUnseen(
                f"Supabase did not answer ({reason}): deploy the migrations, and log in as a role that may read the "
                "schemas odoo and odoo_seed, such as service_role or postgres"
            ) from error

    def instances(self) -> list[str]:
        """Every Odoo that it knows."""
        return [row[0] for row in self._ask(_INSTANCES)]

    def differences(self, instance: str, entity: str) -> list[Difference]:
        """The rows of the three views."""
        at = (instance, entity)
        missing = [Difference(Kind.MISSING, *at, None, *row) for row in self._ask(_MISSING, *at)]
        orphans = [
            Difference(Kind.ORPHAN, instance, entity, odoo_id, reference, name, duplicate_of=copied)
            for odoo_id, reference, name, copied in self._ask(_ORPHANS, *at)
        ]
        names = [Difference(Kind.NAME, *at, *row) for row in self._ask(_NAMES, *at)]
        return missing + orphans + names

    def span(
        self, instance: str, entity: str, after: int, upto: int | None
    ) -> dict[int, tuple[str | None, str | None]]:
        """Reference and name of what the shadow has with an id after one, up to another (None: no limit)."""
        return {row[0]: (row[1], row[2]) for row in self._ask(_SPAN, instance, entity, after, upto, upto)}

    def shadow(self, instance: str, entity: str, ids: Iterable[int]) -> dict[int, Shadow]:
        """Rows of the shadow."""
        return {row[0]: Shadow(*row) for row in self._ask(_SHADOW[entity], instance, sorted(ids))}

    def tombstones(self, instance: str, entity: str, references: Sequence[str]) -> dict[str, Tombstone]:
        """By reference, the latest that had it."""
        found = self._ask(_TOMBSTONES, instance, MODELS[entity], list(references))
        return {row[0]: Tombstone(*row[1:]) for row in found}

    def received(self, instance: str, entity: str, ids: Iterable[int]) -> dict[int, list[Received]]:
        """By record, its events in the order of arrival."""
        events: dict[int, list[Received]] = {}
        for row in self._ask(_RECEIVED, instance, MODELS[entity], [str(one) for one in sorted(ids)]):
            events.setdefault(int(row[0]), []).append(Received(*row[1:]))
        return events

    def cursor(self, instance: str, entity: str) -> Any:
        """Up to when the sync has seen everything, on Odoo's clock; None if it never did."""
        found = self._ask(_CURSOR, instance, MODELS[entity])
        return moment(found[0][0]) if found else None

    def last_run(self, instance: str) -> LastRun | None:
        """The latest run of the finance sync."""
        found = self._ask(_LAST_RUN, instance)
        if not found:
            return None
        status, heard_at, errors = found[0]
        errors = json.loads(errors) if isinstance(errors, str) else errors
        said = errors[0] if errors else {}  # the others follow from it
        return LastRun(status, heard_at, said.get("error"))
