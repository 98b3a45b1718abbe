"""`ipai-harness migrate`: a Supabase project's migrations onto a database, and back again."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psycopg2

from ipai_bridge.endpoint import broken_dsn_rule, deprecated_project, shown_dsn
from ipai_harness.errors import MigrationFailed
from ipai_harness.stack import migrations, paths
from ipai_harness.stack.migrations import Connection, Migration
from ipai_harness.stack.progress import Progress

DONE, USAGE = 0, 2
CONNECT_TIMEOUT = 10  # seconds

DESCRIPTION = """\
Applies the migrations of a Supabase project that the database has not, in order, each in one transaction with its
record in supabase_migrations.schema_migrations, as `supabase db push` does; or takes back what is applied, the latest
first, by the files of migrations/down/. Connect as the role that is to own what is made: on Supabase, postgres.
Taking back drops tables with what is in them."""

EPILOG = """\
examples:
  ipai-harness migrate --db "$IPAI_HARNESS_SUPABASE_DSN" --list
  ipai-harness migrate --db "$DSN" --dry-run                what would be applied
  ipai-harness migrate --db "$DSN"                          apply it
  ipai-harness migrate --db "$DSN" --to 20260101000400      no further than this one
  ipai-harness migrate --db "$DSN" --down-to 20260101000400 take back whatever came after this one
  ipai-harness migrate --db "$DSN" --down-to 0              take back everything

exit codes:
  0    done; also when there was nothing to do
  1    a migration failed, or there is no way as asked; nothing of that one stands, the ones before it do
  2    the command line is wrong
  130  interrupted; nothing of the migration that was under way stands
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser], as_json: argparse.ArgumentParser) -> None:
    """Adds the command to the command line."""
    migrate = commands.add_parser(
        "migrate", parents=[as_json], help="apply a Supabase project's migrations, or take them back",
        description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    migrate.add_argument(
        "--db", metavar="DSN", required=True,
        help="the database's DSN; `-` takes it from IPAI_MIGRATE_DSN, where no process list shows it",
    )  # fmt: skip
    migrate.add_argument(
        "--project", type=Path, metavar="DIR",
        help="the folder that holds migrations/ (default: the project that comes with the harness)",
    )  # fmt: skip
    what = migrate.add_mutually_exclusive_group()
    what.add_argument("--to", metavar="VERSION", help="apply up to and including this version")
    what.add_argument(
        "--down-to", metavar="VERSION", help="take back what came after this version; 0 takes back everything"
    )
    what.add_argument("--list", action="store_true", help="show what is applied and what is not")
    migrate.add_argument("--dry-run", action="store_true", help="show what would be done, and do nothing")
    migrate.set_defaults(run=command)


def command(options: argparse.Namespace) -> int:
    """Runs the command; its exit code. Raises MigrationFailed."""
    dsn = os.environ.get("IPAI_MIGRATE_DSN") if options.db == "-" else options.db
    if not dsn:
        print("ipai-harness migrate: --db is empty, or IPAI_MIGRATE_DSN is not set", file=sys.stderr)
        return USAGE
    known = migrations.migrations_of(_folder(options.project or paths.supabase_project()))
    with contextlib.closing(_connect(dsn)) as connection:
        recorded = migrations.applied(connection)
        if options.list:
            _list(known, recorded, as_json=options.json)
            return DONE
        if options.down_to is None:
            wanted, act, doing = migrations.pending(known, recorded, options.to), migrations.apply, "applying"
        else:
            wanted = migrations.to_revert(known, recorded, options.down_to)
            act, doing = migrations.revert, "taking back"
        done = [] if options.dry_run else _run(connection, wanted, act, doing)
    if options.json:
        print(json.dumps({"action": doing, "planned": _versions(wanted), "done": _versions(done)}))
    elif options.dry_run:
        print("\n".join(f"{doing} {one}" for one in wanted) or "nothing to do")
    else:
        word = "applied" if options.down_to is None else "taken back"
        print("\n".join(f"{word}: {one}" for one in done) or "nothing to do")
    return DONE


def _folder(directory: Path) -> Path:
    for folder in (directory, directory / "supabase"):
        if (folder / "migrations").is_dir():
            return folder
    raise MigrationFailed(f"{directory} has no folder migrations: give the folder that holds config.toml")


def _connect(dsn: str) -> Connection:
    if broken := broken_dsn_rule(dsn):
        raise MigrationFailed(f"the DSN {broken}")
    # What libpq takes from the environment names a host as well as the DSN does.
    _refuse_deprecated([dsn, *(os.environ.get(name, "") for name in ("PGHOST", "PGHOSTADDR", "PGUSER", "PGSERVICE"))])
    shown = shown_dsn(dsn)
    try:
        connection = psycopg2.connect(dsn, connect_timeout=CONNECT_TIMEOUT, application_name="ipai-harness migrate")
    except psycopg2.Error as error:
        # libpq repeats a password that it takes for a part of the address.
        why = str(error).strip().splitlines()[-1] if shown.startswith("postgres") else type(error).__name__
        raise MigrationFailed(
            f"no connection to {shown}: {why}. Check the address, the login and the network."
        ) from None
    try:
        # And so does a service file.
        _refuse_deprecated([connection.info.host or "", connection.info.user or ""])
    except MigrationFailed:
        connection.close()
        raise
    return connection


def _refuse_deprecated(names: Sequence[str]) -> None:
    for ref in filter(None, map(deprecated_project, names)):
        raise MigrationFailed(f"the Supabase project {ref} is deprecated and refused: name the one in use")


def _run(
    connection: Connection, wanted: Sequence[Migration], act: Callable[[Connection, Migration], bool], doing: str
) -> list[Migration]:
    done = []
    with Progress() as progress:
        for one in wanted:
            with progress.step(doing, str(one)):
                if act(connection, one):
                    done.append(one)
    return done


def _versions(these: Sequence[Migration]) -> list[str]:
    return [one.version for one in these]


def _list(known: Sequence[Migration], recorded: Mapping[str, str], *, as_json: bool) -> None:
    rows = [
        {
            "version": one.version, "name": one.name, "applied": one.version in recorded, "in_folder": True,
            "way_back": one.down.is_file(),
        }
        for one in known
    ] + [
        {"version": version, "name": name, "applied": True, "in_folder": False, "way_back": False}
        for version, name in recorded.items()
        if version not in {one.version for one in known}
    ]  # fmt: skip
    rows.sort(key=lambda row: str(row["version"]))
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        notes = ["applied" if row["applied"] else "pending"]
        notes += [] if row["in_folder"] else ["not in the folder"]
        notes += [] if row["way_back"] or not row["in_folder"] else ["no way back"]
        print(f"{row['version']}_{row['name']}: {', '.join(notes)}")
