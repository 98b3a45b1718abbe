"""The Supabase database: a cluster with the platform's roles, the project's migrations and its seed.

Migrations run as the role `postgres`, which is no superuser, and are recorded where the Supabase CLI records them
(`supabase_migrations.schema_migrations`): `supabase migration list` understands it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from pathlib import Path

import psycopg2

from ipai_harness.errors import PartFailed
from ipai_harness.stack.handle import Database

SUPERUSER = "supabase_admin"
DATABASE = "postgres"
ROLE = "postgres"
PLATFORM = Path(__file__).with_name("platform.sql")
MIGRATION = re.compile(r"^(\d+)_(.+)\.sql$")


def create_schema(cluster: Database, project: Path, password: str) -> None:
    """Everything a new Supabase project has after `supabase db push` and its seed. Raises PartFailed."""
    _run(cluster, PLATFORM, SUPERUSER)
    cluster.execute(f"ALTER ROLE {ROLE} PASSWORD %s", [password], database=DATABASE)
    with cluster.cursor(DATABASE, ROLE) as cursor:
        cursor.execute("CREATE SCHEMA IF NOT EXISTS supabase_migrations")
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS supabase_migrations.schema_migrations "
            "(version text PRIMARY KEY, statements text[], name text)"
        )
    for file in sorted((project / "migrations").glob("*.sql")):
        name = MIGRATION.match(file.name)
        if name is None:
            continue
        _run(cluster, file, ROLE)
        with cluster.cursor(DATABASE, ROLE) as cursor:
            cursor.execute(
                "INSERT INTO supabase_migrations.schema_migrations (version, statements, name) VALUES (%s, %s, %s)",
                [name[1], [file.read_text()], name[2]],
            )
    seed = project / "seed.sql"
    if seed.is_file():
        _run(cluster, seed, ROLE)


def _run(cluster: Database, file: Path, role: str) -> None:
    text = file.read_text()
    try:
        with cluster.cursor(DATABASE, role) as cursor:
            # Without parameters psycopg2 sends the text as it is: one implicit transaction, percent signs untouched.
            if re.sub(r"--[^\n]*|\s", "", text):
                cursor.execute(text)
    except psycopg2.Error as error:
        raise PartFailed(
            cluster.name, f"{file.name} failed as {role}: {str(error).strip()}", hint=f"correct {file}"
        ) from error


def jwt(secret: str, role: str) -> str:
    """An API key as the platform makes it: a JWT for `role`, signed with HS256, that never expires in a test."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=").decode()

    claims = {"iss": "supabase-demo", "role": role, "iat": 1_700_000_000, "exp": 4_100_000_000}
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}"
    digest = hmac.digest(secret.encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
