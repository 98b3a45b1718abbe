"""The one plugin of the acceptance suite: its options, its stack, its steps, its tags.

    pytest features                 on a stack of its own, which the run starts and removes (each xdist worker's own)
    pytest features --stack NAME    on one that `ipai-harness up --name NAME` started

Tags are markers, so `-m law_4` selects. `odoo`, `database` and `stack` say what a scenario needs: Odoo, a look into the
databases, parts that it may stop.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ipai_harness.drive.odoo import OdooSession
from ipai_harness.stack.native import NativeStack
from ipai_harness.steps import witness
from ipai_harness.steps.world import World

pytest_plugins = (
    "ipai_harness.steps.odoo",
    "ipai_harness.steps.delivery",
    "ipai_harness.steps.receiver",
    "ipai_harness.steps.supabase",
    "ipai_harness.steps.syncs",
    "ipai_harness.steps.drift",
    "ipai_harness.steps.catalog",
)

TAGS = {
    **{f"law_{number}": f"law {number} of the design" for number in range(1, 11)},
    "webhook": "sync pattern: events out of Odoo",
    "modules": "sync pattern: the inventory of modules",
    "finance": "sync pattern: the shadow of projects and tasks",
    "catalog": "sync pattern: the asset catalog",
    "realtime": "sync pattern: changes to subscribers",
    "documents": "sync pattern: attachments into storage",
    "schedules": "what runs by itself on the Supabase side",
    "seeds": "the project's seed data",
    "security": "who may do what",
    "handlers": "it registers a handler of its own",
    "odoo": "needs Odoo",
    "database": "needs a look into Supabase's database",
    "stack": "stops and starts parts of the stack",
}
"""Every tag of the features, and what it says."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The suite's own options."""
    group = parser.getgroup("ipai-harness", "the acceptance suite of ipai_bridge")
    group.addoption("--stack", metavar="NAME", help="run on this stack, which is up already, and leave it up")
    group.addoption("--evidence", metavar="DIR", type=Path, help="write evidence.html and evidence.json of failures")
    group.addoption("--keep-evidence", action="store_true", help="of every scenario, not of failures alone")


def pytest_configure(config: pytest.Config) -> None:
    """Make each tag a marker that --strict-markers knows; have each scenario watched."""
    config.pluginmanager.register(witness, "ipai_harness.steps.witness")
    for tag, meaning in TAGS.items():
        config.addinivalue_line("markers", f"{tag}: {meaning}")


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[NativeStack]:
    """The stack under test."""
    name = request.config.getoption("--stack")
    if name:
        yield NativeStack.attach(name)
        return
    with NativeStack(record=True) as stack:
        yield stack


@pytest.fixture(scope="session")
def administrator(stack: NativeStack) -> OdooSession:
    """A login that may do everything in Odoo."""
    env = stack.env()
    return OdooSession(env["odoo_url"], env["odoo_db"], env["odoo_login"], env["odoo_password"])


@pytest.fixture
def world(request: pytest.FixtureRequest, stack: NativeStack, administrator: OdooSession) -> Iterator[World]:
    """One scenario's own."""
    world = World(stack, administrator)
    watching = witness.witness_of(request)
    watching.begin(world)
    try:
        yield world
    finally:
        try:
            watching.end(world)
        finally:
            world.close()
