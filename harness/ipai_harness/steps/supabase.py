"""What is found on the Supabase side: events and their states, the log, mappings, instances, handlers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import psycopg2.errors
from pytest_bdd import given, parsers, then, when

from ipai_harness.observe.outcomes import Journey, broken_laws, describe
from ipai_harness.steps.waiting import until
from ipai_harness.steps.world import World

# --- events out of Odoo


@then(parsers.parse('the event "{event_type}" of "{name}" arrives and is completed'))
def arrives(world: World, event_type: str, name: str) -> None:
    """Once, with the payload that was written in Odoo."""

    def so(found: Sequence[Journey]) -> bool:
        return bool(found) and all(event.webhook_status == "completed" for event in found)

    def look() -> list[Journey]:
        return [event for event in world.events(name) if event.event_type == event_type]

    seen = until(look, so, what=f"{event_type} of {name!r} arrives and is completed")
    assert len(seen) == 1, "it arrived more than once:\n" + "\n".join(map(describe, seen))
    world.journey = seen[0]
    assert world.journey.received == world.journey.sent


@when(parsers.re("exactly (?P<count>[0-9]+) events? arrives? and (is|are) completed"))
@then(parsers.re("exactly (?P<count>[0-9]+) events? arrives? and (is|are) completed"))
def arrive(world: World, count: str) -> None:
    """No more, no fewer, and no law is broken by them."""
    seen = world.until_completed(int(count))
    assert broken_laws(seen) == []


@then(parsers.re("exactly (?P<count>[0-9]+) events? (is|are) stored"))
def are_stored(world: World, count: str) -> None:
    """Of this sender."""
    assert len({event.idempotency_key for event in world.events()}) == len(world.events()) == int(count)


@then(parsers.parse('{count:d} events of "{name}" arrive and are completed'))
def arrive_of(world: World, count: int, name: str) -> None:
    """Of one record."""
    world.until_completed(count, name)


@then(parsers.parse('nothing arrives of "{name}"'))
def nothing_arrives(world: World, name: str) -> None:
    """What was emitted after it has arrived, and of it there is nothing."""
    marker = world.odoo.create("res.partner", {"name": "Marker"})
    world.name("the marker", "res.partner", marker)
    action = world.odoo.server_action("Marker", "res.partner", 'ipai_bridge.emit(records, "res.partner.marked")')
    world.undo.callback(world.odoo.unlink, "ir.actions.server", [action])
    world.odoo.run_server_action(action, "res.partner", [marker])
    until(
        lambda: world.events("the marker"),
        lambda found: bool(found) and found[0].webhook_status == "completed",
        what="an event that was emitted later has arrived",
    )
    there = [event for event in world.events() if event.aggregate_id != str(marker)]
    if name in world.things:
        there = [event for event in there if event.aggregate_id == str(world.thing(name).id)]
    assert [describe(event) for event in there if event.webhook_status] == []


@then(parsers.parse('it says that "{field}" is {value}'))
def it_says(world: World, field: str, value: str) -> None:
    """The value as JSON."""
    assert world.journey is not None
    assert world.journey.received[field] == json.loads(value)


@then(parsers.parse('it names the customer of "{name}"'))
def names_customer(world: World, name: str) -> None:
    """A relation is an id and a name."""
    assert world.journey is not None
    partner = world.journey.received["partner_id"]
    assert partner["id"] == world.thing(f"customer of {name}").id
    assert partner["display_name"]


@then(parsers.parse('the numbers that arrive of "{name}" are 1 and 3'))
def numbers(world: World, name: str) -> None:
    """In this order, and no other."""
    seen = world.until_completed(2, name)
    assert [event.received["number"] for event in seen] == [1, 3]
    assert broken_laws(seen) == []


@then("they took effect in the order in which they happened")
def in_order(world: World) -> None:
    """For each record: the sequence, the order of arrival, and nothing overtaken."""
    seen = world.events()
    assert broken_laws(seen) == []
    by_record: dict[str, list[Any]] = {}
    for event in sorted(seen, key=lambda event: event.arrival or 0):
        by_record.setdefault(event.aggregate_id, []).append(event.received.get("name"))
    emitted: dict[str, list[Any]] = {}
    for event in seen:
        emitted.setdefault(event.aggregate_id, []).append(event.sent.get("name"))
    assert by_record == emitted


@then(parsers.parse('the last name that Supabase knows of "{name}" is the one that Odoo has'))
def last_name(world: World, name: str) -> None:
    """By the mapping, which leads to the newest event in effect."""
    thing = world.thing(name)
    there = _mapped(world, thing.model, str(thing.id))
    assert there["name"] == world.odoo.read(thing.model, thing.id, ["name"])["name"]


@then(parsers.parse('the event of the name "{name}" arrives and is completed'))
def event_of_name(world: World, name: str) -> None:
    """Found by its payload: the outbox may have been purged since."""
    until(
        lambda: world.ours(
            "select e.status from odoo.webhook_events e join odoo.instances i on i.id = e.instance_id "
            "where e.payload ->> 'name' = %s and",
            name,
        ),
        lambda found: found == [("completed",)],
        what=f"the event that says {name!r} is completed",
    )


# --- events that were sent directly


def _event(world: World) -> tuple[int, str, str | None]:
    """Id, status and error of the event that was sent last."""
    key = world.sent[1]["x-idempotency-key"]
    [row] = world.ours(
        "select e.id, e.status, e.error_message from odoo.webhook_events e join odoo.instances i "
        "on i.id = e.instance_id where e.idempotency_key = %s and",
        key,
    )
    return row[0], row[1], row[2]


@when("the event is completed")
@then("the event is completed")
def is_completed(world: World) -> None:
    """By the function right after its answer, or by the sweep."""
    until(lambda: _event(world), lambda row: row[1] == "completed", what="the event is completed")


@when(parsers.parse('the event is failed and says "{reason}"'))
@then(parsers.parse('the event is failed and says "{reason}"'))
def is_failed(world: World, reason: str) -> None:
    """With the handler's own words; and it will be tried again by itself."""
    row = until(lambda: _event(world), lambda row: row[1] == "failed", what="the event is failed")
    assert reason in str(row[2])
    assert world.supabase_sql("select next_retry_at > processed_at from odoo.webhook_events where id = %s", row[0]) == [
        (True,)
    ]


