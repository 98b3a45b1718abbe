"""`ipai-harness` as a user runs it: up, status, env, logs, down; cut off; twice side by side; no leaks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import psycopg2
import pytest

from ipai_harness.stack import paths, ports
from ipai_harness.stack.process import wait_until

# The relay has its own tests; here it would only add a part.
UP = ("up", "--relay", "off")


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """The caller's cache, a state directory and a temporary directory of the test's own."""
    with tempfile.TemporaryDirectory(prefix="ud-") as short:
        Path(short).chmod(0o711)
        here = ":".join([str(paths.library().parent), str(Path(paths.__file__).resolve().parents[2])])
        yield {**os.environ, "XDG_STATE_HOME": str(tmp_path), "TMPDIR": short, "PYTHONPATH": here}
        assert sorted(Path(short).iterdir()) == [], "a run directory was left behind"
        assert sorted((tmp_path / "ipai-harness" / "stacks").iterdir()) == [], "a state file was left behind"
        assert not [process for process in psutil.process_iter() if _mentions(process, short)]


def _mentions(process: psutil.Process, directory: str) -> bool:
    try:
        return directory in " ".join(process.cmdline()) or process.cwd().startswith(directory)
    except psutil.Error:
        return False


def start(environment: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ipai_harness", *arguments],
        env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # Tests that a shell runs in the background inherit an ignored SIGINT, and a command would ignore it too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def harness(environment: Mapping[str, str], *arguments: str, code: int = 0) -> str:
    with start(environment, *arguments) as child:
        out, err = child.communicate(timeout=600)
    assert child.returncode == code, err
    return out if out or code == 0 else err


@pytest.fixture
def cleaned(environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    yield environment
    harness(environment, "down", "--all")


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_two_stacks_side_by_side_from_up_to_down(cleaned: Mapping[str, str]) -> None:
    first = start(cleaned, *UP, "--name", "one", "--json")
    second = start(cleaned, *UP, "--name", "two", "--json")
    with first, second:
        one, two = (json.loads(child.communicate(timeout=600)[0])["env"] for child in (first, second))
    differ = [
        name for name in one if name not in {"odoo_db", "odoo_login", "instance", "odoo_postgres", "supabase_postgres"}
    ]
    assert [name for name in differ if one[name] == two[name]] == []

    assert json.loads(harness(cleaned, *UP, "--name", "one", "--json"))["env"] == one, "up again changes nothing"
    status = json.loads(harness(cleaned, "status", "--name", "one", "--json"))
    assert status["healthy"]
    assert {part["part"] for part in status["parts"]} == {"odoo_db", "odoo", "supabase_db", "functions", "sweep"}
    assert json.loads(harness(cleaned, "env", "--name", "two", "--json")) == two
    assert f"export IPAI_BRIDGE_URL={two['functions_url']}" in harness(cleaned, "env", "--name", "two")
    assert "/web/health" in harness(cleaned, "logs", "odoo", "--name", "one")
    for dsn in (one["odoo_dsn"], one["supabase_dsn"]):
        psycopg2.connect(dsn).close()
    for file in (one["secret_file"], one["odoo_conf"]):
        assert Path(file).stat().st_mode & 0o077 == 0
    arguments = " ".join(" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    for name in ("secret", "odoo_password", "jwt_secret", "service_role_key"):
        assert one[name] not in arguments, f"{name} is on a command line, which everybody can read"

    # A part dies: status says so, up does not pretend, down removes the rest.
    functions = next(part["pid"] for part in status["parts"] if part["part"] == "functions")
    os.kill(functions, signal.SIGKILL)
    assert wait_until(lambda: not psutil.pid_exists(functions), 10)
    assert not json.loads(harness(cleaned, "status", "--name", "one", "--json", code=3) or "{}").get("healthy")
    assert "without functions" in harness(cleaned, *UP, "--name", "one", code=1)
    harness(cleaned, "down", "--name", "one")
    harness(cleaned, "status", "--name", "two")
    harness(cleaned, "down", "--name", "two")
    for url in (one["odoo_url"], one["functions_url"], two["odoo_url"], two["functions_url"]):
        assert not ports.is_listening(int(url.split(":")[2].split("/")[0]))


@pytest.mark.e2e
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_up_that_is_cut_off_leaves_nothing(cleaned: Mapping[str, str], number: signal.Signals) -> None:
    child = start(cleaned, *UP)
    run = Path(cleaned["TMPDIR"])
    with child:
        # As soon as a server runs.
        assert wait_until(lambda: any(run.glob("*/supabase_db/data/postmaster.pid")), 60)
        child.send_signal(number)
        child.communicate(timeout=60)
    assert child.returncode == (130 if number != signal.SIGKILL else -signal.SIGKILL)
    if number == signal.SIGKILL:  # nobody was left to clean up: `down` does
        harness(cleaned, "down")


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_a_failure_names_the_part_and_leaves_nothing(cleaned: Mapping[str, str]) -> None:
    said = harness(cleaned, *UP, "--modules", "no_such_module", code=1)
    assert "no_such_module" in said
    assert "what to do" in said


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_an_interpreter_that_is_none_is_named(cleaned: Mapping[str, str], tmp_path: Path) -> None:
    broken = tmp_path / "bin" / "python"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho this interpreter is broken >&2\nexit 7\n")
    broken.chmod(0o755)
    said = harness(cleaned, *UP, "--python", str(broken), code=1)
    assert "is no Python interpreter: this interpreter is broken" in said


def test_without_a_stack_there_is_nothing_to_do(environment: Mapping[str, str]) -> None:
    for command in ("status", "env", "logs"):
        assert "ipai-harness up" in harness(environment, command, code=3)
    harness(environment, "down")
    harness(environment, "down", "--all")


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("logs", "nonsense"), ("up", "--workers", "x")])
def test_a_wrong_command_line_ends_with_2(environment: Mapping[str, str], arguments: tuple[str, ...]) -> None:
    (Path(environment["XDG_STATE_HOME"]) / "ipai-harness" / "stacks").mkdir(parents=True)
    assert "usage: ipai-harness" in harness(environment, *arguments, code=2)


@pytest.mark.parametrize("command", ["up", "status", "env", "logs", "down", "engine", "images"])
def test_the_help_tells_the_exit_codes(environment: Mapping[str, str], command: str) -> None:
    (Path(environment["XDG_STATE_HOME"]) / "ipai-harness" / "stacks").mkdir(parents=True)
    assert "exit codes:" in harness(environment, command, "--help")
