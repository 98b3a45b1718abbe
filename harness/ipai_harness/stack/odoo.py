"""The Odoo server: its configuration, its process, and when it is ready.

It runs in threads by default (`workers=0`), in processes with `workers=N`. The library under test reaches it through a
directory that holds a link to the package `ipai_bridge` and nothing else, so that Odoo's environment stays Odoo's.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import http.client
import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ipai_harness.errors import PartFailed
from ipai_harness.stack import paths, ports
from ipai_harness.stack.handle import Database
from ipai_harness.stack.odoo_package import OdooPackage
from ipai_harness.stack.postgres import Cluster
from ipai_harness.stack.process import POLL, Process, Run
from ipai_harness.stack.template import ROLE

START_TIMEOUT = 120.0  # seconds: the first start on a new machine compiles Odoo's source
SHELL = ("--no-http", "--shell-interface", "python")
SHELL_TIMEOUT = 120.0  # seconds
ROUNDS = 600_000  # the least that Odoo accepts without hashing the password again at the first login


def password_hash(password: str) -> str:
    """The password as Odoo stores it (passlib's pbkdf2_sha512)."""
    salt = os.urandom(16)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ROUNDS)
    encoded = [base64.b64encode(part).decode().rstrip("=").replace("+", ".") for part in (salt, digest)]
    return f"$pbkdf2-sha512${ROUNDS}${encoded[0]}${encoded[1]}"


def prepare(cluster: Database, database: str, hashed: str) -> None:
    """Make a copy of the template ready to serve: the administrator's password, the jobs."""
    with cluster.cursor(database) as cursor:
        cursor.execute(
            # Without a later time every housekeeping job of a template that is a day old starts amid the first test.
            "UPDATE ir_cron SET nextcall = (now() AT TIME ZONE 'UTC') + interval '1 hour' WHERE active; "
            "UPDATE ir_config_parameter SET value = gen_random_uuid()::text "
            "WHERE key IN ('database.uuid', 'database.secret'); "
            "UPDATE res_users SET password = %s WHERE login = 'admin'",
            [hashed],
        )


def passes(port: int) -> bool:
    """Whether the server on this port says that it is well."""
    return _request(port, "GET", "/web/health", None).get("status") == "pass"


def logs_in(port: int, database: str, password: str) -> bool:
    """Whether the server on this port lets the administrator in."""
    call = {"service": "common", "method": "login", "args": [database, "admin", password]}
    answer = _request(port, "POST", "/jsonrpc", {"jsonrpc": "2.0", "method": "call", "id": 1, "params": call})
    return isinstance(answer.get("result"), int) and answer["result"] is not False


