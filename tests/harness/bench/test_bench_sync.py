"""The measurement of the sync still runs, on the real parts. No figure is judged: machines differ."""

from __future__ import annotations

import pytest

from ipai_harness.bench import models, sync
from ipai_harness.bench.result import Report
from ipai_harness.stack.progress import quiet

pytestmark = pytest.mark.timeout(300)


def shape(report: Report) -> list[tuple[str, str, bool]]:
    assert all(value > 0 for figure in report.figures for value in figure.samples)
    assert all(len(figure.samples) == report.parameters["rounds"] for figure in report.figures)
    return [(figure.name, figure.unit, report.ratio(figure) is not None) for figure in report.figures]


def of(way: str) -> list[tuple[str, str, bool]]:
    return [
        (f"{way}: snapshot", "rows/s", True), (f"{way}: snapshot, seconds", "s", False),
        (f"{way}: increment, 1 %", "s", True), (f"{way}: peak at 200 tasks", "MiB", False),
        (f"{way}: peak at 2,000 tasks", "MiB", True),
    ]  # fmt: skip


@pytest.mark.stack
def test_through_the_real_function() -> None:
    report = sync.generated(quiet(), quick=True)
    assert shape(report) == [("COPY into a bare table", "rows/s", False), *of("generated")]


@pytest.mark.e2e
def test_out_of_a_real_odoo() -> None:
    report = sync.from_odoo(quiet(), quick=True)
    assert shape(report) == [("COPY into a bare table", "rows/s", False), *of("RPC"), *of("in process")]


@pytest.mark.stack
def test_the_models_of_the_catalog() -> None:
    report = models.generated(quiet(), quick=True)
    assert shape(report) == [
        ("COPY into a bare table", "models/s", False), ("first sync, with lineage", "models/s", True),
        ("first sync, seconds", "s", False), ("nothing changed, seconds", "s", True),
    ]  # fmt: skip
