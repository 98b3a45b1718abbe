"""`ipai-harness audit`: the command line of the audit, and its output."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from itertools import groupby
from pathlib import Path
from typing import Any

from ipai_harness.audit.finding import Report, Rule, Severity
from ipai_harness.audit.runner import DATABASE_RULES, PROJECT_RULES, run
from ipai_harness.errors import AuditImpossible
from ipai_harness.stack import paths

CLEAN, FOUND, USAGE, NOT_LOOKED = 0, 1, 2, 3

DESCRIPTION = """\
Looks for what stands open in a Supabase project: in its folder (offline), in its database (catalogues only, read-only,
any role), or in both. Without --db and --project it looks at the project that comes with the harness.
No secret that it finds is ever printed: only where it is, and a fingerprint to tell one from another."""

EPILOG = """\
examples:
  ipai-harness audit                                   the project that comes with the harness
  ipai-harness audit --project ./supabase              a folder with config.toml, migrations/, functions/
  ipai-harness audit --db "$IPAI_HARNESS_SUPABASE_DSN" a database
  ipai-harness audit --project . --db "$DSN" --json    both, for a program
  ipai-harness audit --rules                           every rule, why it is one, and the fix

what is meant to be so is allowed in the file, on the line or the one above, with the reason:
  -- ipai-audit: allow sql-anon-grant because the price list is public

exit codes:
  0  nothing found at or above --fail-on
  1  something found at or above --fail-on
  2  the command line is wrong
  3  could not look (no such folder, no connection), or not with every rule
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser], as_json: argparse.ArgumentParser) -> None:
    """Adds the command to the command line."""
    audit = commands.add_parser(
        "audit", parents=[as_json], help="what stands open in a Supabase project", description=DESCRIPTION,
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    audit.add_argument("--project", type=Path, metavar="DIR", help="a Supabase project's folder (or the one above it)")
    audit.add_argument(
        "--db", metavar="DSN", help="a database's DSN; `-` takes it from IPAI_AUDIT_DSN, where no process list shows it"
    )
    audit.add_argument(
        "--fail-on", choices=[one.word for one in Severity if one is not Severity.INFO], default="warning",
        help="the severity from which the exit code is 1 (default: %(default)s)",
    )  # fmt: skip
    audit.add_argument("--rules", action="store_true", help="print the rules and do nothing else")
    audit.set_defaults(run=command)


def command(options: argparse.Namespace) -> int:
    """Runs the command; its exit code."""
    if options.rules:
        _print_rules(as_json=options.json)
        return CLEAN
    dsn = os.environ.get("IPAI_AUDIT_DSN") if options.db == "-" else options.db
    if options.db is not None and not dsn:
        print("ipai-harness audit: --db is empty, or IPAI_AUDIT_DSN is not set", file=sys.stderr)
        return USAGE
    project = options.project if options.project or dsn else paths.supabase_project()
    try:
        report = run(project, dsn)
    except AuditImpossible as error:
        if options.json:
            print(json.dumps({**Report().as_json(), "not_looked": [str(error)]}))
        print(f"ipai-harness: {error}", file=sys.stderr)
        return NOT_LOOKED
    print(json.dumps(report.as_json()) if options.json else as_text(report))
    if report.at_least(Severity[options.fail_on.upper()]):
        return FOUND
    return NOT_LOOKED if report.not_looked else CLEAN


def as_text(report: Report) -> str:
    """The report for people: by severity and rule, then a summary."""
    lines: list[str] = []
    for (severity, rule), group in groupby(report.findings, key=lambda one: (one.severity, one.rule)):
        approximate = " (read from text: approximate)" if rule.approximate else ""
        lines.append(f"{severity.word.upper()}  {rule.id}: {rule.title}{approximate}")
        for finding in group:
            known = f" (fingerprint {finding.found.fingerprint})" if finding.found.fingerprint else ""
            lines.append(f"    {finding.where}: {finding.as_json()['message']}{known}")
        for label, text in (("why", rule.why), ("fix", rule.fix)):
            lines += textwrap.wrap(f"{label}: {text}", 110, initial_indent="  ", subsequent_indent="       ")
        lines.append("")
    lines += [f"COULD NOT LOOK: {what}" for what in report.not_looked]
    looked = " and ".join(one for one in (report.project, report.database) if one)
    counts = ", ".join(f"{report.count(one)} {one.word}" for one in reversed(Severity))
    allowed = f", {report.allowed} allowed in the files" if report.allowed else ""
    lines.append(f"{looked}: {counts if report.findings else 'nothing found'}{allowed}")
    return "\n".join(lines)


def _print_rules(*, as_json: bool) -> None:
    every: list[Rule[Any]] = [*PROJECT_RULES, *DATABASE_RULES]
    rules = [
        {"rule": rule.id, "severity": rule.severity.word, "title": rule.title, "why": rule.why, "fix": rule.fix,
         "approximate": rule.approximate}
        for rule in every
    ]  # fmt: skip
    if as_json:
        print(json.dumps(rules))
        return
    for one in rules:
        print(f"{one['rule']} ({one['severity']}): {one['title']}")
        for label in ("why", "fix"):
            print(textwrap.fill(f"{label}: {one[label]}", 110, initial_indent="  ", subsequent_indent="       "))
