"""`ipai-bridge sync realtime`: what is asked of the function, what is printed, how it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ipai_bridge import cli
from ipai_bridge.errors import SyncRefused
from ipai_bridge.sync import client as client_module
from tests.bridge.sync.fakes import Receiver

LINE = {"table": "odoo.webhook_events", "changed": 3, "highest_id": 7, "deleted": 0}
TABLE = {"name": "odoo.webhook_events", "permission": "events:read", "missing": []}


class Function(Receiver):
    """Answers what it is told to."""

    def __init__(self, answer: dict[str, Any] | Exception) -> None:
        super().__init__()
        self.answer = answer
        self.closed = False

    def request(self, body: bytes, *, once: bool = False) -> dict[str, Any]:  # noqa: ARG002
        self.requests.append(json.loads(body))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def asked(environment: None, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """How the client was made; the answer comes from `answers`."""
    made: list[tuple[Any, ...]] = []
    monkeypatch.setenv("IPAI_BRIDGE_URL", "http://127.0.0.1:1/functions/v1")
    return made


def answers(
    monkeypatch: pytest.MonkeyPatch, made: list[tuple[Any, ...]], answer: dict[str, Any] | Exception
) -> Function:
    function = Function(answer)

    def make(url: str, name: str, _secret: object, **options: Any) -> Function:
        made.append((url, name, options["instance"]))
        return function

    monkeypatch.setattr(client_module, "FunctionClient", make)
    return function


def test_a_broadcast(asked: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    function = answers(monkeypatch, asked, {"ok": True, "sent": True, "moved": True, "summary": {"tables": [LINE]}})
    assert cli.main(["sync", "realtime"]) == 0
    assert capsys.readouterr().out == "odoo.webhook_events: 3 changed, 0 gone\n"
    assert cli.main(["sync", "realtime", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"sent": True, "tables": [LINE]}
    assert function.requests == [{"action": "broadcast"}] * 2
    assert function.closed
    assert asked[0] == ("http://127.0.0.1:1/functions/v1", "realtime-sync", "default")


def test_nothing_to_tell(asked: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answers(monkeypatch, asked, {"ok": True, "sent": False, "summary": {"tables": []}})
    assert cli.main(["sync", "realtime"]) == 0
    assert capsys.readouterr().out == "nothing changed: nothing was sent\n"


@pytest.mark.parametrize(
    ("missing", "slots", "code", "said"),
    [
        ([], [], 0, "odoo.webhook_events: told to events:read\nno replication slot: nobody subscribes\n"),
        (["policy"], [{"name": "s", "active": True, "lag_bytes": 5}], 3,
         "odoo.webhook_events: missing: policy\nslot s: active, 5 bytes behind\n"),
    ],
)  # fmt: skip
def test_the_status(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    missing: list[str], slots: list[Any], code: int, said: str,
) -> None:  # fmt: skip
    tables = [TABLE | {"missing": missing}]
    function = answers(monkeypatch, asked, {"ok": True, "complete": not missing, "tables": tables, "slots": slots})
    assert cli.main(["sync", "realtime", "--status"]) == code
    assert capsys.readouterr().out == said
    assert cli.main(["sync", "realtime", "--status", "--json"]) == code
    assert json.loads(capsys.readouterr().out) == {"complete": not missing, "tables": tables, "slots": slots}
    assert function.requests == [{"action": "status"}] * 2


def test_a_refusal(asked: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    function = answers(monkeypatch, asked, SyncRefused("realtime-sync: HTTP 424: realtime_refused"))
    assert cli.main(["sync", "realtime"]) == 1
    assert "sync_refused: realtime-sync: HTTP 424" in capsys.readouterr().err
    assert function.closed


def test_what_is_not_set_is_named(
    environment: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("IPAI_BRIDGE_URL", raising=False)
    assert cli.main(["sync", "realtime"]) == 1
    assert "url is not set" in capsys.readouterr().err
