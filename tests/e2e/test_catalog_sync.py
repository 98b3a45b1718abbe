"""Law 9, on the real parts: the catalog names every model that Odoo has, and none that it has not, field by field."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ipai_bridge.errors import SyncRefused
from ipai_bridge.secret import Secret
from ipai_bridge.sync.catalog import FUNCTION, sync_catalog
from ipai_bridge.sync.client import FunctionClient, encode
from ipai_bridge.sync.run import Report
from ipai_bridge.sync.source import RpcSource
from ipai_harness.drive.odoo import OdooSession
from ipai_harness.stack.native import NativeStack
from tests.e2e.scene import Scene

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MODELS_IN_ODOO = (
    "select m.id, m.model, m.name ->> 'en_US', m.info, m.state, m.\"order\", "
    "case when m.transient then 'transient' when m.abstract then 'abstract' else 'model' end "
    "from ir_model m order by m.id"
)
FIELDS_IN_ODOO = (
    "select f.model_id, f.name, f.ttype, f.field_description ->> 'en_US', f.state, coalesce(f.required, false), "
    "coalesce(f.readonly, false), coalesce(f.store, false), nullif(f.relation, ''), nullif(f.help ->> 'en_US', '') "
    "from ir_model_fields f"
)
MODELS_HERE = (
    "select a.odoo_id, a.fqdn, a.title, a.metadata from catalog.assets a join odoo.instances i on i.id = a.instance_id "
    "where i.name = %s and a.origin = 'odoo' and a.archived_at is null order by 1"
)
VERSIONS = (
    "select 'asset', fqdn, xmin::text from catalog.assets union all "
    "select kind, from_fqdn || to_fqdn, xmin::text from catalog.lineage_edges union all "
    "select 'database', segment, xmin::text from catalog.databases order by 1, 2"
)


class Catalog:
    """The catalog of the stack's Odoo as an instance of its own."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.odoo, self.env = scene, scene.odoo, scene.env
        self.instance = f"catalog-{uuid.uuid4().hex[:8]}"
        self.client = FunctionClient(
            self.env["functions_url"], FUNCTION, Secret(self.env["secret"]), instance=self.instance, timeout=10
        )

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def source(self) -> RpcSource:
        env = self.env
        return RpcSource(env["odoo_url"], env["odoo_db"], env["odoo_login"], env["odoo_password"])

    def sync(self, **options: Any) -> Report:
        report = sync_catalog(self.source(), self.client, **options)
        assert report.status == "success", report
        return report

    def ask(self, action: str, **body: Any) -> dict[str, Any]:
        return self.client.request(encode({"action": action, **body}))

    @property
    def prefix(self) -> str:
        """What the FQDN of each model begins with."""
        statement = "select d.segment from catalog.databases d join odoo.instances i on i.id = d.instance_id"
        [(segment,)] = self.scene.supabase_sql(statement + " where i.name = %s", self.instance)
        return f"odoo.{segment}."

    def here(self) -> dict[int, Any]:
        """Every active model of the catalog."""
        return {row[0]: row[1:] for row in self.scene.supabase_sql(MODELS_HERE, self.instance)}

    def in_odoo(self) -> dict[int, Any]:
        """Every model that Odoo's own database has, as the catalog should have it."""
        prefix = self.prefix
        found = {}
        for number, model, name, info, state, order, kind in self.scene.odoo_sql(MODELS_IN_ODOO):
            metadata = {"model": model, "kind": kind, "state": state, "order": order, "fields": {}}
            found[number] = (prefix + model, name, metadata | ({"description": info} if info else {}))
        for number, name, kind, label, state, required, readonly, store, relation, help in self.scene.odoo_sql(
            FIELDS_IN_ODOO
        ):
            told = {"type": kind, "label": label, "state": state}
            told |= {"required": required, "readonly": readonly, "store": store}
            told |= {key: text for key, text in (("relation", relation), ("help", help)) if text}
            found[number][2]["fields"][name] = told
        return found

    def assert_equal(self) -> None:
        """Model by model and field by field."""
        here, there = self.here(), self.in_odoo()
        assert here.keys() == there.keys()
        for number, model in there.items():
            assert here[number] == model

    def fqdns(self) -> set[str]:
        return {fqdn for fqdn, _, _ in self.here().values()}

    def versions(self) -> list[Any]:
        return self.scene.supabase_sql(VERSIONS)


@pytest.fixture
def catalog(scene: Scene) -> Iterator[Catalog]:
    with closing(Catalog(scene)) as catalog:
        yield catalog


def manual(odoo: OdooSession, name: str) -> int:
    return odoo.create("ir.model", {"name": f"The {name}", "model": name})


def manual_field(odoo: OdooSession, model_id: int, name: str, ttype: str = "char", **more: Any) -> int:
    values = {"model_id": model_id, "name": name, "ttype": ttype, "field_description": name.title(), **more}
    return odoo.create("ir.model.fields", values)


