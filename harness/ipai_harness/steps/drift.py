"""The plan of projects and tasks, and how Odoo differs from it: the three drift views."""

from __future__ import annotations

from typing import Any

from pytest_bdd import given, parsers, then, when

from ipai_harness.steps.world import World

REFERENCE = "x_external_ref"
_TABLES = {"project.project": ("projects", "shadow_projects"), "project.task": ("tasks", "shadow_tasks")}


@given("Odoo's projects and tasks are the plan")
def plan_is_odoo(world: World) -> None:
    """Each record gets an XML id where it has none, and the plan names exactly those."""
    for model in _TABLES:
        _name_all(world, model)
        for record, reference in _references(world, model).items():
            _plan(world, model, reference, world.notes["names"][model, record])


def _name_all(world: World, model: str) -> None:
    # By SQL: one by one through RPC, hundreds of records of other scenarios would take minutes.
    module = f"plan_{world.instance.replace('-', '_')}"
    world.odoo_sql(
        "insert into ir_model_data (module, name, model, res_id, noupdate, create_date, write_date) "
        f"select %s, '{_TABLES[model][0]}_' || r.id, %s, r.id, true, now(), now() "
        f"from {model.replace('.', '_')} r "
        "where not exists (select from ir_model_data d where d.model = %s and d.res_id = r.id)",
        module, model, model,
    )  # fmt: skip
    world.undo.callback(world.odoo_sql, "delete from ir_model_data where module = %s", module)
    names = world.notes.setdefault("names", {})
    for row in world.odoo.call(model, "search_read", [], ["name"], context={"active_test": False}):
        names[model, row["id"]] = row["name"]


def _references(world: World, model: str) -> dict[int, str]:
    """What the sync will call each record, as long as Odoo has no field for it."""
    rows = world.odoo_sql(
        "select distinct on (res_id) res_id, module || '.' || name from ir_model_data where model = %s "
        "order by res_id, id",
        model,
    )
    return {record: reference for record, reference in rows if (model, record) in world.notes["names"]}


def _instance_id(world: World) -> int:
    world.supabase_sql("insert into odoo.instances (name) values (%s) on conflict do nothing", world.instance)
    [(found,)] = world.ours("select i.id from odoo.instances i where")
    return int(found)


def _plan(world: World, model: str, reference: str, name: str | None) -> None:
    world.supabase_sql(
        f"insert into odoo_seed.{_TABLES[model][0]} (instance_id, external_ref, name) values (%s, %s, %s)",
        _instance_id(world),
        reference,
        name,
    )


def _has_field(world: World, model: str) -> bool:
    return bool(world.odoo.search("ir.model.fields", [("model", "=", model), ("name", "=", REFERENCE)]))


@given("Odoo's projects have a field for the reference")
def reference_field(world: World) -> None:
    """`x_external_ref`, made by an administrator in the web client; every planned project gets its reference in it."""
    planned = _references(world, "project.project")
    field = world.odoo.create(
        "ir.model.fields",
        {
            "name": REFERENCE, "model_id": world.odoo.model_id("project.project"), "ttype": "char", "copied": True,
            "field_description": "External reference",
        },
    )  # fmt: skip
    world.undo.callback(world.odoo.unlink, "ir.model.fields", [field])
    for record, reference in planned.items():
        world.odoo.write("project.project", record, {REFERENCE: reference})


@given(parsers.parse('the planned project "{name}" under the reference "{reference}"'))
def planned_project(world: World, name: str, reference: str) -> None:
    """In Odoo and in the plan."""
    record = world.name(name, "project.project", world.odoo.create("project.project", {"name": name}))
    if _has_field(world, "project.project"):
        world.odoo.write("project.project", record, {REFERENCE: reference})
    else:
        module, _, suffix = reference.partition(".")
        values = {"module": module, "name": suffix, "model": "project.project", "res_id": record, "noupdate": True}
        data = world.odoo.create("ir.model.data", values)
        world.undo.callback(world.odoo.unlink, "ir.model.data", [data])
    _plan(world, "project.project", reference, name)


