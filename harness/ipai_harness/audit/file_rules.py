"""Rules about the folder as such, config.toml, and what must not be written down in any file."""

from __future__ import annotations

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ipai_bridge.endpoint import DEPRECATED_PROJECTS, deprecated_project
from ipai_harness.audit.finding import Found, Severity, fingerprint, rule
from ipai_harness.audit.folder import Project, SourceFile
from ipai_harness.audit.sql_text import object_name, statements

SUPPORTED_MAJORS = (15, 16)
PLATFORM_SCHEMAS = frozenset({
    "auth", "storage", "realtime", "_realtime", "_analytics", "_supavisor", "supabase_functions", "supabase_migrations",
    "extensions", "graphql", "graphql_public", "vault", "pgsodium", "pgsodium_masks", "pgbouncer", "net", "cron",
    "pgmq", "pgtle", "tiger", "tiger_data", "topology", "repack", "information_schema", "pg_catalog",
})  # fmt: skip
"""The platform's own: what is in them is not the project's to change."""

_TOKENS = [
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")),
    ("a Supabase secret key", re.compile(r"\bsb_secret_[A-Za-z0-9_-]{16,}")),
    ("a Supabase access token", re.compile(r"\bsbp_(?:v0_)?[0-9a-f]{40}\b")),
    ("a webhook secret", re.compile(r"\bwhsec_[A-Za-z0-9+/_-]{24,}={0,2}")),
    (
        "a password in a database URL",
        re.compile(r"\bpostgres(?:ql)?://[^\s:/@\"'`]+:(?P<value>[^\s:/@\"'`$<{*\[%]{4,})@"),
    ),
    (
        "a role's password",
        re.compile(r"\b(?:alter|create)\s+(?:role|user)\b[^;']{1,200}?\bpassword\s+'(?P<value>[^'\s%$]{4,200})'", re.I),
    ),
    ("an AWS access key", re.compile(r"\bAKIA[0-9A-Z]{16}\b")),
    ("a GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})\b")),
    ("a live API key", re.compile(r"\b[sr]k_live_[A-Za-z0-9]{16,}\b")),
    ("an API key of OpenAI or Anthropic", re.compile(r"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,}\b")),
    ("a Slack token", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{20,}")),
]
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.(eyJ[A-Za-z0-9_-]{8,})\.[A-Za-z0-9_-]{16,}")
_ASSIGNMENT = re.compile(
    r"\b(?P<name>[A-Za-z_]{0,40}(?:secret|token|password|passwd|api_?key|service_?role_?key|private_?key)[A-Za-z_]{0,40})[\"']?\s*"
    r"(?:[:=]|=>|(?<=[\"'])\s*,)\s*(?P<quote>[\"'`]?)(?P<value>[A-Za-z0-9+/=_.!@#%^&*~-]{16,200})(?P=quote)(?=[\s,;)}\]]|$)",
    re.IGNORECASE | re.MULTILINE,
)
_PLACEHOLDER = re.compile(
    r"example|change.?me|your|placeholder|dummy|xxxx|\.\.\.|<|env\(|process\.env|Deno\.|test|^[A-Z_]+$|^[a-z]+(?:[._-][a-z]+)*$",
    re.IGNORECASE,
)


@rule(
    "file-link-outside", Severity.WARNING, "a symbolic link leads out of the folder",
    why="Whoever packs or deploys the folder takes along what the link points to: a private key, or a file of the "
    "machine.",
    fix="Remove the link, or copy into the folder what belongs to it.",
)  # fmt: skip
def file_link_outside(project: Project) -> Iterator[Found]:
    yield from project.links


@rule(
    "file-unreadable", Severity.WARNING, "a file could not be looked at",
    why="What cannot be read was not audited, and does not deploy either.",
    fix="Make it a regular file of UTF-8 text that the audit may read, or remove it.",
)  # fmt: skip
def file_unreadable(project: Project) -> Iterator[Found]:
    yield from project.unread


@rule(
    "file-too-large", Severity.WARNING, "a file is too large to be looked at as a whole",
    why="What is behind the limit was not audited.",
    fix="Keep data out of the folder, or split the file.",
)  # fmt: skip
def file_too_large(project: Project) -> Iterator[Found]:
    yield from project.too_large


