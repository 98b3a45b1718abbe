"""Which outbox a command works on, with which settings, and what `doctor` says of them."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg2.extensions
import pytest

from tests.bridge.delivery.receiver import refused_port
from tests.bridge.operating import Run, emit, execute, own_role, parameters, refused, statuses
from tests.conftest import PASSWORD

pytestmark = pytest.mark.stack


# --- which outbox


def test_no_outbox_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IPAI_BRIDGE_DSN")
    assert "IPAI_BRIDGE_DSN" in refused(run("outbox", "list"), "settings_error")
    assert "-c odoo.conf" in refused(run("outbox", "list", "-d", "prod"), "settings_error")
    monkeypatch.setenv("IPAI_BRIDGE_DNS", "dbname=prod")
    assert "did you mean IPAI_BRIDGE_DSN" in refused(run("outbox", "list"), "settings_error")


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("URL", "http://example.org/functions/v1", "settings_error"),
        ("URL", "https://ublqmilcjtpnflofprkr.supabase.co/functions/v1", "deprecated_project"),
        ("SECRET", "short", "weak_secret"),
        ("LEASE", "soon", "settings_error"),
    ],
)
@pytest.mark.parametrize("command", [["install"], ["relay", "--once"], ["outbox", "list"]])
def test_a_refused_setting_is_the_error_to_see(
    run: Run, name: str, value: str, code: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"IPAI_BRIDGE_{name}", value)
    monkeypatch.setenv("IPAI_BRIDGE_DSN", f"postgresql://u:{PASSWORD}@127.0.0.1:{refused_port()}/none")
    assert refused(run(*command), code).startswith(f"IPAI_BRIDGE_{name} ")


def test_a_rule_between_two_settings_waits_for_the_parameters(
    run: Run, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPAI_BRIDGE_HTTP_TIMEOUT", "70")
    assert "shorter than the lease" in refused(run("install"), "settings_error")
    parameters(database, lease="100")
    assert run("install").code == 0


def test_no_server_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPAI_BRIDGE_DSN", f"postgresql://u:{PASSWORD}@127.0.0.1:{refused_port()}/none")
    assert "refused" in refused(run("outbox", "list"), "outbox_unavailable")


@pytest.mark.parametrize(
    "dsn",
    [
        "host=127.0.0.1 user=u password=two {0} words",
        "postgresql://u:{0}/x@127.0.0.1/db",
        "postgresql://u:x@{0}@127.0.0.1/db",
        "postgresql://u:x%zz{0}@127.0.0.1/db",
        "host=127.0.0.1 password='{0} dbname=x",
    ],
)
@pytest.mark.parametrize("more", [[], ["-d", "other"]])
def test_a_password_in_a_broken_dsn_is_not_shown(run: Run, dsn: str, more: list[str]) -> None:
    for command in (["outbox", "list"], ["doctor", "--json"], ["doctor"]):
        done = run(*command, "--dsn", dsn.format(PASSWORD), *more)  # `run` looks for the password
        assert done.code == 1


def conf(path: Path, dsn: str, db_name: str, section: str = "", **changes: object) -> Path:
    parts = {name: str(value) for name, value in psycopg2.extensions.parse_dsn(dsn).items()} | changes
    lines = [f"db_{name} = {parts[name]}" for name in ("host", "port", "user", "password")]
    path.write_text("\n".join(["[options]", f"db_name = {db_name}", "db_sslmode = prefer", *lines, section]))
    return path


def test_odoo_conf_names_the_outbox(run: Run, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IPAI_BRIDGE_DSN")
    name = database.rpartition("/")[2]
    one = conf(tmp_path / "one.conf", database, name, "[ipai_bridge]\nurl = https://example.org/functions/v1")
    parameters(database, instance="from-parameter", url="https://elsewhere.example.org")
    assert run("install", "-c", one).out == "installed\n"
    sources = {row["name"]: row for row in run("doctor", "-c", one, "--json").json["settings"]}
    assert sources["url"] == {"name": "url", "value": "https://example.org/functions/v1", "source": "odoo.conf"}
    assert (sources["instance"]["value"], sources["instance"]["source"]) == ("from-parameter", "ir.config_parameter")
    assert sources["secret"]["source"] == "environment"

    several = conf(tmp_path / "several.conf", database, f"other,{name}")
    assert "names 2 databases" in refused(run("outbox", "list", "-c", several), "settings_error")
    assert run("outbox", "list", "-c", several, "-d", name).code == 0
    none = conf(tmp_path / "none.conf", database, "False")
    assert "names 0 databases" in refused(run("outbox", "list", "-c", none), "settings_error")
    assert run("outbox", "list", "-c", none, "-d", name).code == 0
    assert '"missing" does not exist' in refused(run("install", "-c", none, "-d", "missing"), "outbox_unavailable")
    assert "cannot be read" in refused(run("install", "-c", tmp_path / "no.conf"), "settings_error")
    # What the environment names needs nothing of odoo.conf.
    monkeypatch.setenv("IPAI_BRIDGE_DSN", database)
    assert run("outbox", "list", "-c", several).code == 0


def test_a_database_that_is_named_is_the_one(run: Run, database: str) -> None:
    assert '"missing" does not exist' in refused(run("outbox", "list", "-d", "missing"), "outbox_unavailable")
    other = str(psycopg2.extensions.make_dsn(database, dbname="postgres"))
    assert run("install", "--dsn", other, "-d", database.rpartition("/")[2]).out == "installed\n"
    assert statuses(database) == {}


def test_a_parameter_that_is_refused(run: Run, database: str) -> None:
    parameters(database, secret="hidden-hidden-hidden-hidden")
    said = refused(run("outbox", "list"), "settings_error")
    assert (
        said.startswith("ipai_bridge.secret in ir_config_parameter must not be there") or "ir.config_parameter" in said
    )
    assert "hidden" not in said


def test_a_user_who_may_not_read_the_parameters(run: Run, database: str, caplog: pytest.LogCaptureFixture) -> None:
    emit(database, "1")
    parameters(database, instance="not-seen")
    dsn = own_role(database)
    execute(database, "grant usage on schema ipai_bridge to small; grant select on ipai_bridge.outbox to small")
    done = run("outbox", "list", "--json", "--dsn", dsn)
    assert len(done.json["entries"]) == 1
    assert "may not read" in caplog.text


# --- doctor


@pytest.mark.usefixtures("receiving")
def test_doctor_finds_all_well(run: Run, database: str) -> None:
    emit(database, "1")
    done = run("doctor", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["ok"] is True
    assert done.json["problems"] == []
    assert (done.json["outbox"]["pending"], done.json["outbox"]["dead"]) == (1, 0)
    rows = {row["name"]: row["value"] for row in done.json["settings"]}
    assert rows["secret"].endswith("(standard)")
    assert ":***@" in rows["dsn"]
    text = run("doctor")
    assert text.code == 0
    assert re.search(r"^ +outbox  1 pending, 0 dead$", text.out, re.MULTILINE)
    assert re.search(r"^ +lease  60 s  \(default\)$", text.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"URL": "http://example.org"}, "settings_error: IPAI_BRIDGE_URL must begin with https://"),
        ({"URL": "https://xkxyvoboeubffxxbebsll.supabase.co"}, "deprecated_project: IPAI_BRIDGE_URL names"),
        ({"URL": ""}, "settings_error: url is not set"),
        ({"SECRET": ""}, "settings_error: secret is not set"),
        ({"LEASE": "10.5"}, "settings_error: lease must be more than"),
        ({"LAESE": "60"}, "settings_error: IPAI_BRIDGE_LAESE is not a setting: did you mean IPAI_BRIDGE_LEASE?"),
        ({"DSN": ""}, "settings_error: dsn is not set"),
    ],
)
def test_doctor_finds_a_problem(
    run: Run, changes: dict[str, str], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("install")
    monkeypatch.setenv("IPAI_BRIDGE_URL", "https://example.org/functions/v1")
    for name, value in changes.items():
        monkeypatch.setenv(f"IPAI_BRIDGE_{name}", value)
    done = run("doctor", "--json")
    assert (done.code, done.err, done.json["ok"]) == (1, "", False)
    assert [said.startswith(problem) for said in done.json["problems"]] == [True], done.json["problems"]
    text = run("doctor")
    assert text.code == 1
    assert f"problem  {problem}" in text.out


def test_doctor_finds_a_secret_where_everybody_reads_it(run: Run, database: str) -> None:
    parameters(database, secret="hidden-hidden-hidden-hidden")
    done = run("doctor", "--json")
    assert done.code == 1
    assert "must not be there" in done.json["problems"][0]
    assert "hidden" not in done.out


@pytest.mark.usefixtures("receiving")
def test_doctor_finds_no_schema(run: Run) -> None:
    done = run("doctor", "--json")
    assert done.code == 1
    assert [said.partition(":")[0] for said in done.json["problems"]] == ["schema_missing"]
    assert done.json["settings"]


@pytest.mark.usefixtures("receiving")
def test_doctor_finds_no_database(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPAI_BRIDGE_DSN", f"postgresql://u:{PASSWORD}@127.0.0.1:{refused_port()}/none")
    done = run("doctor", "--json")
    assert done.code == 1
    assert [said.partition(":")[0] for said in done.json["problems"]] == ["outbox_unavailable"]
    assert {row["name"] for row in done.json["settings"]} >= {"url", "dsn", "lease"}


def test_doctor_says_where_the_dsn_comes_from(run: Run, database: str) -> None:
    done = run("doctor", "--json", "--dsn", database)
    assert {row["name"]: row["source"] for row in done.json["settings"]}["dsn"] == "argument"
