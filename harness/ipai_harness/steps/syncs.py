"""The scheduled syncs, as somebody's cron runs them, and what is found after them: modules, projects, tasks, runs."""

from __future__ import annotations

from typing import Any

from pytest_bdd import given, parsers, then, when

from ipai_bridge.errors import SyncRefused
from ipai_bridge.sync import finance, modules
from ipai_bridge.sync.run import Run
from ipai_bridge.sync.source import RpcSource
from ipai_harness.observe.equality import module_differences, shadow_differences
from ipai_harness.steps.world import World


def source(world: World, kind: type[RpcSource] = RpcSource) -> RpcSource:
    """Odoo as a sync reads it."""
    env = world.env
    return kind(env["odoo_url"], env["odoo_db"], env["odoo_login"], env["odoo_password"])


def sync_finance(world: World, **options: Any) -> None:
    """One run; a refusal is kept for the next sentence."""
    world.refusal = ""
    try:
        world.report = finance.sync_finance(source(world), world.client(finance.FUNCTION), **options)
    except SyncRefused as error:
        world.refusal = str(error.reason)


def sync_modules(world: World, **options: Any) -> None:
    """One run."""
    world.report = modules.sync_modules(source(world), world.client(modules.FUNCTION), **options)


# --- runs


@given("the projects and tasks were synced")
@when("the projects and tasks are synced")
def finance_synced(world: World) -> None:
    """A snapshot the first time, then increments."""
    sync_finance(world)


@when(parsers.parse("the projects and tasks are synced, {size:d} a page"))
def finance_synced_in_pages(world: World, size: int) -> None:
    """More pages than one."""
    sync_finance(world, page_size=size)
    assert world.report is not None
    assert world.report.pages > 3, world.report


@when("the projects and tasks are synced, and the sync takes over")
def finance_taken_over(world: World) -> None:
    """`--take-over`: the other run has failed."""
    sync_finance(world, take_over=True)


@when("the projects and tasks are synced, and the sync is cut off after its first page")
def finance_cut_off(world: World) -> None:
    """By Ctrl-C, while it reads the second page."""

    class Cut(RpcSource):
        pages = 0

        def call(self, model: str, method: str, *args: Any, **kwargs: Any) -> Any:
            self.pages += method == "search_read"
            if self.pages > 1:
                raise KeyboardInterrupt
            return super().call(model, method, *args, **kwargs)

    try:
        finance.sync_finance(source(world, Cut), world.client(finance.FUNCTION), page_size=1)
    except KeyboardInterrupt:
        world.report = None
        return
    raise AssertionError("the sync was not cut off")


@given("a run of the projects and tasks that is still under way")
def finance_under_way(world: World) -> None:
    """As another machine's, in the middle of its work."""
    # Entered and never left: leaving it would end the run.
    world.notes["under way"] = Run.begun(world.client(finance.FUNCTION), source(world), full=True)
    world.notes["under way"].__enter__()


@given("the modules were synced")
@when("the modules are synced")
def modules_synced(world: World) -> None:
    """Every run is a whole one."""
    sync_modules(world)


@when(parsers.parse("the modules are synced, {size:d} a page"))
def modules_synced_in_pages(world: World, size: int) -> None:
    """More pages than one."""
    sync_modules(world, page_size=size)


@then(parsers.parse("the run ends in {status}"))
def run_ends(world: World, status: str) -> None:
    """As its row in odoo_seed.sync_runs says."""
    rows = world.ours(
        "select r.status, r.errors::text from odoo_seed.sync_runs r join odoo.instances i on i.id = r.instance_id "
        "where r.id = (select max(l.id) from odoo_seed.sync_runs l where l.instance_id = i.id) and"
    )
    assert rows, "no run is on record"
    assert rows[0][0] == status, rows
    if world.report is not None:
        assert world.report.status == status


@then(parsers.parse("the run took more than {count:d} pages"))
def run_pages(world: World, count: int) -> None:
    """What a page holds is no limit of what is synced."""
    assert world.report is not None
    assert world.report.pages > count


@then(parsers.parse("the run was an increment, and changed {count:d} record"))
def run_was_increment(world: World, count: int) -> None:
    """What is as it was is not written."""
    report = world.report
    assert report is not None
    assert (report.mode, report.inserted + report.updated + report.deleted) == ("increment", count), report


