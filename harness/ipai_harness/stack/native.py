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

import contextlib
import secrets
import shutil
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from ipai_harness.errors import PartFailed, StackBusy, StackDegraded, StackNotRunning
from ipai_harness.stack import odoo as odoo_part
from ipai_harness.stack import paths, ports, process, state, supabase, template
from ipai_harness.stack.compose import EXCHANGES, Part, Plan, compose
from ipai_harness.stack.functions import Functions
from ipai_harness.stack.locks import try_locked
from ipai_harness.stack.odoo import OdooServer
from ipai_harness.stack.postgres import Cluster
from ipai_harness.stack.process import Process
from ipai_harness.stack.progress import Progress, quiet
from ipai_harness.stack.relay import Daemon

ATTEMPTS = 3  # starts, when another program takes a port that was free a moment before
PARTS = ("odoo_db", "odoo", "relay", "supabase_db", "functions", "sweep")

T = TypeVar("T")


class NativeStack:
    """One stack. The parts are there after `up` or `attach`."""

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
        """`relay_mode` is what Odoo is told ("process", "inline", "off"); a relay process runs for "process" only.

        `record`: keep every exchange with the functions, as evidence; see `exchanges`.
        """
        self.name = state.check_name(name or f"s-{secrets.token_hex(4)}")
        self.modules = tuple(modules)
        self.with_relay = with_relay and relay_mode == "process"
        self.relay_mode = relay_mode
        self.workers = workers
        self.python = python
        self.project = project
        self.record = record
        self.progress = progress or quiet()
        self.token = ""
        self.run = Path()
        self.ready = False
        self.adopted = False  # whether `up` found it running
        self.values: dict[str, str] = {}
        self._parts: dict[str, Part] = {}
        self._writing = threading.Lock()

    # ------------------------------------------------------------------------------------------------ starting

    def __enter__(self) -> NativeStack:
        return self.up()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> NativeStack:
        """Start every part; returns when all are healthy.

        A stack of that name that runs already is taken over as it is. Raises PartFailed, PartMissing, DownloadFailed;
        StackDegraded when it runs in part; StackBusy when another command is at it. An error leaves nothing behind.
        """
        with self._locked():
            if state.file(self.name).exists():
                self._load()
                if self.ready and not self.unhealthy():
                    self.adopted = True
                    return self
                if self.ready and any(part.process.alive for part in self._parts.values()):
                    raise StackDegraded(
                        f"the stack {self.name!r} runs without {', '.join(self.unhealthy())}. "
                        f"Run: ipai-harness down --name {self.name}, then up again"
                    )
                self._clean()  # left by an `up` that was killed, or by a reboot
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    self._start()
                except PartFailed as error:
                    failed = self._keep_log(error)
                    self._clean()
                    if ports.is_taken(error.log_tail) and attempt < ATTEMPTS:
                        continue
                    raise failed from error
                except BaseException:
                    self._clean()
                    raise
                paths.kept_log(self.name).unlink(missing_ok=True)
                return self
        raise AssertionError("unreachable")

    def _start(self) -> None:
        self.token = secrets.token_hex(16)
        self.run = paths.new_run(self.name)
        self.ready, self._parts = False, {}
        self._save()
        pool = ThreadPoolExecutor(8, thread_name_prefix="up")
        running: list[Future[Any]] = []

        def go(function: Callable[..., T], *arguments: Any) -> Future[T]:
            future = pool.submit(function, *arguments)
            running.append(future)
            return future

        try:
            self.values = compose(self._plan(), self._register, go)
            self._await(running)
            if self.relay is not None:
                self.relay.check()
            self.sweep.check()
            self.ready = True
            self._save()
        except BaseException:
            for future in running:
                future.cancel()
            # Threads wait for programs that they started: ending those ends them. One may be about to start another.
            while not all(future.done() for future in running):
                process.kill_marked(self.token)
                wait(running, timeout=0.2)
            raise
        finally:
            pool.shutdown(wait=True)

    def _keep_log(self, error: PartFailed) -> PartFailed:
        """The same error, with the whole log put where it outlives the stack: one file per name, the latest."""
        part = self._parts.get(error.part)
        kept = paths.kept_log(self.name)
        if part is None or not part.process.log.exists():
            return error
        shutil.copyfile(part.process.log, kept)
        hint = error.hint.replace(str(part.process.log), str(kept))
        return PartFailed(error.part, error.reason, log_tail=error.log_tail, hint=hint)

    @staticmethod
    def _await(running: list[Future[Any]]) -> None:
        done, _ = wait(running, return_when=FIRST_EXCEPTION)
        failed = [error for future in done if (error := future.exception()) is not None]
        if failed:
            # A part that waits for another fails with that one's error: the first is the cause.
            raise failed[0]

    def _plan(self) -> Plan:
        return Plan(
            self.token, self.run, self.modules, self.with_relay, self.relay_mode, self.workers, self.python,
            self.project, self.record, self.progress,
        )  # fmt: skip

    def _register(self, name: str, part: Part) -> None:
        """From now on `down` of another process finds the part, whenever it is started again."""
        part.process.on_change = self._save
        self._parts[name] = part
        self._save()

    # ------------------------------------------------------------------------------------------------- the state

    def _save(self) -> None:
        with self._writing:
            if not self.token:
                return
            state.write(self.name, {
                "token": self.token, "run": str(self.run), "ready": self.ready, "values": self.values,
                "modules": list(self.modules), "relay_mode": self.relay_mode, "workers": self.workers,
                "parts": {name: part.to_state() for name, part in dict(self._parts).items()},
            })  # fmt: skip

    def _load(self) -> None:
        found = state.read(self.name)
        self.token, self.run, self.ready = found["token"], Path(found["run"]), found["ready"]
        self.values, self.modules = found["values"], tuple(found["modules"])
        self.relay_mode, self.workers = found["relay_mode"], found["workers"]
        kinds: dict[str, Callable[[Any], Part]] = {
            "odoo_db": Cluster.from_state, "supabase_db": Cluster.from_state, "odoo": OdooServer.from_state,
            "functions": Functions.from_state, "relay": Daemon.from_state, "sweep": Daemon.from_state,
        }  # fmt: skip
        self._parts = {}
        for name, part_state in found["parts"].items():
            part = kinds[name](part_state)
            part.process.on_change = self._save
            self._parts[name] = part
        self.with_relay = self.relay is not None

    @classmethod
    def attach(cls, name: str = "default", *, progress: Progress | None = None) -> NativeStack:
        """A stack that another command started. Raises StackNotRunning."""
        stack = cls(name, progress=progress)
        stack._load()
        if not stack.ready:
            raise StackNotRunning(f"the stack {name!r} is being started, or its start was cut off: run up, or down")
        return stack

    @contextlib.contextmanager
    def _locked(self) -> Any:
        with try_locked(state.lock(self.name)) as mine:
            if not mine:
                raise StackBusy(
                    f"another command starts or stops the stack {self.name!r}: wait for it, or use another --name"
                )
            yield

    # ------------------------------------------------------------------------------------------------- using it

    def env(self) -> dict[str, str]:
        """Addresses, logins and secrets of everything that runs."""
        values = self.values
        return {
            "odoo_url": self.odoo.url,
            "odoo_db": values["odoo_db"],
            "odoo_login": values["odoo_login"],
            "odoo_password": values["odoo_password"],
            "odoo_dsn": self.odoo_dsn(values["odoo_db"]),
            "functions_url": values["functions_url"],
            "storage_url": values["storage_url"],
            "supabase_url": values["supabase_url"],
            "supabase_dsn": self.supabase_db.dsn(supabase.DATABASE, supabase.ROLE, values["supabase_db_password"]),
            "secret": values["secret"],
            "instance": values["instance"],
            "name": self.name,
            "secret_file": values["secret_file"],
            "odoo_conf": str(self.odoo.config),
            "run_dir": str(self.run),
            "jwt_secret": values["jwt_secret"],
            "anon_key": values["anon_key"],
            "service_role_key": values["service_role_key"],
            "odoo_postgres": self.odoo_db.installation.version,
            "supabase_postgres": self.supabase_db.installation.version,
        }

    def odoo_dsn(self, database: str) -> str:
        """The address of a database in Odoo's cluster, as Odoo's own role."""
        return self.odoo_db.dsn(database, template.ROLE, self.values["odoo_db_password"])

    def clone_database(self, name: str) -> str:
        """A new Odoo database from the template, with the same login, served at once by RPC; its DSN."""
        store = self.run / "odoo-data" / "filestore"
        template.create_database(self.odoo_db, name)
        odoo_part.prepare(self.odoo_db, name, self.values["admin_hash"], self.run / "template-filestore", store)
        return self.odoo_dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a cloned database, ending its sessions, with its filestore."""
        self.odoo_db.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        shutil.rmtree(self.run / "odoo-data" / "filestore" / name, ignore_errors=True)

    @property
    def exchanges(self) -> Path | None:
        """Where the exchanges with the functions are recorded; None where they are not."""
        file = self.run / EXCHANGES
        return file if file.exists() or self.record else None

    @property
    def odoo_db(self) -> Cluster:
        """Odoo's PostgreSQL."""
        return self._part("odoo_db", Cluster)

    @property
    def odoo(self) -> OdooServer:
        """Odoo CE 19."""
        return self._part("odoo", OdooServer)

    @property
    def relay(self) -> Daemon | None:
        """The relay process; None where there is none."""
        return self._part("relay", Daemon) if "relay" in self._parts else None

    @property
    def supabase_db(self) -> Cluster:
        """Supabase's PostgreSQL."""
        return self._part("supabase_db", Cluster)

    @property
    def functions(self) -> Functions:
        """The Edge Functions."""
        return self._part("functions", Functions)

    @property
    def sweep(self) -> Daemon:
        """What stands in for pg_cron."""
        return self._part("sweep", Daemon)

    def _part(self, name: str, kind: type[T]) -> T:
        part = self._parts.get(name)
        if not isinstance(part, kind):
            raise StackNotRunning(f"the stack {self.name!r} has no {name}: it is not up, or was started without it")
        return part

    @property
    def parts(self) -> dict[str, Part]:
        """The parts by name."""
        return {name: self._parts[name] for name in PARTS if name in self._parts}

    def processes(self) -> dict[str, Process]:
        """Each part's process by the part's name."""
        return {name: part.process for name, part in self.parts.items()}

    def unhealthy(self) -> list[str]:
        """The names of the parts that do not work now."""

        def broken(part: Part) -> bool:
            try:
                return not (part.is_ready() if isinstance(part, Cluster) else part.is_healthy())
            except (OSError, ValueError):
                return True

        return [name for name, part in self.parts.items() if broken(part)]

    # ------------------------------------------------------------------------------------------------- the end

    def down(self) -> bool:
        """Stop everything and remove all that belongs to it; whether there was anything. Raises StackBusy."""
        with self._locked():
            there = state.file(self.name).exists()
            if there:
                self._load()
                self._clean()
            paths.kept_log(self.name).unlink(missing_ok=True)
            return there

    def _clean(self) -> None:
        order = ("relay", "sweep", "odoo", "functions", "supabase_db", "odoo_db")
        before = signal.getsignal(signal.SIGINT)
        main = threading.current_thread() is threading.main_thread()
        if main:  # a second Ctrl-C would leave half of it behind
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
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
            paths.remove_run(self.run)
            state.file(self.name).unlink(missing_ok=True)
            self.token, self.ready, self._parts = "", False, {}
        finally:
            if main:
                signal.signal(signal.SIGINT, before)


def down_all() -> list[str]:
    """Stop every stack of this user; their names."""
    gone = state.names()
    for name in gone:
        NativeStack(name).down()
    return gone
