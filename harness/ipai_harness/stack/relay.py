"""The two small processes: the relay (`python -m ipai_bridge relay`), and the sweep in place of pg_cron."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipai_harness.errors import PartFailed
from ipai_harness.stack import paths
from ipai_harness.stack.process import Process, Run

SWEEP_EVERY = 5.0  # seconds
WHAT = {"relay": "python -m ipai_bridge relay", "sweep": "in place of pg_cron"}


@dataclass
class Daemon(Run):
    """A process without a port: healthy while it runs."""

    process: Process

    @property
    def name(self) -> str:
        """The part's name."""
        return self.process.name

    @property
    def what(self) -> str:
        """What runs there, for people."""
        return WHAT[self.name]

    @property
    def address(self) -> None:
        """It listens nowhere."""
        return

    def is_healthy(self) -> bool:
        """Whether it runs."""
        return self.process.alive

    def check(self) -> None:
        """Raises PartFailed when it has ended."""
        if not self.process.alive:
            raise PartFailed(
                self.name, "it ended", log_tail=self.process.tail(), hint=f"read the whole log: {self.process.log}"
            )

    def to_state(self) -> dict[str, Any]:
        """What `from_state` needs. Holds secrets."""
        return {"process": self.process.to_state()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Daemon:
        """The daemon that `to_state` described."""
        return cls(Process.from_state(state["process"]))


def _python_path() -> str:
    """Where our own interpreter finds both packages, also in a checkout that is not installed."""
    return ":".join(dict.fromkeys([str(paths.library().parent), str(Path(__file__).resolve().parents[2])]))


def relay(run: Path, env: Mapping[str, str], settings: Mapping[str, str]) -> Daemon:
    """The relay; `settings` is its environment: IPAI_BRIDGE_URL, …_SECRET_FILE, …_INSTANCE, …_DSN."""
    argv = [sys.executable, "-m", "ipai_bridge", "relay"]
    full = {**env, "PYTHONPATH": _python_path(), "PYTHONUNBUFFERED": "1", **settings}
    return Daemon(Process("relay", argv, full, run, run / "relay.log"))


def sweep(run: Path, env: Mapping[str, str], dsn: str) -> Daemon:
    """What pg_cron does on the platform: `select * from odoo.sweep_events()`, again and again."""
    argv = [sys.executable, "-m", "ipai_harness.stack.sweep", str(SWEEP_EVERY)]
    full = {**env, "PYTHONPATH": _python_path(), "PYTHONUNBUFFERED": "1", "SUPABASE_DB_URL": dsn}
    return Daemon(Process("sweep", argv, full, run, run / "sweep.log"))
