"""The judge of the demo and of the end-to-end tests: it must see every law broken that it claims to see."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from ipai_harness.observe.outcomes import Journey, OutcomeTimeout, broken_laws, describe, eventually

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def journey(sequence: int = 1, **changes: Any) -> Journey:
    values: dict[str, Any] = {
        "idempotency_key": f"key-{sequence}",
        "event_type": "res.partner.renamed",
        "aggregate_type": "res.partner",
        "aggregate_id": "7",
        "sequence": sequence,
        "outbox_status": "delivered",
        "attempts": 1,
        "last_error": None,
        "sent": {"name": "a"},
        "webhook_status": "completed",
        "webhook_error": None,
        "received": {"name": "a"},
        "log_rows": 1,
        "arrival": sequence,
        "outcome": "applied",
        "emitted_at": NOW,
        "received_at": NOW,
        "processed_at": NOW,
    }
    return Journey(**values | changes)


def test_nothing_is_wrong_with_events_that_arrived_once_and_in_order() -> None:
    assert broken_laws([journey(1), journey(2), journey(1, aggregate_id="8", arrival=3)]) == []
    assert broken_laws([]) == []


@pytest.mark.parametrize(
    ("seen", "law"),
    [
        ([journey(webhook_status=None, received=None, log_rows=0, arrival=None, outcome=None)], "law 1"),
        ([journey(outbox_status="dead")], "law 1"),
        ([journey(webhook_status="failed", webhook_error="no such function")], "law 1"),
        ([journey(outbox_status=None, attempts=None, sent=None)], "law 2"),
        ([journey(log_rows=2)], "law 3"),
        ([journey(log_rows=0)], "law 3"),
        ([journey(1), journey(3)], "law 4"),
        ([journey(1), journey(1)], "law 4"),
        ([journey(1, arrival=2), journey(2, arrival=1)], "law 4"),
        ([journey(1), journey(2, outcome="superseded")], "law 4"),
        ([journey(received={"name": "b"})], "law 6"),
    ],
)
def test_each_broken_law_is_seen_and_named(seen: list[Journey], law: str) -> None:
    found = broken_laws(seen)
    assert found
    assert all(line.startswith(law) for line in found)
    assert "res.partner,7" in found[0]


def test_waiting_ends_when_it_is_so() -> None:
    looks = iter([[], [journey()]])
    assert list(eventually(lambda: next(looks), bool, what="an event", timeout=5)) == [journey()]


def test_waiting_in_vain_says_what_was_last_seen() -> None:
    stuck = journey(webhook_status="failed", webhook_error="handler x: no such function")
    with pytest.raises(OutcomeTimeout) as caught:
        eventually(lambda: [stuck], lambda _: False, what="the event completed", timeout=0.01)
    assert "the event completed" in str(caught.value)
    assert describe(stuck) in str(caught.value)
    assert "no such function" in str(caught.value)
