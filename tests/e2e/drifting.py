"""What the tests of `drift` do and see: acts that bring about each reason, and the command itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg2

from ipai_bridge.event import Event, next_id
from ipai_bridge.outbox import postgres
from ipai_harness.drive.odoo import OdooSession
from tests.e2e.scene import Scene, wait_for
from tests.e2e.syncing import Syncs

TASK = "project.task"


class Drift(Syncs):
    """The finance sync of the stack's own instance, and what `drift` says of it."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.instance = scene.env["instance"]
        self.mark = uuid.uuid4().hex[:8]

    def command(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("IPAI_")}
        return subprocess.run(
            [sys.executable, "-m", "ipai_harness", "drift", *arguments],
            env=kept | variables, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def said(self, *arguments: str) -> Any:
        done = self.command("--name", self.scene.stack.name, "--instance", self.instance, "--json", *arguments)
        assert (done.returncode, done.stderr) == (3 if json.loads(done.stdout)["drift"] else 0, ""), done
        return json.loads(done.stdout)

    def why(self, *ids: int, refs: Sequence[str] = (), said: Any = None) -> dict[Any, dict[str, str]]:
        """By record or planned reference, by kind of difference: the reason."""
        found: dict[Any, dict[str, str]] = {}
        for row in (said or self.said())["drift"]:
            key = row["odoo_id"] or row["external_ref"]
            if row["odoo_id"] in ids or row["external_ref"] in refs:
                assert row["kind"] not in found.setdefault(key, {}), "one reason for each"
                found[key][row["kind"]] = row["why"]
        return found

    def row(self, kind: str, key: Any) -> Any:
        [row] = [
            one for one in self.said()["drift"] if one["kind"] == kind and key in (one["odoo_id"], one["external_ref"])
        ]
        return row

    def task(self, name: str, *, ref: str | None = None, planned: str | None = "", **values: Any) -> int:
        """A task; with an XML id, and in the plan under its own name, another (`planned`), or not at all (None)."""
        made = self.odoo.create(TASK, {"name": name, **values})
        if ref is not None:
            self.odoo.create(
                "ir.model.data", {"module": self.mark, "name": ref, "model": TASK, "res_id": made}
            )  # fmt: skip
            if planned is not None:
                self.plan(f"{self.mark}.{ref}", name if planned == "" else planned)
        return made

    def plan(self, ref: str, name: str | None, instance: str | None = None) -> None:
        self.scene.supabase_sql(
            "insert into odoo_seed.tasks (instance_id, external_ref, name) select id, %s, %s from odoo.instances "
            "where name = %s", ref, name, instance or self.instance,
        )  # fmt: skip

    def emit(self, event_type: str, task: int) -> None:
        action = self.odoo.server_action("Drift", TASK, f'ipai_bridge.emit(records, "{event_type}")')
        self.odoo.run_server_action(action, TASK, [task])

    def until(self, side: str, task: int, status: str) -> None:
        """Wait until the task's event has that status in the outbox, or in Supabase."""
        table, ask = {
            "outbox": ("ipai_bridge.outbox", self.scene.odoo_sql),
            "inbox": ("odoo.webhook_events", self.scene.supabase_sql),
        }[side]
        statement = f"select 1 from {table} where aggregate_type = %s and aggregate_id = %s and status = %s"
        wait_for(lambda: ask(statement, TASK, str(task), status), f"{task} {status} in {table}")


@contextmanager
def handler(scene: Scene, event_type: str) -> Iterator[None]:
    """A handler that does not exist: the event fails, and says so."""
    scene.supabase_sql(
        "insert into odoo.event_handlers (event_type, handler) values (%s, 'app.gone(odoo.webhook_events)')", event_type
    )
    try:
        yield
    finally:
        scene.supabase_sql("delete from odoo.event_handlers where event_type = %s", event_type)


def refused(scene: Scene, task: int) -> None:
    """An event that the receiver answers with 400: its body is none."""
    event = Event(next_id(), "project.task.broken", TASK, str(task), b'{"event_type":"x"}', scene.env["instance"])
    with closing(psycopg2.connect(scene.env["odoo_dsn"])) as connection, connection, connection.cursor() as cursor:
        postgres.emit(cursor, [event])


def another_user(odoo: OdooSession, env: dict[str, str]) -> OdooSession:
    [group] = odoo.call(
        "ir.model.data", "search_read", [("module", "=", "project"), ("name", "=", "group_project_manager")], ["res_id"]
    )
    login = f"maria-{uuid.uuid4().hex[:6]}"
    odoo.create(
        "res.users", {"name": "María", "login": login, "password": login, "group_ids": [(4, group["res_id"])]}
    )  # fmt: skip
    session = OdooSession(env["odoo_url"], env["odoo_db"], login, login)
    # Odoo greets her with a private to-do, which the administrator, as whom the syncs read, does not see.
    session.unlink(TASK, session.search(TASK, [("project_id", "=", False)]))
    return session
