"""The kit's verdicts: a receiver without a fault passes entirely; a fault fails exactly the cases that ask about it."""

from __future__ import annotations

import pytest

from ipai_harness.conform.cases import all_cases
from ipai_harness.conform.judge import code_of
from ipai_harness.conform.runner import Outcome, Report
from tests.harness.conform import answer_faults, faults
from tests.harness.conform.conftest import Test
from tests.harness.conform.receiver import Faultless


def failed(report: Report) -> set[str]:
    return {result.case.id for result in report.failed}


def ids(report: Report, *codes: str | None) -> set[str]:
    """The cases of which an answer has one of these error codes; None is that of a 200."""
    return {
        result.case.id
        for result in report.results
        if any(code_of(answer) in codes for exchange in result.exchanges for answer in exchange.answers)
    }


@pytest.fixture(scope="module")
def right(conform: Test) -> Report:
    return conform(Faultless)


def test_a_receiver_without_a_fault_passes(right: Report) -> None:
    assert [(result.case.id, result.problems) for result in right.failed] == []
    assert right.count(Outcome.PASSED) == len(all_cases()) > 120
    assert right.notes == []


@pytest.mark.parametrize(("fault", "cases"), faults.FAULTS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_fault_fails_exactly_its_cases(conform: Test, fault: type[Faultless], cases: set[str]) -> None:
    assert failed(conform(fault)) == cases


@pytest.mark.parametrize(
    ("fault", "shown"), answer_faults.FORMS.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_a_fault_of_the_answers_fails_where_they_are_given(
    conform: Test, right: Report, fault: type[Faultless], shown: tuple[str, set[str]]
) -> None:
    every = {result.case.id for result in right.results}
    accepted = ids(right, None)
    last = {
        result.case.id for result in right.results if any(e.answers[0].status != 200 for e in result.exchanges)
    }  # fmt: skip
    expected = {
        answer_faults.MALFORMED: ids(right, "invalid_event"), answer_faults.ERRORS: last, answer_faults.WRONG: ids(right, "bad_signature"),
        answer_faults.ACCEPTED: accepted, answer_faults.EVERY: every,
    }[shown[0]]  # fmt: skip
    assert failed(conform(fault)) == expected - shown[1]
