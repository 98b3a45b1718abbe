"""Rules about what is in a database, as its catalogues tell it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ipai_harness.audit.catalog import API_ROLES, Catalog, Row, full_name, grants
from ipai_harness.audit.file_rules import PLATFORM_SCHEMAS, SUPPORTED_MAJORS
from ipai_harness.audit.finding import Found, Severity, rule

_KINDS = {"r": "tables", "f": "functions", "S": "sequences", "n": "schemas", "T": "types"}
_DELETE_UPDATE_TRUNCATE = 8 | 16 | 32  # bits of pg_trigger.tgtype


def _is_on(options: list[str], name: str) -> bool:
    return any(option.lower() in {f"{name}={word}" for word in ("true", "on", "1", "yes")} for option in options)


@rule(
    "db-version", Severity.ERROR, "the database's version is not one that is supported",
    why="The Supabase side is written for and tested on PostgreSQL 15 and 16; before 15 views cannot be made to "
    "respect row-level security.",
    fix="Upgrade the project to PostgreSQL 15 or 16.",
)  # fmt: skip
def db_version(catalog: Catalog) -> Iterator[Found]:
    if catalog.major not in SUPPORTED_MAJORS:
        severity = Severity.WARNING if catalog.major > max(SUPPORTED_MAJORS) else None
        yield Found(f"PostgreSQL {catalog.rows['version'][0]['version']}", object="server", severity=severity)


@rule(
    "db-exposed-schema", Severity.ERROR, "the REST API exposes a schema that is not made for it",
    why="Every table, view and function of an exposed schema that anon or authenticated hold a grant on is an "
    "endpoint. One of the platform's schemas holds users, files or keys; one that no API role may use was exposed by "
    "mistake.",
    fix="alter role authenticator set pgrst.db_schemas = 'public, graphql_public'; notify pgrst, 'reload config';",
)  # fmt: skip
def db_exposed_schema(catalog: Catalog) -> Iterator[Found]:
    for schema in catalog.exposed_by_role:
        if schema in ("public", "graphql_public", "storage"):
            continue
        if schema in PLATFORM_SCHEMAS:
            yield Found("the role authenticator exposes a schema of the platform's own", object=f"schema {schema}")
        elif not catalog.usage.get(schema):
            what = "that no API role may use" if schema in catalog.usage else "that does not exist"
            yield Found(f"the role authenticator exposes a schema {what}", object=f"schema {schema}",
                        severity=Severity.WARNING)  # fmt: skip


@rule(
    "db-table-without-rls", Severity.ERROR, "a table has no row-level security",
    why="Whoever has a grant on the table sees and changes every row of it. Where nobody has one yet, the next grant "
    "opens all of it (then this is a warning).",
    fix="alter table … enable row level security; and a policy for each role that is meant to get in.",
)  # fmt: skip
def db_table_without_rls(catalog: Catalog) -> Iterator[Found]:
    for table in catalog.relations("rp"):
        if table["rls"]:
            continue
        held = grants(table, *API_ROLES)
        is_open = held and catalog.reachable(table, *API_ROLES)
        said = f"anon or authenticated may {', '.join(held)}" if held else "no API role has a grant on it yet"
        severity = Severity.ERROR if is_open or table["schema"] in catalog.exposed else Severity.WARNING
        yield Found(said, object=full_name(table), severity=severity)


@rule(
    "db-rls-without-policy", Severity.WARNING, "a table has grants, row-level security, and no policy",
    why="Clients that hold the grant get no row and no error: either the policy is missing or the grant is. A table "
    "without grants is simply closed, which is no finding (in an exposed schema it is worth a note).",
    fix="Add the policy, or revoke all on table … from anon, authenticated.",
)  # fmt: skip
def db_rls_without_policy(catalog: Catalog) -> Iterator[Found]:
    governed = {(policy["schema"], policy["table"]) for policy in catalog.policies}
    for table in catalog.relations("rp"):
        if not table["rls"] or (table["schema"], table["name"]) in governed:
            continue
        held = grants(table, *API_ROLES)
        if held:
            yield Found(f"granted: {', '.join(held)}; no policy lets any row through", object=full_name(table))
        elif table["schema"] in catalog.exposed:
            yield Found("closed to clients, in an exposed schema", object=full_name(table), severity=Severity.INFO)


def _always(expression: str | None) -> bool:
    return expression is not None and re.fullmatch(r"\(*(?:true|1 = 1|'?t'?::boolean)\)*", expression) is not None


def _asks_who(expression: str) -> bool:
    """Whether it asks who the caller is: a function of schema auth or of the project's own, a setting, a user."""
    return bool(
        re.search(r"\b\w+\.\w+\(|\bcurrent_setting\(|\b(?:current|session)_user\b|\bCURRENT_ROLE\b", expression, re.I)
    )