def test_every_model_with_every_field(catalog: Catalog) -> None:
    first = catalog.sync(page_size=60)
    assert (first.mode, first.inserted) == ("full", len(catalog.in_odoo()))
    assert first.pages > 5
    catalog.assert_equal()
    kinds = {metadata["kind"] for _, _, metadata in catalog.here().values()}
    assert kinds == {"model", "transient", "abstract"}
    before = catalog.versions()
    again = catalog.sync()
    assert (again.inserted, again.updated, again.deleted, again.unchanged) == (0, 0, 0, first.inserted)
    assert again.more["lineage"] == {"edges_added": 0, "edges_removed": 0}
    assert catalog.versions() == before


def test_what_is_made_changed_and_deleted_in_odoo(catalog: Catalog) -> None:
    odoo, name = catalog.odoo, f"x_close_{uuid.uuid4().hex[:6]}"
    catalog.sync()
    made = manual(odoo, name)
    try:
        manual_field(odoo, made, "x_partner", "many2one", relation="res.partner", help="Whose ☃", required=False)
        assert catalog.sync().inserted == 1
        catalog.assert_equal()
        fqdn = catalog.prefix + name
        refers = catalog.ask("get_lineage", fqdn=fqdn, direction="down", depth=1, kinds=["refers_to"])
        edges = {edge["to"]: edge["details"] for edge in refers["edges"]}
        assert edges[catalog.prefix + "res.partner"] == {"fields": ["x_partner"]}
        odoo.write("ir.model", made, {"name": "Month-end close"})
        assert catalog.sync().updated == 1
        catalog.assert_equal()
        assert catalog.ask("search_assets", query="month-end close")["assets"][0]["title"] == "Month-end close"
    finally:
        odoo.unlink("ir.model", [made])
    assert catalog.sync().deleted == 1
    catalog.assert_equal()
    with pytest.raises(SyncRefused) as refused:
        catalog.ask("get_lineage", fqdn=fqdn)
    assert refused.value.reason == "unknown_asset"
    asked = catalog.ask("check_permission", principals=["role:x"], operation="read", fqdn=fqdn)
    assert (asked["allowed"], asked["reason"]) == (False, "archived_asset")


def test_a_module_that_is_installed_uninstalled_and_back(catalog: Catalog) -> None:
    odoo = catalog.odoo
    [utm] = odoo.search("ir.module.module", [("name", "=", "utm")])
    [state] = [odoo.read("ir.module.module", utm, ["state"])["state"]]
    assert state == "uninstalled"
    catalog.sync()
    campaign = catalog.prefix + "utm.campaign"
    assert campaign not in catalog.fqdns()
    try:
        odoo.call("ir.module.module", "button_immediate_install", [utm])
        assert catalog.sync().inserted > 3
        catalog.assert_equal()
        assert campaign in catalog.fqdns()
    finally:
        odoo.call("ir.module.module", "button_immediate_uninstall", [utm])
    assert catalog.sync().deleted > 3
    catalog.assert_equal()
    assert campaign not in catalog.fqdns()
    archived = "select count(*) from catalog.assets where fqdn = %s and archived_at is not null"
    assert catalog.scene.supabase_sql(archived, campaign) == [(1,)]
    try:
        odoo.call("ir.module.module", "button_immediate_install", [utm])
        back = catalog.sync()
        assert (back.inserted, campaign in catalog.fqdns()) == (0, True)
        catalog.assert_equal()
    finally:
        odoo.call("ir.module.module", "button_immediate_uninstall", [utm])


