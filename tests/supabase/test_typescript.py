"""The TypeScript: types, lint, form, and its own tests (tests/supabase/deno), in the real Deno."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.supabase.conftest import PROJECT, ROOT, STACK, run_deno

HERE = Path(__file__).resolve().parent / "deno"
CONFIG = ("--config", str(PROJECT / "functions/deno.json"))
ALL = (str(PROJECT / "functions"), *map(str, sorted(STACK.glob("*.ts"))), str(HERE))


@pytest.mark.parametrize("command", [("check",), ("lint",), ("fmt", "--check")], ids=lambda command: command[0])
def test_passes(command: tuple[str, ...]) -> None:
    run_deno(*command, *CONFIG, *ALL)


def test_its_own_tests() -> None:
    printed = run_deno("test", *CONFIG, "--no-prompt", f"--allow-read={ROOT}", "--allow-env=PG*", str(HERE))
    passed = re.search(r"ok \| (\d+) passed \| 0 failed", printed)
    assert passed
    assert int(passed[1]) >= 60


def test_nothing_but_pinned_imports() -> None:
    named = [
        line
        for path in (PROJECT / "functions").rglob("*.ts")
        for line in path.read_text().splitlines()
        if re.search(r'from "(?!\.)', line)
    ]
    assert named == ['import postgres from "postgres";']
    assert re.search(r'"postgres": "npm:postgres@\d+\.\d+\.\d+"', (PROJECT / "functions/deno.json").read_text())
