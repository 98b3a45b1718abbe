"""Background processes: found again, never mistaken, ended with everything that they started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ipai_harness.stack.process import TOKEN, Process, birth, find_marked, kill_marked, wait_until

# A parent that ignores SIGTERM and has a child of its own in another session.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def token() -> Iterator[str]:
    token = uuid.uuid4().hex
    yield token
    kill_marked(token)


def make(tmp_path: Path, token: str, code: str = "import time; time.sleep(600)") -> Process:
    env = {"PATH": os.environ["PATH"], TOKEN: token}
    return Process("part", [sys.executable, "-c", code], env, tmp_path, tmp_path / "part.log")


def test_a_process_runs_until_it_is_stopped(tmp_path: Path, token: str) -> None:
    process = make(tmp_path, token)
    assert not process.alive
    process.start()
    assert process.alive
    process.stop()
    assert not process.alive
    assert process.pid is None


def test_starting_twice_starts_one(tmp_path: Path, token: str) -> None:
    process = make(tmp_path, token)
    process.start()
    pid = process.pid
    process.start()
    assert process.pid == pid
    assert len(list(find_marked(token))) == 1


def test_one_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path, token: str) -> None:
    process = make(tmp_path, token, STUBBORN)
    process.start()
    assert wait_until(lambda: process.tail().strip().isdigit(), 10)
    child = int(process.tail())
    process.stop(grace=0.2)
    assert not process.alive
    assert birth(child) is None


def test_a_dead_one_is_seen_as_dead(tmp_path: Path, token: str) -> None:
    process = make(tmp_path, token)
    process.start()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(10)
    process.stop()
    process.start()
    assert process.alive


def test_a_recycled_pid_is_never_signalled(tmp_path: Path, token: str) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        process = make(tmp_path, token)
        process.pid, process.born = other.pid, "another-boot:1"
        assert not process.alive
        process.kill()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_it_is_found_again_from_its_state(tmp_path: Path, token: str) -> None:
    process = make(tmp_path, token)
    process.start()
    again = Process.from_state(json.loads(json.dumps(process.to_state())))
    assert again == process
    assert again.alive
    again.stop()
    assert not process.alive


def test_what_is_marked_is_found_without_a_state(tmp_path: Path, token: str) -> None:
    process = make(tmp_path, token)
    process.start()
    # For a moment after a program is begun, the kernel shows an empty environment.
    assert wait_until(lambda: [found.pid for found in find_marked(token)] == [process.pid], 5)
    assert kill_marked(token) == 1
    assert not process.alive
    assert kill_marked("") == 0


def test_birth_tells_processes_apart() -> None:
    assert birth(os.getpid()) == birth(os.getpid())
    assert birth(os.getpid()) != birth(1)
    assert birth(2**22 + 1) is None


def test_the_tail_is_the_end_of_the_log(tmp_path: Path, token: str) -> None:
    process = make(tmp_path, token)
    assert process.tail() == ""
    process.log.write_bytes(b"\xff\n" + b"".join(b"line %d\n" % n for n in range(10_000)))
    assert process.tail(2) == "line 9998\nline 9999"


def test_the_caller_is_never_taken_for_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    token = uuid.uuid4().hex
    monkeypatch.setenv(TOKEN, token)
    assert os.getpid() not in [found.pid for found in find_marked(token)]
    assert psutil.pid_exists(os.getpid())
