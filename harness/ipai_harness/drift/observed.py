"""What Odoo says (over its RPC), and its outbox (in its PostgreSQL). Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg2

from ipai_bridge.errors import OdooRefused
from ipai_bridge.sync.finance import REFERENCE, Reader
from ipai_bridge.sync.source import Source, read_pages
from ipai_harness.drift.facts import MODELS, Difference, Kind, Record, Sent, moment
from ipai_harness.drift.views import Views, connect
from ipai_harness.errors import DriftUnseen

PAGE = 2_000
_BATCH = 500

_SENT = """
    select aggregate_id, id::text, event_type, status, attempts, next_attempt_at, last_error, created_at
    from ipai_bridge.outbox
    where instance = %s and aggregate_type = %s and aggregate_id = any (%s) order by position
"""


class Odoo:
    """One Odoo, as one user sees it."""

    def __init__(self, source: Source, instance: str) -> None:
        """`instance`: what it is called in Supabase."""
        self.source = source
        self.instance = instance
        self.unreadable = 0
        self._readers: dict[str, Reader] = {}
        self._users: dict[int, str] = {}

    def reader(self, entity: str) -> Reader:
        """Reads the entity's model as the sync does."""
        if entity not in self._readers:
            self._readers[entity] = Reader(self.source, MODELS[entity])
        return self._readers[entity]

    def differences(self, views: Views, entity: str) -> Iterator[Difference]:
        """Where Odoo and the shadow differ; both are read in step by id, a page at a time."""
        at = (self.instance, entity)
        for page in read_pages(self.source, MODELS[entity], ["name"], size=PAGE):
            shadow = views.span(*at, page.after, page.upto)
            self.unreadable += len(page.errors)
            for error in page.errors:
                shadow.pop(error["odoo_id"], None)
            for row in page.rows:
                name = row["name"] or None
                if row["id"] not in shadow:
                    yield Difference(Kind.NOT_IN_SHADOW, *at, row["id"], None, name)
                    continue
                reference, known = shadow.pop(row["id"])
                if known != name:
                    yield Difference(Kind.NAME_BEHIND, *at, row["id"], reference, name, known)
            for odoo_id, (reference, known) in sorted(shadow.items()):
                yield Difference(Kind.NOT_IN_ODOO, *at, odoo_id, reference, known)

    def records(self, entity: str, ids: Iterable[int]) -> dict[int, Record]:
        """Those of the records that are there."""
        found: list[dict[str, Any]] = []
        for rows, _errors in self.reader(entity).records(sorted(ids), _BATCH):
            found += rows
        self._learn_users({row["raw"].get("write_uid") for row in found})
        return {
            row["raw"]["id"]: Record(
                row["raw"]["id"], row["raw"].get("name"), row["raw"].get("active") is not False, row["external_ref"],
                moment(row["raw"]["write_date"]), self._users.get(row["raw"].get("write_uid") or 0),
            )
            for row in found
        }  # fmt: skip

    def referenced(self, entity: str, references: Sequence[str]) -> dict[str, Record]:
        """By reference, the record that has it in Odoo: the oldest, if several have."""
        named: dict[str, tuple[int, datetime | None]] = {}
        for start in range(0, len(references), _BATCH):
            wanted = references[start : start + _BATCH]
            found: list[tuple[str, int, datetime | None]]
            if self.reader(entity).has_reference:
                rows = self._all(MODELS[entity], [(REFERENCE, "in", wanted)], [REFERENCE])
                found = [(row[REFERENCE], row["id"], None) for row in rows]
            else:
                names = [one.partition(".")[2] for one in wanted]
                rows = self._all(
                    "ir.model.data", [("model", "=", MODELS[entity]), ("name", "in", names)],
                    ["module", "name", "res_id", "write_date"],
                )  # fmt: skip
                found = [(f"{row['module']}.{row['name']}", row["res_id"], moment(row["write_date"])) for row in rows]
            for reference, odoo_id, written in found:
                if reference in wanted and odoo_id < named.get(reference, (odoo_id + 1, None))[0]:
                    named[reference] = (odoo_id, written)
        records = self.records(entity, {odoo_id for odoo_id, _ in named.values()})
        return {
            reference: replace(records[odoo_id], written=max(filter(None, (records[odoo_id].written, written))))
            for reference, (odoo_id, written) in named.items()
            if odoo_id in records  # an XML id may outlive its record
        }

    def _all(self, model: str, domain: Sequence[Any], fields: Sequence[str]) -> list[dict[str, Any]]:
        return [row for page in read_pages(self.source, model, fields, domain=domain, size=PAGE) for row in page.rows]

    def _learn_users(self, ids: set[Any]) -> None:
        new = sorted(one for one in ids if one and one not in self._users)
        if not new:
            return
        try:
            for row in self._all("res.users", [("id", "in", new)], ["name", "login"]):
                self._users[row["id"]] = f"{row['name']} ({row['login']})"
        except OdooRefused:  # this user may not read others: the number has to do
            self._users |= {one: f"user {one}" for one in new}


class Outbox:
    """Odoo's outbox."""

    def __init__(self, dsn: str) -> None:
        """Connects. Raises `DriftUnseen`."""
        self.dsn = dsn
        self._connection = connect(dsn, "the outbox")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def sent(self, instance: str, entity: str, ids: Iterable[int]) -> dict[int, list[Sent]]:
        """By record, its events in the order in which they were emitted. Raises `DriftUnseen`."""
        events: dict[int, list[Sent]] = {}
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(_SENT, (instance, MODELS[entity], [str(one) for one in sorted(ids)]))
                for row in cursor.fetchall():
                    events.setdefault(int(row[0]), []).append(Sent(*row[1:]))
        except psycopg2.Error as error:
            reason = str(error).strip().partition("\n")[0]
            raise DriftUnseen(f"the outbox did not answer ({reason}): is this Odoo's database?") from error
        return events
