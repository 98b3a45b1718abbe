"""The Supabase side by itself: PostgreSQL with the project's migrations, and its Edge Functions in Deno."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ipai_harness.stack import paths, ports, supabase
from ipai_harness.stack.build import part_environment
from ipai_harness.stack.functions import Functions, prefetch
from ipai_harness.stack.postgres import Cluster, find
from ipai_harness.stack.progress import Progress


@dataclass(frozen=True)
class Receiving:
    """How to reach it."""

    cluster: Cluster
    functions_url: str
    secret: str


@contextmanager
def receiving(progress: Progress) -> Iterator[Receiving]:
    """A Supabase side that ends with the block."""
    project = paths.supabase_project().resolve()
    run, token = paths.new_run("bench"), secrets.token_hex(16)
    env = part_environment(token, run)
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    password = secrets.token_hex(16)
    cluster = functions = None
    try:
        prefetch(project, progress, token)
        installation = find(15, 16)
        with progress.step("supabase_db", f"starting {installation}, applying the migrations"):
            cluster = Cluster.create("supabase_db", installation, run, supabase.SUPERUSER, env)
            cluster.initialise()
            cluster.start()
            supabase.create_schema(cluster, project, password)
        with progress.step("functions", "starting the Edge Functions"):
            dsn = cluster.dsn(supabase.DATABASE, supabase.ROLE, password)
            settings = {"SUPABASE_DB_URL": dsn, "IPAI_BRIDGE_SECRET": secret}
            functions = Functions.create(project, ports.free_port(), run, env, settings)
            functions.start()
        yield Receiving(cluster, functions.url, secret)
    finally:
        if functions is not None:
            functions.stop()
        if cluster is not None:
            cluster.stop("immediate")
        paths.remove_run(run)
