"""What the database's catalogues say, read once, in a read-only transaction, by whatever role the DSN names."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

import psycopg2
import psycopg2.extras

from ipai_bridge.endpoint import broken_dsn_rule, deprecated_project, shown_dsn
from ipai_harness.audit.file_rules import PLATFORM_SCHEMAS
from ipai_harness.errors import AuditImpossible

CONNECT_TIMEOUT = 10  # seconds
STATEMENT_TIMEOUT = "60s"
API_ROLES = ("anon", "authenticated")
DEFAULT_EXPOSED = ("public", "graphql_public")
_HEADING = re.compile(r"^-- name: ([a-z_]+)$", re.MULTILINE)

Row = Mapping[str, Any]


def queries() -> dict[str, str]:
    """The statements of catalog.sql by name."""
    text = resources.files(__package__).joinpath("catalog.sql").read_text(encoding="utf-8")
    _, *sections = _HEADING.split(text)
    return dict(zip(sections[::2], sections[1::2], strict=True))


@dataclass(frozen=True)
class Catalog:
    """The catalogues' rows, by the names of catalog.sql; `exposed_by_config` when a config.toml was read as well."""

    rows: Mapping[str, Sequence[Row]]
    exposed_by_config: Collection[str] | None = None

    @property
    def major(self) -> int:
        """PostgreSQL's major version."""
        return int(self.rows["version"][0]["major"])

    @cached_property
    def exposed_by_role(self) -> list[str]:
        """The schemas that the role authenticator's settings expose; empty where they say nothing."""
        found = [row["schemas"] for row in self.rows["exposed"]]
        return [name.strip().strip('"') for name in found[0].split(",") if name.strip()] if found else []

    @cached_property
    def exposed(self) -> set[str]:
        """The schemas that PostgREST exposes: by the role's settings and config.toml, or the platform's defaults."""
        return {*self.exposed_by_role, *(self.exposed_by_config or ())} or set(DEFAULT_EXPOSED)

    @cached_property
    def usage(self) -> dict[str, set[str]]:
        """Schema ▶ which of the API's roles may look anything up in it."""
        return {row["name"]: set(row["usage"]) for row in self.rows["schemas"]}

    def relations(self, kinds: str) -> Iterator[Row]:
        """The project's relations of these kinds (pg_class.relkind)."""
        yield from (row for row in self.rows["relations"] if row["kind"] in kinds and is_ours(row))

    @property
    def definers(self) -> Iterator[Row]:
        """The project's SECURITY DEFINER functions."""
        yield from filter(is_ours, self.rows["definers"])

    @property
    def policies(self) -> Iterator[Row]:
        """All policies: those on the platform's tables (storage, realtime) are the project's, too."""
        yield from self.rows["policies"]

    def reachable(self, row: Row, *roles: str) -> bool:
        """Whether one of the roles may use the schema of the object."""
        return bool(self.usage.get(row["schema"], set()) & {*roles, "public"})


def is_ours(row: Row) -> bool:
    """Whether the object is in a schema of the project's, not in one of the platform's."""
    return row["schema"] not in PLATFORM_SCHEMAS


def grants(row: Row, *roles: str) -> list[str]:
    """What any of these roles (or PUBLIC) may do with a relation: ["SELECT", …]."""
    wanted = {*roles, "public"}
    return sorted({grant.split(" ")[1] for grant in row["grants"] if grant.split(" ")[0] in wanted})


def full_name(row: Row) -> str:
    """`schema.name`."""
    return f"{row['schema']}.{row['name']}"


def read(dsn: str, exposed_by_config: Collection[str] | None = None) -> Catalog:
    """Ask the database. Raises AuditImpossible when it cannot be reached or does not answer."""
    broken = broken_dsn_rule(dsn)
    if broken:
        raise AuditImpossible(f"the DSN {broken}")
    if (ref := deprecated_project(dsn)) is not None:
        raise AuditImpossible(f"the Supabase project {ref} is deprecated and refused: name the one in use")
    shown = shown_dsn(dsn)
    try:
        connection = psycopg2.connect(dsn, connect_timeout=CONNECT_TIMEOUT, application_name="ipai-harness audit")
    except psycopg2.Error as error:
        # libpq repeats a password that it takes for a part of the address.
        why = str(error).strip().splitlines()[-1] if shown.startswith("postgres") else type(error).__name__
        raise AuditImpossible(
            f"no connection to {shown}: {why}. Check the address, the login and the network."
        ) from None
    try:
        with contextlib.closing(connection):
            return Catalog(_ask(connection), exposed_by_config)
    except psycopg2.Error as error:
        raise AuditImpossible(f"{shown} did not answer: {str(error).strip()}") from error


def _ask(connection: psycopg2.extensions.connection) -> dict[str, list[Row]]:
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
        # So that nothing of the project's is asked in a catalogue's place, and expressions come with their schemas.
        cursor.execute("set local search_path = pg_catalog, pg_temp")
        cursor.execute("select set_config('statement_timeout', %s, true)", [STATEMENT_TIMEOUT])
        cursor.execute("select rolname::text from pg_roles where rolname = any(%s)", [list(API_ROLES)])
        roles = [row["rolname"] for row in cursor.fetchall()] + ["public"]
        rows: dict[str, list[Row]] = {}
        for name, query in queries().items():
            cursor.execute(query, {"roles": roles})
            rows[name] = [dict(row) for row in cursor.fetchall()]
    connection.rollback()
    return rows
