"""One handle for a stack, whatever it runs on: what tests, features and commands may count on.

    provider.make("native")  ▶ NativeStack   processes of this machine
    provider.make("docker")  ▶ DockerStack   containers of a Docker engine

Both give the same parts under the same names, the same `env`, and the same addresses on 127.0.0.1: what a part is told,
a program of this machine may use too. `tests/harness/test_stack_conformance.py` holds both to what is written here.
What differs by nature is said in the two classes' docstrings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Protocol

import psycopg2.extensions

PARTS = ("odoo_db", "odoo", "relay", "supabase_db", "functions", "sweep")


class Part(Protocol):
    """One program of a stack. It keeps its port over stop, kill and start."""

    @property
    def name(self) -> str:
        """Its name: one of PARTS."""

    @property
    def what(self) -> str:
        """What runs there, for people."""

    @property
    def address(self) -> str | None:
        """Where it listens; None for a part that does not."""

    @property
    def pid(self) -> int | None:
        """Its process on this machine; None while it does not run."""

    @property
    def alive(self) -> bool:
        """Whether it runs now."""

    def is_healthy(self) -> bool:
        """Whether it does its work now."""

    def start(self) -> None:
        """Start it, and return when it is healthy. Nothing happens when it runs. Raises PartFailed."""

    def stop(self) -> None:
        """Ask it to end, and wait for it; kill it when it takes too long."""

    def kill(self) -> None:
        """Kill it and all that it started with SIGKILL."""

    def restart(self) -> None:
        """Stop and start it."""

    @property
    def log(self) -> Path:
        """The file on this machine that holds, or will hold, what it prints."""

    def log_text(self) -> str:
        """All that it has printed, over all its starts."""

    def read_log(self, position: int = 0) -> tuple[str, int]:
        """What it has printed since a position that this gave before, and the new position."""

    @property
    def environment(self) -> dict[str, str]:
        """Its environment variables: a copy. Holds secrets."""

    def change_environment(self, changes: Mapping[str, str | None]) -> None:
        """From its next start on, with these variables; None takes one away."""

    @contextmanager
    def twin(self, name: str) -> Iterator[Part]:
        """One more of it, under another name, for as long as the block runs. For parts that do not listen."""
        raise NotImplementedError


class Database(Part, Protocol):
    """A PostgreSQL server. Stopped "immediate" or killed, it recovers at the next start."""

    @property
    def version(self) -> str:
        """Its version, such as 16.14."""

    def stop(self, mode: str = "fast") -> None:
        """Stop it: "smart", "fast" (ends sessions cleanly) or "immediate" (a crash)."""

    def restart(self, mode: str = "fast") -> None:
        """Stop and start it."""

    def connect(self, database: str = "postgres", user: str | None = None) -> psycopg2.extensions.connection:
        """A connection as the superuser, or as a user of the stack's own, in autocommit."""

    @contextmanager
    def cursor(self, database: str = "postgres", user: str | None = None) -> Iterator[psycopg2.extensions.cursor]:
        """A cursor on such a connection; both are closed at the end."""
        raise NotImplementedError

    def execute(
        self, statement: str, parameters: Sequence[object] | None = None, *, database: str = "postgres"
    ) -> None:
        """One statement, as the superuser."""

    def dsn(self, database: str, user: str, password: str) -> str:
        """The URL of a database."""


class Odoo(Part, Protocol):
    """The Odoo server."""

    bridge: dict[str, str]
    """Section [ipai_bridge] of odoo.conf: change it, then restart."""

    @property
    def url(self) -> str:
        """Its address."""

    def stop(self, grace: float | None = None) -> None:
        """Ask it to end, and wait for it; kill it after `grace` seconds."""

    @property
    def config(self) -> Path:
        """Its odoo.conf, on this machine. Holds passwords."""

    def shell(self, code: str, database: str | None = None) -> str:
        """Run Python code in `odoo shell`, in Odoo's own environment; what it printed. Raises PartFailed."""


class EdgeFunctions(Part, Protocol):
    """The Edge Functions."""

    @property
    def url(self) -> str:
        """The base of the functions' addresses."""

    def health(self) -> dict[str, Any]:
        """What the gateway says of itself; {} when it does not answer."""


class Stack(Protocol):
    """A whole stack. The parts are there after `up` or `attach`."""

    provider: ClassVar[str]
    name: str
    run: Path
    """Its directory on this machine."""
    adopted: bool
    """Whether `up` found it running."""
    workers: int

    def __enter__(self) -> Stack:
        """Up; the block's end is its end too."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Down."""

    def up(self) -> Stack:
        """Start every part; returns when all are healthy. Raises PartFailed, PartMissing, DownloadFailed,
        StackDegraded, StackBusy; an error leaves nothing behind."""

    def down(self) -> bool:
        """Stop everything and remove all that belongs to it; whether there was anything. Raises StackBusy."""

    def env(self) -> dict[str, str]:
        """Addresses, logins and secrets, under the same names on every provider."""

    @property
    def parts(self) -> Mapping[str, Part]:
        """The parts by name."""

    @property
    def odoo_db(self) -> Database:
        """Odoo's PostgreSQL."""

    @property
    def odoo(self) -> Odoo:
        """Odoo CE 19."""

    @property
    def relay(self) -> Part | None:
        """The relay; None where there is none."""

    @property
    def supabase_db(self) -> Database:
        """Supabase's PostgreSQL."""

    @property
    def functions(self) -> EdgeFunctions:
        """The Edge Functions."""

    @property
    def sweep(self) -> Part:
        """What stands in for pg_cron."""

    def unhealthy(self) -> list[str]:
        """The names of the parts that do not work now."""

    def odoo_dsn(self, database: str) -> str:
        """The address of a database in Odoo's cluster, as Odoo's own role."""

    def clone_database(self, name: str) -> str:
        """A new Odoo database from the template, served at once by RPC; its DSN. Odoo must be running."""

    def drop_database(self, name: str) -> None:
        """Drop a cloned database, ending its sessions, with its filestore. Odoo must be running."""

    @property
    def listen_on(self) -> str:
        """The address of this machine where a server of a test must listen for the parts to reach it."""

    @contextmanager
    def reach(self, port: int) -> Iterator[int]:
        """The port on 127.0.0.1 under which the parts reach `port` of `listen_on`, for as long as the block runs."""
        raise NotImplementedError
