"""The pieces put together for one Odoo database: emit from Odoo's Python code, and relays to send what was emitted.

    import ipai_bridge

    class AccountMove(models.Model):
        _inherit = "account.move"

        def _post(self, soft=True):
            posted = super()._post(soft)
            ipai_bridge.emit(posted, "account.move.posted", fields=["name", "state", "amount_total", "partner_id"])
            return posted

`emit` writes into the outbox through `env.cr`: the event is committed with the user's transaction, or not at all. It
does nothing on the network. After the commit it wakes the relays with a NOTIFY in a transaction of its own, which is
only a hint: NOTIFY inside the user's transaction would make every commit of the database wait for every other.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ipai_bridge import __version__
from ipai_bridge.errors import (
    OutboxUnavailable,
    PayloadError,
    RecordUnreadable,
    SchemaMissing,
    SettingsError,
    SyncError,
)
from ipai_bridge.event import DEFAULT_INSTANCE, Event, next_ids
from ipai_bridge.odoo_conf import bridge_section
from ipai_bridge.outbox import postgres
from ipai_bridge.outbox.postgres import PostgresOutbox
from ipai_bridge.payload import Fields, read_payloads
from ipai_bridge.settings import Resolved, Settings, resolve

if TYPE_CHECKING:
    from ipai_bridge.delivery.inline import InlineRelay
    from ipai_bridge.delivery.relay import Relay
    from ipai_bridge.outbox.store import Outbox

__all__ = [
    "Fields",
    "emit",
    "ensure_inline_relay",
    "make_relay",
    "relay_once",
    "settings_of",
    "stop_inline_relays",
    "sync_once",
]

log = logging.getLogger("ipai_bridge")

_PARAMETERS = "select substr(key, 13), value from ir_config_parameter where key like 'ipai\\_bridge.%%'"


# --- emit


def emit(
    records: Any, event_type: str, fields: Fields = None, *, payload: Mapping[str, Any] | None = None
) -> list[str]:
    """Write one event per record into the outbox, in the transaction of `records`; the events' ids, in their order.

    Args:
        records: an Odoo recordset of saved records; none is none.
        event_type: what happened, such as `account.move.posted`.
        fields: what to send of each record: names; or a dict of key ▶ name or function; or a function of one record
            that gives a dict. None sends `id` and `display_name`.
        payload: a ready payload, in place of `fields`; the same for every record.

    Raises:
        PayloadError: a field is unknown or never sent, or a record may not be read.
        EventInvalid: the event breaks a rule of the contract.
        SchemaMissing: the outbox is not installed, and this database's user may not create it.
    """
    env = records.env
    if payload is None:
        payloads = read_payloads(records, fields)
    elif fields is not None:
        raise PayloadError("emit() takes fields or payload, not both")
    elif not isinstance(payload, Mapping):
        raise PayloadError(f"payload must be a dict, not {type(payload).__name__}")
    elif not all(records._ids):
        raise RecordUnreadable(f"a {records._name} record is not saved yet, so it has no id: save it, then emit")
    else:
        payloads = [dict(payload)] * len(records._ids)
    instance = _database_of(env).instance(env)
    events = [
        Event.create(
            id=event_id,
            event_type=event_type,
            aggregate_type=records._name,
            aggregate_id=str(record_id),
            payload=values,
            instance=instance,
        )
        for event_id, record_id, values in zip(next_ids(len(payloads)), records._ids, payloads, strict=True)
    ]
    if events:
        postgres.emit(env.cr, events)
        _wake_after_commit(env.cr)
    return [str(event.id) for event in events]


class _Database:
    """What is known of one Odoo database in this process; it ends with Odoo's registry of it."""

    def __init__(self, env: Any) -> None:
        _install_if_missing(env.cr)
        sources = resolve(environ=os.environ, conf=_odoo_conf(), only=("instance",))
        self._instance = None if sources.is_default("instance") else sources.settings.instance

    def instance(self, env: Any) -> str:
        """The name of this Odoo. The parameter is asked each time (Odoo caches it): it may change while Odoo runs."""
        if self._instance is not None:
            return self._instance
        return (env["ir.config_parameter"].sudo().get_param("ipai_bridge.instance") or "").strip() or DEFAULT_INSTANCE


_databases: dict[str, tuple[weakref.ref[Any], _Database]] = {}


def _database_of(env: Any) -> _Database:
    registry, name = env.registry, env.cr.dbname
    known = _databases.get(name)
    if known is not None and known[0]() is registry:
        return known[1]
    # A database that is dropped and made again has a new registry. Two threads may do this at once, and find the same.
    database = _Database(env)
    _databases[name] = (weakref.ref(registry), database)
    return database


