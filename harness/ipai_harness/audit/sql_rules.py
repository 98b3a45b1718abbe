"""Rules about migrations as text. What a database would say for sure is read off here: approximate, but offline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from ipai_harness.audit.finding import Found, Severity, rule
from ipai_harness.audit.folder import Project, SourceFile
from ipai_harness.audit.sql_text import NAME, Statement, object_name, statements

CREATE_TABLE = re.compile(
    rf"\s*create\s+(?P<temp>(?:global\s+|local\s+)?temp(?:orary)?\s+)?(?:unlogged\s+)?table\s+(?:if\s+not\s+exists\s+)?(?P<name>{NAME})",
    re.IGNORECASE,
)
_DROP_TABLE = re.compile(rf"\s*drop\s+table\s+(?:if\s+exists\s+)?(?P<name>{NAME})", re.IGNORECASE)
_RLS = re.compile(
    rf"\balter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?(?P<name>{NAME})\s+(?:force\s+row[^,]*,\s*)?(?P<what>enable|disable)\s+row\s+level\s+security",
    re.IGNORECASE,
)
_FUNCTION = re.compile(rf"\s*create\s+(?:or\s+replace\s+)?(?:function|procedure)\s+(?P<name>{NAME})", re.IGNORECASE)
_ALTER_FUNCTION = re.compile(rf"\s*alter\s+(?:function|procedure|routine)\s+(?P<name>{NAME})", re.IGNORECASE)
_DEFINER = re.compile(r"\bsecurity\s+definer\b", re.IGNORECASE)
_PINNED = re.compile(r"\bset\s+(?:schema\b|\"?search_path\"?)", re.IGNORECASE)
_GRANT = re.compile(
    r"\bgrant\s+(?P<what>[^;'\"]{1,300}?)\s+on\s+(?P<on>[^;']{1,2000}?)\s+to\s+(?P<to>[^;']{1,300}?)(?=\s+with\s+grant|\s+granted\s+by|[;']|\s*$)",
    re.IGNORECASE | re.DOTALL,
)
_POLICY = re.compile(
    rf"\s*(?:create|alter)\s+policy\s+(?P<name>{NAME})\s+on\s+(?P<table>{NAME})(?P<rest>.*)", re.I | re.S
)
_ALWAYS = re.compile(r"\b(?:using|with\s+check)\s*\(\s*\(*\s*(?:true|1\s*=\s*1)\s*\)*\s*\)", re.IGNORECASE)
_VIEW = re.compile(
    rf"\s*create\s+(?:or\s+replace\s+)?(?P<temp>temp(?:orary)?\s+)?(?:recursive\s+)?view\s+(?P<name>{NAME})(?P<rest>.*?)\bas\b",
    re.IGNORECASE | re.DOTALL,
)
_INVOKER = re.compile(r"\bsecurity_invoker\b(?!\s*=\s*'?(?:false|off|0|no))", re.IGNORECASE)
_TO_API = re.compile(r"\b(?:anon|authenticated|public)\b", re.IGNORECASE)
_FIXED_EXTENSIONS = {"plpgsql", "pg_cron", "pg_net", "pgsodium", "pg_graphql", "supabase_vault", "pgmq", "pg_tle"}
"""They bring a schema of their own, whatever is said."""


def statements_of(project: Project) -> Iterator[tuple[SourceFile, Statement]]:
    for file in project.migrations:
        for statement in statements(file.text):
            yield file, statement


def found_at(
    file: SourceFile, offset: int, message: str, what: str | None = None, severity: Severity | None = None
) -> Found:
    return Found(message, file.path, file.line_of(offset), what, severity)


@rule(
    "sql-table-without-rls", Severity.ERROR, "a table is made and row-level security is not enabled",
    why="Whoever gets a grant on the table gets every row of it; in schema public the platform grants everything to "
    "anon.",
    fix="alter table … enable row level security; in the same migration.", approximate=True,
)  # fmt: skip
def sql_table_without_rls(project: Project) -> Iterator[Found]:
    open_tables: dict[str, Found] = {}
    for file, statement in statements_of(project):
        if (match := CREATE_TABLE.match(statement.outline)) is not None and not match["temp"]:
            name = object_name(match["name"])
            found = found_at(file, statement.start, f"{name} has no row-level security", name)
            if not re.search(r"\bif\s+not\s+exists\b", match[0], re.IGNORECASE) or name not in _enabled(project):
                open_tables[name] = found
        elif (match := _DROP_TABLE.match(statement.outline)) is not None:
            open_tables.pop(object_name(match["name"]), None)
        else:
            for name in _covered(statement, list(open_tables)):
                open_tables.pop(name, None)
    yield from open_tables.values()


def _enabled(project: Project) -> set[str]:
    return {
        object_name(match["name"])
        for _, statement in statements_of(project)
        for match in _RLS.finditer(statement.outline)
        if match["what"].lower() == "enable"
    }


def _covered(statement: Statement, tables: list[str]) -> Iterator[str]:
    """Which of these tables the statement gives row-level security: by name, or in a DO block that goes through a "
    "list."""
    text = statement.text if statement.is_block else statement.outline
    literals = set(re.findall(r"'([^']*)'", text)) if statement.is_block else set()
    for match in _RLS.finditer(text):
        if match["what"].lower() == "disable":
            continue
        if "%" not in match["name"]:
            yield object_name(match["name"])
            continue
        in_schema = match["name"].split(".")[0].strip('"') if "." in match["name"] else "%"
        for table in tables:
            schema, _, name = table.partition(".")
            # A list of the tables, or a catalogue asked for the schema; with %s.%s the literals say which.
            if ("%" in in_schema or in_schema == schema) and (literals & {name, table} or schema in literals):
                yield table


