"""What people do in Odoo: administrators who say what is announced, and users who work."""

from __future__ import annotations

import threading
from typing import Any

import odoorpc.error
from pytest_bdd import given, parsers, then, when

from ipai_harness.steps.waiting import until
from ipai_harness.steps.world import World

ANNOUNCED: dict[str, dict[str, Any]] = {
    "posted invoices": {
        "name": "Invoice posted",
        "model": "account.move",
        "code": 'ipai_bridge.emit(records, "account.move.posted", '
        'fields=["name", "state", "amount_total", "partner_id"])',
        "before": [("state", "!=", "posted")],
        "after": [("state", "=", "posted")],
    },
    "created projects": {
        "name": "Project created",
        "model": "project.project",
        "code": 'ipai_bridge.emit(records, "project.project.created", fields=["name", "active"])\n'
        'if any(project.name == "Doomed" for project in records):\n'
        '    raise UserError("refused after it has emitted")',
        "trigger": "on_create",
    },
    "created tasks": {
        "name": "Task created",
        "model": "project.task",
        "code": 'ipai_bridge.emit(records, "project.task.created", fields=["name", "project_id"])',
        "trigger": "on_create",
    },
    "finished tasks": {
        "name": "Task done",
        "model": "project.task",
        "code": 'ipai_bridge.emit(records, "project.task.done", fields=["name", "state"])',
        "before": [("state", "!=", "1_done")],
        "after": [("state", "=", "1_done")],
    },
    "renamed customers": {
        "name": "Customer renamed",
        "model": "res.partner",
        "code": 'ipai_bridge.emit(records, "res.partner.renamed", fields=["name"])',
        "trigger": "on_write",
        "fields": ["name"],
    },
}
"""The acts that an administrator can have announced: the sentence's words, and the automation rule for them."""


def _names(text: str) -> list[str]:
    return [part.strip().strip('"') for part in text.replace(" and ", ",").split(",") if part.strip()]


# --- what is announced


@given(parsers.parse("{what} are announced"))
def announce(world: World, what: str) -> None:
    """An automation rule whose server action calls `ipai_bridge.emit`."""
    world.rule(**ANNOUNCED[what])


# --- records that are there


@given(parsers.parse('the customer "{name}"'))
@given(parsers.parse("the customers {names}"))
def customers(world: World, name: str = "", names: str = "") -> None:
    """Customers, created by somebody."""
    for one in [name] if name else _names(names):
        world.name(one, "res.partner", world.odoo.create("res.partner", {"name": one}))


@given(parsers.parse('the project "{name}"'))
@when(parsers.parse('a project manager creates the project "{name}"'))
def create_project(world: World, name: str) -> None:
    """A project."""
    world.name(name, "project.project", world.act(world.odoo.create, "project.project", {"name": name}))


@given(parsers.parse('the tasks {names} of "{project}"'))
@when(parsers.parse('a project manager creates the tasks {names} of "{project}"'))
def create_tasks(world: World, names: str, project: str) -> None:
    """Tasks of a project, in one act."""
    parent = world.thing(project).id
    rows = [{"name": name, "project_id": parent} for name in _names(names)]
    for name, task in zip(_names(names), world.act(world.odoo.create_many, "project.task", rows), strict=True):
        world.name(name, "project.task", task)


@given(parsers.parse('{count:d} more tasks of "{project}"'))
@when(parsers.parse('a project manager creates {count:d} tasks of "{project}" at once'))
def create_many_tasks(world: World, count: int, project: str) -> None:
    """Many tasks of a project, in one act."""
    parent = world.thing(project).id
    rows = [{"name": f"Task {number}", "project_id": parent} for number in range(count)]
    world.act(world.odoo.create_many, "project.task", rows)


# --- what users do


@when(parsers.re(r'an accountant (?P<act>posts|saves) the (draft )?invoice "(?P<name>[^"]+)" of (?P<amount>[\d.]+)'))
def invoice(world: World, act: str, name: str, amount: str) -> None:
    """A customer invoice of one line; posted, or left a draft."""
    customer = world.odoo.create("res.partner", {"name": f"Customer of {name}"})
    line = (0, 0, {"name": "Consulting", "quantity": 1, "price_unit": float(amount), "tax_ids": [(5, 0, 0)]})
    values = {"move_type": "out_invoice", "partner_id": customer, "invoice_line_ids": [line]}
    world.name(f"customer of {name}", "res.partner", customer)
    move = world.name(name, "account.move", world.act(world.odoo.create, "account.move", values))
    if act == "posts":
        world.act(world.odoo.call, "account.move", "action_post", [move])


@when(parsers.parse('a project manager finishes the task "{name}"'))
def finish(world: World, name: str) -> None:
    """The task's state becomes done."""
    world.act(world.odoo.write, "project.task", world.thing(name).id, {"state": "1_done"})