@then(parsers.parse('the sync is refused with "{reason}"'))
def sync_refused(world: World, reason: str) -> None:
    """By a code that programs branch on."""
    assert world.refusal == reason


@then(parsers.parse('the cursors of "{first}" and "{second}" are kept'))
def cursors_kept(world: World, first: str, second: str) -> None:
    """How far each came, and when."""
    rows = world.ours(
        "select c.entity, c.cursor is not null, c.last_sync_at is not null from odoo.sync_cursors c "
        "join odoo.instances i on i.id = c.instance_id where"
    )
    assert sorted(rows) == [(entity, True, True) for entity in sorted([first, second])]


@then("no cursor is kept")
def no_cursor(world: World) -> None:
    """The next run begins anew."""
    cursors = "select c.entity from odoo.sync_cursors c join odoo.instances i on i.id = c.instance_id where"
    assert world.ours(cursors) == []


# --- modules


@then("Supabase's inventory equals Odoo's list of modules, field by field")
def inventory_equals(world: World) -> None:
    """Read from both databases."""
    assert module_differences(world.odoo_sql, world.supabase_sql, world.instance) == []


@then(parsers.parse('the module "{name}" comes from "{origin}"'))
def module_source(world: World, name: str, origin: str) -> None:
    """By its author and its licence."""
    assert _module(world, name, "m.source") == [(origin,)]


def _module(world: World, name: str, columns: str) -> list[tuple[Any, ...]]:
    return world.ours(
        f"select {columns} from odoo.modules m join odoo.instances i on i.id = m.instance_id where m.name = %s and",
        name,
    )


@when(parsers.parse('the module "{name}" is no longer installed in Odoo'))
def uninstalled(world: World, name: str) -> None:
    """As its row says after an uninstallation; put back after the scenario."""
    [before] = world.odoo_sql("select state, latest_version from ir_module_module where name = %s", name)
    world.odoo_sql("update ir_module_module set state = 'uninstalled', latest_version = null where name = %s", name)
    world.undo.callback(
        world.odoo_sql, "update ir_module_module set state = %s, latest_version = %s where name = %s", *before, name
    )


@then(parsers.parse('the module "{name}" is marked uninstalled, and when'))
def marked_uninstalled(world: World, name: str) -> None:
    """And it was seen before."""
    assert _module(world, name, "m.state, m.uninstalled_at > m.first_seen, m.gone_at is null") == [
        ("uninstalled", True, True)
    ]


@when("an Enterprise module turns up installed in Odoo")
def enterprise(world: World) -> None:
    """One of those that Odoo advertises."""
    [(name, state)] = world.odoo_sql(
        "select name, state from ir_module_module where license = 'OEEL-1' order by name limit 1"
    )
    world.notes["enterprise"] = name
    world.odoo_sql("update ir_module_module set state = 'installed' where name = %s", name)
    world.undo.callback(world.odoo_sql, "update ir_module_module set state = %s where name = %s", state, name)


@then("the run warns of that Enterprise module")
def warns(world: World) -> None:
    """And of no other."""
    assert world.report is not None
    assert [warning["module"] for warning in world.report.warnings] == [world.notes["enterprise"]]


# --- projects and tasks


@then("the shadow equals Odoo, field by field")
def shadow_equals(world: World) -> None:
    """Read from both databases; archived records included."""
    assert shadow_differences(world.odoo_sql, world.supabase_sql, world.instance) == []


@then(parsers.parse('the shadow says that "{name}" is archived'))
def shadow_archived(world: World, name: str) -> None:
    """It is there, and not active."""
    assert world.ours(
        "select s.active from odoo_seed.shadow_projects s join odoo.instances i on i.id = s.instance_id "
        "where s.odoo_id = %s and",
        world.thing(name).id,
    ) == [(False,)]


@then(parsers.parse('there is a tombstone of "{name}"'))
def tombstone(world: World, name: str) -> None:
    """With the name that it had."""
    thing = world.thing(name)
    assert world.ours(
        "select t.name from odoo_seed.tombstones t join odoo.instances i on i.id = t.instance_id "
        "where t.entity = %s and t.odoo_id = %s and",
        thing.model, thing.id,
    ) == [(name,)]  # fmt: skip
