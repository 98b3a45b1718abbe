"""`ipai-bridge install`, `relay`, `outbox`, `doctor`, `addons-path`: the commands that work on an outbox.

Which outbox: `--dsn`, or the setting `dsn`; else Odoo's own configuration, `-c odoo.conf` and `-d database`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from ipai_bridge.errors import BridgeError, SettingsError
from ipai_bridge.settings import Resolved, read_odoo_conf, resolve

_AGE = re.compile(r"([0-9]{1,9})([smhd]?)")
_AGE_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


# --- which outbox, which settings


def _outbox_and_settings(arguments: argparse.Namespace) -> tuple[Any, Resolved]:
    """The outbox, and the settings with those from the database's parameters."""
    import psycopg2

    from ipai_bridge.bridge import settings_of
    from ipai_bridge.outbox.postgres import PostgresOutbox

    conf: Mapping[str, str] | None = None
    odoo_dsn: str | None = None
    if arguments.config:
        conf = read_odoo_conf(arguments.config)
        odoo_dsn = _odoo_dsn(arguments.config, arguments.database)
    # Without the database's parameters first: the DSN is not among them.
    first = resolve({"dsn": arguments.dsn}, os.environ, conf, only=("dsn",))
    dsn = first.settings.dsn or odoo_dsn
    if dsn is None:
        raise SettingsError("dsn", "is not set: give IPAI_BRIDGE_DSN, or -c odoo.conf and -d database")
    outbox = PostgresOutbox.from_dsn(dsn)
    with outbox.connection.cursor() as cursor:
        try:
            return outbox, settings_of(cursor, conf=conf)
        except psycopg2.errors.UndefinedTable:  # a database without Odoo's tables has no parameters
            return outbox, resolve(environ=os.environ, conf=conf)


def _odoo_dsn(path: str, database: str | None) -> str:
    """A DSN made of what odoo.conf says of the database server."""
    import configparser

    from psycopg2.extensions import make_dsn

    parser = configparser.RawConfigParser()
    parser.read(path, encoding="utf-8-sig")
    options = dict(parser.items("options")) if parser.has_section("options") else {}
    names = [name.strip() for name in options.get("db_name", "").split(",") if name.strip() not in ("", "False")]
    if database is None and len(names) != 1:
        raise SettingsError("-d", f"is needed: {path} names {len(names)} databases")
    values = {"dbname": database or names[0]}
    for name in ("host", "port", "user", "password", "sslmode"):
        value = options.get(f"db_{name}", "").strip()
        if value not in ("", "False"):
            values[name] = value
    return str(make_dsn(**values))


# --- the commands


def install(arguments: argparse.Namespace) -> int:
    """Create the outbox's tables."""
    if arguments.print:
        from ipai_bridge.outbox.postgres import schema_sql

        print(schema_sql(), end="")
        return 0
    outbox, _ = _outbox_and_settings(arguments)
    with closing(outbox):
        print("installed" if outbox.install() else "already there: nothing to do")
    return 0


