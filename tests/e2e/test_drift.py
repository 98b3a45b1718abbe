"""`ipai-harness drift` on the real parts: each reason is brought about, and is the one that is named."""

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
import pytest

from ipai_bridge.event import Event, next_id
from ipai_bridge.outbox import postgres
from ipai_bridge.sync import finance
from ipai_bridge.sync.run import Run
from ipai_harness.drive.odoo import OdooSession
from tests.e2e.scene import Scene, wait_for
from tests.e2e.test_syncs import Syncs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TASK = "project.task"
DEPRECATED = "postgresql://postgres@db.xkxyvoboeubffxxbebsll.supabase.co/postgres"


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


@pytest.fixture
def drift(scene: Scene) -> Iterator[Drift]:
    with closing(Drift(scene)) as drift:
        drift.finance(full=True)
        yield drift
        scene.supabase_sql("delete from odoo_seed.tasks")


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


def test_how_far_the_news_came_and_what_is_queued(drift: Drift) -> None:
    scene = drift.scene
    tasks = {name: drift.task(name, ref=name) for name in ("never", "dead", "waiting", "failed", "arrived")}
    refs = {name: f"{drift.mark}.{name}" for name in tasks}
    refused(scene, tasks["dead"])
    drift.until("outbox", tasks["dead"], "dead")
    with handler(scene, "project.task.unhandled"):
        drift.emit("project.task.unhandled", tasks["failed"])
        drift.emit("project.task.touched", tasks["arrived"])
        drift.until("inbox", tasks["failed"], "failed")
        drift.until("inbox", tasks["arrived"], "completed")
        drift.until("outbox", tasks["arrived"], "delivered")
        scene.relay.stop()
        drift.emit("project.task.touched", tasks["waiting"])
        expected = {
            "never": "never_sent", "dead": "dead_in_outbox", "waiting": "waiting_in_outbox", "failed": "not_swept",
            "arrived": "not_synced",
        }  # fmt: skip
        found = drift.why(*tasks.values(), refs=list(refs.values()))
        everything: dict[Any, dict[str, str]] = {
            **{tasks[name]: {"not_in_shadow": why} for name, why in expected.items()},
            **{refs[name]: {"missing_in_odoo": why} for name, why in expected.items()},
        }
        assert found == everything
        dead = drift.row("missing_in_odoo", refs["dead"])
        assert "400" in dead["text"]
        assert dead["evidence"]["attempts"] == 1
        waiting = drift.row("not_in_shadow", tasks["waiting"])
        assert (waiting["evidence"]["attempts"], waiting["evidence"]["error"]) == (0, None)
        assert "handler app.gone(odoo.webhook_events)" in drift.row("not_in_shadow", tasks["failed"])["text"]
        never = drift.row("not_in_shadow", tasks["never"])
        assert "no event of it in the outbox" in never["text"]
        assert never["evidence"]["by"].endswith("(admin)")

        # --- what is queued
        outbox = "select id::text, event_type, status from ipai_bridge.outbox order by position"
        before = scene.odoo_sql(outbox)
        shown = drift.said("--reconcile", "--dry-run")
        assert shown["queued"] is None
        assert scene.odoo_sql(outbox) == before
        assert shown["plan"]["retry"] == [dead["evidence"]["event"]]
        assert {"instance": drift.instance, "entity": "task", "odoo_ids": [tasks["never"]]} in shown["plan"]["emit"]
        queued = drift.said("--reconcile", "--yes")["queued"]
        assert queued == shown["plan"]
        drift_again = drift.said("--reconcile", "--yes")["queued"]
        assert drift_again == {"retry": [], "emit": [], "again": [], "full": []}
        now = {row[0]: row[1:] for row in scene.odoo_sql(outbox)}
        assert now[dead["evidence"]["event"]] == ("project.task.broken", "pending")
        [(payload,)] = scene.odoo_sql(
            "select payload ->> 'payload' from ipai_bridge.outbox where aggregate_type = %s and aggregate_id = %s",
            TASK, str(tasks["never"]),
        )  # fmt: skip
        assert json.loads(payload)["external_ref"] == refs["never"]

    scene.relay.start()
    drift.until("inbox", tasks["never"], "completed")
    drift.until("inbox", tasks["waiting"], "completed")
    assert drift.why(tasks["never"]) == {tasks["never"]: {"not_in_shadow": "not_synced"}}
    drift.finance()
    assert drift.why(*tasks.values(), refs=list(refs.values())) == {}
    # What the shadow would hold of it is what the event held.
    shadow = drift.scene.supabase_sql("select raw from odoo_seed.shadow_tasks where odoo_id = %s", tasks["never"])
    assert json.loads(payload) == {"external_ref": refs["never"], **shadow[0][0]}


