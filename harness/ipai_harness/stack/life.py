"""The life of a stack, on whatever it runs: up, attach, the state file that others find it by, down.

A provider says how the parts are put together (`_compose`), how they are read from the state file (`_revive`), and how
all that carries the stack's token is removed (`_remove`, `_break`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ipai_harness.errors import PartFailed, StackBusy, StackDegraded, StackNotRunning
from ipai_harness.stack import paths, ports, process, state, supabase, template
from ipai_harness.stack.handle import PARTS, Database, EdgeFunctions, Odoo, Part
from ipai_harness.stack.locks import try_locked
from ipai_harness.stack.progress import Progress, quiet

if TYPE_CHECKING:
    from typing_extensions import Self

ATTEMPTS = 3  # starts, when another program takes a port that was free a moment before

T = TypeVar("T")


class StackLife(ABC):
    """One stack. The parts are there after `up` or `attach`."""

    provider: ClassVar[str]

    def __init__(
        self,
        name: str | None = None,
        *,
        modules: Sequence[str] = template.MODULES,
        with_relay: bool = True,
        relay_mode: str = "process",
        workers: int = 0,
        project: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        """`relay_mode` is what Odoo is told ("process", "inline", "off"); a relay process runs for "process" only."""
        self.name = state.check_name(name or f"s-{secrets.token_hex(4)}")
        self.modules = tuple(modules)
        self.with_relay = with_relay and relay_mode == "process"
        self.relay_mode = relay_mode
        self.workers = workers
        self.project = project
        self.progress = progress or quiet()
        self.token = ""
        self.run = Path()
        self.ready = False
        self.adopted = False  # whether `up` found it running
        self.values: dict[str, str] = {}
        self.owner: tuple[int, str | None] | None = None  # whose `with` block it is
        self._parts: dict[str, Any] = {}
        self._writing = threading.Lock()

    # ------------------------------------------------------------------------------------------ what a provider says

    @abstractmethod
    def _compose(self, go: Callable[..., Future[Any]]) -> dict[str, str]:
        """Start everything through `go`, which runs a function in a thread; logins, addresses and secrets."""

    @abstractmethod
    def _revive(self, name: str, part: Mapping[str, Any]) -> Any:
        """The part that its `to_state` described."""

    @abstractmethod
    def _break(self) -> None:
        """End at once whatever the threads of an `up` that failed may wait for."""

    @abstractmethod
    def _remove(self) -> None:
        """Stop and remove all that belongs to the stack, but for its run directory and its state file."""

    def _check(self) -> None:  # noqa: B027 -- may be left as it is
        """Raises PartFailed when a part has ended by the end of `up`."""

    # ------------------------------------------------------------------------------------------------ starting

    def __enter__(self) -> Self:
        self.owner = (os.getpid(), process.birth(os.getpid()))
        return self.up()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> Self:
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
                if self.ready and any(part.alive for part in self._parts.values()):
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
                    if ports.is_taken(error.log_tail or error.reason) and attempt < ATTEMPTS:
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
            self.values = self._compose(go)
            self._await(running)
            self._check()
            self.ready = True
            self._save()
        except BaseException:
            for future in running:
                future.cancel()
            # Threads wait for programs that they started: ending those ends them. One may be about to start another.
            while not all(future.done() for future in running):
                self._break()
                wait(running, timeout=0.2)
            raise
        finally:
            pool.shutdown(wait=True)

    def _keep_log(self, error: PartFailed) -> PartFailed:
        """The same error, with the whole log put where it outlives the stack: one file per name, the latest."""
        part = self._parts.get(error.part)
        kept = paths.kept_log(self.name)
        text = part.log_text() if part is not None else ""
        if part is None or not text:
            return error
        kept.write_text(text)
        hint = error.hint.replace(str(part.log), str(kept))
        return PartFailed(error.part, error.reason, log_tail=error.log_tail, hint=hint)

    @staticmethod
    def _await(running: list[Future[Any]]) -> None:
        done, _ = wait(running, return_when=FIRST_EXCEPTION)
        failed = [error for future in done if (error := future.exception()) is not None]
        if failed:
            # A part that waits for another fails with that one's error: the first is the cause.
            raise failed[0]

    # ------------------------------------------------------------------------------------------------- the state

    def _save(self) -> None:
        with self._writing:
            if not self.token:
                return
            state.write(self.name, {
                "provider": self.provider, "token": self.token, "run": str(self.run), "ready": self.ready,
                "values": self.values, "modules": list(self.modules), "relay_mode": self.relay_mode,
                "workers": self.workers, "owner": self.owner, **self._own_state(),
                "parts": {name: part.to_state() for name, part in dict(self._parts).items()},
            })  # fmt: skip

    def _own_state(self) -> dict[str, Any]:
        return {}

    def _load_own_state(self, found: Mapping[str, Any]) -> None:  # noqa: B027 -- may be left as it is
        """What `_own_state` gave, before the parts are revived."""

    def _load(self) -> None:
        found = state.read(self.name)
        self.token, self.run, self.ready = found["token"], Path(found["run"]), found["ready"]
        self.values, self.modules = found["values"], tuple(found["modules"])
        self.relay_mode, self.workers = found["relay_mode"], found["workers"]
        self._load_own_state(found)
        self._parts = {name: self._revive(name, part) for name, part in found["parts"].items()}
        self.with_relay = "relay" in self._parts

    @classmethod
    def attach(cls, name: str = "default", *, progress: Progress | None = None) -> Self:
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
            "odoo_postgres": self.odoo_db.version,
            "supabase_postgres": self.supabase_db.version,
        }

    def odoo_dsn(self, database: str) -> str:
        """The address of a database in Odoo's cluster, as Odoo's own role."""
        return self.odoo_db.dsn(database, template.ROLE, self.values["odoo_db_password"])

    @property
    def odoo_db(self) -> Database:
        """Odoo's PostgreSQL."""
        part: Database = self._part("odoo_db")
        return part

    @property
    def odoo(self) -> Odoo:
        """Odoo CE 19."""
        part: Odoo = self._part("odoo")
        return part

    @property
    def relay(self) -> Part | None:
        """The relay; None where there is none."""
        return self._part("relay") if "relay" in self._parts else None

    @property
    def supabase_db(self) -> Database:
        """Supabase's PostgreSQL."""
        part: Database = self._part("supabase_db")
        return part

    @property
    def functions(self) -> EdgeFunctions:
        """The Edge Functions."""
        part: EdgeFunctions = self._part("functions")
        return part

    @property
    def sweep(self) -> Part:
        """What stands in for pg_cron."""
        part: Part = self._part("sweep")
        return part

    def _part(self, name: str) -> Any:
        part = self._parts.get(name)
        if part is None:
            raise StackNotRunning(f"the stack {self.name!r} has no {name}: it is not up, or was started without it")
        return part

    @property
    def parts(self) -> Mapping[str, Part]:
        """The parts by name."""
        return {name: self._parts[name] for name in PARTS if name in self._parts}

    def unhealthy(self) -> list[str]:
        """The names of the parts that do not work now."""

        def broken(part: Part) -> bool:
            try:
                return not part.is_healthy()
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
        before = signal.getsignal(signal.SIGINT)
        main = threading.current_thread() is threading.main_thread()
        if main:  # a second Ctrl-C would leave half of it behind
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._remove()
            paths.remove_run(self.run)
            state.file(self.name).unlink(missing_ok=True)
            self.token, self.ready, self._parts = "", False, {}
        finally:
            if main:
                signal.signal(signal.SIGINT, before)
