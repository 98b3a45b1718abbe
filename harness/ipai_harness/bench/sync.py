"""The finance sync through the real function and PostgreSQL, beside a plain COPY of the same rows in the same run.

The rows come from a generated Odoo, which measures our side alone (`sync`); or from a real one, over its RPC and in its
own process (`sync-odoo`). Tasks are put into the real one by SQL.
"""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from ipai_bridge.sync.run import PAGE_SIZE
from ipai_harness.bench.generated import GeneratedOdoo
from ipai_harness.bench.odoo import filled_odoo
from ipai_harness.bench.receiving import receiving
from ipai_harness.bench.result import Figure, Report, machine
from ipai_harness.bench.sender import Done, Order, order
from ipai_harness.stack import supabase
from ipai_harness.stack.postgres import Cluster
from ipai_harness.stack.progress import Progress

PROJECTS, TASKS, ROUNDS = 1_000, 100_000, 3
QUICK_PROJECTS, QUICK_TASKS = 20, 2_000
EVERY = 100  # one per cent is changed
COPY = "COPY into a bare table"

_BARE = """
    create table if not exists public.bench_bare
      (instance_id bigint, odoo_id bigint, external_ref text, name text, active boolean, raw jsonb);
    truncate public.bench_bare
"""


@dataclass
class Way:
    """One way in which the rows are read, and its samples."""

    name: str
    few: list[Done] = field(default_factory=list)
    full: list[Done] = field(default_factory=list)
    increment: list[Done] = field(default_factory=list)

    def figures(self, total: int, tasks: int) -> list[Figure]:
        """What is shown of it."""
        seconds, few = f"{self.name}: snapshot, seconds", f"{self.name}: peak at {tasks // 10:,} tasks"
        return [
            Figure(f"{self.name}: snapshot", "rows/s", [total / one.seconds for one in self.full], COPY),
            Figure(seconds, "s", [one.seconds for one in self.full]),
            Figure(f"{self.name}: increment, 1 %", "s", [one.seconds for one in self.increment], seconds),
            Figure(few, "MiB", [one.peak for one in self.few]),
            Figure(f"{self.name}: peak at {tasks:,} tasks", "MiB", [one.peak for one in self.full], few),
        ]


def generated(
    progress: Progress, *, quick: bool = False, rounds: int | None = None, page_size: int = PAGE_SIZE
) -> Report:
    """Measure our side. Raises HarnessError when a part fails."""
    projects, tasks, rounds = _sizes(quick, rounds)
    with receiving(progress) as side:

        def send(instance: str, projects: int, tasks: int, every: int = 0) -> Done:
            return order(Order(side.functions_url, side.secret, instance, projects, tasks, every, page_size=page_size))

        copied: list[float] = []
        way = Way("generated")
        for number in range(1, rounds + 1):
            with progress.step("bench", f"round {number} of {rounds}"):
                copied.append(copy(side.cluster, projects, tasks))
                instance = _instance()
                way.full.append(send(instance, projects, tasks))
                way.increment.append(send(instance, projects, tasks, EVERY))
                way.few.append(send(_instance(), projects // 10, tasks // 10))
        return _report("sync", side.cluster, copied, [way], projects, tasks, rounds, page_size)


def from_odoo(
    progress: Progress, *, quick: bool = False, rounds: int | None = None, page_size: int = PAGE_SIZE
) -> Report:
    """Measure the whole way out of a real Odoo. Raises HarnessError when a part fails."""
    projects, tasks, rounds = _sizes(quick, rounds)
    with filled_odoo(progress) as odoo:
        cluster = odoo.stack.supabase_db
        copied: list[float] = []
        rpc, inside = Way("RPC"), Way("in process")
        ways_of = ((rpc, odoo.over_rpc), (inside, odoo.in_process))
        with progress.step("bench", f"{tasks // 10:,} tasks"):
            odoo.fill(projects // 10, tasks // 10)
            for way, send in ways_of:
                way.few += [send(_instance(), page_size) for _ in range(rounds)]
        odoo.fill(projects, tasks)
        for number in range(1, rounds + 1):
            with progress.step("bench", f"round {number} of {rounds}"):
                copied.append(copy(cluster, projects, tasks))
                for way, send in ways_of:
                    instance = _instance()
                    way.full.append(send(instance, page_size))
                    odoo.change(EVERY)
                    way.increment.append(send(instance, page_size))
        return _report("sync-odoo", cluster, copied, [rpc, inside], projects, tasks, rounds, page_size)


def _sizes(quick: bool, rounds: int | None) -> tuple[int, int, int]:
    projects, tasks = (QUICK_PROJECTS, QUICK_TASKS) if quick else (PROJECTS, TASKS)
    return projects, tasks, rounds or (1 if quick else ROUNDS)


def _instance() -> str:
    return f"bench-{uuid.uuid4().hex[:8]}"


def _report(
    subject: str, cluster: Cluster, copied: list[float], ways: list[Way], projects: int, tasks: int, rounds: int,
    page_size: int,
) -> Report:  # fmt: skip
    total = projects + tasks
    for way in ways:
        # A sync that sent nothing would be quick.
        for done in way.full:
            if done.report["inserted"] < total:
                raise AssertionError(f"{way.name}: {done.report['inserted']} rows arrived, not {total}")
        for done in way.increment:
            if not total // EVERY // 2 < done.report["updated"] < total // EVERY * 2:
                raise AssertionError(f"{way.name}: {done.report['updated']} rows changed, not {total // EVERY}")
    parameters = {"projects": projects, "tasks": tasks, "rounds": rounds, "page size": page_size}
    return Report(
        subject, parameters, machine(postgres=str(cluster.installation)),
        [
            Figure(COPY, "rows/s", [total / seconds for seconds in copied]),
            *(figure for way in ways for figure in way.figures(total, tasks)),
        ],
    )  # fmt: skip


def copy(cluster: Cluster, projects: int, tasks: int) -> float:
    """Seconds of a COPY of the same rows into a table without an index; making their text is not counted."""
    text = io.StringIO()
    for line in _lines(GeneratedOdoo(projects, tasks)):
        text.write(line)
    text.seek(0)
    with cluster.cursor(supabase.DATABASE) as cursor:
        cursor.execute(_BARE)
        started = time.perf_counter()
        cursor.copy_expert("copy public.bench_bare from stdin", text)
        return time.perf_counter() - started


def _lines(odoo: GeneratedOdoo) -> Iterator[str]:
    for model in ("project.project", "project.task"):
        for row in odoo.rows(model):
            raw = json.dumps(row).replace("\\", "\\\\")
            reference = f"bench.{model.rpartition('.')[2]}_{row['id']}"
            yield f"1\t{row['id']}\t{reference}\t{row['name']}\t{row['active']}\t{raw}\n"
