"""Whether Supabase's tables equal Odoo's, field by field, by reading both databases.

Odoo's side is read from its PostgreSQL, not through the code that the syncs use: what they leave out shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["catalog_differences", "module_differences", "shadow_differences"]

Query = Callable[..., list[tuple[Any, ...]]]
"""Runs a statement with its parameters; the rows."""

_SHADOW_TABLES = {"project.project": "shadow_projects", "project.task": "shadow_tasks"}
# A project's stage is shown only to a group in which the administrator is not.
_IN_ODOO = {
    "project.project": (
        "select p.id, p.name ->> 'en_US', p.active, null::integer, p.sequence, null::integer, p.user_id, p.company_id, "
        "to_char(p.write_date, 'YYYY-MM-DD HH24:MI:SS'), {reference} from project_project p order by p.id"
    ),
    "project.task": (
        "select p.id, p.name, p.active, p.project_id, p.sequence, p.stage_id, null::integer, p.company_id, "
        "to_char(p.write_date, 'YYYY-MM-DD HH24:MI:SS'), {reference} from project_task p order by p.id"
    ),
}
_XML_ID = (
    "(select d.module || '.' || d.name from ir_model_data d "
    "where d.model = '{model}' and d.res_id = p.id order by d.id limit 1)"
)
_IN_SHADOW = (
    "select s.odoo_id, s.name, s.active, {project}, (s.raw ->> 'sequence')::int, {stage}, "
    "(s.raw ->> 'user_id')::int, (s.raw ->> 'company_id')::int, s.raw ->> 'write_date', s.external_ref "
    "from odoo_seed.{table} s join odoo.instances i on i.id = s.instance_id where i.name = %s order by 1"
)
_MODULES_IN_ODOO = (
    "select id, name, shortdesc ->> 'en_US', latest_version, state, author, license from ir_module_module order by name"
)
_MODULES_IN_SUPABASE = (
    "select m.odoo_id, m.name, m.title, m.version, m.state, m.author, m.license from odoo.modules m "
    "join odoo.instances i on i.id = m.instance_id where i.name = %s and m.gone_at is null order by m.name"
)
_MODELS_IN_ODOO = (
    "select m.id, m.model, m.name ->> 'en_US', m.info, m.state, m.\"order\", "
    "case when m.transient then 'transient' when m.abstract then 'abstract' else 'model' end "
    "from ir_model m order by m.id"
)
_FIELDS_IN_ODOO = (
    "select f.model_id, f.name, f.ttype, f.field_description ->> 'en_US', f.state, coalesce(f.required, false), "
    "coalesce(f.readonly, false), coalesce(f.store, false), nullif(f.relation, ''), nullif(f.help ->> 'en_US', '') "
    "from ir_model_fields f"
)
_MODELS_IN_CATALOG = (
    "select a.odoo_id, a.fqdn, a.title, a.metadata from catalog.assets a join odoo.instances i on i.id = a.instance_id "
    "where i.name = %s and a.origin = 'odoo' and a.archived_at is null order by 1"
)
_SEGMENT = "select d.segment from catalog.databases d join odoo.instances i on i.id = d.instance_id where i.name = %s"


def shadow_differences(odoo: Query, supabase: Query, instance: str) -> list[str]:
    """How the shadow of projects and tasks differs from Odoo: a line per record; empty when it does not."""
    found = []
    for model, table in _SHADOW_TABLES.items():
        project, stage = "null::bigint", "null::integer"
        if model == "project.task":
            project, stage = "s.project_odoo_id", "(s.raw ->> 'stage_id')::int"
        there = odoo(_IN_ODOO[model].format(reference=_reference(odoo, model)))
        here = supabase(_IN_SHADOW.format(table=table, project=project, stage=stage), instance)
        found += [f"{model} {line}" for line in _differences(there, here)]
        graves = supabase(
            "select t.odoo_id from odoo_seed.tombstones t join odoo.instances i on i.id = t.instance_id "
            "where i.name = %s and t.entity = %s",
            instance,
            model,
        )
        alive = {row[0] for row in there}
        found += [f"{model} {record}: has a tombstone, and is in Odoo" for (record,) in graves if record in alive]
    return found


def module_differences(odoo: Query, supabase: Query, instance: str) -> list[str]:
    """How the inventory of modules differs from Odoo's list."""
    return _differences(odoo(_MODULES_IN_ODOO), supabase(_MODULES_IN_SUPABASE, instance))


def catalog_differences(odoo: Query, supabase: Query, instance: str) -> list[str]:
    """How the catalog's active models and their fields differ from Odoo's."""
    [(segment,)] = supabase(_SEGMENT, instance)
    there: dict[int, tuple[Any, ...]] = {}
    fields: dict[int, dict[str, Any]] = {}
    for number, model, name, info, state, order, kind in odoo(_MODELS_IN_ODOO):
        fields[number] = {}
        metadata = {"model": model, "kind": kind, "state": state, "order": order, "fields": fields[number]}
        there[number] = (number, f"odoo.{segment}.{model}", name, metadata | ({"description": info} if info else {}))
    for number, name, kind, label, state, required, readonly, store, relation, help in odoo(_FIELDS_IN_ODOO):
        told = {"type": kind, "label": label, "state": state}
        told |= {"required": required, "readonly": readonly, "store": store}
        fields[number][name] = told | {key: text for key, text in (("relation", relation), ("help", help)) if text}
    return _differences(list(there.values()), supabase(_MODELS_IN_CATALOG, instance))


def _reference(odoo: Query, model: str) -> str:
    """The expression of a record's reference: the field x_external_ref where Odoo has it, else the XML id."""
    has_field = odoo(
        "select 1 from information_schema.columns where table_name = %s and column_name = 'x_external_ref'",
        model.replace(".", "_"),
    )
    return "p.x_external_ref" if has_field else _XML_ID.format(model=model)


def _differences(there: Sequence[tuple[Any, ...]], here: Sequence[tuple[Any, ...]]) -> list[str]:
    """Rows by their first column, the id."""
    odoo, supabase = {row[0]: row for row in there}, {row[0]: row for row in here}
    found = [f"{record}: in Odoo only" for record in odoo.keys() - supabase.keys()]
    found += [f"{record}: in Supabase only" for record in supabase.keys() - odoo.keys()]
    found += [
        f"{record}: {odoo[record]} in Odoo, {supabase[record]} in Supabase"
        for record in odoo.keys() & supabase.keys()
        if odoo[record] != supabase[record]
    ]
    return sorted(found)
