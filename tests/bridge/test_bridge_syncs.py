"""A scheduled sync from inside Odoo: which transaction reads, which is not kept open, what is said of the end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg2.errors
import pytest

from ipai_bridge import bridge
from ipai_bridge.errors import SettingsError, SyncError
from ipai_bridge.server_action import FACE
from ipai_bridge.sync import kinds
from ipai_bridge.sync.client import FunctionClient
from ipai_bridge.sync.run import Report
from tests.bridge.fake_odoo import Environment, Odoo
from tests.bridge.operating import execute
from tests.bridge.test_server_action import refusal

pytestmark = pytest.mark.stack

face: Any = FACE
COUNTS = dict.fromkeys(("inserted", "updated", "unchanged", "deleted", "error_count"), 0)


def report(status: str, mode: str = "increment", **more: Any) -> Report:
    values: dict[str, Any] = {**COUNTS, "pages": 0, **more}
    return Report(UUID(int=1), status, mode, **values)


class Sync:
    """A sync under the name `probe`: it notes what it was given, and does what it is told to."""

    def __init__(self) -> None:
        self.env: Any = None
        self.client: Any = None
        self.full: bool | None = None
        self.report = report("success", "full")
        self.act: Callable[[Any], object] = lambda _cursor: None

    def __call__(self, source: Any, client: FunctionClient, full: bool) -> Report:
        self.env, self.client, self.full = source._env, client, full
        self.act(self.env.cr)
        return self.report


@pytest.fixture
def sync(monkeypatch: pytest.MonkeyPatch, receiving: Any, odoo: Odoo) -> Sync:
    probe = Sync()
    monkeypatch.setitem(kinds.KINDS, "probe", kinds.Kind("probe-function", probe))
    return probe


def env_of(odoo: Odoo, **context: Any) -> Environment:
    return Environment(odoo.cursor(), odoo.registry, odoo.values, context)


def state_of(database: str, cursor: Any) -> str:
    pid = cursor.connection.info.backend_pid
    return str(execute(database, "select state from pg_stat_activity where pid = %s", (pid,))[0][0])


def test_it_reads_on_a_connection_of_its_own(odoo: Odoo, sync: Sync, database: str, receiving: Any) -> None:
    env = env_of(odoo, allowed_company_ids=[1], tz="Europe/Berlin")
    assert face.sync(env, "probe", full=True) == {"status": "success", "mode": "full", **COUNTS}
    assert sync.full is True
    assert sync.env.cr is not env.cr
    assert sync.env.cr.connection.closed
    assert sync.env.context == {"active_test": False, "lang": "en_US"}
    assert (sync.client.url, sync.client.instance) == (f"{receiving.functions_url}/probe-function", "default")


def test_nothing_can_be_written_on_it(odoo: Odoo, sync: Sync) -> None:
    sync.act = lambda cursor: cursor.execute("create table planted ()")
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        bridge.sync_once(env_of(odoo), "probe")


def test_it_is_one_snapshot(odoo: Odoo, sync: Sync, database: str) -> None:
    execute(database, "create table if not exists counted (n int); truncate counted")
    seen = []

    def read_twice(cursor: Any) -> None:
        for _ in range(2):
            cursor.execute("select count(*) from counted")
            seen.append(cursor.fetchone()[0])
            execute(database, "insert into counted values (1)")

    sync.act = read_twice
    bridge.sync_once(env_of(odoo), "probe")
    assert seen == [0, 0]


def test_a_scheduled_action_does_not_hold_its_transaction(odoo: Odoo, sync: Sync, database: str) -> None:
    execute(database, "create table if not exists counted (n int); truncate counted")
    states = []
    for context in ({"ir_cron_progress_id": 7}, {}):
        env = env_of(odoo, **context)
        env.cr.execute("insert into counted values (1)")
        sync.act = lambda _, cursor=env.cr: states.append(state_of(database, cursor))  # type: ignore[misc]
        bridge.sync_once(env, "probe")
        env.cr.rollback()
    # By hand nothing is committed behind the caller's back.
    assert states == ["idle", "idle in transaction"]
    assert execute(database, "select count(*) from counted") == [(1,)]


def test_its_connection_is_closed_whatever_happens(odoo: Odoo, sync: Sync) -> None:
    def fail(_: Any) -> None:
        raise SyncError("planted")

    sync.act = fail
    assert refusal(face.sync, env_of(odoo), "probe") == "planted [sync_error]"
    assert sync.env.cr.connection.closed


def test_a_run_that_failed_is_an_error_and_a_partial_one_a_warning(
    odoo: Odoo, sync: Sync, caplog: pytest.LogCaptureFixture
) -> None:
    error = {"entity": "project.task", "odoo_id": 7, "error": "not readable"}
    sync.report = report("partial", error_count=1, errors=[error], warnings=[{"module": "studio"}])
    with caplog.at_level(logging.WARNING):
        assert bridge.sync_once(env_of(odoo), "probe")["status"] == "partial"
    assert [record.message for record in caplog.records] == [
        "sync probe: entity project.task, odoo_id 7, error not readable",
        "sync probe: module studio",
    ]
    sync.report = report("failed", error_count=1, errors=[error])
    assert refusal(face.sync, env_of(odoo), "probe") == "the run of probe failed: not readable [sync_error]"
    sync.report = report("failed")
    assert "no reason given" in refusal(face.sync, env_of(odoo), "probe")


def test_only_an_administrator_may(odoo: Odoo, sync: Sync) -> None:
    env = env_of(odoo)
    env.administrator = False
    assert "who must be an administrator" in refusal(face.sync, env, "probe")
    assert sync.env is None


def test_without_settings_it_says_what_is_missing(odoo: Odoo, sync: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IPAI_BRIDGE_URL")
    with pytest.raises(SettingsError, match="url is not set"):
        bridge.sync_once(env_of(odoo), "probe")


def test_every_kind_has_the_function_of_its_own_name() -> None:
    functions = {name: kind.function for name, kind in kinds.KINDS.items()}
    assert {"finance": "shadow-odoo-finance", "modules": "sync-odoo-modules"}.items() <= functions.items()
