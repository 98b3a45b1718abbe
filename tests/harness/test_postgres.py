"""Real PostgreSQL, started by the harness: crashes, restarts, two side by side, nothing left behind."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from ipai_harness.errors import PartFailed
from ipai_harness.stack import paths, ports, postgres, supabase
from ipai_harness.stack.build import part_environment
from ipai_harness.stack.postgres import Cluster
from ipai_harness.stack.process import find_marked, kill_marked

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def token() -> Iterator[str]:
    token = uuid.uuid4().hex
    yield token
    kill_marked(token)


@pytest.fixture(scope="module")
def run() -> Iterator[Path]:
    run = paths.new_run("test")
    yield run
    paths.remove_run(run)
    assert not (paths.MEMORY / run.name).exists()


def make(name: str, run: Path, token: str, *majors: int) -> Cluster:
    cluster = Cluster.create(name, postgres.find(*majors), run, "boss", part_environment(token, run))
    cluster.initialise()
    cluster.start()
    return cluster


@pytest.fixture(scope="module")
def cluster(run: Path, token: str) -> Iterator[Cluster]:
    cluster = make("odoo_db", run, token, 16)
    yield cluster
    cluster.stop()
    assert not ports.is_listening(cluster.port)
    assert list(find_marked(token)) == []


def one(cluster: Cluster, query: str, user: str | None = None) -> object:
    with cluster.cursor(user=user) as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
    assert row is not None
    return row[0]


def test_it_is_the_version_that_it_says(cluster: Cluster) -> None:
    assert str(one(cluster, "show server_version")).startswith(cluster.installation.version)
    assert cluster.installation.major == 16
    assert one(cluster, "show server_encoding") == "UTF8"
    assert one(cluster, "show wal_level") == "logical"


def test_a_committed_row_survives_kill_9_and_an_immediate_stop(cluster: Cluster) -> None:
    cluster.execute("create table kept (n int)")
    for number, mode in enumerate(("kill", "immediate", "fast"), start=1):
        cluster.execute("insert into kept values (%s)", [number])
        port = cluster.port
        if mode == "kill":
            cluster.kill()
        else:
            cluster.stop(mode)
        assert not cluster.is_ready()
        cluster.start()
        assert cluster.port == port
        assert one(cluster, "select count(*) from kept") == number


def test_tcp_wants_a_password_and_the_socket_is_private(cluster: Cluster) -> None:
    cluster.execute("create role guest login password 'right'")
    psycopg2.connect(cluster.dsn("postgres", "guest", "right")).close()
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(cluster.dsn("postgres", "guest", "wrong"))
    assert stat.S_IMODE(cluster.directory.stat().st_mode) == 0o700


def test_it_never_runs_as_root(cluster: Cluster) -> None:
    assert cluster.process.pid is not None
    owner = Path(f"/proc/{cluster.process.pid}").stat().st_uid
    assert owner != 0
    assert (owner == os.geteuid()) == (os.geteuid() != 0)


def test_another_command_finds_it(cluster: Cluster) -> None:
    again = Cluster.from_state(cluster.to_state())
    assert again.is_ready()
    assert again.dsn("a b", "u@x", "p:w/") == f"postgresql://u%40x:p%3Aw%2F@127.0.0.1:{cluster.port}/a%20b"


def test_a_failure_shows_the_log_and_what_to_do(cluster: Cluster, run: Path, token: str) -> None:
    second = Cluster.create("second", cluster.installation, run, "boss", part_environment(token, run))
    second.initialise()
    second.port = cluster.port
    with pytest.raises(PartFailed) as caught:
        second.start()
    assert ports.is_taken(caught.value.log_tail)
    assert "second: PostgreSQL 16" in str(caught.value)
    assert "what to do" in str(caught.value)


def test_the_supabase_side_stands_beside_it(cluster: Cluster, run: Path, token: str) -> None:
    beside = make("supabase_db", run, token, 15, 16)
    try:
        with pytest.raises(PartFailed, match=r"platform\.sql failed"):
            supabase.create_schema(cluster_named_postgres(beside), paths.supabase_project(), "pw")
    finally:
        beside.stop()


def cluster_named_postgres(cluster: Cluster) -> Cluster:
    """A cluster whose superuser is called postgres, as no Supabase project's is."""
    cluster.execute("create role postgres superuser login")
    cluster.execute("create role supabase_admin superuser login")
    return cluster


def test_the_migrations_are_recorded_as_the_cli_records_them(run: Path, token: str) -> None:
    environment = part_environment(token, run)
    cluster = Cluster.create("project", postgres.find(15, 16), run, supabase.SUPERUSER, environment)
    cluster.initialise()
    cluster.start()
    try:
        supabase.create_schema(cluster, paths.supabase_project(), "pw")
        files = sorted((paths.supabase_project() / "migrations").glob("*.sql"))
        with cluster.cursor(user="postgres") as cursor:
            cursor.execute("select version, name from supabase_migrations.schema_migrations order by version")
            assert [f"{version}_{name}.sql" for version, name in cursor.fetchall()] == [file.name for file in files]
        assert one(cluster, "select rolsuper from pg_roles where rolname = 'postgres'") is False
        psycopg2.connect(cluster.dsn("postgres", "postgres", "pw")).close()
    finally:
        cluster.stop()
