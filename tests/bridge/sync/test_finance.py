"""What the finance sync reads and sends, with both sides in memory."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipai_bridge.errors import OdooUnavailable, SyncError, SyncRefused
from ipai_bridge.event import MAX_BODY
from ipai_bridge.sync.finance import FIELDS, sync_finance
from ipai_bridge.sync.run import spans_of
from tests.bridge.sync.fakes import Odoo, Receiver, record, records

PROJECT, TASK = "project.project", "project.task"
CURSORS = {PROJECT: "2026-02-01 00:00:00", TASK: "2026-02-01 00:00:00"}


def odoo(*projects: int, tasks: tuple[int, ...] = ()) -> Odoo:
    return Odoo(project_project=records(*projects), project_task=records(*tasks), ir_model_data={})


@given(st.sets(st.integers(1, 60)), st.integers(1, 9))
def test_the_spans_of_a_snapshot_cover_everything_once(ids: set[int], size: int) -> None:
    receiver = Receiver()
    receiver.known[PROJECT] = set(range(1, 70))
    sync_finance(odoo(*ids), receiver, page_size=size)
    spans = [page["span"] for page in receiver.pages(PROJECT)]
    assert spans[0][0] == 0
    assert spans[-1][1] is None
    assert [span[1] for span in spans[:-1]] == [span[0] for span in spans[1:]]
    assert max(len(page["rows"]) for page in receiver.pages(PROJECT)) <= size
    assert receiver.known[PROJECT] == ids


@given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)), st.integers(1, 9))
def test_an_increment_ends_where_a_snapshot_would(ids: set[int], known: set[int], size: int) -> None:
    receiver = Receiver("increment", CURSORS)
    receiver.known[PROJECT] = set(known)
    sync_finance(odoo(*ids), receiver, page_size=size)
    assert receiver.known[PROJECT] == ids


def test_an_increment_begins_an_overlap_before_the_cursor() -> None:
    source = odoo(1)
    source.tables[PROJECT] |= {
        2: record(2, written="2026-01-31 23:44:59"),
        3: record(3, written="2026-01-31 23:45:00"),
        4: record(4, written="2026-02-01 00:00:00"),
    }
    receiver = Receiver("increment", CURSORS)
    receiver.known[PROJECT] = {1, 2, 3, 4}
    sync_finance(source, receiver)
    assert [row["raw"]["id"] for page in receiver.pages(PROJECT) for row in page["rows"]] == [3, 4]
    assert "span" not in receiver.pages(PROJECT)[0]
    assert receiver.requests[-1]["cursors"] == dict.fromkeys(FIELDS, "2026-03-01 00:00:00")


def test_the_cursor_never_goes_back_and_is_what_was_seen_without_a_clock() -> None:
    source = odoo(1)
    source.time = "2026-01-15 00:00:00"
    receiver = Receiver("increment", CURSORS)
    sync_finance(source, receiver)
    assert receiver.requests[-1]["cursors"] == CURSORS
    source.time = None
    receiver = Receiver()
    sync_finance(source, receiver)
    assert receiver.requests[-1]["cursors"] == {PROJECT: "2026-01-01 00:00:00", TASK: None}


def test_a_record_that_got_an_xml_id_is_read_again() -> None:
    source = odoo(1, 2, 3)
    source.tables["ir.model.data"] = {9: record(9, written="2026-02-02 00:00:00", model=PROJECT, res_id=2)}
    source.xml_ids = {2: "close.two"}
    receiver = Receiver("increment", CURSORS)
    receiver.known[PROJECT] = {1, 2, 3}
    sync_finance(source, receiver)
    assert [row["external_ref"] for page in receiver.pages(PROJECT) for row in page["rows"]] == ["close.two"]


@pytest.mark.parametrize(("value", "sent"), [("R-1", "R-1"), (False, None), ("", None)])
def test_the_reference_is_the_field_where_there_is_one(value: Any, sent: str | None) -> None:
    source = odoo(1)
    source.fields["x_external_ref"] = "char"
    source.tables[PROJECT][1]["x_external_ref"] = value
    source.xml_ids = {1: "not.this"}
    receiver = Receiver()
    sync_finance(source, receiver)
    assert receiver.pages(PROJECT)[0]["rows"][0]["external_ref"] == sent
    assert (PROJECT, "get_external_id") not in source.asked


def test_nothing_is_null_but_false_stays_false() -> None:
    source = odoo(1)
    source.tables[PROJECT][1] |= {"active": False, "name": False}
    receiver = Receiver()
    sync_finance(source, receiver)
    assert receiver.pages(PROJECT)[0]["rows"] == [
        {"external_ref": None, "raw": {"id": 1, "active": False, "name": None, "write_date": "2026-01-01 00:00:00"}}
    ]


def test_an_unreadable_record_is_an_error_and_hides_no_other() -> None:
    source = odoo(*range(1, 8))
    source.refused = {3, 5}
    receiver = Receiver()
    receiver.known[PROJECT] = {3, 9}
    sync_finance(source, receiver, page_size=4)
    pages = receiver.pages(PROJECT)
    assert [error["odoo_id"] for page in pages for error in page["errors"]] == [3, 5]
    assert receiver.known[PROJECT] == {1, 2, 3, 4, 6, 7}


def test_a_model_that_cannot_be_read_does_not_stop_the_other() -> None:
    source = odoo(1, 2)
    del source.tables[TASK]
    receiver = Receiver()
    report = sync_finance(source, receiver)
    assert (report.status, [error["entity"] for error in report.errors]) == ("partial", [TASK])
    assert receiver.requests[-1]["cursors"] == {PROJECT: "2026-03-01 00:00:00"}
    assert receiver.known[PROJECT] == {1, 2}


def test_a_page_is_never_larger_than_a_body_may_be() -> None:
    source = odoo(*range(1, 41))
    for number in range(1, 41):
        source.tables[PROJECT][number]["name"] = "€" * 30_000
    source.tables[PROJECT][7]["name"] = "x" * (MAX_BODY + 1)
    receiver = Receiver()
    sync_finance(source, receiver)
    assert max(receiver.sizes) <= MAX_BODY
    assert receiver.known[PROJECT] == set(range(1, 41)) - {7}
    assert [error["odoo_id"] for page in receiver.pages(PROJECT) for error in page["errors"]] == [7]
    spans = [page["span"] for page in receiver.pages(PROJECT)]
    assert len(spans) > 3
    assert [span[1] for span in spans[:-1]] == [span[0] for span in spans[1:]]


def test_whatever_breaks_a_run_ends_it_as_failed() -> None:
    source = odoo(1)
    receiver = Receiver()
    receiver.refuse = "page"
    with pytest.raises(SyncRefused):
        sync_finance(source, receiver)
    assert (receiver.requests[-1]["action"], receiver.requests[-1]["failed"]) == ("finish", True)

    class Gone(Odoo):
        def call(self, model: str, method: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
            raise OdooUnavailable

    receiver = Receiver()
    with pytest.raises(OdooUnavailable):
        sync_finance(Gone(), receiver)
    assert receiver.requests[-1]["failed"]


def test_a_cursor_of_somebody_else_is_refused() -> None:
    with pytest.raises(SyncError, match="--full"):
        sync_finance(odoo(1), Receiver("increment", dict.fromkeys(CURSORS, "page 7")))


@given(st.sets(st.integers(1, 400)))
def test_spans_of_ids(ids: set[int]) -> None:
    text = spans_of(sorted(ids))
    assert text[0] + text[-1] == "{}"
    pairs = [tuple(map(int, pair.split(","))) for pair in text[2:-2].split("],[")] if ids else []
    assert {number for low, high in pairs for number in range(low, high + 1)} == ids
    assert all(a[1] + 1 < b[0] for a, b in pairwise(pairs))
