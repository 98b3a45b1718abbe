"""Rules about migrations as files: their names, their order, their layers."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator

from ipai_harness.audit.finding import Found, Severity, rule
from ipai_harness.audit.folder import Project, SourceFile
from ipai_harness.audit.sql_rules import CREATE_TABLE, found_at, statements_of
from ipai_harness.audit.sql_text import NAME, object_name

LAYERS = ("auth", "core", "erp", "engine", "odoo", "ops", "cleanup")
"""The layers of migrations, as they stand in `<timestamp>_<layer>_<name>.sql`."""
_SAME = {"engines": "engine", "bridge": "odoo", "operations": "ops", "operation": "ops", "clean": "cleanup"}
_WAYS_BACK = {"down", "revert", "reverts", "reverse", "rollback", "rollbacks"}
"""Folders below migrations/ whose files are applied by hand, if ever."""
_FILE = re.compile(r"(?P<version>\d+)_(?P<name>[a-zA-Z0-9_-]+)\.sql")


@rule(
    "migration-name", Severity.WARNING, "a migration's name is not <timestamp>_<name>.sql",
    why="The command line tool takes only files of this form and applies them in the order of the timestamp: another "
    "file is silently left out, or comes at the wrong place.",
    fix="Name it YYYYMMDDHHMMSS_what_it_does.sql (`supabase migration new`).",
)  # fmt: skip
def migration_name(project: Project) -> Iterator[Found]:
    for file in project.under("migrations/"):
        path = file.path.removeprefix("migrations/")
        match = _FILE.fullmatch(path)
        if path.split("/")[0].lower() in _WAYS_BACK:
            continue
        if match is None and file.suffix == ".sql":
            yield Found(
                "is never applied: its name has no timestamp, or it is in a folder", file.path, severity=Severity.ERROR
            )
        elif match is not None and not _is_time(match["version"]):
            yield Found("its version is not a time (YYYYMMDDHHMMSS)", file.path)


def _is_time(version: str) -> bool:
    try:
        datetime.datetime.strptime(version, "%Y%m%d%H%M%S").replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        return False
    return len(version) == 14


@rule(
    "migration-duplicate", Severity.ERROR, "two migrations have the same timestamp",
    why="The timestamp is the migration's key: of two with the same one only the first is recorded, and pushing fails.",
    fix="Give the later one a later timestamp.",
)  # fmt: skip
def migration_duplicate(project: Project) -> Iterator[Found]:
    seen: dict[str, str] = {}
    for file in project.migrations:
        match = _FILE.fullmatch(file.path.removeprefix("migrations/"))
        if match is not None and (first := seen.setdefault(match["version"], file.path)) != file.path:
            yield Found(f"the same timestamp as {first}", file.path)


@rule(
    "migration-order", Severity.ERROR, "a migration needs what only a later one makes",
    why="Migrations are applied in the order of their timestamps: a new database cannot be set up.",
    fix="Give it a timestamp after that of the migration it needs.", approximate=True,
)  # fmt: skip
def migration_order(project: Project) -> Iterator[Found]:
    made: dict[str, tuple[int, SourceFile]] = {}
    order = {file.path: number for number, file in enumerate(project.migrations)}
    for file, statement in statements_of(project):
        if (match := CREATE_TABLE.match(statement.outline)) is not None:
            made.setdefault(object_name(match["name"]), (order[file.path], file))
    uses = re.compile(
        rf"\breferences\s+(?P<a>{NAME})|\balter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?(?P<b>{NAME})"
        rf"|\bcreate\s+(?:unique\s+)?index\b[^;]*?\bon\s+(?:only\s+)?(?P<c>{NAME})|\bcreate\s+(?:constraint\s+)?trigger\b[^;]*?\bon\s+(?P<d>{NAME})",
        re.IGNORECASE,
    )
    for file, statement in statements_of(project):
        for match in uses.finditer(statement.outline):
            name = object_name(next(part for part in match.groups() if part))
            if name in made and made[name][0] > order[file.path]:
                yield found_at(file, statement.offset + match.start(), f"{name} is made by {made[name][1].path}", name)


@rule(
    "migration-layer", Severity.WARNING, "a migration is in no known layer",
    why="The project's migrations are in layers (" + ", ".join(LAYERS) + "): one outside of them is in nobody's care, "
    "and can be neither left out nor reversed with its layer.",
    fix="Name it <timestamp>_<layer>_<name>.sql.",
)  # fmt: skip
def migration_layer(project: Project) -> Iterator[Found]:
    layers: dict[str, str | None] = {}
    for file in project.migrations:
        match = _FILE.fullmatch(file.path.removeprefix("migrations/"))
        if match is not None:
            word = re.split(r"[_-]", match["name"].lower())[0]
            layers[file.path] = _SAME.get(word, word) if _SAME.get(word, word) in LAYERS else None
    known = [layer for layer in layers.values() if layer]
    if len(known) < 3 or len(known) * 2 <= len(layers):
        return  # this project does not use layers
    for path, layer in layers.items():
        if layer is None:
            yield Found("its name begins with no known layer", path)


RULES = (
    migration_name,
    migration_duplicate,
    migration_order,
    migration_layer,
)
