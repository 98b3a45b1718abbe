"""What to do with an answer: deliver, try again and when, give up, or stop. Pure: no clock, no random source.

===========================================  ==========================================================
answer                                       decision
===========================================  ==========================================================
2xx                                          delivered
no answer (timeout, refused, reset, TLS …)   again
1xx                                          again: an interim answer, taken for the final one
401                                          again: secrets are being rotated, or `verify_jwt` is on
408, 425, 429, every 5xx (503 BOOT_ERROR,    again; `Retry-After` is honoured up to a cap
546 WORKER_LIMIT …)
410                                          the endpoint is gone: stop, keep the events
every 3xx                                    dead: a redirect is never followed with a signature
every other 4xx                              dead: the same bytes would be refused again
===========================================  ==========================================================

"Again" is exponential backoff with full jitter [1], and becomes "dead" once `give_up_after` has passed since the first
attempt. A dead event is not lost: it stays in the outbox until somebody retries or purges it.

[1] https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

_AGAIN = frozenset({401, 408, 425, 429})


class Verdict(enum.Enum):
    """What an attempt means for its event."""

    DELIVERED = "delivered"
    AGAIN = "again"
    DEAD = "dead"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, and for `AGAIN` the seconds until the next attempt."""

    verdict: Verdict
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often to try. All in seconds."""

    base: float = 1.0
    """Upper bound of the first delay; it doubles with each attempt."""
    cap: float = 900.0
    """Upper bound of every delay."""
    give_up_after: float = 259_200.0
    """From the first attempt; three days."""
    retry_after_cap: float = 3_600.0
    """The longest `Retry-After` that is believed."""

    def backoff(self, attempt: int, jitter: float) -> float:
        """Delay before the attempt after `attempt` (1, 2, …); `jitter` is uniform in [0, 1)."""
        # min() before the power: 2.0 ** 1024 overflows, and a poisoned counter must not stop the relay.
        doublings = min(max(attempt, 1) - 1, 64)
        return min(self.cap, self.base * 2.0**doublings) * jitter


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Seconds that a `Retry-After` header asks for; None if it says nothing.

    RFC 9110 §10.2.3: seconds or an HTTP date. `now` must be timezone-aware.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        # Nine digits are thirty years: more is absurd, and int() of thousands of digits is an attack.
        return float(value[:9])
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - now).total_seconds())


def decide(
    status: int | None,
    *,
    retry_after: float | None = None,
    attempt: int,
    trying_for: float,
    policy: RetryPolicy,
    jitter: float,
) -> Decision:
    """What to do after `attempt` attempts.

    Args:
        status: of the answer; None when there was none.
        retry_after: seconds that the answer asked for.
        attempt: attempts made, this one included.
        trying_for: seconds since the first attempt.
        policy: the limits.
        jitter: uniform in [0, 1).
    """
    if status is not None and 200 <= status < 300:
        return Decision(Verdict.DELIVERED)
    if status == 410:
        # Without a delay: the relay stops, and once the URL is set right nothing should wait.
        return Decision(Verdict.GONE)
    if status is not None and 200 <= status < 500 and status not in _AGAIN:
        return Decision(Verdict.DEAD)
    delay = policy.backoff(attempt, jitter)
    if retry_after is not None:
        delay = max(delay, min(retry_after, policy.retry_after_cap))
    if trying_for + delay > policy.give_up_after:
        return Decision(Verdict.DEAD)
    return Decision(Verdict.AGAIN, delay)
