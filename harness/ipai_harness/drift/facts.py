"""What is known about a difference: values only, read by `views` and `observed`, judged by `explain`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any

MODELS: Mapping[str, str] = {"project": "project.project", "task": "project.task"}
"""The entities of the drift views, and their models in Odoo."""

HEARD = timedelta(minutes=5)
"""A run of which nothing was heard for so long was cut off."""


class Kind(Enum):
    """Between what and what a difference is."""

    MISSING = "missing_in_odoo"
    """The plan has it, the shadow has not."""
    ORPHAN = "orphan_in_odoo"
    """The shadow has it, the plan has not; or it is a copy of what the plan means."""
    NAME = "name_drift"
    """The shadow's name is not the plan's, or not that of the cycle before."""
    NOT_IN_SHADOW = "not_in_shadow"
    """Odoo has it, the shadow has not."""
    NOT_IN_ODOO = "not_in_odoo"
    """The shadow has it, Odoo has not."""
    NAME_BEHIND = "name_behind"
    """The shadow's name is not Odoo's."""


@dataclass(frozen=True)
class Record:
    """A record as Odoo has it now."""

    odoo_id: int
    name: str | None
    active: bool
    external_ref: str | None
    written: datetime | None
    """When it, or the XML id that names it, was last written: on Odoo's clock, to the second."""
    writer: str | None
    """Who wrote it last."""


@dataclass(frozen=True)
class Shadow:
    """A record as the shadow has it."""

    odoo_id: int
    external_ref: str | None
    name: str | None
    active: bool | None
    synced_at: datetime
    previous_name: str | None
    written: str | None
    writer_id: int | None


@dataclass(frozen=True)
class Sent:
    """An event about the record in Odoo's outbox."""

    id: str
    event_type: str
    status: str
    """pending, delivered or dead."""
    attempts: int
    next_attempt_at: datetime | None
    last_error: str | None
    created_at: datetime


@dataclass(frozen=True)
class Received:
    """An event about the record in Supabase's inbox."""

    id: str
    event_type: str
    status: str
    """pending, processing, completed or failed."""
    retry_count: int
    error: str | None
    next_retry_at: datetime | None
    received_at: datetime


@dataclass(frozen=True)
class Tombstone:
    """What the sync saw disappear."""

    odoo_id: int
    name: str | None
    deleted_at: datetime
    run_id: int


@dataclass(frozen=True)
class LastRun:
    """The latest run of the finance sync."""

    status: str
    """running, success, partial or failed."""
    heard_at: datetime
    error: str | None

    def is_cut_off(self, now: datetime) -> bool:
        """Whether it says that it is running, and nothing was heard of it for long."""
        return self.status == "running" and now - self.heard_at > HEARD


@dataclass(frozen=True)
class Difference:
    """One row of a drift view, or one difference between Odoo and the shadow."""

    kind: Kind
    instance: str
    entity: str
    odoo_id: int | None
    external_ref: str | None
    name: str | None
    """In Odoo or, of what Odoo has not, in the shadow; of what neither has, in the plan."""
    other_name: str | None = None
    """The plan's name, or the one before (NAME); the shadow's (NAME_BEHIND)."""
    renamed: bool = False
    """NAME: the name changed between two sync cycles."""
    duplicate_of: int | None = None
    """ORPHAN: the record that the reference means."""


@dataclass(frozen=True)
class Facts:
    """All that is known about one difference."""

    difference: Difference
    now: datetime
    odoo_seen: bool
    """False: Odoo could not be asked."""
    outbox_seen: bool
    record: Record | None = None
    shadow: Shadow | None = None
    """The shadow's row of that record."""
    sent: Sequence[Sent] = ()
    received: Sequence[Received] = ()
    tombstone: Tombstone | None = None
    cursor: datetime | None = None
    """Up to when, on Odoo's clock, the sync has seen everything of this model; None: never."""
    last_run: LastRun | None = None

    @property
    def synced_since(self) -> bool:
        """Whether a complete sync has read Odoo after the record was last written."""
        written = self.record.written if self.record else None
        return self.cursor is not None and written is not None and written < self.cursor


def moment(text: Any) -> datetime | None:
    """Odoo's time, `YYYY-MM-DD HH:MM:SS` in UTC; None for anything else."""
    try:
        return datetime.strptime(str(text), "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def shown(when: datetime | None) -> str:
    """A time for people, in UTC."""
    return "?" if when is None else when.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