@rule(
    "sql-rls-disabled", Severity.ERROR, "row-level security is switched off",
    why="All policies of the table stop to count, and every grant on it gives every row.",
    fix="Leave it on; what has to read everything does so as service_role.",
)  # fmt: skip
def sql_rls_disabled(project: Project) -> Iterator[Found]:
    for file, statement in statements_of(project):
        for match in _RLS.finditer(statement.text if statement.is_block else statement.outline):
            if match["what"].lower() == "disable":
                name = object_name(match["name"])
                yield found_at(
                    file, statement.offset + match.start(), f"row-level security of {name} is disabled", name
                )


@rule(
    "sql-definer-search-path", Severity.ERROR, "a SECURITY DEFINER function does not pin its search_path",
    why="It runs with its owner's rights, but finds tables and operators where the caller's search_path says: a caller "
    "puts an object of the same name in front, and it runs with the owner's rights.",
    fix="Add `set search_path = ''` to the function and write every name with its schema.", approximate=True,
)  # fmt: skip
def sql_definer_search_path(project: Project) -> Iterator[Found]:
    unpinned: dict[str, Found] = {}
    for file, statement in statements_of(project):
        outline = statement.outline
        match = _FUNCTION.match(outline) or _ALTER_FUNCTION.match(outline)
        if match is None:
            continue
        name = object_name(match["name"])
        if _PINNED.search(outline):
            unpinned.pop(name, None)
        elif _DEFINER.search(outline):
            unpinned[name] = found_at(file, statement.start, f"{name} does not pin its search_path", name)
    yield from unpinned.values()


@rule(
    "sql-definer-executable", Severity.ERROR, "everybody may call a SECURITY DEFINER function",
    why="PostgreSQL grants execution of every new function to PUBLIC, and its schema is exposed: anon calls it through "
    "the REST API, with its owner's rights, past row-level security.",
    fix="revoke execute on function … from public, anon, authenticated; then grant it to whom it is for; or keep it in "
    "a schema that is not exposed.",
    approximate=True,
)  # fmt: skip
def sql_definer_executable(project: Project) -> Iterator[Found]:
    callable_: dict[str, Found] = {}
    for file, statement in statements_of(project):
        match = _FUNCTION.match(statement.outline)
        if match is not None and _DEFINER.search(statement.outline):
            name = object_name(match["name"])
            is_trigger = re.search(r"\breturns\s+(?:event_)?trigger\b", statement.outline, re.IGNORECASE)
            if name.partition(".")[0] in project.exposed and not is_trigger:
                callable_[name] = found_at(file, statement.start, f"nothing revokes {name} from public", name)
        text = statement.text if statement.is_block else statement.outline
        for revoked in re.finditer(r"\brevoke\s+(?:execute|all)\b[^;]*?\bon\s+([^;]*?)\s+from\s+([^;]*)", text, re.I):
            for name in [name for name in callable_ if _names(name, revoked[1]) and "public" in revoked[2].lower()]:
                del callable_[name]
    yield from callable_.values()


