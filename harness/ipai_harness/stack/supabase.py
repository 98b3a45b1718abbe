"""The Supabase database: a cluster with the platform's roles, the project's migrations and its seed.

Migrations run as the role `postgres`, which is no superuser.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import Sequence
from pathlib import Path

from ipai_harness.errors import MigrationFailed, PartFailed
from ipai_harness.stack import migrations
from ipai_harness.stack.handle import Database

SUPERUSER = "supabase_admin"
DATABASE = "postgres"
ROLE = "postgres"
PLATFORM = Path(__file__).with_name("platform.sql")


def create_schema(cluster: Database, project: Path, password: str) -> None:
    """Everything a new Supabase project has after `supabase db push` and its seed. Raises PartFailed."""
    try:
        with contextlib.closing(cluster.connect(DATABASE)) as connection:
            migrations.run_file(connection, PLATFORM)
        cluster.execute(f"ALTER ROLE {ROLE} PASSWORD %s", [password], database=DATABASE)
        with contextlib.closing(cluster.connect(DATABASE, ROLE)) as connection:
            for migration in migrations.migrations_of(project):
                migrations.apply(connection, migration)
            for file in migrations.seed_files(project):
                migrations.run_file(connection, file)
    except MigrationFailed as error:
        raise PartFailed(cluster.name, str(error)) from error


def jwt(secret: str, role: str, permissions: Sequence[str] = ()) -> str:
    """An API key as the platform makes it: a JWT for `role`, signed with HS256, that never expires in a test.

    `permissions`: of a person who is signed in, as the policies of this project ask for them (access.permits).
    """

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=").decode()

    claims: dict[str, object] = {"iss": "supabase-demo", "role": role, "iat": 1_700_000_000, "exp": 4_100_000_000}
    if permissions:
        claims["app_metadata"] = {"ipai_permissions": list(permissions)}
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}"
    digest = hmac.digest(secret.encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
