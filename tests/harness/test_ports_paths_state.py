"""Ports, directories and state files."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from ipai_harness.errors import HarnessError, StackNotRunning
from ipai_harness.stack import paths, ports, state


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    return tmp_path


def test_a_free_port_is_free_and_not_one_of_outgoing_connections() -> None:
    port = ports.free_port()
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert port < first or first < ports.FIRST
    assert not ports.is_listening(port)
    with socket.create_server(("127.0.0.1", port)):
        assert ports.is_listening(port)


@pytest.mark.parametrize(
    "log",
    [
        'could not bind IPv4 address "127.0.0.1": Address already in use',
        "OSError: [Errno 98] Address already in use",
        "error: Uncaught (in promise) AddrInUse: Address already in use (os error 98)",
    ],
)
def test_a_taken_port_is_recognised(log: str) -> None:
    assert ports.is_taken(log)
    assert not ports.is_taken("FATAL: out of memory")


def test_directories_follow_xdg(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.cache() == home / ".cache" / "ipai-harness"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert paths.cache() == home / ".cache" / "ipai-harness"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "c"))
    assert paths.cache() == home / "c" / "ipai-harness"


def test_a_run_directory_leaves_room_for_a_socket_and_can_be_passed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("d" * 80)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    run = paths.new_run("x" * 40)
    try:
        assert len(str(run / "supabase_db/socket/.s.PGSQL.65535")) < 107
        assert stat.S_IMODE(run.stat().st_mode) == 0o711
    finally:
        run.rmdir()


def test_databases_go_to_memory_only_from_a_run_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths, "MEMORY", tmp_path)
    monkeypatch.delenv("TMPDIR", raising=False)
    assert paths.data_home(tmp_path / "mine") == tmp_path / "mine"
    run = paths.new_run("test")
    try:
        assert paths.data_home(run) in (run, tmp_path / run.name)  # as much memory as there is
        monkeypatch.setenv("TMPDIR", "/tmp")
        assert paths.data_home(run) == run
    finally:
        paths.remove_run(run)
    assert not run.exists()
    assert list(tmp_path.glob("ipai-harness-*")) == []
    (tmp_path / "mine").mkdir()
    paths.remove_run(tmp_path / "mine")
    assert (tmp_path / "mine").exists()


def test_there_is_a_supabase_project_with_a_function() -> None:
    assert (paths.supabase_project() / "functions" / "odoo-webhook" / "index.ts").is_file()


def test_the_state_is_for_its_owner_only() -> None:
    state.write("one", {"token": "t"})
    assert stat.S_IMODE(state.file("one").stat().st_mode) == 0o600
    assert stat.S_IMODE(paths.stacks().stat().st_mode) == 0o700
    assert state.read("one") == {"token": "t"}
    assert state.names() == ["one"]


def test_a_stack_that_does_not_run_is_named_with_what_to_do() -> None:
    with pytest.raises(StackNotRunning, match="ipai-harness up --name two"):
        state.read("two")


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-x", "x" * 41, "a\n"])
def test_a_name_is_a_file_name(name: str) -> None:
    with pytest.raises(HarnessError, match="cannot name a stack"):
        state.check_name(name)
