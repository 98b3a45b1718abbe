"""The asset catalog: what is synced into it, asked of it, and where data comes from and goes to."""

from __future__ import annotations

from typing import Any

from pytest_bdd import given, parsers, then, when

from ipai_bridge.sync.catalog import FUNCTION, sync_catalog
from ipai_bridge.sync.client import encode
from ipai_harness.observe.equality import catalog_differences
from ipai_harness.steps.syncs import source
from ipai_harness.steps.world import World

_INBOX = "supabase.odoo.webhook_events"
_WRITTEN = (
    "select 'asset', fqdn, xmin::text from catalog.assets union all "
    "select kind, from_fqdn || to_fqdn, xmin::text from catalog.lineage_edges order by 1, 2"
)


def _ask(world: World, action: str, **body: Any) -> Any:
    """One action of `catalog-sync`, signed; a refusal is for a later sentence."""
    reply = world.call(FUNCTION, encode({"action": action, **body}))
    return reply.json


def _fqdn(world: World, model: str) -> str:
    [(segment,)] = world.ours(
        "select d.segment from catalog.databases d join odoo.instances i on i.id = d.instance_id where"
    )
    return f"odoo.{segment}.{model}"


@given("the catalog was synced")
@when("the catalog is synced")
def synced(world: World) -> None:
    """A whole run; what was written before it is remembered."""
    world.notes["written"] = world.supabase_sql(_WRITTEN)
    world.report = sync_catalog(source(world), world.client(FUNCTION))


@then("the run wrote nothing")
def wrote_nothing(world: World) -> None:
    """Not one row has another version."""
    assert world.report is not None
    assert (world.report.inserted, world.report.updated, world.report.deleted) == (0, 0, 0)
    assert world.supabase_sql(_WRITTEN) == world.notes["written"]


@then("the catalog equals Odoo's models and fields")
def equals(world: World) -> None:
    """Read from both databases."""
    assert catalog_differences(world.odoo_sql, world.supabase_sql, world.instance) == []


def _archived(world: World, model: str) -> list[tuple[Any, ...]]:
    return world.supabase_sql(
        "select a.archived_at is not null from catalog.assets a where a.fqdn = %s", _fqdn(world, model)
    )


@then(parsers.parse('the catalog has the model "{model}" of this Odoo'))
def has_model(world: World, model: str) -> None:
    """Active."""
    assert _archived(world, model) == [(False,)]


@then(parsers.parse('the model "{model}" is archived in the catalog'))
def archived(world: World, model: str) -> None:
    """Kept, and not active."""
    assert _archived(world, model) == [(True,)]


@when(parsers.parse('an administrator makes the model "{model}" with the field "{field}"'))
def make_model(world: World, model: str, field: str) -> None:
    """In the web client's technical menu."""
    made = world.odoo.create("ir.model", {"name": "Made by a scenario", "model": model})
    values = {"model_id": made, "name": field, "ttype": "char", "field_description": field}
    world.odoo.create("ir.model.fields", values)
    world.name(model, "ir.model", made)
    world.undo.callback(_remove, world, model)


def _remove(world: World, model: str) -> None:
    world.odoo.unlink("ir.model", world.odoo.search("ir.model", [("model", "=", model)]))


@when(parsers.parse('an administrator removes the model "{model}"'))
def remove_model(world: World, model: str) -> None:
    """With its field and its table."""
    _remove(world, model)


@when(parsers.parse('somebody searches the catalog for "{words}"'))
def search(world: World, words: str) -> None:
    """Full text."""
    world.notes["found"] = _ask(world, "search_assets", query=words, limit=20)["assets"]


@then(parsers.parse('the model "{model}" of this Odoo is among what is found'))
def found(world: World, model: str) -> None:
    """By its label, its description or its fields."""
    assert _fqdn(world, model) in [asset["fqdn"] for asset in world.notes["found"]]


@when(parsers.parse('somebody registers the asset "{fqdn}"'))
def register(world: World, fqdn: str) -> None:
    """It may be refused."""
    _ask(world, "register_asset", fqdn=fqdn, type="table")


@when(parsers.parse('somebody asks the catalog for "{action}"'))
def ask(world: World, action: str) -> None:
    """Of which it may know nothing."""
    _ask(world, action)


# --- lineage


def _reached(world: World, fqdn: str, direction: str, **options: Any) -> list[str]:
    answer = _ask(world, "get_lineage", fqdn=fqdn, direction=direction, **options)
    return [asset["fqdn"] for asset in answer["assets"]]


@then(parsers.parse('down from the model "{model}" there is the event type "{event_type}"'))
def leads_to_event(world: World, model: str, event_type: str) -> None:
    """An event of that type of this model has arrived."""
    reached = _reached(world, _fqdn(world, model), "down")
    assert any(fqdn.startswith("event.") and fqdn.endswith(f".{event_type}") for fqdn in reached), reached


@then(parsers.parse('down from the model "{model}" there is the inbox'))
def leads_to_inbox(world: World, model: str) -> None:
    """Where all events are stored."""
    assert _INBOX in _reached(world, _fqdn(world, model), "down")


@then(parsers.parse('down from the model "{model}" there is the table "{table}"'))
def leads_to_table(world: World, model: str, table: str) -> None:
    """Its shadow."""
    assert f"supabase.odoo_seed.{table}" in _reached(world, _fqdn(world, model), "down")


@then(parsers.parse('the model "{model}" refers to the model "{other}"'))
def refers_to(world: World, model: str, other: str) -> None:
    """By one of its fields."""
    reached = _reached(world, _fqdn(world, model), "down", depth=1, kinds=["refers_to"])
    assert _fqdn(world, other) in reached


@then(parsers.parse('up from the view "{view}" there is the inbox'))
def view_reads_inbox(world: World, view: str) -> None:
    """As PostgreSQL's own dependencies say."""
    assert _INBOX in _reached(world, view, "up")


# --- permissions


@given(parsers.parse('"{principal}" was granted to "{operation}" what is under "{pattern}"'))
def granted(world: World, principal: str, operation: str, pattern: str) -> None:
    """By the integration engineer; for the time of the scenario. Only what is in the catalog can be permitted."""
    _ask(world, "sync_scout_views")
    world.supabase_sql(
        "insert into catalog.permissions (principal, operation, pattern) values (%s, %s, %s) on conflict do nothing",
        principal, operation, pattern,
    )  # fmt: skip
    world.undo.callback(world.supabase_sql, "delete from catalog.permissions where principal = %s", principal)


@when(parsers.parse('somebody asks whether "{principal}" may "{operation}" the asset "{fqdn}"'))
def check_permission(world: World, principal: str, operation: str, fqdn: str) -> None:
    """`check_permission`."""
    world.notes["permitted"] = _ask(world, "check_permission", principals=[principal], operation=operation, fqdn=fqdn)


@then("it is permitted")
def permitted(world: World) -> None:
    """By a grant."""
    assert world.notes["permitted"]["allowed"] is True, world.notes["permitted"]


@then("it is not permitted")
def not_permitted(world: World) -> None:
    """Nothing grants it."""
    assert world.notes["permitted"]["allowed"] is False, world.notes["permitted"]
