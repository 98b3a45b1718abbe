"""An Odoo in memory that can be asked like the real one, and a receiver in memory that keeps what it is sent."""

from __future__ import annotations

import json
from typing import Any

from ipai_bridge.errors import OdooRefused, SyncRefused
from ipai_bridge.sync.client import FunctionClient

TYPES = {"id": "integer", "name": "char", "active": "boolean", "write_date": "datetime", "project_id": "many2one"}


class Odoo:
    """`tables[model][id]` are the records; `refused` are ids that no one may read; `asked` the calls."""

    edition = "ce"
    database = "Prod-1"

    def __init__(self, **tables: dict[int, dict[str, Any]]) -> None:
        self.tables = {name.replace("_", "."): rows for name, rows in tables.items()}
        self.refused: set[int] = set()
        self.fields = dict(TYPES)
        self.asked: list[tuple[str, str]] = []
        self.xml_ids: dict[int, str] = {}
        self.time: str | None = "2026-03-01 00:00:00"

    def clock(self) -> str | None:
        return self.time

    def call(self, model: str, method: str, *args: Any, **kwargs: Any) -> Any:
        self.asked.append((model, method))
        if method == "fields_get":
            return {name: {"type": kind, "store": True} for name, kind in self.fields.items() if name in args[0]}
        if method == "get_external_id":
            return {str(number): self.xml_ids.get(number, "") for number in args[0]}
        if model not in self.tables:
            raise OdooRefused(f"no {model}")
        found = [
            row for _, row in sorted(self.tables[model].items()) if all(self._fits(row, term) for term in args[0])
        ][: kwargs["limit"]]
        if method == "search":
            return [row["id"] for row in found]
        assert method == "search_read"
        assert kwargs["load"] == ""
        assert kwargs["order"] == "id"
        if self.refused & {row["id"] for row in found} and args[1] != ["id"]:
            raise OdooRefused("not these")
        return [{"id": row["id"], **{name: row.get(name, False) for name in args[1]}} for row in found]

    @staticmethod
    def _fits(row: dict[str, Any], term: tuple[str, str, Any]) -> bool:
        name, operator, value = term
        if operator == "in":
            return row[name] in value
        return bool({">": row[name] > value, ">=": row[name] >= value, "=": row[name] == value}[operator])


class Receiver(FunctionClient):
    """Keeps the requests, and applies what spans say to `known`, by model."""

    def __init__(self, mode: str = "full", cursors: dict[str, str] | None = None) -> None:
        self.mode, self.cursors = mode, cursors or {}
        self.requests: list[dict[str, Any]] = []
        self.sizes: list[int] = []
        self.known: dict[str, set[int]] = {}
        self.refuse: str | None = None

    def request(self, body: bytes, *, once: bool = False) -> dict[str, Any]:  # noqa: ARG002
        said = json.loads(body)
        if self.refuse == said["action"]:
            raise SyncRefused("refused")
        self.requests.append(said)
        self.sizes.append(len(body))
        known = self.known.setdefault(said.get("entity", ""), set())
        ids = {row["raw"]["id"] for row in said.get("rows", ())}
        if said["action"] == "begin":
            return {"mode": self.mode, "cursors": self.cursors}
        if said["action"] == "finish":
            zero = dict.fromkeys(("pages", "inserted", "updated", "unchanged", "deleted", "error_count"), 0)
            status = "failed" if said["failed"] else "partial" if said["errors"] else "success"
            return {"status": status, "mode": self.mode, "errors": said["errors"], "warnings": [], **zero}
        unknown: list[int] = []
        if "span" in said:
            after, upto = said["span"]
            if said["action"] == "ids":
                spans = json.loads(f"[{said['ids'][1:-1]}]")
                listed = {number for low, high in spans for number in range(low, high + 1)}
                unknown = sorted(listed - known)
            else:
                listed = ids | {error["odoo_id"] for error in said["errors"]}
            known -= {n for n in known if n > after and (upto is None or n <= upto)} - listed
        known |= ids
        return {"unknown": unknown}

    def pages(self, model: str, action: str = "page") -> list[dict[str, Any]]:
        return [said for said in self.requests if said["action"] == action and said["entity"] == model]


def record(number: int, name: str = "n", written: str = "2026-01-01 00:00:00", **more: Any) -> dict[str, Any]:
    return {"id": number, "name": name, "active": True, "write_date": written, **more}


def records(*numbers: int, **more: Any) -> dict[int, dict[str, Any]]:
    return {number: record(number, **more) for number in numbers}