def _policy_object(policy: Row) -> str:
    return f"policy {policy['name']} on {policy['schema']}.{policy['table']}"


@rule(
    "db-policy-anon", Severity.ERROR, "a policy lets everybody in",
    why="A policy for anon, or one for PUBLIC that does not ask who is calling, holds for callers that have no "
    "account: only a missing grant is left between them and the rows.",
    fix="alter policy … to authenticated, and compare a column with auth.uid().",
)  # fmt: skip
def db_policy_anon(catalog: Catalog) -> Iterator[Found]:
    for policy in catalog.policies:
        if not policy["permissive"] or not {"anon", "public"} & set(policy["roles"]):
            continue
        expressions = [one for one in (policy["using"], policy["check"]) if one is not None]
        always = any(map(_always, expressions))
        named = "anon" in policy["roles"] or any("'anon'::" in one for one in expressions)
        blind = any(not _asks_who(one) for one in expressions)
        if always or named or blind:
            said = "it is always true" if always else "it names anon" if named else "it does not ask who is calling"
            yield Found(said, object=_policy_object(policy), severity=None if always else Severity.WARNING)


@rule(
    "db-policy-write-unchecked", Severity.WARNING, "a policy does not check what is written",
    why="WITH CHECK (true) beside a narrower USING lets a caller hand rows to others or write rows it may not see; "
    "always true for authenticated means that every account may write every row; an INSERT policy without WITH CHECK "
    "lets nothing in.",
    fix="Give the policy a WITH CHECK that asks the same as its USING: with check (owner = (select auth.uid())).",
)  # fmt: skip
def db_policy_write_unchecked(catalog: Catalog) -> Iterator[Found]:
    for policy in catalog.policies:
        if not policy["permissive"] or policy["command"] == "r" or {"anon", "public"} & set(policy["roles"]):
            continue
        if "authenticated" not in policy["roles"]:
            continue
        if policy["command"] == "a" and policy["check"] is None:
            yield Found("for INSERT, without WITH CHECK: it lets nothing in", object=_policy_object(policy))
        elif _always(policy["check"]) or (policy["check"] is None and _always(policy["using"])):
            yield Found("every row may be written by every account", object=_policy_object(policy))


@rule(
    "db-policy-user-metadata", Severity.ERROR, "a policy trusts what users write about themselves",
    why="user_metadata in the JWT is changed by the user with one call: whoever is asked for it may claim anything.",
    fix="Ask app_metadata, or a table that users cannot write.",
)  # fmt: skip
def db_policy_user_metadata(catalog: Catalog) -> Iterator[Found]:
    for policy in catalog.policies:
        if "user_metadata" in f"{policy['using']} {policy['check']}":
            yield Found("it asks user_metadata", object=_policy_object(policy))


@rule(
    "db-definer-executable", Severity.ERROR, "strangers may call a SECURITY DEFINER function",
    why="It runs with its owner's rights, past row-level security. PostgreSQL grants execution of every new function "
    "to PUBLIC; in an exposed schema it is an endpoint of the REST API.",
    fix="revoke execute on function … from public, anon, authenticated; then grant it to service_role.",
)  # fmt: skip
def db_definer_executable(catalog: Catalog) -> Iterator[Found]:
    for function in catalog.definers:
        callers = set(function["executed_by"])
        exposed = function["schema"] in catalog.exposed
        # What policies call for authenticated stands in a schema that is not exposed: that is how it should be.
        if function["is_trigger"] or not callers or (callers == {"authenticated"} and not exposed):
            continue
        severe = exposed and callers != {"authenticated"} and catalog.reachable(function, *API_ROLES)
        said = f"{', '.join(sorted(callers))} may execute it" + (", through the REST API" if exposed else "")
        yield Found(said, object=_signature(function), severity=None if severe else Severity.WARNING)


def _signature(function: Row) -> str:
    return f"{full_name(function)}({function['arguments']})"


@rule(
    "db-definer-search-path", Severity.ERROR, "a SECURITY DEFINER function does not pin its search_path",
    why="It runs with its owner's rights, but finds tables and operators where the caller's search_path says: a caller "
    "puts an object of the same name in front, and it runs with the owner's rights.",
    fix="alter function … set search_path = ''; and write every name in it with its schema.",
)  # fmt: skip
def db_definer_search_path(catalog: Catalog) -> Iterator[Found]:
    for function in catalog.definers:
        pinned = [setting for setting in function["settings"] if setting.startswith("search_path=")]
        if not pinned:
            yield Found("it takes the caller's search_path", object=_signature(function))
        elif "$user" in pinned[0]:
            yield Found('its search_path has "$user" in it', object=_signature(function), severity=Severity.WARNING)


