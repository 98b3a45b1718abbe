"""The parts of the seed that are the catalog's: each row is used, by a search, a tool, a grant or a diagram."""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any
from xml.etree import ElementTree

import psycopg2.errors
import pytest

from tests.supabase.cataloguing import Catalog, model
from tests.supabase.conftest import PROJECT, Sql
from tests.supabase.seeding import seed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture
def catalog(sql: Sql) -> Catalog:
    return Catalog(seed(sql))


# ------------------------------------------------------------------------------------------------ 9003: the glossary

FOUND = {
    "bill": "odoo.odoo_core.account.move",
    "customer": "odoo.odoo_core.res.partner",
    "employee": "odoo.odoo_core.res.users",
    "invoice": "odoo.odoo_core.account.move",
    "tax return": "bridge.functions.sync_documents",
    "to-do": "odoo.odoo_core.project.task",
    "turnover": "metric.gold.revenue",
    "vendor": "odoo.odoo_core.res.partner",
}


def search(catalog: Catalog, query: str, **more: Any) -> list[str]:
    verdict, answer = catalog.ask("search_assets", query=query, **more)
    assert verdict == "accepted"
    return [asset["fqdn"] for asset in answer["assets"]]


def test_plain_words_find_what_odoo_calls_otherwise(catalog: Catalog) -> None:
    names = ["account.move", "res.partner", "res.users", "project.task", "ir.cron"]
    catalog.sync(*(model(number, name, "Opaque", {}) for number, name in enumerate(names, 1)))
    assert {term for (term,) in catalog.sql("select term from catalog.glossary")} == set(FOUND)
    for term, fqdn in FOUND.items():
        assert fqdn in search(catalog, term), term
        assert "odoo.odoo_core.ir.cron" not in search(catalog, term)
    catalog.sql("delete from catalog.glossary")
    for term in FOUND:
        assert search(catalog, term, within="odoo.*") == []


def test_a_search_with_operators_keeps_them(catalog: Catalog) -> None:
    catalog.sync(model(1, "account.move", "Opaque", {}), model(2, "account.move.line", "Opaque", {}))
    assert search(catalog, "vendor bill") == []
    assert search(catalog, "bill -line") == ["odoo.odoo_core.account.move"]
    assert set(search(catalog, "bill or nonsense")) == {
        "odoo.odoo_core.account.move",
        "odoo.odoo_core.account.move.line",
    }
    assert search(catalog, "the of") == []


@pytest.mark.parametrize("term", ["Upper", "", "the"])
def test_a_term_that_says_nothing_is_refused(catalog: Catalog, term: str) -> None:
    with pytest.raises(psycopg2.errors.CheckViolation):
        catalog.sql("insert into catalog.glossary (term, means) values (%s, 'x')", term)


# --------------------------------------------------------------------------------------------------- 9005: the tools

REVENUE = "scout.gold.v_revenue_summary"
EXAMPLES: dict[str, dict[str, Any]] = {
    "catalog.search_assets": {"query": "revenue", "type": "view", "within": "scout.gold.*", "limit": 3},
    "catalog.get_tools": {"name": "catalog.get_lineage"},
    "catalog.get_lineage": {"fqdn": REVENUE, "direction": "up", "depth": 2},
    "catalog.check_permission": {"principals": ["claim:catalog:read"], "operation": "read", "fqdn": REVENUE},
    "catalog.register_asset": {"fqdn": "crm.eu.lead", "type": "table", "title": "Leads", "metadata": {}},
    "catalog.sync_scout_views": {},
}


def tools(catalog: Catalog, prefix: str) -> dict[str, Any]:
    verdict, answer = catalog.ask("get_tools")
    assert verdict == "accepted"
    return {tool["name"]: tool for tool in answer["tools"] if tool["name"].startswith(prefix)}


def call(catalog: Catalog, tool: dict[str, Any], arguments: dict[str, Any]) -> Any:
    """The answer of the tool, which must take these arguments by its own schema."""
    schema = tool["input_schema"]
    assert set(schema["required"]) <= set(arguments) <= set(schema["properties"])
    verdict, answer = catalog.ask(tool["metadata"]["action"], **arguments)
    assert verdict == "accepted", answer
    assert set(tool["output_schema"]["required"]) <= set(answer)
    return answer


