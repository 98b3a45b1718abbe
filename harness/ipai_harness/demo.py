"""The main job, shown: what users do in a real Odoo, and each event's way from the record to `completed`.

An administrator writes five automation rules whose server actions call `ipai_bridge.emit`; then users work: an
invoice is created and posted, a project gets three tasks, a task is done, a partner is renamed. One more act raises an
error after it has emitted: its transaction is rolled back, and nothing of it may ever arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import odoorpc.error
from rich.console import Console
from rich.table import Table

from ipai_harness.drive.odoo import OdooSession
from ipai_harness.observe.outcomes import Journey, broken_laws, eventually, journeys

RENAMED = "Peñaranda – 株式会社 😀"
DOOMED = "Rolled back"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demo saw."""

    journeys: Sequence[Journey]
    problems: Sequence[str]
    """Broken laws, and expected events that are missing or too many."""

    @property
    def ok(self) -> bool:
        """Whether the laws hold."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """The form that `demo --json` prints."""
        report: dict[str, Any] = {"ok": self.ok, "events": [journey.as_json() for journey in self.journeys]}
        if self.problems:
            report["problems"] = list(self.problems)
        return report


def play(env: Mapping[str, str], say: Say, *, timeout: float = 60.0) -> Outcome:
    """Wire, act, wait, judge, on a running stack.

    Args:
        env: how to reach it, as `ipai-harness env --json` prints it.
        say: called with a line for each step.
        timeout: seconds to wait for the last event to be completed.

    Raises:
        OutcomeTimeout: an event was not completed in time.
    """

    def look() -> list[Journey]:
        return journeys(env["odoo_dsn"], env["supabase_dsn"], env["instance"])

    before = {journey.idempotency_key for journey in look()}
    odoo = OdooSession(env["odoo_url"], env["odoo_db"], env["odoo_login"], env["odoo_password"])

    say("an administrator writes server actions and automation rules")
    customer = odoo.create("res.partner", {"name": "Azure Interior"})
    rules = _wire(odoo)
    try:
        expected = _act(odoo, customer, say)
    finally:
        odoo.unlink("base.automation", rules)

    say("waiting until each event is completed")

    def seen() -> list[Journey]:
        return [journey for journey in look() if journey.idempotency_key not in before]

    def settled(found: Sequence[Journey]) -> bool:
        return len(found) >= len(expected) and all(
            journey.webhook_status == "completed" and journey.outbox_status == "delivered" for journey in found
        )

    found = eventually(seen, settled, what="every event completed", timeout=timeout)
    return Outcome(found, [*broken_laws(found), *_unexpected(found, expected)])


def _wire(odoo: OdooSession) -> list[int]:
    return [
        odoo.automation(
            "Invoice posted",
            "account.move",
            'ipai_bridge.emit(records, "account.move.posted", '
            'fields=["name", "state", "move_type", "amount_total", "invoice_date", "partner_id", "line_ids"])',
            before=[("state", "!=", "posted")],
            after=[("state", "=", "posted")],
        ),
        odoo.automation(
            "Project created",
            "project.project",
            'ipai_bridge.emit(records, "project.project.created", fields=["name", "active"])\n'
            f"if any(project.name == {DOOMED!r} for project in records):\n"
            '    raise UserError("the act is refused after it has emitted")',
            trigger="on_create",
        ),
        odoo.automation(
            "Task created",
            "project.task",
            'ipai_bridge.emit(records, "project.task.created", fields={"title": "name", "project": "project_id"})',
            trigger="on_create",
        ),
        odoo.automation(
            "Task done",
            "project.task",
            'ipai_bridge.emit(records, "project.task.done", fields=["name", "state", "project_id"])',
            before=[("state", "!=", "1_done")],
            after=[("state", "=", "1_done")],
        ),
        odoo.automation(
            "Partner renamed",
            "res.partner",
            'ipai_bridge.emit(records, "res.partner.renamed", fields=["name", "write_date"])',
            trigger="on_write",
            fields=["name"],
        ),
    ]


def _act(odoo: OdooSession, customer: int, say: Say) -> list[tuple[str, str]]:
    """Do what users do; the (event type, record id) pairs that must arrive, and nothing else."""
    say("an accountant creates and posts an invoice")
    invoice = odoo.create(
        "account.move",
        {
            "move_type": "out_invoice",
            "partner_id": customer,
            "invoice_line_ids": [(0, 0, {"name": "Consulting", "quantity": 2, "price_unit": 575.0})],
        },
    )
    odoo.call("account.move", "action_post", [invoice])

    say("a project manager creates a project and three tasks, and finishes one")
    project = odoo.create("project.project", {"name": "Office move"})
    tasks = odoo.create_many(
        "project.task", [{"name": name, "project_id": project} for name in ("Plan", "Pack", "Move")]
    )
    odoo.write("project.task", tasks[0], {"state": "1_done"})

    say("somebody renames a partner")
    odoo.write("res.partner", customer, {"name": RENAMED})

    say("somebody's transaction is rolled back after it has emitted")
    refused = False
    try:
        odoo.create("project.project", {"name": DOOMED})
    except odoorpc.error.RPCError:
        refused = True
    if not refused:
        raise AssertionError("Odoo did not refuse the act that was to be rolled back")

    return [
        ("account.move.posted", str(invoice)),
        ("project.project.created", str(project)),
        *(("project.task.created", str(task)) for task in tasks),
        ("project.task.done", str(tasks[0])),
        ("res.partner.renamed", str(customer)),
    ]


def _unexpected(found: Sequence[Journey], expected: Sequence[tuple[str, str]]) -> list[str]:
    seen = sorted((journey.event_type, journey.aggregate_id) for journey in found)
    problems = []
    if seen != sorted(expected):
        problems.append(f"expected exactly {sorted(expected)}, but saw {seen}")
    renamed = [journey.received for journey in found if journey.event_type == "res.partner.renamed"]
    if any(payload["name"] != RENAMED for payload in renamed):
        problems.append(f"the renamed partner arrived as {renamed}")
    return problems


def print_table(outcome: Outcome, console: Console) -> None:
    """Each event's way, with the time of every hop, and the verdict."""
    table = Table(box=None, padding=(0, 1, 0, 0))  # fits a terminal of 80 columns
    for column in ("event", "id", "emitted"):
        table.add_column(column, no_wrap=True)
    for column in ("#", "received", "processed", "tries"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for journey in outcome.journeys:
        table.add_row(
            journey.event_type,
            journey.aggregate_id,
            journey.emitted_at.strftime("%H:%M:%S") if journey.emitted_at else "–",
            str(journey.sequence),
            _after(journey.emitted_at, journey.received_at),
            _after(journey.received_at, journey.processed_at),
            str(journey.attempts),
            journey.webhook_status or f"{journey.outbox_status}, not received",
        )
    console.print(table)
    for problem in outcome.problems:
        console.print(f"[red]✗[/red] {problem}", highlight=False)
    if outcome.ok:
        console.print(
            f"[green]✓[/green] {len(outcome.journeys)} events arrived, each once and in order; "
            "what was rolled back did not",
            highlight=False,
        )


def _after(earlier: Any, later: Any) -> str:
    return "–" if earlier is None or later is None else f"+{(later - earlier).total_seconds() * 1000:.0f} ms"


__all__ = ["Outcome", "play", "print_table"]
