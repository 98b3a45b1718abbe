"""How a Docker stack is put together: what each container is told, and what it waits for.

images ─▶ net ─▶ odoo_db ──▶ odoo
           │        └──────▶ relay
           └──▶ supabase_db ──▶ functions, sweep
"""

from __future__ import annotations

import base64
import secrets
import tarfile
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipai_harness.stack import docker_leftovers as leftovers
from ipai_harness.stack import engine, functions, image_ready, images, paths, ports, supabase, template
from ipai_harness.stack import odoo as odoo_part
from ipai_harness.stack.compose import INSTANCE, LOGIN
from ipai_harness.stack.container import HOME, Container, Recipe
from ipai_harness.stack.container_parts import (
    SERVE,
    ContainerDatabase,
    ContainerFunctions,
    ContainerOdoo,
    postgres_argv,
)
from ipai_harness.stack.relay import SWEEP_EVERY, WHAT

if TYPE_CHECKING:
    from ipai_harness.stack.docker import DockerStack

PLACE = "/srv/ipai"
"""In the functions' container: the gateway, the project, Deno's cache."""
COMMON = {"LANG": "C.UTF-8", "TZ": "UTC", "PYTHONUNBUFFERED": "1"}
FORWARD = """
import socket, sys, threading
own, host, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
def pump(source, sink):
    try:
        while block := source.recv(65536):
            sink.sendall(block)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        source.close(), sink.close()
server = socket.create_server(("127.0.0.1", own))
print("listening")
while True:
    near, _ = server.accept()
    try:
        far = socket.create_connection((host, port))
    except OSError:
        near.close()
        continue
    for pair in ((near, far), (far, near)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


def _password() -> str:
    return secrets.token_hex(16)


class Composition:
    """One stack that is being put together. `register` is given each part before it starts."""

    def __init__(
        self, stack: DockerStack, register: Callable[[str, Container], None], go: Callable[..., Future[Any]]
    ) -> None:
        self.stack = stack
        self.register = register
        self.go = go
        self.client = engine.client()
        self.step = stack.progress.step
        self.title = f"ipai-{stack.name}-{stack.token[:6]}"
        self.labels = leftovers.labels(stack.name, stack.token)
        self.gateway = ""
        self.project = (stack.project or paths.supabase_project()).resolve()
        self.admin, self.odoo_password, self.supabase_password, self.jwt_secret = (_password() for _ in range(4))
        self.superusers = (_password(), _password())
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        self.ports = {name: ports.free_port() for name in ("odoo_db", "odoo", "supabase_db", "functions")}
        self.url = f"http://127.0.0.1:{self.ports['functions']}{functions.PREFIX}"
        self.secret_file = self._private("secret", f"{self.secret}\n".encode())

    def start(self) -> dict[str, str]:
        """Start everything; logins, addresses and secrets."""
        hashed = self.go(odoo_part.password_hash, self.admin)
        fetched = self.go(functions.prefetch, self.project, self.stack.progress, self.stack.token)
        chosen = {
            name: images.choose(self.client, role, self.stack.images, self.stack.progress)[0]
            for name, role in images.ROLES.items()
        }
        with engine.failing("the stack's network could not be made"):
            network = self._network(chosen["postgres-16"])
        supabase_db = self.go(self.supabase_db, chosen["postgres-15"], network)
        ready = self.go(self.ready, chosen)
        self.go(self.functions, chosen["deno"], network, supabase_db, fetched)
        self.go(self.sweep, network, supabase_db, ready)
        odoo_db = self.go(self.odoo_db, network, ready, hashed)
        self.go(self.odoo, network, ready, odoo_db)
        if self.stack.with_relay:
            self.go(self.relay, network, ready, odoo_db)
        base = self.url.removesuffix("/functions/v1")
        return {
            "odoo_login": LOGIN, "odoo_password": self.admin, "odoo_db": template.DATABASE, "functions_url": self.url,
            "supabase_url": base, "storage_url": f"{base}/storage/v1",
            "secret": self.secret, "instance": INSTANCE, "secret_file": str(self.secret_file),
            "jwt_secret": self.jwt_secret, "anon_key": supabase.jwt(self.jwt_secret, "anon"),
            "service_role_key": supabase.jwt(self.jwt_secret, "service_role"), "odoo_db_password": self.odoo_password,
            "supabase_db_password": self.supabase_password, "admin_hash": hashed.result(),
        }  # fmt: skip

    # ----------------------------------------------------------------------------------------------- what is shared

    def _private(self, name: str, content: bytes) -> Path:
        file = self.stack.run / name
        file.touch(mode=0o600)
        file.write_bytes(content)
        return file

    def _recipe(self, part: str, image: str, argv: list[str], env: dict[str, str], network: str, user: str) -> Recipe:
        return Recipe(image, argv, {**COMMON, **env}, self.labels, network, f"{self.title}-{part}", user)

    def _log(self, part: str) -> Path:
        return self.stack.run / f"{part}.log"

    def _network(self, image: str) -> str:
        """Make the private network and what holds it open; how the other containers join it."""
        network = self.client.networks.create(self.title, driver="bridge", labels=self.labels, check_duplicate=True)
        recipe = self._recipe("net", image, ["/bin/sleep", "infinity"], {}, self.title, "")
        recipe.ports, recipe.stop_signal = sorted(self.ports.values()), "SIGKILL"
        net = Container("net", "the network", recipe, self._log("net"))
        self.register("net", net)
        net.start()
        network.reload()
        self.gateway = network.attrs["IPAM"]["Config"][0]["Gateway"].partition("/")[0]
        return f"container:{recipe.title}"

    def ready(self, chosen: dict[str, str]) -> tuple[str, str]:
        """The images of Odoo with the library, and of its database."""
        progress = self.stack.progress
        odoo, database = image_ready.prepare(
            self.client, (chosen["odoo"], chosen["postgres-16"]), self.stack.modules, self.labels, self.stack.run,
            progress,
        )  # fmt: skip
        return images.library(self.client, odoo, progress, self.stack.token), database

    # ---------------------------------------------------------------------------------------------------- the parts

    def _database(self, name: str, image: str, network: str, superuser: str, passwords: dict[str, str]) -> Any:
        port = self.ports[name]
        recipe = self._recipe(name, image, postgres_argv(superuser, port), {}, network, "postgres")
        recipe.health = ["CMD", "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        recipe.stop_signal = "SIGINT"
        database = ContainerDatabase(
            name, f"PostgreSQL ({image})", recipe, self._log(name), address=f"127.0.0.1:{port}", port=port,
            superuser=superuser, passwords=passwords,
        )  # fmt: skip
        self.register(name, database)
        database.start()
        return database

    def supabase_db(self, image: str, network: str) -> ContainerDatabase:
        """Supabase's database, with the project's migrations."""
        passwords = {supabase.SUPERUSER: self.superusers[0], supabase.ROLE: self.supabase_password}
        with self.step("supabase_db", f"starting {image}"):
            database: ContainerDatabase = self._database("supabase_db", image, network, supabase.SUPERUSER, passwords)
        with self.step("supabase_db", "applying the migrations"):
            supabase.create_schema(database, self.project, self.supabase_password)
        return database

    def _supabase_dsn(self, database: Future[ContainerDatabase]) -> str:
        return database.result().dsn(supabase.DATABASE, supabase.ROLE, self.supabase_password)

    def functions(self, image: str, network: str, database: Future[ContainerDatabase], fetched: Future[None]) -> None:
        """The Edge Functions, with what they import."""
        port = self.ports["functions"]
        fetched.result()
        archive = self._private("functions.tar", b"")
        with tarfile.open(archive, "w") as tar:
            for file in sorted(functions.GATEWAY.parent.glob("*.ts")):
                images.add(tar, file, f"{PLACE}/{file.name}")
            images.add(tar, self.project, f"{PLACE}/project")
            images.add(tar, paths.cache() / "deno", f"{PLACE}/deno")
        configuration = f"{PLACE}/project/functions/deno.json"
        has_one = (self.project / "functions" / "deno.json").is_file()
        argv = functions.argv(
            "deno", ["--config", configuration] if has_one else [], f"{PLACE}/gateway.ts", f"{PLACE}/project",
            "0.0.0.0", port, storage="/tmp/storage",  # noqa: S104, S108 -- the container's; its port is ours alone
        )  # fmt: skip
        env = {
            **functions.cache_environment(f"{PLACE}/deno"), "SUPABASE_DB_URL": self._supabase_dsn(database),
            "SUPABASE_URL": f"http://127.0.0.1:{port}", "SUPABASE_JWT_SECRET": self.jwt_secret,
            "SUPABASE_ANON_KEY": supabase.jwt(self.jwt_secret, "anon"),
            "SUPABASE_SERVICE_ROLE_KEY": supabase.jwt(self.jwt_secret, "service_role"),
            "IPAI_BRIDGE_SECRET": self.secret,
        }  # fmt: skip
        recipe = self._recipe("functions", image, argv, env, network, "deno")
        ask = f"Deno.exit((await fetch('{self.url}/_health')).ok ? 0 : 1)"
        recipe.health = ["CMD", "deno", "eval", "--no-config", ask]
        edge = ContainerFunctions(
            "functions", f"Deno ({image})", recipe, self._log("functions"), str(archive), address=self.url, port=port
        )
        self.register("functions", edge)
        with self.step("functions", "starting the Edge Functions"):
            edge.start()

    def sweep(self, network: str, database: Future[ContainerDatabase], ready: Future[tuple[str, str]]) -> None:
        """What pg_cron does on the platform."""
        argv = ["python3", "-m", "ipai_harness.stack.sweep", str(SWEEP_EVERY)]
        env = {"SUPABASE_DB_URL": self._supabase_dsn(database)}
        self._daemon("sweep", ready.result()[0], argv, env, network)

    def relay(self, network: str, ready: Future[tuple[str, str]], database: Future[ContainerDatabase]) -> None:
        """The relay."""
        env = {
            "IPAI_BRIDGE_URL": self.url, "IPAI_BRIDGE_SECRET_FILE": f"{HOME}/secret", "IPAI_BRIDGE_INSTANCE": INSTANCE,
            "IPAI_BRIDGE_DSN": database.result().dsn(template.DATABASE, template.ROLE, self.odoo_password),
        }  # fmt: skip
        self._daemon("relay", ready.result()[0], ["ipai-bridge", "relay"], env, network, secret=True)

    def _daemon(
        self, name: str, image: str, argv: list[str], env: dict[str, str], network: str, *, secret: bool = False
    ) -> None:
        daemon = Container(name, WHAT[name], self._recipe(name, image, argv, env, network, "odoo"), self._log(name))
        if secret:
            daemon.files = {"secret": str(self.secret_file)}
        self.register(name, daemon)
        daemon.start()

    def odoo_db(self, network: str, ready: Future[tuple[str, str]], hashed: Future[str]) -> ContainerDatabase:
        """Odoo's database, ready to serve."""
        image = ready.result()[1]
        with self.step("odoo_db", "starting PostgreSQL 16"):
            passwords = {template.SUPERUSER: self.superusers[1]}
            database: ContainerDatabase = self._database("odoo_db", image, network, template.SUPERUSER, passwords)
            database.execute(f"ALTER ROLE {template.ROLE} PASSWORD %s", [self.odoo_password])
            odoo_part.prepare(database, template.DATABASE, hashed.result())
        return database

    def odoo(self, network: str, ready: Future[tuple[str, str]], database: Future[ContainerDatabase]) -> None:
        """The server."""
        port = self.ports["odoo"]
        options = {
            "server_wide_modules": "base,rpc,web,ipai_bridge",
            **odoo_part.settings(
                data=image_ready.STORE, db_port=self.ports["odoo_db"], db_password=self.odoo_password,
                database=template.DATABASE, port=port, workers=self.stack.workers,
                interface="0.0.0.0",  # noqa: S104 -- the container's; it is published on 127.0.0.1 only
            ),
        }  # fmt: skip
        bridge = {
            "url": self.url, "secret_file": str(self.secret_file), "instance": INSTANCE,
            "relay": self.stack.relay_mode,
        }  # fmt: skip
        store = f"{image_ready.STORE}/filestore"
        first = f"cp -RT {store}/{template.TEMPLATE} {store}/{template.DATABASE}\n"
        argv = ["/bin/sh", "-c", first + SERVE.format(home=HOME), "odoo"]
        recipe = self._recipe("odoo", ready.result()[0], argv, {}, network, "odoo")
        ask = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}/web/health', timeout=5)"
        recipe.health = ["CMD", "python3", "-c", ask]
        server = ContainerOdoo(
            "odoo", odoo_part.what(options), recipe, self._log("odoo"), address=f"http://127.0.0.1:{port}", port=port,
            database=template.DATABASE, password=self.admin, config_file=str(self.stack.run / "odoo.conf"),
            options=options, bridge=bridge,
        )  # fmt: skip
        self.register("odoo", server)
        database.result()
        with self.step("odoo", "starting Odoo CE 19"):
            server.start()