@rule(
    "db-view-bypasses-rls", Severity.ERROR, "a view that clients can read bypasses row-level security",
    why="A view reads its tables with its owner's rights, and the owner is not held by their policies.",
    fix="alter view … set (security_invoker = true);",
)  # fmt: skip
def db_view_bypasses_rls(catalog: Catalog) -> Iterator[Found]:
    for view in catalog.relations("v"):
        held = grants(view, *API_ROLES)
        if held and not _is_on(view["options"], "security_invoker"):
            exposed = view["schema"] in catalog.exposed
            said = f"no security_invoker, and anon or authenticated may {', '.join(held)}"
            yield Found(said, object=full_name(view), severity=None if exposed else Severity.WARNING)


def _unguarded(catalog: Catalog, kind: str, what: str) -> Iterator[Found]:
    for relation in catalog.relations(kind):
        if "SELECT" in grants(relation, *API_ROLES):
            exposed = relation["schema"] in catalog.exposed
            said = f"anon or authenticated may read this {what}" + (" through the REST API" if exposed else "")
            yield Found(said, object=full_name(relation), severity=None if exposed else Severity.WARNING)


@rule(
    "db-materialized-view-readable", Severity.ERROR, "clients can read a materialized view",
    why="Row-level security does not exist for materialized views: whoever has the grant reads all of it.",
    fix="revoke all on … from anon, authenticated; give clients a security_invoker view of the tables.",
)  # fmt: skip
def db_materialized_view_readable(catalog: Catalog) -> Iterator[Found]:
    yield from _unguarded(catalog, "m", "materialized view")


@rule(
    "db-foreign-table-readable", Severity.ERROR, "clients can read a foreign table",
    why="Row-level security does not exist for foreign tables: whoever has the grant reads the other database with the "
    "wrapper's login.",
    fix="Put foreign tables into a schema that is not exposed; revoke all on … from anon, authenticated.",
)  # fmt: skip
def db_foreign_table_readable(catalog: Catalog) -> Iterator[Found]:
    yield from _unguarded(catalog, "f", "foreign table")


@rule(
    "db-anon-grant", Severity.WARNING, "anon holds a grant that no policy uses",
    why="Only the missing policy is left between strangers and the table; the day somebody adds one for PUBLIC, or "
    "switches row-level security off, it is open. TRUNCATE does not ask policies at all. (In schema public the "
    "platform grants everything by default: a note there.)",
    fix="revoke all on table … from anon, public; revoke usage on schema … from anon, public.",
)  # fmt: skip
def db_anon_grant(catalog: Catalog) -> Iterator[Found]:
    governed: dict[tuple[str, str], set[str]] = {}
    for policy in catalog.policies:
        let_in = {"r": {"SELECT"}, "a": {"INSERT"}, "w": {"UPDATE"}, "d": {"DELETE"}}
        commands = let_in.get(policy["command"], {"SELECT", "INSERT", "UPDATE", "DELETE"})
        found = governed.setdefault((policy["schema"], policy["table"]), set())
        found |= commands if {"anon", "public"} & set(policy["roles"]) else set()
    for table in catalog.relations("rp"):
        key = (table["schema"], table["name"])
        if not table["rls"] or key not in governed:
            continue  # said by the rules on tables without row-level security, and without policies
        unused = sorted(set(grants(table, "anon")) - governed[key])
        if unused:
            severity = Severity.INFO if table["schema"] == "public" else None
            yield Found(
                f"anon may {', '.join(unused)}, and no policy is for anon", object=full_name(table), severity=severity
            )
    for schema, roles in catalog.usage.items():
        if schema not in PLATFORM_SCHEMAS | catalog.exposed | {"public"} and roles & {"anon", "public"}:
            yield Found("anon may use a schema that is not exposed", object=f"schema {schema}")


@rule(
    "db-schema-creatable", Severity.ERROR, "clients may create objects in a schema",
    why="Whoever creates an object there puts it in front of yours: functions of others find it first, and run it.",
    fix="revoke create on schema … from public, anon, authenticated;",
)  # fmt: skip
def db_schema_creatable(catalog: Catalog) -> Iterator[Found]:
    for schema in catalog.rows["schemas"]:
        if schema["creates"]:
            yield Found(f"{', '.join(sorted(schema['creates']))} may create in it", object=f"schema {schema['name']}")


