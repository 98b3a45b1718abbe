"""`ipai-bridge relay` as one pass and as a process, to a real receiver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bridge.delivery.receiver import Receiver, answer
from tests.bridge.operating import SECRET, Run, emit, own_role, refused, statuses
from tests.conftest import PASSWORD

pytestmark = pytest.mark.stack


def test_relay_once(run: Run, database: str, receiving: Receiver) -> None:
    assert run("relay", "--once").json == {"delivered": 0, "again": 0, "dead": 0}
    first, second = emit(database, "1", "2")
    receiving.script.extend([answer(), answer(422, b'{"ok":false}')])
    assert run("relay", "--once").json == {"delivered": 1, "again": 0, "dead": 1}
    assert sorted(statuses(database).values()) == ["dead", "delivered"]
    assert {request.header("x-idempotency-key") for request in receiving.requests} == {first, second}


def test_relay_once_without_an_address_or_a_secret(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(run("relay", "--once"), "settings_error").startswith("url is not set")
    monkeypatch.setenv("IPAI_BRIDGE_URL", "https://example.org/functions/v1")
    monkeypatch.delenv("IPAI_BRIDGE_SECRET")
    assert refused(run("relay", "--once"), "settings_error").startswith("secret is not set")
    monkeypatch.setenv("IPAI_BRIDGE_SECRET", SECRET)
    monkeypatch.setenv("IPAI_BRIDGE_LEASE", "10.5")
    assert refused(run("relay", "--once"), "settings_error").startswith("lease must be more than")


def test_the_signals_are_as_they_were(run: Run, receiving: Receiver) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert run("relay", "--once").code == 0
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_relay_that_may_not_install(run: Run, database: str, receiving: Receiver) -> None:
    said = refused(run("relay", "--once", "--dsn", own_role(database)), "outbox_error")
    assert "permission denied" in said


class Process:
    """`python -m ipai_bridge relay`, and what it has said so far."""

    def __init__(self, log: Path, dsn: str) -> None:
        self._log = log
        environment = os.environ | {"IPAI_BRIDGE_DSN": dsn, "IPAI_BRIDGE_POLL_INTERVAL": "60"}
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ipai_bridge", "relay"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )

    @property
    def said(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def eventually(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, self.said
            threading.Event().wait(0.01)

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        out, _ = self._process.communicate(timeout=30)
        assert out == b""
        for hidden in (SECRET, PASSWORD, "Traceback"):
            assert hidden not in self.said
        return self._process.returncode

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def relaying(tmp_path: Path, dsn: str) -> Iterator[Process]:
    process = Process(tmp_path / "relay.log", dsn)
    try:
        yield process
    finally:
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_relay(number: signal.Signals, database: str, receiving: Receiver, tmp_path: Path) -> None:
    (first,) = emit(database, "1")
    with relaying(tmp_path, database) as process:
        process.eventually(lambda: statuses(database) == {first: "delivered"})
        process.terminate(number)
        assert process.end() == 0
        assert f"{number.name}: ended" in process.said
        assert f"delivered id={first}" in process.said
    assert [request.header("x-idempotency-key") for request in receiving.requests] == [first]


def test_the_relay_finishes_the_request_under_way(database: str, receiving: Receiver, tmp_path: Path) -> None:
    (first,) = emit(database, "1")
    go_on = threading.Event()

    def late(receiver: Receiver, connection: object, request: object) -> bool:
        assert go_on.wait(30)
        return answer()(receiver, connection, request)  # type: ignore[arg-type]

    receiving.script.append(late)
    with relaying(tmp_path, database) as process:
        process.eventually(lambda: bool(receiving.requests))
        process.terminate()
        go_on.set()
        assert process.end() == 0
    assert statuses(database) == {first: "delivered"}


def test_an_endpoint_that_is_gone_ends_the_relay(database: str, receiving: Receiver, tmp_path: Path) -> None:
    (first,) = emit(database, "1")
    receiving.default = answer(410, b"{}")
    with relaying(tmp_path, database) as process:
        assert process.end() == 1
        assert process.said.splitlines()[-1].startswith("ipai-bridge: endpoint_gone: the receiver answered 410")
    assert statuses(database) == {first: "pending"}
