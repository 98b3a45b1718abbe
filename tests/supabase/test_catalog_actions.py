"""The catalog's actions: register, search, tools, permissions; what is refused, and as what."""

from __future__ import annotations

import secrets
import uuid
from typing import Any

import psycopg2.errors
import pytest

from tests.supabase.cataloguing import Catalog, field, many2one, model
from tests.supabase.conftest import Sql, rows

FQDN = "crm.eu.lead"


@pytest.fixture
def catalog(sql: Sql) -> Catalog:
    return Catalog(sql)


def found(catalog: Catalog, query: str, **more: Any) -> list[str]:
    verdict, answer = catalog.ask("search_assets", query=query, **more)
    assert verdict == "accepted"
    return [asset["fqdn"] for asset in answer["assets"]]


def test_register_an_asset(catalog: Catalog) -> None:
    assert catalog.ask("register_asset", fqdn=FQDN, type="table", title="Leads") == (
        "accepted",
        {"fqdn": FQDN, "outcome": "inserted"},
    )
    for title, outcome in (("Leads", "unchanged"), ("Leads of Europe", "updated"), ("Leads of Europe", "unchanged")):
        assert catalog.ask("register_asset", fqdn=FQDN, type="table", title=title)[1]["outcome"] == outcome
    catalog.sql("update catalog.assets set archived_at = now()")
    assert catalog.ask("register_asset", fqdn=FQDN, type="table", title="Leads of Europe")[1]["outcome"] == "updated"
    assert catalog.sql("select archived_at from catalog.assets") == [(None,)]


@pytest.mark.parametrize("system", ["odoo", "event", "scout", "supabase"])
def test_nobody_registers_what_a_sync_keeps(catalog: Catalog, system: str) -> None:
    asked = catalog.ask("register_asset", fqdn=f"{system}.gold.x", type="view")
    assert asked == ("asset_reserved", None)
    assert catalog.sql("select count(*) from catalog.assets") == [(0,)]


@pytest.mark.parametrize(
    ("action", "body", "verdict"),
    [
        ("drop_assets", {}, "unknown_action"),
        ("", {}, "unknown_action"),
        ("begin", {"run": str(uuid.uuid4())}, "unknown_action"),
        ("sync_odoo_models", {}, "invalid_page"),
        ("sync_odoo_models", {"step": "drop", "run": str(uuid.uuid4())}, "invalid_page"),
        ("sync_odoo_models", {"step": "finish", "run": str(uuid.uuid4())}, "unknown_run"),
        ("register_asset", {"type": "table"}, "invalid_request"),
        ("register_asset", {"fqdn": 7, "type": "table"}, "invalid_request"),
        ("register_asset", {"fqdn": "crm.eu", "type": "table"}, "invalid_fqdn"),
        ("register_asset", {"fqdn": FQDN}, "invalid_request"),
        ("register_asset", {"fqdn": FQDN, "type": "A table"}, "invalid_request"),
        ("register_asset", {"fqdn": FQDN, "type": "table", "metadata": []}, "invalid_request"),
        ("register_asset", {"fqdn": FQDN, "type": "table", "title": ""}, "invalid_request"),
        ("search_assets", {}, "invalid_request"),
        ("search_assets", {"query": ""}, "invalid_request"),
        ("search_assets", {"query": "x" * 1001}, "invalid_request"),
        ("search_assets", {"query": "x", "limit": 0}, "invalid_request"),
        ("search_assets", {"query": "x", "limit": 101}, "invalid_request"),
        ("search_assets", {"query": "x", "limit": 1.5}, "invalid_request"),
        ("search_assets", {"query": "x", "limit": "10"}, "invalid_request"),
        ("search_assets", {"query": "x", "within": "*.x"}, "invalid_request"),
        ("get_tools", {"name": 1}, "invalid_request"),
        ("get_tools", {"fqdn": "x"}, "invalid_fqdn"),
        ("get_lineage", {}, "invalid_request"),
        ("get_lineage", {"fqdn": FQDN}, "unknown_asset"),
        ("get_lineage", {"fqdn": FQDN, "direction": "sideways"}, "invalid_request"),
        ("get_lineage", {"fqdn": FQDN, "depth": 21}, "invalid_request"),
        ("get_lineage", {"fqdn": FQDN, "depth": -1}, "invalid_request"),
        ("get_lineage", {"fqdn": FQDN, "kinds": ["knows"]}, "invalid_request"),
        ("get_lineage", {"fqdn": FQDN, "kinds": "emits"}, "invalid_request"),
        ("get_lineage", {"fqdn": FQDN, "kinds": []}, "invalid_request"),
        ("check_permission", {"operation": "read", "fqdn": FQDN}, "invalid_request"),
        ("check_permission", {"principals": ["a:b"], "fqdn": FQDN}, "invalid_request"),
        ("check_permission", {"principals": "a:b", "operation": "read", "fqdn": FQDN}, "invalid_request"),
        ("check_permission", {"principals": [1], "operation": "read", "fqdn": FQDN}, "invalid_request"),
        ("check_permission", {"claims": [], "operation": "read", "fqdn": FQDN}, "invalid_request"),
        ("check_permission", {"principals": ["a:b"] * 101, "operation": "read", "fqdn": FQDN}, "invalid_request"),
        ("check_permission", {"principals": ["a:b"], "operation": "read", "fqdn": "x.y"}, "invalid_fqdn"),
    ],
)
def test_what_is_refused(catalog: Catalog, action: str, body: dict[str, Any], verdict: str) -> None:
    said, answer = catalog.ask(action, **body)
    assert said == verdict
    if verdict == "invalid_request":
        assert list(answer) == ["detail"]
    assert catalog.sql("select count(*) from catalog.assets") == [(0,)]


