"""Law 8, on the real parts: after a sync, Supabase's tables equal Odoo's, compared field by field by reading both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from ipai_bridge.errors import SyncRefused
from ipai_bridge.sync import finance
from ipai_bridge.sync.run import Run
from ipai_bridge.sync.source import RpcSource
from ipai_harness.drive.odoo import OdooSession
from tests.e2e.scene import Scene
from tests.e2e.syncing import Syncs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def syncs(scene: Scene) -> Iterator[Syncs]:
    with closing(Syncs(scene)) as syncs:
        yield syncs


def project(odoo: OdooSession, name: str) -> int:
    return odoo.create("project.project", {"name": name})


def test_the_shadow_follows_every_kind_of_change(syncs: Syncs) -> None:
    odoo = syncs.odoo
    projects = [project(odoo, f"Close {number}") for number in range(5)]
    tasks = odoo.create_many(
        "project.task", [{"name": f"Task {number}", "project_id": projects[number % 5]} for number in range(11)]
    )
    first = syncs.finance()
    assert first.mode == "full"
    assert first.pages > 4
    assert first.inserted >= 16
    syncs.assert_equal()
    again = syncs.finance()
    assert (again.mode, again.inserted, again.updated, again.deleted) == ("increment", 0, 0, 0)

    odoo.write("project.project", projects[0], {"name": "Close ☃ renamed"})
    odoo.write("project.project", projects[1], {"active": False})
    odoo.write("project.task", tasks[1], {"project_id": projects[2], "priority": "1"})
    odoo.write("project.task", tasks[2], {"active": False})
    odoo.unlink("project.task", tasks[3:5])
    new = odoo.create("project.task", {"name": "Late", "project_id": projects[3]})
    odoo.create(
        "ir.model.data", {"module": "close", "name": f"t{tasks[6]}", "model": "project.task", "res_id": tasks[6]}
    )
    changed = syncs.finance()
    assert changed.mode == "increment"
    assert (changed.inserted, changed.deleted) == (1, 2)
    syncs.assert_equal()
    graves = syncs.ours(
        "select t.odoo_id, t.name from odoo_seed.tombstones t join odoo.instances i on i.id = t.instance_id "
        "where i.name = %s order by 1"
    )
    assert graves == [(tasks[3], "Task 3"), (tasks[4], "Task 4")]
    renamed = syncs.ours(
        "select odoo_id, previous_name, name, renamed, differs_from_seed from odoo_seed.v_name_drift where instance=%s"
    )
    assert renamed == [(projects[0], "Close 0", "Close ☃ renamed", True, False)]

    odoo.unlink("project.task", [new])
    assert syncs.finance(full=True).deleted == 1
    syncs.assert_equal()
    assert syncs.ours("select odoo_id from odoo_seed.v_name_drift where instance = %s") == []


def test_what_was_committed_late_is_found(syncs: Syncs) -> None:
    mine = project(syncs.odoo, "Slow")
    [task] = syncs.odoo.create_many("project.task", [{"name": "Slow task", "project_id": mine}])
    syncs.finance()
    # As a transaction that began long before the sync leaves them: older than any overlap, and with a lower id.
    syncs.scene.odoo_sql(
        "update project_task set write_date = write_date - interval '5 min', name='x' where id=%s", task
    )
    syncs.ours(
        "delete from odoo_seed.shadow_projects s using odoo.instances i where i.id=s.instance_id and i.name=%s "
        f"and s.odoo_id = {mine} and odoo_id > 0"
    )
    report = syncs.finance()
    assert (report.inserted, report.updated) == (1, 1)
    syncs.assert_equal()


def test_two_instances_do_not_see_one_another(syncs: Syncs, scene: Scene) -> None:
    project(syncs.odoo, "Both")
    with closing(Syncs(scene)) as other:
        syncs.finance()
        other.finance()
    syncs.odoo.write("project.project", project(syncs.odoo, "More"), {"active": False})
    syncs.finance()
    syncs.assert_equal()
    assert len(other.ours("select 1 from odoo_seed.v_orphan_in_odoo where instance = %s")) + 1 == len(
        syncs.ours("select 1 from odoo_seed.v_orphan_in_odoo where instance = %s")
    )


def test_an_interrupted_run_never_looks_complete(syncs: Syncs) -> None:
    for number in range(8):
        project(syncs.odoo, f"Cut {number}")

    class Cut(RpcSource):
        left = 12

        def call(self, *args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
            return super().call(*args, **kwargs)

    env = syncs.scene.env
    cut = Cut(env["odoo_url"], env["odoo_db"], env["odoo_login"], env["odoo_password"])
    with pytest.raises(KeyboardInterrupt):
        finance.sync_finance(cut, syncs.client(), page_size=2)
    status = (
        "select r.status, r.error_count > 0 from odoo_seed.sync_runs r join odoo.instances i on i.id = r.instance_id "
    )
    status += "where i.name = %s order by r.id"
    assert syncs.ours(status) == [("failed", True)]
    assert (
        syncs.ours("select 1 from odoo.sync_cursors c join odoo.instances i on i.id=c.instance_id where i.name=%s")
        == []
    )

    # Killed: nothing is said at all.
    run = Run.begun(syncs.client(), syncs.source(), full=True)
    run.__enter__().page("project.project", [], 0, 1)
    assert syncs.ours(status)[-1][0] == "running"
    with pytest.raises(SyncRefused, match="under way") as refused:
        syncs.finance()
    assert refused.value.reason == "run_in_progress"
    assert syncs.finance(take_over=True).mode == "full"
    assert [row[0] for row in syncs.ours(status)] == ["failed", "failed", "success"]
    syncs.assert_equal()


def test_the_modules(syncs: Syncs) -> None:
    first = syncs.modules()
    assert first.inserted > 100
    assert first.pages > 5
    assert first.warnings == []  # Odoo lists Enterprise modules that it would sell; none of them is installed
    syncs.assert_modules_equal()
    source = dict(
        syncs.ours(
            "select m.name, m.source from odoo.modules m join odoo.instances i on i.id = m.instance_id where i.name=%s"
        )
    )
    assert {source["base"], source["project"], source["l10n_de"]} == {"ce"}
    assert "enterprise" in source.values()
    assert source.get("ipai_bridge", "ipai") == "ipai"

    sql = syncs.scene.odoo_sql
    [(enterprise,)] = sql("select name from ir_module_module where license = 'OEEL-1' order by name limit 1")
    try:
        sql("update ir_module_module set state = 'uninstalled', latest_version = null where name = 'base_automation'")
        sql("update ir_module_module set state = 'installed' where name = %s", enterprise)
        second = syncs.modules()
        assert [warning["module"] for warning in second.warnings] == [enterprise]
        assert syncs.modules(edition="enterprise").warnings == []
        syncs.assert_modules_equal()
    finally:
        sql("update ir_module_module set state = 'uninstallable' where name = %s", enterprise)
        sql("update ir_module_module set state = 'installed' where name = 'base_automation'")
    marked = "select m.name, m.gone_at is null from odoo.modules m join odoo.instances i on i.id = m.instance_id "
    marked += "where i.name = %s and m.uninstalled_at is not null order by 1"
    assert syncs.ours(marked) == [("base_automation", True)]
    syncs.modules()
    assert syncs.ours(marked) == [(enterprise, True)]


INSIDE = """
import json
from ipai_bridge.secret import Secret
from ipai_bridge.sync import finance, modules
from ipai_bridge.sync.client import FunctionClient
from ipai_bridge.sync.source import EnvSource
def client(function):
    return FunctionClient({url!r}, function, Secret({secret!r}), instance={instance!r}, timeout=10)
