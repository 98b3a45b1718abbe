"""Waiting until something is so, and saying what was seen when it never was."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["TIMEOUT", "until"]

TIMEOUT = 45.0
"""Seconds a step waits: several of the relay's retries, and a sweep."""

T = TypeVar("T")


def until(
    look: Callable[[], T],
    so: Callable[[T], object] = bool,
    *,
    what: str,
    timeout: float = TIMEOUT,
    interval: float = 0.05,
) -> T:
    """What was seen once it was `so`. Raises `AssertionError` that tells what was seen last."""
    deadline = time.monotonic() + timeout
    while True:
        seen = look()
        if so(seen):
            return seen
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}. Last seen: {shown(seen)}")
        time.sleep(interval)


def shown(value: object, limit: int = 2_000) -> str:
    """A value for people: one line each, cut where it gets long."""
    lines = [f"\n  {one!s}" for one in value] if isinstance(value, (list, tuple)) and value else [repr(value)]
    text = "".join(lines)
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text):,} characters)"
