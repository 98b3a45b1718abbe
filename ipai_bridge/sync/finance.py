"""The finance shadow: `project.project` and `project.task`, archived ones included, to `shadow-odoo-finance`.

A full run is a snapshot. An increment reads what was written since the last run that was complete, an overlap earlier
(a transaction that began before that run and committed after it carries an older `write_date`), and compares the ids of
all: what is gone leaves the shadow, what is not known is read. Two things pass without a `write_date`, and wait for the
next full run: an XML id that is deleted, and a relation that PostgreSQL itself empties when its target is deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ipai_bridge.errors import OdooRefused
from ipai_bridge.sync.client import FunctionClient
from ipai_bridge.sync.run import OVERLAP, PAGE_SIZE, Progress, Report, Run, earlier
from ipai_bridge.sync.source import Row, Source, read_pages, read_records

__all__ = ["FIELDS", "FUNCTION", "OVERLAP", "REFERENCE", "Reader", "sync_finance"]

FUNCTION = "shadow-odoo-finance"
"""The Edge Function that takes it, below the functions URL."""
REFERENCE = "x_external_ref"
"""The field that names a record to the outside, where Odoo has it; else its XML id does."""

FIELDS = {
    "project.project": (
        "name", "active", "sequence", "company_id", "user_id", "stage_id", "date_start", "date", "create_date",
        "write_date", "write_uid",
    ),
    "project.task": (
        "name", "active", "sequence", "project_id", "stage_id", "state", "priority", "company_id", "date_deadline",
        "create_date", "write_date", "write_uid",
    ),
}  # fmt: skip
"""Read where Odoo has them, shows them to the user and stores them: a change of what is not stored leaves no trace."""
_IDS = 20_000


def sync_finance(
    source: Source,
    client: FunctionClient,
    *,
    full: bool = False,
    page_size: int = PAGE_SIZE,
    overlap: float = OVERLAP,
    take_over: bool = False,
    progress: Progress = lambda _model, _done: None,
) -> Report:
    """Make the shadow equal to Odoo; how it went. `full`: a snapshot, even where an increment would do.

    Raises `SyncRefused`, `SyncUnavailable`, `OdooUnavailable`; what was sent by then stands. A model that cannot be
    read is an error of the report, not an exception, while the other one can.
    """
    with Run.begun(client, source, full=full, take_over=take_over, progress=progress) as run:
        clock = source.clock()
        cursors: dict[str, str | None] = {}
        for model in FIELDS:
            try:
                one = _Model(source, run, model, page_size)
                cursor = run.cursors.get(model)
                if run.mode == "full" or cursor is None:
                    one.snapshot()
                else:
                    one.increment(earlier(cursor, overlap))
            except OdooRefused as error:
                run.failed(model, error)
            else:
                # Never back: what the cursor says has been seen.
                cursors[model] = max(filter(None, (clock or one.reader.written, run.cursors.get(model))), default=None)
        return run.finish(cursors)


class Reader:
    """One model of Odoo, read into the rows that the shadow keeps: `external_ref`, and the fields as `raw`."""

    def __init__(self, source: Source, model: str) -> None:
        """Asks Odoo which of the fields there are. Raises `OdooRefused`, `OdooUnavailable`."""
        self.source = source
        self.model = model
        self.written: str | None = None
        """The latest `write_date` of what was read."""
        known = source.call(model, "fields_get", [*FIELDS[model], REFERENCE], ["type", "store"])
        self.has_reference = REFERENCE in known
        self._types = {name: known[name]["type"] for name in known if known[name].get("store", True)}
        self.fields = sorted(self._types)
        if "write_date" not in self._types:
            raise OdooRefused(f"{model} has no write_date that this user may read: log in as another user")

    def records(self, ids: Sequence[int], size: int = PAGE_SIZE) -> Iterator[tuple[list[Row], list[dict[str, Any]]]]:
        """Those of these records that are there, `size` at a time, and an error for each that cannot be read."""
        for start in range(0, len(ids), size):
            found, errors = read_records(self.source, self.model, self.fields, ids[start : start + size])
            yield self.rows(found), errors

    def rows(self, found: Sequence[Row]) -> list[Row]:
        """What Odoo answered for `fields`, as the shadow keeps it."""
        if not found:
            return []
        names: dict[str, str] = {}
        if not self.has_reference:
            # By JSON the ids come as text.
            named = self.source.call(self.model, "get_external_id", [row["id"] for row in found])
            names = {str(record): name for record, name in named.items()}
        made = []
        for row in found:
            raw = {name: self._value(name, value) for name, value in row.items()}
            self.written = max(filter(None, (self.written, raw.get("write_date"))), default=None)
            reference = raw.get(REFERENCE) if self.has_reference else names.get(str(row["id"]))
            made.append({"external_ref": str(reference) if reference else None, "raw": raw})
        return made

    def _value(self, name: str, value: Any) -> Any:
        """Odoo's False for nothing as null, except where it means false."""
        return None if value is False and self._types.get(name) != "boolean" else value


class _Model:
    """One model, within one run."""

    def __init__(self, source: Source, run: Run, model: str, size: int) -> None:
        self.source = source
        self.run = run
        self.model = model
        self.size = size
        self.reader = Reader(source, model)

    def snapshot(self) -> None:
        for page in read_pages(self.source, self.model, self.reader.fields, size=self.size):
            self.run.page(self.model, self.reader.rows(page.rows), page.after, page.upto, page.errors)

    def increment(self, since: str) -> None:
        domain = [("write_date", ">=", since)]
        for page in read_pages(self.source, self.model, self.reader.fields, domain=domain, size=self.size):
            self.run.page(self.model, self.reader.rows(page.rows), errors=page.errors)
        if not self.reader.has_reference:
            self._read(self._newly_named(since))
        for page in read_pages(self.source, self.model, ["id"], size=_IDS):
            ids = [row["id"] for row in page.rows]
            self._read(self.run.ids(self.model, ids, page.after, page.upto))

    def _read(self, ids: Sequence[int]) -> None:
        for rows, errors in self.reader.records(ids, self.size):
            self.run.page(self.model, rows, errors=errors)

    def _newly_named(self, since: str) -> list[int]:
        """Records that got another XML id since then: that is a change of the id's record, not of theirs."""
        try:
            found = [
                row["res_id"]
                for page in read_pages(
                    self.source, "ir.model.data", ["res_id"], size=_IDS,
                    domain=[("model", "=", self.model), ("write_date", ">=", since), ("res_id", ">", 0)],
                )
                for row in page.rows
            ]  # fmt: skip
        except OdooRefused:  # for administrators only; the next full run sees it
            return []
        return sorted(set(found))
