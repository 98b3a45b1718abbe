"""`ipai-harness audit` as it is typed: its output, its exit codes, and that it prints no secret."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from ipai_harness.audit import DATABASE_RULES, PROJECT_RULES
from ipai_harness.cli import main

if TYPE_CHECKING:
    from tests.harness.audit.conftest import Copy, Database

RANDOM = "q7Vx2mZp" + "9LtR4wKs8Bd1"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_it(*arguments: object) -> tuple[int, str, str]:
        code = main(["audit", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run_it


def test_without_arguments_it_looks_at_our_own_project(run: Run) -> None:
    code, out, err = run()

    assert (code, err) == (0, "")
    assert out.endswith(": nothing found\n")


def test_a_finding_is_said_with_place_why_and_fix(run: Run, copy: Copy) -> None:
    copy.migrate("grant select on odoo.instances to anon;")

    code, out, _ = run("--project", copy.root)

    assert code == 1
    assert "WARNING  sql-anon-grant: something is granted to everybody (read from text: approximate)" in out
    assert "    migrations/20300101000000_odoo_planted.sql:1: select on odoo.instances to anon" in out
    assert "  why: " in out
    assert "  fix: " in out
    assert "0 error, 1 warning, 0 info" in out


def test_fail_on_error_lets_warnings_pass(run: Run, copy: Copy) -> None:
    copy.migrate("grant select on odoo.instances to anon;")

    assert run("--project", copy.root, "--fail-on", "error")[0] == 0
    copy.migrate("alter table odoo.instances disable row level security;")
    assert run("--project", copy.root, "--fail-on", "error")[0] == 1


def test_json_has_a_stable_form(run: Run, copy: Copy) -> None:
    copy.write("notes.txt", f"whsec_{RANDOM}{RANDOM}\n")

    code, out, _ = run("--project", copy.root, "--json")
    said = json.loads(out)

    assert code == 1
    assert sorted(said) == ["database", "findings", "not_looked", "project", "schema", "summary"]
    assert said["schema"] == 1
    assert said["summary"] == {"error": 1, "warning": 0, "info": 0, "allowed": 0}
    [finding] = said["findings"]
    assert sorted(finding) == sorted(
        ["rule", "severity", "title", "message", "file", "line", "object", "fingerprint", "why", "fix", "approximate"]
    )
    assert (finding["rule"], finding["file"], finding["line"]) == ("secret-in-file", "notes.txt", 1)
    assert len(finding["fingerprint"]) == 8


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_no_secret_is_printed(run: Run, copy: Copy, form: list[str]) -> None:
    copy.replace("config.toml", '"env(IPAI_BRIDGE_SECRET)"', f'"{RANDOM}"')
    copy.write(".env", f"A_TOKEN={RANDOM}\n")
    copy.write("functions/_shared/k.ts", f'const t = Deno.env.get("A_TOKEN") ?? "{RANDOM}";\n')

    code, out, err = run("--project", copy.root, *form)

    assert code == 1
    assert RANDOM not in out + err


def test_a_broken_config_does_not_quote_itself(run: Run, copy: Copy) -> None:
    copy.write("config.toml", f'secret = "{RANDOM}" "{RANDOM}"\n')

    code, out, err = run("--project", copy.root)

    assert code == 1
    assert RANDOM not in out + err


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://u:{RANDOM}@127.0.0.1:1/x",
        f"host=127.0.0.1 port=1 user=u password={RANDOM}",
        f"postgresql://u:{RANDOM}",
        f"postgresql://u:{RANDOM}@no.such.host.invalid/x",
    ],
)
def test_a_database_that_cannot_be_reached_is_code_3_without_its_password(run: Run, dsn: str) -> None:
    code, out, err = run("--db", dsn)

    assert (code, out) == (3, "")
    assert err.startswith("ipai-harness: ")
    assert RANDOM not in err


def test_what_cannot_be_looked_at_is_said_in_json_as_well(run: Run) -> None:
    code, out, _ = run("--project", "/nowhere", "--json")

    assert code == 3
    assert "no Supabase project" in json.loads(out)["not_looked"][0]


def test_a_deprecated_project_is_not_even_connected_to(run: Run) -> None:
    code, _, err = run("--db", "postgresql://postgres@db." + "xkxyvoboeubf" + "fxxbebsll.supabase.co/postgres")

    assert code == 3
    assert "deprecated" in err


def test_a_wrong_command_line_is_code_2(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IPAI_AUDIT_DSN", raising=False)

    assert run("--db", "-")[0] == 2
    with pytest.raises(SystemExit, match="2"):
        run("--fail-on", "info")


@pytest.mark.stack
def test_folder_and_database_together(run: Run, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPAI_AUDIT_DSN", database.dsn)

    assert run("--db", "-", "--project", "harness/supabase")[0] == 0
    database.execute("grant select on odoo.instances to anon")
    code, out, _ = run("--db", "-")

    assert code == 1
    assert "    odoo.instances: granted: SELECT" in out


def test_the_rules_are_listed_and_their_ids_are_unique(run: Run) -> None:
    code, out, _ = run("--rules", "--json")
    ids = [one["rule"] for one in json.loads(out)]

    assert code == 0
    assert len(ids) == len(set(ids)) == len(PROJECT_RULES) + len(DATABASE_RULES)
    assert all(one["why"] and one["fix"] and one["title"] for one in json.loads(out))
    assert run("--rules")[1].count("\n  why: ") == len(ids)


def test_the_help_tells_exit_codes_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["audit", "--help"])
    out = capsys.readouterr().out

    assert "exit codes:" in out
    assert "ipai-audit: allow" in out
