"""`ipai-harness verify`: the acceptance suite, on a stack of its own or against somebody's project.

It runs the features by pytest, each scenario isolated by an instance name of its own, and sums up what they said.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ipai_bridge.errors import SettingsError
from ipai_bridge.settings import resolve
from ipai_harness.errors import HarnessError, TargetRefused
from ipai_harness.stack import paths
from ipai_harness.target import Target

PASSED, FAILED, NOT_RUN = 0, 1, 3
JSON_SCHEMA = 1
"""Raised when a key of the JSON output goes or changes its meaning; new keys may come without."""

DESCRIPTION = """\
Runs the acceptance suite: scenarios in the words of the business, each with its evidence. Without --target it starts a
stack of its own (a real Odoo CE 19, PostgreSQL, the Edge Functions, the relay) and removes it afterwards.

With --target URL it runs what applies against a Supabase project or `supabase functions serve`, under instance names of
its own (verify-…), and removes what it stored as far as the database's role may. Scenarios that need what was not given
are listed as not run, with the reason. A deprecated project is refused, and so is what looks like production unless you
say otherwise."""

EPILOG = """\
environment, for --target:
  IPAI_BRIDGE_SECRET, IPAI_BRIDGE_SECRET_FILE   the secret that the target knows
  IPAI_HARNESS_DB_URL                           its database, in place of --db-url: a password is not for a command line
  IPAI_HARNESS_JWT                              a token for its gateway, where that asks for one

examples:
  ipai-harness verify                                      everything, on a stack of its own
  ipai-harness verify --tags law_4                         the scenarios of one law
  ipai-harness verify -k invoice --keep-evidence           those whose names hold a word; evidence of all of them
  ipai-harness verify --stack default                      on the stack that `ipai-harness up` started
  ipai-harness verify -n 2                                 two at a time, each on a stack of its own
  ipai-harness verify --target http://127.0.0.1:54321/functions/v1
  ipai-harness verify --target "$URL" --schema-map map.toml    a project whose tables are called otherwise

