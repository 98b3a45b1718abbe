"""The form that each setting's value must have. Pure; what may be a secret is named when refused, never shown."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from ipai_bridge.endpoint import broken_dsn_rule, broken_odoo_url_rule, broken_url_rule, deprecated_project
from ipai_bridge.errors import DeprecatedProject, SettingsError
from ipai_bridge.secret import MIN_SECRET

__all__ = ["PARSERS"]

_INSTANCE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?(ms|s|min|m|h|d)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_MAX_TEXT = 200


def _refused_value(raw: Any) -> str:
    """A refused value as it may be shown: whatever is as long as a secret might be one that is in the wrong place."""
    text = str(raw)
    return f"not {text!a}" if len(text) < MIN_SECRET and "whsec" not in text else f"not {len(text)} characters of text"


def _text(name: str, raw: Any) -> str:
    if not isinstance(raw, str):
        raise SettingsError(name, f"must be text, not {type(raw).__name__}")
    ref = deprecated_project(raw)
    if ref:
        raise DeprecatedProject(name, f"names the Supabase project {ref}, which is deprecated: name the one in use")
    return raw


def _url(name: str, raw: Any) -> str:
    url = _text(name, raw)
    rule = broken_url_rule(url)
    if rule:
        raise SettingsError(name, rule)
    return url.rstrip("/")


def _dsn(name: str, raw: Any) -> str:
    dsn = _text(name, raw)
    rule = broken_dsn_rule(dsn)
    if rule:
        raise SettingsError(name, rule)
    return dsn


def _odoo_url(name: str, raw: Any) -> str:
    url = _text(name, raw)
    rule = broken_odoo_url_rule(url)
    if rule:
        raise SettingsError(name, rule)
    return url.rstrip("/")


def _short(name: str, raw: Any) -> str:
    text = _text(name, raw)
    if not (1 <= len(text) <= _MAX_TEXT and text.isprintable()):
        raise SettingsError(name, f"must be 1 to {_MAX_TEXT} printable characters")
    return text


def _instance(name: str, raw: Any) -> str:
    if not _INSTANCE.fullmatch(_text(name, raw)):
        raise SettingsError(name, f"must be 1 to 63 of a-z, 0-9, '_' and '-', {_refused_value(raw)}")
    return str(raw)


def _relay(name: str, raw: Any) -> str:
    if _text(name, raw) not in ("process", "inline", "off"):
        raise SettingsError(name, f"must be process, inline or off, {_refused_value(raw)}")
    return str(raw)


def _seconds(low: float, high: float) -> Callable[[str, Any], float]:
    def parse(name: str, raw: Any) -> float:
        seconds = math.nan
        if isinstance(raw, (int, float)) and not isinstance(raw, bool):
            seconds = float(raw)
        elif isinstance(raw, str):
            match = _DURATION.fullmatch(raw)
            if match:
                seconds = float(match[1]) * _UNITS[match[2] or "s"]
        if not low <= seconds <= high:  # also true of NaN
            raise SettingsError(
                name, f"must be a time from {low:g} s to {high:g} s, such as 10, 500ms or 15min, {_refused_value(raw)}"
            )
        return seconds

    return parse


def _number(low: int, high: int) -> Callable[[str, Any], int]:
    def parse(name: str, raw: Any) -> int:
        if isinstance(raw, str) and re.fullmatch(r"[0-9]{1,9}", raw):
            raw = int(raw)
        if isinstance(raw, bool) or not isinstance(raw, int) or not low <= raw <= high:
            raise SettingsError(name, f"must be a whole number from {low} to {high}, {_refused_value(raw)}")
        return raw

    return parse


PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "url": _url,
    "instance": _instance,
    "relay": _relay,
    "dsn": _dsn,
    "http_timeout": _seconds(0.1, 600),
    "lease": _seconds(1, 86_400),
    "poll_interval": _seconds(0.01, 3_600),
    "concurrency": _number(1, 256),
    "claim_size": _number(1, 10_000),
    "retry_for": _seconds(0, 31_536_000),
    "retry_base": _seconds(0.001, 86_400),
    "retry_cap": _seconds(0.001, 604_800),
    "odoo_url": _odoo_url,
    "odoo_db": _short,
    "odoo_login": _short,
    "odoo_password": _text,
}
"""By the setting's name: from its name as its source spells it, and what the source has, the value. Raise
`SettingsError`."""
