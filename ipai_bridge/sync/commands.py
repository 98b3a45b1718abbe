"""`ipai-bridge sync KIND`: the scheduled syncs, over Odoo's RPC; and realtime, without Odoo."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ipai_bridge.errors import SettingsError
from ipai_bridge.odoo_conf import bridge_section
from ipai_bridge.settings import Settings, resolve

if TYPE_CHECKING:
    from ipai_bridge.sync.client import FunctionClient

PARTIAL = 3
ENTERPRISE = 4
_QUIET = 2.0  # seconds without a word

_EPILOG = """\
exit codes:
  0    done
  1    not done, or failed: the line on standard error says why
  3    partial: some records or models are missing; the report names them
  4    done, and there is an Enterprise licence in a CE database (modules only)

examples:
  ipai-bridge sync finance
  ipai-bridge sync finance --full --json
  ipai-bridge sync catalog --odoo-url http://localhost:8069 --odoo-db odoo --odoo-login admin
  ipai-bridge sync documents --max-size 20
  ipai-bridge sync modules -c odoo.conf --odoo-url https://odoo.example.com --odoo-db prod --odoo-login sync

Which Odoo: IPAI_BRIDGE_ODOO_URL, _ODOO_DB, _ODOO_LOGIN, or the arguments; the password, or better an API key, from
IPAI_BRIDGE_ODOO_PASSWORD only. Where to: IPAI_BRIDGE_URL and _SECRET, as for the relay.
"""

_REALTIME_EPILOG = """\
exit codes:
  0    done; or with --status: all is there
  1    not done: the line on standard error says why; what was not sent is sent the next time
  3    with --status: something is missing; the report names it

examples:
  ipai-bridge sync realtime
  ipai-bridge sync realtime --status
  ipai-bridge sync realtime --json -c odoo.conf