def relay(arguments: argparse.Namespace) -> int:
    """Deliver until SIGTERM or SIGINT."""
    from ipai_bridge.bridge import make_relay

    logging.basicConfig(
        level=arguments.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    outbox, resolved = _outbox_and_settings(arguments)
    relay = make_relay(resolved.settings, outbox)

    def stop(number: int, _frame: object) -> None:
        logging.getLogger("ipai_bridge.relay").info("%s: finishing what is under way", signal.Signals(number).name)
        relay.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with closing(relay):
        outbox.install()
        logging.getLogger("ipai_bridge.relay").info("relaying to %s", resolved.settings.url)
        tally = relay.run_once(arguments.max_seconds) if arguments.once else relay.run()
    if arguments.once:
        print(json.dumps(asdict(tally)))
    return 0


def outbox_list(arguments: argparse.Namespace) -> int:
    """Show the newest rows."""
    outbox, _ = _outbox_and_settings(arguments)
    with closing(outbox):
        entries = outbox.entries(
            status=arguments.status,
            event_type=arguments.event_type,
            aggregate_type=arguments.model,
            aggregate_id=arguments.record,
            limit=arguments.limit,
        )
        depth = outbox.depth()
    if arguments.json:
        print(json.dumps({"entries": [_row(entry) for entry in entries], "depth": asdict(depth)}, default=_iso))
        return 0
    for entry in entries:
        number = "–" if entry.sequence is None else str(entry.sequence)
        line = (
            f"{entry.id}  {entry.status:<9}  {entry.event_type}  {entry.aggregate_type},{entry.aggregate_id} #{number}"
        )
        line += f"  {entry.created_at:%Y-%m-%d %H:%M:%S}  attempts={entry.attempts}"
        if entry.status == "pending" and entry.attempts:
            line += f"  next {entry.next_attempt_at:%H:%M:%S}"
        print(line + (f"\n    {entry.last_error}" if entry.last_error and entry.status != "delivered" else ""))
    age = "" if depth.oldest_pending_age is None else f", the oldest for {depth.oldest_pending_age:.0f} s"
    print(f"{depth.pending} pending{age}; {depth.dead} dead", file=sys.stderr)
    return 0


def outbox_show(arguments: argparse.Namespace) -> int:
    """Show one event with its body."""
    outbox, _ = _outbox_and_settings(arguments)
    with closing(outbox):
        entry = outbox.show(arguments.id)
    if arguments.json:
        print(json.dumps(_row(entry), default=_iso))
    else:
        for name, value in asdict(entry).items():
            print(f"{name:>16}  {_iso(value) if isinstance(value, datetime) else '–' if value is None else value}")
    return 0


def outbox_retry(arguments: argparse.Namespace) -> int:
    """Make dead events pending again."""
    if not (arguments.id or arguments.event_type or arguments.all):
        raise SettingsError("outbox retry", "needs to know which: ids, --event-type TYPE, or --all")
    outbox, _ = _outbox_and_settings(arguments)
    with closing(outbox):
        revived = outbox.retry(ids=arguments.id or None, event_type=arguments.event_type)
    print(json.dumps([str(item) for item in revived]) if arguments.json else f"{len(revived)} events are pending again")
    missing = set(arguments.id) - set(revived)
    for item in sorted(missing, key=str):
        print(f"{item} is not a dead event: `ipai-bridge outbox show {item}` says what it is", file=sys.stderr)
    return 1 if missing else 0


def outbox_purge(arguments: argparse.Namespace) -> int:
    """Delete old delivered (or dead) events."""
    outbox, _ = _outbox_and_settings(arguments)
    with closing(outbox):
        count = outbox.purge(status="dead" if arguments.dead else "delivered", older_than=arguments.older_than)
    print(json.dumps({"purged": count}) if arguments.json else f"{count} events purged")
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """Show each setting and its source, and look at the outbox."""
    report: dict[str, Any] = {"settings": [], "outbox": None, "problems": []}
    try:
        outbox, resolved = _outbox_and_settings(arguments)
        with closing(outbox):
            report["settings"] = [row._asdict() for row in resolved.describe()]
            try:
                resolved.settings.require_endpoint()
            except SettingsError as error:
                report["problems"].append(f"{error.code}: {error}")
            report["outbox"] = asdict(outbox.depth())
    except BridgeError as error:
        report["problems"].append(f"{error.code}: {error}")
    if arguments.json:
        print(json.dumps({"ok": not report["problems"], **report}))
        return 1 if report["problems"] else 0
    for row in report["settings"]:
        print(f"{row['name']:>14}  {row['value']}  ({row['source']})")
    if report["outbox"] is not None:
        print(f"{'outbox':>14}  {report['outbox']['pending']} pending, {report['outbox']['dead']} dead")
    for problem in report["problems"]:
        print(f"{'problem':>14}  {problem}")
    return 1 if report["problems"] else 0


def addons_path(arguments: argparse.Namespace) -> int:  # noqa: ARG001
    """Print the directory for Odoo's --addons-path."""
    import ipai_bridge

    print(Path(ipai_bridge.__file__).parent / "addons")
    return 0


# --- arguments


def add_commands(commands: Any) -> None:
    """Add these commands to the argument parser's sub-commands."""
    command = _add(
        commands, "install", install, "create the outbox's tables", "ipai-bridge install -c odoo.conf -d prod"
    )
    command.add_argument("--print", action="store_true", help="only print the SQL; needs no database")

    command = _add(commands, "relay", relay, "deliver what is in the outbox", "ipai-bridge relay -c odoo.conf -d prod")
    command.add_argument(
        "--once", action="store_true", help="one pass over what is due, then print what was done as JSON"
    )
    command.add_argument(
        "--max-seconds", type=float, default=60.0, metavar="S", help="how long --once may take (default 60)"
    )
    command.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")

    outbox = commands.add_parser("outbox", help="list, show, retry and purge events").add_subparsers(
        title="commands", dest="outbox_command", required=True, metavar="COMMAND"
    )
    command = _add(outbox, "list", outbox_list, "the newest events", "ipai-bridge outbox list --status dead")
    command.add_argument("--status", choices=("pending", "delivered", "dead"))
    command.add_argument("--event-type", metavar="TYPE", help="such as account.move.posted")
    command.add_argument("--model", metavar="MODEL", help="such as account.move")
    command.add_argument("--record", metavar="ID", help="the record's id, with --model")
    command.add_argument("--limit", type=int, default=50, metavar="N", help="at most (default 50)")
    _add_json(command)
    command = _add(outbox, "show", outbox_show, "one event with its body", "ipai-bridge outbox show ID")
    command.add_argument("id", type=UUID, metavar="ID")
    _add_json(command)
    command = _add(outbox, "retry", outbox_retry, "send dead events again", "ipai-bridge outbox retry --all")
    command.add_argument("id", type=UUID, nargs="*", metavar="ID")
    command.add_argument("--event-type", metavar="TYPE", help="all dead events of this type")
    command.add_argument("--all", action="store_true", help="all dead events")
    _add_json(command)
    command = _add(
        outbox,
        "purge",
        outbox_purge,
        "delete old events; never pending ones",
        "ipai-bridge outbox purge --older-than 30d",
    )
    command.add_argument("--older-than", type=age, required=True, metavar="AGE", help="such as 30d, 12h, 90m")
    command.add_argument(
        "--dead", action="store_true", help="dead events in place of delivered ones: they are lost then"
    )
    _add_json(command)

    command = _add(
        commands, "doctor", doctor, "settings, their sources, the outbox", "ipai-bridge doctor -c odoo.conf -d prod"
    )
    _add_json(command)

    command = commands.add_parser("addons-path", help="print the directory for Odoo's --addons-path")
    command.set_defaults(run=addons_path)


def _add(commands: Any, name: str, run: Callable[[argparse.Namespace], int], help: str, example: str) -> Any:
    command = commands.add_parser(name, help=help, description=run.__doc__, epilog=f"example: {example}")
    command.set_defaults(run=run)
    group = command.add_argument_group("which outbox")
    group.add_argument("--dsn", help="connection string of Odoo's database (better: IPAI_BRIDGE_DSN)")
    group.add_argument("-c", "--config", metavar="FILE", help="odoo.conf: the database server, and [ipai_bridge]")
    group.add_argument("-d", "--database", metavar="NAME", help="where odoo.conf names none or several")
    return command


def _add_json(command: Any) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")


def age(text: str) -> float:
    """Seconds of an age such as 30d, 12h, 90m, 45s. Raises `argparse.ArgumentTypeError`."""
    match = _AGE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age: write 30d, 12h, 90m or 45s")
    return float(match[1]) * _AGE_UNITS[match[2]]


def _row(entry: Any) -> dict[str, Any]:
    row = asdict(entry)
    row["id"] = str(row["id"])
    return row


def _iso(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