reports = [finance.sync_finance(EnvSource(env), client(finance.FUNCTION), page_size=3) for _ in range(2)]
reports.append(modules.sync_modules(EnvSource(env), client(modules.FUNCTION)))
print("REPORTS", json.dumps([[report.status, report.mode] for report in reports]))
"""


def test_the_same_from_inside_odoo(syncs: Syncs) -> None:
    env = syncs.scene.env
    syncs.odoo.write("project.project", project(syncs.odoo, "Archived before"), {"active": False})
    script = INSIDE.format(url=env["functions_url"], secret=env["secret"], instance=syncs.instance)
    done = syncs.scene.stack.odoo.shell(script)
    said = [line for line in done.splitlines() if "REPORTS" in line]
    assert said, done[-2000:]
    assert json.loads(said[0].partition("REPORTS ")[2]) == [
        ["success", "full"],
        ["success", "increment"],
        ["success", "full"],
    ]
    syncs.assert_equal()
    syncs.assert_modules_equal()


@pytest.fixture
def environment(syncs: Syncs) -> dict[str, str]:
    env = syncs.scene.env
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IPAI_BRIDGE_")}
    return kept | {
        "IPAI_BRIDGE_URL": env["functions_url"],
        "IPAI_BRIDGE_SECRET": env["secret"],
        "IPAI_BRIDGE_INSTANCE": syncs.instance,
        "IPAI_BRIDGE_ODOO_URL": env["odoo_url"],
        "IPAI_BRIDGE_ODOO_DB": env["odoo_db"],
        "IPAI_BRIDGE_ODOO_LOGIN": env["odoo_login"],
        "IPAI_BRIDGE_ODOO_PASSWORD": env["odoo_password"],
    }


def test_the_commands(syncs: Syncs, environment: dict[str, str]) -> None:
    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "ipai_bridge", "sync", *arguments]
        return subprocess.run(argv, env=environment | changes, capture_output=True, text=True, check=False, timeout=120)

    done = run("finance", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert (report["status"], report["mode"]) == ("success", "full")
    syncs.assert_equal()
    assert run("finance").stdout.startswith("success (increment): 0 new, 0 changed, ")
    assert json.loads(run("finance", "--full", "--json").stdout)["mode"] == "full"
    assert run("modules").returncode == 0
    syncs.assert_modules_equal()

    for changes, said in (
        ({"IPAI_BRIDGE_ODOO_PASSWORD": "wrong"}, "odoo_refused"),
        ({"IPAI_BRIDGE_ODOO_URL": "http://127.0.0.1:1"}, "odoo_unavailable"),
        ({"IPAI_BRIDGE_ODOO_DB": ""}, "settings_error: odoo_db is not set: give IPAI_BRIDGE_ODOO_DB"),
        (
            {"IPAI_BRIDGE_SECRET": "another-secret-that-is-long-enough"},
            "sync_refused: shadow-odoo-finance: HTTP 401",
        ),
    ):
        failed = run("finance", **changes)
        assert failed.returncode == 1
        assert failed.stdout == ""
        assert failed.stderr.startswith(f"ipai-bridge: {said}")
        assert failed.stderr.count("\n") == 1
        for secret in (environment["IPAI_BRIDGE_SECRET"], environment["IPAI_BRIDGE_ODOO_PASSWORD"] + '"'):
            assert secret not in failed.stderr