def _request(port: int, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
    # http.client: no proxy, whatever the environment says. The first login waits for the registry.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        payload = None if body is None else json.dumps(body)
        connection.request(method, path, payload, {"content-type": "application/json"} if payload else {})
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else {}


def what(options: Mapping[str, str]) -> str:
    """What runs there, for people."""
    return "Odoo CE 19, " + ("threads" if options["workers"] == "0" else f"{options['workers']} workers")


def settings(
    *, data: str, db_port: int, db_password: str, database: str, port: int, workers: int, interface: str = "127.0.0.1"
) -> dict[str, str]:
    """Section [options] of odoo.conf, but for where the addons are."""
    return {
        "data_dir": data, "db_host": "127.0.0.1", "db_port": str(db_port), "db_user": ROLE, "db_password": db_password,
        "db_name": database, "list_db": "False", "http_interface": interface, "http_port": str(port),
        "gevent_port": str(ports.free_port()), "workers": str(workers), "max_cron_threads": "1",
        # Not the default "admin": nothing in a harness needs the database manager.
        "admin_passwd": base64.b32encode(os.urandom(20)).decode(),
        # Mail goes to a port where nothing listens, and is refused at once.
        "smtp_server": "127.0.0.1", "smtp_port": "9",
    }  # fmt: skip


def write_config(file: Path, options: Mapping[str, str], bridge: Mapping[str, str]) -> None:
    """Write odoo.conf; it holds passwords, so only its owner may read it."""
    parser = configparser.RawConfigParser()
    parser["options"] = options
    parser["ipai_bridge"] = bridge
    file.touch(mode=0o600)
    with file.open("w") as stream:
        parser.write(stream)


@dataclass
class OdooServer(Run):
    """One Odoo server on one database."""

    process: Process
    port: int
    database: str
    password: str
    config: Path
    options: dict[str, str] = field(default_factory=dict)  # section [options]
    bridge: dict[str, str] = field(default_factory=dict)  # section [ipai_bridge]; change it, then restart
    name: str = "odoo"

    @classmethod
    def create(
        cls,
        package: OdooPackage,
        python: Path,
        cluster: Cluster,
        db_password: str,
        run: Path,
        env: Mapping[str, str],
        *,
        database: str,
        password: str,
        workers: int,
        bridge: Mapping[str, str],
    ) -> OdooServer:
        """A server that is configured, not started."""
        own = run / "pythonpath"
        own.mkdir()
        (own / "ipai_bridge").symlink_to(paths.library(), target_is_directory=True)
        home = run / "odoo-data"
        (home / "filestore").mkdir(parents=True, exist_ok=True)
        library_addons = paths.library() / "addons"
        addons = [*package.addons]
        load = ["base", "rpc", "web"]
        if (library_addons / "ipai_bridge" / "__manifest__.py").is_file():
            addons.append(library_addons)
            load.append("ipai_bridge")
        port = ports.free_port()
        options = {
            "addons_path": ",".join(map(str, addons)), "server_wide_modules": ",".join(load),
            **settings(
                data=str(home), db_port=cluster.port, db_password=db_password, database=database, port=port,
                workers=workers,
            ),
        }  # fmt: skip
        process = Process(
            "odoo", [str(python), str(package.launcher), "-c", str(run / "odoo.conf")],
            {**env, "PYTHONPATH": f"{own}:{package.python_path}", "PYTHONUNBUFFERED": "1"}, run, run / "odoo.log",
        )  # fmt: skip
        return cls(process, port, database, password, run / "odoo.conf", options, dict(bridge))

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """Its address."""
        return self.url

    @property
    def what(self) -> str:
        """What runs there, for people."""
        return what(self.options)

    def write_config(self) -> None:
        """Write odoo.conf as `options` and `bridge` say; it holds passwords, so only its owner may read it."""
        write_config(self.config, self.options, self.bridge)

    def start(self) -> None:
        """Start it and wait until it answers an RPC login. Raises PartFailed."""
        self.write_config()
        self.process.start()
        self.wait_ready()

    def wait_ready(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until the server answers an RPC login. Raises PartFailed."""
        deadline = time.monotonic() + timeout
        seen = "nothing yet"
        while time.monotonic() < deadline and self.process.alive:
            try:
                if self.is_healthy():
                    seen = "/web/health passes, the login does not"
                    if logs_in(self.port, self.database, self.password):
                        return
            except (OSError, http.client.HTTPException, ValueError) as error:
                seen = repr(error)
            time.sleep(POLL)
        log_tail = self.process.tail(25)
        state = f"did not get ready in {timeout:.0f} s (last: {seen})" if self.process.alive else "ended"
        raise PartFailed(
            self.name, f"the server {state}", log_tail=log_tail, hint=f"read the whole log: {self.process.log}"
        )

    def is_healthy(self) -> bool:
        """Whether /web/health says so now."""
        return self.process.alive and passes(self.port)

    def shell(self, code: str, database: str | None = None) -> str:
        """Run Python code in `odoo shell`, in Odoo's own environment; what it printed. Raises PartFailed."""
        python, launcher, *options = self.process.argv
        done = subprocess.run(
            [python, launcher, "shell", *options, "-d", database or self.database, *SHELL],
            input=code, env=self.process.env, cwd=self.process.cwd, capture_output=True, text=True, check=False,
            timeout=SHELL_TIMEOUT,
        )  # fmt: skip
        if done.returncode:
            raise PartFailed(self.name, "odoo shell failed", log_tail=done.stderr[-4000:], hint="correct the code")
        return done.stdout

    def to_state(self) -> dict[str, Any]:
        """What `from_state` needs. Holds passwords."""
        return {
            "process": self.process.to_state(), "port": self.port, "database": self.database, "password": self.password,
            "config": str(self.config), "options": self.options, "bridge": self.bridge,
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> OdooServer:
        """The server that `to_state` described."""
        return cls(
            Process.from_state(state["process"]), state["port"], state["database"], state["password"],
            Path(state["config"]), state["options"], state["bridge"],
        )  # fmt: skip
