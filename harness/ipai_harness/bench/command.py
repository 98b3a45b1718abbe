"""`ipai-harness bench`: the command line of the measurements, and their output."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping

from ipai_bridge.sync.run import PAGE_SIZE
from ipai_harness.bench import models, sync
from ipai_harness.bench.result import Report
from ipai_harness.stack.progress import Progress

Measure = Callable[..., Report]
SUBJECTS: Mapping[str, Measure] = {
    "sync": sync.generated, "sync-odoo": sync.from_odoo, "catalog": models.generated,
}  # fmt: skip
"""One entry a subject; each takes `progress`, `quick`, `rounds` and `page_size`."""

DESCRIPTION = """\
Measures on real parts that it starts and removes, beside a yardstick in the same run: figures of two machines cannot be
compared, the ratios can. Each figure is the median of the rounds, with the smallest and the largest."""

EPILOG = """\
examples:
  ipai-harness bench sync            100,000 tasks through the Edge Function, beside a COPY of the same rows
  ipai-harness bench sync-odoo       the same out of a real Odoo, over its RPC and in its process
  ipai-harness bench catalog         500 models with 50 fields each, beside a COPY of the same models
  ipai-harness bench sync --quick    2,000 tasks, once: does it still run?
  ipai-harness bench sync --json     for a program

exit codes:
  0  measured
  1  something failed; the message says which part
  2  the command line is wrong
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser], as_json: argparse.ArgumentParser) -> None:
    """Adds the command to the command line."""
    bench = commands.add_parser(
        "bench", parents=[as_json], help="measure, on the real parts", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    bench.add_argument("subject", choices=tuple(SUBJECTS), help="what to measure")
    bench.add_argument("--quick", action="store_true", help="a small run, once: its figures say little")
    bench.add_argument("--rounds", type=_count, metavar="N", help="how often (default: 3; 1 with --quick)")
    bench.add_argument(
        "--page-size", type=_count, default=PAGE_SIZE, metavar="N", help="records a page (default: %(default)s)"
    )
    bench.set_defaults(run=command)


def command(options: argparse.Namespace) -> int:
    """Runs the command; its exit code."""
    with Progress() as progress:
        report = SUBJECTS[options.subject](
            progress, quick=options.quick, rounds=options.rounds, page_size=options.page_size
        )
    print(json.dumps(report.as_json()) if options.json else report.as_text())
    return 0


def _count(text: str) -> int:
    if not 1 <= int(text) <= 5_000:
        raise argparse.ArgumentTypeError("must be from 1 to 5,000")
    return int(text)
