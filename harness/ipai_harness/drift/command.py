"""`ipai-harness drift`: the command line, and its output."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import closing
from typing import Any

import psycopg2
import psycopg2.extensions
from rich.console import Console
from rich.table import Table

from ipai_bridge.errors import SettingsError
from ipai_bridge.settings import resolve
from ipai_bridge.sync.commands import Telling
from ipai_bridge.sync.source import RpcSource, Source
from ipai_harness.drift.explain import MEANING, Why
from ipai_harness.drift.facts import MODELS
from ipai_harness.drift.look import Report, Sides, look
from ipai_harness.drift.observed import Odoo, Outbox
from ipai_harness.drift.reconcile import Plan, carry_out, plan
from ipai_harness.drift.views import Views
from ipai_harness.stack.native import NativeStack

NONE, FAILED, USAGE, DRIFT = 0, 1, 2, 3
SUPABASE, ODOO = "IPAI_HARNESS_SUPABASE_DSN", "IPAI_HARNESS_ODOO_DSN"
_RPC = ("odoo_url", "odoo_db", "odoo_login", "odoo_password")

DESCRIPTION = """\
Says how Odoo, the shadow in Supabase and what was planned there differ, and why, with what shows it: each row of the
views v_missing_in_odoo, v_orphan_in_odoo and v_name_drift, and each difference between Odoo itself and the shadow.
Looks at a stack of this machine (--name), or at a deployment. Only --reconcile --yes writes anything."""

EPILOG = f"""\
a deployment:
  {SUPABASE}   Supabase's database, as service_role or postgres; or --supabase-dsn
  {ODOO}       Odoo's database, for the outbox; or --odoo-dsn
  IPAI_BRIDGE_ODOO_URL, _ODOO_DB, _ODOO_LOGIN, _ODOO_PASSWORD   Odoo itself, as for `ipai-bridge sync`
  A DSN with a password is taken from the environment only: a command line is seen by others.
  What is not given is not looked at, and the output says so.

examples:
  ipai-harness drift                               the stack named default
  ipai-harness drift --entity task --json          for a program
  {SUPABASE}=… ipai-harness drift --instance prod
  ipai-harness drift --reconcile                   show what would be queued
  ipai-harness drift --reconcile --yes             queue it

