"""The catalog's sync of models through the real function and PostgreSQL, beside a plain COPY of the same models."""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from ipai_bridge.errors import OdooRefused
from ipai_bridge.secret import Secret
from ipai_bridge.sync.catalog import FUNCTION, PAGE_SIZE, sync_catalog
from ipai_bridge.sync.client import FunctionClient
from ipai_bridge.sync.run import Report as SyncReport
from ipai_harness.bench.receiving import receiving
from ipai_harness.bench.result import Figure, Report, machine
from ipai_harness.stack import supabase
from ipai_harness.stack.postgres import Cluster
from ipai_harness.stack.progress import Progress

MODELS, FIELDS, ROUNDS = 500, 50, 3
QUICK_MODELS = 20
COPY = "COPY into a bare table"


class GeneratedModels:
    """A `Source` of models with fifty fields each, the last of which refers to the model before."""

    edition = "ce"

    def __init__(self, models: int, database: str) -> None:
        self.count = models
        self.database = database

    def clock(self) -> str:
        """Nothing is asked by time."""
        return "2026-01-15 00:00:00"

    def content(self, attachment: int) -> bytes:
        """There are no attachments."""
        raise OdooRefused(f"attachment {attachment} is not made up")

    def call(self, model: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """What the catalog's sync asks, and nothing else."""
        if method != "search_read" or model not in ("ir.model", "ir.model.fields"):
            raise OdooRefused(f"{method} of {model} is not made up")
        domain = {(name, operator): value for name, operator, value in args[0]}
        after, limit = domain.get(("id", ">"), 0), kwargs["limit"]
        if model == "ir.model":
            return [self.model(number) for number in range(after + 1, min(self.count, after + limit) + 1)]
        wanted: Sequence[int] = domain["model_id", "in"]
        ids = (n for owner in sorted(wanted) for n in range((owner - 1) * FIELDS + 1, owner * FIELDS + 1) if n > after)
        return [self.field(number) for number, _ in zip(ids, range(limit), strict=False)]

    def model(self, number: int) -> dict[str, Any]:
        """One model, as `search_read` answers it."""
        named = {"model": f"bench.model_{number}", "name": f"Model {number}", "info": False, "state": "base"}
        return {"id": number, **named, "order": "id", "abstract": False, "transient": False}

    def field(self, number: int) -> dict[str, Any]:
        """One field."""
        owner, nth = (number - 1) // FIELDS + 1, (number - 1) % FIELDS
        relation = f"bench.model_{owner - 1}" if nth == FIELDS - 1 and owner > 1 else False
        kind = "many2one" if relation else "char"
        told = {"name": f"field_{nth}", "ttype": kind, "field_description": f"Field {nth}", "relation": relation}
        flags = {"required": False, "readonly": False, "store": True}
        return {"id": number, "model_id": owner, **told, **flags, "state": "base", "help": f"What field {nth} is for"}


def generated(
    progress: Progress, *, quick: bool = False, rounds: int | None = None, page_size: int = PAGE_SIZE
) -> Report:
    """Measure the first sync, one that finds nothing changed, and the COPY. Raises HarnessError when a part fails."""
    models, rounds = QUICK_MODELS if quick else MODELS, rounds or (1 if quick else ROUNDS)
    size = min(page_size, PAGE_SIZE)
    copied: list[float] = []
    first: list[float] = []
    again: list[float] = []
    with receiving(progress) as side:
        for number in range(1, rounds + 1):
            with progress.step("bench", f"round {number} of {rounds}"):
                instance = f"bench-{uuid.uuid4().hex[:8]}"
                source = GeneratedModels(models, instance)
                copied.append(_copy(side.cluster, source))
                client = FunctionClient(
                    side.functions_url, FUNCTION, Secret(side.secret), instance=instance, timeout=60
                )  # fmt: skip
                with closing(client):
                    for samples, expected in ((first, (models, 0)), (again, (0, models))):
                        started = time.perf_counter()
                        report = sync_catalog(source, client, page_size=size)
                        samples.append(time.perf_counter() - started)
                        _check(report, expected)
        return Report(
            "catalog", {"models": models, "fields of each": FIELDS, "rounds": rounds, "page size": size},
            machine(postgres=str(side.cluster.installation)),
            [
                Figure(COPY, "models/s", [models / seconds for seconds in copied]),
                Figure("first sync, with lineage", "models/s", [models / seconds for seconds in first], COPY),
                Figure("first sync, seconds", "s", first),
                Figure("nothing changed, seconds", "s", again, "first sync, seconds"),
            ],
        )  # fmt: skip


def _check(report: SyncReport, expected: tuple[int, int]) -> None:
    """A sync that sent nothing would be quick."""
    if report.status != "success" or (report.inserted, report.unchanged) != expected:
        raise AssertionError(f"the sync that was to be measured did something else: {report}")


def _copy(cluster: Cluster, source: GeneratedModels) -> float:
    """Seconds of a COPY of the same models, their fields as JSON, into a table without an index."""
    text = io.StringIO()
    for number in range(1, source.count + 1):
        fields = [source.field(n) for n in range((number - 1) * FIELDS + 1, number * FIELDS + 1)]
        whole = json.dumps({**source.model(number), "fields": fields}).replace("\\", "\\\\")
        text.write(f"{number}\todoo.{source.database}.bench.model_{number}\t{whole}\n")
    text.seek(0)
    with cluster.cursor(supabase.DATABASE) as cursor:
        cursor.execute(
            "create table if not exists public.bench_models (odoo_id bigint, fqdn text, metadata jsonb); "
            "truncate public.bench_models"
        )
        started = time.perf_counter()
        cursor.copy_expert("copy public.bench_models from stdin", text)
        return time.perf_counter() - started