def _names(name: str, written: str) -> bool:
    schema, _, short = name.partition(".")
    everything = re.search(
        rf"\ball\s+(?:functions|routines)\s+in\s+schema\b[^;]*\b{re.escape(schema)}\b", written, re.I
    )
    return (
        bool(everything) or re.search(rf"\b{re.escape(short)}\b", written, re.IGNORECASE) is not None or "%" in written
    )


@rule(
    "sql-anon-grant", Severity.WARNING, "something is granted to everybody",
    why="anon is whoever has the project's address; PUBLIC is every role, anon included. Only row-level security is "
    "left between them and the data, and TRUNCATE does not even ask it.",
    fix="Grant to authenticated or service_role, and only what is needed.", approximate=True,
)  # fmt: skip
def sql_anon_grant(project: Project) -> Iterator[Found]:
    for file, statement in statements_of(project):
        is_default = re.match(r"\s*alter\s+default\s+privileges", statement.outline, re.IGNORECASE)
        if is_default or re.match(r"\s*revoke\b", statement.outline, re.IGNORECASE):
            continue
        text = statement.text if statement.is_block else statement.outline
        for match in _GRANT.finditer(text):
            who = re.search(r"\b(?:anon|public)\b", match["to"], re.IGNORECASE)
            platform = re.fullmatch(
                r"schema\s+(?:public|extensions|graphql_public)", match["on"].strip(), re.IGNORECASE
            )
            if who and not _is_in_body(statement) and not (platform and match["what"].strip().lower() == "usage"):
                what = " ".join(match["what"].split()).lower()[:60]
                on = " ".join(match["on"].split())[:100]
                yield found_at(file, statement.offset + match.start(), f"{what} on {on} to {who[0].lower()}", on)


def _is_in_body(statement: Statement) -> bool:
    return _FUNCTION.match(statement.outline) is not None


@rule(
    "sql-default-privileges", Severity.WARNING, "what is made later is granted to the API's roles",
    why="Nobody thinks of it when the next table is made: it is open from its first moment.",
    fix="Grant on each object when it is made; alter default privileges … revoke.", approximate=True,
)  # fmt: skip
def sql_default_privileges(project: Project) -> Iterator[Found]:
    for file, statement in statements_of(project):
        if re.match(r"\s*alter\s+default\s+privileges\b", statement.outline, re.IGNORECASE):
            match = _GRANT.search(statement.outline)
            if match is not None and (who := _TO_API.search(match["to"])):
                yield found_at(
                    file, statement.start, f"future {match['on'].strip().lower()} are granted to {who[0].lower()}"
                )


@rule(
    "sql-policy-anon", Severity.ERROR, "a policy lets everybody in",
    why="A policy `to anon`, or one that is always true and has no TO (which means PUBLIC), holds for callers that "
    "have no account.",
    fix="Say `to authenticated` (or a role of your own) and compare a column with auth.uid().", approximate=True,
)  # fmt: skip
def sql_policy_anon(project: Project) -> Iterator[Found]:
    for file, statement in statements_of(project):
        match = _POLICY.match(statement.outline)
        if match is None or re.search(r"\bas\s+restrictive\b", match["rest"], re.IGNORECASE):
            continue
        to = re.search(r"\bto\s+(.*?)(?=\busing\b|\bwith\s+check\b|;|$)", match["rest"], re.IGNORECASE | re.DOTALL)
        roles = to[1].lower() if to else "public"
        always = _ALWAYS.search(match["rest"])
        if re.search(r"\banon\b", roles) or ("public" in roles and always):
            table = object_name(match["table"])
            said = f"the policy {match['name'].strip()} on {table} lets anon in"
            yield found_at(file, statement.start, said, table, None if always else Severity.WARNING)