@when(parsers.parse('somebody renames the customer "{name}" to "{new}"'))
@when(parsers.re(r'a project manager renames the (project|task) "(?P<name>[^"]+)" to "(?P<new>[^"]+)"'))
def rename(world: World, name: str, new: str) -> None:
    """Another name for a record; later sentences go on calling it by its first one."""
    world.rename(name, new)


@when(parsers.re(r'somebody renames the customer "(?P<name>[^"]+)" (?P<count>\d+) times'))
def rename_often(world: World, name: str, count: str) -> None:
    """One transaction after another; each time another name."""
    for _ in range(int(count)):
        world.notes["renamed"] = world.notes.get("renamed", 0) + 1
        world.rename(name, f"{name} {world.notes['renamed']}")


@when(parsers.parse("somebody renames each customer {count:d} times"))
def rename_each(world: World, count: int) -> None:
    """All customers of the scenario, in turns."""
    for number in range(count):
        for name, thing in list(world.things.items()):
            if thing.model == "res.partner":
                world.rename(name, f"{name} {number + 1}")


@when(parsers.parse('a project manager creates the project "{name}", which Odoo refuses at the end'))
def create_refused(world: World, name: str) -> None:
    """The server action emits, and then raises: the whole act is rolled back."""
    try:
        world.odoo.create("project.project", {"name": name})
    except odoorpc.error.RPCError:
        # Its id was never committed, so nobody can name it: what must not arrive is any event at all.
        return
    raise AssertionError("Odoo did not refuse the act")


@when(parsers.re(r'a project manager (?P<act>archives|deletes) the (project|task) "(?P<name>[^"]+)"'))
def archive_or_delete(world: World, act: str, name: str) -> None:
    """Archived records are still there; deleted ones are not."""
    thing = world.thing(name)
    if act == "archives":
        world.odoo.write(thing.model, thing.id, {"active": False})
    else:
        world.odoo.unlink(thing.model, [thing.id])


# --- what server actions do


def _run(world: World, name: str, code: str) -> None:
    thing = world.thing(name)
    action = world.odoo.server_action("Scenario", thing.model, code)
    world.undo.callback(world.odoo.unlink, "ir.actions.server", [action])
    world.act(world.odoo.run_server_action, action, thing.model, [thing.id])


@when(parsers.parse('a server action announces the field "{field}" of "{name}"'))
def announce_field(world: World, field: str, name: str) -> None:
    """It may be refused: the next sentence says so."""
    try:
        _run(world, name, f'ipai_bridge.emit(records, "res.partner.touched", fields=["{field}"])')
        world.refusal = ""
    except odoorpc.error.RPCError as error:
        world.refusal = f"{error} {error.info}"


@then(parsers.parse('Odoo refuses it and names "{what}"'))
def refused_by_odoo(world: World, what: str) -> None:
    """The author sees the library's own text."""
    assert what in world.refusal, f"Odoo said: {world.refusal or 'nothing, it did it'}"


@when(parsers.parse('a server action announces 1, 2 and 3 of "{name}", and takes 2 back'))
def savepoint(world: World, name: str) -> None:
    """Three events in one transaction, the second within a savepoint that is rolled back."""
    _run(
        world,
        name,
        """
ipai_bridge.emit(records, "res.partner.counted", payload={"number": 1})
savepoint = env.cr.savepoint()
ipai_bridge.emit(records, "res.partner.counted", payload={"number": 2})
savepoint.rollback()
savepoint.close(rollback=True)
ipai_bridge.emit(records, "res.partner.counted", payload={"number": 3})
""",
    )


@when(parsers.parse('two people change "{name}" at the same moment, and Odoo runs one of the acts again'))
def serialization(world: World, name: str) -> None:
    """What the first transaction sees is fixed before the second commits: its write is refused, and Odoo retries."""
    code = """
ipai_bridge.emit(record, "res.partner.raced", payload={"seen": record.color})
env.cr.execute("select pg_sleep(1.5)")
record.write({"comment": "raced"})
"""
    failed: list[BaseException] = []

    def first() -> None:
        try:
            _run(world, name, code)
        except BaseException as error:  # noqa: BLE001 -- raised below, in the step's own thread
            failed.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    sleeping = "select 1 from pg_stat_activity where query like 'select pg_sleep%%' and state = 'active'"
    until(lambda: world.odoo_sql(sleeping), what="the first act is under way")
    world.odoo_sql("update res_partner set color = 7 where id = %s", world.thing(name).id)
    thread.join()
    if failed:
        raise failed[0]
    [event] = until(lambda: world.events(name), what="the event is written")
    assert event.sent == {"seen": 7}, f"Odoo did not run the act again, so nothing was tested: {event.sent}"


@then(parsers.parse("nobody waited longer than {seconds:d} seconds"))
def nobody_waited(world: World, seconds: int) -> None:
    """Of all acts of the scenario in Odoo."""
    assert world.waited, "nobody did anything"
    assert max(world.waited) < seconds, f"the longest act took {max(world.waited):.1f} s"