def another_user(odoo: OdooSession, env: dict[str, str]) -> OdooSession:
    [group] = odoo.call(
        "ir.model.data", "search_read", [("module", "=", "project"), ("name", "=", "group_project_manager")], ["res_id"]
    )
    login = f"maria-{uuid.uuid4().hex[:6]}"
    odoo.create(
        "res.users", {"name": "María", "login": login, "password": login, "group_ids": [(4, group["res_id"])]}
    )  # fmt: skip
    return OdooSession(env["odoo_url"], env["odoo_db"], login, login)


def test_what_people_did(drift: Drift) -> None:
    maria = another_user(drift.odoo, drift.scene.env)
    shared: dict[str, Any] = {
        "project_id": drift.odoo.create("project.project", {"name": "Close", "privacy_visibility": "employees"})
    }
    renamed = drift.task("Reconcile bank", ref="bank", **shared)
    deleted = drift.task("Old filing", ref="filing")
    archived = drift.task("Retired", ref="retired", planned=None)
    nameless = drift.task("Named", ref="nameless", planned=None)
    orphan = drift.task("Improvised")
    other = drift.task("Ad hoc", ref="adhoc", planned="Planned otherwise")
    drift.plan(f"{drift.mark}.nameless", None)
    drift.plan(f"{drift.mark}.never", "Never made")
    drift.odoo.write(TASK, archived, {"active": False})
    drift.finance()
    maria.write(TASK, renamed, {"name": "Reconcile all banks"})
    drift.odoo.unlink(TASK, [deleted])
    found = drift.why(renamed, deleted, archived, nameless, orphan, other, refs=[f"{drift.mark}.never"])
    assert found == {
        renamed: {"name_behind": "renamed"},
        deleted: {"not_in_odoo": "deleted"},
        archived: {"orphan_in_odoo": "archived"},
        nameless: {"name_drift": "named_otherwise"},
        orphan: {"orphan_in_odoo": "not_planned"},
        other: {"name_drift": "named_otherwise"},
        f"{drift.mark}.never": {"missing_in_odoo": "absent_in_odoo"},
    }
    behind = drift.row("name_behind", renamed)
    assert (behind["other_name"], behind["name"]) == ("Reconcile bank", "Reconcile all banks")
    assert behind["evidence"]["by"].startswith("María (maria-")

    drift.finance()
    found = drift.why(renamed, deleted, refs=[f"{drift.mark}.filing"])
    assert found == {
        renamed: {"name_drift": "renamed"},
        f"{drift.mark}.filing": {"missing_in_odoo": "deleted"},
    }
    evidence = drift.row("name_drift", renamed)["evidence"]
    [(written,)] = drift.scene.odoo_sql(
        "select to_char(write_date, 'YYYY-MM-DD HH24:MI:SS') from project_task where id = %s", renamed
    )
    assert (evidence["old"], evidence["new"], evidence["at"]) == (
        "Reconcile bank", "Reconcile all banks", f"{written} UTC",
    )  # fmt: skip
    assert evidence["by"].startswith("María (maria-")
    grave = drift.row("missing_in_odoo", f"{drift.mark}.filing")["evidence"]
    assert (grave["odoo_id"], grave["last_name"], grave["in_odoo"]) == (deleted, "Old filing", "gone")
    assert grave["seen_deleted_at"]


@pytest.fixture
def reference(scene: Scene) -> Iterator[None]:
    """The field x_external_ref on tasks, made as an administrator makes it."""
    [model] = scene.odoo.search("ir.model", [("model", "=", TASK)])
    made = scene.odoo.create(
        "ir.model.fields",
        {"name": "x_external_ref", "field_description": "Reference", "model_id": model, "ttype": "char",
         "state": "manual", "copied": True},
    )  # fmt: skip
    yield
    scene.odoo.unlink("ir.model.fields", [made])


