"""What a database holds of an instance, in our words, whatever its tables and columns are called. Reads only."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg2

from ipai_bridge.endpoint import shown_dsn
from ipai_harness.errors import HarnessError, SchemaMapInvalid
from ipai_harness.schema_map import SchemaMap

_COLUMNS = """
    select a.attname from pg_catalog.pg_attribute as a
    where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped
"""


@dataclass(frozen=True)
class ReceivedEvent:
    """An event as the receiver has it. `status` is one of our four states; `raw_status` is what the column holds.

    What the project has no column for is None.
    """

    key: str
    event_type: str
    aggregate_type: str
    aggregate_id: str
    payload: Any
    status: str
    raw_status: str
    error: str | None = None
    sequence: int | None = None
    received_at: datetime | None = None
    processed_at: datetime | None = None


class Observer:
    """Looks into a project's database through a map, at one instance's rows."""

    def __init__(self, dsn: str, instance: str, schema_map: SchemaMap | None = None) -> None:
        self._dsn = dsn
        self.instance = instance
        self.map = schema_map or SchemaMap.ours()

    def check(self) -> None:
        """Raises SchemaMapInvalid where the map names what the database has not, or the role may not read."""
        for name, section in self.map.sections.items():
            table = self.map.table(name)
            columns = [row[0] for row in self._query(_COLUMNS, (table,))]
            if not columns:
                raise SchemaMapInvalid(
                    f"{name}.table names {section.schema}.{section.table}, which the database has not: "
                    f"correct it, or say {name} = false" if name != "events" else
                    f"events.table names {section.schema}.{section.table}, which the database has not"
                )  # fmt: skip
            for logical, actual in section.columns.items():
                if actual not in columns:
                    near = difflib.get_close_matches(actual, columns, 1)
                    raise SchemaMapInvalid(
                        f"{name}.{logical} names {actual}, which {section.schema}.{section.table} has not: "
                        + (f"did you mean {near[0]}?" if near else f"its columns are {', '.join(columns)}")
                    )

    def events(self, keys: Sequence[str] | None = None) -> list[ReceivedEvent]:
        """The instance's events in the order of arrival; only those of `keys`, where given.

        In a project whose events name no instance, `keys` are needed. Raises SchemaMapInvalid without.
        """
        found = []
        for row in self.rows("events", keys=keys, order=("id", "received_at")):
            payload = row["payload"]
            found.append(
                ReceivedEvent(
                    key=str(row["key"]), event_type=row["event_type"], aggregate_type=row["aggregate_type"],
                    aggregate_id=str(row["aggregate_id"]), status=self.map.status(row["status"]),
                    raw_status=str(row["status"]), error=row.get("error"), sequence=row.get("sequence"),
                    payload=json.loads(payload) if isinstance(payload, str) else payload,
                    received_at=row.get("received_at"), processed_at=row.get("processed_at"),
                )
            )  # fmt: skip
        return found

    def rows(
        self, section: str, *, keys: Sequence[str] | None = None, order: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """The instance's rows of a table, by the columns' names in our words."""
        mapped = self.map.sections.get(section)
        table = self.map.table(section)  # raises where there is none
        assert mapped is not None  # noqa: S101
        columns = [f"t.{self.map.column(section, name)}" for name in mapped.columns]
        where, values = self._of_instance(section)
        if keys is not None:
            where.append(f"t.{self.map.column(section, 'key')}::text = any(%s)")
            values.append(list(keys))
        if not where:
            raise SchemaMapInvalid(f"{section} names no instance in this project: ask for single keys")
        sorting = [f"t.{self.map.column(section, name)}" for name in order if self.map.has(section, name)]
        statement = f"select {', '.join(columns)} from {table} as t where {' and '.join(where)}"  # noqa: S608  quoted
        if sorting:
            statement += f" order by {', '.join(sorting)}"
        return [dict(zip(mapped.columns, row, strict=True)) for row in self._query(statement, values)]

    def _of_instance(self, section: str) -> tuple[list[str], list[Any]]:
        if not self.map.has(section, "instance"):
            return [], []
        column = f"t.{self.map.column(section, 'instance')}"
        if not self.map.has("instances"):
            return [f"{column}::text = %s"], [self.instance]
        id, name = (self.map.column("instances", one) for one in ("id", "name"))
        inner = f"select i.{id} from {self.map.table('instances')} as i where i.{name} = %s"  # noqa: S608  quoted
        return [f"{column} in ({inner})"], [self.instance]

    def _query(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            with closing(psycopg2.connect(self._dsn)) as connection:
                connection.set_session(readonly=True)
                with connection.cursor() as cursor:
                    cursor.execute(statement, values)
                    return cursor.fetchall()
        except psycopg2.Error as error:
            reason = str(error).strip().partition("\n")[0] if error.pgcode else "no connection"
            raise HarnessError(f"{shown_dsn(self._dsn)} cannot be read: {reason}") from None