def test_as_for_events_each_signature_counts_once_and_of_active_instances(catalog: Catalog) -> None:
    signature, key = secrets.token_hex(32), str(uuid.uuid4())
    asked = {"fqdn": FQDN, "type": "table", "signature": signature}
    assert catalog.ask("register_asset", key=key, **asked)[0] == "accepted"
    assert catalog.ask("register_asset", key=key, **asked)[0] == "accepted"
    assert catalog.ask("register_asset", **asked)[0] == "replayed_signature"
    catalog.sql("update odoo.instances set active = false")
    for action in ("register_asset", "search_assets", "sync_odoo_models"):
        assert catalog.ask(action)[0] == "instance_inactive"


def test_search_finds_by_name_title_description_and_fields(catalog: Catalog) -> None:
    catalog.sync(
        model(1, "account.move", "Journal Entry", {"invoice_date": field("Invoice Date"), "partner_id": many2one("x")}),
        model(2, "account.move.line", "Journal Item", {"move_id": many2one("account.move")}),
        model(3, "res.partner", "Contact", {"phone": field("Phone", help="With the country's prefix")}),
        model(4, "x_invoices", "Something else", description="All about an invoice"),
    )
    assert found(catalog, "account.move") == ["odoo.odoo_core.account.move", "odoo.odoo_core.account.move.line"]
    assert found(catalog, "odoo.odoo_core.res.partner")[0] == "odoo.odoo_core.res.partner"
    assert found(catalog, "contacts") == ["odoo.odoo_core.res.partner"]
    # In the name, in the description, in a field.
    assert found(catalog, "invoices", within="odoo.*") == ["odoo.odoo_core.x_invoices", "odoo.odoo_core.account.move"]
    assert found(catalog, "prefix") == ["odoo.odoo_core.res.partner"]
    assert found(catalog, '"journal item"') == ["odoo.odoo_core.account.move.line"]
    assert found(catalog, "journal -item") == ["odoo.odoo_core.account.move"]
    assert len(found(catalog, "journal or contact", type="odoo_model")) == 3
    assert len(found(catalog, "journal or contact", limit=1)) == 1
    assert found(catalog, "many2one") == []
    for hostile in ("';--", "a & | !", "the", "\\", "%", "日本", "<->", "((("):
        found(catalog, hostile)
    assert catalog.ask("search_assets", query="journal", limit=1)[1]["total"] == 2
    assert found(catalog, "journal", within="odoo.odoo_core.account.move.*") == ["odoo.odoo_core.account.move.line"]
    assert found(catalog, "journal", type="view") == found(catalog, "journal", within="odoo.odoo.*") == []
    catalog.sync()
    assert found(catalog, "journal") == []


