"""The scheduled syncs by name, for whoever runs one without knowing it: Odoo's cron, by way of `bridge.sync_once`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import NamedTuple

from ipai_bridge.sync import catalog, documents, finance, modules
from ipai_bridge.sync.client import FunctionClient
from ipai_bridge.sync.run import Report
from ipai_bridge.sync.source import Source
from ipai_bridge.sync.upload import Uploader

__all__ = ["KINDS", "Kind"]


class Kind(NamedTuple):
    """One sync: the Edge Function that takes it, and how it is run (True: every record, where it knows increments)."""

    function: str
    run: Callable[[Source, FunctionClient, bool], Report]


def _documents(odoo: Source, client: FunctionClient, full: bool) -> Report:
    with closing(Uploader(client.base, timeout=client.timeout)) as uploader:
        return documents.sync_documents(odoo, client, uploader, full=full)


KINDS: Mapping[str, Kind] = {
    "catalog": Kind(catalog.FUNCTION, lambda odoo, client, _full: catalog.sync_catalog(odoo, client)),
    "documents": Kind(documents.FUNCTION, _documents),
    "finance": Kind(finance.FUNCTION, lambda odoo, client, full: finance.sync_finance(odoo, client, full=full)),
    "modules": Kind(modules.FUNCTION, lambda odoo, client, _full: modules.sync_modules(odoo, client)),
}
