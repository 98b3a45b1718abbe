"""How a native stack is put together: what each part is told, and what it waits for.

odoo_package ──▶ template ──▶ odoo_db ──▶ odoo
                                └───────▶ relay
supabase_db ──▶ functions (and what they import), sweep
"""

from __future__ import annotations

import base64
import secrets
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipai_harness.stack import odoo as odoo_part
from ipai_harness.stack import odoo_package, paths, ports, relay, supabase, template
from ipai_harness.stack.build import part_environment
from ipai_harness.stack.functions import Functions, prefetch
from ipai_harness.stack.odoo import OdooServer
from ipai_harness.stack.postgres import Cluster, find
from ipai_harness.stack.progress import Progress
from ipai_harness.stack.relay import Daemon

Part = Cluster | OdooServer | Functions | Daemon

LOGIN = "admin"
INSTANCE = "default"
EXCHANGES = "exchanges.jsonl"
"""In a stack's run directory: what was sent to the functions and what they answered, where that is recorded."""


def _password() -> str:
    return secrets.token_hex(16)


@dataclass(frozen=True)
class Plan:
    """What is to be put together, and where."""

    token: str
    run: Path
    modules: tuple[str, ...]
    with_relay: bool
    relay_mode: str
    workers: int
    python: str | None
    project: Path | None
    record: bool
    progress: Progress


def compose(plan: Plan, register: Callable[[str, Part], None], go: Callable[..., Future[Any]]) -> dict[str, str]:
    """Start everything through `go`, which runs a function in a thread; each part waits for what it needs.

    A part is given to `register` before it starts. Returns logins, addresses and secrets.
    """
    project = (plan.project or paths.supabase_project()).resolve()
    env = part_environment(plan.token, plan.run)
    odoo_pg, supabase_pg = find(16), find(15, 16)
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    secret_file = plan.run / "secret"
    secret_file.touch(mode=0o600)
    secret_file.write_text(secret + "\n")
    admin, odoo_password, supabase_password, jwt_secret = (_password() for _ in range(4))
    hashed = go(odoo_part.password_hash, admin)
    port = ports.free_port()
    base = f"http://127.0.0.1:{port}"
    url = f"{base}/functions/v1"
    store = plan.run / "odoo-data" / "filestore"

    package = go(odoo_package.get, plan.progress, plan.token)
    python = go(odoo_package.environment, plan.progress, plan.token, plan.python)
    fetched = go(prefetch, project, plan.progress, plan.token)

    def supabase_db() -> Cluster:
        with plan.progress.step("supabase_db", f"starting {supabase_pg}"):
            cluster = Cluster.create("supabase_db", supabase_pg, plan.run, supabase.SUPERUSER, env)
            register("supabase_db", cluster)
            cluster.initialise()
            cluster.start()
        with plan.progress.step("supabase_db", "applying the migrations"):
            supabase.create_schema(cluster, project, supabase_password)
        return cluster

    def functions(cluster: Future[Cluster]) -> None:
        dsn = cluster.result().dsn(supabase.DATABASE, supabase.ROLE, supabase_password)
        sweep = relay.sweep(plan.run, env, dsn)
        register("sweep", sweep)
        sweep.start()
        fetched.result()
        with plan.progress.step("functions", "starting the Edge Functions"):
            settings = {
                "SUPABASE_DB_URL": dsn, "SUPABASE_URL": base,
                "SUPABASE_JWT_SECRET": jwt_secret,
                "SUPABASE_ANON_KEY": supabase.jwt(jwt_secret, "anon"),
                "SUPABASE_SERVICE_ROLE_KEY": supabase.jwt(jwt_secret, "service_role"), "IPAI_BRIDGE_SECRET": secret,
            }  # fmt: skip
            exchanges = plan.run / EXCHANGES if plan.record else None
            edge = Functions.create(project, port, plan.run, env, settings, exchanges=exchanges)
            register("functions", edge)
            edge.start()

    def odoo_db() -> Cluster:
        base = template.prepare(
            plan.modules, package.result(), python.result(), odoo_pg, plan.run, plan.token, plan.progress
        )
        with plan.progress.step("odoo_db", f"starting {odoo_pg}"):
            cluster = Cluster.create("odoo_db", odoo_pg, plan.run, template.SUPERUSER, env)
            register("odoo_db", cluster)
            cluster.adopt(base.data)
            cluster.start()
            cluster.execute(f"ALTER ROLE {template.ROLE} PASSWORD %s", [odoo_password])
            shutil.copytree(base.filestore, plan.run / "template-filestore")
            odoo_part.prepare(cluster, template.DATABASE, hashed.result())
            shutil.copytree(base.filestore, store / template.DATABASE, dirs_exist_ok=True)
        return cluster

    def odoo(cluster: Future[Cluster]) -> None:
        bridge = {
            "url": url, "secret_file": str(secret_file), "relay": plan.relay_mode,
        }  # fmt: skip
        server = OdooServer.create(
            package.result(), python.result(), cluster.result(), odoo_password, plan.run, env,
            database=template.DATABASE, password=admin, workers=plan.workers, bridge=bridge,
        )  # fmt: skip
        register("odoo", server)
        with plan.progress.step("odoo", "starting Odoo CE 19"):
            server.start()

    def start_relay(cluster: Future[Cluster]) -> None:
        settings = {
            "IPAI_BRIDGE_URL": url, "IPAI_BRIDGE_SECRET_FILE": str(secret_file), "IPAI_BRIDGE_INSTANCE": INSTANCE,
            "IPAI_BRIDGE_DSN": cluster.result().dsn(template.DATABASE, template.ROLE, odoo_password),
        }  # fmt: skip
        daemon = relay.relay(plan.run, env, settings)
        register("relay", daemon)
        daemon.start()

    there = go(supabase_db)
    go(functions, there)
    data = go(odoo_db)
    go(odoo, data)
    if plan.with_relay:
        go(start_relay, data)
    return {
        "odoo_login": LOGIN, "odoo_password": admin, "odoo_db": template.DATABASE, "functions_url": url,
        "supabase_url": base,
        "storage_url": f"{base}/storage/v1",
        "secret": secret, "instance": INSTANCE, "secret_file": str(secret_file), "jwt_secret": jwt_secret,
        "anon_key": supabase.jwt(jwt_secret, "anon"),
        "service_role_key": supabase.jwt(jwt_secret, "service_role"), "odoo_db_password": odoo_password,
        "supabase_db_password": supabase_password, "admin_hash": hashed.result(),
    }  # fmt: skip