@rule(
    "config-unreadable", Severity.ERROR, "config.toml is missing or broken",
    why="The command line tool refuses the project; which functions check a JWT and which schemas are exposed is "
    "unknown.",
    fix="Correct config.toml (`supabase init` makes a new one).",
)  # fmt: skip
def config_unreadable(project: Project) -> Iterator[Found]:
    if project.config_problem is not None:
        yield project.config_problem


@rule(
    "config-exposed-schema", Severity.ERROR, "the REST API exposes a schema that is not made for it",
    why="Every table, view and function of an exposed schema that anon or authenticated hold a grant on is an "
    "endpoint. One of the platform's schemas holds users, files or keys; one that the migrations keep closed was "
    "exposed by mistake.",
    fix="Take the schema out of [api] schemas in config.toml; give clients a view or function in public or in a schema "
    "of its own, with `grant usage on schema` to the roles that are meant.",
)  # fmt: skip
def config_exposed_schema(project: Project) -> Iterator[Found]:
    granted: set[str] = set()
    for file in project.migrations:
        for statement in statements(file.text):
            match = re.match(
                r"\s*grant\s+(?:usage|all)\b.*?\bon\s+schema\s+(.+?)\s+to\b(.*)", statement.outline, re.I | re.S
            )
            if match and re.search(r"\b(?:anon|authenticated|public)\b", match[2], re.IGNORECASE):
                granted |= {object_name(name).removeprefix("public.") for name in match[1].split(",")}
    line = project.config_line("schemas")
    for schema in project.exposed:
        if schema in ("public", "graphql_public", "storage"):  # the platform's defaults, the last one of old projects
            continue
        if schema in PLATFORM_SCHEMAS:
            yield Found(f"{schema} is the platform's own", "config.toml", line)
        elif schema not in granted:
            said = f"{schema} is exposed, and no migration grants its usage to an API role: it is meant to be closed"
            yield Found(said, "config.toml", line, severity=Severity.WARNING)


@rule(
    "config-postgres-version", Severity.ERROR, "the database's version is not one that is supported",
    why="The Supabase side is written for and tested on PostgreSQL 15 and 16, which speak the same to Odoo's side; "
    "before 15 views cannot be made to respect row-level security (security_invoker).",
    fix="Set [db] major_version = 15 (or 16) in config.toml, and upgrade the project.",
)  # fmt: skip
def config_postgres_version(project: Project) -> Iterator[Found]:
    major = project.section("db").get("major_version", SUPPORTED_MAJORS[0])
    if major not in SUPPORTED_MAJORS or isinstance(major, (bool, float)):
        severity = Severity.WARNING if isinstance(major, int) and major > max(SUPPORTED_MAJORS) else None
        said = f"major_version = {major}" if isinstance(major, int) else "major_version is not a number"
        yield Found(said, "config.toml", project.config_line("major_version"), severity=severity)


@rule(
    "config-public-bucket", Severity.WARNING, "a storage bucket is public",
    why="Whoever has, or guesses, a file's path downloads it without a key; policies are not asked.",
    fix="Set public = false on the bucket and hand out signed URLs.",
)  # fmt: skip
def config_public_bucket(project: Project) -> Iterator[Found]:
    for name in project.section("storage", "buckets"):
        if project.section("storage", "buckets", name).get("public") is True:
            line = project.config_line(f"storage.buckets.{name}]")
            yield Found(f"the bucket {name} is public", "config.toml", line)


@rule(
    "config-anonymous-sign-in", Severity.WARNING, "anybody can become authenticated",
    why="With anonymous sign-ins the role authenticated is anybody's: every policy that says `to authenticated` lets "
    "the public in.",
    fix="Set enable_anonymous_sign_ins = false in [auth], or have the policies ask for the claim is_anonymous.",
)  # fmt: skip
def config_anonymous_sign_in(project: Project) -> Iterator[Found]:
    if project.section("auth").get("enable_anonymous_sign_ins") is True:
        yield Found("anonymous sign-ins are on", "config.toml", project.config_line("enable_anonymous_sign_ins"))


