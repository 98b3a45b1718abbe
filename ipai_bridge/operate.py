"""`ipai-bridge install`, `relay`, `outbox`, `doctor`, `addons-path`: the commands that work on an outbox.

Which outbox: `--dsn`, or the setting `dsn`; else the database server that Odoo's own configuration names, `-c
odoo.conf`. `-d` names the database on it, whichever of these it was.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ipai_bridge.endpoint import shown_dsn
from ipai_bridge.errors import BridgeError, EventNotFound, OutboxError, OutboxUnavailable, SettingsError
from ipai_bridge.odoo_conf import bridge_section, database_dsn
from ipai_bridge.settings import SETTINGS, Resolved, resolve

if TYPE_CHECKING:
    from ipai_bridge.outbox.postgres import PostgresOutbox

log = logging.getLogger("ipai_bridge.relay")

_AGE = re.compile(r"([0-9]{1,9})([smhd]?)")
_AGE_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_MAX_AGE = 36_500 * 86_400.0  # seconds: what PostgreSQL can still subtract from now, with much to spare
_WIDTH = 100


# --- which outbox, which settings


@contextmanager
def _open(arguments: argparse.Namespace) -> Iterator[tuple[PostgresOutbox, Resolved]]:
    """The outbox, connected, for the time of the block, and the settings with those from the database's parameters."""
    try:
        import psycopg2
    except ImportError:
        raise OutboxError("psycopg2 is not installed here: `pip install ipai-bridge[postgres]`") from None
    dsn, conf, plain = _which(arguments)
    from ipai_bridge.outbox.postgres import PostgresOutbox

    with closing(PostgresOutbox.from_dsn(dsn)) as outbox:
        try:
            connection = outbox.connection
        except OutboxUnavailable:
            if plain:
                raise
            # libpq's reason repeats what it took for the host or the port.
            reason = "Odoo's database does not answer, and the reason may hold a part of the password: see to the DSN"
            raise OutboxUnavailable(reason) from None
        try:
            yield outbox, _settings(connection, {"dsn": arguments.dsn}, conf)
        except psycopg2.errors.InsufficientPrivilege as error:
            said = str(error).strip().partition("\n")[0]
            advice = "do it as the owner of the database, or grant this user what is missing"
            raise OutboxError(f"this user of the database may not do that ({said}): {advice}") from error


def _which(arguments: argparse.Namespace) -> tuple[str, Mapping[str, str] | None, bool]:
    """The outbox's DSN, the section [ipai_bridge] of odoo.conf, and whether it is plain which part is the password."""
    import psycopg2
    from psycopg2.extensions import make_dsn

    conf = bridge_section(arguments.config) if arguments.config else None
    explicit = {"dsn": arguments.dsn}
    # Each value by itself: a rule between two of them may still be kept by what the database's parameters say.
    dsn = resolve(explicit, os.environ, conf, only=SETTINGS).settings.dsn
    if dsn is None and arguments.config:
        return database_dsn(arguments.config, arguments.database), conf, True
    if dsn is None:
        resolve(explicit, os.environ, conf)  # a misspelt name is the error to show, if there is one
        raise SettingsError("dsn", "is not set: give IPAI_BRIDGE_DSN, or -c odoo.conf and -d database")
    try:
        whole = make_dsn(dsn, **({"dbname": arguments.database} if arguments.database else {}))
    except psycopg2.Error:  # its text repeats parts of the DSN
        raise SettingsError("dsn", "cannot be read: see PostgreSQL's rules for connection strings") from None
    return str(whole), conf, not shown_dsn(dsn).startswith("(set;")


def _settings(connection: Any, explicit: Mapping[str, Any], conf: Mapping[str, str] | None) -> Resolved:
    import psycopg2

    from ipai_bridge.bridge import settings_of

    with connection.cursor() as cursor:
        try:
            return settings_of(cursor, explicit=explicit, conf=conf)
        except psycopg2.errors.UndefinedTable:  # a database without Odoo's tables has no parameters
            return resolve(explicit, os.environ, conf)
        except psycopg2.errors.InsufficientPrivilege:  # a relay's own user need not see what else is in there
            log.warning("system parameters are not looked at: this user of the database may not read them")
            return resolve(explicit, os.environ, conf)


# --- the commands


