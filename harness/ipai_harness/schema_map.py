"""Which tables and columns stand for what, in a project whose schema is not ours.

    SchemaMap.ours()             the schema of contract 2
    SchemaMap.read(path)         a file in TOML, as `--schema-map FILE` takes it: what it does not say is as in ours

    [events]                                 # what arrived; ours is odoo.webhook_events
    table = "integration.outbox"
    key = "event_id"                         # the idempotency key
    aggregate_type = "model"
    aggregate_id = "record_id"
    instance = "source"                      # a text, the instance's name; or an id, see [instances]
    error = false                            # there is no such column

    [events.status_values]                   # what the column `status` holds, for each of our four states
    pending = ["new", "queued"]
    completed = ["done"]

    [instances]                              # where events.instance is an id; instances = false: it is the name itself
    table = "odoo.instances"

`map.table("events")` and `map.column("events", "key")` are quoted, ready for a statement: no text of the file ever
becomes SQL in another way. Pure; `observe.rows.Observer` reads through it, and says what does not fit the database.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipai_harness.errors import SchemaMapInvalid

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

STATUSES = ("pending", "processing", "completed", "failed")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}")
_OURS: dict[str, dict[str, str]] = {
    "events": {
        "table": "odoo.webhook_events", "id": "id", "key": "idempotency_key", "instance": "instance_id",
        "sequence": "sequence", "event_type": "event_type", "aggregate_type": "aggregate_type",
        "aggregate_id": "aggregate_id", "payload": "payload", "status": "status", "error": "error_message",
        "received_at": "received_at", "processed_at": "processed_at",
    },
    "instances": {"table": "odoo.instances", "id": "id", "name": "name"},
    "log": {"table": "odoo.event_log", "key": "idempotency_key", "instance": "instance_id"},
    "shadow_projects": {
        "table": "odoo_seed.shadow_projects", "instance": "instance_id", "odoo_id": "odoo_id",
        "external_ref": "external_ref", "name": "name", "synced_at": "synced_at", "raw": "raw",
    },
    "shadow_tasks": {
        "table": "odoo_seed.shadow_tasks", "instance": "instance_id", "odoo_id": "odoo_id",
        "external_ref": "external_ref", "project_odoo_id": "project_odoo_id", "synced_at": "synced_at", "raw": "raw",
    },
}  # fmt: skip
_REQUIRED = {
    "events": {"key", "event_type", "aggregate_type", "aggregate_id", "payload", "status"},
    "instances": {"id", "name"},
    "log": {"key"},
    "shadow_projects": {"odoo_id", "name"},
    "shadow_tasks": {"odoo_id"},
}


@dataclass(frozen=True)
class Section:
    """One table: its schema and name, and its columns by what they stand for."""

    schema: str
    table: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class SchemaMap:
    """Every section that the project has, by its name; and what its status column's values mean."""

    sections: Mapping[str, Section]
    statuses: Mapping[str, str]

    @classmethod
    def ours(cls) -> SchemaMap:
        """The schema of contract 2."""
        return cls.of({})

    @classmethod
    def read(cls, path: Path) -> SchemaMap:
        """A map out of a file. Raises SchemaMapInvalid, which names the key and the rule."""
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SchemaMapInvalid(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:  # also what is no UTF-8
            raise SchemaMapInvalid(f"{path} is not TOML: {error}") from error
        return cls.of(given)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> SchemaMap:
        """A map out of what a file holds. Raises SchemaMapInvalid."""
        _known("", given, _OURS)
        sections = {}
        for name, ours in _OURS.items():
            section = _section(name, given.get(name, {}), ours)
            if section is not None:
                sections[name] = section
        events = given.get("events")
        values = events.get("status_values", {}) if isinstance(events, dict) else {}
        return cls(sections, _statuses(values))

    def has(self, section: str, column: str | None = None) -> bool:
        """Whether the project has this table, and in it this column."""
        found = self.sections.get(section)
        return found is not None and (column is None or column in found.columns)

    def table(self, section: str) -> str:
        """The table, quoted: "integration"."outbox". Raises SchemaMapInvalid where the project has none."""
        found = self._section(section)
        return f"{_quoted(found.schema)}.{_quoted(found.table)}"

    def column(self, section: str, column: str) -> str:
        """The column, quoted. Raises SchemaMapInvalid where the project has none."""
        name = self._section(section).columns.get(column)
        if name is None:
            raise SchemaMapInvalid(f"{section}.{column} is not there in this project, and this needs it")
        return _quoted(name)

    def status(self, value: object) -> str:
        """Which of the four states a value of the status column stands for; the value itself if none."""
        return self.statuses.get(str(value), str(value))

    def _section(self, section: str) -> Section:
        if section not in self.sections:
            raise SchemaMapInvalid(f"{section} is not there in this project, and this needs it")
        return self.sections[section]


def _section(name: str, given: Any, ours: Mapping[str, str]) -> Section | None:
    if given is False and name != "events":
        return None
    if not isinstance(given, dict):
        raise SchemaMapInvalid(f"{name} must be a section, [{name}]" + (", or false" if name != "events" else ""))
    _known(f"{name}.", given, [*ours, *(["status_values"] if name == "events" else [])])
    columns = {}
    for key, default in ours.items():
        value = given.get(key, default)
        if value is False and key != "table" and key not in _REQUIRED[name]:
            continue
        if not isinstance(value, str):
            raise SchemaMapInvalid(f"{name}.{key} must be a name in quotes")
        columns[key] = value
    parts = columns.pop("table").split(".")
    if len(parts) != 2:
        raise SchemaMapInvalid(f'{name}.table must be schema and table, such as "integration.outbox"')
    for where, value in [(f"{name}.table", part) for part in parts] + [(f"{name}.{k}", v) for k, v in columns.items()]:
        if not _NAME.fullmatch(value):
            raise SchemaMapInvalid(f"{where} must be of letters, digits, '_' and '$', at most 63, no digit first")
    return Section(parts[0], parts[1], columns)


def _statuses(given: Any) -> dict[str, str]:
    if not isinstance(given, dict):
        raise SchemaMapInvalid("events.status_values must be a section, [events.status_values]")
    _known("events.status_values.", given, STATUSES)
    found: dict[str, str] = {}
    for status in STATUSES:
        values = given.get(status, [status])
        if not isinstance(values, list) or not all(isinstance(value, (str, int)) for value in values):
            raise SchemaMapInvalid(f'events.status_values.{status} must be a list, such as ["{status}"]')
        for value in map(str, values):
            if value in found:
                raise SchemaMapInvalid(f"events.status_values: {value!r} stands for {found[value]} and for {status}")
            found[value] = status
    return found


def _known(prefix: str, given: Mapping[str, Any], names: Any) -> None:
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(key, list(names), 1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"the names are {', '.join(names)}"
            raise SchemaMapInvalid(f"{prefix}{key[:60]} is not known: {hint}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
