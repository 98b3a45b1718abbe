"""A PostgreSQL image that holds a ready Odoo database, and the image of the Odoo that made it: made once, then started
in a moment. The key is both images that they derive from, and the modules.

The Odoo of the image makes its own database: another build of Odoo 19 would find one that is not its own. It runs as
root here, so that the bytecode of what it loads stays in the image too; its server does not.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ipai_harness.errors import PartFailed
from ipai_harness.stack import engine, images, odoo, template
from ipai_harness.stack.container import HOME, Container, Recipe, pack
from ipai_harness.stack.container_parts import SOCKET, postgres_argv
from ipai_harness.stack.images import KEY, OWN
from ipai_harness.stack.process import wait_until
from ipai_harness.stack.progress import Progress

FORMAT = "1"  # raise it when what is made below changes
STORE = f"{HOME}/data"
INSTALL_TIMEOUT = 900.0  # seconds
PORT = 5432


def prepare(
    client: Any,
    images_of: tuple[str, str],
    modules: Sequence[str],
    labels: dict[str, str],
    run: Path,
    progress: Progress,
) -> tuple[str, str]:
    """The images of the ready Odoo and of its database, made when they are missing (about a minute).

    `images_of` are those of Odoo and PostgreSQL 16 that they derive from. Raises PartFailed.
    """
    names = sorted({"base", "web", *modules})
    from_odoo, from_postgres = (client.images.get(image).id for image in images_of)
    key = images.digest(FORMAT, str(template.FORMAT), from_odoo, from_postgres, *names)
    tags = (f"{OWN}/odoo-ready:{key}", f"{OWN}/odoo-db:{key}")
    with images.making(client, tags[1], key, progress, "odoo_db") as needed:
        if needed:
            with progress.step("odoo_db", f"making a database with {', '.join(names)}"):
                _make(client, images_of, tags, key, names, labels, run)
    return tags


def _make(
    client: Any,
    images_of: tuple[str, str],
    tags: tuple[str, str],
    key: str,
    modules: list[str],
    labels: dict[str, str],
    run: Path,
) -> None:
    title = f"ipai-ready-{secrets.token_hex(4)}"
    database = Container(
        "odoo_db", "PostgreSQL 16", Recipe(
            images_of[1], postgres_argv(template.SUPERUSER, PORT), {}, labels, "none", f"{title}-db", "postgres",
        ), run / "odoo_db-ready.log",
    )  # fmt: skip
    script = (
        f'odoo -c {HOME}/odoo.conf -d {template.TEMPLATE} -i "$0" --stop-after-init --without-demo '
        f"&& mkdir -p {STORE}/filestore/{template.TEMPLATE} "
        # One directory down to it that its user may pass, and its user's alone.
        f"&& rm {HOME}/odoo.conf && chown -R odoo:odoo {HOME} && chmod 700 {HOME}"
    )
    server = Container(
        "odoo", "Odoo CE 19", Recipe(
            images_of[0], ["/bin/sh", "-c", script, ",".join(modules)], {"LANG": "C.UTF-8"}, labels,
            f"container:{title}-db", f"{title}-odoo", "root",
        ), run / "odoo-ready.log",
    )  # fmt: skip
    word = secrets.token_hex(16)
    config = {
        **odoo.settings(data=STORE, db_port=PORT, db_password=word, database=template.TEMPLATE, port=8069, workers=0),
        "http_enable": "False", "max_cron_threads": "0",
    }  # fmt: skip
    place = run / "ready.conf"
    odoo.write_config(place, config, {})
    archive = run / "ready.tar"
    archive.touch(mode=0o600)
    archive.write_bytes(pack({"odoo.conf": place.read_bytes()}, (0, 0)))
    server.archive = str(archive)

    def query(statement: str, *, on: str = "postgres") -> str:
        argv = ["psql", "-qAt", "-v", "ON_ERROR_STOP=1", "-h", SOCKET, "-U", template.SUPERUSER, "-d", on]
        return database.run([*argv, "-c", statement]).strip()

    def ready() -> bool:
        try:
            return bool(query("select 1"))
        except PartFailed:
            return not database.alive

    try:
        database.start()
        wait_until(ready, 60)
        database.check()
        # Nothing but these two containers is in their network, and the role gets another password at each start.
        query(f"CREATE ROLE {template.ROLE} LOGIN CREATEDB PASSWORD '{word}'")
        query(f"CREATE DATABASE {template.TEMPLATE} OWNER {template.ROLE}")
        server.start()
        wait_until(lambda: not server.alive, INSTALL_TIMEOUT)
        installed = query("SELECT name FROM ir_module_module WHERE state = 'installed'", on=template.TEMPLATE).split()
        unknown = set(modules) - set(installed)
        if unknown:
            raise PartFailed(
                "odoo_db", f"Odoo could not install {', '.join(sorted(unknown))}",
                log_tail="\n".join(server.log_text().splitlines()[-15:]), hint="check the names of the modules",
            )  # fmt: skip
        # It calls home.
        query("UPDATE ir_cron SET active = false WHERE cron_name ILIKE '%publisher%'", on=template.TEMPLATE)
        query("VACUUM ANALYZE", on=template.TEMPLATE)
        query(f"ALTER DATABASE {template.TEMPLATE} IS_TEMPLATE true")
        query(
            f"CREATE DATABASE {template.DATABASE} TEMPLATE {template.TEMPLATE} OWNER {template.ROLE} STRATEGY file_copy"
        )
        database.signal("SIGINT")
        wait_until(lambda: not database.alive, 30)
        for tag, part in zip(tags, (server, database), strict=True):
            repository, _, name = tag.partition(":")
            changes = f"LABEL {KEY}={key}\nLABEL {engine.LABEL}=image"
            with engine.failing(f"the image {tag} could not be kept"):
                client.api.commit(part.id, repository=repository, tag=name, changes=changes)
    finally:
        for part in (server, database):
            part.remove()
        place.unlink()
        archive.unlink()