def test_a_name_made_of_the_words_comes_first(catalog: Catalog) -> None:
    many = {f"f{n}": field(f"Label {n}") for n in range(300)}
    catalog.sync(
        model(1, "project.task", "Task", many),
        model(2, "project.task.type", "Task Stage"),
        model(3, "x_t", "project task"),
    )
    assert found(catalog, "Project Task")[2] == "odoo.odoo_core.project.task.type"


def test_tools(catalog: Catalog) -> None:
    catalog.ask("register_asset", fqdn=FQDN, type="table")
    register = "select catalog.register_tool('crm.find', %s, %s, p_fqdn => %s, p_enabled => %s)"
    schema = '{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}'
    for description, enabled, outcome in (
        ("Finds leads", True, "inserted"),
        ("Finds leads", True, "unchanged"),
        ("Finds all leads", True, "updated"),
    ):
        assert catalog.sql(register, description, schema, FQDN, enabled) == [(outcome,)]
    [tool] = catalog.ask("get_tools")[1]["tools"]
    assert (tool["name"], tool["fqdn"], tool["input_schema"]["required"]) == ("crm.find", FQDN, ["name"])
    assert tool["output_schema"] == {"type": "object"}
    assert (
        catalog.ask("get_tools", fqdn=FQDN)[1]["tools"]
        == catalog.ask("get_tools", name="crm.find")[1]["tools"]
        == [tool]
    )
    assert catalog.ask("get_tools", name="crm.lose")[1] == {"tools": []}
    catalog.sql(register, "Finds all leads", schema, FQDN, False)
    assert catalog.ask("get_tools")[1] == {"tools": []}
    for wrong in ("{}", "[]", '{"type": "string"}'):
        with pytest.raises(psycopg2.errors.CheckViolation):
            catalog.sql(register, "x", wrong, FQDN, True)
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        catalog.sql(register, "x", schema, "crm.us.lead", True)


def grant(sql: Sql, principal: str, operation: str, pattern: str) -> None:
    sql(
        "insert into catalog.permissions (principal, operation, pattern) values (%s, %s, %s)",
        principal,
        operation,
        pattern,
    )


def test_what_is_not_granted_is_denied(catalog: Catalog) -> None:
    catalog.sync(model(1, "account.move"), model(2, "res.partner"))
    move, partner = "odoo.odoo_core.account.move", "odoo.odoo_core.res.partner"

    def asked(operation: str, fqdn: str, *principals: str) -> tuple[bool, str]:
        verdict, answer = catalog.ask("check_permission", principals=principals, operation=operation, fqdn=fqdn)
        assert verdict == "accepted"
        assert answer["allowed"] == (answer["reason"] == "granted") == (answer["granted_by"] is not None)
        return answer["allowed"], answer["reason"]

    assert asked("read", move, "user:1", "role:finance") == (False, "not_granted")
    assert asked("read", move) == (False, "not_granted")
    grant(catalog.sql, "role:finance", "read", "odoo.odoo_core.account.*")
    assert asked("read", move, "user:1", "role:finance") == (True, "granted")
    for operation, fqdn, principal in (
        ("write", move, "role:finance"),
        ("*", move, "role:finance"),
        ("read", partner, "role:finance"),
        ("read", move, "role:financ"),
        ("read", move, "*"),
        ("read", move, "role:%"),
    ):
        assert asked(operation, fqdn, principal) == (False, "not_granted")
    grant(catalog.sql, "agent:all", "*", "*")
    assert asked("execute", partner, "agent:all") == (True, "granted")
    assert asked("read", "odoo.odoo_core.gone", "agent:all") == (False, "unknown_asset")
    catalog.sync(model(1, "account.move"))
    assert asked("read", partner, "agent:all") == (False, "archived_asset")


