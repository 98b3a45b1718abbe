"""Realtime, with the official JavaScript client: in Deno always, in Node where there is one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipai_harness.stack import paths
from tests.supabase.conftest import DENO, Edge, Sender, deno_environment, run_deno, until
from tests.supabase.listening import LIVE, token

SCRIPT = Path(__file__).with_name("subscriber.mjs")
VERSION = "2.109.0"  # as in the script
WS = "8.18.3"
READER = token("authenticated", "events:read")
EVENTS = {"event": "*", "schema": "odoo", "table": "webhook_events"}


def in_deno() -> tuple[list[str], dict[str, str]]:
    run_deno("cache", "--no-config", str(SCRIPT))
    return [DENO, "run", "--quiet", "--no-config", "--allow-net", "--allow-env", str(SCRIPT)], deno_environment()


def in_node() -> tuple[list[str], dict[str, str]]:
    folder = paths.cache() / f"node-supabase-js-{VERSION}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "package.json").write_text('{"private": true}')
        packages = [f"@supabase/supabase-js@{VERSION}", f"ws@{WS}"]
        options = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(
            ["npm", "install", *options, *packages], cwd=folder, check=True, timeout=100, capture_output=True
        )
        (folder / "complete").touch()
    return ["node", str(SCRIPT)], {"PATH": os.environ["PATH"], "SUPABASE_JS": str(folder), "NODE_NO_WARNINGS": "1"}


RUNTIMES: dict[str, Callable[[], tuple[list[str], dict[str, str]]]] = {"deno": in_deno}
if shutil.which("node") and shutil.which("npm"):
    RUNTIMES["node"] = in_node


class JsSubscriber:
    """The script, and what it said."""

    def __init__(self, runtime: str, port: int, token: str, tables: list[dict[str, str]], **options: bool) -> None:
        argv, environment = RUNTIMES[runtime]()
        asked = {"url": f"http://127.0.0.1:{port}", "apikey": ANON, "token": token, "tables": tables, **options}
        self.process = subprocess.Popen(
            [*argv, json.dumps(asked)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.lines: list[dict[str, Any]] = []
        self.noise: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self.lines.append(json.loads(line))
            else:
                self.noise.append(line)

    def heard(self, kind: str) -> list[Any]:
        return [line[kind] for line in self.lines if kind in line]

    def until(self, kind: str, count: int = 1) -> list[Any]:
        until(lambda: len(self.heard(kind)) >= count or self.process.poll() is not None, f"{count} {kind}")
        assert len(self.heard(kind)) >= count, (self.lines, self.noise)
        return self.heard(kind)

    def say(self, payload: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(payload) + "\n")
        self.process.stdin.flush()

    def close(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            code = self.process.wait(10)
        self._reader.join(10)
        self.process.stdout.close()
        return code


ANON = token("anon")


@pytest.fixture(params=sorted(RUNTIMES))
def subscribe(request: pytest.FixtureRequest, edge: Edge) -> Iterator[Callable[..., JsSubscriber]]:
    made: list[JsSubscriber] = []

    def one(token: str = READER, *tables: dict[str, str], **options: bool) -> JsSubscriber:
        made.append(JsSubscriber(request.param, edge.port, token, list(tables), **options))
        return made[-1]

    yield one
    for each in made:
        each.close()


def test_an_event_is_heard_unchanged(subscribe: Callable[..., JsSubscriber], sender: Sender) -> None:
    subscriber = subscribe(READER, EVENTS)
    assert subscriber.until("system") == [LIVE]
    assert subscriber.heard("state") == ["SUBSCRIBED"]
    sender.post(sender.body(payload={"name": "Łódź ☃", "amount": 1150.5}))
    arrived, completed = subscriber.until("change", 2)
    assert (arrived["eventType"], completed["eventType"]) == ("INSERT", "UPDATE")
    assert (arrived["schema"], arrived["table"], arrived["errors"]) == ("odoo", "webhook_events", None)
    assert arrived["new"]["payload"] == {"name": "Łódź ☃", "amount": 1150.5}
    assert completed["new"]["status"] == "completed"
    assert completed["old"] == {"id": arrived["new"]["id"]}


def test_a_filter_and_who_may_not_see(subscribe: Callable[..., JsSubscriber], sender: Sender) -> None:
    reader = subscribe(READER, EVENTS | {"event": "INSERT", "filter": "aggregate_id=eq.js-wanted"})
    without = subscribe(token("authenticated"), EVENTS)
    anonymous = subscribe(ANON, EVENTS)
    # Joins as anon, who may not filter by this column, and signs in then.
    late = subscribe(READER, EVENTS | {"event": "INSERT", "filter": "aggregate_id=eq.js-wanted"}, late=True)
    for each in (reader, without, anonymous):
        assert each.until("system") == [LIVE]
    assert "invalid column for filter" in late.until("system")[0]
    until(lambda: late.heard("system")[-1] == LIVE, "signed in")
    sender.post(sender.body(aggregate_id="js-other", payload={"what": "Top secret"}))
    sender.post(sender.body(aggregate_id="js-wanted"))
    assert reader.until("change")[0]["new"]["aggregate_id"] == "js-wanted"
    told = anonymous.until("change", 3)
    assert {(one["errors"][0], str(one["new"]), str(one["old"])) for one in told} == {
        ("Error 401: Unauthorized", "{}", "{}")
    }
    assert "Top secret" not in json.dumps(anonymous.lines)
    assert without.heard("change") == []
    assert len(reader.heard("change")) == 1
    assert [one["new"]["aggregate_id"] for one in late.until("change")] == ["js-wanted"]


def test_a_broadcast_goes_round_in_binary_frames_too(subscribe: Callable[..., JsSubscriber]) -> None:
    one, two = subscribe(), subscribe()
    for each in (one, two):
        each.until("state")
    one.say({"to": "you", "n": 1})
    assert one.until("sent") == ["ok"]
    assert two.until("broadcast") == [{"event": "said", "payload": {"to": "you", "n": 1}}]
    assert one.heard("broadcast") == []


def test_it_leaves_in_peace(subscribe: Callable[..., JsSubscriber]) -> None:
    subscriber = subscribe(READER, EVENTS)
    subscriber.until("system")
    assert subscriber.close() == 0
    assert subscriber.heard("state") == ["SUBSCRIBED", "CLOSED"]


def test_a_refused_private_channel(subscribe: Callable[..., JsSubscriber]) -> None:
    subscriber = subscribe(ANON, private=True)
    assert subscriber.until("state")[0] == "CHANNEL_ERROR"
    assert "You do not have permissions to read" in str(subscriber.lines[0]["error"])
