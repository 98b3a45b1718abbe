"""The whole stack as containers of a Docker engine: `with DockerStack() as stack: …`, or `up`, `attach` and `down`.

    net          holds the network that the others share, and publishes its ports on 127.0.0.1
    odoo_db      PostgreSQL 16, from an image that holds the template database and the one that Odoo works on
    odoo         Odoo CE 19 with the library installed by pip
    relay        ipai-bridge relay, in the image of Odoo
    supabase_db  PostgreSQL 15, with the platform's roles and the project's migrations
    functions    the Edge Functions, in Deno
    sweep        calls odoo.sweep_events(), as pg_cron does on the platform

As in a pod, all parts share the network of `net`, which stands alone on a private bridge: each reaches the others on
127.0.0.1, under the port that is published on this machine's 127.0.0.1, and nothing else reaches them. The library
refuses plain http to anything but loopback, and here need not be told otherwise.

By nature: the published port of a part that is stopped accepts a connection and closes it; a part with a changed
environment is a new container at its next start; `clone_database` needs Odoo's container to run. Everything carries the
stack's token as a label: what a killed `up` could not write down any more is found by that (`docker_leftovers`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from ipai_harness.errors import PartMissing
from ipai_harness.stack import docker_leftovers as leftovers
from ipai_harness.stack import engine, ports, template
from ipai_harness.stack import odoo as odoo_part
from ipai_harness.stack.container import Container, Recipe
from ipai_harness.stack.container_parts import ContainerDatabase, ContainerFunctions, ContainerOdoo
from ipai_harness.stack.docker_compose import FORWARD, Composition
from ipai_harness.stack.life import StackLife
from ipai_harness.stack.process import wait_until
from ipai_harness.stack.progress import Progress

KINDS: dict[str, Callable[[Any], Any]] = {
    "net": Container.from_state, "odoo_db": ContainerDatabase.from_state, "supabase_db": ContainerDatabase.from_state,
    "odoo": ContainerOdoo.from_state, "functions": ContainerFunctions.from_state, "relay": Container.from_state,
    "sweep": Container.from_state,
}  # fmt: skip


class DockerStack(StackLife):
    """One stack of containers. By nature not like native: see the module's docstring."""

    provider: ClassVar[str] = "docker"

    def __init__(
        self,
        name: str | None = None,
        *,
        modules: Sequence[str] = template.MODULES,
        with_relay: bool = True,
        relay_mode: str = "process",
        workers: int = 0,
        images: Mapping[str, str] | None = None,
        project: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        """As StackLife; `images` names others by their role: odoo, postgres-16, postgres-15, deno."""
        super().__init__(
            name, modules=modules, with_relay=with_relay, relay_mode=relay_mode, workers=workers, project=project,
            progress=progress,
        )  # fmt: skip
        self.images = dict(images or {})
        self.engine = ""
        self.gateway = ""

    def up(self) -> DockerStack:
        """As StackLife; and first removes what stacks that are dead have left on the engine."""
        leftovers.reap(engine.client())
        return super().up()

    def _compose(self, go: Callable[..., Future[Any]]) -> dict[str, str]:
        self.engine = engine.url()
        composition = Composition(self, self._register, go)
        values = composition.start()
        self.gateway = composition.gateway
        return values

    def _register(self, name: str, part: Container) -> None:
        part.on_change = self._save
        self._parts[name] = part
        self._save()

    def _revive(self, name: str, part: Mapping[str, Any]) -> Any:
        revived = KINDS[name](part)
        revived.on_change = self._save
        return revived

    def _own_state(self) -> dict[str, Any]:
        return {"engine": self.engine, "gateway": self.gateway}

    def _load_own_state(self, found: Mapping[str, Any]) -> None:
        self.engine, self.gateway = found["engine"], found["gateway"]
        if self.engine:
            engine.use(self.engine)

    def _check(self) -> None:
        for name in ("relay", "sweep"):
            if name in self._parts:
                self._part(name).check()

    # ------------------------------------------------------------------------------------------------- using it

    def clone_database(self, name: str) -> str:
        """A new Odoo database from the template, with the same login, served at once by RPC; its DSN."""
        template.create_database(self.odoo_db, name)
        odoo_part.prepare(self.odoo_db, name, self.values["admin_hash"])
        self.odoo.copy_filestore(template.TEMPLATE, name)
        return self.odoo_dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a cloned database, ending its sessions, with its filestore."""
        self.odoo_db.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self.odoo.remove_filestore(name)

    @property
    def listen_on(self) -> str:
        """The address of this machine on the stack's private network."""
        return self.gateway

    @contextmanager
    def reach(self, port: int) -> Iterator[int]:
        """The port on the containers' 127.0.0.1 that is passed on to `port` of `listen_on`."""
        own = ports.free_port()
        like: Recipe = self._part("sweep").recipe
        argv = ["python3", "-u", "-c", FORWARD, str(own), self.gateway, str(port)]
        recipe = Recipe(like.image, argv, {}, like.labels, like.network, f"{like.title}-{own}", like.user)
        forward = Container(f"reach-{port}", "passes on", recipe, self.run / f"reach-{own}.log")
        try:
            forward.start()
            wait_until(lambda: "listening" in forward.log_text() or not forward.alive, 10)
            forward.check()
            yield own
        finally:
            forward.remove()

    @property
    def odoo_db(self) -> ContainerDatabase:
        """Odoo's PostgreSQL."""
        database: ContainerDatabase = self._part("odoo_db")
        return database

    @property
    def odoo(self) -> ContainerOdoo:
        """Odoo CE 19."""
        server: ContainerOdoo = self._part("odoo")
        return server

    @property
    def supabase_db(self) -> ContainerDatabase:
        """Supabase's PostgreSQL."""
        database: ContainerDatabase = self._part("supabase_db")
        return database

    @property
    def functions(self) -> ContainerFunctions:
        """The Edge Functions."""
        functions: ContainerFunctions = self._part("functions")
        return functions

    # ------------------------------------------------------------------------------------------------- the end

    def _break(self) -> None:
        leftovers.remove(engine.client(), leftovers.of_token(self.token))

    def _remove(self) -> None:
        if not self.engine:  # cut off before anything was made
            return
        try:
            client = engine.client()
        except PartMissing:
            self.progress.say(
                f"the engine {self.engine} does not answer: what it may still have of the stack {self.name!r} is "
                "removed by the next up or down --all that reaches it"
            )
            return
        parts = [part for name, part in self._parts.items() if name != "net"]
        threads = [threading.Thread(target=part.stop, args=(5.0,)) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        leftovers.remove(client, leftovers.of_token(self.token))