@when("the failed event is due again")
def due_again(world: World) -> None:
    """The time to its next try is over."""
    world.supabase_sql("update odoo.webhook_events set next_retry_at = now() where id = %s", _event(world)[0])
    world.supabase_sql("select odoo.sweep_events()")


@when("a consumer takes the event and is not heard of for 6 minutes")
def consumer_dies(world: World) -> None:
    """It set the status to processing, and died."""
    event = _event(world)[0]
    world.supabase_sql("update odoo.webhook_events set status = 'processing' where id = %s", event)
    world.supabase_sql(
        "update odoo.webhook_events set processing_since = now() - interval '6 minutes' where id = %s", event
    )


# --- the log, mappings, instances


@then("each event has one line in the log")
def one_line_each(world: World) -> None:
    """However often it was delivered."""
    lines = world.ours(
        "select count(*), count(distinct l.idempotency_key) from odoo.event_log l join odoo.instances i "
        "on i.id = l.instance_id where"
    )
    events = len({event.idempotency_key for event in world.events()})
    assert lines == [(events, events)], f"{events} events, and (lines, keys) of the log {lines}"


@then("nobody can change or delete a line of the log")
def log_is_append_only(world: World) -> None:
    """Not even its owner, without taking the trigger away."""
    for statement in (
        "update odoo.event_log set stale = stale",
        "delete from odoo.event_log",
        "truncate odoo.event_log",
    ):
        try:
            world.supabase_sql(statement.replace("stale = stale", "event_type = event_type"))
        except psycopg2.errors.ObjectNotInPrerequisiteState:  # what its trigger raises
            continue
        else:
            raise AssertionError(f"done: {statement}")


@then(parsers.parse('event {number:d} of the record "{record}" is completed without effect'))
def superseded(world: World, number: int, record: str) -> None:
    """Something newer had taken effect before."""
    outcome = {event.sequence: event.outcome for event in world.events() if event.aggregate_id == record}
    assert outcome[number] == "superseded", outcome


@then(parsers.parse('the newest event in effect of the record "{record}" is event {number:d}'))
def newest(world: World, record: str, number: int) -> None:
    """By the mapping."""
    assert _mapped(world, "project.task", record) == {"number": number}


@then(parsers.parse('the mapping of the record "{record}" leads to {payload}'))
def mapping(world: World, record: str, payload: str) -> None:
    """The payload of the event that it points to."""
    assert _mapped(world, "project.task", record) == json.loads(payload)


