"""A real PostgreSQL with the Supabase project in it, a real Deno that serves its functions; a sender that signs."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import hmac
import http.client
import json
import os
import queue
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2.extensions
import pytest

from ipai_harness.errors import PartMissing
from ipai_harness.stack import paths
from ipai_harness.stack.functions import find_deno
from ipai_harness.stack.ports import free_port
from ipai_harness.stack.postgres import Cluster, find
from ipai_harness.stack.supabase import SUPERUSER, create_schema, jwt

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "harness/supabase"
STACK = ROOT / "harness/ipai_harness/stack"
DENO = str(find_deno())
SECRET = "whsec_" + base64.b64encode(b"a test's secret of 32 bytes here").decode()
JWT_SECRET = "the harness's JWT secret, long enough"
DEADLINE = 30.0

Connection = psycopg2.extensions.connection


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("stack")


def deno_environment() -> dict[str, str]:
    """What Deno needs to find the npm registry and to trust it, where the machine's are not the usual ones."""
    kept = ("PATH", "HOME", "NPM_CONFIG_REGISTRY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    for name in ("DENO_CERT", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"):
        if os.environ.get(name):
            environment["DENO_CERT"] = os.environ[name]
            break
    return environment | {"NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1", "DENO_DIR": str(paths.cache() / "deno")}


def run_deno(*arguments: str, cwd: Path = ROOT) -> str:
    """What deno printed; fails the test with it if deno failed."""
    done = subprocess.run(
        [DENO, *arguments], cwd=cwd, env=deno_environment(), capture_output=True, text=True, timeout=100, check=False
    )
    if done.returncode != 0:
        pytest.fail(f"deno {' '.join(arguments)} -> {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`; fails with the last one after the deadline."""
    end = time.monotonic() + DEADLINE
    wait = threading.Event()
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {DEADLINE:.0f} s; last seen: {value!r}")
        wait.wait(0.02)
    return value


# ---------------------------------------------------------------------------------------------------- PostgreSQL


def majors() -> list[int]:
    """Versions to test on: 15, which Supabase has, where the machine has it; 16 in any case."""
    found = [16]
    with contextlib.suppress(PartMissing):
        find(15)
        found.insert(0, 15)
    return found


class Server:
    """A PostgreSQL cluster of its own, with the project's migrations in the database `postgres`."""

    def __init__(self, major: int) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ipai-test-supabase-"))
        self.directory.chmod(0o755)  # PostgreSQL's user has to pass.
        self.password = secrets.token_hex(16)
        environment = {"PATH": os.environ["PATH"]}
        self.cluster = Cluster.create("supabase", find(major), self.directory, SUPERUSER, environment)
        self.cluster.initialise()
        self.start()
        try:
            create_schema(self.cluster, PROJECT, self.password)
            # For tests of the SQL alone; the function writes to the other one.
            self.cluster.execute("create database sql template postgres owner postgres", database="template1")
        except BaseException:
            self.remove()
            raise

    def start(self) -> None:
        self.cluster.start()

    def stop(self, mode: str = "fast") -> None:
        self.cluster.stop(mode)

    def remove(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.directory)

    def url(self) -> str:
        return self.cluster.dsn("postgres", "postgres", self.password)

    def connect(self, user: str = "postgres", database: str = "postgres") -> Connection:
        return self.cluster.connect(database, user)


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[int], Server]]:
    """The cluster of a major version, started when first asked for."""
    running: dict[int, Server] = {}

    def of(major: int) -> Server:
        if major not in running:
            running[major] = Server(major)
        return running[major]

    yield of
    for one in running.values():
        one.remove()


@pytest.fixture(scope="session")
def server(servers: Callable[[int], Server]) -> Server:
    """The oldest PostgreSQL to be had: 15 where the machine has it, which is Supabase's."""
    return servers(majors()[0])