def test_the_claims_of_a_token_are_principals(catalog: Catalog) -> None:
    catalog.ask("register_asset", fqdn=FQDN, type="table")
    claims = {"sub": "7b1c", "role": "authenticated", "app_metadata": {"ipai_permissions": ["crm:read"]}}
    for principal in ("user:7b1c", "role:authenticated", "claim:crm:read"):
        catalog.sql("delete from catalog.permissions")
        body = {"claims": claims, "operation": "read", "fqdn": FQDN}
        assert not catalog.ask("check_permission", **body)[1]["allowed"]
        grant(catalog.sql, principal, "read", FQDN)
        assert catalog.ask("check_permission", **body)[1]["granted_by"] == {
            "principal": principal, "operation": "read", "pattern": FQDN,
        }  # fmt: skip
        assert not catalog.ask("check_permission", **{**body, "claims": {"app_metadata": {"ipai_permissions": 1}}})[1][
            "allowed"
        ]


@pytest.mark.parametrize(
    ("fqdn", "pattern", "match"),
    [
        (FQDN, "*", True),
        (FQDN, FQDN, True),
        (FQDN, "crm.*", True),
        (FQDN, "crm.eu.*", True),
        (FQDN, "crm.e.*", False),
        (FQDN, "crm.eu.lea", False),
        (FQDN, "crm.eu.lead.*", False),
        ("crm.euro.lead", "crm.eu.*", False),
        ("crm.e_.lead", "crm.eu.*", False),
    ],
)
def test_patterns(sql: Sql, fqdn: str, pattern: str, match: bool) -> None:
    assert sql(
        "select catalog.is_pattern(%s) or %s = 'crm.eu.lea', catalog.matches(%s, %s)", pattern, pattern, fqdn, pattern
    ) == [(True, match)]


@pytest.mark.parametrize("pattern", ["", "crm", "crm.*.lead", "*.lead", "crm*", "crm.**", "CRM.*", "crm.eu.lead*"])
def test_what_is_no_pattern_grants_nothing(sql: Sql, pattern: str) -> None:
    with pytest.raises(psycopg2.errors.CheckViolation):
        grant(sql, "role:x", "read", pattern)


# ----------------------------------------------------------------------------------------------- who reads the tables

CLAIMS = '{"role": "authenticated", "app_metadata": {"ipai_permissions": %s}}'
TABLES = ("assets", "lineage_edges", "tools")


@pytest.mark.parametrize(
    ("permissions", "counts"),
    [('["catalog:read"]', (2, 1, 1)), ('["events:read"]', (0, 0, 0)), ("[]", (0, 0, 0))],
)
def test_catalog_access(catalog: Catalog, permissions: str, counts: tuple[int, ...]) -> None:
    catalog.sync(model(1, "x_a", fields={"b": many2one("x_b")}), model(2, "x_b"), model(3, "x_c"))
    catalog.sync(model(1, "x_a", fields={"b": many2one("x_b")}), model(2, "x_b"))
    for name, enabled in (("a", True), ("b", False)):
        catalog.sql("select catalog.register_tool(%s, 'x', '{\"type\": \"object\"}', p_enabled => %s)", name, enabled)
    catalog.sql("delete from catalog.assets where origin = 'database'")
    person = catalog.sql.connect("authenticated")
    rows(person, "select set_config('request.jwt.claims', %s, false)", CLAIMS % permissions)
    assert tuple(rows(person, f"select count(*) from catalog.{table}")[0][0] for table in TABLES) == counts
    anonymous = catalog.sql.connect("anon")
    rows(anonymous, "select set_config('request.jwt.claims', %s, false)", CLAIMS % permissions)
    for table in TABLES:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            rows(anonymous, f"select * from catalog.{table}")
    for statement in (
        "update catalog.assets set title = 'x'",
        "delete from catalog.tools",
        "insert into catalog.permissions (principal) values ('x')",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            rows(person, statement)
