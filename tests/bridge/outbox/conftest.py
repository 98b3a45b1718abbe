"""The conformance suite runs on each database that an outbox can lie in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ipai_bridge.outbox.store import Outbox
from tests.bridge.outbox.backends import Backend, PostgresBackend, SqliteBackend


@pytest.fixture(params=["postgres", "sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    if request.param == "sqlite":
        yield SqliteBackend(tmp_path / "outbox.db")
    else:
        yield PostgresBackend(request.getfixturevalue("database"))


@pytest.fixture
def outbox(backend: Backend) -> Iterator[Outbox]:
    with closing(backend.outbox()) as outbox:
        outbox.install()
        yield outbox
