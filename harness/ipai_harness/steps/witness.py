"""Watches each scenario: what it said, how long each sentence took, how it ended; and writes the evidence.

A scenario that failed tells its events' ways in the test's report too. Evidence is written with `--evidence DIR`: of
failures, or of everything with `--keep-evidence`.
"""

from __future__ import annotations

import hashlib
import platform
import secrets
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from pytest_bdd.parser import Feature, Scenario, Step

from ipai_harness.evidence import collect, report
from ipai_harness.evidence.masking import Mask
from ipai_harness.observe.outcomes import describe
from ipai_harness.steps.world import World

_WITNESS = pytest.StashKey["Witness"]()


class Witness:
    """Of one scenario."""

    def __init__(self, config: pytest.Config) -> None:
        self.directory: Path | None = config.getoption("--evidence")
        self.keep = bool(config.getoption("--keep-evidence"))
        self.scenario = collect.Scenario("", "", "", 0, [])
        self.mask = Mask([], secrets.token_hex(8))
        self._since: dict[str, int] = {}
        self._step_started = 0.0
        self._world: World | None = None

    def begin(self, world: World) -> None:
        """The scenario has its world, and does nothing yet."""
        self._world = world
        if world.has_stack:
            self._since = {name: part.read_log()[1] for name, part in world.stack.parts.items()}
            self._since["exchanges"] = 0
            if world.exchanges is not None and world.exchanges.exists():
                self._since["exchanges"] = world.exchanges.stat().st_size
        self.scenario.instance = world.instance

    def end(self, world: World) -> None:
        """The scenario is over, and nothing is put back yet."""
        self.scenario.seconds = time.time() - self.scenario.started
        if self.directory is None:
            return
        if not (world.has_stack and (self.keep or self.scenario.status == "failed")):
            self.write()  # that it was run, and its sentences
            return
        known = [*world.secrets(), *(value for value in world.notes.values() if isinstance(value, str))]
        collect.collect(
            self.scenario,
            odoo=world.odoo_sql,
            supabase=world.supabase_sql,
            logs={name: part.read_log for name, part in world.stack.parts.items()},
            since=self._since,
            recorded=world.exchanges,
            secrets=[world.target.secrets[0].reveal(), *filter(None, [world.notes.get("new secret")])],
            mask=Mask([*known, *_passwords(world.env)], secrets.token_hex(8)),
        )
        self.write()

    def failed(self, reason: str) -> list[str]:
        """The scenario has failed; its events' ways, a line each."""
        self.scenario.reason = reason
        try:
            events = self._world.events() if self._world is not None else []
            self.scenario.events = [describe(event) for event in events]
        except Exception as error:  # noqa: BLE001 -- a database that is down; the failure itself is what matters
            self.scenario.events = [f"could not be read: {type(error).__name__}"]
        return self.scenario.events

    def skipped(self, reason: str) -> None:
        """The scenario is not run: the target has not what it needs."""
        self.scenario.status, self.scenario.reason = "not run", reason
        self.write()

    def write(self) -> None:
        """Hand it to whoever writes the report at the end of the run."""
        if self.directory is not None:
            one = self.scenario
            name = hashlib.blake2b(
                f"{one.file}:{one.line}:{one.name}:{one.started}".encode(), digest_size=12
            ).hexdigest()
            report.write_part(self.directory, one, name)


def _passwords(env: dict[str, str]) -> list[str]:
    names = ("odoo_password", "secret", "jwt_secret", "anon_key", "service_role_key", "odoo_dsn", "supabase_dsn")
    found = [env[name] for name in names if env.get(name)]
    # A DSN's password is also in what its driver says when it cannot connect.
    return found + [dsn.partition("://")[2].partition("@")[0].partition(":")[2] for dsn in found if "://" in dsn]


def witness_of(request: pytest.FixtureRequest) -> Witness:
    """The witness of the scenario that asks."""
    stash = request.node.stash
    if _WITNESS not in stash:
        stash[_WITNESS] = Witness(request.config)
    witness: Witness = stash[_WITNESS]
    return witness


# --- what pytest-bdd tells


def pytest_bdd_before_scenario(request: pytest.FixtureRequest, feature: Feature, scenario: Scenario) -> None:
    """Its name, and every sentence that is to come."""
    one = witness_of(request).scenario
    one.name, one.feature, one.line = scenario.name, feature.name, scenario.line_number
    one.file = str(feature.rel_filename)
    one.tags = sorted({*scenario.tags, *feature.tags})
    one.steps = [collect.Step(step.keyword.strip(), step.name) for step in scenario.steps]


def pytest_bdd_before_step(request: pytest.FixtureRequest) -> None:
    """A sentence begins."""
    witness_of(request)._step_started = time.monotonic()


def _ended(request: pytest.FixtureRequest, scenario: Scenario, step: Step, status: str, error: str = "") -> None:
    witness = witness_of(request)
    told = witness.scenario.steps[scenario.steps.index(step)]
    told.status, told.error = status, error
    told.seconds = time.monotonic() - witness._step_started


def pytest_bdd_after_step(request: pytest.FixtureRequest, scenario: Scenario, step: Step) -> None:
    """A sentence is so."""
    _ended(request, scenario, step, "passed")


def pytest_bdd_step_error(request: pytest.FixtureRequest, scenario: Scenario, step: Step, exception: Exception) -> None:
    """A sentence is not so."""
    _ended(request, scenario, step, "failed", f"{type(exception).__name__}: {exception}")


# --- what pytest tells


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """How it ended; a failure's report tells its events' ways."""
    made = yield
    witness = item.stash.get(_WITNESS, None)
    if witness is not None and call.when == "call" and not made.skipped:
        witness.scenario.status = made.outcome
        if made.failed and call.excinfo is not None:
            events = witness.failed(str(call.excinfo.value))
            made.sections.append(("the events of the scenario", "\n".join(events) or "none"))
    return made


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Put the evidence of all workers together."""
    directory: Path | None = session.config.getoption("--evidence")
    if directory is None or hasattr(session.config, "workerinput"):
        return
    facts = {
        "at": time.strftime("%Y-%m-%d %H:%M:%S %z"), "Python": platform.python_version(),
        "command": " ".join(["pytest", *map(str, session.config.invocation_params.args)]),
    }  # fmt: skip
    report.write(directory, facts, report.load_parts(directory))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Where the evidence is."""
    if config.getoption("--evidence") is not None:
        terminalreporter.write_line(f"evidence: {config.getoption('--evidence') / 'evidence.html'}")
