"""Documents: attachments of Odoo that are BIR forms, to the storage, at `documents/bir/{year}/{form_type}/{filename}`.

What is told of each is its name, form, year, size and hash; the function answers where the content goes that the
storage has not yet, and that is uploaded there, one at a time. Nothing is uploaded twice, nothing overwritten, nothing
removed: an attachment that is deleted in Odoo is marked gone, and its object stays. A run that is cut off is taken up
by the next one: what had arrived by then is found in the storage, not sent again.

Which attachments are meant, and what becomes of their names, `ipai_bridge.sync.bir` says.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any

from ipai_bridge.errors import BridgeError, OdooRefused, SyncRefused
from ipai_bridge.sync.bir import Form, filename_of, form_of
from ipai_bridge.sync.client import FunctionClient
from ipai_bridge.sync.run import OVERLAP, Progress, Report, Run, earlier
from ipai_bridge.sync.source import Row, Source, read_pages, read_records
from ipai_bridge.sync.upload import Uploader

__all__ = ["FUNCTION", "LIMIT", "PAGE_SIZE", "sync_documents"]

FUNCTION = "sync-documents"
"""The Edge Function that takes it, below the functions URL."""
LIMIT = 52_428_800
"""Bytes of the largest document that is taken: 50 MiB, as much as the platform stores without being asked for more."""
PAGE_SIZE = 50
MODEL = "ir.attachment"
FIELDS = ("name", "description", "mimetype", "file_size", "res_model", "res_id", "create_date", "write_date")
# All that could be a form by its name or its description; what is one, form_of says.
CANDIDATES = (
    ("type", "=", "binary"), ("res_field", "=", False),
    "|", "|", "|", "|", ("name", "ilike", "BIR"), ("description", "ilike", "BIR"),
    ("name", "=like", "0%"), ("name", "=like", "1%"), ("name", "=like", "2%"),
)  # fmt: skip

_MOST_A_PAGE = 100
_IDS = 20_000
_KEPT = 8_388_608  # bytes of a page's contents that are kept between hashing and uploading
_SAID_EVERY = 60.0  # seconds: so that a run of large documents does not look given up
_MIMETYPE = re.compile(r"[A-Za-z0-9][\w!#$&^.+-]{0,99}/[A-Za-z0-9][\w!#$&^.+-]{0,99}", re.ASCII)


def sync_documents(
    source: Source,
    client: FunctionClient,
    uploader: Uploader,
    *,
    full: bool = False,
    page_size: int = PAGE_SIZE,
    overlap: float = OVERLAP,
    limit: int = LIMIT,
    take_over: bool = False,
    progress: Progress = lambda _model, _done: None,
) -> Report:
    """Bring the storage up to date; how it went. `full`: look at every document again, where an increment would do too.

    `limit`: bytes of the largest document that is taken; a larger one is an error of the report. Raises `OdooRefused`,
    `OdooUnavailable`, `SyncRefused`, `SyncUnavailable`; what was stored by then stands.
    """
    with Run.begun(client, source, full=full, take_over=take_over, progress=progress) as run:
        clock = source.clock()
        documents = _Documents(source, run, uploader, min(page_size, _MOST_A_PAGE), limit, progress)
        cursor = run.cursors.get(MODEL)
        if run.mode == "full" or cursor is None:
            documents.snapshot()
        else:
            documents.increment(earlier(cursor, overlap))
        cursors = {MODEL: max(filter(None, (clock or documents.written, cursor)), default=None)}
        report = run.finish(cursors)
        report.more["uploads"] = {"documents": documents.uploaded, "bytes": documents.bytes}
        return report


class _Documents:
    """The documents, within one run."""

    def __init__(self, source: Source, run: Run, uploader: Uploader, size: int, limit: int, progress: Progress) -> None:
        self.source = source
        self.run = run
        self.uploader = uploader
        self.size = size
        self.limit = limit
        self.progress = progress
        self.written: str | None = None
        self.uploaded = 0
        self.bytes = 0
        self._kept: dict[int, bytes] = {}

    def snapshot(self) -> None:
        for page in read_pages(self.source, MODEL, FIELDS, domain=CANDIDATES, size=self.size):
            self._send(page.rows, page.errors, page.after, page.upto)

    def increment(self, since: str) -> None:
        domain = [*CANDIDATES, ("write_date", ">=", since)]
        for page in read_pages(self.source, MODEL, FIELDS, domain=domain, size=self.size):
            self._send(page.rows, page.errors)
        for page in read_pages(self.source, MODEL, FIELDS, domain=CANDIDATES, size=_IDS):
            # What cannot be read now is not deleted for that.
            ids = {row["id"] for row in page.rows if _form(row)} | {error["odoo_id"] for error in page.errors}
            unknown = self.run.ids(MODEL, sorted(ids), page.after, page.upto)
            for start in range(0, len(unknown), self.size):
                self._send(*read_records(self.source, MODEL, FIELDS, unknown[start : start + self.size]))

    def _send(
        self, found: Iterable[Row], errors: Sequence[Any], after: int | None = None, upto: int | None = None
    ) -> None:
        errors = list(errors)
        rows: dict[int, dict[str, Any]] = {}
        self._kept.clear()
        for row in found:
            self.written = max(filter(None, (self.written, row["write_date"])), default=None)
            form = _form(row)
            if form is None:
                continue
            try:
                rows[row["id"]] = self._row(row, form)
            except OdooRefused as error:
                errors.append({"odoo_id": row["id"], "error": str(error)[:1_000]})
        wanted = self.run.page(MODEL, list(rows.values()), after, upto, errors)
        self._upload([one for one in wanted if one["id"] in rows], rows)

    def _row(self, row: Row, form: Form) -> dict[str, Any]:
        """What is told of a document. Raises `OdooRefused`: its content is not to be had, or too much."""
        if row["file_size"] > self.limit:
            raise OdooRefused(self._too_large(row["file_size"]))
        content = self.source.content(row["id"])
        if not content:
            raise OdooRefused("Odoo has no content for it: is its file missing from the filestore?")
        if len(content) > self.limit:
            raise OdooRefused(self._too_large(len(content)))
        if sum(map(len, self._kept.values())) + len(content) <= _KEPT:
            self._kept[row["id"]] = content
        mimetype = str(row["mimetype"] or "")
        return {
            "raw": {name: row[name] or None for name in ("id", "name", "res_model", "res_id")},
            "form_type": form.form_type, "year": form.year, "filename": filename_of(row["name"], mimetype),
            "mimetype": mimetype if _MIMETYPE.fullmatch(mimetype) else "application/octet-stream",
            "size": len(content), "sha256": hashlib.sha256(content).hexdigest(),
            "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        }  # fmt: skip

    def _too_large(self, size: int) -> str:
        return f"larger than {self.limit:,} bytes ({size:,}): give --max-size, if the storage takes it"

    def _upload(self, wanted: Sequence[dict[str, Any]], rows: dict[int, dict[str, Any]]) -> None:
        sent: list[int] = []
        said = time.monotonic()
        for one in wanted:
            try:
                self._put(one, rows[one["id"]])
            except (OdooRefused, SyncRefused) as error:
                self.run.failed(MODEL, error, one["id"])
                continue
            sent.append(one["id"])
            if time.monotonic() > said + _SAID_EVERY:
                self._stored(sent)
                sent, said = [], time.monotonic()
        self._stored(sent)

    def _put(self, one: dict[str, Any], row: dict[str, Any]) -> None:
        if "error" in one:
            raise SyncRefused(str(one["error"]))
        content = self._kept.pop(one["id"], None)
        if content is None:
            content = self.source.content(one["id"])
            if hashlib.sha256(content).hexdigest() != row["sha256"]:
                raise SyncRefused("it changed while it was read: the next run takes it as it is then")
        self.uploader.put(str(one["path"]), str(one["url"]), content, row["mimetype"])
        self.uploaded += 1
        self.bytes += len(content)
        self.progress("uploads", self.uploaded)

    def _stored(self, ids: Sequence[int]) -> None:
        if not ids:
            return
        for missing in self.run.stored(MODEL, ids):
            error: BridgeError | str = "uploaded, but the storage has no such object of this size and hash"
            self.run.failed(MODEL, error, missing)


def _form(row: Row) -> Form | None:
    return form_of(str(row["name"] or ""), row["description"] or None, row["create_date"] or None)
