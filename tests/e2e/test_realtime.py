"""From a server action in Odoo to a subscriber with the official client; and the summary, by cron's command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from ipai_bridge.secret import Secret
from ipai_bridge.sync import finance
from ipai_bridge.sync.client import FunctionClient
from ipai_bridge.sync.source import RpcSource
from tests.e2e.scene import Scene, wait_for
from tests.supabase.listening import EVENTS, PROJECTS, Subscriber, token

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def subscriber(scene: Scene) -> Iterator[Subscriber]:
    env = scene.env
    reader = token("authenticated", "events:read", "shadow:read", secret=env["jwt_secret"])
    mine = Subscriber(env["supabase_url"], reader, (EVENTS, PROJECTS), apikey=env["anon_key"]).live()
    yield mine
    mine.close()


def of(subscriber: Subscriber, table: str, key: str, value: object) -> list[dict[str, Any]]:
    """The changes of one record."""
    return [
        change
        for change in list(subscriber.changes)
        if change["table"] == table and (change.get("record") or change["old_record"]).get(key) == value
    ]


def command(env: dict[str, str], *arguments: str) -> tuple[int, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "ipai_bridge", "sync", "realtime", "--json", *arguments],
        env=os.environ | {
            "IPAI_BRIDGE_URL": env["functions_url"], "IPAI_BRIDGE_SECRET_FILE": env["secret_file"],
            "IPAI_BRIDGE_INSTANCE": env["instance"],
        },
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_from_a_server_action_to_a_subscriber(scene: Scene, subscriber: Subscriber) -> None:
    scene.emit(number=7)
    scene.until_completed(1)
    arrived, completed = wait_for(
        lambda: len(found := of(subscriber, "webhook_events", "aggregate_id", str(scene.partner))) >= 2 and found,
        "the event is heard twice",
    )
    assert (arrived["type"], arrived["record"]["payload"]) == ("INSERT", {"number": 7})
    assert (completed["type"], completed["record"]["status"]) == ("UPDATE", "completed")


def test_a_project_from_odoo_is_heard_of_until_it_is_deleted(scene: Scene, subscriber: Subscriber) -> None:
    env = scene.env

    def sync() -> None:
        client = FunctionClient(
            env["functions_url"], finance.FUNCTION, Secret(env["secret"]), instance="heard", timeout=10
        )
        source = RpcSource(env["odoo_url"], env["odoo_db"], env["odoo_login"], env["odoo_password"])
        with closing(client):
            assert finance.sync_finance(source, client, full=True).status == "success"

    def heard(count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = wait_for(
            lambda: len(changes := of(subscriber, "shadow_projects", "odoo_id", project)) >= count and changes,
            f"{count} changes of the project",
        )
        return found

    project = scene.odoo.create("project.project", {"name": "Heard"})
    sync()
    heard(1)
    scene.odoo.call("project.project", "write", [project], {"name": "Renamed"})
    sync()
    heard(2)
    scene.odoo.call("project.project", "unlink", [project])
    sync()
    changes = heard(3)
    assert [change["type"] for change in changes] == ["INSERT", "UPDATE", "DELETE"]
    assert [change["record"]["name"] for change in changes[:2]] == ["Heard", "Renamed"]


def test_the_command_tells_the_summary_once(scene: Scene) -> None:
    env = scene.env
    reader = token("authenticated", "events:read", secret=env["jwt_secret"])
    subscriber = Subscriber(env["supabase_url"], reader, (), private=True, apikey=env["anon_key"])
    try:
        scene.emit()
        scene.until_completed(1)
        code, done = command(env)
        assert (code, done["sent"]) == (0, True)
        wait_for(lambda: subscriber.broadcasts, "the summary")
        assert subscriber.broadcasts[0]["payload"]["tables"] == done["tables"]
        assert done["tables"][0]["table"] == "odoo.webhook_events"
        assert command(env) == (0, {"sent": False, "tables": []})
    finally:
        subscriber.close()
    code, found = command(env, "--status")
    assert code == (0 if found["complete"] else 3)
    missing = {table["name"]: table["missing"] for table in found["tables"] if table["missing"]}
    assert set(missing) <= {"catalog.assets"}
