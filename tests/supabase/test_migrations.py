"""Every migration has a way back, and it leads exactly to where the migration began: asked of PostgreSQL's catalogs."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from ipai_harness.errors import MigrationFailed
from ipai_harness.stack import migrations
from ipai_harness.stack.migrations import Connection, migrations_of
from tests.supabase.bare import Bare
from tests.supabase.conftest import PROJECT, Server, majors, rows

SNAPSHOT = Path(__file__).with_name("catalog_snapshot.sql").read_text()
LAYERS = ["auth", "core", "erp", "engine", "odoo", "ops", "cleanup"]


@pytest.fixture(params=majors())
def bare(request: pytest.FixtureRequest, servers: Callable[[int], Server]) -> Iterator[Bare]:
    made = Bare(servers(request.param))
    yield made
    made.drop()


def snapshot(connection: Connection) -> list[str]:
    """All that a migration may make, as lines: what the catalogs have, and what is in each table."""
    found = [str(row[0]) for row in rows(connection, SNAPSHOT)]
    tables = re.findall(r"^relation (\S+) r of", "\n".join(found), re.MULTILINE)
    # Without the moments: what is made again is made later.
    row = "(to_jsonb(t) - 'created_at' - 'updated_at')::text"
    content = f"select '{{0}}', md5(string_agg({row}, '|' order by {row})) from {{0}} t"
    filled = rows(connection, " union all ".join(map(content.format, tables))) if tables else []
    return found + sorted(f"rows of {table}: {digest}" for table, digest in filled if digest)


def difference(before: list[str], after: list[str]) -> list[str]:
    return [
        line for line in difflib.unified_diff(before, after, lineterm="", n=0) if line[:2] not in ("--", "++", "@@")
    ]


def test_each_way_back_leads_to_where_its_migration_began(bare: Bare) -> None:
    every = migrations_of(PROJECT)
    before: dict[str, list[str]] = {}
    for one in every:
        before[one.version] = snapshot(bare.connection)
        assert migrations.apply(bare.connection, one)
        assert difference(before[one.version], snapshot(bare.connection)), f"{one} makes nothing that is looked at"
    whole = snapshot(bare.connection)
    for one in reversed(every):
        assert one.down.is_file(), f"{one} has no way back"
        assert migrations.revert(bare.connection, one)
        assert difference(before[one.version], snapshot(bare.connection)) == [], (
            f"the way back of {one} leads elsewhere"
        )
    for one in every:
        assert migrations.apply(bare.connection, one)
    assert difference(whole, snapshot(bare.connection)) == []


def test_what_is_in_the_tables_does_not_keep_them(bare: Bare) -> None:
    every = migrations_of(PROJECT)
    for one in every:
        migrations.apply(bare.connection, one)
    for file in migrations.seed_files(PROJECT):
        migrations.run_file(bare.connection, file)
    for one in reversed(every):
        migrations.revert(bare.connection, one)
    assert migrations.applied(bare.connection) == {}


PLANTED = [
    "create schema planted",
    "create table odoo.planted ()",
    "alter table odoo.instances add planted text",
    "alter table odoo.instances alter name drop not null",
    "alter table odoo.instances drop constraint instances_name_form",
    "alter table odoo.instances disable row level security",
    "alter table odoo.instances replica identity full",
    "create index planted on odoo.instances (active)",
    "create function odoo.planted() returns int language sql set search_path = '' as 'select 1'",
    "alter function odoo.retry_delay(integer) volatile",
    "alter view odoo_seed.v_seed reset (security_invoker)",
    "create trigger planted before delete on odoo.instances for each row execute function odoo.refuse_change()",
    "create policy planted on odoo.instances for select to authenticated using (true)",
    "grant select on odoo.instances to authenticated",
    "grant select (name) on odoo.instances to authenticated",
    "grant usage on schema ops to authenticated",
    "grant execute on function odoo.retry_delay(integer) to authenticated",
    "alter publication supabase_realtime add table odoo.instances",
    "alter default privileges in schema odoo grant select on tables to anon",
    "comment on table odoo.instances is 'planted'",
    "insert into odoo.instances (name) values ('planted')",
    "create type odoo.planted as enum ('a')",
    "create sequence odoo.planted",
]


def test_the_snapshot_sees_whatever_is_left_behind(servers: Callable[[int], Server]) -> None:
    bare = Bare(servers(majors()[0]))
    try:
        for one in migrations_of(PROJECT):
            migrations.apply(bare.connection, one)
        before = snapshot(bare.connection)
        for statement in PLANTED:
            rows(bare.connection, f"begin; {statement}")
            after = snapshot(bare.connection)
            rows(bare.connection, "rollback")
            assert difference(before, after), statement
        assert difference(before, snapshot(bare.connection)) == []
    finally:
        bare.drop()


def test_the_layers_stand_in_their_order() -> None:
    layers = [one.name.partition("_")[0] for one in migrations_of(PROJECT)]
    assert [layer for layer, _ in itertools.groupby(layers)] == [layer for layer in LAYERS if layer in layers]
    assert set(layers) <= set(LAYERS)


def test_no_way_back_without_its_migration() -> None:
    names = {one.file.name for one in migrations_of(PROJECT)}
    assert {file.name for file in (PROJECT / "migrations" / migrations.WAYS_BACK).iterdir()} - names == set()


def test_the_check_knows_every_schema(bare: Bare) -> None:
    schemas = "select nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'supabase_migrations'"
    before = set(rows(bare.connection, schemas))
    for one in migrations_of(PROJECT):
        migrations.apply(bare.connection, one)
    made = {name for (name,) in set(rows(bare.connection, schemas)) - before}
    assert made - set(rows(bare.connection, "select ops.our_schemas()")[0][0]) == set()
    assert rows(bare.connection, "select * from ops.what_stands_open()") == []


# ------------------------------------------------------------------------------------------- the last layer's check

OPEN = {
    "alter table odoo.instances disable row level security": ("odoo.instances", "row-level security is off"),
    "alter view odoo_seed.v_seed reset (security_invoker)": ("odoo_seed.v_seed", "not security_invoker"),
    "alter function odoo.retry_delay(integer) reset search_path": ("odoo.retry_delay(integer)", "search_path"),
}
CLOSED = {
    "grant usage on schema odoo to anon": "odoo: anon may use the schema",
    "grant usage on schema odoo to public": "odoo: anon may use the schema",
    "grant select on odoo.instances to anon": "odoo.instances: anon holds a right",
    "grant update (name) on odoo.instances to public": "odoo.instances: anon holds a right",
    "grant usage on sequence odoo.instances_id_seq to anon": "odoo.instances_id_seq: anon holds a right",
    "grant execute on function odoo.retry_delay(integer) to public": "odoo.retry_delay(integer): anon may execute",
}


@pytest.fixture
def last(bare: Bare) -> Callable[[str], None]:
    """Applies everything with a fault planted before the last layer."""

    def planted(statement: str) -> None:
        *below, check = migrations_of(PROJECT)
        assert check.name == "cleanup_check"
        for one in below:
            migrations.apply(bare.connection, one)
        rows(bare.connection, statement)
        migrations.apply(bare.connection, check)

    return planted


@pytest.mark.parametrize("statement", OPEN)
def test_what_stands_open_does_not_go_in(bare: Bare, last: Callable[[str], None], statement: str) -> None:
    with pytest.raises(MigrationFailed, match=r"must not go in") as caught:
        last(statement)
    for part in OPEN[statement]:
        assert part in str(caught.value)
    assert "20260101000700" not in migrations.applied(bare.connection)


@pytest.mark.parametrize("statement", CLOSED)
def test_what_anon_holds_is_taken_away(bare: Bare, last: Callable[[str], None], statement: str) -> None:
    last(statement)
    assert [notice for notice in bare.connection.notices if CLOSED[statement] in notice]
    assert rows(bare.connection, "select * from ops.what_stands_open()") == []


# ----------------------------------------------------------------------------------------------- applying by itself


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project of three migrations, to be spoilt."""
    folder = tmp_path / "project"
    (folder / "migrations/down").mkdir(parents=True)
    for number, name in enumerate("abc", 1):
        (folder / f"migrations/{number}_core_{name}.sql").write_text(f"create table public.{name} (id int);\n")
        (folder / f"migrations/down/{number}_core_{name}.sql").write_text(f"drop table public.{name};\n")
    return folder


