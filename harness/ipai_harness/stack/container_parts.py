"""The parts of a Docker stack that listen: PostgreSQL, Odoo, the Edge Functions."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
import psycopg2.extensions

from ipai_harness.errors import PartFailed
from ipai_harness.stack import odoo, postgres
from ipai_harness.stack.container import HOME, Container
from ipai_harness.stack.functions import PREFIX, START_TIMEOUT, health
from ipai_harness.stack.process import POLL, wait_until

DATA = "/var/lib/postgresql/ipai"
"""The data directory in a container: not on a volume, so that an image may hold it."""
SOCKET = "/tmp"  # noqa: S108 -- the container's own
SIGNALS = {"smart": "SIGTERM", "fast": "SIGINT", "immediate": "SIGQUIT"}
SERVE = 'exec odoo "$@" -c {home}/odoo.conf --addons-path="$(ipai-bridge addons-path)"'


def postgres_argv(superuser: str, port: int) -> list[str]:
    """What runs in a database's container: it makes the data directory when the image has none."""
    # A published port comes in from the private network, not from the container's own loopback.
    settings = {**postgres.SETTINGS, "listen_addresses": "*", "port": str(port), "unix_socket_directories": SOCKET}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    script = (
        f"[ -s {DATA}/PG_VERSION ] || {{ initdb -D {DATA} -U {superuser} -E UTF8 --locale=C.UTF-8 --auth-local=trust "
        "--auth-host=scram-sha-256 --no-sync --no-instructions "
        f"&& echo host all all all scram-sha-256 >> {DATA}/pg_hba.conf; }} || exit 1\n"
        f'exec postgres -D {DATA} "$@"'
    )
    return ["/bin/sh", "-c", script, "postgres", *options]


@dataclass
class ContainerDatabase(Container):
    """One PostgreSQL server. Its superuser has a password too: no connection comes over its socket."""

    port: int = 0
    superuser: str = ""
    passwords: dict[str, str] = field(default_factory=dict)  # of the superuser, and of the roles of `connect`
    version: str = ""

    def start(self) -> None:
        """Start the server and wait until it takes connections. Raises PartFailed."""
        fresh = self.id is None
        super().start()
        if fresh:
            self._let_in()
        wait_until(lambda: self.is_healthy() or not self.alive, postgres.START_TIMEOUT)
        if not self.is_healthy():
            raise self.failed(f"{self.what} did not start")
        if not self.version:
            with self.cursor() as cursor:
                cursor.execute("show server_version")
                self.version = str((cursor.fetchone() or [""])[0]).split()[0]
            self.what = f"PostgreSQL {self.version} ({self.recipe.image})"
            self.on_change()

    def _let_in(self) -> None:
        """Give the superuser its password, over the socket; on no command line."""
        ask = ["pg_isready", "-q", "-h", SOCKET, "-p", str(self.port)]

        def ready() -> bool:
            with contextlib.suppress(PartFailed):
                self.run(ask)
                return True
            return not self.alive

        wait_until(ready, postgres.START_TIMEOUT)
        if not self.alive:
            raise self.failed(f"{self.what} did not start")
        script = "echo \"ALTER ROLE $WHO PASSWORD '$WORD'\" | psql -q -v ON_ERROR_STOP=1 -h {} -p {} -U $WHO postgres"
        env = {"WHO": self.superuser, "WORD": self.passwords[self.superuser]}
        self.run(["/bin/sh", "-c", script.format(SOCKET, self.port)], env=env)

    def stop(self, mode: str | float | None = "fast") -> None:
        """Stop the server: "fast" ends sessions cleanly; "immediate" is a crash, recovered at the next start."""
        self.signal(SIGNALS[mode if isinstance(mode, str) else "fast"])
        if not wait_until(lambda: not self.alive, 15):
            self.kill()

    def restart(self, mode: str = "fast") -> None:
        """Stop and start it."""
        self.stop(mode)
        self.start()

    def is_healthy(self) -> bool:
        """Whether the server takes connections now."""
        if not self.alive:
            return False
        try:
            self.connect("template1").close()
        except psycopg2.OperationalError:
            return False
        return True

    def connect(self, database: str = "postgres", user: str | None = None) -> psycopg2.extensions.connection:
        """A connection as the superuser, or as a user of the stack's own, in autocommit."""
        user = user or self.superuser
        connection = psycopg2.connect(self.dsn(database, user, self.passwords[user]), connect_timeout=5)
        connection.autocommit = True
        return connection

    @contextlib.contextmanager
    def cursor(self, database: str = "postgres", user: str | None = None) -> Iterator[psycopg2.extensions.cursor]:
        """A cursor on such a connection; both are closed at the end."""
        connection = self.connect(database, user)
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def execute(
        self, statement: str, parameters: Sequence[object] | None = None, *, database: str = "postgres"
    ) -> None:
        """One statement, as the superuser."""
        with self.cursor(database) as cursor:
            cursor.execute(statement, parameters)

    def dsn(self, database: str, user: str, password: str) -> str:
        """The URL of a database: the same in the containers and outside."""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/{quote(database, safe='')}"


