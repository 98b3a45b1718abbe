"""What one scenario has for itself on a target that it shares: a name, its records, and what to undo after it.

Its events carry an instance name that nobody else has, so both sides can be asked for this scenario's alone. On Odoo's
side the name is the system parameter `ipai_bridge.instance`; scenarios on one Odoo database run one after another.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2

from ipai_bridge.sync.client import FunctionClient
from ipai_bridge.sync.run import Report
from ipai_harness.drive.odoo import OdooSession
from ipai_harness.drive.webhook import Reply, Sender
from ipai_harness.observe.outcomes import Journey, arrived, describe, journeys
from ipai_harness.observe.rows import Observer
from ipai_harness.schema_map import SchemaMap
from ipai_harness.stack.handle import Part, Stack
from ipai_harness.steps.waiting import until
from ipai_harness.target import Target

__all__ = ["Thing", "World"]


class Thing(NamedTuple):
    """A record that a sentence has named."""

    model: str
    id: int


class World:
    """One scenario."""

    def __init__(
        self,
        target: Target,
        *,
        stack: Stack | None = None,
        odoo: OdooSession | None = None,
        schema_map: SchemaMap | None = None,
    ) -> None:
        """`stack` and `odoo`: where the target has them."""
        self.instance = f"verify-{secrets.token_hex(4)}"
        self.target = replace(target, instance=self.instance)
        self.env = stack.env() if stack else {}
        self._stack = stack
        self._odoo = odoo
        self._map = schema_map
        self.things: dict[str, Thing] = {}
        self.waited: list[float] = []
        """Seconds that each act in Odoo took."""
        self.journey: Journey | None = None
        """The event that the last sentence was about."""
        self.sender = Sender(
            target.functions_url, target.secrets[0].reveal(), self.instance, target.jwt if stack is None else None
        )
        self.keys: list[str] = []
        """Idempotency keys of what was sent directly."""
        self.replies: list[Reply] = []
        self.sent: tuple[bytes, dict[str, str]] = (b"", {})
        """Body and headers of the last request that was sent directly."""
        self.report: Report | None = None
        self.refusal: str = ""
        """What the last act was refused with."""
        self.notes: dict[str, Any] = {}
        """What sentences of one kind tell one another."""
        self._environments: dict[str, dict[str, str]] = {}
        self.undo = ExitStack()
        if odoo is not None:
            odoo.call("ir.config_parameter", "set_param", "ipai_bridge.instance", self.instance)

    def close(self) -> None:
        """Undo what the scenario changed, and start what it stopped."""
        if self._stack is not None:
            self.mend()
        self.undo.close()

    @property
    def has_stack(self) -> bool:
        """Whether the target is a stack of our own."""
        return self._stack is not None

    @property
    def stack(self) -> Stack:
        """The stack. Only scenarios that say `@stack` or `@odoo` have one for sure."""
        assert self._stack is not None, "this scenario needs a stack of our own: give it the tag @stack"
        return self._stack

    @property
    def exchanges(self) -> Path | None:
        """Where the exchanges with the functions are recorded; None where they are not."""
        found: Path | None = getattr(self._stack, "exchanges", None)
        return found

    @property
    def odoo(self) -> OdooSession:
        """An administrator's login."""
        assert self._odoo is not None, "this scenario needs an Odoo: give it the tag @odoo"
        return self._odoo

    # ------------------------------------------------------------------------------------------------ in Odoo

    def name(self, name: str, model: str, record_id: int) -> int:
        """From now on sentences may call this record so."""
        self.things[name] = Thing(model, record_id)
        return record_id

    def thing(self, name: str) -> Thing:
        """The record of this name. Fails the step when no sentence has named it."""
        if name not in self.things:
            raise AssertionError(f"no sentence before this one named {name!r}: {', '.join(self.things) or 'none'} are")
        return self.things[name]

    def act(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do something in Odoo, and note how long the user waited."""
        started = time.monotonic()
        try:
            return function(*args, **kwargs)
        finally:
            self.waited.append(time.monotonic() - started)

    def rename(self, name: str, new: str) -> None:
        """A user writes another name."""
        thing = self.thing(name)
        self.act(self.odoo.write, thing.model, thing.id, {"name": new})

    def rule(self, *args: Any, **kwargs: Any) -> None:
        """An automation rule for the time of the scenario."""
        rule = self.odoo.automation(*args, **kwargs)
        self.undo.callback(self.odoo.unlink, "base.automation", [rule])

    # ------------------------------------------------------------------------------------------- on both sides

    def events(self, *names: str) -> list[Journey]:
        """Every event of this scenario that either side knows; of the named records only, where some are named."""
        if self._stack is None:
            found = self._received()
        else:
            there = self.env["supabase_dsn"] if self._stack.supabase_db.is_healthy() else None
            found = journeys(self.env["odoo_dsn"], there, self.instance)
        wanted = {(thing.model, str(thing.id)) for thing in map(self.thing, names)}
        return [journey for journey in found if not wanted or (journey.aggregate_type, journey.aggregate_id) in wanted]

    def _received(self) -> list[Journey]:
        """What the database behind a remote target has of what was sent directly."""
        dsn = self.target.supabase_dsn
        assert dsn is not None, "this scenario looks into the database: give it the tag @events"
        if self._map is None:
            return journeys(None, dsn, self.instance)
        keys = None if self._map.has("events", "instance") else self.keys
        observer = Observer(dsn, self.instance, self._map)
        return [arrived(event) for event in observer.events(keys)]

    def until_completed(self, count: int, *names: str, timeout: float = 90.0) -> list[Journey]:
        """Wait until exactly `count` events of the scenario are completed, and none is under way."""

        def so(found: Sequence[Journey]) -> bool:
            return len(found) >= count and all(
                journey.webhook_status == "completed" and journey.outbox_status in ("delivered", None)
                for journey in found
            )

        seen = until(lambda: self.events(*names), so, what=f"{count} events completed", timeout=timeout)
        assert len(seen) == count, f"{len(seen)} events, not {count}:\n" + "\n".join(map(describe, seen))
        return seen

    def odoo_sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run SQL on Odoo's database, as Odoo's own role."""
        return _sql(self.env["odoo_dsn"], statement, parameters)

    def supabase_sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run SQL on Supabase's database, as the role that applies migrations."""
        assert self.target.supabase_dsn is not None, "this scenario looks into the database: give it the tag @database"
        return _sql(self.target.supabase_dsn, statement, parameters)

    def ours(self, select: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """A query on this scenario's rows: it ends in `where` or `and`; the condition on `i`, the instance, follows."""
        return self.supabase_sql(f"{select} i.name = %s", *parameters, self.instance)

    # ------------------------------------------------------------------------------------------------ requests

    def post(self, body: bytes, headers: dict[str, str], **options: Any) -> Reply:
        """Send a request to the receiver directly, and remember it and its answer."""
        self.sent = (body, headers)
        self.keys.append(headers.get("x-idempotency-key", ""))
        self.replies.append(self.sender.post(body, headers, **options))
        return self.replies[-1]

    def call(self, function: str, body: bytes) -> Reply:
        """Ask another function directly, signed, and remember what it answered."""
        return self.post(body, self.sender.headers(body), path=function)

    @property
    def reply(self) -> Reply:
        """The last answer."""
        assert self.replies, "no sentence before this one sent a request"
        return self.replies[-1]

    def client(self, function: str) -> FunctionClient:
        """A client of one of the syncs' functions, as this scenario's instance."""
        client = FunctionClient(
            self.target.functions_url, function, self.target.secrets[0], instance=self.instance, timeout=20
        )
        self.undo.callback(client.close)
        return client

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `ipai-bridge` as an operator of this target would."""
        own = {"URL": self.target.functions_url, "SECRET": self.target.secrets[0].reveal(), "INSTANCE": self.instance}
        if self._stack is not None:
            own["DSN"] = self.env["odoo_dsn"]
        return self._program("ipai_bridge", arguments, {f"IPAI_BRIDGE_{key}": own[key] for key in own} | environment)

    def harness(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `ipai-harness`."""
        return self._program("ipai_harness", arguments, {})

    @staticmethod
    def _program(
        module: str, arguments: Sequence[str], environment: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("IPAI_BRIDGE_")}
        return subprocess.run(
            [sys.executable, "-m", module, *arguments], env={**kept, **environment}, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------- disturbances

    @property
    def relay(self) -> Part:
        """The stack's relay."""
        assert self.stack.relay is not None
        return self.stack.relay

    def relay_with(self, **settings: str) -> None:
        """Restart the relay with other settings, until the end of the scenario or the next call."""
        self._restart(self.relay, {f"IPAI_BRIDGE_{name.upper()}": value for name, value in settings.items()})

    def receiver_with(self, *known: str) -> None:
        """Restart the Edge Functions with these active secrets, until the end of the scenario."""
        self._restart(self.stack.functions, {"IPAI_BRIDGE_SECRET": " ".join(known)})

    def _restart(self, part: Part, changes: dict[str, str | None]) -> None:
        if part.name not in self._environments:
            before = self._environments[part.name] = part.environment
            self.undo.callback(self._put_back, part, before)
        before = self._environments[part.name]
        if "IPAI_BRIDGE_SECRET" in changes and "IPAI_BRIDGE_SECRET_FILE" in before:
            changes = {**changes, "IPAI_BRIDGE_SECRET_FILE": None}
        self._change(part, before, changes)

    def _put_back(self, part: Part, before: dict[str, str]) -> None:
        self._change(part, before, {})

    @staticmethod
    def _change(part: Part, before: dict[str, str], changes: dict[str, str | None]) -> None:
        """The part restarted with what it had before, but for these changes."""
        gone: dict[str, str | None] = {name: None for name in part.environment if name not in before}
        part.change_environment({**gone, **before, **changes})
        part.restart()

    def second_relay(self) -> None:
        """One more relay on the same outbox, until the end of the scenario."""
        self.undo.enter_context(self.relay.twin("relay-2"))

    def mend(self) -> None:
        """Start whatever was stopped."""
        for part in self.stack.parts.values():
            if not part.alive:
                part.start()

    def secrets(self) -> list[str]:
        """What must never be printed."""
        known = [secret.reveal() for secret in self.target.secrets]
        known += [value for name, value in self.notes.items() if name.endswith("secret")]
        known += [secret.removeprefix("whsec_") for secret in known]
        return known + [value for value in (self.env.get("odoo_password"), self.target.jwt) if value]


def _sql(dsn: str, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(dsn)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, tuple(parameters) or None)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()
