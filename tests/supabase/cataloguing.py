"""Syncs of the catalog, by hand: what Odoo's models look like in a page, and what the catalog holds after it."""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from tests.supabase.conftest import Sql

Fields = Mapping[str, Mapping[str, Any]]


def field(label: str = "Name", type: str = "char", **more: Any) -> dict[str, Any]:
    return {"type": type, "label": label, "required": False, "readonly": False, "store": True, **more}


def many2one(relation: str) -> dict[str, Any]:
    return field("Of", "many2one", relation=relation)


def model(number: int, name: str, title: str | None = "Title", fields: Fields | None = None, **raw: Any) -> Any:
    made = {"id": number, "model": name, "name": title, "kind": "model", "state": "base"}
    return {"raw": {**made, "fields": {"name": field()} if fields is None else dict(fields), **raw}}


class Catalog:
    """The catalog-sync of one instance, without HTTP."""

    def __init__(self, sql: Sql, instance: str = "default", database: str | None = "odoo_core") -> None:
        self.sql, self.instance, self.database, self.run = sql, instance, database, ""

    def ask(self, action: str, *, key: str | None = None, signature: str | None = None, **body: Any) -> Any:
        """(verdict, answer)"""
        values = (self.instance, key or str(uuid.uuid4()), json.dumps({"action": action, **body}))
        statement = "select verdict, answer from catalog.request(%s, %s, %s, %s, now())"
        [row] = self.sql(statement, *values, signature or secrets.token_hex(32))
        return tuple(row)

    def step(self, step: str, **body: Any) -> Any:
        return self.ask("sync_odoo_models", step=step, run=self.run, **body)

    def begin(self, **more: Any) -> Any:
        self.run = str(uuid.uuid4())
        return self.step("begin", full=True, database=self.database, **more)

    def page(self, rows: Iterable[Any], after: int = 0, upto: int | None = None, **more: Any) -> Any:
        return self.step("page", entity="ir.model", rows=list(rows), span=[after, upto], **more)

    def sync(self, *models: Any) -> Any:
        """All models that there are; the answer to finish."""
        assert self.begin()[0] == "accepted"
        assert self.page(models)[0] == "accepted"
        verdict, answer = self.step("finish", cursors={})
        assert (verdict, answer["status"]) == ("accepted", "success")
        return answer

    def active(self, origin: str = "odoo") -> list[str]:
        statement = "select fqdn from catalog.assets where archived_at is null and origin = %s order by fqdn"
        return [fqdn for (fqdn,) in self.sql(statement, origin)]

    def edges(self, *kinds: str) -> list[tuple[str, str]]:
        statement = "select from_fqdn, to_fqdn from catalog.lineage_edges where kind = any (%s) order by 1, 2"
        return [(begin, end) for begin, end in self.sql(statement, list(kinds))]

    def versions(self) -> list[Any]:
        """Of every row of the catalog, the transaction that wrote it."""
        return [
            self.sql(f"select xmin::text::bigint, ctid::text from catalog.{table} order by ctid")
            for table in ("assets", "lineage_edges", "tools", "permissions", "databases")
        ]

    def assert_sound(self) -> None:
        """Both ends of every edge are active assets."""
        statement = (
            "select e.from_fqdn, e.to_fqdn, e.kind from catalog.lineage_edges e "
            "join catalog.assets f on f.fqdn = e.from_fqdn join catalog.assets t on t.fqdn = e.to_fqdn "
            "where f.archived_at is not null or t.archived_at is not null"
        )
        assert self.sql(statement) == []
