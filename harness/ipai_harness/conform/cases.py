"""All cases, in the order in which a receiver looks at a request."""

from __future__ import annotations

from collections.abc import Sequence

from ipai_harness.conform import content, delivery, trust
from ipai_harness.conform.case import Case


def all_cases() -> list[Case]:
    """Every case; each `group/name` once."""
    groups = (
        trust.gateway, content.http, trust.signature, trust.timestamp, delivery.standard, delivery.key, delivery.hints,
        content.accepted, content.malformed, content.fields,
    )  # fmt: skip
    return [case for group in groups for case in group()]


def selected(words: Sequence[str]) -> list[Case]:
    """The cases whose `group/name` holds one of the words; all without a word."""
    return [case for case in all_cases() if not words or any(word in case.id for word in words)]
