"""A real PostgreSQL for the session, and an empty database on it for each test that asks for one."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipai_harness.stack.postgres import Cluster, find

PASSWORD = "loopback-only"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--provider docker`: the tests of the whole stack run on that kind of stack."""
    parser.addoption(
        "--provider", choices=("native", "docker"), default=os.environ.get("IPAI_HARNESS_PROVIDER") or "native",
        help="what the stack of the end-to-end tests runs on (default: IPAI_HARNESS_PROVIDER, or native)",
    )  # fmt: skip


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One server; as root it runs as another user, who must be able to enter its directory."""
    run = Path(tempfile.mkdtemp(prefix="ipai-"))  # short: a unix socket's path has 107 bytes at most
    run.chmod(0o711)
    try:
        cluster = Cluster.create("tests_db", find(16), run, "postgres", {"PATH": os.environ.get("PATH", os.defpath)})
        cluster.initialise()
        cluster.start()
        try:
            cluster.execute(f"alter role postgres password '{PASSWORD}'")
            yield cluster
        finally:
            cluster.stop("immediate")
    finally:
        shutil.rmtree(run)


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """The URL of an empty database."""
    name = f"test_{uuid.uuid4().hex}"
    cluster.execute(f"create database {name} template template0")
    yield cluster.dsn(name, "postgres", PASSWORD)
    cluster.execute(f"drop database {name} with (force)")
