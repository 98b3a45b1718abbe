"""`ipai-harness migrate`, as a person calls it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipai_harness import cli
from ipai_harness.stack import migrations
from tests.supabase.bare import Bare
from tests.supabase.conftest import PROJECT, Server, majors, rows

DEPRECATED = "xkxyvoboeubffxxbebsll"
EVERY = migrations.migrations_of(PROJECT)
MIDDLE = EVERY[3].version


@pytest.fixture
def bare(servers: Callable[[int], Server]) -> Iterator[Bare]:
    made = Bare(servers(majors()[0]))
    yield made
    made.drop()


@pytest.fixture
def migrate(bare: Bare, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command, which must succeed; what it printed."""

    def run(*arguments: str) -> str:
        assert cli.main(["migrate", "--db", bare.dsn, *arguments]) == 0
        return capsys.readouterr().out

    return run


def tables(bare: Bare) -> set[str]:
    """The schemas that hold tables, but for the platform's."""
    found = rows(bare.connection, "select schemaname from pg_tables where schemaname !~ '^(pg_|information_)'")
    return {str(name) for (name,) in found} - {"storage", "realtime"}


def test_up_and_down(bare: Bare, migrate: Callable[..., str]) -> None:
    assert migrate().splitlines() == [f"applied: {one}" for one in EVERY]
    assert {"odoo", "odoo_seed", "ops"} <= tables(bare)
    assert migrate() == "nothing to do\n"
    taken = [one for one in reversed(EVERY) if one.version > MIDDLE]
    assert migrate("--down-to", MIDDLE).splitlines() == [f"taken back: {one}" for one in taken]
    assert max(migrations.applied(bare.connection)) == MIDDLE
    assert json.loads(migrate("--down-to", "0", "--json")) == {
        "action": "taking back",
        "planned": [one.version for one in reversed(EVERY[:4])],
        "done": [one.version for one in reversed(EVERY[:4])],
    }
    assert tables(bare) == {"supabase_migrations"}


def test_no_further_than_told(bare: Bare, migrate: Callable[..., str]) -> None:
    migrate("--to", MIDDLE)
    assert list(migrations.applied(bare.connection)) == [one.version for one in EVERY[:4]]
    listed = migrate("--list").splitlines()
    assert listed[3:5] == [f"{EVERY[3]}: applied", f"{EVERY[4]}: pending"]
    rows(bare.connection, "insert into supabase_migrations.schema_migrations values ('1', null, 'foreign')")
    found: list[dict[str, Any]] = json.loads(migrate("--list", "--json"))
    assert found[0] == {"version": "1", "name": "foreign", "applied": True, "in_folder": False, "way_back": False}
    assert migrate("--list").startswith("1_foreign: applied, not in the folder\n")


def test_a_dry_run_does_nothing(bare: Bare, migrate: Callable[..., str]) -> None:
    assert migrate("--dry-run", "--to", EVERY[1].version).splitlines() == [f"applying {one}" for one in EVERY[:2]]
    assert tables(bare) == set()
    migrate("--to", EVERY[1].version)
    assert migrate("--dry-run", "--down-to", "0").splitlines() == [f"taking back {one}" for one in EVERY[1::-1]]
    assert json.loads(migrate("--dry-run", "--down-to", EVERY[0].version, "--json"))["done"] == []
    assert len(migrations.applied(bare.connection)) == 2


def test_the_dsn_may_come_from_the_environment(
    bare: Bare, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("IPAI_MIGRATE_DSN", raising=False)
    assert cli.main(["migrate", "--db", "-", "--list"]) == 2
    monkeypatch.setenv("IPAI_MIGRATE_DSN", bare.dsn)
    assert cli.main(["migrate", "--db", "-", "--list", "--project", str(PROJECT.parent)]) == 0
    assert "pending" in capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["migrate", *arguments]) == 1
    return capsys.readouterr().err


def test_what_fails_says_so_and_leaves_the_rest(bare: Bare, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations/1_core_a.sql").write_text("create table public.a ();")
    (tmp_path / "migrations/2_core_b.sql").write_text("create table public.b ();\ncreate table public.a ();")
    said = refusal(capsys, "--db", bare.dsn, "--project", str(tmp_path))
    assert 'ipai-harness: 2_core_b.sql failed as postgres: relation "a" already exists' in said
    assert rows(bare.connection, "select tablename from pg_tables where schemaname = 'public'") == [("a",)]
    said = refusal(capsys, "--db", bare.dsn, "--project", str(tmp_path), "--down-to", "0")
    assert f"1_core_a has no way back: write {tmp_path}/migrations/down/1_core_a.sql" in said
    said = refusal(capsys, "--db", bare.dsn, "--project", str(tmp_path / "migrations"))
    assert "has no folder migrations" in said
    assert "wrong-password" not in refusal(capsys, "--db", bare.dsn.replace(bare.server.password, "wrong-password"))
    assert "the DSN must be a PostgreSQL URI" in refusal(capsys, "--db", "nonsense")


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://postgres:x@db.{DEPRECATED}.supabase.co/postgres",
        f"postgresql://postgres.{DEPRECATED}:x@aws-0-eu-west-1.pooler.supabase.com:6543/postgres",
        f"host=db.{DEPRECATED}.supabase.co dbname=postgres",
    ],
)
def test_a_deprecated_project_is_refused(capsys: pytest.CaptureFixture[str], dsn: str) -> None:
    assert f"{DEPRECATED} is deprecated and refused" in refusal(capsys, "--db", dsn)


def test_also_when_the_environment_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PGHOST", f"db.{DEPRECATED}.supabase.co")
    assert f"{DEPRECATED} is deprecated and refused" in refusal(capsys, "--db", "dbname=postgres")


def test_also_when_a_service_file_does(
    bare: Bare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows(bare.connection, f'create role "postgres.{DEPRECATED}" login')
    try:
        info = bare.connection.info
        services = tmp_path / "services"
        services.write_text(
            f"[hidden]\nhost={info.host}\nport={info.port}\ndbname={bare.name}\nuser=postgres.{DEPRECATED}\n"
        )
        monkeypatch.setenv("PGSERVICEFILE", str(services))
        assert f"{DEPRECATED} is deprecated and refused" in refusal(capsys, "--db", "service=hidden")
    finally:
        rows(bare.connection, f'drop role "postgres.{DEPRECATED}"')
