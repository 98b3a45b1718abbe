"""Statements by name: the loader, and that the code gives every statement what it asks for."""

from __future__ import annotations

import ast
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest

from ipai_bridge.event import Event, next_id
from ipai_bridge.outbox import postgres, queries, sqlite
from ipai_bridge.outbox.postgres import PostgresOutbox
from ipai_bridge.outbox.queries import load_queries, read_sql
from ipai_bridge.outbox.sqlite import SqliteOutbox
from ipai_bridge.outbox.store import Aggregate, Hold, Lease, Settlement

FILES = ["postgres.sql", "sqlite.sql"]


def load(monkeypatch: pytest.MonkeyPatch, text: str) -> dict[str, str]:
    monkeypatch.setattr(queries, "read_sql", lambda _: text)
    return load_queries("made-up.sql")


# --- the loader


def test_a_section_is_a_name_and_its_statements_without_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "-- about the file\n\n-- name: one\n-- why\nselect 1\n  -- and why\n  + 1;\n\n-- name: two_b\nselect '--x';\n"
    )
    assert load(monkeypatch, text) == {"one": "select 1\n  + 1;", "two_b": "select '--x';"}


def test_a_file_of_comments_has_no_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, "-- nothing here\n") == {}


@pytest.mark.parametrize("text", ["-- name: a\nselect 1;\n-- name: a\nselect 2;\n", "-- name: a\n-- only this\n"])
def test_a_name_that_is_there_twice_or_empty_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with pytest.raises(ValueError, match=r"made-up\.sql: the section 'a' is empty or there twice"):
        load(monkeypatch, text)


@pytest.mark.parametrize("file", FILES)
def test_every_heading_of_a_file_is_read(file: str) -> None:
    headings = [line for line in read_sql(file).splitlines() if "name:" in line]
    assert len(headings) == len(load_queries(file)) > 10, "a heading that is misspelt would hide its statement"


@pytest.mark.parametrize("file", FILES)
def test_a_comment_stands_on_lines_of_its_own(file: str) -> None:
    # The loader strips whole lines only, so that a literal with two hyphens stays as it is.
    assert not [sql for sql in load_queries(file).values() if "--" in sql]


# --- the statements and the code

MODULES = [(postgres, "postgres.sql"), (sqlite, "sqlite.sql")]


def names_used(module: ModuleType) -> set[str]:
    """Every string constant in the subscripts of QUERIES."""
    tree = ast.parse(Path(str(module.__file__)).read_text())
    return {
        constant.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "QUERIES"
        for constant in ast.walk(node.slice)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    }


@pytest.mark.parametrize(("module", "file"), MODULES)
def test_every_statement_is_used_and_every_one_used_is_there(module: ModuleType, file: str) -> None:
    assert names_used(module) == set(load_queries(file))


@pytest.mark.parametrize(("module", "file"), MODULES)
def test_no_statement_is_put_together_from_what_comes_in(module: ModuleType, file: str) -> None:
    """What is executed is a literal, a named statement, or an f-string of this module's own constants."""
    constants = {name for name in vars(module) if name.lstrip("_").isupper()}
    tree = ast.parse(Path(str(module.__file__)).read_text())
    calls = [
        node.args[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "execute"
    ]
    assert len(calls) > 10
    assert not [ast.unparse(call) for call in calls if isinstance(call, (ast.BinOp, ast.Call)) and not _is_schema(call)]
    for call in calls:
        for part in ast.walk(call) if isinstance(call, ast.JoinedStr) else ():
            assert not isinstance(part, ast.Name) or part.id in constants, ast.unparse(call)


def _is_schema(call: ast.expr) -> bool:
    return ast.unparse(call) == "schema_sql()"


# Every method once, against a connection that only looks at what it is given.

EVENT = Event.create(
    id=next_id(), event_type="a.b", aggregate_type="res.partner", aggregate_id="1", payload={}, instance="default"
)
LEASE = Lease(Aggregate("res.partner", "1", "default"), uuid4(), 0.0, ())
SETTLEMENT = Settlement(EVENT.id, LEASE.token, "delivered", 1, 200, None, 0.0, 0.1)


class LookingCursor:
    """Notes, for each statement, the parameters that it asks for and those that it gets."""

    def __init__(self) -> None:
        self.seen: list[tuple[set[str], set[str]]] = []
        self.rowcount = 0

    def __enter__(self) -> LookingCursor:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, query: str, parameters: Any = None) -> None:
        if isinstance(parameters, dict):
            self.seen.append((set(re.findall(r"%\((\w+)\)s", query)), set(parameters)))
        else:
            assert "%(" not in query

    def fetchall(self) -> list[Any]:
        return []

    def fetchone(self) -> tuple[Any, ...]:
        return (False, 0, 0)


class LookingConnection:
    closed = 0

    def __init__(self) -> None:
        self.looking = LookingCursor()

    def set_session(self, **_: object) -> None:
        pass

    def cursor(self) -> LookingCursor:
        return self.looking

    def close(self) -> None:
        pass


def test_postgres_gets_exactly_the_parameters_that_it_asks_for() -> None:
    connection = LookingConnection()
    outbox = PostgresOutbox(lambda: connection)  # type: ignore[arg-type,return-value]
    postgres.emit(connection.looking, [EVENT])
    outbox.install()
    outbox.claim(limit=1, lease=60)
    outbox.settle([SETTLEMENT], [Hold(LEASE, release=True)], lease=60)
    outbox.entries()
    outbox.retry()
    outbox.purge(status="dead", older_than=1)
    seen = connection.looking.seen
    assert len(seen) >= 7
    for asked, given in seen:
        assert asked == given
    asked_for = {name for asked, _ in seen for name in asked}
    in_file = set(re.findall(r"%\((\w+)\)s", "".join(load_queries("postgres.sql").values())))
    assert in_file - asked_for <= {"id"}, "show's, which finds nothing here"


def test_sqlite_refuses_a_parameter_that_is_missing_by_itself(tmp_path: Path) -> None:
    # sqlite3 raises ProgrammingError for it, and the conformance suite calls every method; so only the surplus is left.
    statements = load_queries("sqlite.sql")
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(statements.pop("schema"))
        for sql in statements.values():
            for name in re.findall(r":([a-z_]+)", sql):
                with pytest.raises(sqlite3.ProgrammingError, match="binding"):
                    connection.execute(sql, {other: None for other in re.findall(r":([a-z_]+)", sql) if other != name})
    with closing(SqliteOutbox(tmp_path / "outbox.db")) as outbox:
        assert outbox.install()
