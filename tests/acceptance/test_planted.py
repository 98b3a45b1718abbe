"""The planted faults still apply, and the suite notices them; all of them: `tox -e planted`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.faults import FAULTS
from tests.acceptance.planting import ROOT, Edit, Fault, plant, run


def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    assert len(FAULTS) >= 25
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_its_text_is_in_the_project_once(fault: Fault) -> None:
    for edit in fault.edits:
        assert (ROOT / edit.file).read_text().count(edit.old) == 1, edit
        assert edit.old != edit.new


def test_a_fault_that_applies_no_more_is_an_error(tmp_path: Path) -> None:
    stale = Fault("stale", "invoice", [Edit("ipai_bridge/bridge.py", "what nobody wrote", "anything")])
    with pytest.raises(LookupError, match="stands 0 times"):
        plant(stale, tmp_path)
    assert (tmp_path / "features" / "conftest.py").is_file()


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_a_fault_turns_a_scenario_red_and_no_fault_does_not() -> None:
    [off] = [fault for fault in FAULTS if fault.name == "signature check off"]
    noticed = run(off)
    assert noticed.noticed, noticed.said
    assert "A request with a body that was altered on its way is refused" in noticed.red[0]
    harmless = run(Fault("harmless", off.select, []))
    assert (harmless.red, harmless.green) == ([], 1), harmless.said