def test_a_run_that_is_cut_off_archives_nothing_more_and_does_not_look_complete(catalog: Catalog) -> None:
    catalog.sync()

    class Cut(RpcSource):
        left = 5

        def call(self, *args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
            return super().call(*args, **kwargs)

    env = catalog.env
    cut = Cut(env["odoo_url"], env["odoo_db"], env["odoo_login"], env["odoo_password"])
    with pytest.raises(KeyboardInterrupt):
        sync_catalog(cut, catalog.client, page_size=20)
    statuses = (
        "select r.status from odoo_seed.sync_runs r join odoo.instances i on i.id = r.instance_id where i.name = %s "
        "and r.sync = 'catalog' order by r.id"
    )
    assert catalog.scene.supabase_sql(statuses, catalog.instance) == [("success",), ("failed",)]
    catalog.assert_equal()


def test_an_event_leads_from_its_model_to_the_figures(scene: Scene) -> None:
    scene.emit("res.partner.touched")
    scene.until_completed(1)
    with closing(Catalog(scene)) as catalog:
        # Events are those of the instance under which the bridge sends them.
        catalog.instance = catalog.client.instance = scene.env["instance"]
        catalog.sync()
        partner = catalog.prefix + "res.partner"
        down = catalog.ask("get_lineage", fqdn=partner, direction="down")
        told = {asset["fqdn"]: asset["distance"] for asset in down["assets"]}
        event = catalog.prefix.replace("odoo.", "event.", 1) + "res.partner.touched"
        assert (told[event], told["supabase.odoo.webhook_events"], told["scout.gold.mv_event_volume"]) == (1, 2, 3)
        up = catalog.ask("get_lineage", fqdn="scout.gold.v_revenue_summary", direction="up")
        assert partner in [asset["fqdn"] for asset in up["assets"]]


INSIDE = """
from ipai_bridge.secret import Secret
from ipai_bridge.sync.catalog import FUNCTION, sync_catalog
from ipai_bridge.sync.client import FunctionClient
from ipai_bridge.sync.source import EnvSource
client = FunctionClient({url!r}, FUNCTION, Secret({secret!r}), instance={instance!r}, timeout=10)
for _ in range(2):
    report = sync_catalog(EnvSource(env), client)
    print("REPORT", report.status, report.inserted > 0, report.updated, report.deleted)
"""


def test_the_same_from_inside_odoo(catalog: Catalog) -> None:
    env = catalog.env
    script = INSIDE.format(url=env["functions_url"], secret=env["secret"], instance=catalog.instance)
    done = catalog.scene.stack.odoo.shell(script)
    said = [line.partition("REPORT ")[2] for line in done.splitlines() if "REPORT" in line]
    assert said == ["success True 0 0", "success False 0 0"], done[-2000:]
    catalog.assert_equal()
    # The way in makes no difference.
    report = catalog.sync()
    assert (report.inserted, report.updated, report.deleted) == (0, 0, 0)


def test_the_command(catalog: Catalog) -> None:
    env = catalog.env
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IPAI_BRIDGE_")}
    environment = kept | {
        "IPAI_BRIDGE_URL": env["functions_url"],
        "IPAI_BRIDGE_SECRET": env["secret"],
        "IPAI_BRIDGE_INSTANCE": catalog.instance,
        "IPAI_BRIDGE_ODOO_URL": env["odoo_url"],
        "IPAI_BRIDGE_ODOO_DB": env["odoo_db"],
        "IPAI_BRIDGE_ODOO_LOGIN": env["odoo_login"],
        "IPAI_BRIDGE_ODOO_PASSWORD": env["odoo_password"],
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "ipai_bridge", "sync", "catalog", *arguments]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=120)

    done = run("--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["status"], report["inserted"]) == ("success", len(catalog.in_odoo()))
    assert report["more"]["lineage"]["edges_added"] > 500
    catalog.assert_equal()
    again = run("--page-size", "200")
    assert again.stdout.startswith("success (full): 0 new, 0 changed, ")
    assert "lineage: 0 edges added, 0 edges removed\n" in again.stdout


@pytest.fixture(scope="module")
def shared(stack: NativeStack, odoo: OdooSession) -> Iterator[Catalog]:
    with closing(Catalog(Scene(stack, odoo))) as catalog:
        yield catalog


ACTS = st.tuples(
    st.sampled_from(["make", "field", "relation", "rename", "relabel", "drop field", "drop", "sync"]), st.integers(0, 9)
)


@settings(
    max_examples=5, phases=[Phase.explicit, Phase.generate], deadline=None, suppress_health_check=list(HealthCheck)
)
@given(acts=st.lists(ACTS, min_size=3, max_size=10), size=st.sampled_from([7, 100, 500]))
def test_law_9_whatever_is_done(shared: Catalog, acts: list[tuple[str, int]], size: int) -> None:
    odoo, mark = shared.odoo, uuid.uuid4().hex[:6]
    models: list[int] = []
    fields: dict[int, list[int]] = {}
    try:
        for at, (act, number) in enumerate(acts):
            model = models[number % len(models)] if models else None
            if act == "sync":
                shared.sync(page_size=100)
            elif act == "make" or model is None:
                models.append(manual(odoo, f"x_{mark}_{at}"))
                fields[models[-1]] = []
            elif act == "field":
                more = {"help": f"Help {number}"} if number % 2 else {"required": True}
                fields[model].append(manual_field(odoo, model, f"x_f{at}", ["char", "integer"][number % 2], **more))
            elif act == "relation":
                fields[model].append(manual_field(odoo, model, f"x_r{at}", "many2one", relation="res.partner"))
            elif act == "rename":
                odoo.write("ir.model", model, {"name": f"Renamed {at}"})
            elif act == "relabel" and fields[model]:
                odoo.write("ir.model.fields", fields[model][-1], {"field_description": f"Label {at}"})
            elif act == "drop field" and fields[model]:
                odoo.unlink("ir.model.fields", [fields[model].pop()])
            elif act == "drop":
                odoo.unlink("ir.model", [model])
                models.remove(model)
        report = sync_catalog(shared.source(), shared.client, page_size=size)
        assert report.status == "success"
        shared.assert_equal()
    finally:
        if models:
            odoo.unlink("ir.model", models)
    shared.sync()
    shared.assert_equal()
    assert not any(f".x_{mark}_" in fqdn for fqdn in shared.fqdns())
