"""The conformance kit on our own function, with a real Deno and a real PostgreSQL behind it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipai_bridge.secret import generate_secret
from ipai_harness.cleaning import clean_up
from ipai_harness.cli import main
from ipai_harness.conform.cases import all_cases
from ipai_harness.stack.supabase import jwt
from tests.supabase.conftest import JWT_SECRET, PROJECT, SECRET, Edge, Server

Ask = Callable[..., list[tuple[Any, ...]]]
OLD = generate_secret().reveal()


@pytest.fixture(scope="module")
def rotating(server: Server) -> Iterator[Edge]:
    """Our function in the middle of a rotation."""
    settings = {"IPAI_BRIDGE_SECRET": f"{SECRET} {OLD}", "SUPABASE_JWT_SECRET": JWT_SECRET}
    serving = Edge(PROJECT, settings | {"SUPABASE_DB_URL": server.url()})
    yield serving
    serving.stop()


def test_our_function_conforms(
    rotating: Edge, server: Server, inbox: Ask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IPAI_BRIDGE_SECRET", f"{SECRET} {OLD}")
    monkeypatch.setenv("IPAI_HARNESS_JWT", jwt(JWT_SECRET, "anon"))
    code = main(["conform", f"http://127.0.0.1:{rotating.port}/functions/v1", "--json"])
    said = json.loads(capsys.readouterr().out)

    assert [(case["case"], case["problems"]) for case in said["cases"] if case["outcome"] != "passed"] == []
    assert code == 0
    assert said["summary"] == {"passed": len(all_cases()), "failed": 0, "not_run": 0}
    assert said["notes"] == []
    assert said["seconds"] < 20
    stored = "select count(*) from odoo.webhook_events e join odoo.instances i on i.id = instance_id where i.name = %s"
    [(events,)] = inbox(stored, said["instance"])
    assert events > 20
    assert inbox("select count(*) from odoo.instances where name like %s", f"{said['instance']}_%") == [(0,)]
    cleaned = clean_up(server.url(), said["instance"])
    assert cleaned.clean, cleaned.remains
    assert cleaned.removed["odoo.webhook_events"] == events
    assert inbox(stored, said["instance"]) == [(0,)]


def test_behind_a_gateway_that_wants_a_token(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "supabase"
    shutil.copytree(PROJECT, project)
    config = (project / "config.toml").read_text()
    (project / "config.toml").write_text(config.replace("verify_jwt = false", "verify_jwt = true"))
    settings = {"IPAI_BRIDGE_SECRET": SECRET, "SUPABASE_JWT_SECRET": JWT_SECRET, "SUPABASE_DB_URL": server.url()}
    serving = Edge(project, settings)
    try:
        url = f"http://127.0.0.1:{serving.port}/functions/v1"
        monkeypatch.setenv("IPAI_BRIDGE_SECRET", SECRET)
        assert main(["conform", url]) == 3
        assert "refused a good request with 401 before the function saw it" in capsys.readouterr().err
        monkeypatch.setenv("IPAI_HARNESS_JWT", jwt(JWT_SECRET, "anon"))
        assert main(["conform", url, "--json"]) == 1
        said = json.loads(capsys.readouterr().out)
    finally:
        serving.stop()
    failed = {case["case"]: case["problems"] for case in said["cases"] if case["outcome"] == "failed"}
    assert failed == {"gateway/no-jwt": ["the gateway answered 401, the function did not: must be 200 duplicate:false"]}


def test_a_function_that_is_not_there(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IPAI_BRIDGE_SECRET", SECRET)
    assert main(["conform", f"http://127.0.0.1:{edge.port}/functions/v1/another"]) == 3
    assert "there is no function at" in capsys.readouterr().err