@rule(
    "deprecated-project", Severity.ERROR, "a deprecated Supabase project is named",
    why="Those projects are not maintained; what is sent there is lost, and what is read from there is stale.",
    fix="Name the project that is in use now.",
)  # fmt: skip
def deprecated_projects(project: Project) -> Iterator[Found]:
    for file in project.files.values():
        whole = deprecated_project(file.text)
        if whole is None:
            continue
        each = ((number, deprecated_project(line)) for number, line in enumerate(file.text.split("\n"), 1))
        lines = [(number, named) for number, named in each if named]
        for number, named in lines or [(1, whole)]:  # or spread over lines
            yield Found(f"the project {named}", file.path, number)
    for path, data in project.binaries.items():
        for ref in sorted(DEPRECATED_PROJECTS):
            if ref.encode() in data.lower() or ref.encode("utf-16-le") in data.lower():
                yield Found(f"the project {ref}", path)
    for path in project.names:
        if (in_name := deprecated_project(path)) is not None:
            yield Found(f"the project {in_name}, in the file's name", path)


@rule(
    "secret-in-file", Severity.ERROR, "a secret is written in a file",
    why="Everybody who can read the repository, its history or a backup of it has the secret, also after it is "
    "removed.",
    fix="Replace the secret with a new one (it counts as known), keep the new one in the platform's secrets, and write "
    "env(NAME) in config.toml.",
)  # fmt: skip
def secret_in_file(project: Project) -> Iterator[Found]:
    for file in project.files.values():
        spans: list[tuple[int, int]] = []
        for start, end, found in sorted(_secrets_of(file), key=lambda one: (one[0], -one[1])):
            if not any(start < other_end and other < end for other, other_end in spans):
                spans.append((start, end))
                yield found
    for keys, value in _strings(project.section("edge_runtime", "secrets")):
        if not value.startswith("env(") and not _PLACEHOLDER.search(value) and not _likely(value):
            line = project.config_line(keys[-1])
            yield Found(f"the value of {keys[-1]}", "config.toml", line, fingerprint=fingerprint(value))


def _secrets_of(file: SourceFile) -> Iterator[tuple[int, int, Found]]:
    def at(start: int, what: str, value: str, severity: Severity | None = None) -> Found:
        return Found(what, file.path, file.line_of(start), severity=severity, fingerprint=fingerprint(value))

    for what, pattern in _TOKENS:
        for match in pattern.finditer(file.text):
            value = match["value"] if "value" in pattern.groupindex else match[0]
            local = re.match(r"[^\s/:?]*\b(?:localhost|127\.0\.0\.1)", file.text[match.end() : match.end() + 40])
            if not _PLACEHOLDER.search(value) and not (what.startswith("a password") and local):
                yield match.start(), match.end(), at(match.start(), what, value)
    for match in _JWT.finditer(file.text):
        role = _role(match[1])
        if role == "anon":  # made to be public: it stands in every web page that uses the project
            continue
        what = f"a JWT of the role {role}" if role in ("service_role", "authenticated") else "a JWT"
        yield match.start(), match.end(), at(match.start(), what, match[0])
    for match in _ASSIGNMENT.finditer(file.text):
        value = match["value"]
        if not match["quote"] and file.suffix not in (".env", ".sh", ".yaml", ".yml"):
            continue  # an expression, not a literal
        if _likely(value) and not _JWT.search(value):
            yield match.start("value"), match.end("value"), at(match.start(), f"the value of {match['name']}", value)


def _likely(value: str) -> bool:
    """Whether it looks drawn at random: letters and digits mixed, and not a word, a path or a placeholder."""
    if (
        len(value) < 16
        or _PLACEHOLDER.search(value)
        or not re.search(r"\d", value)
        or not re.search(r"[A-Za-z]", value)
    ):
        return False
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares) > 3.0


def _role(payload: str) -> str | None:
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return None
    role = claims.get("role") if isinstance(claims, dict) else None
    return role if isinstance(role, str) else None


def _strings(table: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in table.items():
        if isinstance(value, str):
            yield (key,), value
        elif isinstance(value, Mapping):
            yield from (((key, *keys), inner) for keys, inner in _strings(value))


RULES = (
    file_link_outside, file_unreadable, file_too_large, config_unreadable, config_exposed_schema,
    config_postgres_version, config_public_bucket, config_anonymous_sign_in, deprecated_projects, secret_in_file,
)  # fmt: skip
