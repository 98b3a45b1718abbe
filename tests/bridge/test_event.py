"""Events: what is taken, what is refused by which name, and the exact bytes that are made."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import string
from collections import OrderedDict
from collections.abc import Mapping
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipai_bridge.errors import EventInvalid
from ipai_bridge.event import MAX_BODY, MAX_DEPTH, Event

ID = UUID("01939f3e-7c00-7000-8000-000000000001")

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
)
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(keys, inner),
    max_leaves=20,
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary() | st.decimals()
    | st.dates() | st.uuids() | st.complex_numbers() | st.builds(object),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.text(st.characters(), max_size=3) | st.integers() | st.binary(max_size=2) | st.none(), inner, max_size=3
    ),
    max_leaves=10,
)  # fmt: skip


def create(**changes: Any) -> Event:
    parts: dict[str, Any] = {
        "id": ID,
        "event_type": "account.move.posted",
        "aggregate_type": "account.move",
        "aggregate_id": "42",
        "payload": {"name": "INV/2026/00001", "amount_total": 1150.0},
    }
    return Event.create(**(parts | changes))


def refused(**changes: Any) -> EventInvalid:
    with pytest.raises(EventInvalid) as caught:
        create(**changes)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None, "the context could hold the payload"
    return caught.value


def attempt(**changes: Any) -> tuple[Event | None, EventInvalid | None]:
    try:
        return create(**changes), None
    except EventInvalid as error:
        return None, error


def test_body_is_the_contracts_bytes() -> None:
    assert create().body == (
        b'{"event_type":"account.move.posted","aggregate_type":"account.move","aggregate_id":"42",'
        b'"payload":{"name":"INV/2026/00001","amount_total":1150.0}}'
    )


def test_body_is_utf8_not_escapes() -> None:
    name = "Peñaranda & 株式会社 😀"
    assert name.encode() in create(payload={"name": name}).body


def test_event_is_a_value() -> None:
    event = create()
    assert event == create() == copy.copy(event) == pickle.loads(pickle.dumps(event))  # noqa: S301
    assert hash(event) == hash(create())
    assert event.instance == "default"
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.body = b""  # type: ignore[misc]
    assert not hasattr(event, "__dict__")


def test_repr_shows_no_business_data() -> None:
    assert "INV/2026/00001" not in repr(create())
    assert "account.move.posted" in repr(create())


def test_later_changes_of_the_payload_change_nothing() -> None:
    payload = {"lines": [1]}
    event = create(payload=payload)
    payload["lines"].append(2)
    assert json.loads(event.body)["payload"] == {"lines": [1]}


@given(st.dictionaries(keys, values))
def test_any_json_payload_arrives_as_it_was(payload: dict[str, object]) -> None:
    body = create(payload=payload).body
    read = json.loads(body.decode("utf-8"))
    assert list(read) == ["event_type", "aggregate_type", "aggregate_id", "payload"]
    assert read["payload"] == json.loads(json.dumps(payload))
    assert body == json.dumps(read, ensure_ascii=False, separators=(",", ":")).encode()


@given(anything)
def test_any_payload_at_all_is_taken_or_refused_by_name(payload: object) -> None:
    event, error = attempt(payload=payload)
    if event:
        assert "\x00" not in repr(json.loads(event.body))
    if error:
        assert error.field.startswith("payload")
        assert str(error).isprintable()


@given(st.dictionaries(st.sampled_from(["event_type", "aggregate_type", "aggregate_id", "instance", "id"]), anything))
def test_any_value_in_any_place_is_taken_or_refused(changes: dict[str, object]) -> None:
    _, error = attempt(**changes)
    assert error is None or error.field in changes


@pytest.mark.parametrize("value", ["a.b", "account.move.posted", "x_1.y_2.3", "a" * 100 + "." + "b" * 99])
def test_event_types_taken(value: str) -> None:
    assert create(event_type=value).event_type == value


@pytest.mark.parametrize(
    "value",
    ["", "account", ".a", "a.", "a..b", "A.b", "a.B", "1a.b", "_a.b", "a-b.c", "a.b\n", "\na.b", "a.b ", "ä.b", "a.²",
     "a.٣", "a.b\x00", "a" * 100 + "." + "b" * 100, None, 1, b"a.b", ["a.b"]],
)  # fmt: skip
def test_event_types_refused(value: object) -> None:
    assert refused(event_type=value).field == "event_type"


@pytest.mark.parametrize(
    "value", ["account.move", "res.partner", "x_custom", "_unknown", "ir.actions.act_window", "a.2"]
)
def test_aggregate_types_taken(value: str) -> None:
    assert create(aggregate_type=value).aggregate_type == value


@pytest.mark.parametrize(
    "value",
    ["", "Account.Move", "account.", ".move", "a..b", "a b", "a\n", "a.b\n", "2a", "a-b", "a" * 201, None, 42, b"a"],
)
def test_aggregate_types_refused(value: object) -> None:
    assert refused(aggregate_type=value).field == "aggregate_type"


@pytest.mark.parametrize("value", ["42", "0", "a b", "株式会社", "😀", "-1", "NewId_7", "x" * 200])
def test_aggregate_ids_taken(value: str) -> None:
    assert json.loads(create(aggregate_id=value).body)["aggregate_id"] == value


@pytest.mark.parametrize(
    "value", ["", "x" * 201, "a\n", "\x00", "a\x1f", "\x7f", "\x85", "\ud800", 42, None, b"42", ("4",)]
)
def test_aggregate_ids_refused(value: object) -> None:
    assert refused(aggregate_id=value).field == "aggregate_id"


def test_an_integer_as_aggregate_id_is_told_what_to_do() -> None:
    assert "str(record.id)" in str(refused(aggregate_id=42))


@pytest.mark.parametrize("value", ["default", "a", "0", "odoo-19_eu", "a" * 63])
def test_instances_taken(value: str) -> None:
    assert create(instance=value).instance == value


@pytest.mark.parametrize("value", ["", "-a", "_a", "A", "a.b", "a" * 64, "a\n", "a b", "a\r\nx-evil: 1", None, 1, b"a"])
def test_instances_refused(value: object) -> None:
    assert refused(instance=value).field == "instance"


@pytest.mark.parametrize("value", [None, str(ID), ID.int, ID.bytes])
def test_ids_refused(value: object) -> None:
    assert refused(id=value).field == "id"


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"lines": [{}, {}, {}, {"amount": float("nan")}]}, "payload.lines[3].amount"),
        ({"a": float("inf")}, "payload.a"),
        ({"a": [1, (2, -float("inf"))]}, "payload.a[1][1]"),
        ({"a": "x\x00y"}, "payload.a"),
        ({"a": {"b\x00": 1}}, "payload.a"),
        ({"a": "\ud800"}, "payload.a"),
        ({"a": {"\udfff": 1}}, "payload.a"),
        ({"a": 2**63}, "payload.a"),
        ({"a": -(2**63)}, "payload.a"),
        ({"a": 10**5000}, "payload.a"),
        ({"a": {"b": 1, 2: 3}}, "payload.a"),
        ({1: 2}, "payload"),
        ({None: 2}, "payload"),
        ({True: 2}, "payload"),
        ({10**5000: 2}, "payload"),
        ({(1, (2,)): 2}, "payload"),
        ({"not an identifier": [object()]}, "payload['not an identifier'][0]"),
        ({"a": b"bytes"}, "payload.a"),
        ({"a": Decimal("1.0")}, "payload.a"),
        ({"a": date(2026, 1, 31)}, "payload.a"),
        ({"a": datetime(2026, 1, 31, tzinfo=timezone.utc)}, "payload.a"),
        ({"a": {1, 2}}, "payload.a"),
        ({"a": iter([])}, "payload.a"),
        ({"a": MappingProxyType({})}, "payload.a"),
        ({"a": 1j}, "payload.a"),
        ({"a": ID}, "payload.a"),
        ({"ok": 1, "first": object(), "second": object()}, "payload.first"),
        ([], "payload"),
        ("text", "payload"),
        (None, "payload"),
        ([("a", 1)], "payload"),
    ],
)
def test_what_is_refused_names_the_path(payload: object, path: str) -> None:
    error = refused(payload=payload)
    assert error.field == path
    assert str(error) == f"{path} {error.rule}"
    assert len(str(error)) < 200


class Colour(str, Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Markup(str):
    """As Odoo's html fields give it."""


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({}, "{}"),
        ({"a": ()}, '{"a":[]}'),
        (MappingProxyType({"a": 1}), '{"a":1}'),
        (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
        ({"a": OrderedDict(b=1)}, '{"a":{"b":1}}'),
        ({"a": Colour.RED, "b": Level.HIGH, "c": Markup("<p>x</p>")}, '{"a":"red","b":3,"c":"<p>x</p>"}'),
        ({"a": "\\u0000"}, '{"a":"\\\\u0000"}'),
        ({"a": True, "b": False, "c": None, "d": 0, "e": ""}, '{"a":true,"b":false,"c":null,"d":0,"e":""}'),
        ({"a": 2**63 - 1, "b": 1e300, "c": -0.0}, '{"a":9223372036854775807,"b":1e+300,"c":-0.0}'),
        ({"a": 'quote " and \n \u2028'}, '{"a":"quote \\" and \\n \u2028"}'),
        ({"": {"": 1}}, '{"":{"":1}}'),
    ],
)
def test_what_is_taken_and_how_it_is_written(payload: Mapping[str, object], text: str) -> None:
    assert create(payload=payload).body.decode().endswith(f'"payload":{text}}}')


