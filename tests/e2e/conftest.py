"""One stack for the whole session, native or in Docker: real Odoo, two PostgreSQL, the Edge Function, the relay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from ipai_harness.drive.odoo import OdooSession
from ipai_harness.stack import provider
from ipai_harness.stack.handle import Stack
from tests.e2e.drifting import Drift
from tests.e2e.scene import Scene


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    with provider.make(request.config.getoption("--provider")) as stack:
        yield stack


@pytest.fixture(scope="session")
def odoo(stack: Stack) -> OdooSession:
    env = stack.env()
    return OdooSession(env["odoo_url"], env["odoo_db"], env["odoo_login"], env["odoo_password"])


@pytest.fixture
def scene(stack: Stack, odoo: OdooSession) -> Iterator[Scene]:
    """The stack with every part running before and after the test."""
    scene = Scene(stack, odoo)
    yield scene
    scene.mend()


@pytest.fixture
def drift(scene: Scene) -> Iterator[Drift]:
    with closing(Drift(scene)) as drift:
        drift.finance(full=True)
        yield drift
        scene.supabase_sql("delete from odoo_seed.tasks")
