"""The schedules, on PostgreSQL 15 with the real pg_cron; and what is said where there is none."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2.errors
import pytest

from ipai_harness.stack import migrations
from ipai_harness.stack.migrations import migrations_of
from ipai_harness.stack.postgres import Cluster
from ipai_harness.stack.supabase import PLATFORM, SUPERUSER
from tests.supabase import pg_cron
from tests.supabase.bare import Bare
from tests.supabase.conftest import PROJECT, Server, rows

JOBS = ["ipai-prune", "ipai-refresh-gold", "ipai-sweep-events"]


class Platform:
    """A server that has pg_cron, as Supabase's has: its superuser creates it and lets the role postgres use it."""

    def __init__(self) -> None:
        installation = pg_cron.install()
        self.directory = Path(tempfile.mkdtemp(prefix="ipai-test-cron-"))
        self.directory.chmod(0o755)  # PostgreSQL's user has to pass.
        self.cluster = Cluster.create("cron", installation, self.directory, SUPERUSER, {"PATH": os.environ["PATH"]})
        self.cluster.initialise()
        with (self.cluster.data / "postgresql.conf").open("a") as settings:
            settings.write(pg_cron.SETTINGS)
        self.cluster.start()
        try:
            self.admin = self.cluster.connect()
            migrations.run_file(self.admin, PLATFORM)
            rows(self.admin, "create extension pg_cron with schema pg_catalog; grant usage on schema cron to postgres")
            self.connection = self.cluster.connect(user="postgres")
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        self.cluster.stop("immediate")
        shutil.rmtree(self.directory)

    def __call__(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return rows(self.connection, statement, *values)


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with pg_cron.or_skipped():
        made = Platform()
    for one in migrations_of(PROJECT):
        migrations.apply(made.connection, one)
    yield made
    made.remove()


def jobs(platform: Platform) -> list[str]:
    return [str(name) for (name,) in platform("select jobname from cron.job order by 1")]


def test_the_migrations_schedule_the_jobs(platform: Platform) -> None:
    assert not [notice for notice in platform.connection.notices if "was scheduled" in notice]
    assert platform("select jobname, schedule, command, username, active from cron.job order by 1") == [
        ("ipai-prune", "37 * * * *", "select * from ops.prune()", "postgres", True),
        ("ipai-refresh-gold", "7 * * * *", "select * from ops.refresh_views()", "postgres", True),
        (
            "ipai-sweep-events",
            "* * * * *",
            "select * from odoo.sweep_events(p_limit => 5000)",
            "postgres",
            True,
        ),
    ]
    assert platform("select job, scheduled, problem from ops.schedules()") == [(job, True, None) for job in JOBS]


def test_scheduling_again_changes_nothing(platform: Platform) -> None:
    before = platform("select * from cron.job order by 1")
    assert platform("select ops.schedule()") == [(None,)]
    assert platform("select * from cron.job order by 1") == before


def test_a_schedule_may_be_changed_and_switched_off(platform: Platform) -> None:
    with contextlib.closing(platform.cluster.connect(user="postgres")) as service:
        rows(service, "set role service_role")
        rows(service, "update ops.jobs set schedule = '*/5 * * * *' where job = 'ipai-refresh-gold'")
        rows(service, "update ops.jobs set enabled = false where job = 'ipai-prune'")
        told = "select job, scheduled, problem from ops.schedules()"
        assert rows(service, told)[:2] == [
            ("ipai-prune", True, "switched off in ops.jobs, and scheduled all the same: select ops.schedule()"),
            ("ipai-refresh-gold", False, "not scheduled as ops.jobs says: select ops.schedule()"),
        ]
        assert rows(service, "select ops.schedule()") == [(None,)]
        assert rows(service, told)[:2] == [
            ("ipai-prune", False, "switched off in ops.jobs"),
            ("ipai-refresh-gold", True, None),
        ]
        assert jobs(platform) == JOBS[1:]
        rows(service, "update ops.jobs set schedule = '7 * * * *', enabled = true where job <> 'ipai-sweep-events'")
        rows(service, "update ops.jobs set schedule = '37 * * * *' where job = 'ipai-prune'")
        assert rows(service, "select ops.schedule()") == [(None,)]
        with pytest.raises(psycopg2.errors.CheckViolation):
            rows(service, "update ops.jobs set schedule = 'daily; drop'")
    assert jobs(platform) == JOBS


def test_the_way_back_unschedules_ours_only(platform: Platform) -> None:
    platform("select cron.schedule('theirs', '0 3 * * *', 'select 1')")
    schedule = next(one for one in migrations_of(PROJECT) if one.name == "ops_schedule")
    after = [one for one in migrations_of(PROJECT) if one.version >= schedule.version]
    before = platform("select jobname, schedule, command from cron.job order by 1")
    for one in reversed(after):
        migrations.revert(platform.connection, one)
    assert jobs(platform) == ["theirs"]
    for one in after:
        migrations.apply(platform.connection, one)
    assert platform("select jobname, schedule, command from cron.job order by 1") == before
    platform("select cron.unschedule('theirs')")


@pytest.mark.timeout(150)
def test_a_tick_of_the_clock_does_the_work(platform: Platform) -> None:
    """Once, for all of the jobs: pg_cron ticks every minute."""
    platform("insert into odoo.instances (name) values ('cron')")
    event = (
        "insert into odoo.webhook_events (instance_id, idempotency_key, event_type, aggregate_type, aggregate_id, "
        "payload, received_at, status, error_message, processed_at, next_retry_at) select id, gen_random_uuid(), "
        "'a.b', 'a', %s, '{}', now() - interval '5 min', %s, %s, %s, %s from odoo.instances returning id"
    )
    platform(event, "1", "pending", None, None, None)
    platform(event, "2", "failed", "once", "2026-01-01", "2026-01-01")
    platform("create schema if not exists scout_gold")
    platform("create materialized view scout_gold.ticked as select clock_timestamp() as at with no data")
    platform("insert into ops.retention values ('unknown', '1 day', '1 day', 'planted')")
    platform("update ops.jobs set schedule = '* * * * *'")
    platform("select ops.schedule()")
    try:
        done = _within(
            100, platform, "select count(*) = 3 from ops.schedules() where last_status in ('succeeded', 'failed')"
        )
        assert done, platform("select * from cron.job_run_details")
        assert platform("select status, count(*) from odoo.webhook_events group by 1") == [("completed", 2)]
        assert platform("select at < now() from scout_gold.ticked") == [(True,)]
        assert platform("select job, last_status, last_run < now(), problem is null from ops.schedules()") == [
            ("ipai-prune", "failed", True, False),
            ("ipai-refresh-gold", "succeeded", True, True),
            ("ipai-sweep-events", "succeeded", True, True),
        ]
        assert "ops.prune knows no unknown" in platform("select problem from ops.schedules()")[0][0]
    finally:
        platform("delete from ops.retention where subject = 'unknown'")
        platform("drop materialized view scout_gold.ticked")
    aged = "update cron.job_run_details set end_time = now() - interval '15 days' where jobid = %s"
    [(swept,)] = platform("select jobid from cron.job where jobname = 'ipai-sweep-events'")
    rows(platform.admin, aged, swept)
    pruned = dict(platform("select * from ops.prune()"))
    assert pruned["cron.job_run_details"] >= 1
    assert platform("select last_run from ops.schedules() where job = 'ipai-sweep-events'") == [(None,)]


def _within(seconds: float, platform: Platform, condition: str) -> bool:
    wait = threading.Event()
    for _ in range(int(seconds * 2)):
        if platform(condition) == [(True,)]:
            return True
        wait.wait(0.5)
    return False


# ------------------------------------------------------------------------------------------------- without pg_cron


def test_where_there_is_none_it_is_said(servers: Callable[[int], Server]) -> None:
    bare = Bare(servers(16))
    try:
        for one in migrations_of(PROJECT):
            migrations.apply(bare.connection, one)
        [notice] = [one for one in bare.connection.notices if "was scheduled" in one]
        assert "nothing was scheduled (the extension pg_cron is not to be had on this server)" in notice
        found = rows(bare.connection, "select job, scheduled, last_run, problem from ops.schedules()")
        assert [row[:3] for row in found] == [(job, False, None) for job in JOBS]
        assert found[2][3] == (
            'there is no pg_cron here: call "select * from odoo.sweep_events(p_limit => 5000)" by other means'
        )
    finally:
        bare.drop()


def test_where_it_is_not_loaded_the_schema_goes_in_all_the_same(servers: Callable[[int], Server]) -> None:
    with pg_cron.or_skipped():
        pg_cron.install()
    bare = Bare(servers(15))
    try:
        for one in migrations_of(PROJECT):
            migrations.apply(bare.connection, one)
        [notice] = [one for one in bare.connection.notices if "was scheduled" in one]
        assert "permission denied to create extension" in notice
    finally:
        bare.drop()
