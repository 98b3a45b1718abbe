"""Where events go, and where the outbox is: which URLs and DSNs are taken, what is refused, what may be shown. Pure."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from urllib.parse import unquote, urlsplit

__all__ = [
    "DEPRECATED_PROJECTS",
    "broken_dsn_rule",
    "broken_odoo_url_rule",
    "broken_url_rule",
    "deprecated_project",
    "shown_dsn",
    "supabase_project_ref",
]

DEPRECATED_PROJECTS = frozenset({"xkxyvoboeubffxxbebsll", "ublqmilcjtpnflofprkr"})
"""Supabase projects that are refused wherever a project can be named."""

_URL_CHARACTERS = re.compile(r"[\x21-\x7e]+")  # urlsplit itself silently drops tabs and line feeds
_HOST = re.compile(
    r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?"
)
_SUPABASE_HOST = re.compile(r"(?:db\.)?([a-z0-9]{10,40})(?:\.functions)?\.supabase\.(?:co|in|net|red)\.?")
_POOLER_USER = re.compile(r"[a-z0-9_]+\.([a-z0-9]{10,40})")

_URI_DSN = re.compile(
    r"(?P<scheme>postgres(?:ql)?)://(?:(?P<user>[\w.%-]*)(?P<password>:[^@/?#]*)?@)?"
    r"(?P<host>[\w.,:%\[\]-]*)(?P<database>/[\w.%-]*)?(?P<query>\?[^@]*)?",
    re.ASCII,
)
_HOST_AND_PORT = re.compile(r"(?:[\w.%-]*|\[[\w.:%]+\])(?::[0-9]{0,5})?", re.ASCII)
_PAIR = re.compile(r"\s*([a-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s'\\]+)(?=\s|\Z)", re.ASCII)
_MAY_BE_SHOWN = ("host", "hostaddr", "port", "dbname", "user", "sslmode")


def broken_url_rule(url: str) -> str | None:
    """The rule that a functions base URL breaks, or None. The words never repeat more of the URL than its host."""
    rule = _broken_rule(url, "https://<ref>.supabase.co/functions/v1", "every event")
    if rule:
        return rule
    if "?" in url or "#" in url:
        return "must have no query and no fragment: give the functions base only"
    if urlsplit(url).path.rstrip("/").endswith("/odoo-webhook"):
        return "must be the functions base, without /odoo-webhook at its end"
    return None


def broken_odoo_url_rule(url: str) -> str | None:
    """The rule that the URL of an Odoo server breaks, or None. The words never repeat more of it than its host."""
    rule = _broken_rule(url, "https://odoo.example.com", "the password")
    if rule:
        return rule
    if "?" in url or "#" in url or urlsplit(url).path.strip("/"):
        return "must have no path, no query and no fragment, such as https://odoo.example.com"
    return None


def _broken_rule(url: str, example: str, risk: str) -> str | None:
    if not _URL_CHARACTERS.fullmatch(url):
        return "must be of ASCII characters without spaces (a domain of other letters is written as xn--…)"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return f"must be a URL, such as {example}: its host or port cannot be read"
    if parts.scheme not in ("https", "http"):
        return f"must begin with https://, such as {example}"
    if "@" in parts.netloc or "\\" in url:
        return "must hold no user name and no password: what is secret has a setting of its own"
    if not host or port == 0 or not (_HOST.fullmatch(host) or _ip(host)):
        return f"must name a host, such as {example}"
    if parts.scheme == "http" and not _is_loopback(host):
        return f"must begin with https://: {host} is not this machine, and http would show {risk} on the way"
    return None


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    """True for localhost, 127.0.0.0/8 and ::1, in their plain forms only: what looks like them need not be them."""
    address = _ip(host)
    if address is None:
        return host == "localhost"
    return address == ipaddress.IPv6Address("::1") or (address.version == 4 and address.is_loopback)


def deprecated_project(text: str) -> str | None:
    """The deprecated project that a URL, a DSN or a name holds anywhere, in whatever case or encoding; or None."""
    seen = ""
    while text != seen:  # percent-encoding may be nested
        seen, text = text, unquote(text)
    text = "".join(unicodedata.normalize("NFKC", text).casefold().split())
    return next((ref for ref in sorted(DEPRECATED_PROJECTS) if ref in text), None)


def supabase_project_ref(text: str | None) -> str | None:
    """The Supabase project that a URL or a DSN names: by its host, or by the user name of the pooler; None if none."""
    if not text:
        return None
    pairs = _pairs(text)
    if pairs is not None:
        host, user = pairs.get("host", ""), pairs.get("user", "")
    else:
        try:
            parts = urlsplit(text)
            host, user = parts.hostname or "", parts.username or ""
        except ValueError:
            return None
    for form, value in ((_SUPABASE_HOST, host), (_POOLER_USER, unquote(user))):
        match = form.fullmatch(value.lower())
        if match and (form is _SUPABASE_HOST or ".pooler.supabase." in host.lower()):
            return match[1]
    return None


def broken_dsn_rule(dsn: str) -> str | None:
    """The rule that a PostgreSQL DSN breaks, or None. What is left is for libpq to say."""
    if "\x00" in dsn or not (dsn.startswith(("postgresql://", "postgres://")) or "=" in dsn):
        return "must be a PostgreSQL URI (postgresql://…) or key=value pairs (dbname=odoo host=…)"
    return None


def shown_dsn(dsn: str) -> str:
    """A DSN as it may be printed: never the password, and nothing at all where it is not sure which part that is."""
    match = _URI_DSN.fullmatch(dsn)
    # Else, in "postgresql://u:password", the host could be what was to be the password.
    if match and all(_HOST_AND_PORT.fullmatch(host) for host in match["host"].split(",")):
        user = f"{match['user']}{':***' if match['password'] else ''}@" if match["user"] is not None else ""
        return f"{match['scheme']}://{user}{match['host']}{match['database'] or ''}"
    pairs = _pairs(dsn)
    if pairs is not None:
        return " ".join(f"{key}={pairs[key]}" for key in _MAY_BE_SHOWN if key in pairs) or "(set)"
    return "(set; not shown, since it is not plain which part is the password)"


def _pairs(dsn: str) -> dict[str, str] | None:
    """The pairs of a DSN of the key=value form; None for anything else."""
    pairs = {}
    at = 0
    while at < len(dsn.rstrip()):
        match = _PAIR.match(dsn, at)
        if match is None:
            return None
        pairs[match[1]] = match[2].strip("'")
        at = match.end()
    return pairs or None
