"""Finds and removes what a stack has on an engine, by its labels: also for a stack whose harness was killed.

A stack is dead when its state file is gone or is another's, when the `with` block that it belonged to died with its
process, or when its `up` was cut off. Only what this user's state directory answers for is touched.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import Any

from ipai_harness.errors import HarnessError
from ipai_harness.stack import engine, paths, process, state
from ipai_harness.stack.images import digest
from ipai_harness.stack.locks import try_locked

STACK, TOKEN, HOME = (f"{engine.LABEL}.{name}" for name in ("stack", "token", "home"))

Filter = Mapping[str, str]


def home() -> str:
    """Tells this user's stacks from those of others on the same engine."""
    return digest(socket.gethostname(), str(paths.stacks()))


def labels(name: str, token: str) -> dict[str, str]:
    """What everything of a stack is marked with."""
    return {STACK: name, TOKEN: token, HOME: home()}


def of_token(token: str) -> Filter:
    """What belongs to the stack with this token."""
    return {"label": f"{TOKEN}={token}"}


def remove(client: Any, what: Filter) -> list[str]:
    """Remove containers, their volumes and networks; the names of what there was."""
    import docker.errors

    gone = []
    found = [*client.containers.list(all=True, filters=what, ignore_removed=True)]
    # Those whose network it is go last.
    for container in sorted(found, key=lambda container: container.name.endswith("-net")):
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(v=True, force=True)
        gone.append(container.name)
    for network in client.networks.list(filters=what):
        with contextlib.suppress(docker.errors.NotFound):
            network.remove()
        gone.append(network.name)
    for volume in client.volumes.list(filters=what):
        with contextlib.suppress(docker.errors.NotFound):
            volume.remove(force=True)
        gone.append(volume.name)
    return gone


def dead() -> list[str]:
    """The names of the stacks whose state file says that they are dead."""
    found = []
    for name in state.names():
        try:
            known = state.read(name)
        except (OSError, ValueError, HarnessError):
            continue
        if known.get("provider") != "docker":
            continue
        owner = known.get("owner")
        orphan = owner is not None and process.birth(owner[0]) != owner[1]
        with try_locked(state.lock(name)) as idle:
            if idle and (orphan or not known["ready"]):
                found.append(name)
    return found


def reap(client: Any) -> list[str]:
    """Remove what dead stacks have left on this engine; the names of what there was."""
    from ipai_harness.stack.docker import DockerStack

    gone = []
    for name in dead():
        with engine.unchanged():  # it may be gone with an engine of its own
            DockerStack(name).down()
        gone.append(name)
    mine = {"label": f"{HOME}={home()}"}
    found = [*client.containers.list(all=True, filters=mine, ignore_removed=True)]
    tokens = {container.labels.get(TOKEN) for container in found}
    tokens |= {network.attrs["Labels"].get(TOKEN) for network in client.networks.list(filters=mine)}
    # After that: a stack writes its state file before it makes anything.
    living = set()
    for name in state.names():
        with contextlib.suppress(OSError, ValueError, HarnessError):
            living.add(state.read(name)["token"])
    for token in sorted(token for token in tokens - living if token):
        gone += remove(client, of_token(token))
    return gone