@rule(
    "sql-view-bypasses-rls", Severity.ERROR, "a view that clients can read bypasses row-level security",
    why="A view reads its tables with its owner's rights, and the owner is not held by their policies.",
    fix="create view … with (security_invoker = true) as …", approximate=True,
)  # fmt: skip
def sql_view_bypasses_rls(project: Project) -> Iterator[Found]:
    views: dict[str, Found] = {}
    granted = []
    for file, statement in statements_of(project):
        match = _VIEW.match(statement.outline)
        if match is not None and not match["temp"]:
            name = object_name(match["name"])
            views.pop(name, None)
            if not _INVOKER.search(match["rest"]):
                views[name] = found_at(file, statement.start, f"{name} has no security_invoker", name)
        altered = re.match(rf"\s*alter\s+view\s+(?:if\s+exists\s+)?({NAME})\s+set\b", statement.outline, re.IGNORECASE)
        if altered is not None and _INVOKER.search(statement.outline):
            views.pop(object_name(altered[1]), None)
        granted += [match["on"] for match in _GRANT.finditer(statement.outline) if _TO_API.search(match["to"])]
    for name, found in views.items():
        schema = name.partition(".")[0]
        in_grant = partial(re.search, flags=re.IGNORECASE)
        tables = rf"\btables\s+in\s+schema\b.*\b{re.escape(schema)}\b"
        if schema == "public" or any(
            in_grant(rf"(?<![\w.]){re.escape(name)}\b", on) or in_grant(tables, on) for on in granted
        ):
            yield found


@rule(
    "sql-extension-in-public", Severity.WARNING, "an extension is put into schema public",
    why="Its functions become endpoints of the REST API, and its names get in front of yours.",
    fix="create extension … with schema extensions.", approximate=True,
)  # fmt: skip
def sql_extension_in_public(project: Project) -> Iterator[Found]:
    for file, statement in statements_of(project):
        text = statement.text if statement.is_block else statement.outline
        for match in re.finditer(
            r"\bcreate\s+extension\s+(?:if\s+not\s+exists\s+)?(\"[^\"]+\"|[\w-]+)([^;']*)", text, re.I
        ):
            name = match[1].strip('"').lower()
            schema = re.search(r"\bschema\s+\"?(\w+)", match[2], re.IGNORECASE)
            if name not in _FIXED_EXTENSIONS and (schema is None or schema[1].lower() == "public"):
                yield found_at(file, statement.offset + match.start(), f"{name} goes into public", name)


@rule(
    "sql-role-raised", Severity.ERROR, "a role of the API is given more than it may have",
    why="anon and authenticated act for strangers. With BYPASSRLS, as a superuser, or as a member of service_role or "
    "postgres no policy holds them.",
    fix="Take the attribute or the membership away.", approximate=True,
)  # fmt: skip
def sql_role_raised(project: Project) -> Iterator[Found]:
    attribute = re.compile(
        r"\s*alter\s+(?:role|user)\s+(anon|authenticated)\b.*\b(bypassrls|superuser|createrole|login)\b", re.I | re.S
    )
    member = re.compile(r"\s*grant\s+([\w\s,\"]+?)\s+to\s+[^;]*\b(anon|authenticated|public)\b", re.IGNORECASE)
    for file, statement in statements_of(project):
        if (match := attribute.match(statement.outline)) is not None:
            yield found_at(file, statement.start, f"{match[1].lower()} gets {match[2].lower()}", match[1].lower())
        elif (match := member.match(statement.outline)) is not None and not re.search(r"\son\s", match[1]):
            yield found_at(
                file, statement.start, f"{match[2].lower()} becomes a member of {match[1].strip()}", match[2].lower()
            )


@rule(
    "sql-public-bucket", Severity.WARNING, "a storage bucket is made public",
    why="Whoever has, or guesses, a file's path downloads it without a key; policies are not asked.",
    fix="Make the bucket with public = false and hand out signed URLs.", approximate=True,
)  # fmt: skip
def sql_public_bucket(project: Project) -> Iterator[Found]:
    made = re.compile(
        r"\binsert\s+into\s+storage\s*\.\s*buckets\b(?P<columns>[^)]*\bpublic\b[^)]*\))(?P<rest>.*)", re.I | re.S
    )
    changed = re.compile(r"\bupdate\s+storage\s*\.\s*buckets\b.*\bpublic\s*=\s*true\b", re.IGNORECASE | re.DOTALL)
    for file, statement in statements_of(project):
        match = made.search(statement.outline)
        if changed.search(statement.outline) or (match and re.search(r"\btrue\b", match["rest"], re.IGNORECASE)):
            yield found_at(file, statement.start, "the bucket is public", "storage.buckets")


RULES = (
    sql_table_without_rls,
    sql_rls_disabled,
    sql_definer_search_path,
    sql_definer_executable,
    sql_anon_grant,
    sql_default_privileges,
    sql_policy_anon,
    sql_view_bypasses_rls,
    sql_extension_in_public,
    sql_role_raised,
    sql_public_bucket,
)
