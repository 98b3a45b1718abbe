"""What is sent of Odoo's models: all of them, with all of their fields, in pages that fit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ipai_bridge.errors import OdooRefused
from ipai_bridge.event import MAX_BODY
from ipai_bridge.sync import catalog
from ipai_bridge.sync.catalog import ACTION, MODEL, sync_catalog
from tests.bridge.sync.fakes import Odoo, Receiver

VIEWS = {"inserted": 3, "updated": 0, "unchanged": 0, "archived": 0, "edges_added": 2, "edges_removed": 0}


class Catalogue(Receiver):
    """The function with all of its actions; runs are taken by one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.actions: list[str] = []

    def request(self, body: bytes, *, once: bool = False) -> dict[str, Any]:
        said = json.loads(body)
        self.actions.append(said["action"])
        if said["action"] == "sync_scout_views":
            return {"ok": True, **VIEWS}
        said["action"] = said.pop("step")
        answer = super().request(json.dumps(said).encode(), once=once)
        self.sizes[-1] = len(body)
        return answer | ({"lineage": {"edges_added": 1}} if said["action"] == "finish" else {})

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row["raw"] for page in self.pages(MODEL) for row in page["rows"]]


def ir_model(number: int, model: str, **more: Any) -> dict[str, Any]:
    row = {"id": number, "model": model, "name": f"Title {number}", "info": False, "state": "base", "order": "id"}
    return {**row, **more}


def ir_field(number: int, model: int, name: str, ttype: str = "char", **more: Any) -> dict[str, Any]:
    return {
        "id": number, "model_id": model, "name": name, "ttype": ttype, "field_description": name.title(),
        "state": "base", "store": True, **more,
    }  # fmt: skip


def odoo(models: list[dict[str, Any]], fields: list[dict[str, Any]]) -> Odoo:
    return Odoo(ir_model={row["id"]: row for row in models}, ir_model_fields={row["id"]: row for row in fields})


def test_a_model_and_its_fields() -> None:
    receiver = Catalogue()
    source = odoo(
        [
            ir_model(1, "res.partner", info="A person"),
            ir_model(2, "mixin", abstract=True),
            ir_model(3, "wizard", transient=True, name=False),
        ],
        [
            ir_field(10, 1, "name", required=True),
            ir_field(11, 1, "parent_id", "many2one", relation="res.partner", help="Above", readonly=True, store=False),
        ],
    )
    report = sync_catalog(source, receiver)
    assert [{"info": False, **row} for row in receiver.rows] == [
        {
            **ir_model(1, "res.partner"), "kind": "model", "description": "A person",
            "fields": {
                "name": {
                    "type": "char", "label": "Name", "state": "base", "required": True, "readonly": False,
                    "store": True,
                },
                "parent_id": {
                    "type": "many2one", "label": "Parent_Id", "state": "base", "required": False, "readonly": True,
                    "store": False, "relation": "res.partner", "help": "Above",
                },
            },
        },
        ir_model(2, "mixin", kind="abstract", fields={}),
        ir_model(3, "wizard", kind="transient", fields={}, name=None),
    ]  # fmt: skip
    assert receiver.actions == [ACTION, "sync_scout_views", ACTION, ACTION]
    assert {name: receiver.requests[0][name] for name in ("full", "database", "edition")} == {
        "full": True, "database": "Prod-1", "edition": "ce",
    }  # fmt: skip
    assert report.more == {"lineage": {"edges_added": 1}, "views": dict(sorted(VIEWS.items()))}


def test_more_than_a_page_of_models_and_of_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_FIELDS_PAGE", 100)
    models = [ir_model(number, f"x_{number}") for number in range(1, 1202)]
    fields = [ir_field(number, 1 + number % 1201, f"f{number}") for number in range(1, 1501)]
    receiver = Catalogue()
    sync_catalog(odoo(models, fields), receiver, page_size=500)
    assert [page["span"] for page in receiver.pages(MODEL)] == [[0, 500], [500, 1000], [1000, None]]
    assert [row["id"] for row in receiver.rows] == [row["id"] for row in models]
    assert sum(len(row["fields"]) for row in receiver.rows) == 1500


def test_what_does_not_fit_one_request_comes_in_several() -> None:
    fields = [ir_field(number, 1 + number % 20, f"f{number}", help="x" * 2_000) for number in range(1, 2001)]
    receiver = Catalogue()
    sync_catalog(odoo([ir_model(number, f"x_{number}") for number in range(1, 21)], fields), receiver)
    assert len(receiver.pages(MODEL)) > 3
    assert max(receiver.sizes) <= MAX_BODY
    assert len(receiver.rows) == 20
    assert receiver.known[MODEL] == set(range(1, 21))


def test_a_model_that_cannot_be_read_is_an_error_and_one_without_its_fields_is_not_sent() -> None:
    source = odoo([ir_model(number, f"x_{number}") for number in (1, 2, 3)], [ir_field(9, 3, "name")])
    source.refused = {2}
    receiver = Catalogue()
    sync_catalog(source, receiver)
    [page] = receiver.pages(MODEL)
    assert [row["raw"]["id"] for row in page["rows"]] == [1, 3]
    assert page["errors"][0]["odoo_id"] == 2
    source.refused = {9}
    receiver = Catalogue()
    with pytest.raises(OdooRefused):
        sync_catalog(source, receiver)
    assert receiver.rows == []
    assert receiver.requests[-1]["failed"] is True


def test_an_empty_odoo_has_no_models() -> None:
    receiver = Catalogue()
    sync_catalog(odoo([], []), receiver)
    assert [page["span"] for page in receiver.pages(MODEL)] == [[0, None]]
