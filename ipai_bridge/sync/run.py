"""A run of a scheduled sync: begun, told page by page, finished. What is not finished never counts as complete.

A page of a full run is the whole truth about a span of ids, so what it leaves out is deleted; spans follow one another
without a gap, and the last one is open upwards. An increment tells of what was written, then the ids of everything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ipai_bridge.errors import BridgeError
from ipai_bridge.event import MAX_BODY, next_id
from ipai_bridge.sync.client import FunctionClient, encode
from ipai_bridge.sync.source import Row, Source

__all__ = ["Report", "Run", "spans_of"]

PAGE_SIZE = 500
_ROOM = 4_096  # bytes of a body that are not rows

Progress = Callable[[str, int], None]
"""Told the model and how many of its records are done."""


@dataclass(frozen=True)
class Report:
    """How a run ended, as the receiver tells it."""

    run: UUID
    status: str
    """success, partial or failed."""
    mode: str
    """full or increment."""
    pages: int
    inserted: int
    updated: int
    unchanged: int
    deleted: int
    error_count: int
    errors: list[dict[str, Any]] = field(default_factory=list)
    """The first of them: `entity`, `odoo_id`, `error`."""
    warnings: list[dict[str, Any]] = field(default_factory=list)
    more: dict[str, dict[str, int]] = field(default_factory=dict)
    """What else was done, by name: counts."""


class Run:
    """One run. Made by `Run.begun`, which finishes it as failed when anything goes wrong within."""

    def __init__(
        self, client: FunctionClient, run: UUID, answer: Mapping[str, Any], progress: Progress, via: str | None = None
    ) -> None:
        self.client = client
        self.id = run
        self.mode: str = answer["mode"]
        self.cursors: Mapping[str, str | None] = answer["cursors"]
        self.errors: list[dict[str, Any]] = []
        self.report: Report | None = None
        self._progress = progress
        self._via = via
        self._done: dict[str, int] = {}

    @classmethod
    @contextlib.contextmanager
    def begun(
        cls,
        client: FunctionClient,
        source: Source,
        *,
        full: bool,
        take_over: bool = False,
        edition: str | None = None,
        via: str | None = None,
        progress: Progress = lambda _model, _done: None,
    ) -> Iterator[Run]:
        """A run for the time of the block. Raises `SyncRefused` (reason run_in_progress) while another is at it.

        `via`: the action by which the function takes runs, where it has others too.
        """
        run_id = next_id()
        begin = {**_action("begin", via), "run": str(run_id), "full": full, "take_over": take_over}
        begin |= {"edition": edition or source.edition, "database": source.database}
        run = cls(client, run_id, client.request(encode(begin)), progress, via)
        try:
            yield run
        except BaseException as error:
            # Whatever it was, even Ctrl-C: said at once, so that the next run need not wait until this one is given up.
            reason = str(error) if isinstance(error, BridgeError) else type(error).__name__
            with contextlib.suppress(BridgeError):
                run.finish({}, failed=reason)
            raise

    def page(
        self,
        model: str,
        rows: Sequence[Row],
        after: int | None = None,
        upto: int | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Send records, in as many requests as their size demands.

        With `after`, they are all that there is with an id above it, up to `upto` (None: no limit). `errors`: those of
        them that could not be read, as `odoo_id` and `error`.
        """
        errors = list(errors)
        if not rows and after is None and not errors:
            return
        while True:
            body, count = self._fitting(model, rows, after, upto, errors)
            if rows and not count:  # the first one alone is too large
                errors.append({"odoo_id": rows[0]["raw"]["id"], "error": f"larger than {MAX_BODY:,} bytes as JSON"})
                rows = rows[1:]
                continue
            self.client.request(body)
            errors = []
            self._note(model, count)
            if count == len(rows):
                return
            if after is not None:
                after = rows[count - 1]["raw"]["id"]
            rows = rows[count:]

    def _fitting(
        self, model: str, rows: Sequence[Row], after: int | None, upto: int | None, errors: Sequence[Any]
    ) -> tuple[bytes, int]:
        """The body with as many rows, from the first on, as there is room for."""
        count = len(rows)
        while True:
            head: dict[str, Any] = {**_action("page", self._via), "run": str(self.id), "entity": model}
            if after is not None:
                end = upto if count == len(rows) else (rows[count - 1]["raw"]["id"] if count else None)
                head["span"] = [after, end]
            body = encode({**head, "rows": list(rows[:count]), "errors": list(errors)})
            if len(body) <= MAX_BODY or count == 0:
                return body, count
            count = min(count - 1, count * (MAX_BODY - _ROOM) // len(body))

    def ids(self, model: str, ids: Sequence[int], after: int, upto: int | None) -> list[int]:
        """Send all ids above `after`, up to `upto` (None: no limit); those that the receiver does not know."""
        head = {**_action("ids", self._via), "run": str(self.id), "entity": model, "span": [after, upto]}
        answer = self.client.request(encode({**head, "ids": spans_of(ids)}))
        return [int(found) for found in answer["unknown"]]

    def failed(self, model: str, error: BridgeError) -> None:
        """Note that a model could not be read: the run ends partial at best."""
        self.errors.append({"entity": model, "error": str(error)[:1_000]})

    def finish(self, cursors: Mapping[str, str | None], *, failed: str | None = None) -> Report:
        """End the run, and move the cursors of the models that are complete."""
        body: dict[str, Any] = {**_action("finish", self._via), "run": str(self.id), "cursors": dict(cursors)}
        errors = self.errors + ([{"error": failed[:1_000]}] if failed else [])
        # Who pressed Ctrl-C does not wait for a receiver that is down.
        aborted = failed is not None
        answer = self.client.request(encode({**body, "errors": errors[:100], "failed": aborted}), once=aborted)
        names = ("pages", "inserted", "updated", "unchanged", "deleted", "error_count", "errors", "warnings")
        self.report = Report(self.id, answer["status"], answer["mode"], **{name: answer[name] for name in names})
        if "lineage" in answer:
            self.report.more["lineage"] = answer["lineage"]
        return self.report

    def _note(self, model: str, count: int) -> None:
        self._done[model] = self._done.get(model, 0) + count
        self._progress(model, self._done[model])


def _action(name: str, via: str | None) -> dict[str, str]:
    return {"action": name} if via is None else {"action": via, "step": name}


def spans_of(ids: Iterable[int]) -> str:
    """Ascending ids as PostgreSQL's multirange, `{[1,500],[502,502]}`: a few bytes where there are no gaps."""
    spans: list[list[int]] = []
    for number in ids:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return "{" + ",".join(f"[{low},{high}]" for low, high in spans) + "}"
