"""`ipai-harness drift` on the real parts: each reason is brought about, and is the one that is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from ipai_bridge.sync import finance
from ipai_bridge.sync.run import Run
from tests.e2e.drifting import TASK, Drift, another_user, handler, refused
from tests.e2e.scene import Scene

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


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
