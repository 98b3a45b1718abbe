"""The library as Odoo's own Python code uses it, and what the outside sees of its settings."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ipai_bridge.endpoint import DEPRECATED_PROJECTS
from tests.e2e.scene import Scene

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_emit_from_python_code_in_odoo(scene: Scene) -> None:
    code = f"""
import ipai_bridge
partner = env["res.partner"].browse({scene.partner})
print("ids", ipai_bridge.emit(partner, "res.partner.coded", fields=["name", "is_company", "credit_limit"]))
with env.cr.savepoint():
    ipai_bridge.emit(partner, "res.partner.coded", payload={{"number": 2}})
try:
    with env.cr.savepoint():
        ipai_bridge.emit(partner, "res.partner.phantom")
        raise ValueError("rolled back")
except ValueError:
    pass
env.cr.commit()
"""
    printed = scene.stack.odoo.shell(code)
    arrived = scene.until_completed(2)
    assert arrived[0].idempotency_key in printed
    assert arrived[0].received == {"name": "Azure Interior", "is_company": False, "credit_limit": 0.0}
    assert arrived[1].received == {"number": 2}


def test_a_thousand_records_are_one_statement_inside_odoo(scene: Scene) -> None:
    code = """
import ipai_bridge
partners = env["res.partner"].create([{"name": f"Partner {number}"} for number in range(1000)])
env.flush_all()
ipai_bridge.emit(partners[:1], "res.partner.bulk", fields=["name", "email", "country_id", "category_id", "create_date"])
before = env.cr.sql_log_count
ipai_bridge.emit(partners, "res.partner.bulk", fields=["name", "email", "country_id", "category_id", "create_date"])
statements = env.cr.sql_log_count - before
print("statements", statements)
env.cr.rollback()
"""
    [line] = [line for line in scene.stack.odoo.shell(code).splitlines() if "statements" in line]
    # One INSERT; the reads are Odoo's own prefetching, by batches and not by records.
    assert int(line.split()[-1]) <= 8


@pytest.mark.parametrize("ref", sorted(DEPRECATED_PROJECTS))
@pytest.mark.parametrize("place", ["environment", "parameter"])
def test_a_deprecated_project_is_refused_by_the_running_system(scene: Scene, ref: str, place: str) -> None:
    url = f"https://{ref}.supabase.co/functions/v1"
    environ = {
        "PATH": os.environ["PATH"],
        "IPAI_BRIDGE_DSN": scene.env["odoo_dsn"],
        "IPAI_BRIDGE_SECRET_FILE": scene.env["secret_file"],
    }
    if place == "environment":
        environ["IPAI_BRIDGE_URL"] = url
    else:
        scene.odoo.call("ir.config_parameter", "set_param", "ipai_bridge.url", url)
    try:
        relay = subprocess.run(
            [sys.executable, "-m", "ipai_bridge", "relay", "--once"],
            env=environ, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        scene.odoo.call("ir.config_parameter", "set_param", "ipai_bridge.url", False)
    assert relay.returncode == 1
    assert "ipai-bridge: deprecated_project:" in relay.stderr