Where to: IPAI_BRIDGE_URL and _SECRET, as for the relay. Subscribers hear it as the broadcast "summary" on the private
channel odoo-sync; each single change they hear by themselves, without this.
"""


def add_commands(commands: Any) -> None:
    """Add `sync` to the argument parser's sub-commands."""
    sync = commands.add_parser("sync", help="read Odoo and bring Supabase's shadow up to date", allow_abbrev=False)
    syncs = sync.add_subparsers(title="syncs", dest="sync_command", required=True, metavar="SYNC")
    command = _add(syncs, "modules", modules, "the inventory of modules")
    command.add_argument(
        "--edition", choices=("ce", "enterprise"), help="of the database, where Odoo's version does not tell"
    )
    command = _add(syncs, "finance", finance, "the shadow of projects and tasks")
    command.add_argument(
        "--overlap", type=_seconds, metavar="S",
        help="how far before the last run an increment begins: longer than any transaction (default 900)",
    )  # fmt: skip
    _add(syncs, "catalog", catalog, "the catalog of models and their fields, with lineage", page_size=100)
    command = _add(syncs, "documents", documents, "attached BIR forms, to the storage", page_size=50)
    command.add_argument(
        "--overlap", type=_seconds, metavar="S", help="how far before the last run an increment begins (default 900)"
    )
    command.add_argument(
        "--max-size", type=_mebibytes, default=50, metavar="MB",
        help="the largest document that is taken, in MiB (default 50); larger ones are errors of the report",
    )  # fmt: skip
    command = syncs.add_parser(
        "realtime", help="tell Realtime's subscribers what changed", description=realtime.__doc__,
        epilog=_REALTIME_EPILOG, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.set_defaults(run=realtime)
    command.add_argument(
        "--status", action="store_true", help="send nothing; say whether tables are published and guarded"
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("-c", "--config", metavar="FILE", help="odoo.conf: its section [ipai_bridge]")


def _add(
    syncs: Any, name: str, run: Callable[[argparse.Namespace], int], help: str, *, page_size: int = 500
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = syncs.add_parser(
        name, help=help, description=inspect.getdoc(run), epilog=_EPILOG, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.set_defaults(run=run)
    command.add_argument("--full", action="store_true", help="every record, even where an increment would do")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument(
        "--page-size", type=_page_size, default=page_size, metavar="N", help=f"records a page (default {page_size})"
    )
    command.add_argument(
        "--take-over", action="store_true", help="end another run that is under way, as failed, and begin"
    )
    group = command.add_argument_group("which Odoo")
    group.add_argument("-c", "--config", metavar="FILE", help="odoo.conf: its section [ipai_bridge]")
    group.add_argument("--odoo-url", metavar="URL", help="such as https://odoo.example.com")
    group.add_argument("--odoo-db", metavar="NAME")
    group.add_argument("--odoo-login", metavar="LOGIN", help="a user who may read what is synced")
    return command


def modules(arguments: argparse.Namespace) -> int:
    """Bring the inventory of modules up to date. Every run is a full one."""
    from ipai_bridge.sync.modules import FUNCTION, sync_modules

    return _run(arguments, FUNCTION, sync_modules, edition=arguments.edition)


def finance(arguments: argparse.Namespace) -> int:
    """Bring the shadow of projects and tasks up to date: an increment, or a full snapshot the first time."""
    from ipai_bridge.sync.finance import FUNCTION, OVERLAP, sync_finance

    overlap = OVERLAP if arguments.overlap is None else arguments.overlap
    return _run(arguments, FUNCTION, sync_finance, full=arguments.full, overlap=overlap)


def catalog(arguments: argparse.Namespace) -> int:
    """Bring the catalog up to date: every model that Odoo has, the views of scout_gold, lineage. Always a full run."""
    from ipai_bridge.sync.catalog import FUNCTION, sync_catalog

    return _run(arguments, FUNCTION, sync_catalog)


def documents(arguments: argparse.Namespace) -> int:
    """Bring attached BIR forms to documents/bir/{year}/{form}/{filename} in the storage, each once.

    An attachment is one if its name or its description names the form: "BIR 1601-C 2026-01.pdf", "2550Q_2026Q1.pdf".
    Nothing is overwritten, and nothing removed: what is deleted in Odoo is marked so, and its document kept.
    """
    from ipai_bridge import __version__
    from ipai_bridge.sync.documents import FUNCTION, sync_documents
    from ipai_bridge.sync.run import OVERLAP
    from ipai_bridge.sync.upload import Uploader

    def sync(source: Any, client: Any, **options: Any) -> Any:
        uploader = Uploader(client.base, timeout=client.timeout, user_agent=f"ipai-bridge/{__version__}")
        with closing(uploader):
            return sync_documents(source, client, uploader, **options)

    overlap = OVERLAP if arguments.overlap is None else arguments.overlap
    return _run(arguments, FUNCTION, sync, full=arguments.full, overlap=overlap, limit=arguments.max_size * 1_048_576)


def realtime(arguments: argparse.Namespace) -> int:
    """Broadcast what changed since the last time: per table how many rows, and the highest id."""
    from ipai_bridge.sync.realtime import FUNCTION, announce, state

    with closing(_client(FUNCTION, _settings(arguments, {}))) as client:
        if arguments.status:
            found = state(client)
            print(json.dumps(asdict(found)) if arguments.json else "\n".join(_lines(found.tables, found.slots)))
            return 0 if found.complete else PARTIAL
        done = announce(client)
    if arguments.json:
        print(json.dumps(asdict(done)))
    elif not done.sent:
        print("nothing changed: nothing was sent")
    for line in done.tables if done.sent and not arguments.json else ():
        print(f"{line['table']}: {line['changed']} changed, {line['deleted']} gone")
    return 0


def _lines(tables: Sequence[dict[str, Any]], slots: Sequence[dict[str, Any]]) -> Iterator[str]:
    for table in tables:
        missing = f"missing: {', '.join(table['missing'])}" if table["missing"] else f"told to {table['permission']}"
        yield f"{table['name']}: {missing}"
    for slot in slots:
        yield f"slot {slot['name']}: {'active' if slot['active'] else 'idle'}, {slot['lag_bytes']} bytes behind"
    if not slots:
        yield "no replication slot: nobody subscribes"


def _run(arguments: argparse.Namespace, function: str, sync: Callable[..., Any], **options: Any) -> int:
    from ipai_bridge.sync.source import RpcSource

    settings = _settings(arguments, {name: getattr(arguments, name) for name in ("odoo_url", "odoo_db", "odoo_login")})
    telling = Telling()
    with closing(_client(function, settings)) as client:
        source = RpcSource(*_login(settings))
        report = sync(
            source, client, page_size=arguments.page_size, take_over=arguments.take_over, progress=telling, **options
        )
    telling.end()
    if arguments.json:
        print(json.dumps(asdict(report), default=str))
    else:
        print(
            f"{report.status} ({report.mode}): {report.inserted} new, {report.updated} changed, "
            f"{report.unchanged} as they were, {report.deleted} gone"
        )
        for name, counts in report.more.items():
            print(f"{name}: " + ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items()))
    for error in report.errors:
        where = ",".join(str(error[key]) for key in ("entity", "odoo_id") if key in error)
        _say("error", f"{where}: {error['error']}" if where else error["error"])
    if report.error_count > len(report.errors):
        _say("error", f"and {report.error_count - len(report.errors)} more")
    for warning in report.warnings:
        _say("warning", f"{warning['module']} is installed under Odoo's Enterprise licence, in a CE database")
    if report.status == "success":
        return ENTERPRISE if report.warnings else 0
    return PARTIAL if report.status == "partial" else 1


def _settings(arguments: argparse.Namespace, given: dict[str, Any]) -> Settings:
    conf = bridge_section(arguments.config) if arguments.config else None
    return resolve(given, os.environ, conf).settings


def _client(function: str, settings: Settings) -> FunctionClient:
    from ipai_bridge import __version__
    from ipai_bridge.sync.client import FunctionClient

    url, secrets = settings.require_endpoint()
    return FunctionClient(
        url, function, secrets[0], instance=settings.instance, timeout=settings.http_timeout,
        user_agent=f"ipai-bridge/{__version__}",
    )  # fmt: skip


def _login(settings: Settings) -> tuple[str, str, str, str]:
    found = []
    for name in ("odoo_url", "odoo_db", "odoo_login", "odoo_password"):
        value = getattr(settings, name)
        if value is None:
            raise SettingsError(name, f"is not set: give IPAI_BRIDGE_{name.upper()}")
        found.append(value)
    url, database, login, password = found
    return url, database, login, password


class Telling:
    """Says on standard error how far it is, once it takes longer than two seconds, and then at most once a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = clock() + _QUIET
        self._drawn = False
        self._draws = sys.stderr.isatty()

    def __call__(self, model: str, done: int) -> None:
        """`done` records of the model have been sent."""
        if self._clock() >= self._next:
            self._next = self._clock() + 1.0
            line = f"{model}: {done:,} records"
            print(
                f"\r{line:<60}" if self._draws else line, end="" if self._draws else "\n", file=sys.stderr, flush=True
            )
            self._drawn = self._draws

    def end(self) -> None:
        """No more: what was drawn is wiped."""
        if self._drawn:
            print(f"\r{'':<60}\r", end="", file=sys.stderr, flush=True)


def _say(kind: str, text: str) -> None:
    plain = "".join(character if character.isprintable() else " " for character in text)
    print(f"ipai-bridge: {kind}: {plain}", file=sys.stderr)


def _page_size(text: str) -> int:
    if not 1 <= int(text) <= 5_000:
        raise argparse.ArgumentTypeError("must be from 1 to 5,000")
    return int(text)


def _seconds(text: str) -> float:
    if not 0 <= float(text) <= 86_400:
        raise argparse.ArgumentTypeError("must be from 0 to 86,400")
    return float(text)


def _mebibytes(text: str) -> int:
    if not 1 <= int(text) <= 1_024:
        raise argparse.ArgumentTypeError("must be from 1 to 1,024")
    return int(text)