def test_a_copied_record_brings_its_reference_along_in_two_instances(reference: None, drift: Drift) -> None:
    ref = f"close-{drift.mark}"
    original = drift.odoo.create(TASK, {"name": "Close", "x_external_ref": ref})
    copied = drift.odoo.call(TASK, "copy", [original])
    [copy] = copied if isinstance(copied, list) else [copied]
    with closing(Drift(drift.scene)) as other:
        other.instance = f"drift-{other.mark}"
        for one in (drift, other):
            one.finance(full=True)
            one.plan(ref, "Close")
        drift.odoo.unlink(TASK, [original])
        other.finance()
        for one, expected in (
            (drift, {original: {"not_in_odoo": "deleted"}, copy: {"orphan_in_odoo": "duplicate_reference"}}),
            # The reference means the oldest one that is left.
            (other, {copy: {"name_drift": "named_otherwise"}}),
        ):
            assert one.why(original, copy) == expected
        duplicate = drift.row("orphan_in_odoo", copy)["evidence"]
        assert duplicate == {"meant": original, "records": [original, copy]}
        # Of both at once, only that of the given Odoo is compared with it.
        done = drift.command("--name", drift.scene.stack.name, "--json")
        said = json.loads(done.stdout)
        assert {row["instance"] for row in said["drift"] if row["odoo_id"] == copy} == {drift.instance, other.instance}
        assert any(line.startswith(f"{other.instance}: ") for line in said["unseen"])
        drift.scene.supabase_sql(
            "update odoo.instances set active = false where name = %s", other.instance
        )  # fmt: skip


def test_a_second_xml_id_is_not_the_one_that_counts(drift: Drift) -> None:
    task = drift.task("Two names", ref="first")
    drift.odoo.create("ir.model.data", {"module": drift.mark, "name": "second", "model": TASK, "res_id": task})
    drift.plan(f"{drift.mark}.second", "Two names")
    drift.finance(full=True)
    found = drift.why(task, refs=[f"{drift.mark}.second"])
    assert found == {f"{drift.mark}.second": {"missing_in_odoo": "duplicate_reference"}}
    evidence = drift.row("missing_in_odoo", f"{drift.mark}.second")["evidence"]
    assert evidence == {"meant": f"{drift.mark}.first", "records": [task]}


def test_a_sync_that_failed_and_one_that_was_cut_off(drift: Drift) -> None:
    task = drift.task("Unseen", ref="unseen")
    with pytest.raises(ZeroDivisionError), Run.begun(drift.client(), drift.source(), full=True):
        raise ZeroDivisionError
    row = drift.row("not_in_shadow", task)
    assert row["why"] == "sync_incomplete"
    assert row["evidence"]["status"] == "failed"
    assert "ZeroDivisionError" in row["text"]

    run = Run.begun(drift.client(), drift.source(), full=True)
    run.__enter__()
    assert "is under way" in drift.row("not_in_shadow", task)["text"]
    drift.ours(
        "update odoo_seed.sync_runs r set heard_at = now() - interval '6 min' from odoo.instances i "
        "where i.id = r.instance_id and i.name = %s and r.status = 'running'"
    )
    assert drift.why(task) == {task: {"not_in_shadow": "never_sent"}}  # it was cut off before the task was made
    drift.scene.odoo_sql("update project_task set write_date = write_date - interval '1 hour' where id = %s", task)
    drift.scene.supabase_sql("update odoo.sync_cursors set cursor = '2026-01-01 00:00:00'")
    assert "was cut off" in drift.row("missing_in_odoo", f"{drift.mark}.unseen")["text"]
    drift.finance(take_over=True, full=True)
    assert drift.why(task) == {}


def test_what_no_increment_sees_makes_the_next_sync_a_full_one(drift: Drift) -> None:
    task = drift.task("Before")
    drift.finance()
    # As a program leaves it that writes past Odoo.
    drift.scene.odoo_sql(
        "update project_task set name = 'After', write_date = write_date - interval '1 hour' where id = %s", task
    )
    drift.finance()
    assert drift.why(task) == {task: {"name_behind": "unexplained", "orphan_in_odoo": "not_planned"}}
    assert drift.said("--reconcile", "--yes")["queued"]["full"] == [{"instance": drift.instance, "entity": "task"}]
    report = finance.sync_finance(drift.source(), drift.client())
    assert (report.status, report.mode) == ("success", "full")
    assert drift.why(task) == {task: {"name_drift": "renamed", "orphan_in_odoo": "not_planned"}}


