"""Removes what a test's instance left in a Supabase project, and says what it could not remove.

It looks for the rows itself, so that a table which a later migration adds is found too: in every schema with a table
that refers to odoo.instances, the rows that name the instance (`instance_id`, or its name in `instance`), and what
refers to such rows and would keep them. The append-only odoo.event_log refuses a delete, from its owner as well; these
rows of it go where the role may set `session_replication_role` (as on the platform, postgres may), or owns the table:
then its trigger is off within the transaction, under a short lock. Where the role may neither, as service_role, the
log's rows remain: they hold the events' names and no payload. So does what that role may only read, as the accepted
signatures (which the sweep removes soon) and the shadows; and with those the instance itself, without events.

In one transaction: either all that can go is gone, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2 import sql

from ipai_bridge.endpoint import shown_dsn
from ipai_harness.errors import HarnessError
from ipai_harness.schema_map import SchemaMap

PREFIXES = ("verify-", "conform-")
"""Instances of tests are named so; rows of another are never removed."""
_ROUNDS = 20

# Schemas of ours: those in which a table refers to odoo.instances, and odoo itself.
_TABLES = """
    with ours as (
      select distinct t.relnamespace as schema
      from pg_catalog.pg_constraint as c join pg_catalog.pg_class as t on t.oid = c.conrelid
      where c.contype = 'f' and c.confrelid = 'odoo.instances'::regclass
      union select 'odoo'::regnamespace
    )
    select t.oid::bigint, n.nspname, t.relname, a.attname
    from pg_catalog.pg_class as t
    join pg_catalog.pg_namespace as n on n.oid = t.relnamespace
    join pg_catalog.pg_attribute as a on a.attrelid = t.oid and not a.attisdropped
    where t.relkind in ('r', 'p') and not t.relispartition and t.relnamespace in (select schema from ours)
      and ((a.attname = 'instance_id' and a.atttypid = 'bigint'::regtype)
        or (a.attname = 'instance' and a.atttypid = 'text'::regtype))
    order by n.nspname, t.relname, a.attname desc
"""
_REFERRING = """
    select c.conrelid::bigint, n.nspname, t.relname, a.attname, c.confrelid::bigint, b.attname
    from pg_catalog.pg_constraint as c
    join pg_catalog.pg_class as t on t.oid = c.conrelid
    join pg_catalog.pg_namespace as n on n.oid = t.relnamespace
    join pg_catalog.pg_attribute as a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
    join pg_catalog.pg_attribute as b on b.attrelid = c.confrelid and b.attnum = c.confkey[1]
    where c.contype = 'f' and c.confdeltype in ('a', 'r')  -- the others see to their rows themselves
      and cardinality(c.conkey) = 1 and not t.relispartition and c.conrelid <> c.confrelid
"""


@dataclass
class Cleaned:
    """How many rows were removed, by table; how many remain (-1: the role cannot see how many), and why."""

    removed: dict[str, int] = field(default_factory=dict)
    remains: dict[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether nothing is left."""
        return not self.remains


@dataclass(frozen=True)
class _Table:
    name: str
    identifier: sql.Identifier
    condition: sql.Composable


def clean_up(dsn: str, instance: str) -> Cleaned:
    """Removes every row of a test's instance, in a project with our schema.

    Raises HarnessError for an instance that is not a test's, and where the database cannot be reached.
    """
    _of_a_test(instance)
    try:
        with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
            return _clean(cursor, instance)
    except psycopg2.Error as error:
        raise _said(dsn, instance, error) from None


def clean_up_events(dsn: str, schema_map: SchemaMap, instance: str, keys: Sequence[str]) -> Cleaned:
    """Removes the events of these keys, in a project with another schema. `instance`: under which they were sent."""
    _of_a_test(instance)
    cleaned = Cleaned()
    try:
        with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
            for section in ("log", "events"):
                if schema_map.has(section):
                    found = schema_map.sections[section]
                    identifier = sql.Identifier(found.schema, found.table)
                    condition = sql.SQL("{}::text = any({})").format(
                        sql.Identifier(found.columns["key"]), sql.Literal(list(keys))
                    )
                    _delete(cursor, _Table(f"{found.schema}.{found.table}", identifier, condition), cleaned)
    except psycopg2.Error as error:
        raise _said(dsn, instance, error) from None
    return cleaned


def _of_a_test(instance: str) -> None:
    if not instance.startswith(PREFIXES):
        raise HarnessError(
            f"the instance {instance!r} is not a test's: rows are removed only of {' and '.join(PREFIXES)}…"
        )


def _said(dsn: str, instance: str, error: psycopg2.Error) -> HarnessError:
    reason = str(error).strip().partition("\n")[0] if error.pgcode else "no connection"
    return HarnessError(f"{shown_dsn(dsn)} could not be cleaned of {instance}: {reason}")


