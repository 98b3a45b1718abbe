"""The retry table, row by row, and what holds for any input."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ipai_bridge.delivery.retry import Decision, RetryPolicy, Verdict, decide, parse_retry_after

POLICY = RetryPolicy()
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
DAY = 86_400.0

statuses = st.none() | st.integers(100, 999)
jitters = st.floats(0, 1, exclude_max=True)
seconds = st.floats(0, 1e12)


def decided(status: int | None, **changes: object) -> Decision:
    values: dict[str, object] = {"attempt": 1, "trying_for": 0.0, "policy": POLICY, "jitter": 0.5}
    return decide(status, **(values | changes))  # type: ignore[arg-type]


# --- the table


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_2xx_is_delivered(status: int) -> None:
    assert decided(status) == Decision(Verdict.DELIVERED, 0.0)


@pytest.mark.parametrize("status", [None, 401, 408, 425, 429, 500, 502, 503, 504, 520, 546, 599, 600, 999])
def test_what_may_pass_is_tried_again(status: int | None) -> None:
    assert decided(status) == Decision(Verdict.AGAIN, 0.5)


@pytest.mark.parametrize("status", [100, 101, 102, 103, 199])
def test_an_interim_answer_is_no_answer(status: int) -> None:
    assert decided(status).verdict is Verdict.AGAIN


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_a_redirect_is_dead_at_once(status: int) -> None:
    assert decided(status) == Decision(Verdict.DEAD, 0.0)


@pytest.mark.parametrize("status", [400, 402, 403, 404, 405, 406, 409, 411, 412, 413, 414, 415, 422, 431, 451, 499])
def test_what_would_be_refused_again_is_dead_at_once(status: int) -> None:
    assert decided(status) == Decision(Verdict.DEAD, 0.0)


def test_gone_stops_and_keeps_the_event_for_later() -> None:
    assert decided(410) == Decision(Verdict.GONE)
    # Even when its time is over: what the endpoint says is about the endpoint, not about the event.
    assert decided(410, trying_for=10 * DAY).verdict is Verdict.GONE


@given(
    status=statuses, attempt=st.integers(-(2**70), 2**70), trying_for=seconds, jitter=jitters, asked=st.none() | seconds
)
def test_every_status_has_a_decision_and_no_delay_is_absurd(
    status: int | None, attempt: int, trying_for: float, jitter: float, asked: float | None
) -> None:
    decision = decided(status, attempt=attempt, trying_for=trying_for, jitter=jitter, retry_after=asked)
    assert 0 <= decision.delay <= max(POLICY.cap, POLICY.retry_after_cap)
    assert (decision.verdict is Verdict.DELIVERED) == (status is not None and 200 <= status < 300)
    if decision.verdict is Verdict.AGAIN:
        assert trying_for + decision.delay <= POLICY.give_up_after
    if decision.verdict is Verdict.DEAD and (status is None or status in {401, 408, 425, 429} or status >= 500):
        assert trying_for + max(POLICY.cap, POLICY.retry_after_cap) >= POLICY.give_up_after


# --- backoff


@given(attempt=st.integers(1, 10_000), jitter=jitters)
@example(attempt=10_000, jitter=0.999999)
@example(attempt=2**80, jitter=0.999999)
def test_backoff_is_bounded_before_and_after_the_jitter(attempt: int, jitter: float) -> None:
    bound = POLICY.backoff(attempt, 1.0)
    assert 0 < bound <= POLICY.cap
    assert 0 <= POLICY.backoff(attempt, jitter) <= bound


@given(attempt=st.integers(1, 10_000))
def test_the_bound_never_falls(attempt: int) -> None:
    assert POLICY.backoff(attempt, 1.0) <= POLICY.backoff(attempt + 1, 1.0)


def test_the_bound_doubles_up_to_the_cap() -> None:
    bounds = [POLICY.backoff(attempt, 1.0) for attempt in range(1, 13)]
    assert bounds == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


@pytest.mark.parametrize("attempt", [0, -1, -(2**80)])
def test_a_poisoned_counter_does_not_stop_the_relay(attempt: int) -> None:
    assert POLICY.backoff(attempt, 1.0) == POLICY.base


def test_the_cap_holds_for_the_first_attempt_too() -> None:
    assert RetryPolicy(base=50.0, cap=10.0).backoff(1, 1.0) == 10.0


# --- giving up


def test_tried_again_for_three_days_then_dead() -> None:
    assert decided(503, attempt=300, trying_for=3 * DAY - 451).verdict is Verdict.AGAIN
    assert decided(503, attempt=300, trying_for=3 * DAY - 449).verdict is Verdict.DEAD  # the next one is 450 s away


def test_no_number_of_attempts_is_too_many_while_there_is_time() -> None:
    assert decided(503, attempt=10**9).verdict is Verdict.AGAIN


# --- Retry-After


def test_retry_after_is_honoured_where_it_is_longer_and_capped() -> None:
    assert decided(429, retry_after=30.0).delay == 30.0
    assert decided(429, retry_after=0.0).delay == 0.5
    assert decided(429, attempt=10, retry_after=30.0).delay == 256.0
    assert decided(503, retry_after=1e9).delay == POLICY.retry_after_cap


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        ("  7 ", 7.0),
        ("9" * 5000, 999_999_999.0),
        ("-5", None),
        ("1.5", None),
        ("1e9", None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("٣", None),
        ("²", None),
        ("Thu, 01 Jan 2026 00:02:00 GMT", 120.0),
        ("Thursday, 01-Jan-26 00:02:00 GMT", 120.0),
        ("Thu, 01 Jan 2026 01:02:00 +0100", 120.0),
        ("Thu, 01 Jan 2026 00:02:00 -0000", 120.0),
        ("Wed, 31 Dec 2025 23:59:00 GMT", 0.0),
        ("Thu, 32 Jan 2026 00:02:00 GMT", None),
        ("Thu, 01 Jan 2026 00:02:00 +9999", None),
        ("Thu, 01 Jan 99999999 00:02:00 GMT", None),
    ],
)
def test_retry_after_as_seconds_or_as_a_date(value: str | None, expected: float | None) -> None:
    assert parse_retry_after(value, now=NOW) == expected


@given(away=st.integers(-(10**9), 10**9))
def test_a_date_is_as_far_away_as_it_says(away: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=away), usegmt=True)
    assert parse_retry_after(date, now=NOW) == max(0, away)


_date_parts = st.lists(
    st.sampled_from(
        ["Thu,", "01", "Jan", "2026", "9" * 30, "00:00:00", "99:99:99", "GMT", "+9999", "-0000", "EST", ",", ":", "-"]
    )
    | st.text(max_size=8)
    | st.integers().map(str),
    max_size=9,
).map(" ".join)


@given(value=st.text() | _date_parts)
@example("Thu, 01 Jan 2026 00:00:00 +99999999999999999999")
@example("01 Jan 0000 00:00:00")
@example("31 Dec 9999 23:59:59 -2359")
def test_retry_after_never_raises_and_the_delay_stays_capped(value: str) -> None:
    asked = parse_retry_after(value, now=NOW)
    assert asked is None or asked >= 0
    assert decided(429, retry_after=asked).delay <= POLICY.retry_after_cap