exit codes:
  0  no drift
  1  failed: the line on standard error says why
  2  the command line is wrong
  3  drift (also after --reconcile: what is queued has yet to arrive)
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser], as_json: argparse.ArgumentParser) -> None:
    """Adds the command to the command line."""
    drift = commands.add_parser(
        "drift", parents=[as_json], help="how Odoo and Supabase differ, and why", description=DESCRIPTION,
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    drift.add_argument("--name", help="the stack to look at (default: default, where no DSN is given)")
    drift.add_argument("--supabase-dsn", metavar="DSN", help=f"Supabase's database, without a password; or {SUPABASE}")
    drift.add_argument("--odoo-dsn", metavar="DSN", help=f"Odoo's database, without a password; or {ODOO}")
    drift.add_argument("--instance", help="only this Odoo, which is the one whose RPC settings are given")
    drift.add_argument("--entity", choices=tuple(MODELS), help="only projects, or only tasks")
    drift.add_argument(
        "--limit", type=int, default=100, metavar="N", help="rows of the table; 0: all (default: %(default)s)"
    )
    drift.add_argument("--reconcile", action="store_true", help="show what would be queued; with --yes, queue it")
    sure = drift.add_mutually_exclusive_group()
    sure.add_argument("--yes", action="store_true", help="with --reconcile: do it")
    sure.add_argument("--dry-run", action="store_true", help="with --reconcile: only show it, as without --yes")
    drift.set_defaults(run=command)


def command(options: argparse.Namespace) -> int:
    """Runs the command; its exit code."""
    wrong = _wrong(options)
    if wrong:
        print(f"ipai-harness drift: {wrong}", file=sys.stderr)
        return USAGE
    supabase_dsn, odoo_dsn, source, instance = _where(options)
    with closing(Sides(Views(supabase_dsn))) as sides:
        sides.odoo = Odoo(source, instance) if source is not None else None
        sides.outbox = Outbox(odoo_dsn) if odoo_dsn else None
        instances = [options.instance] if options.instance else sides.views.instances()
        if source is not None and instance not in instances:
            instances.append(instance)
        telling = Telling()
        report = look(sides, instances, [options.entity] if options.entity else list(MODELS), telling)
        telling.end()
        wanted = plan(report.explained) if options.reconcile else None
        done = carry_out(wanted, sides, supabase_dsn) if wanted is not None and options.yes else None
    if options.json:
        said = report.as_json()
        if wanted is not None:
            said |= {"plan": wanted.as_json(), "queued": done.as_json() if done is not None else None}
        print(json.dumps(said))
    else:
        _print(report, options.limit)
        _print_plan(wanted, done)
    return DRIFT if report.explained else NONE


def _wrong(options: argparse.Namespace) -> str | None:
    if (options.yes or options.dry_run) and not options.reconcile:
        return "--yes and --dry-run go with --reconcile"
    if options.name and (options.supabase_dsn or options.odoo_dsn):
        return "--name is a stack of this machine, which knows its DSNs: give one or the other"
    for option, variable in (("supabase_dsn", SUPABASE), ("odoo_dsn", ODOO)):
        dsn = getattr(options, option)
        try:
            if dsn and "password" in psycopg2.extensions.parse_dsn(dsn):
                return f"--{option.replace('_', '-')} holds a password, which others see here: set {variable} instead"
        except psycopg2.Error:  # its text repeats parts of the DSN
            return f"--{option.replace('_', '-')} cannot be read: see PostgreSQL's rules for connection strings"
    return None


def _where(options: argparse.Namespace) -> tuple[str, str | None, Source | None, str]:
    """Supabase's DSN, the outbox's, Odoo, and what Odoo's instance is called."""
    supabase_dsn = options.supabase_dsn or os.environ.get(SUPABASE)
    if options.name or not supabase_dsn:
        env = NativeStack.attach(options.name or "default").env()
        source = RpcSource(*(env[name] for name in _RPC))
        return env["supabase_dsn"], env["odoo_dsn"], source, options.instance or env["instance"]
    settings = resolve({}, os.environ, None, only=("instance", *_RPC)).settings
    given = {name: getattr(settings, name) for name in _RPC}
    for name, value in given.items():
        if value is None and any(given.values()):
            raise SettingsError(name, f"is not set: give IPAI_BRIDGE_{name.upper()}, or none of the four")
    return (
        supabase_dsn,
        options.odoo_dsn or os.environ.get(ODOO),
        RpcSource(*given.values()) if all(given.values()) else None,
        options.instance or settings.instance,
    )


def _print(report: Report, limit: int) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    table = Table(box=None, padding=(0, 1, 0, 0))
    for title in ("instance", "entity", "drift", "record", "name", "why"):
        table.add_column(title, no_wrap=title not in ("name", "why"), overflow="fold")
    shown = report.explained[: limit or None]
    for one in shown:
        drift = one.difference
        record = " ".join(_plain(part) for part in (drift.odoo_id, drift.external_ref) if part is not None)
        name = "–" if drift.name is None else _plain(drift.name)
        why = f"{one.why.value}: {_plain(one.text)}"
        table.add_row(drift.instance, drift.entity, drift.kind.value, record, name, why)
    if shown:
        console.print(table)
        if len(shown) < len(report.explained):
            console.print(f"… and {len(report.explained) - len(shown):,} more: --limit 0 shows all")
        console.print()
    for why, count in report.counts().items():
        console.print(f"{count:>7,} {why}: {MEANING[Why(why)]}")
    where = ", ".join(report.instances) or "no instance is known"
    total = len(report.explained)
    console.print(f"{where}: {f'{total:,} differences' if total > 1 else '1 difference' if total else 'no drift'}")
    for unseen in report.unseen:
        console.print(f"not looked at: {unseen}")


def _print_plan(wanted: Plan | None, done: Plan | None) -> None:
    if wanted is None:
        return
    lines = (done or wanted).lines()
    heading = "queued" if done is not None else "would be queued (--yes does it)"
    print(f"{heading}: {'nothing' if not lines else ''}".rstrip())
    for line in lines:
        print(f"  {line}")


def _plain(value: Any) -> str:
    """Names come from users: what would move the cursor is not printed."""
    return "".join(character if character.isprintable() else " " for character in str(value))
