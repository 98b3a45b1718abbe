"""What Odoo's own configuration file says: our section, and where the database is."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path

from ipai_bridge.errors import SettingsError

__all__ = ["bridge_section", "database_dsn"]

SECTION = "ipai_bridge"
_UNSET = ("", "False")  # as Odoo writes an option that is not set


def bridge_section(path: str | os.PathLike[str]) -> Mapping[str, str]:
    """The section [ipai_bridge] of an odoo.conf, empty if it has none. Raises `SettingsError` if it cannot be read."""
    return _section(path, SECTION)


def database_dsn(path: str | os.PathLike[str], database: str | None) -> str:
    """The libpq connection string for `database`, or for the one that odoo.conf names; its server as odoo.conf says.

    Needs psycopg2. Raises `SettingsError` if the file cannot be read, or names no database, or several.
    """
    from psycopg2.extensions import make_dsn

    options = _section(path, "options")
    names = [name.strip() for name in options.get("db_name", "").split(",") if name.strip() not in _UNSET]
    if database is None and len(names) != 1:
        raise SettingsError("-d", f"is needed: {os.fspath(path)} names {len(names)} databases")
    values = {"dbname": database or names[0]}
    for name in ("host", "port", "user", "password", "sslmode"):
        value = options.get(f"db_{name}", "").strip()
        if value not in _UNSET:
            values[name] = value
    return str(make_dsn(**values))


def _section(path: str | os.PathLike[str], section: str) -> Mapping[str, str]:
    parser = configparser.RawConfigParser()  # as Odoo does: a % is a %
    reason = ""
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            parser.read_file(file)
        if parser.has_section(section):
            return dict(parser.items(section))
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except UnicodeError:
        reason = "it is not UTF-8 text"
    except configparser.Error as error:
        # Its text repeats the line, which may be that of a secret.
        line = getattr(error, "lineno", None) or next((line for line, _ in getattr(error, "errors", [])), None)
        reason = f"line {line} is not of an ini file: {type(error).__name__}" if line else type(error).__name__
    if reason:
        raise SettingsError(os.fspath(path), f"cannot be read as odoo.conf ({reason})")
    return {}
