"""Both scheduled syncs of the stack's Odoo, and the comparison of what they left behind with Odoo's own tables."""

from __future__ import annotations

import uuid
from typing import Any

from ipai_bridge.secret import Secret
from ipai_bridge.sync import finance, modules
from ipai_bridge.sync.client import FunctionClient
from ipai_bridge.sync.run import Report
from ipai_bridge.sync.source import RpcSource
from tests.e2e.scene import Scene

TABLES = {"project.project": "shadow_projects", "project.task": "shadow_tasks"}
# A project's stage is shown only to a group in which the administrator is not.
ODOO = {
    "project.project": (
        "select p.id, p.name ->> 'en_US', p.active, null::integer, p.sequence, null::integer, p.user_id, p.company_id, "
        "to_char(p.write_date, 'YYYY-MM-DD HH24:MI:SS'), {ref} from project_project p order by p.id"
    ),
    "project.task": (
        "select p.id, p.name, p.active, p.project_id, p.sequence, p.stage_id, null::integer, p.company_id, "
        "to_char(p.write_date, 'YYYY-MM-DD HH24:MI:SS'), {ref} from project_task p order by p.id"
    ),
}
XML_ID = (
    "(select d.module || '.' || d.name from ir_model_data d "
    "where d.model = '{model}' and d.res_id = p.id order by d.id limit 1)"
)
SHADOW = (
    "select s.odoo_id, s.name, s.active, {project}, (s.raw ->> 'sequence')::int, {stage}, "
    "(s.raw ->> 'user_id')::int, (s.raw ->> 'company_id')::int, s.raw ->> 'write_date', s.external_ref "
    "from odoo_seed.{table} s join odoo.instances i on i.id = s.instance_id where i.name = %s order by 1"
)
MODULES_IN_ODOO = (
    "select id, name, shortdesc ->> 'en_US', latest_version, state, author, license from ir_module_module order by name"
)
MODULES_HERE = (
    "select m.odoo_id, m.name, m.title, m.version, m.state, m.author, m.license from odoo.modules m "
    "join odoo.instances i on i.id = m.instance_id where i.name = %s and m.gone_at is null order by m.name"
)


class Syncs:
    """Both syncs of the stack's Odoo as one instance of its own."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.odoo = scene.odoo
        self.instance = f"sync-{uuid.uuid4().hex[:8]}"
        self.references = XML_ID
        self.clients: list[FunctionClient] = []

    def client(self, function: str = finance.FUNCTION, secret: str | None = None) -> FunctionClient:
        env = self.scene.env
        known = Secret(secret or env["secret"])
        self.clients.append(FunctionClient(env["functions_url"], function, known, instance=self.instance, timeout=10))
        return self.clients[-1]

    def close(self) -> None:
        """Close all connections."""
        for client in self.clients:
            client.close()

    def source(self) -> RpcSource:
        env = self.scene.env
        return RpcSource(env["odoo_url"], env["odoo_db"], env["odoo_login"], env["odoo_password"])

    def finance(self, **options: Any) -> Report:
        report = finance.sync_finance(self.source(), self.client(), **{"page_size": 3, **options})
        assert report.status == "success", report
        return report

    def modules(self, **options: Any) -> Report:
        report = modules.sync_modules(self.source(), self.client(modules.FUNCTION), **{"page_size": 100, **options})
        assert report.status == "success", report
        return report

    def assert_equal(self) -> None:
        """The shadow of both models, field by field."""
        for model, table in TABLES.items():
            reference = self.references.format(model=model)
            project, stage = "null::bigint", "null::integer"
            if model == "project.task":
                project, stage = "s.project_odoo_id", "(s.raw ->> 'stage_id')::int"
            there = self.scene.odoo_sql(ODOO[model].format(ref=reference))
            here = self.scene.supabase_sql(SHADOW.format(table=table, project=project, stage=stage), self.instance)
            assert here == there, f"only here: {set(here) - set(there)}; only in Odoo: {set(there) - set(here)}"
            gone = self.scene.supabase_sql(
                "select t.odoo_id from odoo_seed.tombstones t join odoo.instances i on i.id = t.instance_id "
                "where i.name = %s and t.entity = %s",
                self.instance,
                model,
            )
            assert {row[0] for row in gone} & {row[0] for row in there} == set()

    def assert_modules_equal(self) -> None:
        assert self.scene.supabase_sql(MODULES_HERE, self.instance) == self.scene.odoo_sql(MODULES_IN_ODOO)

    def ours(self, statement: str) -> list[tuple[Any, ...]]:
        """A statement on Supabase, with this instance's name as its parameter."""
        return self.scene.supabase_sql(statement, self.instance)
