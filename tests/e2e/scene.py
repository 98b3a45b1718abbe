"""What the end-to-end tests do and see: acts in Odoo, and the events that they alone brought about."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import odoorpc.error
import psycopg2

from ipai_harness.drive.odoo import OdooSession
from ipai_harness.observe.outcomes import Journey, eventually, journeys
from ipai_harness.stack.handle import Part, Stack


class Scene:
    """One test on the shared stack. It sees only events of its own partners."""

    def __init__(self, stack: Stack, odoo: OdooSession) -> None:
        self.stack = stack
        self.odoo = odoo
        self.env = stack.env()
        self.partner = odoo.create("res.partner", {"name": "Azure Interior"})

    # --- acts

    def action(self, code: str) -> int:
        """A server action on partners."""
        return self.odoo.server_action("Scene", "res.partner", code)

    def run(self, code: str, ids: Sequence[int] | None = None) -> Any:
        """Write a server action on partners and run it on the scene's partner (or on `ids`)."""
        return self.odoo.run_server_action(self.action(code), "res.partner", ids or [self.partner])

    def refusal(self, code: str) -> str:
        """Run code that must be refused; what Odoo says."""
        try:
            result = self.run(code)
        except odoorpc.error.RPCError as error:
            return str(error) + repr(error.info)
        raise AssertionError(f"Odoo ran it, and answered {result!r}")

    def emit(self, event_type: str = "res.partner.touched", number: int = 0, ids: Sequence[int] | None = None) -> None:
        """Emit from a server action, and commit."""
        self.run(f'ipai_bridge.emit(records, "{event_type}", payload={{"number": {number}}})', ids)

    # --- outcomes

    def seen(self, *partners: int) -> list[Journey]:
        """Every event of the scene's partner (or of `partners`) that either side knows."""
        wanted = {str(partner) for partner in partners or (self.partner,)}
        everything = journeys(self.env["odoo_dsn"], self.env["supabase_dsn"], self.env["instance"])
        return [
            journey
            for journey in everything
            if journey.aggregate_id in wanted and journey.aggregate_type == "res.partner"
        ]

    def until_completed(self, count: int, *partners: int, timeout: float = 30.0) -> Sequence[Journey]:
        """Wait until exactly `count` events are delivered and completed."""

        def done(found: Sequence[Journey]) -> bool:
            return len(found) == count and all(
                journey.webhook_status == "completed" and journey.outbox_status == "delivered" for journey in found
            )

        return eventually(lambda: self.seen(*partners), done, what=f"{count} events completed", timeout=timeout)

    def odoo_sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run SQL on Odoo's database, as Odoo's user."""
        return _sql(self.env["odoo_dsn"], statement, parameters)

    def supabase_sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run SQL on Supabase's database."""
        return _sql(self.env["supabase_dsn"], statement, parameters)

    # --- disturbances; what they change is put back at their end

    @contextmanager
    def relay_with(self, **settings: str) -> Iterator[None]:
        """The relay restarted with other settings, such as `url` or `lease`."""
        changes = {f"IPAI_BRIDGE_{name.upper()}": value for name, value in settings.items()}
        with self._restarted(self.relay, {**changes}):
            yield

    @contextmanager
    def receiver_with(self, *secrets: str) -> Iterator[None]:
        """The Edge Functions restarted with other active secrets."""
        with self._restarted(self.stack.functions, {"IPAI_BRIDGE_SECRET": " ".join(secrets)}):
            yield

    @contextmanager
    def _restarted(self, part: Part, changes: dict[str, str | None]) -> Iterator[None]:
        before = part.environment
        if "IPAI_BRIDGE_SECRET" in changes and "IPAI_BRIDGE_SECRET_FILE" in before:
            changes = {**changes, "IPAI_BRIDGE_SECRET_FILE": None}
        part.change_environment(changes)
        part.restart()
        try:
            yield
            assert part.alive, part.log_text()
        finally:
            part.change_environment({name: before.get(name) for name in changes})
            part.restart()

    @contextmanager
    def second_relay(self) -> Iterator[None]:
        """One more relay on the same outbox."""
        with self.relay.twin("relay-2"):
            yield

    @property
    def relay(self) -> Part:
        """The stack's relay."""
        assert self.stack.relay is not None
        return self.stack.relay

    def logs(self) -> dict[str, str]:
        """What every part has printed, also those that are gone."""
        kept = {log.name: log.read_text(errors="replace") for log in self.stack.run.glob("*.log")}
        return kept | {name: part.log_text() for name, part in self.stack.parts.items()}

    def mend(self) -> None:
        """Start whatever the test stopped."""
        for part in self.stack.parts.values():
            if not part.alive:
                part.start()


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:
    """The first true value of `condition`; fails with `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout:g} s: {what}")


def _sql(dsn: str, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(dsn)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, tuple(parameters) or None)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()
