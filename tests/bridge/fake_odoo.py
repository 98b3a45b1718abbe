"""What the bridge needs of Odoo, on a real PostgreSQL: the cursor behaves as Odoo 19's, with its hooks and isolation.

As the real ones: a commit runs the callbacks in the order in which they were added, and one of them may commit again,
which then runs the rest inside; a rollback forgets them; `with cursor` commits and closes, or rolls back.
"""

from __future__ import annotations

import collections
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest

from tests.bridge.fake_records import FakeRecords, Table, UserError

TABLE = Table("res.partner", {"name": "char"}, {id: {"name": f"Partner {id}"} for id in range(1, 1001)})


class Callbacks:
    """As odoo.tools.misc.Callbacks."""

    def __init__(self) -> None:
        self._funcs: collections.deque[Callable[[], object]] = collections.deque()
        self.data: dict[str, Any] = {}

    def add(self, func: Callable[[], object]) -> None:
        self._funcs.append(func)

    def run(self) -> None:
        while self._funcs:
            self._funcs.popleft()()
        self.clear()

    def clear(self) -> None:
        self._funcs.clear()
        self.data.clear()

    def __len__(self) -> int:
        return len(self._funcs)


class Cursor:
    """As odoo.sql_db.Cursor."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg2.connect(dsn)
        self.connection.set_session(isolation_level="REPEATABLE READ")
        self._obj = self.connection.cursor()
        self.postcommit = Callbacks()
        self.dbname = self.connection.info.dbname
        self.statements: list[str] = []
        self.commits = 0

    def execute(self, query: str, params: Any = None) -> None:
        self.statements.append(query)
        self._obj.execute(query, params)

    def fetchone(self) -> Any:
        return self._obj.fetchone()

    def fetchall(self) -> list[Any]:
        return self._obj.fetchall()

    def commit(self) -> None:
        self.commits += 1
        self.connection.commit()
        self.postcommit.run()

    def rollback(self) -> None:
        self.postcommit.clear()
        self.connection.rollback()

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.close()


class Parameters:
    """As the model ir.config_parameter."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def sudo(self) -> Parameters:
        return self

    def get_param(self, key: str) -> str | bool:
        return self._values.get(key, False)


class Registry:
    """As odoo's, in that the bridge only asks whether it is still the same."""


class Environment:
    """As odoo.api.Environment."""

    def __init__(
        self, cr: Cursor, registry: Registry, values: Mapping[str, str], context: Mapping[str, Any] | None = None
    ) -> None:
        self.cr = cr
        self.registry = registry
        self.context = dict(context or {})
        self.administrator = True
        self._values = values

    def __call__(self, *, cr: Cursor | None = None, context: Mapping[str, Any] | None = None) -> Environment:
        return Environment(cr or self.cr, self.registry, self._values, self.context if context is None else context)

    def is_system(self) -> bool:
        return self.administrator

    def __getitem__(self, model: str) -> Parameters:
        assert model == "ir.config_parameter"
        return Parameters(self._values)


class Records(FakeRecords):
    """As odoo.models.BaseModel."""

    def __init__(self, env: Environment, ids: Sequence[Any]) -> None:
        super().__init__(TABLE, ids)
        self.env = env


class Odoo:
    """An Odoo of one database; `dsn` is what its cursors connect with."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.registry = Registry()
        self.values: dict[str, str] = {}
        self.conf_path: str | None = None
        self.cursors: list[Cursor] = []

    def cursor(self) -> Cursor:
        self.cursors.append(Cursor(self.dsn))
        return self.cursors[-1]

    def records(self, *ids: Any, cursor: Cursor | None = None) -> Records:
        return Records(Environment(cursor or self.cursor(), self.registry, self.values), ids)

    def put_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make the modules importable that the bridge imports."""
        parts: dict[str, dict[str, Any]] = {
            "odoo": {},
            "odoo.sql_db": {
                "db_connect": lambda _: types.SimpleNamespace(cursor=self.cursor),
                "connection_info_for": lambda _: ("", psycopg2.extensions.parse_dsn(self.dsn)),
            },
            "odoo.tools": {"config": self},
            "odoo.exceptions": {"UserError": UserError},
            "odoo.models": {"BaseModel": Records},
            "odoo.api": {"Environment": Environment},
        }
        for name, attributes in parts.items():
            module = types.ModuleType(name)
            vars(module).update(attributes)
            monkeypatch.setitem(sys.modules, name, module)

    def __getitem__(self, option: str) -> str | None:
        assert option == "config"
        return self.conf_path

    def close(self) -> None:
        for cursor in self.cursors:
            cursor.close()