def _clean(cursor: psycopg2.extensions.cursor, instance: str) -> Cleaned:
    cleaned = Cleaned()
    cursor.execute("select id from odoo.instances where name = %s", (instance,))
    found = cursor.fetchone()
    tables = _tables(cursor, instance, found[0] if found else None)
    for _ in range(_ROUNDS):
        # What is referred to goes in a later round than what refers to it.
        left = [table for table in tables if not _delete(cursor, table, cleaned)]
        if not left or len(left) == len(tables):
            break
        tables = left
    return cleaned


def _tables(cursor: psycopg2.extensions.cursor, instance: str, instance_id: int | None) -> list[_Table]:
    """Every table that may hold rows of the instance, with what they are known by."""
    known: dict[int, _Table] = {}
    cursor.execute(_TABLES)
    for oid, schema, name, column in cursor.fetchall():
        value = instance_id if column == "instance_id" else instance
        if oid not in known and value is not None:
            condition = sql.SQL("{} = {}").format(sql.Identifier(column), sql.Literal(value))
            known[oid] = _Table(f"{schema}.{name}", sql.Identifier(schema, name), condition)
    cursor.execute("select 'odoo.instances'::regclass::oid::bigint")
    [(root,)] = cursor.fetchall()
    own = sql.SQL("name = {}").format(sql.Literal(instance))
    known[root] = _Table("odoo.instances", sql.Identifier("odoo", "instances"), own)
    cursor.execute(_REFERRING)
    references = cursor.fetchall()
    grew = True
    while grew:
        grew = False
        for oid, schema, name, column, parent, key in references:
            if oid not in known and parent in known:
                condition = sql.SQL("{} in (select {} from {} where {})").format(
                    sql.Identifier(column), sql.Identifier(key), known[parent].identifier, known[parent].condition
                )
                known[oid] = _Table(f"{schema}.{name}", sql.Identifier(schema, name), condition)
                grew = True
    return list(known.values())


def _delete(cursor: psycopg2.extensions.cursor, table: _Table, cleaned: Cleaned) -> bool:
    """Whether the table holds none of the rows any more. What remains, and why, is noted."""
    statement = sql.SQL("delete from {} where {}").format(table.identifier, table.condition)
    reasons = []
    cursor.execute("select row_security_active(%s)", (table.identifier.as_string(cursor),))
    if cursor.fetchone() == (True,):
        cleaned.remains[table.name] = (-1, "row-level security hides them from this role")
        return False
    for prepare, restore in _ways(table):
        cursor.execute("savepoint cleaning")
        try:
            for one in prepare:
                cursor.execute(one)
            cursor.execute(statement)
            count = cursor.rowcount
            for one in restore:
                cursor.execute(one)
            cursor.execute("release savepoint cleaning")
        except psycopg2.errors.ForeignKeyViolation:
            cursor.execute("rollback to savepoint cleaning")
            cleaned.remains[table.name] = (_count(cursor, table), "other rows refer to them")
            return False
        except psycopg2.Error as error:
            cursor.execute("rollback to savepoint cleaning")
            reasons.append(error.diag.message_primary or type(error).__name__)
            continue
        if count:
            cleaned.removed[table.name] = cleaned.removed.get(table.name, 0) + count
        cleaned.remains.pop(table.name, None)
        return True
    remaining = _count(cursor, table)
    if remaining == 0:
        return True
    cleaned.remains[table.name] = (remaining, "; ".join(dict.fromkeys(reasons)))
    return False


def _ways(table: _Table) -> list[tuple[list[sql.Composable], list[sql.Composable]]]:
    """How to delete: plainly; else without triggers, for this statement or for this transaction's view of the table."""
    off = sql.SQL("alter table {} disable trigger user").format(table.identifier)
    on = sql.SQL("alter table {} enable trigger user").format(table.identifier)
    if table.name != "odoo.event_log":
        return [([], [])]
    return [
        ([], []),
        (
            [sql.SQL("set local session_replication_role = replica")],
            [sql.SQL("set local session_replication_role = origin")],
        ),
        ([sql.SQL("set local lock_timeout = '3s'"), off], [on]),
    ]


def _count(cursor: psycopg2.extensions.cursor, table: _Table) -> int:
    cursor.execute("savepoint counting")
    try:
        cursor.execute(sql.SQL("select count(*) from {} where {}").format(table.identifier, table.condition))
        row: Any = cursor.fetchone()
        cursor.execute("release savepoint counting")
        return int(row[0])
    except psycopg2.Error:
        cursor.execute("rollback to savepoint counting")
        return -1
