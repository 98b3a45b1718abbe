"""What a relay is tested with: a receiver that does as it is told, an outbox that fails, a thread to run in."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ipai_bridge.delivery.relay import Relay, Tally
from ipai_bridge.delivery.retry import RetryPolicy
from ipai_bridge.delivery.transport import Attempt
from ipai_bridge.errors import OutboxUnavailable
from ipai_bridge.event import Event, next_id
from ipai_bridge.outbox import sqlite
from ipai_bridge.outbox.sqlite import SqliteOutbox
from ipai_bridge.outbox.store import Claimed, Hold, Lease, Settlement

DEADLINE = 20.0  # seconds until a test says what it waited for in vain

Answer = Callable[[Claimed], "int | Attempt | None"]


def attempt(status: int | None, *, took: float = 0.001, **changes: Any) -> Attempt:
    error = None if status is not None and 200 <= status < 300 else f"HTTP {status}"
    values: dict[str, Any] = {"error": error, "retry_after": None, "posts": 1, "took": took}
    return Attempt(status, **(values | changes))


class FakePoster:
    """Answers as `answer` says, and keeps what was sent in `sent`: (aggregate id, sequence, status)."""

    def __init__(self, answer: Answer = lambda _: 200, *, timeout: float = 5.0) -> None:
        self.timeout = timeout
        self.answer = answer
        self.sent: list[tuple[str, int, int | None]] = []
        self.timestamps: list[int] = []
        self.under_way = 0
        self.most_under_way = 0
        self._lock = threading.Lock()

    def post(self, claimed: Claimed, *, timestamp_ms: int) -> Attempt:
        with self._lock:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            self.timestamps.append(timestamp_ms)
        try:
            said = self.answer(claimed)
        finally:
            with self._lock:
                self.under_way -= 1
        made = said if isinstance(said, Attempt) else attempt(said)
        with self._lock:
            self.sent.append((claimed.event.aggregate_id, claimed.sequence, made.status))
        return made

    def sequences(self, aggregate_id: str, *statuses: int | None) -> list[int]:
        """The sequences sent for one aggregate, in order; those with one of `statuses` only, where given."""
        return [number for key, number, status in self.sent if key == aggregate_id and status in (statuses or {status})]


class Gate:
    """Holds posts until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self, _: Claimed) -> int:
        self.reached.release()
        assert self._open.wait(DEADLINE), "the gate was never opened"
        return 200

    def wait_reached(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.reached.acquire(timeout=DEADLINE), "nothing was posted"

    def open(self) -> None:
        self._open.set()


class WatchedOutbox(SqliteOutbox):
    """Counts its calls; `before` and `after` see each claim and settle, and may raise or change what it gives."""

    def __init__(self, path: Path, **changes: Any) -> None:
        super().__init__(path, **changes)
        self.calls: dict[str, int] = {"claim": 0, "settle": 0, "wait": 0}
        self.limits: list[int] = []
        self.before: Callable[[str], None] = lambda _: None
        self.after: Callable[[str, list[Lease]], list[Lease]] = lambda _, leases: leases

    def claim(self, *, limit: int, lease: float) -> list[Lease]:
        self.calls["claim"] += 1
        self.limits.append(limit)
        self.before("claim")
        return self.after("claim", super().claim(limit=limit, lease=lease))

    def settle(self, settlements: Sequence[Settlement], holds: Sequence[Hold], *, lease: float) -> list[Lease]:
        self.calls["settle"] += 1
        self.before("settle")
        return self.after("settle", super().settle(settlements, holds, lease=lease))

    def wait(self, timeout: float, wakeup: int) -> None:
        self.calls["wait"] += 1
        self.before("wait")
        super().wait(timeout, wakeup)


def fails(*names: str, times: int = 1) -> Callable[[str], None]:
    """For `before`: the database is away for the first `times` of these calls."""
    left = dict.fromkeys(names, times)

    def before(name: str) -> None:
        if left.get(name, 0) > 0:
            left[name] -= 1
            raise OutboxUnavailable(f"no database for {name}")

    return before


def event(aggregate_id: str = "1", number: int = 0) -> Event:
    return Event.create(
        id=next_id(),
        event_type="res.partner.updated",
        aggregate_type="res.partner",
        aggregate_id=aggregate_id,
        payload={"number": number, "said": "body-not-for-logs"},
    )


def emit(path: Path, *events: Event) -> None:
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        sqlite.emit(connection, events)


def rows(path: Path, columns: str, table: str = "outbox") -> list[tuple[Any, ...]]:
    order = "position" if table == "outbox" else "aggregate_id"
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        return connection.execute(f"select {columns} from {table} order by {order}").fetchall()


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        connection.execute(statement)


def statuses(path: Path) -> list[str]:
    return [row[0] for row in rows(path, "status")]


def relay(outbox: SqliteOutbox, poster: FakePoster, **changes: Any) -> Relay:
    # No jitter: "again" is at once, and nothing waits for a clock.
    values: dict[str, Any] = {"policy": RetryPolicy(), "poll_interval": 0.05, "jitter": lambda: 0.0}
    return Relay(outbox, poster, **(values | changes))


def pass_once(path: Path, poster: FakePoster, **changes: object) -> Tally:
    with closing(relay(WatchedOutbox(path), poster, **changes)) as made:
        return made.run_once(20)


def eventually(condition: Callable[[], bool], what: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE:g} s: {what()}"
        threading.Event().wait(0.005)


class Running:
    """A relay's `run` in a thread of its own."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.tally: Tally | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.tally = self.relay.run()
        except BaseException as error:  # noqa: BLE001 -- it is the test's to look at
            self.error = error
        finally:
            self.relay.close()  # in the thread that opened the database

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "the relay did not return"

    def stop(self) -> Tally:
        self.relay.stop()
        self.join()
        if self.error is not None:
            raise self.error
        assert self.tally is not None
        return self.tally


@contextmanager
def running(made: Relay) -> Iterator[Running]:
    run = Running(made)
    try:
        yield run
    finally:
        run.relay.stop()
        run.join()