def nested(levels: int) -> dict[str, object]:
    inner: object = []
    for _ in range(levels - 2):
        inner = [inner]
    return {"a": inner}


def test_depth_has_a_limit_and_recursion_never_escapes() -> None:
    assert create(payload=nested(MAX_DEPTH))
    assert "nested" in refused(payload=nested(MAX_DEPTH + 1)).rule
    assert "nested" in refused(payload=nested(200_000)).rule


def test_what_holds_itself_is_refused() -> None:
    circle: dict[str, Any] = {}
    circle["self"] = [circle]
    assert refused(payload=circle).field.startswith("payload.self[0].self")


def test_a_small_thing_that_unfolds_into_a_huge_one_is_refused_in_time() -> None:
    bomb: object = [1, 1]
    for _ in range(50):
        bomb = [bomb, bomb]
    assert "values" in refused(payload={"bomb": bomb}).rule


def test_body_of_exactly_one_mebibyte_is_taken_and_one_byte_more_is_not() -> None:
    room = MAX_BODY - len(create(payload={"a": ""}).body)
    assert len(create(payload={"a": "x" * room}).body) == MAX_BODY
    error = refused(payload={"a": "x" * (room + 1)})
    assert error.field == "payload"
    assert "1,048,577" in error.rule
    assert refused(payload={"a": "é" * (room // 2 + 1)}).field == "payload", "bytes count, not characters"


@given(st.text(string.printable))
def test_error_texts_stay_on_one_line(value: str) -> None:
    _, error = attempt(event_type=value, aggregate_id=value)
    assert "\n" not in str(error)
