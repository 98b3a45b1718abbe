"""A command to run on an outbox in a real PostgreSQL, and a receiver for what it sends."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ipai_bridge import bridge, cli
from tests.bridge.delivery.receiver import Receiver, receiver
from tests.bridge.fake_odoo import Odoo
from tests.bridge.operating import SECRET, Done, Run, parameters
from tests.conftest import PASSWORD


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's settings, and a secret."""
    for name in list(os.environ):
        if name.startswith(("IPAI_BRIDGE_", "PG")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("IPAI_BRIDGE_SECRET", SECRET)


@pytest.fixture
def run(database: str, environment: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on the test's database; whatever it says, it never says a secret or a password."""
    monkeypatch.setenv("IPAI_BRIDGE_DSN", database)

    def run(*argv: object) -> Done:
        capsys.readouterr()
        try:
            code: object = cli.main([str(argument) for argument in argv])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        for hidden in (SECRET, PASSWORD):
            assert hidden not in out + err
        assert "Traceback" not in err
        return Done(code, out, err)

    return run


@pytest.fixture
def receiving(environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver that the environment names."""
    monkeypatch.setenv("NO_PROXY", "*")
    with receiver() as running:
        monkeypatch.setenv("IPAI_BRIDGE_URL", running.functions_url)
        yield running


@pytest.fixture
def odoo(environment: None, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Odoo]:
    """An Odoo of which this process knows nothing yet."""
    monkeypatch.setattr(bridge, "_databases", {})
    monkeypatch.setattr(bridge, "_inline", {})
    monkeypatch.setattr(bridge, "_looked_at", {})
    parameters(database)
    odoo = Odoo(database)
    odoo.put_in(monkeypatch)
    yield odoo
    bridge.stop_inline_relays()
    odoo.close()
