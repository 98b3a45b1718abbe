"""Where configuration comes from, in which order, and what is refused.

For each setting the first of these that has it counts:

    argument              given by the program
    environment           IPAI_BRIDGE_URL, IPAI_BRIDGE_SECRET, …
    odoo.conf             the section [ipai_bridge]: url = …
    ir.config_parameter   ipai_bridge.url, …; never what is secret, or dsn: every administrator can read it
    default

    url             functions base, https://<ref>.supabase.co/functions/v1: https, or http on loopback
    secret          one or several, separated by spaces or commas: the first signs, all verify; each at least 24 bytes
    secret_file     a file that holds them instead, that not everybody may read
    instance        which Odoo this is: default
    relay           process (`ipai-bridge relay`), inline (a thread inside Odoo) or off: process
    dsn             the outbox's PostgreSQL, for the relay as a process
    http_timeout    10 s; shorter than the lease
    lease           60 s: how long a relay has an event for itself
    poll_interval   1 s
    concurrency     8 requests at a time
    claim_size      100 events at a time
    retry_for       3 d, then an event is dead
    retry_base      1 s: the first delay, which doubles
    retry_cap       15 min: the longest delay
    odoo_url        where the scheduled syncs reach Odoo, https://odoo.example.com: https, or http on loopback
    odoo_db         its database
    odoo_login      a user who may read what is synced, and nothing more
    odoo_password   that user's password, or better an API key; from the environment only

Times are in seconds, or with a unit: 500ms, 10s, 15min, 2h, 3d. An empty value is no value. A name that is not known is
refused, with the nearest one that is; so is a deprecated Supabase project, wherever it is named. `ipai-bridge doctor`
shows what counts, and where it comes from. No error, and no frame of a traceback from here, holds a secret or a
password.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from ipai_bridge.endpoint import shown_dsn
from ipai_bridge.errors import SettingsError
from ipai_bridge.event import DEFAULT_INSTANCE
from ipai_bridge.secret import Secret, parse_secrets, read_secret_file
from ipai_bridge.setting_forms import PARSERS

__all__ = ["SETTINGS", "Resolved", "Row", "Settings", "resolve"]

ENVIRONMENT = "IPAI_BRIDGE_"
SECTION = "ipai_bridge"
PARAMETER = "ipai_bridge."

_NOT_AS_PARAMETER = ("secret", "secret_file", "dsn", "odoo_password")


@dataclass(frozen=True)
class Settings:
    """The settings in force, checked by `resolve`; times in seconds."""

    url: str | None = None
    secrets: tuple[Secret, ...] = ()
    secret_file: str | None = None
    instance: str = DEFAULT_INSTANCE
    relay: str = "process"
    dsn: str | None = field(default=None, repr=False)  # it may hold a password
    http_timeout: float = 10.0
    lease: float = 60.0
    poll_interval: float = 1.0
    concurrency: int = 8
    claim_size: int = 100
    retry_for: float = 259_200.0
    retry_base: float = 1.0
    retry_cap: float = 900.0
    odoo_url: str | None = None
    odoo_db: str | None = None
    odoo_login: str | None = None
    odoo_password: str | None = field(default=None, repr=False)

    def require_endpoint(self) -> tuple[str, tuple[Secret, ...]]:
        """The functions base URL and the secrets, at least one. Raises `SettingsError` where one is not set."""
        if self.url is None:
            raise SettingsError("url", f"is not set: give {ENVIRONMENT}URL=https://<ref>.supabase.co/functions/v1")
        return self.url, self.require_secrets()

    def require_secrets(self) -> tuple[Secret, ...]:
        """The secrets, at least one: the first signs. Raises `SettingsError` where none is set."""
        if not self.secrets:
            raise SettingsError("secret", f"is not set: give {ENVIRONMENT}SECRET, or {ENVIRONMENT}SECRET_FILE")
        return self.secrets


SETTINGS = tuple("secret" if f.name == "secrets" else f.name for f in fields(Settings))
"""The names of all settings, as the sources spell them."""


class Row(NamedTuple):
    """A line of `ipai-bridge doctor`."""

    name: str
    value: str
    source: str


@dataclass(frozen=True)
class Resolved:
    """The settings, and for each of them where it comes from."""

    settings: Settings
    sources: Mapping[str, str]

    def is_default(self, name: str) -> bool:
        """True if no source has the setting."""
        return self.sources.get(name, "default") == "default"

    def describe(self) -> list[Row]:
        """Every setting with its value as it may be shown, and its source: secrets by their fingerprints only."""
        return [Row(name, _shown(self.settings, name), self.sources.get(name, "default")) for name in SETTINGS]


def _shown(settings: Settings, name: str) -> str:
    if name == "secret":
        kinds = (f"{s.fingerprint} ({'standard' if s.is_standard else 'plain'})" for s in settings.secrets)
        return ", ".join(kinds) or "(not set)"
    value = getattr(settings, name)
    if value is None:
        return "(not set)"
    if name == "dsn":
        return shown_dsn(value)
    if name == "odoo_password":
        return "(set)"
    return f"{value:g} s" if isinstance(value, float) else str(value)


class _Source(NamedTuple):
    name: str
    get: Callable[[str], Any]
    spell: Callable[[str], str]


Parameters = Mapping[str, Any] | Callable[[str], Any]


def resolve(
    explicit: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    conf: Mapping[str, str] | None = None,
    params: Parameters | None = None,
    *,
    only: Collection[str] = (),
) -> Resolved:
    """The settings in force and the source of each.

    Args:
        explicit: arguments, by the setting's name; None is no value; `secret` may be a `Secret` or several.
        environ: the environment, such as `os.environ`.
        conf: the section [ipai_bridge] of odoo.conf, see `odoo_conf.bridge_section`.
        params: the values of `ir.config_parameter`, by the setting's name; or a function that is asked for
            `ipai_bridge.<name>`, such as `get_param`.
        only: the settings to look at; the others are left at their defaults, and unknown names are not looked for.

    Raises `SettingsError`: `DeprecatedProject`, `WeakSecret`, `SecretUnreadable`, or itself, naming the setting as its
    source spells it, and the rule.
    """
    try:
        return _resolve(explicit or {}, environ or {}, conf or {}, params or {}, only)
    except SettingsError as error:
        failure = error.with_traceback(None)
    # Raised again from here, without the frames below and what they had in hand: a report of a traceback with its local
    # variables must not have the secrets that were refused.
    del explicit, environ, conf, params
    raise failure


def _resolve(
    explicit: Mapping[str, Any],
    environ: Mapping[str, str],
    conf: Mapping[str, str],
    params: Parameters,
    only: Collection[str],
) -> Resolved:
    sources = _sources(explicit, environ, conf, params)
    wanted = set(only or SETTINGS)
    if not only:
        _refuse_unknown(explicit, environ, conf, params)
    by_parameter = sources[-1]
    for name in _NOT_AS_PARAMETER:
        if name in wanted and _value(by_parameter, name) is not None:
            raise SettingsError(
                by_parameter.spell(name),
                "must not be there, where every administrator of this Odoo can read it: "
                f"delete it, and give {ENVIRONMENT}{name.upper()}"
                + ("" if name == "odoo_password" else f" or {name} in odoo.conf"),
            )
    if "odoo_password" in wanted and _value(sources[-2], "odoo_password") is not None:
        rule = f"is taken from the environment only: delete it, and give {ENVIRONMENT}ODOO_PASSWORD"
        raise SettingsError(sources[-2].spell("odoo_password"), rule)
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    spelled: dict[str, str] = {}
    if wanted & {"secret", "secret_file"}:
        _take_secrets(sources, values, origin)
    for name, parse in PARSERS.items():
        if name not in wanted:
            continue
        for source in sources:
            raw = _value(source, name)
            if raw is not None:
                spelled[name] = source.spell(name)
                values[name] = parse(spelled[name], raw)
                origin[name] = source.name
                break
    settings = Settings(**values)
    if not only:
        _check_together(settings, spelled)
    return Resolved(settings, origin)


def _sources(
    explicit: Mapping[str, Any], environ: Mapping[str, str], conf: Mapping[str, str], params: Parameters
) -> list[_Source]:
    ask = params if callable(params) else {PARAMETER + key.removeprefix(PARAMETER): v for key, v in params.items()}.get
    return [
        _Source("argument", explicit.get, lambda name: f"the argument {name}"),
        _Source(
            "environment", lambda name: environ.get(ENVIRONMENT + name.upper()), lambda name: ENVIRONMENT + name.upper()
        ),
        _Source("odoo.conf", conf.get, lambda name: f"{name} in [{SECTION}] of odoo.conf"),
        _Source(
            "ir.config_parameter",
            lambda name: ask(PARAMETER + name),
            lambda name: f"{PARAMETER}{name} in ir.config_parameter",
        ),
    ]


def _value(source: _Source, name: str) -> Any:
    """What the source has, None for nothing: an empty text is nothing, and so is the False of Odoo's `get_param`."""
    value = source.get(name)
    if value is None or value is False or (isinstance(value, str) and not value.strip()):
        return None
    return value.strip() if isinstance(value, str) else value


