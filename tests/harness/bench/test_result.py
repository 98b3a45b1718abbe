"""The form of a measurement, and the made-up Odoo that it reads."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ipai_bridge.errors import OdooRefused
from ipai_bridge.sync import finance
from ipai_harness.bench import command
from ipai_harness.bench.generated import AFTER, BEFORE, GeneratedOdoo
from ipai_harness.bench.result import Figure, Report, machine
from ipai_harness.bench.sender import measured, peak_memory
from ipai_harness.cli import main
from ipai_harness.errors import HarnessError
from tests.bridge.sync.fakes import Receiver

REPORT = Report(
    "sync", {"tasks": 100_000, "page size": 500}, {"date": "2026-01-01", "cpu": "2 cores of an abacus"},
    [Figure("COPY", "rows/s", [100.0, 300.0, 200.0]), Figure("snapshot", "rows/s", [20.0, 10.0, 60.5], "COPY")],
)  # fmt: skip


def test_median_spread_and_ratio() -> None:
    copied, snapshot = REPORT.figures
    assert (copied.low, copied.median, copied.high) == (100.0, 200.0, 300.0)
    assert (REPORT.ratio(copied), REPORT.ratio(snapshot)) == (None, 0.1)
    said = json.loads(json.dumps(REPORT.as_json()))
    assert said["figures"][1] == {
        "name": "snapshot", "unit": "rows/s", "samples": [20.0, 10.0, 60.5], "min": 10.0, "median": 20.0, "max": 60.5,
        "beside": "COPY", "ratio": 0.1,
    }  # fmt: skip
    assert REPORT.as_text().splitlines() == [
        "sync: tasks 100,000, page size 500",
        "2026-01-01; 2 cores of an abacus",
        "",
        "              median        min        max",
        "COPY             200        100        300 rows/s",
        "snapshot          20         10      60.50 rows/s  = 0.10 × COPY",
    ]


def test_the_machine_is_named() -> None:
    found = machine(postgres="PostgreSQL 15")
    assert {"date", "cpu", "memory", "python", "postgres"} == set(found)
    assert "cores of" in found["cpu"]


def test_what_is_made_up_is_what_the_sync_reads() -> None:
    receiver = Receiver()
    report = finance.sync_finance(GeneratedOdoo(3, 250), receiver, page_size=100)
    assert report.status == "success"
    pages = receiver.pages("project.task")
    rows = [row for page in pages for row in page["rows"]]
    assert [row["raw"]["id"] for row in rows] == list(range(1, 251))
    assert [page["span"] for page in pages] == [[0, 100], [100, 200], [200, None]]
    assert set(rows[0]["raw"]) == {"id", *finance.FIELDS["project.task"]}
    assert rows[0]["external_ref"] == "bench.task_1"
    assert receiver.requests[-1]["cursors"]["project.task"] > BEFORE


def test_an_increment_reads_what_was_changed_and_nothing_else() -> None:
    receiver = Receiver("increment", dict.fromkeys(finance.FIELDS, GeneratedOdoo(1, 1).clock()))
    receiver.known = {"project.project": set(range(1, 4)), "project.task": set(range(1, 251))}
    finance.sync_finance(GeneratedOdoo(3, 250, every=100), receiver, page_size=1)
    rows = [row["raw"] for page in receiver.pages("project.task") for row in page["rows"]]
    assert [(row["id"], row["write_date"]) for row in rows] == [(100, AFTER), (200, AFTER)]


@pytest.mark.parametrize(
    "ask",
    [
        lambda odoo: odoo.call("project.task", "unlink", [1]),
        lambda odoo: odoo.call("project.task", "search_read", [("name", "=", "x")], ["name"], limit=1),
        lambda odoo: odoo.call("project.task", "search_read", [("id", "<", 5)], ["name"], limit=1),
    ],
)
def test_what_is_not_made_up_is_refused(ask: Callable[[GeneratedOdoo], object]) -> None:
    with pytest.raises(OdooRefused, match="not made up"):
        ask(GeneratedOdoo(1, 5))


def test_a_sync_that_did_not_succeed_is_no_measurement() -> None:
    said = {"seconds": 1.0, "peak": 30.0, "report": {"status": "partial", "errors": ["no access"]}}
    with pytest.raises(HarnessError, match="partial"):
        measured(said)


def test_the_peak_is_this_programs_own() -> None:
    before = peak_memory()
    taken = bytearray(64 * 2**20)
    assert peak_memory() >= before
    assert peak_memory() > len(taken) / 2**20


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[object] = []

    def measure(*_: object, **options: object) -> Report:
        asked.append(options)
        return REPORT

    monkeypatch.setattr(command, "SUBJECTS", {"sync": measure})
    assert main(["bench", "sync", "--quick", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == REPORT.as_json()
    assert main(["bench", "sync", "--rounds", "2", "--page-size", "100"]) == 0
    assert capsys.readouterr().out == REPORT.as_text() + "\n"
    assert asked == [
        {"quick": True, "rounds": None, "page_size": 500}, {"quick": False, "rounds": 2, "page_size": 100}
    ]  # fmt: skip
    for wrong in (["bench", "nothing"], ["bench", "sync", "--rounds", "0"]):
        with pytest.raises(SystemExit) as end:
            main(wrong)
        assert end.value.code == 2
