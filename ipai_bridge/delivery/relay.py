"""Drains the outbox: claim, post, settle. Runs as a process, as a thread inside Odoo, or as one pass of Odoo's cron.

Several relays may run on one outbox, on one host or many. How it works::

      ┌────────────── the one thread that talks to the outbox ──────────────┐
      │  settle what is finished ▶ claim what is due ▶ wait (NOTIFY or poll) │
      └──────┬──────────────────────────────────────────────────▲───────────┘
             │ a lane: one lease, its events in order           │ outcomes
             ▼                                                  │
          `concurrency` threads: post, post, post … ────────────┘

A lane is sent by one thread, one event after the other, and ends at the first event that is to be tried again. No
transaction is open while a request is under way. Before each POST the lane looks whether its lease outlives the
request's timeout; if not, it gives the lease back. Outcomes are settled in batches, under the lease's token: a relay
that was frozen past its lease changes nothing when it wakes, and what it sends then is a duplicate to the receiver.

No more is claimed than can be sent soon at the receiver's present pace: behind a slow one, leases would run out while
their lanes wait for a thread, and other relays could not have them meanwhile.

See it work: one log line per change of state on the logger `ipai_bridge.relay`, with the event's id, the attempt, the
status and the next time; never a body, never a secret.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import select
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from ipai_bridge.delivery.retry import RetryPolicy, Verdict, decide
from ipai_bridge.delivery.transport import Attempt
from ipai_bridge.errors import EndpointGone, OutboxUnavailable
from ipai_bridge.outbox.store import Claimed, Hold, Lease, Outbox, Settlement

log = logging.getLogger("ipai_bridge.relay")

_RECONNECT = (0.1, 5.0)  # seconds: first and longest pause while Odoo's database does not answer
LEASE_MARGIN = 1.0  # seconds of a lease kept for settling, beyond the request's timeout
_AHEAD = 1.0  # seconds of work that are claimed at most
_PACE_WEIGHT = 0.2  # of the newest attempt in the average


class Poster(Protocol):
    """What the relay needs of a transport."""

    timeout: float

    def post(self, claimed: Claimed, *, timestamp_ms: int) -> Attempt:
        """Send one event."""


@dataclass(slots=True)
class Tally:
    """What a relay did, and the outbox knows of."""

    delivered: int = 0
    again: int = 0
    dead: int = 0


@dataclass(slots=True)
class _Lane:
    """One lease being worked on. `until` and `lost` are written by the main thread and read by the lane's."""

    lease: Lease
    until: float
    lost: bool = False


@dataclass(slots=True)
class _Outcome:
    """From a lane to the main thread: an event's settlement, or (None) that the lane has ended."""

    lane: _Lane
    settlement: Settlement | None


@dataclass(slots=True)
class _Batch:
    """Outcomes not yet settled, kept over a loss of the database."""

    settlements: list[tuple[_Lane, Settlement]] = field(default_factory=list)
    lanes: dict[int, tuple[_Lane, bool]] = field(default_factory=dict)

    def add(self, outcome: _Outcome) -> None:
        """Take one outcome."""
        if outcome.settlement is not None:
            self.settlements.append((outcome.lane, outcome.settlement))
        self.lanes[id(outcome.lane)] = (outcome.lane, outcome.settlement is None)