def _mapped(world: World, model: str, record: str) -> Any:
    [(payload,)] = world.ours(
        "select e.payload from odoo.entity_mappings m join odoo.instances i on i.id = m.instance_id "
        "join odoo.webhook_events e on e.id::text = m.supabase_id "
        "where m.supabase_schema = 'odoo' and m.supabase_table = 'webhook_events' and m.odoo_model = %s "
        "and m.odoo_id = %s and",
        model, record,
    )  # fmt: skip
    return payload


def _log(world: World, record: str, number: int) -> tuple[int, bool]:
    [row] = world.ours(
        "select l.missing, l.stale from odoo.event_log l join odoo.instances i on i.id = l.instance_id "
        "where l.aggregate_id = %s and l.sequence = %s and",
        record, number,
    )  # fmt: skip
    return row[0], row[1]


@then(parsers.parse('the log says that event {number:d} of the record "{record}" came late'))
def came_late(world: World, number: int, record: str) -> None:
    """A newer one had come before it."""
    assert _log(world, record, number) == (0, True)


@then(
    parsers.parse('the log says that {count:d} events were missing when event {number:d} of the record "{record}" came')
)
def were_missing(world: World, count: int, number: int, record: str) -> None:
    """Between the last one seen and this one."""
    assert _log(world, record, number) == (count, False)


@then("this Odoo is known to Supabase")
def is_known(world: World) -> None:
    """A row of odoo.instances, active."""
    assert world.ours("select i.active from odoo.instances i where") == [(True,)]


@given("this Odoo is marked inactive in Supabase")
def inactive(world: World) -> None:
    """By the integration engineer."""
    world.supabase_sql("insert into odoo.instances (name, active) values (%s, false)", world.instance)


@when("this Odoo is marked active in Supabase")
def active(world: World) -> None:
    """Again."""
    world.supabase_sql("update odoo.instances set active = true where name = %s", world.instance)


# --- handlers


@given("a handler that notes every event")
@given(parsers.parse('a handler that fails with "{reason}" until it is mended'))
def handler(world: World, reason: str = "") -> None:
    """A SQL function that odoo.event_handlers names, in a schema of the scenario's own, for its events alone."""
    schema = _schema(world)
    world.supabase_sql(f"create schema {schema}")
    world.undo.callback(world.supabase_sql, f"drop schema {schema} cascade")
    world.supabase_sql(f"create table {schema}.noted (event_id bigint)")
    world.supabase_sql(f"alter table {schema}.noted enable row level security")
    world.supabase_sql(_handler(schema, world.instance, reason))
    world.supabase_sql(
        "insert into odoo.event_handlers (event_type, handler) values ('project.task.*', %s)",
        f"{schema}.note(odoo.webhook_events)",
    )
    world.undo.callback(
        world.supabase_sql, "delete from odoo.event_handlers where handler = %s", f"{schema}.note(odoo.webhook_events)"
    )


def _schema(world: World) -> str:
    return f"features_{world.instance.replace('-', '_')}"


def _handler(schema: str, instance: str, reason: str) -> str:
    fail = f"raise exception '{reason}';" if reason else ""
    return f"""
create or replace function {schema}.note(e odoo.webhook_events) returns void
language plpgsql set search_path = '' as $$
begin
  if exists (select from odoo.instances i where i.id = e.instance_id and i.name = '{instance}') then
    {fail}
    insert into {schema}.noted values (e.id);
  end if;
end
$$"""


@when("the handler is mended")
def mended(world: World) -> None:
    """It works from now on."""
    world.supabase_sql(_handler(_schema(world), world.instance, ""))


@then(parsers.re(r"the handler noted it (?P<count>\d+) times?"))
def noted(world: World, count: str) -> None:
    """What it wrote, it wrote in the transaction that completed the event."""
    assert world.supabase_sql(f"select count(*) from {_schema(world)}.noted") == [(int(count),)]


# --- secrets


@then("no secret is in any log, in the outbox or in Supabase's tables")
def no_secret(world: World) -> None:
    """After everything that went wrong."""
    texts = {f"the log of {name}": part.log_text() for name, part in world.stack.parts.items()}
    assert sum(bool(text) for text in texts.values()) >= 4
    texts["the outbox"] = str(world.odoo_sql("select o::text from ipai_bridge.outbox o"))
    for table in ("odoo.webhook_events", "odoo.event_log", "odoo.instances"):
        texts[table] = str(world.supabase_sql(f"select t::text from {table} t"))
    for secret in world.secrets():
        found = [place for place, text in texts.items() if secret in text]
        assert found == [], f"a secret is in {', '.join(found)}"
