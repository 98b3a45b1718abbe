"""An Odoo that makes up its projects and tasks as it is asked for them: it holds none, so it costs no memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ipai_bridge.errors import OdooRefused
from ipai_bridge.sync.finance import FIELDS

_TYPES = {
    "name": "char", "active": "boolean", "sequence": "integer", "company_id": "many2one", "user_id": "many2one",
    "stage_id": "many2one", "project_id": "many2one", "state": "selection", "priority": "selection",
    "date_start": "date", "date": "date", "date_deadline": "datetime", "create_date": "datetime",
    "write_date": "datetime", "write_uid": "many2one",
}  # fmt: skip
BEFORE, AFTER = "2026-01-01 00:00:00", "2026-02-01 00:00:00"


class GeneratedOdoo:
    """A `Source` of `projects` and `tasks` records. With `every`, each n-th of them was changed later."""

    edition = "ce"
    database = "made_up"

    def __init__(self, projects: int, tasks: int, *, every: int = 0) -> None:
        self._counts = {"project.project": projects, "project.task": tasks}
        self._every = every

    def clock(self) -> str:
        """A time between the two."""
        return "2026-01-15 00:00:00" if not self._every else "2026-02-15 00:00:00"

    def call(self, model: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """What the finance sync asks, and nothing else."""
        if method == "fields_get":
            return {name: {"type": _TYPES[name], "store": True} for name in args[0] if name in _TYPES}
        if method == "get_external_id":
            return {str(number): f"bench.{model.rpartition('.')[2]}_{number}" for number in args[0]}
        if method == "search_read" and model == "ir.model.data":
            return []
        if method != "search_read":
            raise OdooRefused(f"{method} of {model} is not made up")
        return list(self.rows(model, args[1], args[0], kwargs["limit"]))

    def content(self, attachment: int) -> bytes:
        """There are no attachments."""
        raise OdooRefused(f"attachment {attachment} is not made up")

    def rows(
        self, model: str, fields: Any = None, domain: Any = (), limit: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Records as `search_read` answers them, by id."""
        after, since, wanted = 0, "", None
        for name, operator, value in domain:
            if (name, operator) == ("id", ">"):
                after = value
            elif name == "write_date":
                since = value
            elif (name, operator) == ("id", "in"):
                wanted = sorted(value)
            else:
                raise OdooRefused(f"a condition on {name} is not made up")
        names = FIELDS[model] if fields is None else fields
        step = self._every if since > BEFORE else 1
        if step == 0:
            return
        numbers = wanted if wanted is not None else range(after + step - after % step, self._counts[model] + 1, step)
        for number in numbers[:limit]:
            changed = bool(self._every) and number % self._every == 0
            values = {
                "name": f"{'Changed' if changed else 'Close the books of period'} {number}", "active": number % 50 != 0,
                "sequence": 10, "company_id": 1, "user_id": 2, "stage_id": 1 + number % 5,
                "project_id": 1 + number % max(1, self._counts["project.project"]), "state": "01_in_progress",
                "priority": "0", "date_start": "2026-01-01", "date": "2026-12-31",
                "date_deadline": "2026-06-30 12:00:00", "create_date": BEFORE,
                "write_date": AFTER if changed else BEFORE, "write_uid": 2,
            }  # fmt: skip
            yield {"id": number, **{name: values[name] for name in names if name != "id"}}
