"""The whole stack on this machine, without Docker: `with NativeStack() as stack: …`, or `up`, `attach` and `down`.

    odoo_db      PostgreSQL 16, holds the template database and the one that Odoo works on
    odoo         Odoo CE 19 with the library under test
    relay        python -m ipai_bridge relay
    supabase_db  PostgreSQL 15 where there is one, otherwise 16, with the platform's roles and the project's migrations
    functions    the Edge Functions, in Deno
    sweep        calls odoo.sweep_events(), as pg_cron does on the platform

Each part can be stopped, killed and started by itself: `stack.relay.kill()`, `stack.supabase_db.stop("immediate")`,
`stack.functions.restart()`; it keeps its port. A stack lives until `down`, whatever becomes of the process that
started it.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from ipai_harness.stack import odoo as odoo_part
from ipai_harness.stack import process, template
from ipai_harness.stack.compose import EXCHANGES, Part, Plan, compose
from ipai_harness.stack.functions import Functions
from ipai_harness.stack.life import StackLife
from ipai_harness.stack.odoo import OdooServer
from ipai_harness.stack.postgres import Cluster
from ipai_harness.stack.process import Process
from ipai_harness.stack.progress import Progress
from ipai_harness.stack.relay import Daemon

KINDS: dict[str, Callable[[Any], Part]] = {
    "odoo_db": Cluster.from_state, "supabase_db": Cluster.from_state, "odoo": OdooServer.from_state,
    "functions": Functions.from_state, "relay": Daemon.from_state, "sweep": Daemon.from_state,
}  # fmt: skip


class NativeStack(StackLife):
    """One stack of processes. By nature: a part that is stopped refuses connections, and a part's process is ours."""

    provider: ClassVar[str] = "native"
    listen_on = "127.0.0.1"

    def __init__(
        self,
        name: str | None = None,
        *,
        modules: Sequence[str] = template.MODULES,
        with_relay: bool = True,
        relay_mode: str = "process",
        workers: int = 0,
        python: str | None = None,
        project: Path | None = None,
        record: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """As StackLife; `python` is the interpreter to run Odoo on.

        `record`: keep every exchange with the functions, as evidence; see `exchanges`.
        """
        super().__init__(
            name, modules=modules, with_relay=with_relay, relay_mode=relay_mode, workers=workers, project=project,
            progress=progress,
        )  # fmt: skip
        self.python = python
        self.record = record

    def _compose(self, go: Callable[..., Future[Any]]) -> dict[str, str]:
        plan = Plan(
            self.token, self.run, self.modules, self.with_relay, self.relay_mode, self.workers, self.python,
            self.project, self.record, self.progress,
        )  # fmt: skip
        return compose(plan, self._register, go)

    def _register(self, name: str, part: Part) -> None:
        """From now on `down` of another process finds the part, whenever it is started again."""
        part.process.on_change = self._save
        self._parts[name] = part
        self._save()

    def _revive(self, name: str, part: Mapping[str, Any]) -> Part:
        revived = KINDS[name](part)
        revived.process.on_change = self._save
        return revived

    def _check(self) -> None:
        if self.relay is not None:
            self.relay.check()
        self.sweep.check()

    # ------------------------------------------------------------------------------------------------- using it

    def clone_database(self, name: str) -> str:
        """A new Odoo database from the template, with the same login, served at once by RPC; its DSN."""
        template.create_database(self.odoo_db, name)
        odoo_part.prepare(self.odoo_db, name, self.values["admin_hash"])
        store = self.run / "odoo-data" / "filestore" / name
        shutil.copytree(self.run / "template-filestore", store, dirs_exist_ok=True)
        return self.odoo_dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a cloned database, ending its sessions, with its filestore."""
        self.odoo_db.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        shutil.rmtree(self.run / "odoo-data" / "filestore" / name, ignore_errors=True)

    @contextmanager
    def reach(self, port: int) -> Iterator[int]:
        """The port under which the parts reach `port` of this machine: the same."""
        yield port

    @property
    def exchanges(self) -> Path | None:
        """Where the exchanges with the functions are recorded; None where they are not."""
        file = self.run / EXCHANGES
        return file if file.exists() or self.record else None

    @property
    def odoo_db(self) -> Cluster:
        """Odoo's PostgreSQL."""
        cluster: Cluster = self._part("odoo_db")
        return cluster

    @property
    def odoo(self) -> OdooServer:
        """Odoo CE 19."""
        server: OdooServer = self._part("odoo")
        return server

    @property
    def relay(self) -> Daemon | None:
        """The relay process; None where there is none."""
        return self._part("relay") if "relay" in self._parts else None

    @property
    def supabase_db(self) -> Cluster:
        """Supabase's PostgreSQL."""
        cluster: Cluster = self._part("supabase_db")
        return cluster

    @property
    def functions(self) -> Functions:
        """The Edge Functions."""
        functions: Functions = self._part("functions")
        return functions

    @property
    def sweep(self) -> Daemon:
        """What stands in for pg_cron."""
        daemon: Daemon = self._part("sweep")
        return daemon

    @property
    def parts(self) -> dict[str, Any]:
        """The parts by name."""
        return dict(super().parts)

    def processes(self) -> dict[str, Process]:
        """Each part's process by the part's name."""
        return {name: part.process for name, part in self.parts.items()}

    # ------------------------------------------------------------------------------------------------- the end

    def _break(self) -> None:
        process.kill_marked(self.token)

    def _remove(self) -> None:
        order = ("relay", "sweep", "odoo", "functions", "supabase_db", "odoo_db")
        threads = [
            threading.Thread(target=self._parts[name].process.stop, args=(5.0,))
            for name in order
            if name in self._parts
        ]
        for part in self._parts.values():
            part.process.on_change = lambda: None
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        process.kill_marked(self.token)
