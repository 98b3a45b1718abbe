"""Payloads: every type of field, every form of field list, and an error instead of a hole."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipai_bridge.errors import FieldNotSendable, PayloadError, RecordUnreadable, UnknownField
from ipai_bridge.event import Event, next_id
from ipai_bridge.payload import read_payloads
from tests.bridge.fake_records import AccessError, Field, NewId, Table


class Markup(str):
    """As markupsafe's, which Odoo's html fields give."""

    def __str__(self) -> str:
        return self


TYPES: list[tuple[str, Any, object]] = [
    ("boolean", True, True),
    ("boolean", False, False),
    ("integer", 7, 7),
    ("integer", 0, 0),
    ("integer", float(2**40), 2**40),  # how `read` gives more than 32 bits
    ("float", 1150.0, 1150.0),
    ("float", 0.0, 0.0),
    ("monetary", 0.1 + 0.2, 0.1 + 0.2),
    ("monetary", Decimal("1150.25"), 1150.25),
    ("char", "INV/2026/00001", "INV/2026/00001"),
    ("char", False, None),
    ("char", "", None),
    ("char", "Peñaranda & 株式会社 😀", "Peñaranda & 株式会社 😀"),
    ("text", "two\nlines", "two\nlines"),
    ("text", False, None),
    ("html", Markup("<p>a &amp; b</p>"), "<p>a &amp; b</p>"),
    ("html", False, None),
    ("selection", "posted", "posted"),
    ("selection", False, None),
    ("date", date(2026, 1, 31), "2026-01-31"),
    ("date", False, None),
    ("datetime", datetime(2026, 1, 31, 10, 11, 12), "2026-01-31T10:11:12Z"),  # noqa: DTZ001 -- as Odoo gives it
    ("datetime", datetime(2026, 1, 31), "2026-01-31T00:00:00Z"),  # noqa: DTZ001
    ("datetime", datetime(2026, 1, 31, 10, 11, 12, 345), "2026-01-31T10:11:12.000345Z"),  # noqa: DTZ001
    ("datetime", datetime(2026, 1, 31, 1, tzinfo=timezone(timedelta(hours=8))), "2026-01-30T17:00:00Z"),
    ("datetime", False, None),
    ("many2one", (7, "Azure Interior"), {"id": 7, "display_name": "Azure Interior"}),
    ("many2one", (7, False), {"id": 7, "display_name": None}),
    ("many2one", False, None),
    ("one2many", [3, 1, 2], [3, 1, 2]),
    ("many2many", [], []),
    ("many2many", (1, 2), [1, 2]),
    ("reference", "res.partner,7", "res.partner,7"),
    ("reference", False, None),
    ("many2one_reference", 7, 7),
    ("many2one_reference", 0, None),
    ("json", {"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}),
    ("json", False, None),
    ("serialized", {"a": 1}, {"a": 1}),  # a type of somebody else's
    ("serialized", False, None),
    ("serialized", [date(2026, 1, 31)], ["2026-01-31"]),
    (
        "properties",
        [
            {"name": "a1", "string": "Partner", "type": "many2one", "comodel": "res.partner", "value": (7, "Azure")},
            {"name": "a2", "string": "None", "type": "many2one", "comodel": "res.partner", "value": False},
            {"name": "a3", "string": "Tags", "type": "tags", "tags": [["x", "X", 1]], "value": ["x"]},
            {"name": "a4", "string": "Users", "type": "many2many", "value": [(1, "A"), (2, "B")]},
            {"name": "a5", "string": "When", "type": "datetime", "value": "2026-01-31 10:11:12"},
            {"name": "a6", "string": "Day", "type": "date", "value": "2026-01-31"},
            {"name": "a7", "string": "Yes", "type": "boolean", "value": False},
            {"name": "a8", "string": "Number", "type": "integer", "value": 0},
            {"name": "a9", "string": "Text", "type": "char", "value": False},
            {"name": "b1", "string": "Line", "type": "separator"},
            {"name": "b2", "string": "Unset", "type": "float", "value": False},
        ],
        [
            {"name": "a1", "string": "Partner", "type": "many2one", "value": {"id": 7, "display_name": "Azure"}},
            {"name": "a2", "string": "None", "type": "many2one", "value": None},
            {"name": "a3", "string": "Tags", "type": "tags", "value": ["x"]},
            {"name": "a4", "string": "Users", "type": "many2many", "value": [1, 2]},
            {"name": "a5", "string": "When", "type": "datetime", "value": "2026-01-31T10:11:12Z"},
            {"name": "a6", "string": "Day", "type": "date", "value": "2026-01-31"},
            {"name": "a7", "string": "Yes", "type": "boolean", "value": False},
            {"name": "a8", "string": "Number", "type": "integer", "value": 0},
            {"name": "a9", "string": "Text", "type": "char", "value": None},
            {"name": "b2", "string": "Unset", "type": "float", "value": None},
        ],
    ),
    ("properties", [], []),
    ("properties", False, []),
]


def invoices(n: int = 3) -> Table:
    fields: dict[str, str | Field] = {
        "name": "char",
        "state": "selection",
        "amount_total": "monetary",
        "partner_id": "many2one",
        "line_ids": "one2many",
        "pdf": "binary",
        "logo": "image",
        "secret_note": Field("char", forbidden=True),
        "computed": Field("char", store=False),
    }
    rows = {
        id: {
            "name": f"INV/{id}", "state": "posted", "amount_total": id * 10.0, "partner_id": (7, "Azure"),
            "line_ids": [id], "computed": "c",
        }
        for id in range(1, n + 1)
    }  # fmt: skip
    return Table("account.move", fields, rows)


@pytest.mark.parametrize(("type_", "value", "expected"), TYPES)
def test_types(type_: str, value: Any, expected: object) -> None:
    table = Table("x.model", {"f": type_}, {1: {"f": value}})
    [payload] = read_payloads(table.browse(1), ["f"])
    assert payload == {"f": expected}
    assert type(payload["f"]) is type(expected)
    assert json.loads(json.dumps(payload)) == payload


def test_every_type_of_field_that_odoo_has_is_decided_on() -> None:
    decided = {type_ for type_, _, _ in TYPES} | {"binary", "image", "properties_definition"}
    assert decided >= {
        "binary", "boolean", "char", "date", "datetime", "float", "html", "integer", "json", "many2many", "many2one",
        "many2one_reference", "monetary", "one2many", "properties", "properties_definition", "reference", "selection",
        "text",
    }  # fmt: skip


def test_a_list_of_names_keeps_its_order_and_the_records_theirs() -> None:
    payloads = read_payloads(invoices().browse(3, 1), ["state", "name", "partner_id"])
    assert payloads == [
        {"state": "posted", "name": "INV/3", "partner_id": {"id": 7, "display_name": "Azure"}},
        {"state": "posted", "name": "INV/1", "partner_id": {"id": 7, "display_name": "Azure"}},
    ]
    assert list(payloads[0]) == ["state", "name", "partner_id"]


@pytest.mark.parametrize(
    "fields", [None, ["name"], ("name", "state"), {"a": "name", "b": lambda r: r.id}, lambda r: {"n": r.name}]
)
def test_the_whole_recordset_is_read_once(fields: Any) -> None:
    table = invoices(100)
    assert len(read_payloads(table.browse(*range(1, 101)), fields)) == 100
    assert len(table.reads) == 1


def test_no_fields_named_is_id_and_display_name() -> None:
    assert read_payloads(invoices().browse(2)) == [{"id": 2, "display_name": "account.move,2"}]


def test_an_empty_list_of_fields_is_an_empty_payload() -> None:
    assert read_payloads(invoices().browse(1, 2), []) == [{}, {}]
    assert read_payloads(invoices().browse(1), {}) == [{}]


def test_a_dict_renames_and_calls_in_its_order() -> None:
    fields: dict[str, Any] = {
        "number": "name",
        "lines": lambda r: len(r.line_ids),
        "total": "amount_total",
        "again": "name",
    }
    [payload] = read_payloads(invoices().browse(2), fields)
    assert payload == {"number": "INV/2", "lines": 1, "total": 20.0, "again": "INV/2"}
    assert list(payload) == list(fields)


def test_a_callable_gives_the_whole() -> None:
    payloads = read_payloads(invoices().browse(1, 2), lambda r: {"number": r.name, "when": date(2026, 1, r.id)})
    assert payloads == [{"number": "INV/1", "when": "2026-01-01"}, {"number": "INV/2", "when": "2026-01-02"}]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("1.5"), 1.5),
        (Markup("<b>"), "<b>"),
        (datetime(2026, 1, 31, 10, tzinfo=timezone.utc), "2026-01-31T10:00:00Z"),
        ({"d": date(2026, 1, 31), "l": [(date(2026, 1, 31),)]}, {"d": "2026-01-31", "l": [["2026-01-31"]]}),
        (False, False),
        ("", ""),
    ],
)
def test_what_a_callable_gives_is_turned_too(value: object, expected: object) -> None:
    [payload] = read_payloads(invoices().browse(1), {"v": lambda _: value})
    assert payload == {"v": expected}
    assert type(payload["v"]) is type(expected)


@pytest.mark.parametrize("value", [b"x", bytearray(b"x"), [memoryview(b"x")]])
def test_bytes_from_a_callable_are_never_sent(value: object) -> None:
    with pytest.raises(FieldNotSendable, match=r"^v"):
        read_payloads(invoices().browse(1), {"v": lambda _: value})


def test_a_recordset_from_a_callable_is_told_what_to_give() -> None:
    with pytest.raises(PayloadError, match=r"recordset of account\.move"):
        read_payloads(invoices().browse(1), {"v": lambda r: r})


def test_what_holds_itself_is_refused() -> None:
    circle: list[Any] = []
    circle.extend([circle, circle])
    with pytest.raises(PayloadError, match="nested"):
        read_payloads(invoices().browse(1), {"v": lambda _: circle})


def test_what_payload_does_not_know_the_event_refuses_by_name() -> None:
    from ipai_bridge.errors import EventInvalid

    [payload] = read_payloads(invoices().browse(1), {"v": lambda _: {"s": {1}}})
    with pytest.raises(EventInvalid, match=r"^payload\.v\.s"):
        Event.create(id=next_id(), event_type="a.b", aggregate_type="a", aggregate_id="1", payload=payload)


@pytest.mark.parametrize("name", ["pdf", "logo"])
def test_binary_is_never_sent(name: str) -> None:
    table = invoices()
    with pytest.raises(FieldNotSendable, match=rf"account\.move\.{name}"):
        read_payloads(table.browse(1), ["name", name])
    assert table.reads == [], "refused before anything is read"


@pytest.mark.parametrize("ids", [(1,), ()])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("amont_total", "'amount_total'"),
        ("partner", "'partner_id'"),
        ("partner_id.name", "callable"),
        ("zzzzzz", "no field"),
    ],
)
def test_an_unknown_field_is_named_with_the_nearest(name: str, hint: str, ids: tuple[int, ...]) -> None:
    for fields in (["name", name], {"a": name}):
        with pytest.raises(UnknownField) as caught:
            read_payloads(invoices().browse(*ids), fields)
        assert repr(name) in str(caught.value)
        assert hint in str(caught.value)


FORMS: list[Any] = [["name"], None, ["id"], ["line_ids"], [], {"n": lambda r: r.name}, lambda r: {"n": r.name}]


@pytest.mark.parametrize("fields", FORMS)
def test_a_deleted_record_is_an_error_not_a_hole(fields: Any) -> None:
    table = invoices()
    del table.rows[2]
    with pytest.raises(RecordUnreadable, match=r"account\.move 2 is gone"):
        read_payloads(table.browse(1, 2, 3), fields)


@pytest.mark.parametrize("fields", FORMS)
def test_a_record_that_the_user_may_not_read_is_an_error(fields: Any) -> None:
    table = invoices()
    table.unreadable = {2}
    with pytest.raises(RecordUnreadable, match="not allowed") as caught:
        read_payloads(table.browse(1, 2), fields)
    assert isinstance(caught.value.__cause__, AccessError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fields", [["secret_note"], {"x": "secret_note"}, {"x": lambda r: r.secret_note},
                                    lambda r: {"x": r.secret_note}])  # fmt: skip
def test_a_field_that_the_user_may_not_read_is_an_error(fields: Any) -> None:
    with pytest.raises(RecordUnreadable, match="secret_note"):
        read_payloads(invoices().browse(1, 2), fields)


@pytest.mark.parametrize("fields", FORMS)
def test_an_unsaved_record_is_refused(fields: Any) -> None:
    with pytest.raises(RecordUnreadable, match=r"1 of 2 account\.move records are not saved"):
        read_payloads(invoices().browse(1, NewId()), fields)


def test_many_records_are_not_all_listed() -> None:
    with pytest.raises(RecordUnreadable, match=r"11, 12, 13, 14, 15 and 985 more"):
        read_payloads(invoices(10).browse(*range(1, 1001)), ["name"])


@pytest.mark.parametrize("fields", [None, ["name"], {"n": lambda r: r.name}, dict])
def test_no_records_give_no_payloads_and_no_read(fields: Any) -> None:
    table = invoices()
    assert read_payloads(table.browse(), fields) == []
    assert table.reads == []


@pytest.mark.parametrize("fields", ["name", 1, {"name"}, [1], ["name", None], {1: "name"}, {"a": 1}, b"name", object()])
def test_other_forms_of_fields_are_refused(fields: Any) -> None:
    with pytest.raises(PayloadError) as caught:
        read_payloads(invoices().browse(1), fields)
    assert type(caught.value) is PayloadError


def test_a_single_name_is_told_to_be_a_list() -> None:
    with pytest.raises(PayloadError, match=r"fields=\['name'\]"):
        read_payloads(invoices().browse(1), "name")


def test_a_callable_that_gives_no_mapping_is_refused() -> None:
    with pytest.raises(PayloadError, match="must give a mapping, not list"):
        read_payloads(invoices().browse(1), lambda r: [r.name])  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), KeyError("y")])
def test_other_errors_pass_untouched(error: Exception) -> None:
    # A serialization failure above all: Odoo has to see it to run the transaction again.
    def fail(_: object) -> Any:
        raise error

    table = invoices()
    for fields in ({"v": fail}, fail):
        with pytest.raises(type(error)) as caught:
            read_payloads(table.browse(1), fields)
        assert caught.value is error
    records: Any = table.browse(1)
    records.read = fail
    with pytest.raises(type(error)):
        read_payloads(records, ["name"])


@given(st.lists(st.sampled_from(["id", "name", "state", "amount_total", "partner_id", "line_ids", "computed"])))
def test_list_dict_and_callable_agree(names: list[str]) -> None:
    records = invoices().browse(2, 1)
    listed = read_payloads(records, names)
    assert read_payloads(records, tuple(names)) == listed
    assert read_payloads(records, {name: name for name in names}) == listed
    forms: list[Callable[[Any], object]] = [lambda r: r.id]
    mixed = read_payloads(records, {**{name: name for name in names}, "extra": forms[0]})
    assert mixed == [{**one, "extra": id} for one, id in zip(listed, (2, 1), strict=True)]


def test_nothing_of_odoo_is_imported() -> None:
    from ipai_bridge import payload

    source = Path(payload.__file__).read_text(encoding="utf-8")
    assert "import odoo" not in source
    assert "from odoo" not in source
