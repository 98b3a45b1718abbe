"""The migrations of a Supabase project: applied in order, and taken back, each in one transaction with its record.

Records stand where the Supabase CLI keeps them (`supabase_migrations.schema_migrations`), so that `supabase migration
list` and `supabase db push` understand them. The way back of `migrations/<file>` is `migrations/down/<file>`: by hand
only, since the CLI knows no way back. Whoever applies takes a lock on the records: two at once take turns.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2.extensions

from ipai_harness.errors import MigrationFailed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Connection = psycopg2.extensions.connection

WAYS_BACK = "down"
NOTHING = "0"
"""The version before the first one."""

_FILE = re.compile(r"(\d+)_(.+)\.sql")
_RECORDS = "supabase_migrations.schema_migrations"
_COLUMNS = "(version text primary key, statements text[], name text)"


@dataclass(frozen=True)
class Migration:
    """One file of migrations/, and its way back where there is one."""

    version: str
    name: str
    file: Path

    @property
    def down(self) -> Path:
        """Where its way back is, if it has one."""
        return self.file.parent / WAYS_BACK / self.file.name

    def __str__(self) -> str:
        return f"{self.version}_{self.name}"


def migrations_of(project: Path) -> list[Migration]:
    """The project's migrations in their order. Like the CLI it passes over files with other names."""
    found = [
        Migration(match[1], match[2], file)
        for file in sorted((project / "migrations").glob("*.sql"))
        if (match := _FILE.fullmatch(file.name))
    ]
    versions = [one.version for one in found]
    for one in found:
        if versions.count(one.version) > 1:
            raise MigrationFailed(f"the version {one.version} is there twice: give {one} another one")
    return found


def seed_files(project: Path) -> list[Path]:
    """The files of the seed, in their order: `[db.seed] sql_paths` of config.toml, read as the CLI reads it."""
    file = project / "config.toml"
    try:
        config = tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except tomllib.TOMLDecodeError as error:
        raise MigrationFailed(f"{file} is not TOML: {error}") from None
    seed = config.get("db", {}).get("seed", {})
    if not seed.get("enabled", True):
        return []
    found: dict[Path, None] = {}
    for pattern in seed.get("sql_paths", ["./seed.sql"]):
        found |= dict.fromkeys(sorted(project.glob(pattern.removeprefix("./"))))
    return list(found)


def applied(connection: Connection) -> dict[str, str]:
    """Version ▶ name of what is applied, in order. Ends the transaction."""
    with _transaction(connection) as cursor:
        return _recorded(cursor)


def pending(migrations: Sequence[Migration], recorded: Mapping[str, str], to: str | None = None) -> list[Migration]:
    """What is to be applied, up to and including the version `to`.

    Raises MigrationFailed where a migration would come before one that is applied already, as `supabase db push` does.
    """
    _check_known(migrations, recorded, to)
    wanted = [one for one in migrations if one.version not in recorded and (to is None or one.version <= to)]
    last = max(recorded, default=NOTHING)
    for one in wanted:
        if one.version < last:
            raise MigrationFailed(
                f"{one} is not applied, and comes before {last}, which is: take that one back first (--down-to), or "
                "give the new one a later version"
            )
    return wanted


def to_revert(migrations: Sequence[Migration], recorded: Mapping[str, str], down_to: str) -> list[Migration]:
    """What is to be taken back, the latest first, so that `down_to` is the last one applied.

    Raises MigrationFailed when one of them has no way back: then nothing is taken back.
    """
    _check_known(migrations, recorded, None if down_to == NOTHING else down_to)
    wanted = [one for one in reversed(migrations) if one.version in recorded and one.version > down_to]
    for one in wanted:
        if not one.down.is_file():
            raise MigrationFailed(f"{one} has no way back: write {one.down}")
    return wanted


def _check_known(migrations: Sequence[Migration], recorded: Mapping[str, str], named: str | None) -> None:
    known = {one.version for one in migrations}
    for version, name in recorded.items():
        if version not in known:
            raise MigrationFailed(
                f"{version}_{name} is applied, and is not in the folder: give the project that the database was made of"
            )
    if named is not None and named not in known:
        raise MigrationFailed(f"no migration has the version {named}: `--list` shows those that there are")


def apply(connection: Connection, migration: Migration) -> bool:
    """Applies it and records it; False if somebody else just did. Raises MigrationFailed."""
    with _explained(migration.file, connection), _transaction(connection) as cursor:
        cursor.execute("create schema if not exists supabase_migrations")
        cursor.execute(f"create table if not exists {_RECORDS} {_COLUMNS}")
        if migration.version in _locked(cursor):
            return False
        text = migration.file.read_text(encoding="utf-8")
        _run(cursor, text)
        cursor.execute(
            f"insert into {_RECORDS} (version, statements, name) values (%s, %s, %s)",  # noqa: S608 -- a constant
            [migration.version, [text], migration.name],
        )
    return True


def revert(connection: Connection, migration: Migration) -> bool:
    """Takes it back and removes its record; False if somebody else just did. Raises MigrationFailed."""
    with _explained(migration.down, connection), _transaction(connection) as cursor:
        if migration.version not in _locked(cursor):
            return False
        _run(cursor, migration.down.read_text(encoding="utf-8"))
        cursor.execute(f"delete from {_RECORDS} where version = %s", [migration.version])  # noqa: S608 -- a constant
    return True


def run_file(connection: Connection, file: Path) -> None:
    """Runs a file of SQL in one transaction. Raises MigrationFailed."""
    with _explained(file, connection), _transaction(connection) as cursor:
        _run(cursor, file.read_text(encoding="utf-8"))


def _recorded(cursor: Any) -> dict[str, str]:
    cursor.execute("select to_regclass(%s)", [_RECORDS])
    if cursor.fetchone() == (None,):
        return {}
    cursor.execute(f"select version, coalesce(name, '') from {_RECORDS} order by version")  # noqa: S608 -- a constant
    return dict(cursor.fetchall())


def _locked(cursor: Any) -> dict[str, str]:
    # With itself, and with who records; not with who reads.
    cursor.execute(f"lock table {_RECORDS} in share row exclusive mode")
    return _recorded(cursor)


def _run(cursor: Any, text: str) -> None:
    # Without parameters psycopg2 sends the text as it is, percent signs untouched.
    if re.sub(r"--[^\n]*|\s", "", text):
        cursor.execute(text)


@contextlib.contextmanager
def _transaction(connection: Connection) -> Iterator[Any]:
    autocommit, connection.autocommit = connection.autocommit, False
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    finally:
        if not connection.closed:
            # What one file sets for its session does not concern the next.
            connection.reset()
            connection.autocommit = autocommit


@contextlib.contextmanager
def _explained(file: Path, connection: Connection) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MigrationFailed(f"{file} cannot be read: {error.strerror}") from error
    except psycopg2.Error as error:
        place = f", line {_line(file, error)}" if _line(file, error) else ""
        raise MigrationFailed(
            f"{file.name}{place} failed as {connection.info.user}: {str(error).strip()}. Nothing of it stands: correct "
            f"{file}, and run it again"
        ) from error


def _line(file: Path, error: psycopg2.Error) -> int | None:
    position = error.diag.statement_position
    return file.read_text(encoding="utf-8")[: int(position)].count("\n") + 1 if position else None
