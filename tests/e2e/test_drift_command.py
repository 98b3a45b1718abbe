"""`ipai-harness drift` as a command: a deployment by its DSNs, what is not visible, exit codes, secrets."""

from __future__ import annotations

import json

import pytest

from tests.e2e.drifting import TASK, Drift

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

DEPRECATED = "postgresql://postgres@db.xkxyvoboeubffxxbebsll.supabase.co/postgres"


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