def test_a_deployment_by_its_dsns(drift: Drift) -> None:
    env = drift.scene.env
    task = drift.task("Elsewhere", ref="elsewhere")
    rpc = {f"IPAI_BRIDGE_{name.upper()}": env[name] for name in ("odoo_url", "odoo_db", "odoo_login", "odoo_password")}
    dsns = {"IPAI_HARNESS_SUPABASE_DSN": env["supabase_dsn"], "IPAI_HARNESS_ODOO_DSN": env["odoo_dsn"]}
    named = ("--instance", drift.instance, "--entity", "task")
    whole = drift.command(*named, "--json", **rpc, **dsns)
    assert (whole.returncode, whole.stderr) == (3, "")
    said = json.loads(whole.stdout)
    assert said["unseen"] == []
    assert drift.why(task, said=said) == {task: {"not_in_shadow": "never_sent"}}

    text = drift.command(*named, IPAI_HARNESS_SUPABASE_DSN=env["supabase_dsn"])
    assert text.returncode == 3
    assert "not looked at: outbox not visible: give --odoo-dsn" in text.stdout
    assert "not looked at: Odoo not visible" in text.stdout
    assert f"{drift.mark}.elsewhere" in text.stdout
    assert "not_visible" in text.stdout
    for output in (whole.stdout, text.stdout):
        for secret in (env["supabase_dsn"], env["odoo_dsn"], env["odoo_password"], env["secret"]):
            assert secret not in output

    for arguments, variables, code, why in (
        (("--supabase-dsn", env["supabase_dsn"]), {}, 2, "holds a password, which others see here"),
        (("--yes",), {}, 2, "go with --reconcile"),
        ((), {"IPAI_HARNESS_SUPABASE_DSN": DEPRECATED}, 1, "deprecated"),
        ((), {"IPAI_HARNESS_SUPABASE_DSN": "postgresql://127.0.0.1:1/postgres"}, 1, "no connection to postgresql://127"),
        ((), {"IPAI_HARNESS_SUPABASE_DSN": env["odoo_dsn"]}, 1, "deploy the migrations"),
        ((), {**dsns, "IPAI_BRIDGE_ODOO_URL": env["odoo_url"]}, 1, "odoo_db is not set"),
        (("--name", "no-such-stack"), {}, 3, "no stack"),
    ):  # fmt: skip
        failed = drift.command(*arguments, **variables)
        assert failed.returncode == code, failed
        assert why in failed.stderr
        assert failed.stdout == ""
        assert env["supabase_dsn"] not in failed.stderr


def test_no_drift_is_said_and_is_the_exit_code(drift: Drift) -> None:
    drift.scene.supabase_sql("delete from odoo_seed.projects")
    for entity, model in (("project", "project.project"), ("task", TASK)):
        drift.ours(
            f"insert into odoo_seed.{entity}s (instance_id, external_ref, name) "
            f"select i.id, 'every_{entity}.' || s.odoo_id, s.name "
            f"from odoo_seed.shadow_{entity}s s join odoo.instances i on i.id = s.instance_id where i.name = %s"
        )
        for (number,) in drift.ours(
            f"select s.odoo_id from odoo_seed.shadow_{entity}s s join odoo.instances i on i.id = s.instance_id "
            "where i.name = %s"
        ):
            old = drift.odoo.search("ir.model.data", [("model", "=", model), ("res_id", "=", number)])
            drift.odoo.unlink("ir.model.data", old)
            drift.odoo.create(
                "ir.model.data", {"module": f"every_{entity}", "name": str(number), "model": model, "res_id": number}
            )  # fmt: skip
    for _ in range(2):  # a rename is drift until the cycle after
        drift.finance(full=True)
    done = drift.command("--name", drift.scene.stack.name, "--instance", drift.instance)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{drift.instance}: no drift\n"
    drift.scene.supabase_sql("delete from odoo_seed.projects")