class Relay:
    """Gets the events of one outbox to one endpoint."""

    def __init__(
        self,
        outbox: Outbox,
        transport: Poster,
        *,
        policy: RetryPolicy,
        concurrency: int = 8,
        claim_size: int = 100,
        lease: float = 60.0,
        poll_interval: float = 1.0,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """See the settings for the numbers (seconds where they are times).

        Raises:
            ValueError: the transport's timeout leaves no room in the lease.
        """
        if transport.timeout + LEASE_MARGIN >= lease:
            raise ValueError(f"a lease of {lease:g} s is too short for requests that may take {transport.timeout:g} s")
        self.tally = Tally()
        self._outbox = outbox
        self._transport = transport
        self._policy = policy
        self._concurrency = concurrency
        self._claim_size = claim_size
        self._lease = lease
        self._poll_interval = poll_interval
        self._clock_ms = clock_ms
        self._jitter = jitter
        self._outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self._batch = _Batch()
        self._lanes = 0
        self._pace: float | None = None
        self._ahead = min(_AHEAD, (lease - transport.timeout - LEASE_MARGIN) / 2)
        self._stopping = False  # for good: by stop()
        self._ending = False  # this run only: its time is over, the endpoint is gone, or it failed
        self._gone: str | None = None
        # Sockets, not a pipe: a write after close() fails here, and cannot hit a file that has got the number since.
        self._wakeup_read, self._wakeup_write = socket.socketpair()
        self._wakeup_read.setblocking(False)
        self._wakeup_write.setblocking(False)

    def stop(self) -> None:
        """Ask the relay to finish the requests under way, settle, and return. Safe in a signal handler."""
        self._stopping = True
        self.wake()

    def wake(self) -> None:
        """Say that something was emitted: look now instead of at the next poll. Safe from any thread, at any time."""
        # A full buffer is as good a wake-up as one more byte; a closed one means that nobody waits any more.
        with contextlib.suppress(OSError):
            self._wakeup_write.send(b".")

    def close(self) -> None:
        """Close the outbox's connection and the wake-up sockets."""
        self._outbox.close()
        self._wakeup_read.close()
        self._wakeup_write.close()

    def run(self) -> Tally:
        """Relay until `stop()`.

        Raises:
            EndpointGone: the receiver answered 410; the events stay pending.
            SchemaMissing: the outbox was never installed.
        """
        return self._drain(until_empty=False, deadline=float("inf"))

    def run_once(self, max_seconds: float) -> Tally:
        """One pass: relay what is due now, at most for `max_seconds` (plus the requests then under way).

        Raises what `run` raises.
        """
        return self._drain(until_empty=True, deadline=time.monotonic() + max_seconds)

    # --- the main thread

    def _drain(self, *, until_empty: bool, deadline: float) -> Tally:
        self._ending, self._gone = False, None
        try:
            with ThreadPoolExecutor(self._concurrency, thread_name_prefix="ipai_bridge-lane") as pool:
                try:
                    self._loop(pool, until_empty=until_empty, deadline=deadline)
                finally:
                    self._ending = True  # lets the lanes end, so that the pool can be joined
        finally:
            # Every lane has ended. Whatever ended the loop, what was sent is settled now if that is possible at all.
            try:
                self._settle()
            except OutboxUnavailable as error:
                log.warning("outbox unavailable: %s; what was sent and not settled will be sent again", error)
        if self._gone is not None:
            raise EndpointGone(self._gone)
        return self.tally

    def _loop(self, pool: ThreadPoolExecutor, *, until_empty: bool, deadline: float) -> None:
        pause = _RECONNECT[0]
        while True:
            left = deadline - time.monotonic()
            ending = self._stopping or self._ending or left <= 0
            if ending:
                self._ending = True  # the lanes look at it too
            try:
                self._settle()
                if ending and not self._lanes:
                    return
                claimed = not ending and self._claim(pool)
                if until_empty and not claimed and not self._lanes:
                    return
                if not claimed and self._outcomes.empty():
                    timeout = self._poll_interval if ending else min(self._poll_interval, left)
                    self._outbox.wait(timeout, self._wakeup_read.fileno())
                pause = _RECONNECT[0]
            except OutboxUnavailable as error:
                if ending:
                    return
                log.warning("outbox unavailable: %s; next look in %.1f s", error, pause)
                self._pause(min(pause, left))
                pause = min(pause * 2, _RECONNECT[1])
            self._forget_wakeups()

    def _claim(self, pool: ThreadPoolExecutor) -> bool:
        # Until the pace is known, no more than there are threads. At least that many in any case: a thread is free.
        soon = self._concurrency if self._pace is None else int(self._concurrency * self._ahead / max(self._pace, 1e-6))
        most = min(self._claim_size, max(self._concurrency, soon))
        if self._lanes >= max(min(self._concurrency, most), most // 2):
            return False
        leases = self._outbox.claim(limit=most - self._lanes, lease=self._lease)
        for lease in leases:
            self._lanes += 1
            pool.submit(self._run_lane, _Lane(lease, lease.until))
        return bool(leases)

    def _settle(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._batch.add(self._outcomes.get_nowait())
        if not self._batch.lanes:
            return
        renewed_until = time.monotonic() + self._lease
        settlements = [settlement for _, settlement in self._batch.settlements]
        holds = [Hold(lane.lease, release=ended) for lane, ended in self._batch.lanes.values()]
        lost = {id(lease) for lease in self._outbox.settle(settlements, holds, lease=self._lease)}
        for lane, ended in self._batch.lanes.values():
            if id(lane.lease) not in lost:
                lane.until = renewed_until
            elif not lane.lost:
                lane.lost = True
                log.warning("lease lost aggregate=%s", _name(lane.lease))
            if ended:
                self._lanes -= 1
        for lane, settlement in self._batch.settlements:
            self._count(lane, settlement)
        self._batch = _Batch()

    def _count(self, lane: _Lane, settlement: Settlement) -> None:
        pace = settlement.took if self._pace is None else self._pace
        self._pace = pace + _PACE_WEIGHT * (settlement.took - pace)
        if lane.lost:
            return
        if settlement.status == "delivered":
            self.tally.delivered += 1
        elif settlement.status == "dead":
            self.tally.dead += 1
        else:
            self.tally.again += 1

    def _pause(self, seconds: float) -> None:
        # Outcomes and emits wake it too, and must not make it try the database any sooner.
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            poller = select.poll()
            poller.register(self._wakeup_read, select.POLLIN)
            poller.poll(left * 1000)
            self._forget_wakeups()

    def _forget_wakeups(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wakeup_read.recv(4096):
                pass

    # --- the lanes' threads

    def _run_lane(self, lane: _Lane) -> None:
        signed: dict[bytes, int] = {}
        try:
            for claimed in lane.lease.events:
                if self._stopping or self._ending or lane.lost:
                    break
                if lane.until - time.monotonic() < self._transport.timeout + LEASE_MARGIN:
                    log.info("lease given back unsent aggregate=%s: too little of it is left", _name(lane.lease))
                    break
                # Two events of one record may have the same body; in the same millisecond they would also have the same
                # signature, and the receiver takes a signature once. (The second POST of an attempt takes the next ms.)
                # Only then: timestamps that always went up by 2 would outrun the clock before a fast receiver.
                body = claimed.event.body
                signed[body] = max(self._clock_ms(), signed.get(body, 0) + 2)
                settlement = self._attempt(lane, claimed, signed[body])
                self._outcomes.put(_Outcome(lane, settlement))
                self.wake()
                if settlement.status == "pending":
                    break
        except Exception:
            # A bug of ours: the lane must end all the same, or its lease would be renewed for ever.
            log.exception("lane failed aggregate=%s", _name(lane.lease))
        finally:
            self._outcomes.put(_Outcome(lane, None))
            self.wake()

    def _attempt(self, lane: _Lane, claimed: Claimed, timestamp_ms: int) -> Settlement:
        event = claimed.event
        started = time.monotonic()
        try:
            attempt = self._transport.post(claimed, timestamp_ms=timestamp_ms)
        except Exception as error:
            # A bug of ours, or an event that cannot be signed. It counts as an attempt, and so waits its turn: a lease
            # that was only given back would be claimed again at once, for ever.
            log.exception("post failed id=%s type=%s aggregate=%s", event.id, event.event_type, _name(lane.lease))
            reason = f"the relay failed to send it ({type(error).__name__}): see its log"
            attempt = Attempt(None, reason, None, 1, time.monotonic() - started)
        number = claimed.attempts + attempt.posts
        decision = decide(
            attempt.status,
            retry_after=attempt.retry_after,
            attempt=number,
            trying_for=claimed.trying_for + attempt.took,
            policy=self._policy,
            jitter=self._jitter(),
        )
        where = (event.id, event.event_type, _name(lane.lease), claimed.sequence, number, attempt.status)
        line = "id=%s type=%s aggregate=%s sequence=%d attempt=%d status=%s"
        if decision.verdict is Verdict.DELIVERED:
            log.info(f"delivered {line} took=%.3f", *where, attempt.took)
        elif decision.verdict is Verdict.DEAD:
            log.error(f"dead {line} reason=%s", *where, attempt.error)
        else:
            log.warning(f"again {line} next_in=%.1f reason=%s", *where, decision.delay, attempt.error)
        if decision.verdict is Verdict.GONE:
            self._gone = f"the receiver answered 410 to {event.id}; nothing more is sent there, and the events are kept"
            self._ending = True
            self.wake()
        return Settlement(
            event_id=event.id,
            token=lane.lease.token,
            status={Verdict.DELIVERED: "delivered", Verdict.DEAD: "dead"}.get(decision.verdict, "pending"),  # type: ignore[arg-type]
            attempts=number,
            http_status=attempt.status,
            error=attempt.error,
            delay=decision.delay,
            took=attempt.took,
        )


def _name(lease: Lease) -> str:
    aggregate = lease.aggregate
    return f"{aggregate.instance}/{aggregate.aggregate_type}/{aggregate.aggregate_id}"
