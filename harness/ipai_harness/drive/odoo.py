"""An administrator who wires events, and users who work, in a running Odoo CE 19.

Everything goes through Odoo's RPC, with the rights of the login: nothing here reaches past what a person could do in
the web client.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import odoorpc

Values = Mapping[str, Any]
Domain = Sequence[Any]


class OdooSession:
    """One logged-in user."""

    def __init__(self, url: str, database: str, login: str, password: str, *, timeout: float = 60.0) -> None:
        """Logs in. Raises `odoorpc.error.RPCError` when Odoo refuses, `OSError` when it does not answer."""
        parts = urlsplit(url)
        self._rpc = odoorpc.ODOO(parts.hostname, protocol="jsonrpc", port=parts.port or 80, timeout=timeout)
        self._rpc.login(database, login, password)

    def call(self, model: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """`env[model].method(...)`, the first argument being the record ids where the method is a record's."""
        return self._rpc.execute_kw(model, method, list(args), kwargs)

    def create(self, model: str, values: Values) -> int:
        """The new record's id."""
        created = self.call(model, "create", [dict(values)])
        return int(created[0])

    def create_many(self, model: str, rows: Iterable[Values]) -> list[int]:
        """The new records' ids; one call, one transaction."""
        return list(self.call(model, "create", [dict(values) for values in rows]))

    def write(self, model: str, ids: int | Sequence[int], values: Values) -> None:
        """Change records."""
        self.call(model, "write", [ids] if isinstance(ids, int) else list(ids), dict(values))

    def unlink(self, model: str, ids: Sequence[int]) -> None:
        """Delete records."""
        self.call(model, "unlink", list(ids))

    def read(self, model: str, record_id: int, fields: Sequence[str]) -> dict[str, Any]:
        """Named fields of one record."""
        [row] = self.call(model, "read", [record_id], list(fields))
        return dict(row)

    def search(self, model: str, domain: Domain, **kwargs: Any) -> list[int]:
        """Ids of the records that fit."""
        return list(self.call(model, "search", list(domain), **kwargs))

    # --- what an administrator does

    def model_id(self, model: str) -> int:
        """The id of a model in `ir.model`."""
        [found] = self.search("ir.model", [("model", "=", model)])
        return found

    def server_action(self, name: str, model: str, code: str) -> int:
        """Write a server action with Python code."""
        return self.create(
            "ir.actions.server", {"name": name, "model_id": self.model_id(model), "state": "code", "code": code}
        )

    def run_server_action(self, action_id: int, model: str, ids: Sequence[int]) -> Any:
        """Run a server action on records, as its menu entry in the web client does."""
        context = {"active_model": model, "active_ids": list(ids), "active_id": ids[0] if ids else False}
        return self.call("ir.actions.server", "run", [action_id], context=context)

    def automation(
        self,
        name: str,
        model: str,
        code: str,
        *,
        trigger: str = "on_create_or_write",
        before: Domain = (),
        after: Domain = (),
        fields: Sequence[str] = (),
    ) -> int:
        """Write an automation rule with one server action of Python code.

        Args:
            name: shown in the web client.
            model: whose records it watches.
            code: of the server action.
            trigger: as in `base.automation`.
            before: domain that a record must fit before the change.
            after: domain that it must fit after it.
            fields: only when one of these is written.
        """
        watched = self.search("ir.model.fields", [("model", "=", model), ("name", "in", list(fields))])
        values: dict[str, Any] = {
            "name": name,
            "model_id": self.model_id(model),
            "trigger": trigger,
            "action_server_ids": [
                (0, 0, {"name": name, "model_id": self.model_id(model), "state": "code", "code": code})
            ],
        }
        if before:
            values["filter_pre_domain"] = repr(list(before))
        if after:
            values["filter_domain"] = repr(list(after))
        if fields:
            values["trigger_field_ids"] = [(6, 0, watched)]
        return self.create("base.automation", values)