def _install_if_missing(cursor: Any) -> None:
    """Create the outbox on first use, in a transaction of its own: it must stay when the user's is rolled back."""
    import psycopg2

    refusal = ""
    try:
        if postgres.is_installed(cursor):
            return
        from odoo.sql_db import db_connect

        with db_connect(cursor.dbname).cursor() as own:
            # Odoo's is REPEATABLE READ, in which whoever waited for another installer would not see what that one did.
            own.execute("set transaction isolation level read committed")
            if postgres.install(own):
                log.info("outbox installed in %s", cursor.dbname)
    except psycopg2.errors.InsufficientPrivilege as error:
        refusal = str(error).strip().partition("\n")[0]
    if refusal:
        raise SchemaMissing(
            f"the outbox is not ready in {cursor.dbname}, and Odoo's user of the database may not make it so "
            f"({refusal}): as the owner of the database, `grant create on database` to that user; or run "
            "`ipai-bridge install` and grant that user all on schema ipai_bridge and on its tables"
        )


def _wake_after_commit(cursor: Any) -> None:
    callbacks = cursor.postcommit
    if "ipai_bridge.wake" not in callbacks.data:
        callbacks.data["ipai_bridge.wake"] = True
        callbacks.add(lambda: _wake_last(cursor))


def _wake_last(cursor: Any) -> None:
    callbacks = cursor.postcommit
    if len(callbacks):
        # Our commit would run the others inside of it, and what they raise would be taken for ours.
        callbacks.add(lambda: _wake(cursor))
    else:
        _wake(cursor)


def _wake(cursor: Any) -> None:
    # The user's transaction is committed: nothing may fail any more. The relay finds the event at its next poll.
    try:
        cursor.execute(f"notify {postgres.CHANNEL}")
        cursor.commit()
    except Exception as error:  # noqa: BLE001  among others, Odoo's tests let nobody commit
        log.debug("no wake-up sent: %s", error)
    try:
        ensure_inline_relay(cursor.dbname)
    except Exception:
        log.exception("inline relay of %s cannot be started", cursor.dbname)


# --- settings


def settings_of(
    cursor: Any, *, explicit: Mapping[str, Any] | None = None, conf: Mapping[str, str] | None = None
) -> Resolved:
    """The settings in force for the Odoo database of a psycopg2 or Odoo cursor, and where each comes from.

    `explicit` are arguments, `conf` is the section `[ipai_bridge]` of odoo.conf. Raises `SettingsError`.
    """
    cursor.execute(_PARAMETERS)
    return resolve(explicit, os.environ, conf, dict(cursor.fetchall()))


def _odoo_conf() -> Mapping[str, str] | None:
    """The section `[ipai_bridge]` of the odoo.conf that this Odoo runs with."""
    from odoo.tools import config

    path = config["config"]
    return bridge_section(path) if path and os.path.exists(path) else None  # noqa: PTH110


# --- relay


def make_relay(settings: Settings, outbox: Outbox) -> Relay:
    """A relay of `outbox` to where the settings say. Raises `SettingsError` when the URL or the secret is missing."""
    from ipai_bridge.delivery.relay import LEASE_MARGIN, Relay
    from ipai_bridge.delivery.retry import RetryPolicy
    from ipai_bridge.delivery.transport import Transport

    url, secrets = settings.require_endpoint()
    if settings.lease <= settings.http_timeout + LEASE_MARGIN:
        raise SettingsError(
            "lease",
            f"must be more than {LEASE_MARGIN:g} s longer than http_timeout ({settings.http_timeout:g} s), which is "
            f"the time to record an answer: {settings.lease:g} s is too short",
        )
    return Relay(
        outbox,
        Transport(url, secrets[0], timeout=settings.http_timeout, user_agent=f"ipai-bridge/{__version__}"),
        policy=RetryPolicy(base=settings.retry_base, cap=settings.retry_cap, give_up_after=settings.retry_for),
        concurrency=settings.concurrency,
        claim_size=settings.claim_size,
        lease=settings.lease,
        poll_interval=settings.poll_interval,
    )


def _connect_as_odoo(database: str) -> Callable[[], Any]:
    def connect() -> Any:
        import psycopg2
        from odoo.sql_db import connection_info_for

        _, parameters = connection_info_for(database)
        return psycopg2.connect(**{**parameters, "application_name": "ipai_bridge", "connect_timeout": 10})

    return connect


