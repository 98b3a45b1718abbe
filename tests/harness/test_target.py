"""What is under test: what can be asked of it, what it is refused for."""

from __future__ import annotations

import pytest

from ipai_bridge.errors import SettingsError
from ipai_bridge.secret import generate_secret
from ipai_harness.errors import TargetRefused
from ipai_harness.target import Capability, Target, check_production, hosts_of, looks_like_production

SECRET = generate_secret()
LOCAL = "http://127.0.0.1:54321/functions/v1"
DSN = "postgresql://postgres:pa55word@127.0.0.1:54322/postgres"
STACK = {
    "odoo_url": "http://127.0.0.1:8069", "odoo_db": "odoo", "odoo_login": "admin", "odoo_password": "pa55word",
    "odoo_dsn": "dbname=odoo password=pa55word", "functions_url": LOCAL, "supabase_dsn": DSN,
    "secret": SECRET.reveal(), "instance": "default", "anon_key": "a.b.c",
}  # fmt: skip


def test_a_stack_of_ours_lacks_nothing() -> None:
    target = Target.of_stack("native", STACK)

    assert target.kind == "native"
    assert target.secrets == (SECRET,)
    assert set(target.capabilities().values()) == {None}


def test_a_remote_target_says_what_it_lacks() -> None:
    bare = Target.remote(LOCAL, [SECRET])
    lacks = {capability for capability, reason in bare.capabilities().items() if reason}
    assert lacks == set(Capability) - {Capability.DELIVER}
    assert str(bare.lacks(Capability.SHADOW)).startswith("shadow: needs --db-url")

    whole = Target.remote(LOCAL, [SECRET], db_url=DSN, jwt="a.b.c")
    assert {one for one, reason in whole.capabilities().items() if reason} == {Capability.ODOO, Capability.FAULTS}
    assert whole.instance.startswith("verify-")
    assert whole.instance != bare.instance


def test_no_secret_is_in_its_repr() -> None:
    for target in (Target.of_stack("docker", STACK), Target.remote(LOCAL, [SECRET], db_url=DSN, jwt="a.b.c")):
        assert "pa55word" not in repr(target)
        assert SECRET.reveal() not in repr(target)
        assert "a.b.c" not in repr(target)


@pytest.mark.parametrize("ref", ["xkxyvoboeubffxxbebsll", "ublqmilcjtpnflofprkr"])
def test_a_deprecated_project_is_refused_always(ref: str) -> None:
    with pytest.raises(TargetRefused, match=f"{ref} is deprecated"):
        Target.remote(f"https://{ref}.supabase.co/functions/v1", [SECRET], allow_production=True)
    with pytest.raises(TargetRefused, match=f"{ref} is deprecated"):
        Target.remote(
            LOCAL, [SECRET], db_url=f"postgresql://postgres.{ref}:x@aws.pooler.supabase.com/postgres",
            allow_production=True,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "db_url", "said"),
    [
        ("http://10.0.0.7/functions/v1", None, "must begin with https://"),
        (f"{LOCAL}/odoo-webhook", None, "without /odoo-webhook at its end"),
        (LOCAL, "not a dsn", "must be a PostgreSQL URI"),
        (
            "https://aaaaaaaaaaaaaaaaaaaa.supabase.co/functions/v1",
            "postgresql://postgres:x@db.bbbbbbbbbbbbbbbbbbbb.supabase.co/postgres",
            "names the project bbbbbbbbbbbbbbbbbbbb, and --target aaaaaaaaaaaaaaaaaaaa",
        ),
    ],
)
def test_what_is_no_target_is_refused(url: str, db_url: str | None, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Target.remote(url, [SECRET], db_url=db_url)


def test_a_database_that_looks_like_production_is_refused_as_well() -> None:
    with pytest.raises(TargetRefused, match=r"db\.example\.com looks like production.*--yes-this-is-production"):
        Target.remote(LOCAL, [SECRET], db_url="host=db.example.com dbname=postgres password=pa55word")
    allowed = Target.remote(LOCAL, [SECRET], db_url="host=db.example.com dbname=postgres", allow_production=True)
    assert allowed.supabase_dsn is not None


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "127.0.0.1", "::1", "10.1.2.3", "192.168.0.9", "172.16.0.1", "fd00::1", "169.254.1.1", "kong",
        "supabase_db", "box.local", "api.localhost", "db.internal", "api.staging.example.com", "dev-hooks.example.com",
        "hooks-test2.example.com", "my-branch.example.com", "preview.example.com", "API.DEV.EXAMPLE.COM.", "",
        "/var/run/postgresql",
    ],
)  # fmt: skip
def test_hosts_of_tests(host: str) -> None:
    assert looks_like_production(host) is None


@pytest.mark.parametrize(
    "host",
    [
        "example.com", "hooks.example.com", "abcdefghijklmnopqrst.supabase.co", "8.8.8.8", "2606:4700::1", "test.com",
        "devices.example.com", "contest.example.com", "latest.example.com", "api.test.com",
    ],
)  # fmt: skip
def test_hosts_that_look_like_production(host: str) -> None:
    assert "looks like production" in str(looks_like_production(host))


def test_the_hosts_of_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGHOST", raising=False)
    assert hosts_of("https://a.example.com:8443/x?y=b.example.com") == ["a.example.com"]
    assert hosts_of("postgresql://u:p@one.example.com:5432,two.example.com/db") == [
        "one.example.com",
        "two.example.com",
    ]
    assert hosts_of("host=localhost hostaddr=203.0.113.5 dbname=x") == ["203.0.113.5"]
    assert hosts_of("dbname=x") == []
    monkeypatch.setenv("PGHOST", "db.example.com")
    assert hosts_of("dbname=x") == ["db.example.com"]
    with pytest.raises(TargetRefused, match="the service erp"):
        check_production("service=erp", allowed=False)


def test_a_dsn_that_cannot_be_read_is_not_shown() -> None:
    with pytest.raises(TargetRefused) as refused:
        check_production("postgresql://u:pa55word@db.example.com:port/x%", allowed=False)
    assert "pa55word" not in str(refused.value)
