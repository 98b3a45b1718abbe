"""Which modules come from where, and what is sent of them."""

from __future__ import annotations

import pytest

from ipai_bridge.sync.modules import MODEL, source_of, sync_modules
from tests.bridge.sync.fakes import Odoo, Receiver


@pytest.mark.parametrize(
    ("name", "author", "license", "source"),
    [
        ("sale", "Odoo S.A.", "LGPL-3", "ce"),
        ("l10n_mx", "Vauxoo, Odoo S.A.", "LGPL-3", "ce"),
        ("l10n_de", "openbig.org (http://www.openbig.org)", "LGPL-3", "ce"),
        ("html_editor", "odoo", "LGPL-3", "ce"),
        ("web_studio", "Odoo S.A.", "OEEL-1", "enterprise"),
        ("ipai_finance", "Odoo Community Association (OCA)", "AGPL-3", "ipai"),
        ("queue_job", "Camptocamp,ACSONE SA/NV,Odoo Community Association (OCA)", "LGPL-3", "oca"),
        ("account_usability", "Akretion, OCA", "AGPL-3", "oca"),
        ("nice_app", "Somebody", "OPL-1", "community"),
        ("nice_app", "Odoomates", "LGPL-3", "community"),
        ("nice_app", None, None, "community"),
    ],
)
def test_the_source(name: str, author: str | None, license: str | None, source: str) -> None:
    assert source_of(name, author, license) == source


def test_every_run_is_whole_and_says_the_edition() -> None:
    odoo = Odoo(ir_module_module={n: {"id": n, "name": f"m{n}", "author": "Odoo S.A."} for n in range(1, 6)})
    receiver = Receiver()
    sync_modules(odoo, receiver, page_size=2)
    assert (receiver.requests[0]["full"], receiver.requests[0]["edition"]) == (True, "ce")
    assert [page["span"] for page in receiver.pages(MODEL)] == [[0, 2], [2, 4], [4, None]]
    assert receiver.pages(MODEL)[2]["rows"] == [
        {
            "source": "ce",
            "raw": {"id": 5, "name": "m5", "shortdesc": None, "latest_version": None, "state": None}
            | {"author": "Odoo S.A.", "license": None},
        }
    ]
    sync_modules(odoo, receiver, edition="enterprise")
    assert "enterprise" in [said.get("edition") for said in receiver.requests]
