"""A background process that outlives the command that started it, and that is never mistaken for another.

A process is known by its pid *and* its start time (field 22 of /proc/<pid>/stat, with the boot's id), so that a
recycled pid is never signalled. Each has its own session and a log file, and carries the stack's token in its
environment: what a killed `up` could not write down any more is found by that (`find_marked`).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

TOKEN = "IPAI_HARNESS_STACK"  # noqa: S105 -- the name of the variable that marks a stack's processes
POLL = 0.02  # seconds between two looks at a condition that has no signal to wait on

# Popen objects of processes that are ours to reap. A Popen that is collected while its process runs warns.
_children: dict[int, subprocess.Popen[bytes]] = {}


@atexit.register
def _let_go() -> None:
    """At the end of this program the parts go on without it, which is meant, and nothing to warn of."""
    for child in _children.values():
        if child.poll() is None:
            child.returncode = 0


def birth(pid: int) -> str | None:
    """What tells this process from a later one with the same pid; None when there is none, or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name, in parentheses, may hold spaces and parentheses: count from the last one.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in {"Z", "X"}:
        return None
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{fields[19]}"


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Whether the condition held within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


def find_marked(token: str) -> Iterator[psutil.Process]:
    """Every process of ours whose environment carries the stack's token."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(TOKEN) == token:
                yield process


def _kill_all(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=5)


def kill_marked(token: str) -> int:
    """Kill every process that carries the token, and its children; how many there were."""
    found = list(find_marked(token))
    everything = set(found)
    for process in found:
        with contextlib.suppress(psutil.Error):
            everything.update(process.children(recursive=True))
    _kill_all(list(everything))
    return len(found)


@dataclass
class Process:
    """One background process: what it runs, and how to find it again."""

    name: str
    argv: list[str]
    env: dict[str, str]
    cwd: Path
    log: Path
    user: tuple[int, int] | None = None  # uid and gid to run as, when started by root
    stop_signal: int = signal.SIGTERM
    pid: int | None = None
    born: str | None = None
    on_change: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)

    @property
    def alive(self) -> bool:
        """Whether this very process runs."""
        if self.pid is None:
            return False
        child = _children.get(self.pid)
        if child is not None and child.poll() is not None:
            del _children[self.pid]
            return False
        return birth(self.pid) == self.born is not None

    def start(self) -> None:
        """Start it in a session of its own. Raises OSError when the program cannot be run."""
        if self.alive:
            return
        options: dict[str, Any] = {}
        if self.user is not None:
            options = {"user": self.user[0], "group": self.user[1], "extra_groups": []}
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                self.argv, env=self.env, cwd=self.cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, **options,
            )  # fmt: skip
        _children[child.pid] = child
        self.pid, self.born = child.pid, birth(child.pid)
        self.on_change()

    def signal(self, number: int) -> None:
        """Send a signal to the process alone; nothing happens when it does not run."""
        if self.alive and self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, timeout: float) -> bool:
        """Whether it ended within `timeout` seconds."""
        return wait_until(lambda: not self.alive, timeout)

    def stop(self, grace: float = 10.0) -> None:
        """Ask it to end; after `grace` seconds kill it and everything that it started."""
        family = self._family()
        self.signal(self.stop_signal)
        if not self.wait(grace):
            self.kill()
        self._forget(family)

    def kill(self) -> None:
        """Kill it at once (SIGKILL), with everything that it started."""
        family = self._family()
        self.signal(signal.SIGKILL)
        self.wait(10)
        self._forget(family)

    def _family(self) -> list[psutil.Process]:
        if not self.alive or self.pid is None:
            return []
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def _forget(self, family: Sequence[psutil.Process]) -> None:
        _kill_all(family)
        if self.pid is not None:
            child = _children.pop(self.pid, None)
            if child is not None:
                child.wait(timeout=10)
        self.pid = self.born = None
        self.on_change()

    def tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        return tail(self.log, lines)

    def to_state(self) -> dict[str, Any]:
        """What `from_state` needs to find the process again, and to start it again. Holds its environment: secrets."""
        return {
            "name": self.name, "argv": self.argv, "env": self.env, "cwd": str(self.cwd), "log": str(self.log),
            "user": list(self.user) if self.user else None, "stop_signal": int(self.stop_signal), "pid": self.pid,
            "born": self.born,
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Process:
        """The process that `to_state` described, perhaps in another command."""
        user = state["user"]
        return cls(
            name=state["name"], argv=state["argv"], env=state["env"], cwd=Path(state["cwd"]), log=Path(state["log"]),
            user=(user[0], user[1]) if user else None, stop_signal=state["stop_signal"], pid=state["pid"],
            born=state["born"],
        )  # fmt: skip


class OneProcess:
    """What every part that is one process of this machine has."""

    process: Process

    @property
    def alive(self) -> bool:
        """Whether it runs now."""
        return self.process.alive

    @property
    def pid(self) -> int | None:
        """Its process; None while it does not run."""
        return self.process.pid if self.process.alive else None

    @property
    def log(self) -> Path:
        """The file that holds what it prints."""
        return self.process.log

    def log_text(self) -> str:
        """All that it has printed, over all its starts."""
        return self.read_log()[0]

    def read_log(self, position: int = 0) -> tuple[str, int]:
        """What it has printed since a position that this gave before, and the new position."""
        try:
            with self.process.log.open("rb") as file:
                file.seek(position)
                read = file.read()
        except FileNotFoundError:
            return "", position
        return read.decode("utf-8", "replace"), position + len(read)

    @property
    def environment(self) -> dict[str, str]:
        """Its environment variables: a copy. Holds secrets."""
        return dict(self.process.env)

    def change_environment(self, changes: Mapping[str, str | None]) -> None:
        """From its next start on, with these variables; None takes one away."""
        changed = {**self.process.env, **changes}
        self.process.env = {name: value for name, value in changed.items() if value is not None}
        self.process.on_change()

    @contextlib.contextmanager
    def twin(self, name: str) -> Iterator[TwinProcess]:
        """One more of it, under another name, for as long as the block runs. For parts that do not listen."""
        own = self.process
        twin = TwinProcess(Process(name, list(own.argv), dict(own.env), own.cwd, own.log.with_name(f"{name}.log")))
        twin.start()
        try:
            yield twin
        finally:
            twin.stop()


class Run(OneProcess):
    """A part of a stack that is one process: how it is stopped, killed and started again."""

    grace = 10.0  # seconds between asking it to end and killing it

    def start(self) -> None:
        """Start it."""
        self.process.start()

    def stop(self, grace: float | None = None) -> None:
        """Ask it to end and wait for it; kill it after `grace` seconds."""
        self.process.stop(self.grace if grace is None else grace)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.process.kill()

    def restart(self) -> None:
        """Stop and start it, on the same port."""
        self.stop()
        self.start()


@dataclass
class TwinProcess(Run):
    """One more of a part: healthy while it runs."""

    process: Process
    address: str | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self.process.name

    @property
    def what(self) -> str:
        """What runs there."""
        return "one more of it"

    def is_healthy(self) -> bool:
        """Whether it runs."""
        return self.process.alive


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log file; "" when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 400 * lines))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
