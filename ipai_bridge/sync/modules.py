"""The module inventory: `ir.module.module` to `sync-odoo-modules`, every run a whole one.

Each module goes with its state, installed version, author, licence and source. What was installed and is not any more,
or is no longer listed, is marked so over there. An installed module under the Enterprise licence in a database that is
not Enterprise is a warning of the report; the modules that Odoo only advertises are not installed, and are none.
"""

from __future__ import annotations

import re
from typing import Any

from ipai_bridge.sync.client import FunctionClient
from ipai_bridge.sync.run import PAGE_SIZE, Progress, Report, Run
from ipai_bridge.sync.source import Row, Source, read_pages

__all__ = ["FUNCTION", "source_of", "sync_modules"]

FUNCTION = "sync-odoo-modules"
"""The Edge Function that takes it, below the functions URL."""
MODEL = "ir.module.module"
FIELDS = ("name", "shortdesc", "latest_version", "state", "author", "license")
"""`latest_version` is the one that is installed; Odoo calls that of the files `installed_version`."""

_ODOO = re.compile(r"\b(?:odoo|openerp)(?: s\.?a\.?)?\b", re.IGNORECASE)
_OCA = re.compile(r"\boca\b|odoo community association", re.IGNORECASE)
# Part of Odoo CE 19, though their manifests name somebody else alone.
_CE = frozenset(
    """
    html_editor l10n_ar l10n_ar_withholding l10n_at l10n_cl l10n_cn l10n_cn_city l10n_co l10n_cr l10n_cz l10n_de
    l10n_dz l10n_ec l10n_es l10n_et l10n_fi l10n_gt l10n_hn l10n_hr_kuna l10n_id l10n_it l10n_jp l10n_latam_check
    l10n_latam_invoice_document l10n_lt l10n_lv l10n_mx l10n_nl l10n_no l10n_pa l10n_sg l10n_sk l10n_th l10n_ua
    l10n_uk l10n_uy l10n_vn l10n_za test_inherits
    """.split()  # noqa: SIM905 -- one a line would be forty lines
)


def source_of(name: str, author: str | None, license: str | None) -> str:
    """Where a module comes from: `enterprise`, `ipai`, `oca`, `ce`, or `community` for anybody else's."""
    author = author or ""
    if license == "OEEL-1":
        return "enterprise"
    if name.startswith("ipai_"):
        return "ipai"
    if _OCA.search(author):
        return "oca"
    if name in _CE or _ODOO.search(author):
        return "ce"
    return "community"


def sync_modules(
    source: Source,
    client: FunctionClient,
    *,
    page_size: int = PAGE_SIZE,
    take_over: bool = False,
    edition: str | None = None,
    progress: Progress = lambda _model, _done: None,
) -> Report:
    """Make the inventory equal to Odoo's; how it went, with a warning for each Enterprise licence in a CE database.

    `edition`: `ce` or `enterprise`, where Odoo's own version does not tell. Raises `OdooRefused`, `OdooUnavailable`,
    `SyncRefused`, `SyncUnavailable`.
    """
    with Run.begun(client, source, full=True, take_over=take_over, edition=edition, progress=progress) as run:
        for page in read_pages(source, MODEL, FIELDS, size=page_size):
            run.page(MODEL, [_row(row) for row in page.rows], page.after, page.upto, page.errors)
        return run.finish({})


def _row(row: Row) -> dict[str, Any]:
    raw: dict[str, Any] = {name: None if value is False else value for name, value in row.items()}
    return {"source": source_of(raw["name"], raw["author"], raw["license"]), "raw": raw}
