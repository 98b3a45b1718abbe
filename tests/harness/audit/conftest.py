"""A copy of the project for each test, to plant faults in; a clone of a database that has the project's migrations."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ipai_harness import audit
from ipai_harness.errors import PartMissing
from ipai_harness.stack import paths
from ipai_harness.stack.postgres import Cluster, find
from ipai_harness.stack.supabase import SUPERUSER, create_schema

PASSWORD = secrets.token_hex(16)


@dataclass
class Copy:
    """A copy of our project, to be spoilt."""

    root: Path

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def replace(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text(encoding="utf-8")
        assert old in text, f"{path} has changed: the fault cannot be planted"
        self.write(path, text.replace(old, new))

    def append(self, path: str, text: str) -> None:
        self.write(path, (self.root / path).read_text(encoding="utf-8") + text)

    def migrate(self, sql: str, name: str = "20300101000000_odoo_planted.sql") -> None:
        self.write(f"migrations/{name}", sql + "\n")

    def function(self, code: str, *, verify_jwt: bool = False, name: str = "planted") -> None:
        self.write(f"functions/{name}/index.ts", code)
        self.append("config.toml", f"\n[functions.{name}]\nverify_jwt = {str(verify_jwt).lower()}\n")

    def audit(self) -> audit.Report:
        report = audit.run(self.root)
        assert report.not_looked == []
        return report


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    shutil.copytree(paths.supabase_project(), tmp_path / "supabase")
    return Copy(tmp_path / "supabase")


class Server:
    """A PostgreSQL with the migrations in a database that is only a template."""

    def __init__(self, major: int) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ipai-test-audit-"))
        self.directory.chmod(0o755)  # PostgreSQL's user has to pass.
        environment = {"PATH": os.environ["PATH"]}
        self.cluster = Cluster.create("audit", find(major), self.directory, SUPERUSER, environment)
        try:
            self.cluster.initialise()
            self.cluster.start()
            create_schema(self.cluster, paths.supabase_project(), PASSWORD)
            self.cluster.execute("create role looker login password %s", [PASSWORD])
        except BaseException:
            self.remove()
            raise
        self.clones = 0

    def remove(self) -> None:
        self.cluster.stop("immediate")
        shutil.rmtree(self.directory)


@dataclass
class Database:
    """A clone with the project in it, to be spoilt."""

    server: Server
    name: str

    def execute(self, sql: str) -> None:
        self.server.cluster.execute(sql, database=self.name)

    @property
    def dsn(self) -> str:
        """Of a role that has no right but to log in."""
        return self.server.cluster.dsn(self.name, "looker", PASSWORD)

    def audit(self) -> audit.Report:
        report = audit.run(dsn=self.dsn)
        assert report.not_looked == []
        return report


def majors() -> list[int]:
    found = [16]
    with contextlib.suppress(PartMissing):
        find(15)
        found.insert(0, 15)
    return found


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[int], Server]]:
    running: dict[int, Server] = {}

    def of(major: int) -> Server:
        if major not in running:
            running[major] = Server(major)
        return running[major]

    yield of
    for server in running.values():
        server.remove()


def _clone(server: Server) -> Iterator[Database]:
    server.clones += 1
    name = f"clone_{server.clones}"
    server.cluster.execute(f"create database {name} template postgres", database="template1")
    yield Database(server, name)
    server.cluster.execute(f"drop database {name} with (force)", database="template1")


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    """On the oldest PostgreSQL to be had: 15 where the machine has it, which is Supabase's."""
    yield from _clone(servers(majors()[0]))


@pytest.fixture(params=majors())
def each_database(request: pytest.FixtureRequest, servers: Callable[[int], Server]) -> Iterator[Database]:
    yield from _clone(servers(request.param))
