"""`ipai-harness verify`: what it refuses, what it hands to pytest, and what it makes of the outcome."""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ipai_bridge.secret import generate_secret, parse_secrets
from ipai_harness import verify
from ipai_harness.cli import main, parser
from ipai_harness.steps.plugin import why_not
from ipai_harness.target import Target

SECRET = generate_secret().reveal()
LOCAL = "http://127.0.0.1:54321/functions/v1"


def options(*arguments: str) -> argparse.Namespace:
    return parser().parse_args(["verify", *arguments])


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPAI_BRIDGE_SECRET", SECRET)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target", "https://ublqmilcjtpnflofprkr.supabase.co/functions/v1"], "deprecated"),
        (["--target", "https://abcdefghijklmnopqrst.supabase.co/functions/v1"], "looks like production"),
        (["--target", LOCAL, "--db-url", "postgresql://db.xkxyvoboeubffxxbebsll.supabase.co/postgres"], "deprecated"),
        (["--target", LOCAL, "-n", "2"], "one scenario at a time"),
        (["--stack", "default", "-n", "2"], "leave out -n"),
        (["--db-url", "postgresql://127.0.0.1/x"], "give --target"),
    ],
)
def test_what_is_refused_before_anything_starts(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was started"))
    assert main(["verify", *arguments, "--json"]) == verify.NOT_RUN
    captured = capsys.readouterr()
    assert said in captured.err
    assert said in json.loads(captured.out)["not_run"]


def test_a_password_goes_where_others_do_not_see_it() -> None:
    dsn = "postgresql://postgres:hidden@127.0.0.1:5432/postgres"
    chosen = options("--target", LOCAL, "--db-url", dsn, "--tags", "law_4", "-k", "late", "--keep-evidence")
    argv = verify.arguments(chosen)
    assert "hidden" not in " ".join(argv)
    assert verify.environment(chosen)["IPAI_HARNESS_DB_URL"] == dsn
    for pair in (["-m", "law_4"], ["-k", "late"], ["--target", LOCAL]):
        assert argv[argv.index(pair[0], 4) + 1] == pair[1] or pair[0] == "-m"
    assert {"law_4", "--keep-evidence"} <= set(argv)


@pytest.mark.parametrize(
    ("code", "statuses", "verdict"),
    [(0, ["passed", "not run"], 0), (1, ["passed", "failed"], 1), (5, [], 3), (4, [], 3), (0, [], 3)],
)
def test_what_is_made_of_the_outcome(
    tmp_path: Path, code: int, statuses: list[str], verdict: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[dict[str, Any]] = [
        {"name": str(n), "feature": "f", "file": "a.feature", "line": n, "tags": [], "status": status, "seconds": 1.0,
         "reason": "odoo: needs an Odoo" if status == "not run" else ""}
        for n, status in enumerate(statuses)
    ]  # fmt: skip
    (tmp_path / "evidence.json").write_text(json.dumps({"scenarios": rows}))
    assert verify.summed_up(options("--evidence", str(tmp_path), "--json"), code) == verdict
    assert json.loads(capsys.readouterr().out)["ok"] is (verdict == 0)
    assert verify.summed_up(options("--evidence", str(tmp_path)), code) == verdict
    assert ("not run: 1 – odoo: needs an Odoo" in capsys.readouterr().out) is ("not run" in statuses)


def target(**options: Any) -> Target:
    return Target.remote(LOCAL, parse_secrets("secret", SECRET), **options)


@pytest.mark.parametrize(
    ("marks", "with_database", "mapped", "reason"),
    [
        (set(), False, False, None),
        ({"odoo"}, True, False, "odoo: needs an Odoo"),
        ({"stack"}, True, False, "faults: needs a stack of our own"),
        ({"events"}, False, False, "needs --db-url"),
        ({"events"}, True, True, None),
        ({"database"}, True, False, None),
        ({"database"}, True, True, "a schema map does not know"),
    ],
)
def test_what_a_remote_target_can_be_asked(
    marks: set[str], with_database: bool, mapped: bool, reason: str | None
) -> None:
    asked = target(db_url="postgresql://127.0.0.1:5432/postgres") if with_database else target()
    found = why_not(marks, asked, mapped=mapped)
    assert found is None if reason is None else reason in str(found)