def install(arguments: argparse.Namespace) -> int:
    """Create the outbox's tables."""
    if arguments.print:
        from ipai_bridge.outbox.postgres import schema_sql

        print(schema_sql(), end="")
        return 0
    with _open(arguments) as (outbox, _):
        print("installed" if outbox.install() else "already there: nothing to do")
    return 0


def relay(arguments: argparse.Namespace) -> int:
    """Deliver until SIGTERM or SIGINT."""
    from ipai_bridge.bridge import make_relay

    logging.basicConfig(
        level=arguments.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    with _open(arguments) as (outbox, resolved), closing(make_relay(resolved.settings, outbox)) as relay:
        received: list[str] = []

        def stop(number: int, _frame: object) -> None:
            # Nothing is logged here: the signal may come in the middle of the writing of a log line.
            received.append(signal.Signals(number).name)
            relay.stop()

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            outbox.install()
            log.info("relaying to %s", resolved.settings.url)
            tally = relay.run_once(arguments.max_seconds) if arguments.once else relay.run()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if received:
            log.info("%s: ended, with nothing under way", received[0])
    if arguments.once:
        print(json.dumps(asdict(tally)))
    return 0


def outbox_list(arguments: argparse.Namespace) -> int:
    """Show the newest rows."""
    given = arguments
    which = {"status": given.status, "event_type": given.event_type, "limit": given.limit}
    with _open(arguments) as (outbox, _):
        entries = outbox.entries(**which, aggregate_type=given.model, aggregate_id=given.record)
        depth = outbox.depth()
    if arguments.json:
        print(json.dumps({"entries": [asdict(entry) for entry in entries], "depth": asdict(depth)}, default=_iso))
        return 0
    for entry in entries:
        print("\n".join(_lines(entry)))
    age = "" if depth.oldest_pending_age is None else f", the oldest for {depth.oldest_pending_age:.0f} s"
    print(f"{depth.pending} pending{age}; {depth.dead} dead", file=sys.stderr)
    return 0


def _lines(entry: Any) -> list[str]:
    """An entry in lines of at most `_WIDTH` columns: the id to copy, what it is about, and why it is not delivered."""
    attempts = f"{entry.attempts} attempt{'' if entry.attempts == 1 else 's'}"
    number = "" if entry.sequence is None else f" #{entry.sequence}"
    about = f"{entry.event_type}  {entry.aggregate_type},{entry.aggregate_id}{number}"
    if entry.instance != "default":
        about += f"  on {entry.instance}"
    if entry.status == "pending" and entry.attempts:
        about += f"  next {_time(entry.next_attempt_at)}"
    lines = [f"{entry.id}  {entry.status:<9}  {_time(entry.created_at)}  {attempts}"]
    for text in (about, entry.last_error if entry.status != "delivered" else None):
        lines += textwrap.wrap(_plain(text or ""), _WIDTH, initial_indent="    ", subsequent_indent="    ")
    return lines


def outbox_show(arguments: argparse.Namespace) -> int:
    """Show one event with its body."""
    with _open(arguments) as (outbox, _):
        entry = outbox.show(arguments.id)
    if arguments.json:
        print(json.dumps(asdict(entry), default=_iso))
    else:
        for name, value in asdict(entry).items():
            print(f"{name:>16}  {'–' if value is None else value if name == 'body' else _plain(_time(value))}")
    return 0


def outbox_retry(arguments: argparse.Namespace) -> int:
    """Make dead events pending again."""
    if bool(arguments.id) + bool(arguments.event_type) + arguments.all != 1:
        arguments.refuse("which: give ids, or --event-type TYPE, or --all")
    with _open(arguments) as (outbox, _):
        revived = outbox.retry(ids=arguments.id or None, event_type=arguments.event_type)
    said = f"{len(revived)} event{' is' if len(revived) == 1 else 's are'} pending again"
    print(json.dumps([str(item) for item in revived]) if arguments.json else said)
    missing = sorted(set(arguments.id) - set(revived), key=str)
    if missing:
        named = ", ".join(map(str, missing))
        raise EventNotFound(f"not dead events of this outbox: {named}; `ipai-bridge outbox show ID` says what each is")
    return 0


def outbox_purge(arguments: argparse.Namespace) -> int:
    """Delete old delivered (or dead) events."""
    with _open(arguments) as (outbox, _):
        count = outbox.purge(status="dead" if arguments.dead else "delivered", older_than=arguments.older_than)
    print(json.dumps({"purged": count}) if arguments.json else f"{count} event{'' if count == 1 else 's'} purged")
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """Show each setting and its source, and look at the outbox."""
    from ipai_bridge.bridge import make_relay

    report: dict[str, Any] = {"settings": [], "outbox": None, "problems": []}

    def note(error: BridgeError) -> None:
        report["problems"].append(f"{error.code}: {error}")

    try:
        with _open(arguments) as (outbox, resolved):
            report["settings"] = [row._asdict() for row in resolved.describe()]
            try:
                report["outbox"] = asdict(outbox.depth())
            except BridgeError as error:
                note(error)
            try:
                make_relay(resolved.settings, outbox).close()
            except SettingsError as error:
                note(error)
    except BridgeError as error:
        note(error)
        if isinstance(error, OutboxError) and not report["settings"]:  # those outside of the database are all right
            conf = bridge_section(arguments.config) if arguments.config else None
            known = resolve({"dsn": arguments.dsn}, os.environ, conf, only=SETTINGS)
            report["settings"] = [row._asdict() for row in known.describe()]
    if arguments.json:
        print(json.dumps({"ok": not report["problems"], **report}))
    else:
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
        "--max-seconds", type=_seconds, default=60.0, metavar="S", help="how long --once may take (default 60)"
    )
    command.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")

    outbox = commands.add_parser(
        "outbox", help="list, show, retry and purge events", allow_abbrev=False
    ).add_subparsers(title="commands", dest="outbox_command", required=True, metavar="COMMAND")
    command = _add(outbox, "list", outbox_list, "the newest events", "ipai-bridge outbox list --status dead")
    command.add_argument("--status", choices=("pending", "delivered", "dead"))
    command.add_argument("--event-type", metavar="TYPE", help="such as account.move.posted")
    command.add_argument("--model", metavar="MODEL", help="such as account.move")
    command.add_argument("--record", metavar="ID", help="the record's id, with --model")
    command.add_argument("--limit", type=_limit, default=50, metavar="N", help="at most (default 50)")
    _add_json(command)
    command = _add(outbox, "show", outbox_show, "one event with its body", "ipai-bridge outbox show ID")
    command.add_argument("id", type=UUID, metavar="ID")
    _add_json(command)
    command = _add(outbox, "retry", outbox_retry, "send dead events again", "ipai-bridge outbox retry --all")
    command.add_argument("id", type=UUID, nargs="*", metavar="ID")
    command.add_argument("--event-type", metavar="TYPE", help="all dead events of this type")
    command.add_argument("--all", action="store_true", help="all dead events")
    command.set_defaults(refuse=command.error)
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

    command = commands.add_parser(
        "addons-path", help="print the directory for Odoo's --addons-path", allow_abbrev=False
    )
    command.set_defaults(run=addons_path)