def test_every_tool_does_what_its_schema_says(catalog: Catalog) -> None:
    found = tools(catalog, "catalog.")
    assert set(found) == set(EXAMPLES)
    for name, arguments in EXAMPLES.items():
        tool = found[name]
        assert set(arguments) == set(tool["input_schema"]["properties"]) - (
            {"fqdn"} if name.endswith("tools") else set()
        )
        call(catalog, tool, arguments)
        for missing in tool["input_schema"]["required"]:
            less = {key: value for key, value in arguments.items() if key != missing}
            assert catalog.ask(tool["metadata"]["action"], **less)[0] == "invalid_request", (name, missing)


def test_every_action_of_the_function_but_the_sync_is_a_tool(catalog: Catalog) -> None:
    code = (PROJECT / "functions/catalog-sync/index.ts").read_text()
    actions = {line.split('"')[3] for line in code.splitlines() if '{"action": "' in line} - {"sync_odoo_models"}
    assert {tool["metadata"]["action"] for tool in tools(catalog, "catalog.").values()} == actions


def test_every_function_is_an_asset(catalog: Catalog) -> None:
    configured = set(tomllib.loads((PROJECT / "config.toml").read_text())["functions"])
    titles = {title for (title,) in catalog.sql("select title from catalog.assets where type = 'edge_function'")}
    assert configured - titles == set()
    assert {name.replace("-", "_") for name in titles} == {
        fqdn.rpartition(".")[2]
        for (fqdn,) in catalog.sql("select fqdn from catalog.assets where type = 'edge_function'")
    }


# ------------------------------------------------------------------------------------------------- 9006: the metrics


def test_every_metric_can_be_computed(catalog: Catalog) -> None:
    invoice = '{"amount_total": 100, "currency_id": "PHP", "invoice_date": "2026-03-01"}'
    catalog.sql("select * from odoo.process_event(%s)", catalog.sql.ingest(payload=invoice)[0])
    catalog.sql("select * from ops.refresh_views()")
    metrics = catalog.sql("select fqdn, metadata from catalog.assets where type = 'metric' order by 1")
    values: dict[str, Any] = {}
    for fqdn, metadata in metrics:
        system, layer, view = metadata["fqdn"].split(".")
        assert catalog.sql("select true from catalog.assets where fqdn = %s and archived_at is null", metadata["fqdn"])
        columns = ", ".join(metadata["split_by"])
        computed = f"select {metadata['expression']}, {columns} from {system}_{layer}.{view} group by {columns}"
        values[fqdn] = max((row[0] for row in catalog.sql(computed) if row[0] is not None), default=None)
    assert {name.rpartition(".")[2]: float(value) for name, value in values.items()} == {
        "events": 1, "failed_share": 0, "invoices": 1, "revenue": 100, "target_attainment": 0,
    }  # fmt: skip
    assert search(catalog, "planned revenue", type="metric") == ["metric.gold.target_attainment"]


# -------------------------------------------------------------------------------------------------- 9007: the skills

GIVEN = {
    "explain_figure": {"question": "revenue", "fqdn": "metric.gold.revenue"},
    "trace_impact": {"fqdn": "supabase.odoo.webhook_events"},
    "publish_data": {"fqdn": "crm.eu.lead", "type": "table", "reader": "claim:catalog:read"},
}


def filled(value: Any, given: dict[str, str]) -> Any:
    text = json.dumps(value)
    for name, argument in given.items():
        text = text.replace("{{" + name + "}}", argument)
    assert "{{" not in text
    return json.loads(text)