def relay_once(env: Any, *, max_seconds: float = 60.0) -> dict[str, int]:
    """One pass over what is due, for Odoo's cron; how many events were delivered, put off, and given up.

    It works on a connection of its own: what the calling transaction emitted is not committed yet, and not sent.
    """
    settings = settings_of(env.cr, conf=_odoo_conf()).settings
    relay = make_relay(settings, PostgresOutbox(_connect_as_odoo(env.cr.dbname)))
    try:
        tally = relay.run_once(max_seconds)
    finally:
        relay.close()
    return {"delivered": tally.delivered, "again": tally.again, "dead": tally.dead}


# --- scheduled syncs


def sync_once(env: Any, kind: str, *, full: bool = False) -> dict[str, Any]:
    """One run of a scheduled sync (a name of `sync.kinds.KINDS`), for Odoo's cron; its status, mode and counts.

    Odoo is read as the user of `env`, in all of that user's companies, on a connection of its own and read-only: one
    snapshot for the whole run, as of its first read, without what the calling transaction has not committed. In a
    scheduled action the calling transaction is committed first, as Odoo's own `_commit_progress` does: it would else
    stay open, idle, for as long as the network takes. `full`: every record, even where an increment would do.

    Raises `SettingsError`, `OdooRefused`, `SyncRefused`, `SyncUnavailable`; `SyncError` for a run that ended as failed.
    What is only partial is logged as a warning.
    """
    from contextlib import closing

    from odoo.sql_db import db_connect

    from ipai_bridge.sync.client import FunctionClient
    from ipai_bridge.sync.kinds import KINDS
    from ipai_bridge.sync.source import EnvSource

    if kind not in KINDS:
        raise SyncError(f"there is no sync {kind!r}: name one of {', '.join(sorted(KINDS))}")
    settings = settings_of(env.cr, conf=_odoo_conf()).settings
    url, secrets = settings.require_endpoint()
    if "ir_cron_progress_id" in env.context:
        env.cr.commit()
    client = FunctionClient(
        url, KINDS[kind].function, secrets[0], instance=settings.instance, timeout=settings.http_timeout,
        user_agent=f"ipai-bridge/{__version__}",
    )  # fmt: skip
    with closing(client), db_connect(env.cr.dbname).cursor() as own:
        own.execute("set transaction read only")
        # Without the caller's context: it may hide companies, or archived records.
        report = KINDS[kind].run(EnvSource(env(cr=own, context={})), client, full)
    for trouble in (*report.errors, *report.warnings):
        log.warning("sync %s: %s", kind, ", ".join(f"{name} {value}" for name, value in trouble.items()))
    if report.status == "failed":
        raise SyncError(
            f"the run of {kind} failed: {report.errors[0]['error'] if report.errors else 'no reason given'}"
        )
    names = ("status", "mode", "inserted", "updated", "unchanged", "deleted", "error_count")
    return {name: getattr(report, name) for name in names}


# --- relay inside Odoo

_LOOK_AGAIN = 60.0  # seconds: how long a look at `relay = inline` holds
_inline: dict[str, InlineRelay] = {}
_looked_at: dict[str, float] = {}
_inline_lock = threading.Lock()


def ensure_inline_relay(database: str) -> None:
    """Have this process's relay thread running for a database whose settings say `relay = inline`.

    Cheap and without I/O: the thread itself reads the settings, and ends at once where they say otherwise.
    """
    now = time.monotonic()
    if now - _looked_at.get(database, float("-inf")) < _LOOK_AGAIN:
        return
    from ipai_bridge.delivery.inline import InlineRelay

    def make() -> Relay | None:
        import psycopg2

        try:
            settings = _resolve_for(database).settings
        except psycopg2.errors.UndefinedTable:  # not, or not yet, a database of Odoo's
            return None
        except psycopg2.OperationalError as error:
            raise OutboxUnavailable(f"{database} does not answer: {error}") from error
        if settings.relay != "inline":
            return None
        return make_relay(settings, PostgresOutbox(_connect_as_odoo(database), exclusive=True))

    with _inline_lock:
        _looked_at[database] = now
        thread = _inline.get(database)
        if thread is None or not thread.is_alive():
            thread = _inline[database] = InlineRelay(database, make)
            thread.start()


def _resolve_for(database: str) -> Resolved:
    from odoo.sql_db import db_connect

    with db_connect(database).cursor() as cursor:
        return settings_of(cursor, conf=_odoo_conf())


def stop_inline_relays(timeout: float = 10.0) -> None:
    """Stop this process's relay threads; wait at most `timeout` seconds for the requests under way."""
    deadline = time.monotonic() + timeout
    threads = list(_inline.values())
    for thread in threads:
        thread.stop(0.0)  # all of them first, so that they end side by side
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    _inline.clear()
    _looked_at.clear()