@dataclass
class Sql:
    """A database with the project in it and no data, and connections to it."""

    server: Server
    database: str
    opened: list[Connection] = field(default_factory=list)

    def connect(self, role: str | None = None, user: str = "postgres") -> Connection:
        connection = self.server.connect(user, self.database)
        self.opened.append(connection)
        if role:
            with connection.cursor() as cursor:
                cursor.execute(f"set role {role}")
        return connection

    @functools.cached_property
    def _own(self) -> Connection:
        return self.connect()

    def __call__(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return rows(self._own, statement, *values)

    def ingest(
        self,
        aggregate_id: str = "42",
        sequence: int | None = None,
        *,
        event_type: str = "account.move.posted",
        payload: str = "{}",
        key: str | None = None,
        signature: str | None = None,
        instance: str = "default",
        body: str | None = None,
    ) -> tuple[Any, bool, str]:
        """(id, duplicate, verdict) of one event."""
        if body is None:
            head = {"event_type": event_type, "aggregate_type": "account.move", "aggregate_id": aggregate_id}
            body = json.dumps(head)[:-1] + f', "payload": {payload}}}'
        values = (instance, key or str(uuid.uuid4()), sequence, body, signature or secrets.token_hex(32))
        [row] = self("select * from odoo.ingest_event(%s, %s, %s, %s, %s, now())", *values)
        return row


def rows(connection: Connection, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


RESET = """
    set session_replication_role = replica;  -- the log refuses to be emptied otherwise, even by its owner
    truncate odoo.instances, odoo.webhook_events, odoo.event_log, odoo.sync_cursors, odoo.entity_mappings,
      odoo.event_handlers, odoo.accepted_signatures, odoo.modules, odoo_seed.sync_runs, odoo_seed.sync_pages,
      odoo_seed.projects, odoo_seed.tasks, odoo_seed.shadow_projects, odoo_seed.shadow_tasks, odoo_seed.tombstones,
      catalog.assets, catalog.lineage_edges, catalog.tools, catalog.permissions, catalog.databases, catalog.glossary,
      ops.refreshes, scout_gold.revenue_targets, erp.bir_forms, erp.documents, erp.document_objects, storage.objects
      restart identity;
    drop schema if exists app cascade;
"""


@pytest.fixture(params=majors())
def sql(request: pytest.FixtureRequest, servers: Callable[[int], Server]) -> Iterator[Sql]:
    fresh = Sql(servers(request.param), "sql")
    with contextlib.closing(fresh.server.connect(SUPERUSER, "sql")) as admin:
        rows(admin, RESET)
    yield fresh
    for connection in fresh.opened:
        connection.close()


# --------------------------------------------------------------------------------------------------- the functions


class Edge:
    """The gateway, serving a Supabase project; what it printed is kept in `lines`."""

    def __init__(
        self, project: Path, environment: Mapping[str, str], *, storage: Path | None = None, port: int = 0
    ) -> None:
        config = project / "functions/deno.json"
        read = f"--allow-read={project},{storage}" if storage else f"--allow-read={project}"
        permissions = ["--allow-net", read, "--allow-env=SUPABASE_*,IPAI_BRIDGE_*,PG*"]
        arguments = ["--project", str(project), "--port", str(port), "--host", "127.0.0.1"]
        if storage:
            permissions.append(f"--allow-write={storage}")
            arguments += ["--storage", str(storage)]
        self.process = subprocess.Popen(
            [DENO, "run", "--no-prompt", "--config", config, *permissions, STACK / "gateway.ts", *arguments],
            env=deno_environment() | dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        ports: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(ports,), daemon=True)
        self._reader.start()
        try:
            self.port = ports.get(timeout=DEADLINE)
        except queue.Empty:
            self.stop()
            pytest.fail("the gateway did not come up:\n" + "\n".join(self.lines))

    def _read(self, ports: queue.SimpleQueue[int]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith('{"event":"listening"'):
                ports.put(json.loads(line)["port"])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(10)
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's code, of an answer that keeps the contract's form."""
        assert self.headers["x-ipai-contract"] == "1"
        assert self.headers["content-type"] == "application/json"
        answer = self.json
        assert answer["ok"] is False
        assert sorted(answer) == ["error", "ok"]
        assert sorted(answer["error"]) == ["code", "message"]
        return str(answer["error"]["code"])


class Sender:
    """Sends requests to the functions, signed by hand."""

    def __init__(self, port: int, secret: str = SECRET) -> None:
        self.port = port
        self.secret = secret

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | list[tuple[str, str]] | None = None,
        body: bytes = b"",
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        with contextlib.closing(connection):
            connection.putrequest(method, f"/functions/v1/{path}", skip_accept_encoding=True)
            pairs = list(headers.items()) if isinstance(headers, Mapping) else headers or []
            if not any(name.lower() == "content-length" for name, _ in pairs):
                pairs = [*pairs, ("content-length", str(len(body)))]
            for name, value in pairs:
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def body(self, **changes: object) -> bytes:
        event = {"event_type": "account.move.posted", "aggregate_type": "account.move", "payload": {"amount": 1150.5}}
        return json.dumps({**event, "aggregate_id": uuid.uuid4().hex, **changes}, ensure_ascii=False).encode()

    def headers(
        self, body: bytes, *, key: str | None = None, timestamp: str | None = None, standard: bool = True
    ) -> dict[str, str]:
        key = key or str(uuid.uuid4())
        timestamp = timestamp or str(time.time_ns() // 1_000_000)
        signature = hmac.new(self.secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        made = {
            "content-type": "application/json",
            "x-ipai-timestamp": timestamp,
            "x-ipai-signature": signature,
            "x-idempotency-key": key,
        }
        if standard:
            seconds = str(int(time.time()))
            mac = hmac.new(
                base64.b64decode(self.secret[len("whsec_") :]), f"{key}.{seconds}.".encode() + body, hashlib.sha256
            )
            made |= {
                "webhook-id": key,
                "webhook-timestamp": seconds,
                "webhook-signature": "v1," + base64.b64encode(mac.digest()).decode(),
            }
        return made

    def post(self, body: bytes | None = None, headers: Mapping[str, str] | None = None, **options: Any) -> Answer:
        """A good request, but for what is given."""
        body = self.body() if body is None else body
        return self.request("POST", "odoo-webhook", self.headers(body, **options) | dict(headers or {}), body)


def edge_environment(server: Server, port: int) -> dict[str, str]:
    """What the platform and the integration engineer set for the functions."""
    return {
        "SUPABASE_DB_URL": server.url(),
        "SUPABASE_URL": f"http://127.0.0.1:{port}",
        "SUPABASE_JWT_SECRET": JWT_SECRET,
        "SUPABASE_SERVICE_ROLE_KEY": jwt(JWT_SECRET, "service_role"),
        "IPAI_BRIDGE_SECRET": SECRET,
    }


@pytest.fixture(scope="session")
def edge(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    port = free_port()
    storage = tmp_path_factory.mktemp("edge") / "storage"
    serving = Edge(PROJECT, edge_environment(server, port), storage=storage, port=port)
    yield serving
    serving.stop()


@pytest.fixture
def sender(edge: Edge) -> Sender:
    return Sender(edge.port)


@pytest.fixture
def inbox(server: Server) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Asks the database behind the running function."""
    with contextlib.closing(server.connect()) as connection:
        yield functools.partial(rows, connection)
