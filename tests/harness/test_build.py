"""What is built goes into the cache whole or not at all, once, whoever is killed meanwhile."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from ipai_harness.errors import HarnessError
from ipai_harness.stack import build, locks
from ipai_harness.stack.progress import quiet


def test_it_is_made_once_by_many(tmp_path: Path) -> None:
    made: list[int] = []

    def make(place: Path) -> None:
        made.append(1)
        (place / "file").write_text("whole")

    def run() -> None:
        target = build.cached(tmp_path / "thing", make, quiet(), "part")
        assert (target / "file").read_text() == "whole"

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["thing"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def make(place: Path) -> None:
        (place / "half").touch()
        raise HarnessError("no")

    with pytest.raises(HarnessError):
        build.cached(tmp_path / "thing", make, quiet(), "part")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_command_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".thing.new-dead" / "content").mkdir(parents=True)
    build.cached(tmp_path / "thing", lambda _place: None, quiet(), "part")
    assert [entry.name for entry in tmp_path.iterdir()] == ["thing"]


def test_a_lock_excludes_and_its_file_goes(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with locks.try_locked(file) as mine:
        assert mine
        with locks.try_locked(file) as second:
            assert not second
    assert not file.exists()
    with locks.try_locked(file) as mine:
        assert mine


def test_a_tool_that_fails_says_what_it_said() -> None:
    env = build.tool_environment("t")
    with pytest.raises(HarnessError, match="it said: boom"):
        build.run_tool(
            [sys.executable, "-c", "print('boom'); raise SystemExit(1)"],
            lambda text: HarnessError(f"it said: {text}"),
            env=env,
        )
    said = build.run_tool([sys.executable, "-c", "print('fine')"], HarnessError, env=env)
    assert said == "fine\n"


def test_a_part_sees_nothing_of_the_callers_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HTTPS_PROXY", "PGHOST", "IPAI_BRIDGE_SECRET", "PYTHONPATH", "ODOO_RC"):
        monkeypatch.setenv(name, "x")
    env = build.part_environment("t", tmp_path)
    assert set(env) <= {"PATH", "LD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL", "TZ", "IPAI_HARNESS_STACK"}
    assert "HTTPS_PROXY" in build.tool_environment("t")