@dataclass
class ContainerOdoo(Container):
    """One Odoo server."""

    port: int = 0
    database: str = ""
    password: str = ""
    config_file: str = ""
    options: dict[str, str] = field(default_factory=dict)  # section [options]
    bridge: dict[str, str] = field(default_factory=dict)  # section [ipai_bridge]; change it, then restart

    @property
    def config(self) -> Path:
        """Its odoo.conf on this machine: the very one that is put into the container."""
        return Path(self.config_file)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Put its configuration into it."""
        odoo.write_config(self.config, self.options, self.bridge)
        secret = Path(self.config.with_name("secret")).read_bytes()
        # Inside, the secret's file stands elsewhere than on this machine.
        inside = self.config.read_bytes().replace(
            f"{self.config.with_name('secret')}".encode(), f"{HOME}/secret".encode()
        )
        self.put({"odoo.conf": inside, "secret": secret})

    def start(self) -> None:
        """Start it and wait until it answers an RPC login. Raises PartFailed."""
        super().start()
        deadline = time.monotonic() + odoo.START_TIMEOUT
        seen = "nothing yet"
        while time.monotonic() < deadline and self.alive:
            try:
                if odoo.passes(self.port):
                    seen = "/web/health passes, the login does not"
                    if odoo.logs_in(self.port, self.database, self.password):
                        return
            except (OSError, http.client.HTTPException, ValueError) as error:
                seen = repr(error)
            time.sleep(POLL)
        state = f"did not get ready in {odoo.START_TIMEOUT:.0f} s (last: {seen})" if self.alive else "ended"
        raise self.failed(f"the server {state}")

    def is_healthy(self) -> bool:
        """Whether /web/health says so now."""
        try:
            return self.alive and odoo.passes(self.port)
        except (OSError, http.client.HTTPException, ValueError):
            return False

    def shell(self, code: str, database: str | None = None) -> str:
        """Run Python code in `odoo shell`, in Odoo's own environment; what it printed. Raises PartFailed."""
        self.put({"shell.py": code.encode()})
        script = SERVE.format(home=HOME) + f" < {HOME}/shell.py"
        argv = ["/bin/sh", "-c", script, "odoo", "shell", "-d", database or self.database, *odoo.SHELL]
        try:
            return self.run(argv, env=self.recipe.env)
        except PartFailed as error:
            raise PartFailed(
                self.name, "odoo shell failed", log_tail=error.log_tail, hint="correct the code"
            ) from error

    def copy_filestore(self, template: str, database: str) -> None:
        """Give a database the template's files."""
        store = f"{self.options['data_dir']}/filestore"
        self.run(["cp", "-RT", f"{store}/{template}", f"{store}/{database}"])

    def remove_filestore(self, database: str) -> None:
        """Remove a database's files."""
        self.run(["rm", "-rf", f"{self.options['data_dir']}/filestore/{database}"])


@dataclass
class ContainerFunctions(Container):
    """The functions of one Supabase project, served on one port."""

    port: int = 0

    @property
    def url(self) -> str:
        """The base of the functions' addresses."""
        return f"http://127.0.0.1:{self.port}{PREFIX}"

    def start(self) -> None:
        """Start them and wait until all are loaded. Raises PartFailed."""
        super().start()
        deadline = time.monotonic() + START_TIMEOUT
        while not (seen := self.health()).get("ok"):
            if not self.alive or time.monotonic() > deadline or "boot_errors" in seen:
                failed = self.failed(f"the Edge Functions did not start (last answer: {json.dumps(seen) or 'none'})")
                self.kill()
                raise failed
            time.sleep(POLL)

    def health(self) -> dict[str, Any]:
        """What the gateway says of itself; {} when it does not answer."""
        return health(self.port)

    def is_healthy(self) -> bool:
        """Whether all functions are loaded and served now."""
        return self.alive and bool(self.health().get("ok"))