def test_every_skill_can_be_done_step_by_step(catalog: Catalog) -> None:
    skills, parts = tools(catalog, "skill."), tools(catalog, "catalog.")
    assert set(skills) == {f"skill.{name}" for name in GIVEN}
    answers: dict[str, list[Any]] = {}
    for name, given in GIVEN.items():
        skill = skills[f"skill.{name}"]
        assert set(skill["input_schema"]["required"]) == set(given)
        assert catalog.sql("select type from catalog.assets where fqdn = %s", skill["fqdn"]) == [("skill",)]
        answers[name] = [
            call(catalog, parts[step["tool"]], filled(step["arguments"], given)) for step in skill["metadata"]["steps"]
        ]
    assert "metric.gold.revenue" in [asset["fqdn"] for asset in answers["explain_figure"][0]["assets"]]
    assert {"bridge.odoo.server", REVENUE} <= {asset["fqdn"] for asset in answers["explain_figure"][1]["assets"]}
    assert {"metric.gold.revenue", "bridge.supabase.channel"} <= {
        asset["fqdn"] for asset in answers["trace_impact"][0]["assets"]
    }
    assert answers["publish_data"][1]["allowed"] is True


@pytest.mark.parametrize(
    ("principal", "operation", "fqdn", "allowed"),
    [
        ("claim:catalog:read", "read", REVENUE, True),
        ("claim:catalog:read", "execute", "skill.ipai.explain_figure", True),
        ("claim:catalog:read", "execute", "skill.ipai.trace_impact", True),
        ("claim:catalog:read", "execute", "skill.ipai.publish_data", False),
        ("claim:catalog:read", "write", REVENUE, False),
        ("claim:events:read", "read", REVENUE, False),
        ("role:service_role", "execute", "skill.ipai.publish_data", True),
        ("role:service_role", "execute", "bridge.functions.catalog_sync", False),
    ],
)
def test_who_may(catalog: Catalog, principal: str, operation: str, fqdn: str, allowed: bool) -> None:
    asked: dict[str, Any] = {"principals": [principal], "operation": operation, "fqdn": fqdn}
    assert catalog.ask("check_permission", **asked)[1]["allowed"] is allowed


def test_every_grant_is_asked_for_above(catalog: Catalog) -> None:
    assert catalog.sql("select principal, operation, pattern from catalog.permissions order by 1, 2, 3") == [
        ("claim:catalog:read", "execute", "skill.ipai.explain_figure"),
        ("claim:catalog:read", "execute", "skill.ipai.trace_impact"),
        ("claim:catalog:read", "read", "*"),
        ("role:service_role", "execute", "skill.ipai.*"),
    ]


# ------------------------------------------------------------------------------------------------ 9008: the diagrams


def drawings(catalog: Catalog) -> dict[str, ElementTree.Element]:
    found = catalog.sql("select fqdn, metadata ->> 'drawio' from catalog.assets where type = 'diagram' order by 1")
    return {fqdn: ElementTree.fromstring(text) for fqdn, text in found}  # noqa: S314 -- our own file


def test_what_is_drawn_is_lineage(catalog: Catalog) -> None:
    drawn: set[tuple[str, str]] = set()
    for drawing in drawings(catalog).values():
        nodes = {node.attrib["id"]: node.attrib["fqdn"] for node in drawing.iter("object")}
        assert len(nodes) == len(set(nodes.values())) > 5
        places = [
            (float(box.attrib["x"]), float(box.attrib["y"])) for box in drawing.iter("mxGeometry") if "x" in box.attrib
        ]
        # No box lies on another: they are 180 by 40.
        for (ax, ay), (bx, by) in itertools.combinations(places, 2):
            assert abs(ax - bx) >= 180 or abs(ay - by) >= 40
        edges = [cell for cell in drawing.iter("mxCell") if cell.get("edge") == "1"]
        ends = [(nodes[edge.attrib["source"]], nodes[edge.attrib["target"]]) for edge in edges]
        assert set(nodes.values()) == {end for pair in ends for end in pair}
        drawn |= set(ends)
    assert set(catalog.edges("flows_to")) == drawn
    assert len(drawn) == 25
    catalog.assert_sound()


