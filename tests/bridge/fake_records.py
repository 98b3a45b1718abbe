"""A recordset that behaves as Odoo 19's does in what the payload relies on; the real one is tested by the e2e suite.

As the real `read`: it leaves out a record that is gone, unless only `id` is asked for; it raises AccessError for a
record or a field that the user may not read; it gives a many2one as (id, display name) and a large integer as a float.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class UserError(Exception):
    """As odoo.exceptions.UserError."""


class AccessError(UserError):
    """As odoo.exceptions.AccessError."""


class MissingError(UserError):
    """As odoo.exceptions.MissingError."""


class NewId:
    """As odoo's id of a record that is not saved."""

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True)
class Field:
    type: str
    store: bool = True
    forbidden: bool = False

    @property
    def column_type(self) -> tuple[str, str] | None:
        return None if self.type in ("one2many", "many2many") else ("text", "text")


class Table:
    """A model's fields and rows; `unreadable` are the ids hidden by record rules; `reads` counts calls of read."""

    def __init__(self, name: str, fields: Mapping[str, str | Field], rows: Mapping[int, Mapping[str, Any]]) -> None:
        self.name = name
        base: dict[str, str | Field] = {"id": "integer", "display_name": Field("char", store=False)}
        self.fields = {n: Field(f) if isinstance(f, str) else f for n, f in (base | dict(fields)).items()}
        self.rows = {id: {"id": id, "display_name": f"{name},{id}", **row} for id, row in rows.items()}
        self.unreadable: set[int] = set()
        self.reads: list[list[str]] = []

    def browse(self, *ids: Any) -> FakeRecords:
        return FakeRecords(self, ids)


class FakeRecords:
    def __init__(self, table: Table, ids: Sequence[Any]) -> None:
        self._table = table
        self._name = table.name
        self._ids = tuple(ids)

    @property
    def _fields(self) -> Mapping[str, Field]:
        return self._table.fields

    @property
    def id(self) -> Any:
        return self._ids[0] if self._ids else False

    def __iter__(self) -> Iterator[FakeRecords]:
        return (FakeRecords(self._table, [id]) for id in self._ids)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._table.fields:
            raise AttributeError(name)
        if self.id not in self._table.rows:
            raise MissingError("Record does not exist or has been deleted.\n(Record: ...)")
        self._check([name])
        return self._table.rows[self.id].get(name, False)

    def _check(self, fields: Sequence[str]) -> None:
        for name in fields:
            if self._table.fields[name].forbidden:
                raise AccessError(f'You do not have enough rights to access the field "{name}".\n\nOperation: read')
        if self._table.unreadable.intersection(self._ids):
            raise AccessError("Sorry, you are not allowed to access this document.")

    def exists(self) -> FakeRecords:
        return FakeRecords(self._table, [id for id in self._ids if id in self._table.rows])

    def read(self, fields: Sequence[str] | None = None, load: str = "_classic_read") -> list[dict[str, Any]]:
        assert load == "_classic_read"
        assert fields, "read without names would read every field"
        self._table.reads.append(list(fields))
        self._check(fields)
        rows = []
        for id in self._ids:
            row = self._table.rows.get(id)
            if row is None and set(fields) == {"id"}:
                rows.append({"id": id})
            elif row is not None:
                rows.append({"id": id} | {name: row.get(name, False) for name in fields})
        return rows