@given(parsers.parse('the plan has the project "{name}" under the reference "{reference}"'))
def only_planned(world: World, name: str, reference: str) -> None:
    """Not in Odoo."""
    _plan(world, "project.project", reference, name)


@given(parsers.parse('the plan leaves the name of "{reference}" open'))
def no_name(world: World, reference: str) -> None:
    """NULL: no name at all."""
    world.supabase_sql(
        "update odoo_seed.projects set name = null where external_ref = %s and instance_id = %s",
        reference,
        _instance_id(world),
    )


@when(parsers.parse('a project manager copies the project "{name}" with its reference'))
def copy_project(world: World, name: str) -> None:
    """As Odoo's Duplicate does."""
    copied = world.odoo.call("project.project", "copy", [world.thing(name).id])
    record = copied[0] if isinstance(copied, list) else copied
    world.name("the copy", "project.project", int(record))
    original = world.odoo.read("project.project", world.thing(name).id, [REFERENCE])[REFERENCE]
    assert world.odoo.read("project.project", int(record), [REFERENCE])[REFERENCE] == original != False  # noqa: E712


# --- what the views say


def _view(world: World, view: str, columns: str) -> list[tuple[Any, ...]]:
    return world.supabase_sql(
        f"select {columns} from odoo_seed.{view} v where v.instance = %s order by 1",
        world.instance,
    )


@then("nothing is missing in Odoo")
def nothing_missing(world: World) -> None:
    """v_missing_in_odoo is empty for this Odoo."""
    assert _view(world, "v_missing_in_odoo", "v.external_ref") == []


@then("nothing is an orphan in Odoo")
def nothing_orphan(world: World) -> None:
    """v_orphan_in_odoo is empty for this Odoo."""
    assert _view(world, "v_orphan_in_odoo", "v.entity, v.odoo_id, v.name") == []


@then("no name drifted")
def no_drift(world: World) -> None:
    """v_name_drift is empty for this Odoo."""
    assert _view(world, "v_name_drift", "v.external_ref, v.seed_name, v.name") == []


@then(parsers.parse('exactly "{reference}" is missing in Odoo'))
def missing(world: World, reference: str) -> None:
    """No more, no fewer."""
    assert _view(world, "v_missing_in_odoo", "v.external_ref") == [(reference,)]


@then(parsers.parse('exactly "{name}" is an orphan in Odoo'))
def orphan(world: World, name: str) -> None:
    """No more, no fewer."""
    assert _view(world, "v_orphan_in_odoo", "v.odoo_id, v.duplicate_of") == [(world.thing(name).id, None)]


@then(parsers.parse('exactly the copy is an orphan in Odoo, as a duplicate of "{name}"'))
def duplicate(world: World, name: str) -> None:
    """The oldest record is the one that the reference means."""
    copy, original = world.thing("the copy").id, world.thing(name).id
    found = _view(world, "v_orphan_in_odoo", "v.odoo_id, v.duplicate_of")
    tasks = [row for row in found if row[0] != copy]
    assert (copy, original) in found, found
    assert tasks == [], f"other orphans: {tasks}"


@then(parsers.parse('exactly "{reference}" drifted, from "{old}" to "{new}"'))
def drifted_from(world: World, reference: str, old: str, new: str) -> None:
    """Otherwise than planned, and than at the end of the cycle before."""
    assert _view(world, "v_name_drift", "v.external_ref, v.seed_name, v.previous_name, v.name, v.renamed") == [
        (reference, old, old, new, True)
    ]


@then(parsers.parse('exactly "{reference}" drifted'))
def drifted(world: World, reference: str) -> None:
    """No more, no fewer."""
    assert _view(world, "v_name_drift", "v.external_ref") == [(reference,)]