def tables(connection: Connection) -> list[str]:
    found = rows(connection, "select relname from pg_class where relnamespace = 'public'::regnamespace order by 1")
    return [str(name) for (name,) in found]


def test_a_migration_that_fails_leaves_nothing(bare: Bare, project: Path) -> None:
    first, second, _ = migrations_of(project)
    second.file.write_text("create table public.b (id int);\n\nselect nothing;\n")
    migrations.apply(bare.connection, first)
    with pytest.raises(MigrationFailed, match=r'2_core_b\.sql, line 3 failed as postgres: column "nothing"'):
        migrations.apply(bare.connection, second)
    assert tables(bare.connection) == ["a"]
    assert migrations.applied(bare.connection) == {"1": "core_a"}


def test_what_one_sets_does_not_reach_the_next(bare: Bare, project: Path) -> None:
    first, second, _ = migrations_of(project)
    first.file.write_text("set search_path = pg_catalog; set role anon; reset role;")
    second.file.write_text("create table b (id int);")
    for one in (first, second):
        migrations.apply(bare.connection, one)
    assert tables(bare.connection) == ["b"]


def test_a_file_of_comments_is_a_migration_too(bare: Bare, project: Path) -> None:
    first = migrations_of(project)[0]
    first.file.write_text("-- to be done: 100 % of it\n")
    assert migrations.apply(bare.connection, first)
    assert rows(bare.connection, "select statements from supabase_migrations.schema_migrations") == [
        (["-- to be done: 100 % of it\n"],)
    ]


