"""scout_gold: the figures against a plain reading of the events."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from tests.supabase.conftest import Sql


def post(
    sql: Sql, move: str, event_type: str = "account.move.posted", instance: str = "default", **payload: Any
) -> int:
    event_id, _, verdict = sql.ingest(move, event_type=event_type, payload=json.dumps(payload), instance=instance)
    assert verdict == "accepted"
    sql("select odoo.process_event(%s)", event_id)
    return int(event_id)


def revenue(sql: Sql) -> list[Any]:
    return sql(
        "select instance, month, currency, invoices, refunds, revenue, without_amount from scout_gold.v_revenue_summary "
        "order by instance, month, currency"
    )


EUR = {"id": 1, "display_name": "EUR"}


def test_revenue_by_month(sql: Sql) -> None:
    post(sql, "1", invoice_date="2026-01-31", amount_untaxed=100.10, amount_total=119.0, currency_id=EUR)
    post(sql, "2", invoice_date="2026-01-01", amount_total=50.2, currency_id=EUR, move_type="out_invoice")
    post(sql, "3", invoice_date="2026-01-15", amount_untaxed=30, currency_id=EUR, move_type="out_refund")
    post(sql, "4", invoice_date="2026-02-01", amount_untaxed=7, currency_id=EUR)
    post(sql, "5", invoice_date="2026-01-01", amount_untaxed=7, currency_id="USD")
    post(sql, "6", invoice_date="2026-01-01", amount_untaxed=1000, currency_id=EUR, move_type="in_invoice")
    post(sql, "7", invoice_date="2026-01-01", amount_untaxed=1000, currency_id=EUR, move_type="entry")
    post(sql, "1", invoice_date="2026-01-31", amount_untaxed=9, currency_id=EUR, instance="other")
    assert revenue(sql) == [
        ("default", date(2026, 1, 1), "EUR", 2, 1, Decimal("120.30"), 0),
        ("default", date(2026, 1, 1), "USD", 1, 0, Decimal(7), 0),
        ("default", date(2026, 2, 1), "EUR", 1, 0, Decimal(7), 0),
        ("other", date(2026, 1, 1), "EUR", 1, 0, Decimal(9), 0),
    ]


def test_an_invoice_counts_once_and_not_when_it_was_taken_back(sql: Sql) -> None:
    post(sql, "1", invoice_date="2026-01-01", amount_untaxed=10)
    post(sql, "1", invoice_date="2026-01-01", amount_untaxed=20)
    assert [row[5] for row in revenue(sql)] == [20]
    post(sql, "1", "account.move.paid", state="posted")
    assert [row[5] for row in revenue(sql)] == [20]
    post(sql, "1", "account.move.reset", state="draft")
    assert revenue(sql) == []
    post(sql, "1", invoice_date="2026-01-01", amount_untaxed=30)
    assert [row[5] for row in revenue(sql)] == [30]
    post(sql, "1", "account.move.cancelled", state="cancel")
    assert revenue(sql) == []


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"invoice_date": False},
        {"invoice_date": "2026-13-45"},
        {"invoice_date": "soon", "amount_total": "12"},
        {"date": []},
    ],
)
def test_what_the_event_does_not_say_is_counted_and_breaks_nothing(sql: Sql, payload: dict[str, Any]) -> None:
    post(sql, "1", **payload)
    [(month,)] = sql("select date_trunc('month', now() at time zone 'UTC')::date")
    assert revenue(sql) == [("default", month, None, 1, 0, Decimal(0), 1)]


def test_pending_events_are_no_revenue(sql: Sql) -> None:
    sql.ingest(payload='{"amount_total": 5}')
    assert revenue(sql) == []


def test_the_volume_is_as_of_its_refresh_which_keeps_nobody_out(sql: Sql) -> None:
    post(sql, "1")
    sql.ingest("2")
    sql("refresh materialized view scout_gold.mv_event_volume")
    volume = "select instance, event_type, events, applied, failed from scout_gold.mv_event_volume"
    assert sql(volume) == [("default", "account.move.posted", 2, 1, 0)]
    post(sql, "3")
    assert sql(volume)[0][2] == 2
    sql("refresh materialized view concurrently scout_gold.mv_event_volume")
    assert sql(volume)[0][2] == 3