def _add(commands: Any, name: str, run: Callable[[argparse.Namespace], int], help: str, example: str) -> Any:
    command = commands.add_parser(
        name, help=help, description=run.__doc__, epilog=f"example: {example}", allow_abbrev=False
    )
    command.set_defaults(run=run)
    group = command.add_argument_group("which outbox")
    group.add_argument("--dsn", help="connection string of Odoo's database (better: IPAI_BRIDGE_DSN)")
    group.add_argument("-c", "--config", metavar="FILE", help="odoo.conf: the database server, and [ipai_bridge]")
    group.add_argument(
        "-d", "--database", metavar="NAME", help="the database, in place of the one that the DSN or odoo.conf names"
    )
    return command


def _add_json(command: Any) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")


def age(text: str) -> float:
    """Seconds of an age such as 30d, 12h, 90m, 45s. Raises `argparse.ArgumentTypeError`."""
    match = _AGE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age: write 30d, 12h, 90m or 45s")
    seconds = float(match[1]) * _AGE_UNITS[match[2]]
    if seconds > _MAX_AGE:
        raise argparse.ArgumentTypeError(f"{text} is more than a hundred years")
    return seconds


def _seconds(text: str) -> float:
    if not 0 < float(text) < math.inf:
        raise ValueError
    return float(text)


def _limit(text: str) -> int:
    if not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError("must be from 1 to 100,000")
    return int(text)


def _iso(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _time(value: object) -> str:
    """A time in UTC, to the second; anything else as text."""
    return f"{value.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else str(value)


def _plain(text: str) -> str:
    """A text in which nothing moves a terminal's cursor or hides what stands beside it."""
    return "".join(character if character.isprintable() else " " for character in text)