@rule(
    "db-default-privileges", Severity.WARNING, "what is made later is granted to the API's roles",
    why="Nobody thinks of it when the next object is made: it is open from its first moment. (The platform does so in "
    "schema public, where everybody knows: no finding, except for PUBLIC.)",
    fix="alter default privileges for role … in schema … revoke all on … from anon, authenticated, public;",
)  # fmt: skip
def db_default_privileges(catalog: Catalog) -> Iterator[Found]:
    for default in catalog.rows["defaults"]:
        grantee, schema = default["grantee"], default["schema"]
        if grantee not in (*API_ROLES, "public") or schema in PLATFORM_SCHEMAS:
            continue
        if schema == "public" and grantee != "public":
            continue
        # Without a schema an entry repeats what PostgreSQL gives anyway: functions and types to PUBLIC.
        if not schema and grantee == "public" and default["kind"] in "fT":
            continue
        future = f"future {_KINDS.get(default['kind'], 'objects')} of {default['owner']}"
        yield Found(
            f"{grantee} gets {', '.join(default['privileges'])} on {future}",
            object=f"schema {schema}" if schema else "every schema",
        )


@rule(
    "db-extension-in-public", Severity.WARNING, "an extension is in schema public",
    why="Its functions are endpoints of the REST API, and its names get in front of yours.",
    fix="alter extension … set schema extensions; (or drop it and create it there).",
)  # fmt: skip
def db_extension_in_public(catalog: Catalog) -> Iterator[Found]:
    for extension in catalog.rows["extensions"]:
        if extension["schema"] == "public":
            yield Found("its objects are in public", object=f"extension {extension['name']}")


@rule(
    "db-log-changeable", Severity.ERROR, "a log that is to be append-only can be changed",
    why="Whoever may update, delete or truncate it removes the traces: of an attack, or of an event that was lost. "
    "Grants do not hold the owner; triggers do.",
    fix="create trigger append_only before update or delete or truncate on … for each statement execute function "
    "odoo.refuse_change();",
)  # fmt: skip
def db_log_changeable(catalog: Catalog) -> Iterator[Found]:
    for table in catalog.relations("rp"):
        declared = table["name"] == "event_log" or re.search(r"\bappend-only\b", table["comment"], re.IGNORECASE)
        missing = _DELETE_UPDATE_TRUNCATE & ~int(table["guarded"])
        if declared and missing:
            names = [word for bit, word in ((16, "UPDATE"), (8, "DELETE"), (32, "TRUNCATE")) if missing & bit]
            yield Found(f"no enabled trigger refuses {', '.join(names)}", object=full_name(table))


@rule(
    "db-role-raised", Severity.ERROR, "a role of the API has more than it may have",
    why="anon and authenticated act for strangers. With BYPASSRLS, as a superuser, with a login, or as a member of a "
    "stronger role no policy holds them.",
    fix="alter role … nobypassrls nosuperuser nocreaterole nocreatedb nologin; revoke … from …;",
)  # fmt: skip
def db_role_raised(catalog: Catalog) -> Iterator[Found]:
    attributes = ("superuser", "bypassrls", "createrole", "createdb", "replication", "login")
    for role in catalog.rows["roles"]:
        has = [name for name in attributes if role[name]]
        if has:
            yield Found(f"it has {', '.join(has)}", object=f"role {role['name']}")
        if role["member_of"]:
            yield Found(f"it is a member of {', '.join(role['member_of'])}", object=f"role {role['name']}")


@rule(
    "db-table-of-api-role", Severity.ERROR, "a role of the API owns a table",
    why="An owner is not held by the table's policies, and may switch row-level security off.",
    fix="alter table … owner to postgres;",
)  # fmt: skip
def db_table_of_api_role(catalog: Catalog) -> Iterator[Found]:
    for relation in catalog.relations("rpvmf"):
        if relation["owner"] in API_ROLES:
            yield Found(f"{relation['owner']} owns it", object=full_name(relation))


@rule(
    "db-publishes-everything", Severity.WARNING, "a publication sends the changes of every table",
    why="What is in it, tables of later included, is sent to every subscriber of the replication: secrets and logs, "
    "too.",
    fix="Make the publication for the tables that are meant: alter publication … set table …;",
)  # fmt: skip
def db_publishes_everything(catalog: Catalog) -> Iterator[Found]:
    for publication in catalog.rows["publications"]:
        yield Found("it is for all tables", object=f"publication {publication['name']}")


RULES = (
    db_version, db_exposed_schema, db_table_without_rls, db_rls_without_policy, db_policy_anon,
    db_policy_write_unchecked, db_policy_user_metadata, db_definer_executable, db_definer_search_path,
    db_view_bypasses_rls,
    db_materialized_view_readable, db_foreign_table_readable, db_anon_grant, db_schema_creatable, db_default_privileges,
    db_extension_in_public, db_log_changeable, db_role_raised, db_table_of_api_role, db_publishes_everything,
)  # fmt: skip
