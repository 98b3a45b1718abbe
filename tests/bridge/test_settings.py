"""Settings: which source counts, what each value may be, and that no error shows what it must not."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipai_bridge.errors import BridgeError, DeprecatedProject, SettingsError, WeakSecret
from ipai_bridge.odoo_conf import bridge_section
from ipai_bridge.secret import Secret, generate_secret
from ipai_bridge.settings import SETTINGS, Resolved, Row, Settings, resolve

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
OTHER = "an-existing-deployments-own-secret"
URL = "https://abcdefghijklmnopqrst.supabase.co/functions/v1"

VALUES: dict[str, tuple[Any, Any]] = {
    "url": (URL + "/", URL),
    "instance": ("odoo-eu", "odoo-eu"),
    "relay": ("inline", "inline"),
    "dsn": ("dbname=odoo", "dbname=odoo"),
    "http_timeout": ("2500ms", 2.5),
    "lease": ("2min", 120.0),
    "poll_interval": ("0.5", 0.5),
    "concurrency": ("16", 16),
    "claim_size": ("50", 50),
    "retry_for": ("2d", 172_800.0),
    "retry_base": ("2 s", 2.0),
    "retry_cap": ("1h", 3600.0),
}


def given_by(source: str, name: str, value: Any) -> dict[str, Any]:
    return {
        "argument": {"explicit": {name: value}},
        "environment": {"environ": {f"IPAI_BRIDGE_{name.upper()}": value}},
        "odoo.conf": {"conf": {name: value}},
        "ir.config_parameter": {"params": {name: value}},
    }[source]


ORDER = ["argument", "environment", "odoo.conf", "ir.config_parameter"]


def refused(error: type[SettingsError] = SettingsError, **sources: Any) -> SettingsError:
    with pytest.raises(error) as caught:
        resolve(**sources)
    assert type(caught.value) is error
    return caught.value


def test_nothing_given_is_every_default() -> None:
    resolved = resolve()
    assert resolved.settings == Settings()
    assert {row.source for row in resolved.describe()} == {"default"}
    assert [row.name for row in resolved.describe()] == list(SETTINGS)


def test_the_defaults_are_those_of_the_manual() -> None:
    assert dataclasses.asdict(Settings()) == {
        "url": None, "secrets": (), "secret_file": None, "instance": "default", "relay": "process", "dsn": None,
        "http_timeout": 10, "lease": 60, "poll_interval": 1, "concurrency": 8, "claim_size": 100,
        "retry_for": 259_200, "retry_base": 1, "retry_cap": 900,
            "odoo_url": None, "odoo_db": None, "odoo_login": None, "odoo_password": None,
    }  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("source", ORDER)
def test_every_setting_from_every_source(name: str, source: str) -> None:
    given_value, expected = VALUES[name]
    if source == "ir.config_parameter" and name == "dsn":
        assert "administrator" in str(refused(**given_by(source, name, given_value)))
        return
    resolved = resolve(**given_by(source, name, given_value))
    assert getattr(resolved.settings, name) == expected
    assert resolved.sources == {name: source}
    assert not resolved.is_default(name)


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("second", range(4))
def test_the_first_source_that_has_it_counts(first: int, second: int) -> None:
    if first < second:
        sources = given_by(ORDER[second], "concurrency", "2") | given_by(ORDER[first], "concurrency", "1")
        resolved = resolve(**sources)
        assert resolved.settings.concurrency == 1
        assert resolved.sources["concurrency"] == ORDER[first]


@pytest.mark.parametrize("nothing", ["", "  ", None, False])
def test_an_empty_value_is_no_value(nothing: Any) -> None:
    resolved = resolve(
        explicit={"instance": nothing}, environ={"IPAI_BRIDGE_INSTANCE": nothing}, conf={"instance": nothing},
        params={"instance": "from-odoo"},
    )  # fmt: skip
    assert resolved.settings.instance == "from-odoo"
    assert resolve(params={"instance": nothing, "secret": nothing}).is_default("instance")


def test_params_may_be_a_function_or_have_full_names() -> None:
    asked: list[str] = []

    def get_param(key: str) -> Any:
        asked.append(key)
        return {"ipai_bridge.instance": "x"}.get(key, False)

    assert resolve(params=get_param).settings.instance == "x"
    assert all(key.startswith("ipai_bridge.") for key in asked)
    assert resolve(params={"ipai_bridge.instance": "y"}).settings.instance == "y"


def test_only_some_settings_are_looked_at() -> None:
    resolved = resolve(
        environ={"IPAI_BRIDGE_INSTANCE": "x", "IPAI_BRIDGE_URL": "nonsense", "IPAI_BRIDGE_TYPO": "1"},
        params={"secret": SECRET},
        only=("instance",),
    )
    assert resolved.settings.instance == "x"
    assert not resolved.is_default("instance")
    assert resolved.is_default("url")
    assert resolve(environ={"IPAI_BRIDGE_HTTP_TIMEOUT": "90"}, only=["http_timeout"]).settings.http_timeout == 90


@pytest.mark.parametrize(
    ("sources", "name", "near"),
    [
        ({"environ": {"IPAI_BRIDGE_SECERT": OTHER}}, "IPAI_BRIDGE_SECERT", "IPAI_BRIDGE_SECRET?"),
        ({"environ": {"IPAI_BRIDGE_SECRETFILE": "/x"}}, "IPAI_BRIDGE_SECRETFILE", "IPAI_BRIDGE_SECRET_FILE?"),
        ({"environ": {"IPAI_BRIDGE_url": URL}}, "IPAI_BRIDGE_url", "IPAI_BRIDGE_URL"),
        ({"environ": {"IPAI_BRIDGE_": "1"}}, "IPAI_BRIDGE_", "IPAI_BRIDGE_"),
        ({"conf": {"http_timout": "1"}}, "http_timout", "http_timeout?"),
        ({"params": {"instanze": "1"}}, "ipai_bridge.instanze", "ipai_bridge.instance?"),
        ({"explicit": {"leese": 1}}, "the argument leese", "lease?"),
        ({"explicit": {"secrets": SECRET}}, "the argument secrets", "secret?"),
        ({"environ": {"IPAI_BRIDGE_QQQQQQQQ": "1"}}, "IPAI_BRIDGE_QQQQQQQQ", "IPAI_BRIDGE_RELAY"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(sources: Any, name: str, near: str) -> None:
    error = refused(**sources)
    assert name in error.name
    assert near in error.rule
    assert OTHER not in str(error)


def test_other_environment_variables_are_nobodys_business() -> None:
    assert resolve(environ={"IPAI": "1", "XIPAI_BRIDGE_Y": "1", "PATH": "/bin"}).settings == Settings()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("http_timeout", ["0", "0.01", "601", "-1", "1e1", "ten", "10 s s", "10sec", "nan", "inf", "1,5", "1\u0660"]),
        ("http_timeout", ["5\n s", [], True, float("nan"), b"10", "9" * 5000]),
        ("lease", ["0.5", "2d", object()]),
        ("poll_interval", ["0", "2h"]),
        ("concurrency", ["0", "257", "1.5", "-1", "x", "\u0668", 1.0, True, 10**30, "9" * 5000]),
        ("claim_size", ["0", "10001", "1_000"]),
        ("retry_for", ["366d", "-1"]),
        ("relay", ["on", "Process", "thread", 1]),
        ("instance", ["A", "a.b", "-a", "a" * 64, "a b", 7]),
    ],
)  # fmt: skip
def test_values_that_are_refused(name: str, values: list[Any]) -> None:
    for value in values:
        error = refused(explicit={name: value})
        assert error.name == f"the argument {name}"
        assert len(str(error)) < 250


@pytest.mark.parametrize("value", [10, 10.5, "10", "10s", "10 s", "0.2min", "500ms"])
def test_times_with_and_without_a_unit(value: Any) -> None:
    expected = {"0.2min": 12.0, "500ms": 0.5, 10.5: 10.5}.get(value, 10.0)
    assert resolve(explicit={"http_timeout": value}).settings.http_timeout == pytest.approx(expected)


def test_a_timeout_that_is_not_shorter_than_the_lease_is_refused() -> None:
    for value in ("60", "61"):
        error = refused(environ={"IPAI_BRIDGE_HTTP_TIMEOUT": value})
        assert error.name == "IPAI_BRIDGE_HTTP_TIMEOUT"
        assert "shorter than the lease" in error.rule
    assert refused(conf={"lease": "10"}).name == "lease in [ipai_bridge] of odoo.conf"
    assert resolve(conf={"lease": "10.5"}).settings.lease == 10.5


def test_a_first_delay_longer_than_the_longest_is_refused() -> None:
    assert "longest" in refused(explicit={"retry_base": 901}).rule
    assert refused(explicit={"retry_cap": "500ms"}).name == "the argument retry_cap"


# --- secrets


@pytest.mark.parametrize("source", ORDER[:3])
def test_several_secrets_keep_their_order(source: str) -> None:
    for text in (f"{SECRET} {OTHER}", f"{SECRET},{OTHER}", f" {SECRET} ,\n\t{OTHER}, ", f"{SECRET} {OTHER} {SECRET}"):
        resolved = resolve(**given_by(source, "secret", text))
        assert resolved.settings.secrets == (Secret(SECRET), Secret(OTHER))
        assert resolved.sources == {"secret": source}


@pytest.mark.parametrize("value", [Secret(SECRET), [Secret(SECRET)], (SECRET,), [SECRET, Secret(SECRET)]])
def test_an_argument_may_be_a_secret_already(value: Any) -> None:
    assert resolve(explicit={"secret": value}).settings.secrets == (Secret(SECRET),)


@pytest.mark.parametrize("name", ["secret", "secret_file", "dsn", "odoo_password"])
@pytest.mark.parametrize("form", [lambda p: p, lambda p: {f"ipai_bridge.{k}": v for k, v in p.items()},
                                  lambda p: lambda key: p.get(key.removeprefix("ipai_bridge."))])  # fmt: skip
def test_what_is_secret_is_refused_in_the_parameters_even_where_it_does_not_count(name: str, form: Any) -> None:
    error = refused(environ={"IPAI_BRIDGE_SECRET": SECRET}, params=form({name: OTHER}))
    assert error.name == f"ipai_bridge.{name} in ir.config_parameter"
    assert "every administrator" in error.rule
    assert OTHER not in str(error)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("hidden-too-short", ""),
        (f"{SECRET} hidden-too-short", "(2 of 2)"),
        (f"hidden-too-short,{SECRET}", "(1 of 2)"),
        ("whsec_aGlkZGVuLWhpZGRlbg==", ""),  # 22 bytes of text after the prefix, 13 decoded
        ("whsec_aGlkZGVuLWhpZGRlbi1oaWRkZW4=", ""),
        (f"{SECRET} hidden\x00-hidden-hidden-hidden-hidden", "(2 of 2)"),
        (["hidden-too-short"], ""),
        ([7], ""),
        (7, ""),
        ([], ""),
        (",,", ""),
    ],
)
def test_weak_secrets_are_refused_and_not_shown(text: Any, place: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(explicit={"secret": text})
    if text != 7:
        assert type(caught.value) is WeakSecret
    assert place in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert "aGlkZGVu" not in str(caught.value)


# --- what is shown


def test_doctors_rows_show_no_secret_and_no_password() -> None:
    resolved = resolve(
        environ={"IPAI_BRIDGE_SECRET": f"{SECRET} {OTHER}", "IPAI_BRIDGE_DSN": "postgresql://odoo:pass1234@db/odoo"},
        conf={"lease": "90s"},
    )
    shown = repr(resolved) + repr(resolved.describe()) + str(resolved.settings)
    for text in (SECRET, OTHER, "pass1234", SECRET[6:20]):
        assert text not in shown
    first, second = Secret(SECRET).fingerprint, Secret(OTHER).fingerprint
    assert Row("secret", f"{first} (standard), {second} (plain)", "environment") in resolved.describe()
    assert Row("dsn", "postgresql://odoo:***@db/odoo", "environment") in resolved.describe()
    assert Row("lease", "90 s", "odoo.conf") in resolved.describe()
    assert Row("url", "(not set)", "default") in resolved.describe()


@given(
    st.sampled_from(SETTINGS),
    st.sampled_from(ORDER),
    st.sampled_from(["whsec_{}", "{}", "https://{}@x.co", "https://x:{}@x.co/",
                     "https://x.co/?k={}", "http://{}:x/", "{} {}",
                     "postgresql://u:{}@h/db", "password={} host=x", "host=x password='{}", "/{}", "10{}s"]),
)  # fmt: skip
def test_no_error_shows_what_may_be_a_secret_in_the_wrong_place(name: str, source: str, form: str) -> None:
    marked = "Xy" + "7Kq2" * 6
    sources: dict[str, Any] = given_by(source, name, form.replace("{}", marked))
    try:
        resolved = resolve(**sources)
    except BridgeError as error:
        report = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        ours = report.partition("ipai_bridge/settings.py")[2]
        shown = str(error) + ours
    else:
        shown = str([row for row in resolved.describe() if row.name in ("secret", "dsn")]) + repr(
            resolved.settings.secrets
        )
    if name != "secret_file" and "http://{" not in form:
        assert marked.lower() not in shown.lower()


def test_settings_are_a_value() -> None:
    settings = resolve(explicit={"secret": SECRET}).settings
    assert settings == resolve(environ={"IPAI_BRIDGE_SECRET": SECRET}).settings
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.url = "x"  # type: ignore[misc]
    assert isinstance(resolve(), Resolved)


def test_what_is_needed_and_not_set_says_how_to_set_it() -> None:
    secrets = (generate_secret(),)
    assert Settings(url=URL, secrets=secrets).require_endpoint() == (URL, secrets)
    with pytest.raises(SettingsError, match="IPAI_BRIDGE_URL"):
        Settings(secrets=secrets).require_endpoint()
    with pytest.raises(SettingsError, match="IPAI_BRIDGE_SECRET"):
        Settings(url=URL).require_endpoint()


@pytest.mark.parametrize("name", ["url", "dsn", "instance"])
@pytest.mark.parametrize("source", ORDER[:3])
@pytest.mark.parametrize("ref", ["xkxyvoboeubffxxbebsll", "ublqmilcjtpnflofprkr"])
def test_a_deprecated_project_is_refused_wherever_it_is_named(name: str, source: str, ref: str) -> None:
    value = {
        "url": f"https://{ref.upper()}.supabase.co/functions/v1",
        "dsn": f"host=db.{ref}.supabase.co",
        "instance": ref,
    }
    error = refused(DeprecatedProject, **given_by(source, name, value[name]))
    assert ref in error.rule


# --- odoo.conf


def conf(directory: Path, text: str, encoding: str = "utf-8") -> Mapping[str, str]:
    path = directory / "odoo.conf"
    path.write_text(text, encoding=encoding)
    return bridge_section(path)


def test_the_section_of_odoo_conf(tmp_path: Path) -> None:
    text = "[options]\nadmin_passwd = x%%y\n[ipai_bridge]\nURL = https://x.co/f%20v1\n; a comment\nsecret = a, b\n"
    assert conf(tmp_path, text) == {"url": "https://x.co/f%20v1", "secret": "a, b"}
    assert conf(tmp_path, text, "utf-8-sig")["secret"] == "a, b"
    assert conf(tmp_path, "[options]\nx = 1\n") == {}
    assert conf(tmp_path, "") == {}


@pytest.mark.parametrize(
    "text",
    [
        "secret = hidden\n",
        "[ipai_bridge]\nhidden secret\n",
        "[ipai_bridge]\nsecret=a\nsecret=hidden\n",
        "[a]\n[a]\nhidden=1\n",
    ],
)
def test_an_odoo_conf_that_cannot_be_read_names_the_line_and_shows_none(text: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="line") as caught:
        conf(tmp_path, text)
    assert "hidden" not in str(caught.value)
    assert caught.value.__context__ is None


def test_an_odoo_conf_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        bridge_section(tmp_path / "missing.conf")
    with pytest.raises(SettingsError, match="UTF-8"):
        conf(tmp_path, "[ipai_bridge]\nsecret = \xff\n", "latin-1")
