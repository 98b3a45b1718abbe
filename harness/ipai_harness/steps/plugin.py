"""The one plugin of the acceptance suite: its options, what is under test, its steps, its tags.

    pytest features                    on a stack of its own, which the run starts and removes (each xdist worker's own)
    pytest features --stack NAME       on one that `ipai-harness up --name NAME` started
    pytest features --target URL       against a Supabase project or `supabase functions serve`: what applies there

Tags are markers, so `-m law_4` selects. What a scenario needs is a tag, too: `odoo` and `stack` (a stack of our own),
`events` and `database` (a look behind the receiver). One whose needs are not given is skipped, with the reason.
The database's address, secrets and tokens come from the environment: IPAI_HARNESS_DB_URL, IPAI_BRIDGE_SECRET,
IPAI_HARNESS_JWT.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipai_bridge.settings import resolve
from ipai_harness import cleaning
from ipai_harness.drive.odoo import OdooSession
from ipai_harness.schema_map import SchemaMap
from ipai_harness.stack import provider
from ipai_harness.stack.handle import Stack
from ipai_harness.stack.native import NativeStack
from ipai_harness.steps import witness
from ipai_harness.steps.world import World
from ipai_harness.target import Capability, Target

pytest_plugins = (
    "ipai_harness.steps.odoo",
    "ipai_harness.steps.delivery",
    "ipai_harness.steps.receiver",
    "ipai_harness.steps.supabase",
    "ipai_harness.steps.syncs",
    "ipai_harness.steps.drift",
    "ipai_harness.steps.catalog",
    "ipai_harness.steps.documents",
    "ipai_harness.steps.operations",
    "ipai_harness.steps.realtime",
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
    "odoo": "needs an Odoo to act in",
    "stack": "stops and changes parts: needs a stack of our own",
    "events": "reads the events that were received, in whatever table",
    "database": "looks into the tables of this project's own schema",
}
"""Every tag of the features, and what it says."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The suite's own options."""
    group = parser.getgroup("ipai-harness", "the acceptance suite of ipai_bridge")
    group.addoption("--stack", metavar="NAME", help="run on this stack, which is up already, and leave it up")
    group.addoption("--provider", choices=provider.PROVIDERS, default=provider.default(), help="on what the stack runs")
    group.addoption("--target", metavar="URL", help="run against this functions URL: what applies there")
    group.addoption("--schema-map", metavar="FILE", type=Path, help="how the target's tables and columns are called")
    group.addoption("--yes-this-is-production", action="store_true", help="take a target that looks like production")
    group.addoption("--evidence", metavar="DIR", type=Path, help="write evidence.html and evidence.json of failures")
    group.addoption("--keep-evidence", action="store_true", help="of every scenario, not of failures alone")


def pytest_configure(config: pytest.Config) -> None:
    """Make each tag a marker that --strict-markers knows; have each scenario watched."""
    config.pluginmanager.register(witness, "ipai_harness.steps.witness")
    for tag, meaning in TAGS.items():
        config.addinivalue_line("markers", f"{tag}: {meaning}")


def why_not(marks: set[str], target: Target, *, mapped: bool) -> str | None:
    """Why scenarios with these tags cannot be run against this target; None if they can."""
    if "odoo" in marks and (reason := target.lacks(Capability.ODOO)):
        return reason
    if "stack" in marks and (reason := target.lacks(Capability.FAULTS)):
        return reason
    if marks & {"events", "database"} and (reason := target.lacks(Capability.EVENTS)):
        return reason
    if "database" in marks and mapped:
        return "database: looks into tables that a schema map does not know"
    return None


@pytest.fixture(scope="session")
def schema_map(request: pytest.FixtureRequest) -> SchemaMap | None:
    """How the target calls its tables; None: as we do."""
    file = request.config.getoption("--schema-map")
    return SchemaMap.read(file) if file is not None else None


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack | None]:
    """The stack under test; None where a remote target is."""
    name = request.config.getoption("--stack")
    if request.config.getoption("--target"):
        yield None
    elif name:
        yield provider.attach(name)
    else:
        kind, _why = provider.choose(request.config.getoption("--provider"))
        made: Stack = NativeStack(record=True) if kind == "native" else provider.make(kind)
        with made as stack:
            yield stack


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, stack: Stack | None) -> Target:
    """What is under test."""
    if stack is not None:
        return Target.of_stack("docker" if provider.of(stack.env()["name"]) == "docker" else "native", stack.env())
    return Target.remote(
        request.config.getoption("--target"),
        resolve(environ=os.environ, only=("secret", "secret_file")).settings.require_secrets(),
        db_url=os.environ.get("IPAI_HARNESS_DB_URL") or None,
        jwt=os.environ.get("IPAI_HARNESS_JWT") or None,
        allow_production=request.config.getoption("--yes-this-is-production"),
    )


@pytest.fixture(scope="session")
def administrator(target: Target) -> OdooSession | None:
    """A login that may do everything in Odoo; None where there is no Odoo."""
    odoo = target.odoo
    return OdooSession(odoo.url, odoo.database, odoo.login, odoo.password) if odoo is not None else None


@pytest.fixture
def world(
    request: pytest.FixtureRequest,
    target: Target,
    stack: Stack | None,
    administrator: OdooSession | None,
    schema_map: SchemaMap | None,
) -> Iterator[World]:
    """One scenario's own. Skips the scenario where the target has not what it needs."""
    watching = witness.witness_of(request)
    marks = {mark.name for mark in request.node.iter_markers()}
    if reason := why_not(marks, target, mapped=schema_map is not None):
        watching.skipped(reason)
        pytest.skip(reason)
    world = World(target, stack=stack, odoo=administrator, schema_map=schema_map)
    watching.begin(world)
    try:
        yield world
    finally:
        try:
            watching.end(world)
        finally:
            world.close()
            if stack is None and target.supabase_dsn is not None:
                _clean_up(target.supabase_dsn, world, schema_map)


def _clean_up(dsn: str, world: World, schema_map: SchemaMap | None) -> None:
    """Leave nothing behind in somebody else's database, as far as its role may."""
    if schema_map is None:
        cleaning.clean_up(dsn, world.instance)
    else:
        cleaning.clean_up_events(dsn, schema_map, world.instance, world.keys)
