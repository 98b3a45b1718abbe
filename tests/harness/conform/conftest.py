"""Runs the kit against a receiver in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ipai_bridge.secret import Secret, generate_secret
from ipai_harness.conform.cases import selected
from ipai_harness.conform.runner import Report, new_bench, run
from tests.harness.conform.receiver import Faultless, serving

NEW_SECRET, OLD_SECRET = generate_secret().reveal(), generate_secret().reveal()
JWT = "header.claims.signature-of-a-test"

Test = Callable[..., Report]


@pytest.fixture(scope="session")
def conform() -> Test:
    def test(handler: type[Faultless], *words: str) -> Report:
        with serving(handler, [NEW_SECRET, OLD_SECRET]) as receiver:
            bench = new_bench([Secret(NEW_SECRET), Secret(OLD_SECRET)], JWT)
            return run(receiver.url, bench, selected(words), timeout=10)

    return test
