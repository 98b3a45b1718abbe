"""The laws of delivery, attacked on the whole stack: a real Odoo, real databases, the real function, kill -9."""

from __future__ import annotations

import http.client
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import odoorpc.error
import pytest

from ipai_harness import demo
from ipai_harness.drive.odoo import OdooSession
from ipai_harness.observe.outcomes import broken_laws
from ipai_harness.stack.handle import Stack
from tests.e2e.scene import Scene, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

Answer = tuple[int, list[tuple[str, str]], bytes]


@contextmanager
def proxy(scene: Scene, passed_on: Callable[[Answer], None]) -> Iterator[str]:
    """A functions URL before the real one; `passed_on` runs when the receiver has answered, before the relay hears."""
    target = urlsplit(scene.env["functions_url"])

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            upstream = http.client.HTTPConnection(target.hostname or "", target.port, timeout=30)
            upstream.request("POST", self.path, body, dict(self.headers))
            response = upstream.getresponse()
            answer = (response.status, response.getheaders(), response.read())
            upstream.close()
            passed_on(answer)
            self.send_response(answer[0])
            for name, value in answer[1]:
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(answer[2])))
            self.end_headers()
            self.wfile.write(answer[2])

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # the relay was killed while it waited: that is the point

    server = Server((scene.stack.listen_on, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with scene.stack.reach(server.server_address[1]) as port:
            yield f"http://127.0.0.1:{port}{target.path}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_main_job(stack: Stack) -> None:
    outcome = demo.play(stack.env(), print)
    assert outcome.problems == []
    assert len(outcome.journeys) == 7


# --- law 1: never lost; law 3: once in effect


def test_a_relay_killed_between_the_answer_and_settling_sends_again_and_nothing_happens_twice(scene: Scene) -> None:
    killed: list[Answer] = []

    def kill_once(answer: Answer) -> None:
        if not killed:
            killed.append(answer)
            scene.relay.kill()

    with proxy(scene, kill_once) as url, scene.relay_with(url=url, http_timeout="5s", lease="8s"):
        scene.emit()
        wait_for(lambda: killed, "the relay was killed")
        assert killed[0][0] == 200
        [before] = scene.seen()
        assert (before.outbox_status, before.attempts) == ("pending", 0)
        assert before.webhook_status is not None
        scene.relay.start()
        [after] = scene.until_completed(1, timeout=60)
    assert after.log_rows == 1
    assert broken_laws([after]) == []


def test_supabase_down_while_users_work_then_up(scene: Scene) -> None:
    scene.stack.functions.stop()
    scene.stack.supabase_db.stop("immediate")
    for number in range(5):
        started = time.monotonic()
        scene.emit(number=number)
        assert time.monotonic() - started < 5, "the user waited"
    wait_for(lambda: any(journey.attempts for journey in _outbox(scene)), "the relay has tried in vain")
    assert {row.status for row in _outbox(scene)} == {"pending"}
    scene.stack.supabase_db.start()
    scene.stack.functions.start()
    arrived = scene.until_completed(5, timeout=90)
    assert [journey.received["number"] for journey in arrived] == [0, 1, 2, 3, 4]
    assert broken_laws(arrived) == []


def test_the_function_away_is_an_error_with_a_reason_not_a_loss(scene: Scene) -> None:
    scene.stack.functions.stop()
    scene.emit()
    [row] = wait_for(lambda: [row for row in _outbox(scene) if row.last_error], "an attempt has failed")
    assert "no connection" in row.last_error
    assert row.last_status is None
    scene.stack.functions.start()
    scene.until_completed(1, timeout=60)


def test_odoos_database_killed_under_the_relay(scene: Scene) -> None:
    scene.emit(number=1)
    scene.until_completed(1)
    scene.stack.odoo_db.stop("immediate")
    scene.stack.odoo_db.start()

    def emitted() -> bool:
        try:
            scene.emit(number=2)
        except (odoorpc.error.RPCError, OSError):
            return False
        return True

    wait_for(emitted, "Odoo works again")
    scene.until_completed(2, timeout=60)


def test_odoo_killed_after_the_commit(scene: Scene) -> None:
    scene.relay.stop()
    scene.emit()
    scene.stack.odoo.kill()
    scene.relay.start()
    scene.until_completed(1)


# --- law 2: never sent for what was rolled back


def test_a_transaction_rolled_back(scene: Scene) -> None:
    said = scene.refusal('ipai_bridge.emit(records, "res.partner.phantom")\nraise UserError("no, after all")')
    assert "no, after all" in said
    scene.emit()
    [only] = scene.until_completed(1)
    assert only.event_type == "res.partner.touched"


def test_a_savepoint_rolled_back_inside_a_transaction_that_commits(scene: Scene) -> None:
    scene.run(
        """
ipai_bridge.emit(records, "res.partner.kept", payload={"number": 1})
savepoint = env.cr.savepoint()
ipai_bridge.emit(records, "res.partner.phantom", payload={"number": 2})
savepoint.rollback()
savepoint.close(rollback=True)
ipai_bridge.emit(records, "res.partner.kept", payload={"number": 3})
"""
    )
    arrived = scene.until_completed(2)
    assert [journey.received["number"] for journey in arrived] == [1, 3]
    assert broken_laws(arrived) == []


def test_odoo_runs_a_refused_transaction_again_and_one_event_arrives(scene: Scene) -> None:
    # What the transaction sees is fixed before the other one commits: PostgreSQL refuses its write, and Odoo retries.
    code = """
ipai_bridge.emit(record, "res.partner.raced", payload={"seen": record.color})
env.cr.execute("select pg_sleep(1.5)")
record.write({"comment": "raced"})
"""
    action = scene.action(code)
    failures = []
    _, log_before = scene.stack.odoo.read_log()

    def user() -> None:
        try:
            scene.odoo.run_server_action(action, "res.partner", [scene.partner])
        except Exception as error:  # noqa: BLE001  reported below
            failures.append(error)

    thread = threading.Thread(target=user)
    thread.start()
    wait_for(
        lambda: scene.odoo_sql(
            "select 1 from pg_stat_activity where query like 'select pg_sleep%%' and state = 'active'"
        ),
        "the first transaction is under way",
    )
    scene.odoo_sql("update res_partner set color = 7 where id = %s", scene.partner)
    thread.join()
    assert failures == []
    said, _ = scene.stack.odoo.read_log(log_before)
    assert "SERIALIZATION_FAILURE" in said.upper().replace(" ", "_"), "Odoo did not retry: nothing was tested"
    [arrived] = scene.until_completed(1)
    assert arrived.received == {"seen": 7}
    assert scene.odoo.read("res.partner", scene.partner, ["color"])["color"] == 7


# --- law 4: in order


def test_the_order_of_a_record_over_retries_and_two_relays(scene: Scene) -> None:
    scene.stack.functions.stop()
    others = scene.odoo.create_many("res.partner", [{"name": f"Other {number}"} for number in range(5)])
    for number in range(6):
        scene.emit(number=number, ids=[scene.partner, *others])
    wait_for(lambda: any(journey.attempts for journey in _outbox(scene)), "an attempt has failed")
    scene.stack.functions.start()
    with scene.second_relay():
        arrived = scene.until_completed(36, scene.partner, *others, timeout=90)
    assert broken_laws(arrived) == []
    for partner in (scene.partner, *others):
        numbers = [journey.received["number"] for journey in arrived if journey.aggregate_id == str(partner)]
        assert numbers == list(range(6))


# --- law 5: the user never waits


def test_a_receiver_that_hangs_costs_the_user_nothing(scene: Scene) -> None:
    release = threading.Event()

    def hang(answer: Answer) -> None:
        release.wait(20)

    with proxy(scene, hang) as url, scene.relay_with(url=url):
        scene.emit(number=0)
        wait_for(lambda: scene.seen()[0].webhook_status, "the receiver has the first one, and hangs")
        started = time.monotonic()
        scene.emit(number=1)
        took = time.monotonic() - started
        release.set()
        scene.until_completed(2, timeout=60)
    assert took < 5


def test_the_relay_stops_cleanly_in_the_middle_of_work(scene: Scene) -> None:
    scene.run(
        'for number in range(200):\n    ipai_bridge.emit(records, "res.partner.touched", payload={"number": number})'
    )
    scene.relay.stop()
    left = scene.odoo_sql("select count(*) from ipai_bridge.aggregates where lease_token is not null")
    assert left == [(0,)], "a relay that stops gives its leases back"
    scene.relay.start()
    arrived = scene.until_completed(200, timeout=60)
    assert [journey.received["number"] for journey in arrived] == list(range(200))
    assert broken_laws(arrived) == []


# --- a secret is rotated


def test_rotation_refuses_no_event(scene: Scene) -> None:
    from ipai_bridge.secret import generate_secret

    old = scene.env["secret"]
    new = generate_secret().reveal()
    with scene.receiver_with(new, old):
        scene.emit(number=1)
        scene.until_completed(1)
        with scene.relay_with(secret=new):
            scene.emit(number=2)
            arrived = scene.until_completed(2)
    assert [journey.attempts for journey in arrived] == [1, 1]


def test_a_wrong_secret_is_named_and_mended_without_loss(scene: Scene) -> None:
    from ipai_bridge.secret import generate_secret

    with scene.relay_with(secret=generate_secret().reveal()):
        scene.emit()
        [row] = wait_for(lambda: [row for row in _outbox(scene) if row.last_error], "an attempt was refused")
        assert row.last_status == 401
        assert "is the secret the same on both sides" in row.last_error
    scene.until_completed(1, timeout=60)


# --- law 7: no secret is printed (after all that went wrong above)


def test_no_log_and_no_row_holds_a_secret(scene: Scene, odoo: OdooSession) -> None:
    secret = scene.env["secret"]
    hidden = [secret, secret.removeprefix("whsec_"), scene.env["odoo_password"]]
    logs = scene.logs()
    assert len(logs) >= 5
    for log, text in logs.items():
        assert not any(word in text for word in hidden), log
    rows = scene.odoo_sql("select string_agg(coalesce(last_error, '') || payload::text, ' ') from ipai_bridge.outbox")
    events = scene.supabase_sql("select string_agg(e::text, ' ') from odoo.webhook_events as e")
    log_rows = scene.supabase_sql("select string_agg(e::text, ' ') from odoo.event_log as e")
    for found in (rows, events, log_rows):
        assert not any(word in str(found) for word in hidden)


def _outbox(scene: Scene) -> list[_Row]:
    return [
        _Row(*row)
        for row in scene.odoo_sql(
            "select status, attempts, last_status, last_error from ipai_bridge.outbox "
            "where aggregate_type = 'res.partner' and aggregate_id = %s",
            str(scene.partner),
        )
    ]


class _Row:
    def __init__(self, status: str, attempts: int, last_status: int | None, last_error: str | None) -> None:
        self.status = status
        self.attempts = attempts
        self.last_status = last_status
        self.last_error = last_error or ""
