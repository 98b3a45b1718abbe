"""Law 8 as a property: whatever is done in Odoo, after a sync the shadow equals it, and the drift views name exactly
the differences from the plan, reckoned here from Odoo's own tables."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ipai_harness.drive.odoo import OdooSession
from ipai_harness.stack.native import NativeStack
from tests.e2e.scene import Scene
from tests.e2e.syncing import Syncs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MODELS = {"project": "project.project", "task": "project.task"}
NAMES = ["Close", "Close ☃", "File"]
FIELD = "x_external_ref"

Names = dict[tuple[str, int], str]


class World(Syncs):
    """Projects and tasks of one instance, what is done to them, and what is planned."""

    def __init__(self, scene: Scene, *, field: bool) -> None:
        super().__init__(scene)
        self.field = field
        if field:
            self.references = f"p.{FIELD}"
        self.ids: dict[str, list[int]] = {"project": [], "task": []}
        self.untraced = False
        """Something happened that only a full sync sees."""
        self.before: Names = {}
        self.now: Names = {}
        self.mark = ""

    def begin(self) -> None:
        """Another run of acts, on what is there."""
        self.mark = uuid.uuid4().hex[:8]
        self.ids = {"project": [], "task": []}
        self.scene.supabase_sql("delete from odoo_seed.projects; delete from odoo_seed.tasks")
        for entity in MODELS:
            self.act("create", entity, 0)
            self.act("refer", entity, 1)
        self.sync(full=True)

    def sync(self, *, full: bool, page_size: int = 50) -> None:
        """One sync cycle; `before` and `now` are the names at the ends of the last two."""
        self.finance(full=full or self.untraced, page_size=page_size)
        self.untraced = False
        self.before, self.now = self.now, {
            (entity, number): name for entity, rows in self.odoo_rows().items() for number, (_, name) in rows.items()
        }  # fmt: skip

    def act(self, what: str, entity: str, number: int) -> None:
        """Do something to one of the records of that kind."""
        ids, model = self.ids[entity], MODELS[entity]
        one = ids[number % len(ids)] if ids else None
        if what == "create" or one is None:
            values: dict[str, Any] = {"name": NAMES[number % 3]}
            if entity == "task" and self.ids["project"]:
                values["project_id"] = self.ids["project"][number % len(self.ids["project"])]
            ids.append(self.odoo.create(model, values))
        elif what == "rename":
            self.odoo.write(model, one, {"name": NAMES[number % 3]})
        elif what in ("archive", "restore"):
            self.odoo.write(model, one, {"active": what == "restore"})
        elif what == "copy":
            made = self.odoo.call(model, "copy", [one])
            ids += made if isinstance(made, list) else [made]
        elif what == "move" and self.ids["project"] and self.ids["task"]:
            task = self.ids["task"][number % len(self.ids["task"])]
            self.odoo.write(
                "project.task", task, {"project_id": self.ids["project"][number % len(self.ids["project"])]}
            )
        elif what == "unlink":
            self.odoo.unlink(model, [one])
            ids.remove(one)
            left = set(self.odoo.search("project.task", [], context={"active_test": False}))
            self.ids["task"] = [task for task in self.ids["task"] if task in left]  # a project takes its tasks along
        elif what == "refer":
            self.refer(model, one, number)

    def refer(self, model: str, one: int, number: int) -> None:
        """Give the record a reference; take it away from another, if XML ids are what counts."""
        if self.field:
            self.odoo.write(model, one, {FIELD: self.reference(number) if number % 4 else False})
            return
        name = self.reference(number).partition(".")[2]
        taken = self.odoo.search("ir.model.data", [("module", "=", "law"), ("name", "=", name)])
        if taken:
            self.odoo.unlink("ir.model.data", taken)
            self.untraced = True
        self.odoo.create("ir.model.data", {"module": "law", "name": name, "model": model, "res_id": one})

    def reference(self, number: int) -> str:
        return f"law.{self.mark}_{number % 4}"

    def plan(self, entity: str, number: int, name: str | None) -> None:
        self.scene.supabase_sql(
            f"insert into odoo_seed.{entity}s (instance_id, external_ref, name) select id, %s, %s from odoo.instances "
            "where name = %s", self.reference(number), name, self.instance,
        )  # fmt: skip

    # --- what is so, by Odoo's own tables and the plan

    def odoo_rows(self) -> dict[str, dict[int, tuple[str | None, str]]]:
        """By entity and id: reference and name."""
        found = {}
        for entity, model in MODELS.items():
            name = "p.name ->> 'en_US'" if entity == "project" else "p.name"
            reference = self.references.format(model=model)
            rows = self.scene.odoo_sql(f"select p.id, {reference}, {name} from {model.replace('.', '_')} p")
            found[entity] = {number: (ref, name) for number, ref, name in rows}
        return found

    def expected(self) -> dict[str, set[tuple[Any, ...]]]:
        """The rows of the three views."""
        missing, orphans, names = set(), set(), set()
        for entity, rows in self.odoo_rows().items():
            planned = dict(
                self.ours(
                    f"select s.external_ref, s.name from odoo_seed.{entity}s s join odoo.instances i "
                    "on i.id = s.instance_id where i.name = %s"
                )
            )
            oldest: dict[str, int] = {}
            for number, (ref, _) in sorted(rows.items()):
                if ref is not None:
                    oldest.setdefault(ref, number)
            missing |= {(entity, ref, name) for ref, name in planned.items() if ref not in oldest}
            for number, (ref, name) in rows.items():
                copied = ref is not None and oldest[ref] != number
                if copied or ref not in planned:
                    orphans.add((entity, number, oldest[ref] if copied and ref is not None else None))
                differs = not copied and ref in planned and planned[ref] != name
                known = (entity, number) in self.before
                renamed = known and self.before[entity, number] != name
                if differs or renamed:
                    names.add((entity, number, name, differs, renamed))
        return {"missing": missing, "orphan": orphans, "name": names}

    def shown(self) -> dict[str, set[tuple[Any, ...]]]:
        """The same, as the views say it."""
        asked = {
            "missing": "entity, external_ref, name from odoo_seed.v_missing_in_odoo",
            "orphan": "entity, odoo_id, duplicate_of from odoo_seed.v_orphan_in_odoo",
            "name": "entity, odoo_id, name, differs_from_seed, renamed from odoo_seed.v_name_drift",
        }
        found = {kind: self.ours(f"select {what} where instance = %s") for kind, what in asked.items()}
        for rows in found.values():
            assert len(rows) == len(set(rows)), "each difference once"
        return {kind: set(rows) for kind, rows in found.items()}


@pytest.fixture(scope="module")
def by_xml_id(stack: NativeStack, odoo: OdooSession) -> Iterator[World]:
    with closing(World(Scene(stack, odoo), field=False)) as world:
        yield world


@pytest.fixture(scope="module")
def by_field(stack: NativeStack, odoo: OdooSession) -> Iterator[World]:
    with contextlib.ExitStack() as after:
        for model in MODELS.values():
            values = {"name": FIELD, "field_description": "Reference", "ttype": "char", "state": "manual"}
            made = odoo.create("ir.model.fields", {**values, "model_id": odoo.model_id(model), "copied": True})
            after.callback(odoo.unlink, "ir.model.fields", [made])
        yield after.enter_context(closing(World(Scene(stack, odoo), field=True)))


WHAT = ["create", "rename", "archive", "restore", "copy", "copy", "move", "unlink", "refer", "refer", "sync"]
ACTS = st.lists(
    st.tuples(st.sampled_from(WHAT), st.sampled_from(list(MODELS)), st.integers(0, 5)), min_size=5, max_size=14
)
PLANS = st.dictionaries(
    st.tuples(st.sampled_from(list(MODELS)), st.integers(0, 3)), st.sampled_from([None, *NAMES]), min_size=4
)
A_FEW = settings(
    max_examples=6, phases=[Phase.explicit, Phase.generate], deadline=None, suppress_health_check=list(HealthCheck)
)


def hold(world: World, acts: list[tuple[str, str, int]], plans: dict[tuple[str, int], str | None], full: bool) -> None:
    world.begin()
    for (entity, number), name in plans.items():
        world.plan(entity, number, name)
    for what, entity, number in acts:
        if what == "sync":
            world.sync(full=False, page_size=3)
        else:
            world.act(what, entity, number)
    world.sync(full=full)
    world.assert_equal()
    assert world.shown() == world.expected()


@A_FEW
@given(acts=ACTS, plans=PLANS, full=st.booleans())
def test_law_8_with_xml_ids(
    by_xml_id: World, acts: list[tuple[str, str, int]], plans: dict[tuple[str, int], str | None], full: bool
) -> None:
    hold(by_xml_id, acts, plans, full)


@A_FEW
@given(acts=ACTS, plans=PLANS, full=st.booleans())
def test_law_8_with_a_field_for_the_reference(
    by_field: World, acts: list[tuple[str, str, int]], plans: dict[tuple[str, int], str | None], full: bool
) -> None:
    hold(by_field, acts, plans, full)


def test_law_8_copies_cascades_and_names(by_field: World) -> None:
    """What chance seldom brings together."""
    world = by_field
    world.begin()
    for entity in MODELS:
        world.plan(entity, 1, NAMES[0])
        world.plan(entity, 2, None)
        world.act("copy", entity, 0)
    world.act("create", "project", 1)
    world.act("move", "task", 1)
    world.sync(full=False)
    copied = world.shown()
    assert {row[2] is not None for row in copied["orphan"]} == {True, False}
    assert copied == world.expected()
    world.act("unlink", "project", 0)  # the oldest, which the reference meant, with its tasks
    world.act("rename", "project", 1)
    world.sync(full=False)
    world.assert_equal()
    assert world.shown() == world.expected()
