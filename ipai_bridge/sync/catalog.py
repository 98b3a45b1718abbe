"""The catalog: all models of Odoo with their fields, to `catalog-sync`; then the views of `scout_gold`, and lineage.

Every run is a full one: what a module brought with it carries no `write_date` that would tell. Transient and abstract
models come too, and say what they are. A model that Odoo has no more, such as one of a module that was uninstalled, is
archived; it is active again when it is back. What is as it was is not written.

To see it work: `select fqdn, title from catalog.assets where archived_at is null`. Reads `ir.model` and
`ir.model.fields`, which Odoo shows to administrators only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ipai_bridge.errors import OdooRefused
from ipai_bridge.sync.client import FunctionClient, encode
from ipai_bridge.sync.run import Progress, Report, Run
from ipai_bridge.sync.source import Row, Source, read_pages

__all__ = ["FUNCTION", "MODEL", "sync_catalog"]

FUNCTION = "catalog-sync"
"""The Edge Function that takes it, below the functions URL."""
ACTION = "sync_odoo_models"
MODEL = "ir.model"
MODEL_FIELDS = ("model", "name", "info", "state", "order", "abstract", "transient")
FIELDS = (
    "model_id",
    "name",
    "ttype",
    "field_description",
    "relation",
    "required",
    "readonly",
    "store",
    "state",
    "help",
)
PAGE_SIZE = 100
_FIELDS_PAGE = 2_000


def sync_catalog(
    source: Source,
    client: FunctionClient,
    *,
    page_size: int = PAGE_SIZE,
    take_over: bool = False,
    progress: Progress = lambda _model, _done: None,
) -> Report:
    """Make the catalog equal to Odoo; how it went, with what became of `lineage` and of the `views` of scout_gold.

    Raises `OdooRefused`, `OdooUnavailable`, `SyncRefused`, `SyncUnavailable`; what was sent by then stands.
    """
    with Run.begun(client, source, full=True, take_over=take_over, via=ACTION, progress=progress) as run:
        views = client.request(encode({"action": "sync_scout_views"}))
        for page in read_pages(source, MODEL, MODEL_FIELDS, size=page_size):
            run.page(MODEL, list(_rows(source, page.rows)), page.after, page.upto, page.errors)
        report = run.finish({})
    return replace(report, more={**report.more, "views": {name: views[name] for name in sorted(views) if name != "ok"}})


def _rows(source: Source, models: Sequence[Row]) -> Iterator[dict[str, Any]]:
    fields: dict[int, dict[str, Any]] = {model["id"]: {} for model in models}
    domain = [("model_id", "in", list(fields))]
    for page in read_pages(source, "ir.model.fields", FIELDS, domain=domain, size=_FIELDS_PAGE) if fields else ():
        if page.errors:  # which model it is of cannot be read either
            raise OdooRefused(page.errors[0]["error"])
        for row in page.rows:
            fields[row["model_id"]][row["name"]] = _field(row)
    for model in models:
        kind = "transient" if model["transient"] else "abstract" if model["abstract"] else "model"
        raw = {"id": model["id"], "model": model["model"], "name": model["name"] or None, "kind": kind}
        raw |= {"state": model["state"], "order": model["order"], "fields": fields[model["id"]]}
        if model["info"]:
            raw["description"] = model["info"]
        yield {"raw": raw}


def _field(row: Row) -> dict[str, Any]:
    field = {"type": row["ttype"], "label": row["field_description"], "state": row["state"]}
    field |= {name: bool(row[name]) for name in ("required", "readonly", "store")}
    return field | {name: row[name] for name in ("relation", "help") if row[name]}
