"""A PostgreSQL data directory that holds a ready Odoo database, made once and copied in a moment.

The key is Odoo's version, the modules and PostgreSQL's major version: what is in a database does not depend on the
Python that made it. The filestore stands beside the data.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg2 import sql

from ipai_harness.errors import PartFailed
from ipai_harness.stack import paths
from ipai_harness.stack.build import cached, part_environment, run_tool
from ipai_harness.stack.handle import Database
from ipai_harness.stack.odoo_package import OdooPackage
from ipai_harness.stack.postgres import Cluster, Installation
from ipai_harness.stack.progress import Progress

FORMAT = 3  # raise it when what is made below changes
TEMPLATE = "odoo_template"  # to clone: nobody else connects to it
DATABASE = "odoo"  # a first clone, made beforehand: it is what Odoo serves
ROLE = "odoo"
SUPERUSER = "odoo_admin"
# What acts and rules need: invoices, automation rules, projects and tasks.
MODULES = ("account", "base_automation", "project")


@dataclass(frozen=True)
class Template:
    """A data directory to copy, and the filestore of its database."""

    data: Path
    filestore: Path


def prepare(
    modules: Sequence[str],
    package: OdooPackage,
    python: Path,
    installation: Installation,
    run: Path,
    token: str,
    progress: Progress,
) -> Template:
    """The template for these modules, made when it is not in the cache (about a minute). Raises PartFailed."""
    names = sorted({"base", "web", *modules})
    text = "\n".join([str(FORMAT), package.key, *names, str(installation.major)])
    key = hashlib.sha256(text.encode()).hexdigest()[:16]

    def make(place: Path) -> None:
        with progress.step("odoo_db", f"making a database with {', '.join(names)}"):
            _make(place, names, package, python, installation, run, token)

    place = cached(paths.cache() / "templates" / key, make, progress, "odoo_db")
    return Template(place / "data", place / "filestore")


def _make(
    place: Path,
    modules: list[str],
    package: OdooPackage,
    python: Path,
    installation: Installation,
    run: Path,
    token: str,
) -> None:
    env = part_environment(token, run)
    cluster = Cluster.create("odoo_template", installation, run, SUPERUSER, env)
    home = run / "template-data"
    config = run / "template.conf"
    cluster.initialise()
    cluster.start()
    try:
        # Only here, for the minutes that it takes: over the socket, as a role that may log in without a password.
        cluster.execute(f"CREATE ROLE {ROLE} LOGIN CREATEDB")
        cluster.execute(f"CREATE DATABASE {TEMPLATE} OWNER {ROLE}")
        config.touch(mode=0o600)
        config.write_text(
            f"[options]\ndata_dir = {home}\naddons_path = {','.join(map(str, package.addons))}\n"
            f"db_host = {cluster.directory / 'socket'}\ndb_port = {cluster.port}\ndb_user = {ROLE}\n"
            "http_enable = False\nmax_cron_threads = 0\n"
        )
        run_tool(
            [
                python, package.launcher, "-c", config, "-d", TEMPLATE, "-i", ",".join(modules), "--stop-after-init",
                "--without-demo",
            ],
            lambda text: PartFailed(
                "odoo_db", f"Odoo could not install {', '.join(modules)}", log_tail=text,
                hint="check the names of the modules; if they are right, delete the cache directory and run it again",
            ),
            env={**env, "PYTHONPATH": str(package.python_path)}, cwd=run,
        )  # fmt: skip
        with cluster.cursor(TEMPLATE) as cursor:
            cursor.execute("SELECT name FROM ir_module_module WHERE state = 'installed'")
            missing = set(modules) - {str(row[0]) for row in cursor.fetchall()}
            if missing:
                raise PartFailed(
                    "odoo_db", f"Odoo knows no module {', '.join(sorted(missing))}", hint="check the names"
                )
            # It calls home.
            cursor.execute("UPDATE ir_cron SET active = false WHERE cron_name ILIKE '%publisher%'")
            cursor.execute("VACUUM ANALYZE")
        cluster.execute(f"ALTER DATABASE {TEMPLATE} IS_TEMPLATE true")
        create_database(cluster, DATABASE)
    finally:
        cluster.stop()
    _drop_spare_wal(cluster)
    shutil.copytree(cluster.data, place / "data", symlinks=True)
    (home / "filestore" / TEMPLATE).mkdir(parents=True, exist_ok=True)
    shutil.copytree(home / "filestore" / TEMPLATE, place / "filestore")
    cluster.remove()
    shutil.rmtree(home)
    config.unlink()


def create_database(cluster: Database, name: str) -> None:
    """A new database like the template, owned by Odoo's role."""
    with cluster.cursor() as cursor:
        cursor.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
                sql.Identifier(name), sql.Identifier(TEMPLATE), sql.Identifier(ROLE)
            )
        )


def _drop_spare_wal(cluster: Cluster) -> None:
    """Remove the segments that a cleanly stopped server keeps for reuse: most of what there would be to copy."""
    answer = subprocess.run(
        [cluster.installation.bin / "pg_controldata", "-D", cluster.data], capture_output=True, text=True, check=False,
        env=cluster.process.env,
    )  # fmt: skip
    needed = re.search(r"REDO WAL file:\s*([0-9A-F]{24})", answer.stdout)
    if "shut down" in answer.stdout and needed is not None:
        for segment in (cluster.data / "pg_wal").glob("[0-9A-F]" * 24):
            if segment.name != needed[1]:
                segment.unlink()