def test_everything_that_the_seed_registers_is_drawn_or_granted_or_called(catalog: Catalog) -> None:
    drawn = {node.attrib["fqdn"] for drawing in drawings(catalog).values() for node in drawing.iter("object")}
    registered = catalog.sql(
        "select fqdn from catalog.assets where origin = 'registered' and type not in ('diagram', 'skill')"
    )
    assert {fqdn for (fqdn,) in registered} - drawn == set()


def test_the_way_from_odoo_to_a_figure_can_be_followed(catalog: Catalog) -> None:
    verdict, answer = catalog.ask("get_lineage", fqdn="metric.gold.target_attainment", direction="up", depth=20)
    assert verdict == "accepted"
    distances = {asset["fqdn"]: asset["distance"] for asset in answer["assets"]}
    assert distances["scout.gold.v_revenue_against_target"] == 1
    assert distances["bridge.odoo.server"] == max(distances.values())


def drawio(
    *edges: tuple[str, str], nodes: str = "bridge.odoo.server bridge.odoo.relay scout.gold.mv_event_volume"
) -> str:
    boxes = "".join(f'<object label="x" fqdn="{fqdn}" id="{fqdn}"><mxCell/></object>' for fqdn in nodes.split())
    lines = "".join(f'<mxCell id="e" source="{source}" edge="1" target="{target}"/>' for source, target in edges)
    return f"<mxfile><root>{boxes}{lines}</root></mxfile>"


PUT = "select catalog.put_diagram('diagram.test.one', 'Title', 'Said', %s)"
SERVER, RELAY, VOLUME = "bridge.odoo.server", "bridge.odoo.relay", "scout.gold.mv_event_volume"


def of_diagram(catalog: Catalog) -> list[tuple[Any, ...]]:
    shown = "from catalog.lineage_edges where details ->> 'diagram' = 'diagram.test.one'"
    return catalog.sql(f"select from_fqdn, to_fqdn {shown} order by 1, 2")


def test_a_diagram_that_is_drawn_anew_takes_its_edges_along(catalog: Catalog) -> None:
    [(first,)] = catalog.sql(PUT, drawio((SERVER, RELAY), (RELAY, VOLUME), (SERVER, SERVER)))
    assert first == {"fqdn": "diagram.test.one", "outcome": "inserted", "edges_added": 2, "edges_removed": 0}
    assert of_diagram(catalog) == [(RELAY, VOLUME), (SERVER, RELAY)]
    assert catalog.sql(PUT, drawio((SERVER, RELAY), (RELAY, VOLUME)))[0][0]["edges_added"] == 0
    [(again,)] = catalog.sql(PUT, drawio((SERVER, VOLUME)))
    assert (again["edges_added"], again["edges_removed"]) == (1, 2)
    assert of_diagram(catalog) == [(SERVER, VOLUME)]
    assert search(catalog, "Said", type="diagram") == ["diagram.test.one"]


@pytest.mark.parametrize(
    "text", [drawio(nodes="bridge.odoo.server no.such.asset"), drawio(nodes=""), "", "<mxfile/>", "no diagram at all"]
)
def test_a_diagram_of_what_is_not_there_is_refused(catalog: Catalog, text: str) -> None:
    with pytest.raises(psycopg2.errors.ForeignKeyViolation, match="is no asset of the catalog"):
        catalog.sql(PUT, text)
    assert of_diagram(catalog) == []


def test_what_is_archived_is_not_drawn(catalog: Catalog) -> None:
    catalog.sql("update catalog.assets set archived_at = now() where fqdn = %s", RELAY)
    with pytest.raises(psycopg2.errors.ForeignKeyViolation, match=r"bridge\.odoo\.relay"):
        catalog.sql(PUT, drawio((SERVER, RELAY)))


def test_a_diagram_has_a_name_of_its_own(catalog: Catalog) -> None:
    for fqdn in ("scout.gold.v_revenue_summary", "no fqdn"):
        with pytest.raises(psycopg2.errors.InvalidParameterValue, match="cannot be registered"):
            catalog.sql("select catalog.put_diagram(%s, 't', 'd', %s)", fqdn, drawio((SERVER, RELAY)))
