"""For Realtime's subscribers: a summary of what changed, broadcast on odoo-sync; and whether all is set up for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ipai_bridge.sync.client import FunctionClient, encode

__all__ = ["FUNCTION", "Announcement", "State", "announce", "state"]

FUNCTION = "realtime-sync"


@dataclass(frozen=True)
class Announcement:
    """What became of a broadcast."""

    sent: bool
    """Realtime took it; False: nothing had changed, so nothing was sent."""
    tables: list[dict[str, Any]]
    """Of each table in which something changed: `table`, `changed`, `highest_id`, `deleted`."""


@dataclass(frozen=True)
class State:
    """How Realtime stands."""

    complete: bool
    """Nothing is missing."""
    tables: list[dict[str, Any]]
    """Of each table: `name`, `published`, `rls`, `policies`, `readable`, and `missing`, a list."""
    slots: list[dict[str, Any]]
    """Realtime's replication slots: `name`, `active`, `lag_bytes`. None while nobody subscribes."""


def announce(client: FunctionClient) -> Announcement:
    """Tell subscribers what changed since they were last told. Raises SyncError: then the next time tells it."""
    said = client.request(encode({"action": "broadcast"}))
    return Announcement(said["sent"], said["summary"]["tables"])


def state(client: FunctionClient) -> State:
    """Whether each table is published, guarded and readable. Raises SyncError."""
    said = client.request(encode({"action": "status"}))
    return State(said["complete"], said["tables"], said["slots"])
