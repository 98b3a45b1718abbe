"""Who subscribes to changes, and what they hear."""

from __future__ import annotations

from typing import Any

from pytest_bdd import given, parsers, then, when

from ipai_bridge.sync.realtime import FUNCTION, announce
from ipai_harness.observe.subscriber import Subscriber
from ipai_harness.stack.supabase import jwt
from ipai_harness.steps.waiting import until
from ipai_harness.steps.world import World

TABLE = "odoo.webhook_events"


@given(parsers.re('somebody (?P<who>who may read events|without any permission) is subscribed to "odoo-sync"'))
def subscribed(world: World, who: str) -> None:
    """With the official client."""
    permissions = ["events:read"] if who == "who may read events" else ["catalog:read"]
    person = jwt(world.env["jwt_secret"], "authenticated", permissions)
    subscriber = Subscriber(world.env["supabase_url"], world.env["anon_key"], person, TABLE)
    world.undo.callback(subscriber.close)
    world.notes["subscriber"] = subscriber


def _heard(world: World) -> list[dict[str, Any]]:
    """What was heard of this scenario's events."""
    keys = {event.idempotency_key for event in world.events()}
    changes: list[dict[str, Any]] = world.notes["subscriber"].changes
    return [change for change in changes if change["record"].get("idempotency_key") in keys]


@then("the subscriber hears of the event, and of its completion")
def hears(world: World) -> None:
    """The row as it is put in, and as it is completed."""
    heard = until(lambda: _heard(world), lambda found: len(found) >= 2, what="two changes are heard of")
    assert [(one["type"], one["record"]["status"]) for one in heard] == [("INSERT", "pending"), ("UPDATE", "completed")]


@then("the subscriber hears nothing of what the event says")
def hears_nothing(world: World) -> None:
    """Once somebody who may hear of it has."""
    person = jwt(world.env["jwt_secret"], "authenticated", ["events:read"])
    other = Subscriber(world.env["supabase_url"], world.env["anon_key"], person, TABLE)
    world.undo.callback(other.close)
    before = len(world.events())
    for name, thing in list(world.things.items()):
        if thing.model == "res.partner":
            world.rename(name, f"{name} again")
    world.until_completed(before + 1)
    until(lambda: other.changes, what="somebody else hears of it")
    assert [change for change in world.notes["subscriber"].changes if change.get("record")] == []


@when("the changes are broadcast")
def broadcast(world: World) -> None:
    """`ipai-bridge sync realtime`, as a cron does; something has changed."""
    assert world.sender.send(b'{"event_type":"a.b","aggregate_type":"a","aggregate_id":"1","payload":{}}').status == 200
    world.notes["announced"] = announce(world.client(FUNCTION))


@then("Realtime has taken the broadcast")
def taken(world: World) -> None:
    """It answered that it did."""
    assert world.notes["announced"].sent is True
    assert "odoo.webhook_events" in [table["table"] for table in world.notes["announced"].tables]


@then("how far it came is kept")
def kept(world: World) -> None:
    """A second time there is nothing of it to tell."""
    again = announce(world.client(FUNCTION))
    events = [table for table in again.tables if table["table"] == "odoo.webhook_events"] if again.sent else []
    assert events == [], events
