"""A real Odoo with as many tasks as are asked for, put into its database by SQL, and the sync out of it."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

import psycopg2

from ipai_harness.bench.sender import Done, Order, measured, order
from ipai_harness.drive.odoo import OdooSession
from ipai_harness.errors import HarnessError
from ipai_harness.stack.native import NativeStack
from ipai_harness.stack.progress import Progress

_ALIASES = """
    insert into mail_alias (alias_model_id, alias_defaults, alias_contact, create_uid, write_uid, create_date,
                            write_date)
    select a.alias_model_id, '{}', a.alias_contact, 1, 1, now(), now()
    from mail_alias a join project_project p on p.alias_id = a.id, generate_series(1, %(count)s)
    where p.id = %(like)s returning id
"""
_PROJECTS = """
    insert into project_project (name, active, sequence, alias_id, privacy_visibility, last_update_status, create_uid,
                                 write_uid, create_date, write_date)
    select jsonb_build_object('en_US', 'Client ' || a.id), true, 10, a.id, 'employees', 'to_define', 2, 2,
           now() at time zone 'utc', now() at time zone 'utc'
    from unnest(%(aliases)s) as a (id)
"""
_TASKS = """
    insert into project_task (name, active, state, priority, sequence, project_id, create_uid, write_uid, create_date,
                              write_date, display_in_project)
    select 'Close the books of period ' || n, n %% 50 <> 0, '01_in_progress', '0', 10,
           p.ids[1 + n %% array_length(p.ids, 1)], 2, 2, p.yesterday, p.yesterday, true
    from generate_series(1, %(count)s) as n,
         (select array_agg(id) as ids, now() at time zone 'utc' - interval '1 day' as yesterday
          from project_project) as p
"""
_CHANGE = """
    update project_task set name = 'Changed ' || id, write_date = now() at time zone 'utc' where id %% %(every)s = 0
"""
_SIZES = "select (select count(*) from project_project), (select count(*) from project_task)"

_INSIDE = """
import json, re, time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from ipai_bridge.secret import Secret
from ipai_bridge.sync import finance
from ipai_bridge.sync.client import FunctionClient
from ipai_bridge.sync.source import EnvSource
what = json.loads({what!r})
client = FunctionClient(
    what["functions_url"], finance.FUNCTION, Secret(what["secret"]), instance=what["instance"], timeout=60)
with closing(client):
    started = time.perf_counter()
    report = finance.sync_finance(EnvSource(env), client, full=what["full"], page_size=what["page_size"])
    seconds = time.perf_counter() - started
peak = int(re.search("VmHWM:[^0-9]*([0-9]+)", Path("/proc/self/status").read_text())[1]) / 1024
print("MEASURED", json.dumps({{"seconds": seconds, "peak": peak, "report": asdict(report)}}, default=str))
"""


class FilledOdoo:
    """A stack of its own, whose Odoo is filled from outside."""

    def __init__(self, stack: NativeStack) -> None:
        self.stack = stack
        self.env: Mapping[str, str] = stack.env()

    def fill(self, projects: int, tasks: int) -> None:
        """Have at least so many of each."""
        odoo = OdooSession(*self.login)
        [like] = odoo.search("project.project", [], limit=1) or [odoo.create("project.project", {"name": "Client 0"})]
        with closing(psycopg2.connect(self.env["odoo_dsn"])) as connection:
            with connection, connection.cursor() as cursor:
                there = self._sizes(cursor)
                cursor.execute(_ALIASES, {"count": max(0, projects - there[0]), "like": like})
                cursor.execute(_PROJECTS, {"aliases": [row[0] for row in cursor.fetchall()]})
                cursor.execute(_TASKS, {"count": max(0, tasks - there[1])})
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("analyze project_task, project_project")

    def change(self, every: int) -> None:
        """Rename one task in so many."""
        with closing(psycopg2.connect(self.env["odoo_dsn"])) as connection, connection, connection.cursor() as cursor:
            cursor.execute(_CHANGE, {"every": every})

    @property
    def login(self) -> tuple[str, str, str, str]:
        """URL, database, login, password."""
        env = self.env
        return env["odoo_url"], env["odoo_db"], env["odoo_login"], env["odoo_password"]

    def rows(self) -> int:
        """How many projects and tasks there are."""
        with closing(psycopg2.connect(self.env["odoo_dsn"])) as connection, connection.cursor() as cursor:
            return sum(self._sizes(cursor))

    @staticmethod
    def _sizes(cursor: psycopg2.extensions.cursor) -> tuple[int, int]:
        cursor.execute(_SIZES)
        found = cursor.fetchone()
        assert found is not None  # noqa: S101  counts give one row
        return int(found[0]), int(found[1])

    def over_rpc(self, instance: str, page_size: int) -> Done:
        """The sync as `ipai-bridge sync finance` does it."""
        return order(self._order(instance, page_size))

    def in_process(self, instance: str, page_size: int) -> Done:
        """The sync as Odoo's cron does it, in Odoo's shell."""
        what = self._order(instance, page_size)
        odoo = self.stack.odoo.process
        asked = json.dumps(
            {name: getattr(what, name) for name in ("functions_url", "secret", "instance", "full", "page_size")}
        )
        done = subprocess.run(
            [*odoo.argv[:2], "shell", *odoo.argv[2:], "-d", self.env["odoo_db"], "--no-http",
             "--shell-interface=python"],
            input=_INSIDE.format(what=asked), env=odoo.env, cwd=odoo.cwd, capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = [line for line in done.stdout.splitlines() if "MEASURED" in line]
        if not said:
            raise HarnessError(f"the sync inside Odoo failed: {done.stderr.strip()[-2_000:]}")
        return measured(json.loads(said[0].partition("MEASURED ")[2]))

    def _order(self, instance: str, page_size: int) -> Order:
        env = self.env
        return Order(env["functions_url"], env["secret"], instance, odoo=self.login, page_size=page_size)


@contextmanager
def filled_odoo(progress: Progress) -> Iterator[FilledOdoo]:
    """A stack without a relay, for the time of the block."""
    with NativeStack(f"bench-{secrets.token_hex(4)}", relay_mode="off", progress=progress) as stack:
        yield FilledOdoo(stack)
