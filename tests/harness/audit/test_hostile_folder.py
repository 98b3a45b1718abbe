"""Whatever the folder is, the audit ends with a report: it never crashes, never leaves the folder, never hangs."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipai_harness import audit
from ipai_harness.audit import PROJECT_RULES, folder, runner
from ipai_harness.audit.finding import Found, Rule, Severity, printable
from ipai_harness.audit.script_text import script
from ipai_harness.audit.sql_text import statements
from ipai_harness.errors import AuditImpossible

if TYPE_CHECKING:
    from tests.harness.audit.conftest import Copy

BROKEN = [
    "[functions",
    "a = ",
    "[a]\n[a]",
    "x = 1\nx = 2",
    "a = " + "[" * 5000,
    '"\\ud800" = 1',
    "project_id = 1979-13-40",
]


def rules(report: audit.Report) -> set[str]:
    return {finding.rule.id for finding in report.findings}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_config_is_a_finding(copy: Copy, text: str) -> None:
    copy.write("config.toml", text)

    assert "config-unreadable" in rules(copy.audit())


@pytest.mark.parametrize(
    "text",
    [
        "functions = 3\napi = []\ndb = 'x'\nedge_runtime = false",
        "[functions]\nodoo-webhook = 1\n[api]\nschemas = 'public'\n[db]\nmajor_version = '15'",
        "[functions.odoo-webhook]\nverify_jwt = 'no'\nentrypoint = 3\nimport_map = [1]\n[api]\nschemas = [1, {}]",
        "[functions.odoo-webhook]\nentrypoint = '../../../../etc/passwd'\nimport_map = '/etc/passwd'",
        "[db]\nmajor_version = true\n[storage]\nbuckets = 1\n[auth]\nenable_anonymous_sign_ins = 'true'",
    ],
)
def test_values_of_other_types_than_expected_do_no_harm(copy: Copy, text: str) -> None:
    copy.write("config.toml", text)

    copy.audit()


def test_no_config_is_a_finding(copy: Copy) -> None:
    (copy.root / "config.toml").unlink()

    report = copy.audit()

    assert "config-unreadable" in rules(report)


def test_what_is_no_project_cannot_be_looked_at(tmp_path: Path) -> None:
    with pytest.raises(AuditImpossible, match="no Supabase project"):
        audit.run(tmp_path)
    with pytest.raises(AuditImpossible, match="no Supabase project"):
        audit.run(tmp_path / "nowhere")


def test_the_folder_above_supabase_will_do(copy: Copy) -> None:
    assert audit.run(copy.root.parent).project == str(copy.root.resolve())


def test_a_link_to_outside_is_not_followed(copy: Copy, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.sql").write_text("-----BEGIN PRIVATE KEY-----\n")
    (copy.root / "migrations/20300101000000_odoo_x.sql").symlink_to(outside / "secret.sql")
    (copy.root / "functions/away").symlink_to(outside, target_is_directory=True)

    report = copy.audit()

    assert rules(report) == {"file-link-outside"}
    assert len(report.findings) == 2


def test_an_import_that_leads_outside_is_not_followed(copy: Copy) -> None:
    (copy.root.parent / "check.ts").write_text("export async function check() { await crypto.subtle.verify(); }")
    copy.function('import { check } from "../../../check.ts";\nDeno.serve(async () => { await check(); });')

    assert rules(copy.audit()) == {"function-open"}


def test_imports_in_a_circle_and_through_a_map_are_followed(copy: Copy) -> None:
    copy.write("functions/_shared/a.ts", 'import { b } from "lib/b.ts";\nexport const a = async () => await b();')
    copy.write(
        "functions/_shared/b.ts",
        'import { a } from "./a.ts";\nexport async function b() { await crypto.subtle.verify(); a; }',
    )
    copy.write("functions/deno.json", '{"imports": {"lib/": "./_shared/"}}')
    copy.function('import { a } from "lib/a.ts";\nDeno.serve(async () => { await a(); return new Response(); });')

    assert rules(copy.audit()) == set()


def test_what_may_not_be_read_is_said(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(entry: Path, flags: int) -> int:
        if entry.name == "seed.sql":
            raise PermissionError(13, "Permission denied")
        return opened(entry, flags)

    opened = os.open
    monkeypatch.setattr(os, "open", refuse)  # as root everything can be read

    [finding] = copy.audit().findings

    assert (finding.rule.id, finding.where) == ("file-unreadable", "seed.sql")


def test_more_files_than_the_limit_are_said(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MAX_FILES", 3)

    assert "file-too-large" in rules(copy.audit())


def test_names_that_move_the_cursor_are_shown_harmlessly(copy: Copy) -> None:
    (copy.root / "\x1b[2Jlink").symlink_to("/etc")

    [finding] = copy.audit().findings

    assert finding.where == r"\x1b[2Jlink"
    assert printable("a\udc80\n") == r"a\udc80\n"


def test_a_rule_that_fails_or_hangs_hides_no_other(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_project: folder.Project) -> list[Found]:
        raise RecursionError("deep")

    def hangs(_project: folder.Project) -> list[Found]:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            pass
        return []

    odd = [Rule(name, Severity.ERROR, "", "", "", check) for name, check in (("fails", fails), ("hangs", hangs))]
    monkeypatch.setattr(runner, "PROJECT_RULES", (*odd, *PROJECT_RULES))
    monkeypatch.setattr(runner, "SECONDS_PER_RULE", 0.2)
    copy.migrate("grant select on odoo.instances to anon;")

    report = audit.run(copy.root)

    assert report.not_looked[:2] == ["fails: RecursionError", "hangs: TooSlow"]
    assert "sql-anon-grant" in rules(report)


def test_it_runs_in_a_thread_as_well(copy: Copy) -> None:
    reports: list[audit.Report] = []
    thread = threading.Thread(target=lambda: reports.append(copy.audit()))
    thread.start()
    thread.join()

    assert reports[0].findings == []


PIECES = ["'", '"', "$$", "$a$", "--", "/*", "*/", "\n", ";", "E'", "\\", "`", "${", "}", "{", "(", ")", "[", "]", "/",
          "//",
          " create table t (id int)", "alter table t enable row level security", "grant all on t to anon", "=", "=>",
          "security definer", "create function f()", "do ", 'import x from "./a.ts"', "function f(", "const a = ",
          'Deno.env.get("A_SECRET")', "if (", "!== ", "a", "é", "\0", "create policy p on t using (true)"]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_texts_are_cut_without_loss(text: str) -> None:
    found = statements(text)
    read = script(text)

    assert all(text[one.offset :][: len(one.text)].count("\n") == one.text.count("\n") for one in found)
    assert all(len(one.text) == len(one.outline) for one in found)
    assert len(read.plain) == len(read.code) == len(text)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(PIECES), max_size=40).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=30).map("".join),
)
def test_any_text_gives_a_report(tmp_path: Path, sql: str, code: str) -> None:
    for path, text in (("migrations/20300101000000_a.sql", sql), ("functions/f/index.ts", code), ("config.toml", code)):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    assert audit.run(tmp_path).not_looked == []
