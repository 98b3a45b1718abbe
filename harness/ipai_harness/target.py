"""What is under test: a stack of our own, or somebody's project; what can be asked of it, and what it is refused for.

    Target.of_stack("native", stack.env())                a running stack, by the variables of `ipai-harness env`
    Target.remote(url, secrets, db_url=…, jwt=…)          a Supabase project, or `supabase functions serve`

A part of a test asks `target.lacks(Capability.SHADOW)`: None, or the reason to print beside "not run". A remote target
is used under an instance name of its own (verify-…), whose rows `cleaning.clean_up` removes afterwards.

A deprecated Supabase project is refused always. A target that looks like production is refused unless that is allowed:
one whose host is neither this machine nor a private address, and has no word in its name that marks it as a test's.
"""

from __future__ import annotations

import enum
import ipaddress
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import psycopg2
import psycopg2.extensions

from ipai_bridge.endpoint import broken_dsn_rule, broken_url_rule, deprecated_project, shown_dsn, supabase_project_ref
from ipai_bridge.errors import SettingsError
from ipai_bridge.secret import Secret, parse_secrets
from ipai_harness.errors import TargetRefused

Kind = Literal["native", "docker", "remote"]

MARKERS = ("dev", "develop", "development", "stage", "staging", "test", "testing", "preview", "branch", "sandbox", "ci",
           "local", "demo", "qa", "uat")  # fmt: skip
"""Words that mark a host as a test's, between dots, hyphens or digits: api.staging.example.com, dev2-db.example.com."""
_LOCAL_ENDINGS = (".local", ".localhost", ".internal", ".test", ".invalid", ".example")


class Capability(enum.Enum):
    """What a test may need, and what it takes to have it."""

    DELIVER = "events are sent to the functions"
    EVENTS = "needs --db-url: webhook events are read from the database"
    SHADOW = "needs --db-url: the shadow tables and drift views are read from the database"
    CATALOG = "needs --db-url: the catalog is read from the database"
    ODOO = "needs an Odoo: a remote target has none, `--provider native` or `docker` starts one"
    FAULTS = "needs a stack of our own: the parts of a remote target are not stopped or broken"
    GATEWAY = "needs a token that the gateway takes: give IPAI_HARNESS_JWT"


@dataclass(frozen=True)
class OdooAccess:
    """Where Odoo is, and who may act on it."""

    url: str
    database: str
    login: str
    password: str = field(repr=False)
    dsn: str = field(repr=False)


@dataclass(frozen=True)
class Target:
    """What is under test. None for what was not given: `lacks` says what cannot be done then, and why."""

    kind: Kind
    functions_url: str
    secrets: tuple[Secret, ...]
    instance: str
    supabase_dsn: str | None = field(default=None, repr=False)
    odoo: OdooAccess | None = None
    jwt: str | None = field(default=None, repr=False)

    @classmethod
    def of_stack(cls, kind: Kind, env: Mapping[str, str]) -> Target:
        """A running stack of our own, by what its `env()` says."""
        odoo = OdooAccess(
            env["odoo_url"], env["odoo_db"], env["odoo_login"], env["odoo_password"], env["odoo_dsn"]
        )  # fmt: skip
        return cls(
            kind, env["functions_url"], parse_secrets("secret", env["secret"]), env["instance"],
            supabase_dsn=env["supabase_dsn"], odoo=odoo, jwt=env.get("anon_key"),
        )  # fmt: skip

    @classmethod
    def remote(
        cls,
        url: str,
        given: Sequence[Secret],
        *,
        db_url: str | None = None,
        jwt: str | None = None,
        allow_production: bool = False,
    ) -> Target:
        """A functions base URL, and the database behind it where it is given; under an instance name of its own.

        Raises SettingsError for a URL or a DSN that is not taken, TargetRefused for a target that is.
        """
        check_project(url)
        if rule := broken_url_rule(url):
            raise SettingsError("--target", rule)
        if db_url is not None:
            check_project(db_url)
            if rule := broken_dsn_rule(db_url):
                raise SettingsError("--db-url", rule)
            ours, theirs = supabase_project_ref(url), supabase_project_ref(db_url)
            if ours and theirs and ours != theirs:
                raise SettingsError("--db-url", f"names the project {theirs}, and --target {ours}: give both of one")
        check_production(url, allowed=allow_production)
        if db_url is not None:
            check_production(db_url, allowed=allow_production)
        instance = f"verify-{secrets.token_hex(4)}"
        return cls("remote", url.rstrip("/"), tuple(given), instance, supabase_dsn=db_url, jwt=jwt)

    def lacks(self, capability: Capability) -> str | None:
        """Why it cannot be asked of this target; None if it can."""
        has = {
            Capability.DELIVER: True,
            Capability.EVENTS: self.supabase_dsn is not None,
            Capability.SHADOW: self.supabase_dsn is not None,
            Capability.CATALOG: self.supabase_dsn is not None,
            Capability.ODOO: self.odoo is not None,
            Capability.FAULTS: self.kind != "remote",
            Capability.GATEWAY: self.jwt is not None,
        }[capability]
        return None if has else f"{capability.name.lower()}: {capability.value}"

    def capabilities(self) -> dict[Capability, str | None]:
        """Every capability with the reason for which it is not there, or None."""
        return {capability: self.lacks(capability) for capability in Capability}


def check_project(text: str) -> None:
    """Raises TargetRefused if a URL or a DSN names a deprecated Supabase project. There is no leave for that."""
    if ref := deprecated_project(text):
        raise TargetRefused(f"the Supabase project {ref} is deprecated: name the project in use")


def check_production(address: str, *, allowed: bool) -> None:
    """Raises TargetRefused if a URL or a DSN looks like production, unless that is allowed."""
    looks = [why for host in hosts_of(address) if (why := looks_like_production(host)) is not None]
    if looks and not allowed:
        raise TargetRefused(
            f"{looks[0]}: it is not touched. Test a branch or a local project; "
            "or, if it may have test events, say --yes-this-is-production"
        )


def looks_like_production(host: str) -> str | None:
    """What makes a host look like production, in words; None if it does not."""
    name = host.lower().rstrip(".")
    if not name or name.startswith("/") or name == "localhost" or name.endswith(_LOCAL_ENDINGS):
        return None
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        pass
    else:
        if address.is_loopback or address.is_private or address.is_link_local:
            return None
        return f"{host} is a public address and looks like production"
    if not re.fullmatch(r"[a-z0-9._-]+", name):
        return f"{host} leads to a host that is not known here, so it looks like production"
    if "." not in name:  # a name in a private network, such as that of a container
        return None
    # The last two are the owner's: test.com is nobody's test.
    labels = name.split(".")[:-2]
    if set(re.split(r"[^a-z]+", "-".join(labels))) & set(MARKERS):
        return None
    return (
        f"{host} looks like production (neither local nor private, and no part of its name says {', '.join(MARKERS)})"
    )


def hosts_of(address: str) -> list[str]:
    """The hosts that a URL or a DSN leads to; none for this machine's socket. What cannot be read stands for a host."""
    if address.startswith(("http://", "https://")):
        return [urlsplit(address).hostname or ""]
    try:
        pairs = psycopg2.extensions.parse_dsn(address)
    except psycopg2.ProgrammingError:
        return [shown_dsn(address)]
    if "service" in pairs:
        return [f"the service {pairs['service']}"]
    # libpq connects to hostaddr where both are given, and looks into the environment where neither is.
    named = pairs.get("hostaddr") or pairs.get("host") or os.environ.get("PGHOSTADDR") or os.environ.get("PGHOST") or ""
    return [host for host in named.split(",") if host]
