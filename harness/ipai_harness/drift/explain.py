"""From the facts about a difference to the one reason for it. Pure.

The shadow is filled by the scheduled sync, so what Odoo has and the shadow has not (or names otherwise) is explained by
how far its news came: the outbox, the inbox, the last run. What the plan and Odoo disagree about is somebody's act.
Events count from the moment on up to which the sync has seen everything: an older one explains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

from ipai_harness.drift.facts import Difference, Facts, Kind, Received, Sent, shown

OUTBOX_UNSEEN = "outbox not visible: give --odoo-dsn, or IPAI_HARNESS_ODOO_DSN"
ODOO_UNSEEN = "Odoo not visible: give IPAI_BRIDGE_ODOO_URL, _DB, _LOGIN and _PASSWORD"


class Why(Enum):
    """The reasons. Exactly one is given for each difference."""

    DUPLICATE = "duplicate_reference"
    DELETED = "deleted"
    ARCHIVED = "archived"
    RENAMED = "renamed"
    NAMED_OTHERWISE = "named_otherwise"
    NOT_PLANNED = "not_planned"
    DEAD = "dead_in_outbox"
    WAITING = "waiting_in_outbox"
    NOT_SWEPT = "not_swept"
    SYNC_INCOMPLETE = "sync_incomplete"
    NOT_SYNCED = "not_synced"
    NEVER_SENT = "never_sent"
    ABSENT = "absent_in_odoo"
    NOT_VISIBLE = "not_visible"
    UNEXPLAINED = "unexplained"


MEANING = {
    Why.DUPLICATE: "several records, or several references of one record: which one is meant is in the evidence",
    Why.DELETED: "deleted in Odoo",
    Why.ARCHIVED: "archived in Odoo, and not planned",
    Why.RENAMED: "somebody renamed it in Odoo",
    Why.NAMED_OTHERWISE: "it was never seen under the planned name",
    Why.NOT_PLANNED: "nobody planned it",
    Why.DEAD: "its event was given up: --reconcile, or `ipai-bridge outbox retry`",
    Why.WAITING: "its event waits in the outbox: does the relay run, does Supabase answer?",
    Why.NOT_SWEPT: "its event arrived and is not processed",
    Why.SYNC_INCOMPLETE: "the sync did not come to its end: run `ipai-bridge sync finance`",
    Why.NOT_SYNCED: "its event was delivered, and no complete sync has run since",
    Why.NEVER_SENT: "no event, and no complete sync since",
    Why.ABSENT: "Odoo has never had it under this reference, as far as is known",
    Why.NOT_VISIBLE: "what would tell could not be looked at",
    Why.UNEXPLAINED: "a complete sync has run since, and did not bring it: run `ipai-bridge sync finance --full`",
}


@dataclass(frozen=True)
class Explained:
    """A difference, why it is there, and what shows it."""

    facts: Facts
    why: Why
    text: str
    """One line for people."""
    evidence: dict[str, Any]
    event: str | None = None
    """The event that is to blame."""

    @property
    def difference(self) -> Difference:
        """What is explained."""
        return self.facts.difference

    def as_json(self) -> dict[str, Any]:
        """The form that `drift --json` prints."""
        one = self.difference
        return {
            "kind": one.kind.value, "instance": one.instance, "entity": one.entity, "odoo_id": one.odoo_id,
            "external_ref": one.external_ref, "name": one.name, "other_name": one.other_name, "why": self.why.value,
            "text": self.text, "evidence": self.evidence,
        }  # fmt: skip


def explain(facts: Facts) -> Explained:
    """The one reason for a difference."""
    return {
        Kind.MISSING: _missing, Kind.ORPHAN: _orphan, Kind.NAME: _name, Kind.NOT_IN_SHADOW: _on_its_way,
        Kind.NOT_IN_ODOO: _not_in_odoo, Kind.NAME_BEHIND: _name_behind,
    }[facts.difference.kind](facts)  # fmt: skip


def _missing(facts: Facts) -> Explained:
    record, grave, shadow = facts.record, facts.tombstone, facts.shadow
    if record is not None:
        reference = facts.difference.external_ref
        if shadow is not None and record.external_ref == shadow.external_ref != reference:
            text = f"record {record.odoo_id} has this reference too, but counts as {record.external_ref!r}, its first"
            return _because(facts, Why.DUPLICATE, text, meant=record.external_ref, records=[record.odoo_id])
        return _on_its_way(facts)
    if grave is not None:
        gone = "gone" if facts.odoo_seen else "not looked at"
        text = f"it was record {grave.odoo_id}, seen deleted {shown(grave.deleted_at)}, in run {grave.run_id}"
        return _because(
            facts, Why.DELETED, text, odoo_id=grave.odoo_id, last_name=grave.name, in_odoo=gone,
            seen_deleted_at=grave.deleted_at.isoformat(), run=grave.run_id,
        )  # fmt: skip
    if not facts.odoo_seen:
        return _because(facts, Why.NOT_VISIBLE, ODOO_UNSEEN)
    return _because(facts, Why.ABSENT, "no record of Odoo has this reference, and none that had it is known")


def _orphan(facts: Facts) -> Explained:
    one, record = facts.difference, facts.record
    if one.duplicate_of is not None:
        text = f"a copy: record {one.duplicate_of}, the oldest, is the one that {one.external_ref!r} means"
        return _because(facts, Why.DUPLICATE, text, meant=one.duplicate_of, records=[one.duplicate_of, one.odoo_id])
    if facts.odoo_seen and record is None:
        return _not_in_odoo(facts)
    active = record.active if record else facts.shadow is None or facts.shadow.active is not False
    reference = f"its reference {one.external_ref!r} is in no plan" if one.external_ref else "it has no reference"
    why = Why.NOT_PLANNED if active else Why.ARCHIVED
    return _because(facts, why, f"{'' if active else 'archived; '}{reference}", active=active)


def _not_in_odoo(facts: Facts) -> Explained:
    text = f"Odoo has it no more; the shadow does, as of {shown(facts.shadow.synced_at if facts.shadow else None)}"
    return _because(facts, Why.DELETED, f"{text}; {_run(facts)}", in_odoo="gone", last_run=_run(facts))


def _name(facts: Facts) -> Explained:
    one, shadow = facts.difference, facts.shadow
    before = shadow.previous_name if shadow else None
    if one.renamed or (before is not None and before != one.name):
        return _renamed(facts, before if one.renamed or before is not None else one.other_name)
    text = f"it has been {one.name!r} since it was first seen, and was planned as {one.other_name!r}; {_writer(facts)}"
    return _because(facts, Why.NAMED_OTHERWISE, text, planned=one.other_name, **_written(facts))


def _name_behind(facts: Facts) -> Explained:
    """Renamed; unless its news got stuck, which is what has to be mended."""
    stuck = _stuck(facts)
    return stuck if stuck is not None else _renamed(facts, facts.difference.other_name)


def _renamed(facts: Facts, before: str | None) -> Explained:
    name = facts.difference.name
    text = f"from {before!r} to {name!r}; {_writer(facts)}"
    behind = f"; {_run(facts)}" if facts.difference.kind is Kind.NAME_BEHIND else ""
    return _because(facts, Why.RENAMED, text + behind, old=before, new=name, **_written(facts))


def _on_its_way(facts: Facts) -> Explained:
    """Odoo has it, and the shadow does not yet."""
    stuck = _stuck(facts)
    if stuck is not None:
        return stuck
    if facts.record is None:
        return _because(facts, Why.NOT_VISIBLE, ODOO_UNSEEN)
    known = [*_recent(facts, facts.sent), *_recent(facts, facts.received)]
    if known:
        text = f"{known[-1].event_type} was delivered; {_run(facts)}"
        return _because(facts, Why.NOT_SYNCED, text, event=known[-1].id, last_run=_run(facts))
    events = "no event of it in the outbox" if facts.outbox_seen else OUTBOX_UNSEEN
    when = f"written {shown(facts.record.written)}"
    return _because(
        facts, Why.NEVER_SENT, f"{when}, {_run(facts)}, and {events}", last_run=_run(facts), outbox=events,
        **_written(facts),
    )  # fmt: skip


def _stuck(facts: Facts) -> Explained | None:
    """Where the news of a record got stuck, if anywhere that can be told."""
    if facts.synced_since:
        text = f"a complete sync has seen Odoo as of {shown(facts.cursor)}, written was this {_when(facts)}"
        return _because(facts, Why.UNEXPLAINED, text, cursor=_iso(facts.cursor), **_written(facts))
    sent, received = _recent(facts, facts.sent), _recent(facts, facts.received)
    for event in sent:
        if event.status == "dead":
            text = f"{event.event_type} was given up after {event.attempts} attempts: {event.last_error}"
            return _because(facts, Why.DEAD, text, event=event.id, attempts=event.attempts, error=event.last_error)
    for event in sent:
        if event.status == "pending":
            after = f": {event.last_error}" if event.last_error else ""
            text = f"{event.event_type}: {event.attempts} attempts, the next {shown(event.next_attempt_at)}{after}"
            return _because(
                facts, Why.WAITING, text, event=event.id, attempts=event.attempts, error=event.last_error,
                next_attempt_at=_iso(event.next_attempt_at),
            )  # fmt: skip
    for arrived in received:
        if arrived.status != "completed":
            again = f"again {shown(arrived.next_retry_at)}" if arrived.next_retry_at else "not by itself again"
            what = f"failed {arrived.retry_count} times, {again}" if arrived.status == "failed" else arrived.status
            text = f"{arrived.event_type} arrived {shown(arrived.received_at)}: {what}"
            return _because(
                facts, Why.NOT_SWEPT, f"{text}: {arrived.error}" if arrived.error else text, event=arrived.id,
                status=arrived.status, error=arrived.error, next_retry_at=_iso(arrived.next_retry_at),
            )  # fmt: skip
    written = facts.record.written if facts.record else None
    run = facts.last_run
    # Odoo's clock tells whole seconds.
    if run and run.status != "success" and (written is None or run.heard_at + timedelta(seconds=1) > written):
        return _because(facts, Why.SYNC_INCOMPLETE, _run(facts), status=run.status, error=run.error)
    return None


def _recent(facts: Facts, events: Sequence[Sent] | Sequence[Received]) -> list[Any]:
    """Those since the last complete sync began."""
    found: list[Any] = []
    for event in events:
        when = event.created_at if isinstance(event, Sent) else event.received_at
        if facts.cursor is None or when >= facts.cursor:
            found.append(event)
    return found


def _run(facts: Facts) -> str:
    run = facts.last_run
    if run is None:
        return "no sync has run"
    when = shown(run.heard_at)
    if run.status == "success":
        return f"the last complete sync was {when}"
    cut = run.is_cut_off(facts.now)
    said = "was cut off" if cut else "is under way" if run.status == "running" else f"ended {run.status}"
    return f"the last sync {said}, {when}" + (f": {run.error}" if run.error else "")


def _writer(facts: Facts) -> str:
    return f"last written by {_who(facts)}, {_when(facts)}"


def _who(facts: Facts) -> str:
    if facts.record is not None and facts.record.writer is not None:
        return facts.record.writer
    number = facts.shadow.writer_id if facts.shadow else None
    return f"user {number} (whose name only Odoo tells)" if number else "somebody unknown"


def _when(facts: Facts) -> str:
    if facts.record is not None:
        return shown(facts.record.written)
    return f"{facts.shadow.written} UTC" if facts.shadow and facts.shadow.written else "?"


def _written(facts: Facts) -> dict[str, Any]:
    return {"by": _who(facts), "at": _when(facts)}


def _iso(when: Any) -> str | None:
    return None if when is None else str(when.isoformat())


def _because(facts: Facts, why: Why, text: str, *, event: str | None = None, **evidence: Any) -> Explained:
    if event is not None:
        evidence["event"] = event
    return Explained(facts, why, " ".join(text.split()), evidence, event)
