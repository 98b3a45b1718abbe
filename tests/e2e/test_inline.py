"""The relay as a thread inside Odoo: in a server of threads, and in one of processes, where one of them is elected."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from ipai_bridge.outbox.postgres import RELAY_LOCK
from ipai_harness.drive.odoo import OdooSession
from ipai_harness.observe.outcomes import broken_laws
from ipai_harness.stack.native import NativeStack
from tests.e2e.scene import Scene, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ELECTED = (
    "select a.pid, a.client_port from pg_locks as l join pg_stat_activity as a using (pid) "
    "where l.locktype = 'advisory' and l.granted and (l.classid::bigint << 32) + l.objid::bigint = %s"
)


@pytest.fixture(scope="module", params=[0, 2], ids=["threads", "workers"])
def inline(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with NativeStack(relay_mode="inline", workers=request.param) as stack:
        env = stack.env()
        odoo = OdooSession(env["odoo_url"], env["odoo_db"], env["odoo_login"], env["odoo_password"])
        yield Scene(stack, odoo)


def test_events_arrive_without_a_relay_process(inline: Scene) -> None:
    assert "relay" not in inline.stack.parts
    for number in range(5):
        inline.emit(number=number)
    arrived = inline.until_completed(5, timeout=60)
    assert broken_laws(arrived) == []


def test_one_is_elected_and_another_takes_over_when_it_is_killed(inline: Scene) -> None:
    [(backend, port)] = wait_for(lambda: inline.odoo_sql(ELECTED, RELAY_LOCK), "a relay is elected")
    before = len(inline.seen())
    if inline.stack.workers:
        os.kill(_pid_of_port(port), signal.SIGKILL)  # a worker: Odoo starts another
    else:
        inline.odoo_sql("select pg_terminate_backend(%s)", backend)
    wait_for(
        lambda: _elected_after_poking(inline, backend),
        "another one is elected",
        timeout=90,
    )
    poked = len(inline.seen())
    assert poked >= before
    inline.emit(number=99)
    arrived = inline.until_completed(poked + 1, timeout=60)
    assert broken_laws(arrived) == []


def test_odoo_stops_in_time_with_an_inline_relay(inline: Scene) -> None:
    inline.stack.odoo.stop(grace=30)
    assert inline.odoo_sql(ELECTED, RELAY_LOCK) == []
    inline.stack.odoo.start()


def _elected_after_poking(scene: Scene, before: int) -> bool:
    """Whether another one is elected; if not, emit, so that whichever worker serves it looks after its relay."""
    if any(pid != before for pid, _ in scene.odoo_sql(ELECTED, RELAY_LOCK)):
        return True
    scene.emit()
    return False


def _pid_of_port(port: int) -> int:
    """The process whose end of a connection to PostgreSQL is this local port."""
    import psutil

    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.pid:
            return connection.pid
    raise AssertionError(f"no process has the local port {port}")