def test_who_comes_second_finds_it_done(bare: Bare, project: Path) -> None:
    first = migrations_of(project)[0]
    assert migrations.apply(bare.connection, first)
    with contextlib.closing(psycopg2.connect(bare.dsn)) as other:
        assert not migrations.apply(other, first)
        assert migrations.revert(other, first)
    assert not migrations.revert(bare.connection, first)


def test_what_is_refused(project: Path) -> None:
    every = migrations_of(project)
    for recorded, to, said in [
        ({"2": "core_b"}, None, "1_core_a is not applied, and comes before 2"),
        ({"1": "core_a", "9": "gone"}, None, "9_gone is applied, and is not in the folder"),
        ({}, "7", "no migration has the version 7"),
    ]:
        with pytest.raises(MigrationFailed, match=re.escape(said)):
            migrations.pending(every, recorded, to)
    every[2].down.unlink()
    recorded = {one.version: one.name for one in every}
    with pytest.raises(MigrationFailed, match=r"3_core_c has no way back: write "):
        migrations.to_revert(every, recorded, "1")
    assert migrations.to_revert(every, recorded, "3") == []
    shutil.copy(every[0].file, project / "migrations/1_core_again.sql")
    with pytest.raises(MigrationFailed, match="the version 1 is there twice"):
        migrations_of(project)


def test_the_seed_is_what_the_configuration_says(project: Path) -> None:
    for name in ("seeds/2.sql", "seeds/1.sql", "seed.sql"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("")
    config = project / "config.toml"

    def said(text: str) -> list[str]:
        config.write_text(text)
        return [file.relative_to(project).as_posix() for file in migrations.seed_files(project)]

    assert said("") == ["seed.sql"]
    assert said('[db.seed]\nsql_paths = ["./seeds/*.sql", "seed.sql"]') == ["seeds/1.sql", "seeds/2.sql", "seed.sql"]
    assert said('[db.seed]\nsql_paths = ["seeds/2.sql", "./seeds/*.sql"]') == ["seeds/2.sql", "seeds/1.sql"]
    assert said("[db.seed]\nenabled = false") == []
    with pytest.raises(MigrationFailed, match="is not TOML"):
        said("[db.seed")