exit codes:
  0    every scenario that was run passed
  1    some did not; their evidence is in the directory that is named
  2    the command line is wrong
  3    nothing was run: a target that is refused, a setting that is missing, or no scenario of that name
  130  interrupted
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser], as_json: argparse.ArgumentParser) -> None:
    """Adds the command to the command line."""
    verify = commands.add_parser(
        "verify", parents=[as_json], help="run the acceptance suite", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    where = verify.add_argument_group("what is verified")
    where.add_argument("--stack", metavar="NAME", help="a stack that is up already; it stays up")
    where.add_argument(
        "--target", metavar="URL", help="a functions base URL, such as https://<ref>.supabase.co/functions/v1"
    )
    where.add_argument("--db-url", metavar="DSN", help="the database behind the target, read and cleaned up")
    where.add_argument("--schema-map", metavar="FILE", type=Path, help="TOML: how its tables and columns are called")
    where.add_argument("--yes-this-is-production", action="store_true", help="take a target that looks like production")
    which = verify.add_argument_group("which scenarios")
    which.add_argument("-k", metavar="EXPR", help="whose names fit, as in pytest: 'invoice and not draft'")
    which.add_argument("--tags", metavar="EXPR", help="whose tags fit: law_4, 'finance or modules'")
    which.add_argument("-n", type=int, default=0, metavar="N", help="how many at a time, each on a stack of its own")
    verify.add_argument("--evidence", type=Path, default=Path("evidence"), metavar="DIR", help="(default: evidence)")
    verify.add_argument("--keep-evidence", action="store_true", help="of every scenario, not of failures alone")
    verify.set_defaults(run=command)


def command(options: argparse.Namespace) -> int:
    """Runs the command; its exit code."""
    try:
        check(options)
    except (HarnessError, SettingsError, TargetRefused) as error:
        if options.json:
            print(json.dumps({"schema": JSON_SCHEMA, "not_run": f"{error.code}: {error}"}))
        print(f"ipai-harness: {error}", file=sys.stderr)
        return NOT_RUN
    options.evidence.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ipai-verify-") as home:
        done = subprocess.run(
            arguments(options), env=environment(options), cwd=home, check=False,
            # With --json standard output is ours alone.
            stdout=sys.stderr if options.json else None,
        )  # fmt: skip
    if options.target and not (options.db_url or os.environ.get("IPAI_HARNESS_DB_URL")):
        print(
            "ipai-harness: what the target stored stays there, under instances named verify-…: without --db-url it "
            "cannot be removed",
            file=sys.stderr,
        )
    return summed_up(options, done.returncode)


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot be run before anything is started. Raises HarnessError, SettingsError, TargetRefused."""
    if options.target and (options.stack or options.n):
        raise HarnessError("--target is verified one scenario at a time, and not together with --stack")
    if options.stack and options.n:
        raise HarnessError("--stack is one stack: leave out -n")
    if not options.target:
        if options.db_url or options.schema_map:
            raise HarnessError("--db-url and --schema-map describe a target: give --target too")
        return
    Target.remote(
        options.target, resolve(environ=os.environ, only=("secret", "secret_file")).settings.require_secrets(),
        db_url=options.db_url or os.environ.get("IPAI_HARNESS_DB_URL") or None,
        allow_production=options.yes_this_is_production,
    )  # fmt: skip


def arguments(options: argparse.Namespace) -> list[str]:
    """The pytest command."""
    features = paths.features()
    argv = [
        sys.executable,
        "-m",
        "pytest",
        str(features),
        "--rootdir",
        str(features),
        "-c",
        str(features / "pytest.ini"),
    ]
    argv += ["-q", "-p", "no:cacheprovider", "--evidence", str(options.evidence.resolve())]
    argv += ["--junitxml", str((options.evidence / "junit.xml").resolve())]
    argv += ["--keep-evidence"] if options.keep_evidence else []
    for name, value in (
        ("-k", options.k),
        ("-m", options.tags),
        ("--stack", options.stack),
        ("--target", options.target),
    ):
        argv += [name, value] if value else []
    argv += ["--schema-map", str(options.schema_map.resolve())] if options.schema_map else []
    argv += ["--yes-this-is-production"] if options.yes_this_is_production else []
    argv += ["-n", str(options.n)] if options.n else []
    return argv


def environment(options: argparse.Namespace) -> dict[str, str]:
    """That of this command; the database's address goes on where others do not see it."""
    here = [str(paths.library().parent), str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": ":".join(filter(None, dict.fromkeys(here)))}
    if options.db_url:
        env["IPAI_HARNESS_DB_URL"] = options.db_url
    return env


def summed_up(options: argparse.Namespace, code: int) -> int:
    """Print what became of the scenarios; the exit code."""
    try:
        report: Mapping[str, Any] = json.loads((options.evidence / "evidence.json").read_text())
    except FileNotFoundError:
        report = {"scenarios": []}
    scenarios: Sequence[Mapping[str, Any]] = report["scenarios"]
    # 5: no test was selected; more than 1: pytest itself could not do it.
    verdict = FAILED if code == 1 else PASSED if code == 0 and scenarios else NOT_RUN
    if options.json:
        print(json.dumps({"schema": JSON_SCHEMA, "ok": verdict == PASSED, **_as_json(scenarios)}))
        return verdict
    _print(scenarios, Console())
    print(f"evidence: {options.evidence / 'evidence.html'} (and evidence.json, junit.xml)")
    if verdict == NOT_RUN:
        print(
            f"ipai-harness: nothing was run (pytest ended with {code}): {shlex.join(arguments(options))}",
            file=sys.stderr,
        )
    return verdict


def _as_json(scenarios: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    kept = ("name", "feature", "file", "line", "tags", "status", "reason", "seconds")
    return {
        "counts": Counter(str(one["status"]) for one in scenarios),
        "scenarios": [{key: one[key] for key in kept} for one in scenarios],
    }


def _print(scenarios: Sequence[Mapping[str, Any]], console: Console) -> None:
    table = Table(box=None)
    for title in ("feature", "passed", "failed", "not run"):
        table.add_column(title, justify="left" if title == "feature" else "right")
    for feature in dict.fromkeys(str(one["file"]) for one in scenarios):
        counts = Counter(str(one["status"]) for one in scenarios if one["file"] == feature)
        table.add_row(feature, *(str(counts[status] or "") for status in ("passed", "failed", "not run")))
    console.print(table)
    reasons = Counter(str(one["reason"]) for one in scenarios if one["status"] == "not run")
    for reason, count in reasons.items():
        console.print(f"not run: {count} – {reason}", markup=False, highlight=False)
