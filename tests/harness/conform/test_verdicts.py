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


def name_of(value: object) -> str:
    return getattr(value, "__name__", "")


@pytest.fixture(scope="module")
def right(conform: Test) -> Report:
    return conform(Faultless)


def test_a_receiver_without_a_fault_passes(right: Report) -> None:
    assert [(result.case.id, result.problems) for result in right.failed] == []
    assert right.count(Outcome.PASSED) == len(all_cases()) > 120
    assert right.notes == []


@pytest.mark.parametrize(("fault", "cases"), faults.FAULTS.items(), ids=name_of)
def test_a_fault_fails_exactly_its_cases(conform: Test, fault: type[Faultless], cases: set[str]) -> None:
    assert failed(conform(fault)) == cases


@pytest.mark.parametrize(("fault", "shown"), answer_faults.FORMS.items(), ids=name_of)
def test_a_fault_of_the_answers_fails_where_they_are_given(
    conform: Test, right: Report, fault: type[Faultless], shown: tuple[str, set[str]]
) -> None:
    kind, but = shown
    results = right.results
    expected = {
        answer_faults.MALFORMED: ids(right, "invalid_event"),
        answer_faults.ERRORS: {one.case.id for one in results if one.exchanges[-1].answers[0].status != 200},
        answer_faults.WRONG: ids(right, "bad_signature"),
        answer_faults.ACCEPTED: ids(right, None),
        answer_faults.EVERY: {one.case.id for one in results},
    }[kind]
    assert failed(conform(fault)) == expected - but
