"""The relays that the bridge makes for an Odoo: what they need, one pass for the cron, the thread of a process."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from ipai_bridge import bridge
from ipai_bridge.bridge import emit
from ipai_bridge.delivery import inline
from ipai_bridge.errors import SettingsError
from ipai_bridge.outbox import postgres
from ipai_bridge.settings import resolve
from tests.bridge.delivery.receiver import Receiver, refused_port
from tests.bridge.delivery.relaying import eventually
from tests.bridge.fake_odoo import Odoo
from tests.bridge.operating import SECRET, execute, parameters, rows

pytestmark = pytest.mark.stack

TYPE = "res.partner.updated"


def test_a_lease_without_room_makes_no_relay(odoo: Odoo) -> None:
    outbox = postgres.PostgresOutbox.from_dsn(odoo.dsn)
    settings = resolve({"url": "https://example.org", "secret": SECRET, "http_timeout": 10, "lease": 11}).settings
    with pytest.raises(SettingsError, match=r"^lease must be more than 1 s longer than http_timeout \(10 s\)"):
        bridge.make_relay(settings, outbox)
    bridge.make_relay(replace(settings, lease=11.1), outbox).close()


@pytest.mark.parametrize("name", ["url", "secret"])
def test_a_relay_needs_an_address_and_a_secret(odoo: Odoo, name: str) -> None:
    given = {"url": "https://example.org", "secret": SECRET}
    del given[name]
    settings = resolve(given).settings
    with pytest.raises(SettingsError, match=f"^{name} is not set"):
        bridge.make_relay(settings, postgres.PostgresOutbox.from_dsn(odoo.dsn))


def test_one_pass_leaves_the_callers_transaction_alone(odoo: Odoo, receiving: Receiver, database: str) -> None:
    with odoo.cursor() as cursor:
        emit(odoo.records(1, cursor=cursor), TYPE)
    cursor = odoo.cursor()
    records = odoo.records(2, cursor=cursor)
    emit(records, TYPE)
    assert bridge.relay_once(records.env) == {"delivered": 1, "again": 0, "dead": 0}
    cursor.rollback()
    assert rows(database, "aggregate_id, status") == [("1", "delivered")]


def test_the_inline_relay_of_a_process(odoo: Odoo, receiving: Receiver, database: str) -> None:
    parameters(database, relay="inline")
    for _ in range(2):
        with odoo.cursor() as cursor:
            emit(odoo.records(1, cursor=cursor), TYPE)
    eventually(lambda: rows(database, "status") == ["delivered"] * 2)
    (thread,) = bridge._inline.values()
    bridge.stop_inline_relays()
    assert not thread.is_alive()
    assert bridge._inline == {}


@pytest.mark.parametrize("change", ["drop table ir_config_parameter", "select 1"])
def test_no_inline_relay_where_none_is_wanted(odoo: Odoo, database: str, change: str) -> None:
    """Odoo asks for every database of the server, among them such as hold no Odoo."""
    execute(database, change)
    bridge.ensure_inline_relay(database.rpartition("/")[2])
    (thread,) = bridge._inline.values()
    thread.join(20)
    assert not thread.is_alive()
    bridge.ensure_inline_relay(database.rpartition("/")[2])
    assert list(bridge._inline.values()) == [thread]


def test_a_database_that_is_away_is_tried_again(odoo: Odoo, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters(database, relay="off")
    monkeypatch.setattr(inline, "_STAND_BY", 0.01)
    odoo.dsn, there = f"postgresql://u@127.0.0.1:{refused_port()}/none", odoo.dsn
    bridge.ensure_inline_relay("test")
    (thread,) = bridge._inline.values()
    threading.Event().wait(0.1)
    assert thread.is_alive()
    odoo.dsn = there
    thread.join(20)
    assert not thread.is_alive()
