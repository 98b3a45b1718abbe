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
from typing import TYPE_CHECKING, Any

from ipai_harness.stack import odoo as odoo_part
from ipai_harness.stack import odoo_package, paths, ports, relay, supabase, template
from ipai_harness.stack.build import part_environment
from ipai_harness.stack.functions import Functions, prefetch
from ipai_harness.stack.odoo import OdooServer
from ipai_harness.stack.postgres import Cluster, find

if TYPE_CHECKING:
    from ipai_harness.stack.native import NativeStack

LOGIN = "admin"
INSTANCE = "default"


def _password() -> str:
    return secrets.token_hex(16)


def compose(stack: NativeStack, go: Callable[..., Future[Any]]) -> None:
    """Start everything through `go`, which runs a function in a thread; each part waits for what it needs."""
    project = (stack.project or paths.supabase_project()).resolve()
    env = part_environment(stack.token, stack.run)
    odoo_pg, supabase_pg = find(16), find(15, 16)
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    secret_file = stack.run / "secret"
    secret_file.touch(mode=0o600)
    secret_file.write_text(secret + "\n")
    admin, odoo_password, supabase_password, jwt_secret = (_password() for _ in range(4))
    hashed = go(odoo_part.password_hash, admin)
    port = ports.free_port()
    url = f"http://127.0.0.1:{port}/functions/v1"
    store = stack.run / "odoo-data" / "filestore"

    package = go(odoo_package.get, stack.progress, stack.token)
    python = go(odoo_package.environment, stack.progress, stack.token, stack.python)
    fetched = go(prefetch, project, stack.progress, stack.token)

    def supabase_db() -> Cluster:
        with stack.progress.step("supabase_db", f"starting {supabase_pg}"):
            cluster = Cluster.create("supabase_db", supabase_pg, stack.run, supabase.SUPERUSER, env)
            stack.register("supabase_db", cluster)
            cluster.initialise()
            cluster.start()
            stack.supabase_db = cluster
        with stack.progress.step("supabase_db", "applying the migrations"):
            supabase.create_schema(cluster, project, supabase_password)
        stack.save()
        return cluster

    def functions(cluster: Future[Cluster]) -> None:
        dsn = cluster.result().dsn(supabase.DATABASE, supabase.ROLE, supabase_password)
        stack.sweep = relay.sweep(stack.run, env, dsn)
        stack.register("sweep", stack.sweep)
        stack.sweep.start()
        fetched.result()
        with stack.progress.step("functions", "starting the Edge Functions"):
            settings = {
                "SUPABASE_DB_URL": dsn, "SUPABASE_URL": f"http://127.0.0.1:{port}",
                "SUPABASE_JWT_SECRET": jwt_secret,
                "SUPABASE_ANON_KEY": supabase.jwt(jwt_secret, "anon"),
                "SUPABASE_SERVICE_ROLE_KEY": supabase.jwt(jwt_secret, "service_role"), "IPAI_BRIDGE_SECRET": secret,
            }  # fmt: skip
            stack.functions = Functions.create(project, port, stack.run, env, settings)
            stack.register("functions", stack.functions)
            stack.functions.start()

    def odoo_db() -> Cluster:
        base = template.prepare(
            stack.modules, package.result(), python.result(), odoo_pg, stack.run, stack.token, stack.progress
        )
        with stack.progress.step("odoo_db", f"starting {odoo_pg}"):
            cluster = Cluster.create("odoo_db", odoo_pg, stack.run, template.SUPERUSER, env)
            stack.register("odoo_db", cluster)
            cluster.adopt(base.data)
            cluster.start()
            cluster.execute(f"ALTER ROLE {template.ROLE} PASSWORD %s", [odoo_password])
            shutil.copytree(base.filestore, stack.run / "template-filestore")
            odoo_part.prepare(cluster, template.DATABASE, hashed.result(), base.filestore, store)
            stack.odoo_db = cluster
        return cluster

    def odoo(cluster: Future[Cluster]) -> None:
        bridge = {
            "url": url, "secret_file": str(secret_file), "instance": INSTANCE, "relay": stack.relay_mode,
        }  # fmt: skip
        server = OdooServer.create(
            package.result(), python.result(), cluster.result(), odoo_password, stack.run, env,
            database=template.DATABASE, password=admin, workers=stack.workers, bridge=bridge,
        )  # fmt: skip
        stack.odoo = server
        stack.register("odoo", server)
        with stack.progress.step("odoo", "starting Odoo CE 19"):
            server.start()

    def start_relay(cluster: Future[Cluster]) -> None:
        settings = {
            "IPAI_BRIDGE_URL": url, "IPAI_BRIDGE_SECRET_FILE": str(secret_file), "IPAI_BRIDGE_INSTANCE": INSTANCE,
            "IPAI_BRIDGE_DSN": cluster.result().dsn(template.DATABASE, template.ROLE, odoo_password),
        }  # fmt: skip
        daemon = relay.relay(stack.run, env, settings)
        stack.relay = daemon
        stack.register("relay", daemon)
        daemon.start()

    stack.values = {
        "odoo_login": LOGIN, "odoo_password": admin, "odoo_db": template.DATABASE, "functions_url": url,
        "secret": secret, "instance": INSTANCE, "secret_file": str(secret_file), "jwt_secret": jwt_secret,
        "anon_key": supabase.jwt(jwt_secret, "anon"),
        "service_role_key": supabase.jwt(jwt_secret, "service_role"), "odoo_db_password": odoo_password,
        "supabase_db_password": supabase_password, "admin_hash": hashed.result(),
    }  # fmt: skip
    stack.relay = None
    there = go(supabase_db)
    go(functions, there)
    data = go(odoo_db)
    go(odoo, data)
    if stack.with_relay:
        go(start_relay, data)
