"""A database without the project in it."""

from __future__ import annotations

import contextlib
import secrets

from ipai_harness.stack import migrations
from ipai_harness.stack.supabase import PLATFORM, SUPERUSER
from tests.supabase.conftest import Server


class Bare:
    """A database as a new Supabase project has it, without a migration."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.name = f"bare_{secrets.token_hex(4)}"
        server.cluster.execute(f"create database {self.name} template template0 owner postgres", database="template1")
        with contextlib.closing(server.connect(SUPERUSER, self.name)) as admin:
            migrations.run_file(admin, PLATFORM)
        self.connection = server.connect(database=self.name)

    @property
    def dsn(self) -> str:
        return self.server.cluster.dsn(self.name, "postgres", self.server.password)

    def drop(self) -> None:
        self.connection.close()
        self.server.cluster.execute(f"drop database {self.name} with (force)", database="template1")
