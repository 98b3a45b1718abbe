"""Finds every difference and gives each its facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ipai_harness.drift.explain import ODOO_UNSEEN, OUTBOX_UNSEEN, Explained, explain
from ipai_harness.drift.facts import MODELS, Difference, Facts, Kind, Record
from ipai_harness.drift.observed import Odoo, Outbox
from ipai_harness.drift.views import Views

Progress = Callable[[str, int], None]


@dataclass
class Report:
    """What was found, and what could not be looked at."""

    instances: Sequence[str]
    explained: list[Explained] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """How many differences there are of each reason."""
        found: dict[str, int] = {}
        for one in self.explained:
            found[one.why.value] = found.get(one.why.value, 0) + 1
        return dict(sorted(found.items()))

    def as_json(self) -> dict[str, Any]:
        """The form that `drift --json` prints."""
        rows = [one.as_json() for one in self.explained]
        return {"instances": list(self.instances), "drift": rows, "counts": self.counts(), "unseen": self.unseen}


@dataclass
class Sides:
    """What can be looked at. Without Odoo or its outbox, less can be told."""

    views: Views
    odoo: Odoo | None = None
    outbox: Outbox | None = None

    def close(self) -> None:
        """Close the connections."""
        self.views.close()
        if self.outbox is not None:
            self.outbox.close()


def look(
    sides: Sides,
    instances: Sequence[str],
    entities: Sequence[str] = tuple(MODELS),
    progress: Progress = lambda _what, _done: None,
) -> Report:
    """Every difference of these instances, explained."""
    report = Report(instances)
    if sides.outbox is None:
        report.unseen.append(OUTBOX_UNSEEN)
    if sides.odoo is None:
        report.unseen.append(ODOO_UNSEEN)
    for instance in instances:
        odoo = sides.odoo if sides.odoo is not None and sides.odoo.instance == instance else None
        if odoo is None and sides.odoo is not None:
            report.unseen.append(f"{instance}: the Odoo that is given is that of the instance {sides.odoo.instance!r}")
        for entity in entities:
            found = sides.views.differences(instance, entity)
            if odoo is not None:
                found += _told(odoo.differences(sides.views, entity), MODELS[entity], progress)
            report.explained += [
                explain(facts) for facts in _facts(sides, odoo, instance, entity, found) if _still(facts)
            ]
    if sides.odoo is not None and sides.odoo.unreadable:
        report.unseen.append(f"{sides.odoo.unreadable} records of Odoo that this user may not read")
    return report


def _told(found: Any, what: str, progress: Progress) -> list[Difference]:
    kept = []
    for one in found:
        kept.append(one)
        progress(f"{what}: differences", len(kept))
    return kept


def _facts(
    sides: Sides, odoo: Odoo | None, instance: str, entity: str, found: Sequence[Difference]
) -> list[Facts]:  # fmt: skip
    at = (instance, entity)
    missing = [one.external_ref for one in found if one.kind is Kind.MISSING and one.external_ref]
    named: dict[str, Record] = odoo.referenced(entity, missing) if odoo else {}
    meant = {
        one: one.odoo_id or (named[ref].odoo_id if (ref := one.external_ref or "") in named else 0) for one in found
    }
    ids = {number for number in meant.values() if number}
    records = odoo.records(entity, ids) if odoo else {}
    shadow = sides.views.shadow(*at, ids)
    graves = sides.views.tombstones(*at, missing)
    received = sides.views.received(*at, ids)
    sent = sides.outbox.sent(*at, ids) if sides.outbox else {}
    cursor, last_run = sides.views.cursor(*at), sides.views.last_run(instance)
    now = datetime.now(timezone.utc)
    return [
        Facts(
            one, now, odoo is not None, sides.outbox is not None,
            record=named.get(one.external_ref or "") if one.kind is Kind.MISSING else records.get(meant[one]),
            shadow=shadow.get(meant[one]), sent=sent.get(meant[one], ()), received=received.get(meant[one], ()),
            tombstone=graves.get(one.external_ref or "") if one.kind is Kind.MISSING else None,
            cursor=cursor, last_run=last_run,
        )
        for one in found
    ]  # fmt: skip


def _still(facts: Facts) -> bool:
    """Whether Odoo and the shadow differ at the second look, too: people go on working meanwhile."""
    one, record, shadow = facts.difference, facts.record, facts.shadow
    if one.kind is Kind.NOT_IN_SHADOW:
        return record is not None and shadow is None
    if one.kind is Kind.NOT_IN_ODOO:
        return record is None and shadow is not None
    if one.kind is Kind.NAME_BEHIND:
        return record is not None and shadow is not None and record.name != shadow.name
    return True
