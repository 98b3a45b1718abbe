"""Odoo records to JSON values.

    read_payloads(invoices, ["name", "amount_total", "partner_id"])
    read_payloads(invoices, {"number": "name", "lines": lambda invoice: len(invoice.line_ids)})
    read_payloads(invoices, lambda invoice: {"number": invoice.name})

What a field becomes:

    boolean                             true, false
    integer, float, monetary            a number; 0 stays 0
    char, text, html, selection         text as it is; empty: null
    date                                "2026-01-31"; empty: null
    datetime                            "2026-01-31T10:11:12Z", in UTC, microseconds only if there are any; empty: null
    many2one                            {"id": 7, "display_name": "Azure Interior"}; empty: null
    one2many, many2many                 a list of ids
    reference                           "model,id" as Odoo keeps it; empty: null
    many2one_reference                  the id; empty: null
    json                                as it is; empty: null
    properties                          a list of {"name", "string", "type", "value"}, the value by the rules above
    binary, image                       refused: never sent

The whole recordset is read by one call of `read`, with the rights of the user in its environment. A record or a field
that this user may not read is an error, not a hole; so are a deleted record and an unsaved one. As everywhere in Odoo,
a many2one shows its display name to whoever may read the field, and a list of ids leaves out archived records unless
the context says otherwise.

What a callable gives is turned by the same rules; False stays false there, since nothing tells what it stands for.
Nothing of Odoo is imported: records are known by what they can do.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any, Protocol

from ipai_bridge.errors import FieldNotSendable, PayloadError, RecordUnreadable, UnknownField
from ipai_bridge.event import MAX_DEPTH

__all__ = ["DEFAULT_FIELDS", "Fields", "Records", "read_payloads"]

DEFAULT_FIELDS = ("id", "display_name")


class Records(Protocol):
    """What is asked of a recordset: any of Odoo's has it."""

    @property
    def _name(self) -> str: ...
    @property
    def _ids(self) -> Sequence[Any]: ...
    @property
    def _fields(self) -> Mapping[str, Any]: ...
    def __iter__(self) -> Any: ...
    def exists(self) -> Any: ...
    def read(self, fields: Sequence[str] | None = None, load: str = ...) -> list[dict[str, Any]]: ...


Fields = Sequence[str] | Mapping[str, "str | Callable[[Any], object]"] | Callable[[Any], Mapping[str, object]] | None
Convert = Callable[[Any], object]


def read_payloads(records: Records, fields: Fields = None) -> list[dict[str, object]]:
    """One dict of JSON values for each record, in their order.

    `fields`: a list of field names; or a dict of output key to field name or callable(record); or a callable(record)
    that gives a mapping; or None for `id` and `display_name`.

    Raises `UnknownField`, `FieldNotSendable`, `RecordUnreadable`, and `PayloadError` for what has no such form.
    """
    model = records._name
    named, called, whole = _plan(fields)
    columns = [(key, name, _converter(records, name)) for key, name in named]
    unsaved = sum(1 for id in records._ids if not id)
    if unsaved:
        raise RecordUnreadable(
            f"{unsaved} of {len(records._ids)} {model} records are not saved yet: save them, then emit"
        )
    if not records._ids:
        return []
    rows = _read(records, [name for _, name in named])
    payloads: list[dict[str, object]]
    if whole is not None:
        payloads = [_mapping(_call(whole, record, model, ""), model) for record in records]
    elif called:
        payloads = []
        converted = {key: (name, convert) for key, name, convert in columns}
        functions = dict(called)
        for row, record in zip(rows, records, strict=True):
            payload = {}
            for key in fields:  # type: ignore[union-attr]
                if key in functions:
                    payload[key] = _json_value(_call(functions[key], record, model, key), key, 1)
                else:
                    name, convert = converted[key]
                    payload[key] = convert(row[name])
            payloads.append(payload)
    else:
        payloads = [{key: convert(row[name]) for key, name, convert in columns} for row in rows]
    return payloads


_Plan = tuple[
    list[tuple[str, str]], list[tuple[str, Callable[[Any], object]]], "Callable[[Any], Mapping[str, object]] | None"
]


def _plan(fields: Fields) -> _Plan:
    """The named fields, the callables of single keys, and the callable of the whole."""
    if fields is None:
        return [(name, name) for name in DEFAULT_FIELDS], [], None
    if isinstance(fields, Mapping):
        named = []
        called = []
        for key, source in fields.items():
            if not isinstance(key, str):
                raise PayloadError(f"fields must have text as keys, not {type(key).__name__}")
            if isinstance(source, str):
                named.append((key, source))
            elif callable(source):
                called.append((key, source))
            else:
                raise PayloadError(f"fields[{key!r}] must be a field's name or a callable, not {type(source).__name__}")
        return named, called, None
    if isinstance(fields, (list, tuple)):
        for name in fields:
            if not isinstance(name, str):
                raise PayloadError(f"fields must be names of fields as text, not {type(name).__name__}")
        return [(name, name) for name in fields], [], None
    if callable(fields):
        return [], [], fields
    raise PayloadError(
        f"fields must be a list of names, a dict, a callable or None, not {type(fields).__name__}"
        + (f": write fields=[{fields!r}]" if isinstance(fields, str) and len(fields) < 60 else "")
    )


