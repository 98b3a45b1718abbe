"""What every kind of stack promises (`ipai_harness.stack.handle`), held on the kind that `--provider` names."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg2
import pytest

from ipai_harness.drive.odoo import OdooSession
from ipai_harness.errors import PartFailed, StackDegraded, StackNotRunning
from ipai_harness.stack import provider
from ipai_harness.stack.handle import PARTS, Part, Stack
from ipai_harness.stack.process import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

KEYS = {
    "odoo_url", "odoo_db", "odoo_login", "odoo_password", "odoo_dsn", "functions_url", "supabase_dsn", "secret",
    "instance", "supabase_url", "storage_url",
    "name", "secret_file", "odoo_conf", "run_dir", "jwt_secret", "anon_key", "service_role_key",
    "odoo_postgres", "supabase_postgres",
}  # fmt: skip
LISTENING = ("odoo_db", "odoo", "supabase_db", "functions")


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[Stack]:
    with provider.make(request.config.getoption("--provider")) as stack:
        yield stack


@pytest.fixture
def stack(shared: Stack) -> Iterator[Stack]:
    """The stack, whole before and after the test."""
    yield shared
    assert wait_until(lambda: _mended(shared), 30), shared.unhealthy()


def _mended(stack: Stack) -> bool:
    for part in stack.parts.values():
        if not part.alive:
            part.start()
    # Again, if need be: a relay that finds no database at its very start ends.
    return stack.unhealthy() == []


def session(stack: Stack, database: str | None = None) -> OdooSession:
    env = stack.env()
    return OdooSession(env["odoo_url"], database or env["odoo_db"], env["odoo_login"], env["odoo_password"])


def listening() -> set[tuple[str, int]]:
    """Each address and port on which something of this machine listens."""
    found = psutil.net_connections("tcp")
    return {(each.laddr[0], each.laddr[1]) for each in found if each.laddr and each.status == psutil.CONN_LISTEN}


def port_of(part: Part) -> int:
    address = str(part.address)
    return urlsplit(address if "//" in address else f"//{address}").port or 0


# --- what there is


def test_the_parts(stack: Stack) -> None:
    assert tuple(stack.parts) == PARTS
    for name, part in stack.parts.items():
        assert part.name == name
        assert part.alive
        assert part.is_healthy()
        assert psutil.pid_exists(part.pid or 0)
        assert part.what
        assert bool(part.address) == (name in LISTENING)
    assert stack.parts["odoo"] is stack.odoo
    assert stack.unhealthy() == []


def test_the_environment_leads_to_everything(stack: Stack) -> None:
    env = stack.env()
    assert set(env) == KEYS
    assert all(env.values())
    assert session(stack).search("res.users", [("login", "=", env["odoo_login"])])
    for dsn, version in ((env["odoo_dsn"], env["odoo_postgres"]), (env["supabase_dsn"], env["supabase_postgres"])):
        with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
            cursor.execute("show server_version")
            assert (cursor.fetchone() or [""])[0].split()[0] == version
    assert env["odoo_postgres"].startswith("16.")
    health = stack.functions.health()
    assert health["ok"]
    assert "odoo-webhook" in health["functions"]
    assert stack.functions.url == env["functions_url"]
    assert Path(env["secret_file"]).read_text().strip() == env["secret"]
    for file in (env["secret_file"], env["odoo_conf"]):
        assert Path(file).stat().st_mode & 0o077 == 0


def test_nothing_listens_on_other_addresses_than_loopback(stack: Stack) -> None:
    ports = {port_of(stack.parts[name]) for name in LISTENING}
    assert len(ports) == len(LISTENING)
    assert {(ip, port) for ip, port in listening() if port in ports} == {("127.0.0.1", port) for port in ports}


def test_no_secret_is_on_a_command_line(stack: Stack) -> None:
    env = stack.env()
    everything = " ".join(" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    assert "ipai" in everything
    for name in ("secret", "odoo_password", "odoo_dsn", "supabase_dsn", "jwt_secret", "service_role_key"):
        assert env[name] not in everything, name


# --- the life of a part


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_stopped_killed_and_restarted_alone(stack: Stack, name: str) -> None:
    part = stack.parts[name]
    address, others = part.address, [other for other in stack.parts.values() if other is not part]
    before = [other.pid for other in others]
    for end in (part.stop, part.kill):
        former = part.pid
        end()
        assert not part.alive
        assert part.pid is None
        assert not psutil.pid_exists(former or 0) or psutil.Process(former).status() == psutil.STATUS_ZOMBIE
        assert name in stack.unhealthy()
        end()  # again: nothing happens
        part.start()
        assert part.is_healthy()
        assert part.pid != former
        part.start()  # again: nothing happens
    former = part.pid
    part.restart()
    assert part.pid not in (None, former)
    assert part.address == address
    assert [other.pid for other in others] == before, "another part was touched"


@pytest.mark.parametrize("name", ["odoo_db", "supabase_db"])
@pytest.mark.parametrize("end", ["smart", "fast", "immediate", "kill"])
def test_a_database_keeps_what_was_committed(stack: Stack, name: str, end: str) -> None:
    database = stack.odoo_db if name == "odoo_db" else stack.supabase_db
    database.execute("create table if not exists kept (what text)")
    try:
        database.execute("insert into kept values (%s)", [end])
        if end == "smart":  # it waits until all have gone
            for part in (stack.odoo, stack.functions, stack.sweep, stack.relay):
                assert part is not None
                part.stop()
        database.kill() if end == "kill" else database.stop(end)
        assert not database.is_healthy()
        database.start()
        with database.cursor() as cursor:
            cursor.execute("select what from kept")
            assert cursor.fetchall() == [(end,)]
    finally:
        database.execute("drop table kept")


def test_an_environment_is_changed_from_the_next_start_on(stack: Stack) -> None:
    part = stack.sweep
    before = part.environment
    part.environment["NOT_THERE"] = "a copy was changed"
    assert part.environment == before

    def seen(name: str) -> str | None:
        pairs = Path(f"/proc/{part.pid}/environ").read_bytes().decode().split("\0")
        return dict(pair.partition("=")[::2] for pair in pairs if pair).get(name)

    part.change_environment({"IPAI_HARNESS_MARK": "new", "TZ": None})
    assert seen("IPAI_HARNESS_MARK") is None
    assert seen("TZ") == "UTC"
    part.restart()
    assert wait_until(lambda: seen("IPAI_HARNESS_MARK") == "new", 5)
    assert seen("TZ") is None
    again = provider.attach(stack.name).sweep
    assert again.environment == part.environment
    assert again.pid == part.pid
    part.change_environment({"IPAI_HARNESS_MARK": None, "TZ": "UTC"})
    part.restart()
    assert wait_until(lambda: seen("TZ") == "UTC", 5)
    assert seen("IPAI_HARNESS_MARK") is None
    assert part.environment == before


def test_a_log_is_read_on_over_restarts_and_changes(stack: Stack) -> None:
    assert "/_health" in stack.functions.log_text()
    _, position = stack.functions.read_log()
    stack.functions.change_environment({"IPAI_HARNESS_MARK": "again"})
    stack.functions.restart()
    stack.functions.change_environment({"IPAI_HARNESS_MARK": None})
    stack.functions.restart()
    news, after = stack.functions.read_log(position)
    assert news.count('"event":"listening"') == 2
    assert after > position
    whole = stack.functions.log_text()
    assert whole.count('"event":"listening"') >= 3
    assert whole.startswith("{")


def test_a_twin_runs_beside_and_is_gone_afterwards(stack: Stack) -> None:
    assert stack.relay is not None
    first = stack.relay.pid
    with stack.relay.twin("relay-2") as second:
        assert second.name == "relay-2"
        assert second.is_healthy()
        assert second.pid not in (None, first)
        left = psutil.Process(second.pid)
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
    assert stack.relay.pid == first
    assert (stack.run / "relay-2.log").exists()


# --- Odoo


def test_a_cloned_database_is_served_and_alone(stack: Stack) -> None:
    dsn = stack.clone_database("second")
    try:
        assert dsn.endswith("/second")
        second = session(stack, "second")
        partner = second.create("res.partner", {"name": "Only here", "image_1920": PIXEL})
        assert second.read("res.partner", partner, ["image_1920"])["image_1920"]
        assert session(stack).search("res.partner", [("name", "=", "Only here")]) == []
        assert second.search("ir.attachment", [("store_fname", "!=", False)]), "the filestore is in use"
    finally:
        stack.drop_database("second")
    with stack.odoo_db.cursor() as cursor:
        cursor.execute("select datname from pg_database where datname = 'second'")
        assert cursor.fetchall() == []


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def test_the_shell_is_odoos_own(stack: Stack) -> None:
    printed = stack.odoo.shell(
        'import ipai_bridge\nprint("IN", env.cr.dbname, env["res.users"].search_count([]) > 0)\n'
    )
    assert f"IN {stack.env()['odoo_db']} True" in printed
    with pytest.raises(PartFailed, match="odoo shell failed"):
        stack.odoo.shell("raise SystemExit(3)\n")


def test_the_bridges_settings_reach_the_library(stack: Stack) -> None:
    before = dict(stack.odoo.bridge)
    stack.odoo.bridge["instance"] = "elsewhere"
    try:
        stack.odoo.restart()
        odoo = session(stack)
        partner = odoo.create("res.partner", {"name": "Azure Interior"})
        action = odoo.server_action("Emit", "res.partner", 'ipai_bridge.emit(records, "res.partner.touched")')
        odoo.run_server_action(action, "res.partner", [partner])
    finally:
        stack.odoo.bridge.clear()
        stack.odoo.bridge.update(before)
        stack.odoo.restart()
    with stack.odoo_db.cursor(stack.env()["odoo_db"]) as cursor:
        cursor.execute("select instance from ipai_bridge.outbox where aggregate_id = %s", [str(partner)])
        assert cursor.fetchall() == [("elsewhere",)]


# --- the stack as a whole


def test_a_server_of_a_test_is_reached_by_the_parts(stack: Stack) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"here I am")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((stack.listen_on, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with stack.reach(server.server_address[1]) as port:
                url = f"http://127.0.0.1:{port}/"
                printed = stack.odoo.shell(
                    f"import urllib.request\nprint('GOT', urllib.request.urlopen({url!r}, timeout=10).read())\n"
                )
        finally:
            server.shutdown()
            thread.join()
    assert "GOT b'here I am'" in printed


def test_another_command_finds_it(stack: Stack) -> None:
    other = provider.attach(stack.name)
    assert other.provider == stack.provider
    assert other.env() == stack.env()
    assert {name: part.pid for name, part in other.parts.items()} == {
        name: part.pid for name, part in stack.parts.items()
    }
    again = provider.make(stack.provider, stack.name).up()
    assert again.adopted
    assert again.env() == stack.env()
    # What one stops, the other sees stopped, and may start.
    other.sweep.stop()
    assert not stack.sweep.alive
    assert stack.unhealthy() == ["sweep"]
    with pytest.raises(StackDegraded, match="without sweep"):
        provider.make(stack.provider, stack.name).up()
    other.sweep.start()
    assert provider.attach(stack.name).sweep.is_healthy()


def test_an_event_takes_its_way(stack: Stack) -> None:
    odoo = session(stack)
    partner = odoo.create("res.partner", {"name": "Azure Interior"})
    action = odoo.server_action("Emit", "res.partner", 'ipai_bridge.emit(records, "res.partner.touched")')
    odoo.run_server_action(action, "res.partner", [partner])

    def status() -> str | None:
        with stack.supabase_db.cursor() as cursor:
            cursor.execute("select status from odoo.webhook_events where aggregate_id = %s", [str(partner)])
            row = cursor.fetchone()
            return row[0] if row else None

    assert wait_until(lambda: status() == "completed", 30), status()


def test_down_leaves_nothing(request: pytest.FixtureRequest) -> None:
    """A stack of its own, without a relay."""
    stack = provider.make(request.config.getoption("--provider"), relay_mode="off").up()
    try:
        assert tuple(stack.parts) == ("odoo_db", "odoo", "supabase_db", "functions", "sweep")
        assert stack.relay is None
        pids = [part.pid for part in stack.parts.values()]
        run = stack.run
        ports = {port_of(stack.parts[name]) for name in LISTENING}
    finally:
        started = time.monotonic()
        assert stack.down()
    assert time.monotonic() - started < 30
    assert not stack.down()
    assert not run.exists()
    assert not any(_runs(pid) for pid in pids)
    assert not {port for _, port in listening()} & ports
    with pytest.raises(StackNotRunning):
        provider.attach(stack.name)


def _runs(pid: int | None) -> bool:
    return psutil.pid_exists(pid or 0) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_start_that_fails_says_which_part_and_leaves_nothing(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "migrations").mkdir(parents=True)
    (project / "functions").mkdir()
    (project / "config.toml").write_text("")
    (project / "migrations" / "20260101000000_broken.sql").write_text("select nonsense;")
    stack = provider.make(request.config.getoption("--provider"), project=project)
    with pytest.raises(PartFailed, match=r"supabase_db: 20260101000000_broken\.sql, line 1 failed") as caught:
        stack.up()
    assert caught.value.part == "supabase_db"
    assert not stack.run.exists()
    stack.down()