def _refuse_unknown(
    explicit: Mapping[str, Any], environ: Mapping[str, str], conf: Mapping[str, str], params: Parameters
) -> None:
    given = [("the argument ", explicit, ""), (f"[{SECTION}] of odoo.conf: ", conf, "")]
    if not callable(params):
        given.append(
            ("ir.config_parameter: ", {k if k.startswith(PARAMETER) else PARAMETER + k: 0 for k in params}, PARAMETER)
        )
    given.append(("", {k: 0 for k in environ if k.startswith(ENVIRONMENT)}, ENVIRONMENT))
    for where, mapping, prefix in given:
        known = {prefix + (name.upper() if prefix == ENVIRONMENT else name): name for name in SETTINGS}
        for name in sorted(map(str, mapping)):
            if name not in known:
                bare = name.removeprefix(prefix).lower()
                near = difflib.get_close_matches(bare, SETTINGS, 1)
                shown = [full for full, setting in known.items() if setting in (near or SETTINGS)]
                hint = f"did you mean {shown[0]}?" if near else f"the names are {', '.join(shown)}"
                raise SettingsError(f"{where}{name[:100]}", f"is not a setting: {hint}")


def _take_secrets(sources: Sequence[_Source], values: dict[str, Any], origin: dict[str, str]) -> None:
    """The secrets of the first source that names them, itself or by a file."""
    for source in sources:
        raw, path = _value(source, "secret"), _value(source, "secret_file")
        if raw is not None and path is not None:
            raise SettingsError(source.spell("secret"), f"must not be given beside {source.spell('secret_file')}")
        if path is not None:
            values["secret_file"] = str(path)
            origin["secret_file"] = source.name
            values["secrets"] = parse_secrets(
                source.spell("secret_file"), read_secret_file(source.spell("secret_file"), path)
            )
        elif raw is not None:
            values["secrets"] = parse_secrets(source.spell("secret"), raw)
        else:
            continue
        origin["secret"] = source.name
        return


def _check_together(settings: Settings, spelled: Mapping[str, str]) -> None:
    if settings.http_timeout >= settings.lease:
        raise SettingsError(
            spelled.get("http_timeout") or spelled["lease"],
            f"breaks a rule: the HTTP timeout ({settings.http_timeout:g} s) must be shorter than the lease "
            f"({settings.lease:g} s), or two relays could send one event at once",
        )
    if settings.retry_base > settings.retry_cap:
        raise SettingsError(
            spelled.get("retry_base") or spelled["retry_cap"],
            f"breaks a rule: the first delay ({settings.retry_base:g} s) must not be longer than the longest "
            f"({settings.retry_cap:g} s)",
        )