def _converter(records: Records, name: str) -> Convert:
    field = records._fields.get(name)
    if field is None:
        near = difflib.get_close_matches(name, list(records._fields), 1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        if "." in name:
            hint = (
                ": a path is not followed; give a dict with a callable, such as lambda record: record.partner_id.name"
            )
        raise UnknownField(f"{records._name} has no field {name[:100]!r}{hint}")
    if field.type in ("binary", "image"):
        raise FieldNotSendable(
            f"{records._name}.{name} is {field.type}, which is never sent: leave it out, and send a link instead"
        )
    return _CONVERTERS.get(field.type, _other)


def _read(records: Records, names: list[str]) -> list[dict[str, Any]]:
    try:
        rows = records.read(names or ["id"])
        # Without a column to fetch, Odoo's `read` does not notice that a record is gone.
        proven = any(
            records._fields[name].store and records._fields[name].column_type for name in names if name != "id"
        )
        there = None if proven else set(records.exists()._ids)
    except Exception as error:
        if _is_refusal(error):
            raise RecordUnreadable(
                f"{_list(records._name, records._ids)} may not be read: {_first_line(error)}"
            ) from error
        raise
    found = {row["id"] for row in rows} if there is None else there.intersection(row["id"] for row in rows)
    gone = [id for id in records._ids if id not in found]
    if gone:
        raise RecordUnreadable(f"{_list(records._name, gone)} is gone: emit before it is deleted, or leave it out")
    return rows


def _call(function: Callable[[Any], Any], record: Any, model: str, key: str) -> Any:
    try:
        return function(record)
    except Exception as error:
        if _is_refusal(error):
            where = f" by the callable for {key!r}" if key else " by the callable"
            raise RecordUnreadable(
                f"{_list(model, record._ids)} could not be read{where}: {_first_line(error)}"
            ) from error
        raise


def _is_refusal(error: Exception) -> bool:
    """True for Odoo's AccessError and MissingError, known by name: Odoo need not be there to be imported."""
    return any(cls.__name__ in ("AccessError", "MissingError") for cls in type(error).__mro__)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]


def _list(model: str, ids: Iterable[Any]) -> str:
    shown = [str(id) for id in ids]
    return f"{model} {', '.join(shown[:5])}" + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")


def _integer(value: Any) -> object:
    # `read` gives what XML-RPC can carry: integers of more than 32 bits come as floats.
    return int(value) if type(value) is float and value.is_integer() else value


def _text(value: Any) -> object:
    if not value:
        return None
    return value if type(value) is str else str.__str__(value)  # Markup becomes plain text: the same characters


def _or_null(value: object) -> object:
    return value or None


def _date(value: Any) -> object:
    return value.isoformat() if value else None


def _datetime(value: Any) -> object:
    if not value:
        return None
    if value.tzinfo is not None:
        value = value.astimezone(timezone.utc).replace(tzinfo=None)
    return f"{value.isoformat()}Z"


def _many2one(value: Any) -> object:
    return {"id": value[0], "display_name": _text(value[1])} if value else None


def _ids(value: Any) -> object:
    return list(value or ())


def _number(value: Any) -> object:
    return float(value) if isinstance(value, Decimal) else value


def _properties(value: Any) -> object:
    return [
        {"name": p.get("name"), "string": p.get("string"), "type": p.get("type"), "value": _property_value(p)}
        for p in value or ()
        if p.get("type") != "separator"
    ]


def _property_value(definition: Mapping[str, Any]) -> object:
    kind, value = definition.get("type"), definition.get("value")
    if kind == "boolean":
        return bool(value)
    if kind in ("integer", "float", "monetary"):
        return value if value is not False else None
    if kind == "many2one":
        return _many2one(value)
    if kind == "many2many":
        return [item[0] if isinstance(item, (list, tuple)) else item for item in value or ()]
    if kind == "datetime" and isinstance(value, str) and value:
        return f"{value.replace(' ', 'T')}Z"  # kept as text, in UTC
    if kind == "tags":
        return list(value or ())
    return _json_value(value or None, str(definition.get("name")), 1)


def _other(value: Any) -> object:
    return None if value is False else _json_value(value, "value", 1)


_CONVERTERS: dict[str, Convert] = {
    "boolean": bool,
    "char": _text,
    "date": _date,
    "datetime": _datetime,
    "float": _number,
    "html": _text,
    "integer": _integer,
    "json": _or_null,
    "many2many": _ids,
    "many2one": _many2one,
    "many2one_reference": lambda value: _integer(value) or None,
    "monetary": _number,
    "one2many": _ids,
    "properties": _properties,
    "reference": _text,
    "selection": _or_null,
    "text": _text,
}


def _mapping(value: Any, model: str) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise PayloadError(f"the callable for {model} must give a mapping, not {type(value).__name__}")
    return {key: _json_value(item, str(key)[:100], 1) for key, item in value.items()}


def _json_value(value: Any, path: str, depth: int) -> object:
    """The JSON value for what a callable gave. What is left as it is, `Event.create` takes or refuses by name."""
    kind = type(value)
    if kind in (str, int, float, bool) or value is None:
        return value
    if isinstance(value, datetime):
        return _datetime(value)
    if isinstance(value, date):
        return _date(value)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise FieldNotSendable(f"{path} is {kind.__name__}, which is never sent: leave it out, and send a link instead")
    if hasattr(value, "_ids") and hasattr(value, "_name"):
        raise PayloadError(f"{path} is a recordset of {value._name}: give its .id, .ids or one of its fields")
    if isinstance(value, Mapping) or kind in (list, tuple):
        if depth >= MAX_DEPTH:
            raise PayloadError(f"{path[:100]} is nested more than {MAX_DEPTH} deep")
        if isinstance(value, Mapping):
            return {key: _json_value(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
        return [_json_value(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    return value
