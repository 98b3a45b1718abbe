"""One run of the finance sync in a process of its own, so that its memory is its own: JSON in, JSON out.

python -m ipai_harness.bench.sender < order.json
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ipai_bridge.secret import Secret
from ipai_bridge.sync import finance
from ipai_bridge.sync.client import FunctionClient
from ipai_bridge.sync.run import PAGE_SIZE
from ipai_bridge.sync.source import RpcSource, Source
from ipai_harness.bench.generated import GeneratedOdoo
from ipai_harness.errors import HarnessError
from ipai_harness.stack import paths


@dataclass(frozen=True)
class Order:
    """What is to be synced, from where, and to where. Holds secrets: it is passed through a pipe."""

    functions_url: str
    secret: str
    instance: str
    projects: int = 0
    tasks: int = 0
    every: int = 0
    odoo: tuple[str, str, str, str] | None = None
    """URL, database, login and password of a real one, in place of a generated one."""
    full: bool = False
    page_size: int = PAGE_SIZE


@dataclass(frozen=True)
class Done:
    """How it went."""

    seconds: float
    peak: float
    """MiB: the most memory that the process had."""
    report: dict[str, Any]


def order(what: Order) -> Done:
    """Run it in a process of its own. Raises HarnessError when it does not succeed."""
    here = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(dict.fromkeys([str(paths.library().parent), str(here)]))
    done = subprocess.run(
        [sys.executable, "-m", "ipai_harness.bench.sender"], input=json.dumps(asdict(what)),
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise HarnessError(f"the sync that was to be measured failed: {done.stderr.strip()[-2_000:]}")
    return measured(json.loads(done.stdout))


def measured(said: Mapping[str, Any]) -> Done:
    """What the process said. Raises HarnessError for a sync that did not succeed: its time would mean nothing."""
    done = Done(said["seconds"], said["peak"], said["report"])
    if done.report["status"] != "success":
        raise HarnessError(f"the sync that was to be measured ended {done.report['status']}: {done.report['errors']}")
    return done


def _source(what: Order) -> Source:
    if what.odoo is not None:
        return RpcSource(*what.odoo)
    return GeneratedOdoo(what.projects, what.tasks, every=what.every)


def peak_memory() -> float:
    """MiB: the most that this program has had. Not getrusage's: a new program begins there with its parent's peak."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise HarnessError("the kernel does not tell a process's peak memory here (VmHWM in /proc/self/status)")
    return int(found[1]) / 1024


def main() -> int:
    """Do what standard input says."""
    what = Order(**json.load(sys.stdin))
    client = FunctionClient(
        what.functions_url, finance.FUNCTION, Secret(what.secret), instance=what.instance, timeout=60
    )  # fmt: skip
    with closing(client):
        started = time.perf_counter()
        report = finance.sync_finance(_source(what), client, full=what.full, page_size=what.page_size)
        seconds = time.perf_counter() - started
    sys.stdout.write(json.dumps({"seconds": seconds, "peak": peak_memory(), "report": asdict(report)}, default=str))
    return 0


if __name__ == "__main__":
    sys.exit(main())
