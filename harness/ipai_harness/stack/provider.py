"""Which kind of stack: `native`, `docker`, or `auto`, which says what it chose and why."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Any

from ipai_harness.errors import HarnessError, PartMissing
from ipai_harness.stack import docker_leftovers, engine, functions, paths, postgres, state
from ipai_harness.stack.docker import DockerStack
from ipai_harness.stack.handle import Stack
from ipai_harness.stack.native import NativeStack
from ipai_harness.stack.progress import Progress

KINDS: dict[str, type[NativeStack] | type[DockerStack]] = {"native": NativeStack, "docker": DockerStack}
PROVIDERS = ("native", "docker", "auto")
VARIABLE = "IPAI_HARNESS_PROVIDER"


def default() -> str:
    """What IPAI_HARNESS_PROVIDER says; native otherwise. Raises HarnessError."""
    named = os.environ.get(VARIABLE) or "native"
    if named not in PROVIDERS:
        raise HarnessError(f"{VARIABLE} is {named!r}: use {', '.join(PROVIDERS)}")
    return named


def choose(provider: str) -> tuple[str, str]:
    """native or docker, and why. Raises PartMissing when this machine can run neither."""
    if provider != "auto":
        return provider, "asked for"
    lacks = _native_lacks()
    if lacks is None:
        return "native", "PostgreSQL 16, Deno and Odoo's package are to be had here, and it starts fastest"
    try:
        engine.client()
    except PartMissing as error:
        raise PartMissing(f"neither kind of stack runs here. native: {lacks}. docker: {error}") from None
    return "docker", f"a native stack does not run here: {lacks}"


def _native_lacks() -> str | None:
    """The first thing that a native stack needs and this machine has not; None when it has all."""
    try:
        postgres.find(16)
        functions.find_deno()
    except PartMissing as error:
        return str(error)
    named = [name for name in ("IPAI_HARNESS_ODOO_PATH", "IPAI_HARNESS_ODOO_DEB") if os.environ.get(name)]
    if named or (paths.cache() / "odoo" / "debian").is_dir():
        return None
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return "Odoo comes as a Debian package, and there is no apt-get or no dpkg-deb"
    return None


def make(provider: str, name: str | None = None, *, progress: Progress | None = None, **options: Any) -> Stack:
    """A stack that is not up yet; `options` as its kind takes them."""
    stack: Stack = (NativeStack if provider == "native" else DockerStack)(name, progress=progress, **options)
    return stack


def of(name: str) -> str:
    """The kind of the stack of that name. Raises StackNotRunning."""
    return str(state.read(name).get("provider", "native"))


def attach(name: str = "default", *, progress: Progress | None = None) -> Stack:
    """A stack that another command started. Raises StackNotRunning."""
    return KINDS[of(name)].attach(name, progress=progress)


def down(name: str) -> bool:
    """Stop the stack of that name, whatever its kind; whether there was one. Raises StackBusy."""
    kind = of(name) if state.file(state.check_name(name)).exists() else "native"
    return KINDS[kind](name).down()


def down_all() -> Sequence[str]:
    """Stop every stack of this user, and remove what dead ones have left on the engine; their names."""
    gone = state.names()
    for name in gone:
        down(name)
    try:
        client = engine.client()
    except PartMissing:
        return gone
    return [*gone, *docker_leftovers.reap(client)]
