"""Receivers in an environment without proxies and CA bundles, and an empty outbox, each for the time of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ipai_bridge.outbox.sqlite import SqliteOutbox
from tests.bridge.delivery.receiver import (
    Receiver,
    receiver,
    tls_context,
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with receiver() as running:
        yield running


@pytest.fixture
def secure(tmp_path: Path, server: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    context, trusted = tls_context(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    with receiver(context) as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "outbox.db"
    with closing(SqliteOutbox(path)) as outbox:
        outbox.install()
    return path
