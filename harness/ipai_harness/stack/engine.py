"""The Docker engine that the harness talks to, and how.

The first of these that there is: DOCKER_HOST; the engine's usual socket; the engine that `ipai-harness engine start`
started. It is spoken to through the Python package `docker`: no `docker` program is needed.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ipai_harness.errors import HarnessError, PartMissing
from ipai_harness.stack import paths

SOCKET = Path("/var/run/docker.sock")
TIMEOUT = 120  # seconds that one answer of the engine may take
LABEL = "ai.ipai.harness"
"""Begins the name of every label: what carries one is the harness's."""
HOW = (
    "Start Docker, set DOCKER_HOST, or, as root on Debian, run: ipai-harness engine start. "
    "Without Docker: ipai-harness up --provider native"
)

_clients: dict[str, Any] = {}
_used: list[str] = []  # the engine of the stack that this command works on


@atexit.register
def _close() -> None:
    for client in _clients.values():
        client.close()
    _clients.clear()


def own_file() -> Path:
    """What `ipai-harness engine start` wrote down."""
    return paths.stacks().parent / "engine.json"


def url() -> str:
    """The engine's address. Raises PartMissing."""
    if _used:
        return _used[0]
    named = os.environ.get("DOCKER_HOST")
    if named:
        return named
    if SOCKET.exists():
        return f"unix://{SOCKET}"
    try:
        own = json.loads(own_file().read_text())["socket"]
    except (FileNotFoundError, ValueError, KeyError):
        raise PartMissing(f"no Docker engine: DOCKER_HOST is not set, and there is no {SOCKET}. {HOW}") from None
    return f"unix://{own}"


def use(address: str) -> None:
    """From now on this one, whatever the environment says: a stack's containers are where it was started."""
    _used[:] = [address]


@contextmanager
def unchanged() -> Iterator[None]:
    """What the block uses is not used after it."""
    before = list(_used)
    try:
        yield
    finally:
        _used[:] = before


def client(address: str | None = None) -> Any:
    """A client of the engine, which has answered. Raises PartMissing."""
    address = address or url()
    found = _clients.get(address)
    if found is not None:
        return found
    try:
        import docker
        import docker.errors
    except ImportError:
        raise PartMissing(
            'the Python package docker is missing. Run: python3 -m pip install "ipai-bridge[harness]"'
        ) from None
    made = None
    try:
        _knock(address)
        # What else the environment says of it (TLS), from_env knows.
        made = (
            docker.from_env(timeout=TIMEOUT)
            if address == os.environ.get("DOCKER_HOST")
            else docker.DockerClient(base_url=address, timeout=TIMEOUT)
        )
        made.ping()
    except (docker.errors.DockerException, OSError) as error:
        if made is not None:
            made.close()
        raise PartMissing(f"the Docker engine at {address} does not answer: {error}. {HOW}") from None
    _clients[address] = made
    return made


def _knock(address: str) -> None:
    """Raises OSError when nothing listens on a socket of this machine: the client would leave its own open."""
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(10)
            probe.connect(address.removeprefix("unix://"))


def forget(address: str) -> None:
    """Close the client of an engine that goes away."""
    gone = _clients.pop(address, None)
    if gone is not None:
        gone.close()


@contextmanager
def failing(what: str) -> Iterator[None]:
    """The engine's errors inside the block become HarnessError, which says what could not be done."""
    import docker.errors
    import requests.exceptions

    try:
        yield
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        why = getattr(error, "explanation", None) or error
        raise HarnessError(f"{what}: {why}. See whether the engine at {url()} is well, and run it again") from error
