"""The syncs as scheduled actions of a real Odoo: its own cron runs them, in its sandbox."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from ipai_harness.stack import paths
from ipai_harness.stack.migrations import seed_files
from tests.e2e.scene import Scene, wait_for
from tests.e2e.syncing import Syncs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


class Crons:
    """Scheduled actions that are due at once; gone after the test."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.made: list[int] = []

    def due(self, code: str) -> int:
        """A scheduled action that Odoo's cron runs now, as the administrator."""
        odoo = self.scene.odoo
        values = {
            "name": f"Scene {uuid.uuid4().hex[:8]}", "model_id": odoo.model_id("res.partner"), "state": "code",
            "code": code, "interval_number": 1, "interval_type": "days",
        }  # fmt: skip
        self.made.append(odoo.create("ir.cron", values))
        # Else the scheduler looks once a minute.
        self.scene.run(f'env["ir.cron"].browse({self.made[-1]})._trigger()')
        return self.made[-1]

    def until_run(self, cron: int) -> dict[str, Any]:
        """The scheduled action after its first run."""
        statement = "select lastcall is not null or failure_count > 0 from ir_cron where id = %s"
        wait_for(lambda: self.scene.odoo_sql(statement, cron) == [(True,)], "Odoo's cron ran it", timeout=120)
        return self.scene.odoo.read("ir.cron", cron, ["failure_count", "first_failure_date", "lastcall"])

    def remove(self) -> None:
        """Remove what was made."""
        self.scene.odoo.unlink("ir.cron", self.made)


@pytest.fixture
def crons(scene: Scene) -> Iterator[Crons]:
    made = Crons(scene)
    yield made
    made.remove()


@pytest.fixture
def syncs(scene: Scene) -> Iterator[Syncs]:
    with closing(Syncs(scene)) as syncs:
        syncs.instance = scene.env["instance"]  # what this Odoo calls itself
        yield syncs


def last_run(syncs: Syncs, sync: str) -> tuple[Any, ...]:
    """Number of the runs so far; mode and status of the last one."""
    [found] = syncs.ours(
        "select count(*), (array_agg(r.mode order by r.id desc))[1], (array_agg(r.status order by r.id desc))[1] "
        "from odoo_seed.sync_runs r join odoo.instances i on i.id = r.instance_id "
        f"where i.name = %s and r.sync = '{sync}'"
    )
    return found


def test_odoos_cron_runs_the_syncs(scene: Scene, crons: Crons, syncs: Syncs) -> None:
    project = scene.odoo.create("project.project", {"name": "Scheduled"})
    task = scene.odoo.create("project.task", {"name": "First", "project_id": project})
    before = {sync: last_run(syncs, sync)[0] for sync in ("finance", "catalog", "modules")}
    assert crons.until_run(crons.due('ipai_bridge.sync(env, "finance", full=True)'))["failure_count"] == 0
    assert last_run(syncs, "finance") == (before["finance"] + 1, "full", "success")
    syncs.assert_equal()

    scene.odoo.write("project.task", task, {"name": "Second"})
    scene.odoo.write("project.project", project, {"active": False})
    crons.until_run(crons.due('ipai_bridge.sync(env, "finance")'))
    assert last_run(syncs, "finance") == (before["finance"] + 2, "increment", "success")
    syncs.assert_equal()

    crons.until_run(crons.due('ipai_bridge.sync(env, "catalog")'))
    assert last_run(syncs, "catalog") == (before["catalog"] + 1, "full", "success")

    crons.until_run(crons.due('ipai_bridge.sync(env, "modules")'))
    assert last_run(syncs, "modules") == (before["modules"] + 1, "full", "success")
    syncs.assert_modules_equal()


def test_a_sync_that_cannot_be_done_is_a_failure_of_the_scheduled_action(scene: Scene, crons: Crons) -> None:
    state = crons.until_run(crons.due('ipai_bridge.sync(env, "nothing")'))
    assert state["failure_count"] == 1
    log = scene.stack.odoo.log_text()
    assert "there is no sync 'nothing': name one of catalog, " in log
    assert scene.env["secret"] not in log


def test_what_came_before_it_is_committed(scene: Scene, crons: Crons) -> None:
    """The commit point: the action's own transaction is not open, idle, while the sync runs."""
    code = f"""
partner = env["res.partner"].browse({scene.partner})
partner.write({{"ref": "before"}})
ipai_bridge.sync(env, "modules")
partner.write({{"ref": "after"}})
env.cr.execute("select 1")
raise UserError("planted")
"""
    assert crons.until_run(crons.due(code))["failure_count"] == 1
    [(ref,)] = scene.odoo_sql("select ref from res_partner where id = %s", scene.partner)
    assert ref == "before"


def test_by_hand_nothing_is_committed_behind_ones_back(scene: Scene) -> None:
    said = scene.refusal(
        'records.write({"ref": "by hand"})\nipai_bridge.sync(env, "modules")\nraise UserError("planted")'
    )
    assert "planted" in said
    assert scene.odoo_sql("select ref from res_partner where id = %s", scene.partner) == [(None,)]


def test_the_tax_calendar_of_the_seed_is_missing_until_somebody_plans_it(scene: Scene, syncs: Syncs) -> None:
    # Other tests empty the plan; the seed may be applied again at any time.
    [calendar] = [file for file in seed_files(paths.supabase_project()) if file.name == "9001_erp.sql"]
    scene.supabase_sql(calendar.read_text())
    missing = "select external_ref from odoo_seed.v_missing_in_odoo where instance = %s"
    scene.run('ipai_bridge.sync(env, "finance")')
    before = {reference for (reference,) in syncs.ours(missing)}
    planned = {"bir.calendar_2026": "project.project", "bir.f2550q_2026_q1": "project.task"}
    assert set(planned) <= before
    for reference, model in planned.items():
        record = scene.odoo.create(model, {"name": reference})
        module, name = reference.split(".")
        named = {"module": module, "name": name, "model": model, "res_id": record}
        scene.odoo.create("ir.model.data", named)
    scene.run('ipai_bridge.sync(env, "finance")')
    assert {reference for (reference,) in syncs.ours(missing)} == before - set(planned)
