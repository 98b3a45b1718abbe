"""`ipai-harness conform`: the command line of the conformance kit, and its output."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import Any
from urllib.parse import urlsplit

from ipai_bridge.endpoint import broken_url_rule
from ipai_bridge.errors import SettingsError
from ipai_bridge.settings import resolve
from ipai_harness.conform.case import Case
from ipai_harness.conform.cases import selected
from ipai_harness.conform.curl import as_shell, sent
from ipai_harness.conform.judge import by_gateway, code_of
from ipai_harness.conform.runner import Outcome, Report, Result, new_bench, run
from ipai_harness.errors import ConformImpossible, TargetRefused
from ipai_harness.stack.progress import Progress
from ipai_harness.target import check_production, check_project

CONFORMS, FAILED, USAGE, NOT_TESTED = 0, 1, 2, 3
JSON_SCHEMA = 1
"""Raised when a key of the JSON output goes or changes its meaning; new keys may come without."""

FUNCTION = "odoo-webhook"

DESCRIPTION = """\
Tests any implementation of the webhook against the contract, over HTTP alone: who signed, when, under which id, what it
says, in which form it comes, and the form of each answer. Events that the receiver stores are under an instance name of
their own (conform-…) and of the type ipai.conform.sent.

The secret comes from IPAI_BRIDGE_SECRET or IPAI_BRIDGE_SECRET_FILE: several, as in a rotation, test the old one too. A
token for the platform's gateway comes from IPAI_HARNESS_JWT. None of them is ever printed."""

EPILOG = """\
examples:
  eval "$(ipai-harness env)" && ipai-harness conform "$IPAI_HARNESS_FUNCTIONS_URL"
  ipai-harness conform http://127.0.0.1:54321/functions/v1     below supabase functions serve
  ipai-harness conform https://hooks.staging.example.com/odoo  any receiver
  ipai-harness conform --list                                  every case, and why
  ipai-harness conform "$URL" -k timestamp/ -k key/at-once     some of them
  ipai-harness conform "$URL" --json                           for a program

exit codes:
  0    every case that was sent was answered as the contract says
  1    some were not; each is printed with commands that send it again
  2    the command line is wrong
  3    not tested: no receiver there, no secret, or a target that is refused
  130  interrupted
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser], as_json: argparse.ArgumentParser) -> None:
    """Adds the command to the command line."""
    conform = commands.add_parser(
        "conform", parents=[as_json], help="whether a webhook does what the contract says", description=DESCRIPTION,
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    conform.add_argument(
        "url",
        nargs="?",
        metavar="URL",
        help=f"the webhook, or a functions base (…/functions/v1), whose {FUNCTION} it is",
    )
    conform.add_argument(
        "-k", dest="only", action="append", default=[], metavar="WORD",
        help="only the cases whose group/name holds the word; repeatable",
    )  # fmt: skip
    conform.add_argument("--list", action="store_true", help="print the cases, and send nothing")
    conform.add_argument(
        "--timeout", type=float, default=15.0, metavar="S", help="seconds that an answer may take (default: 15)"
    )
    conform.add_argument(
        "--yes-this-is-production", action="store_true", help="send to a target that looks like production"
    )
    conform.set_defaults(run=command)


def command(options: argparse.Namespace) -> int:
    """Runs the command; its exit code."""
    cases = selected(options.only)
    if not cases:
        print("ipai-harness conform: no case of that name: see ipai-harness conform --list", file=sys.stderr)
        return USAGE
    if options.list:
        _print_cases(cases, as_json=options.json)
        return CONFORMS
    if not options.url:
        print("ipai-harness conform: say which URL, or --list", file=sys.stderr)
        return USAGE
    if options.timeout <= 0:
        print("ipai-harness conform: --timeout must be more than 0 seconds", file=sys.stderr)
        return USAGE
    try:
        report = _run(options, cases)
    except (ConformImpossible, SettingsError, TargetRefused) as error:
        if options.json:
            print(json.dumps({"schema": JSON_SCHEMA, "not_tested": f"{error.code}: {error}"}))
        print(f"ipai-harness: {error}", file=sys.stderr)
        return NOT_TESTED
    print(json.dumps(as_json(report)) if options.json else as_text(report))
    return FAILED if report.failed else CONFORMS


def webhook_url(given: str) -> str:
    """The webhook's own URL. Raises SettingsError for one that is not taken."""
    url = given.rstrip("/")
    if urlsplit(url).path.endswith("/functions/v1"):
        url = f"{url}/{FUNCTION}"
    rule = broken_url_rule(url.removesuffix(f"/{FUNCTION}"))
    if rule:
        raise SettingsError("URL", rule)
    return url


def _run(options: argparse.Namespace, cases: Sequence[Case]) -> Report:
    check_project(options.url)
    url = webhook_url(options.url)
    check_production(url, allowed=options.yes_this_is_production)
    secrets = resolve(environ=os.environ, only=("secret", "secret_file")).settings.require_secrets()
    bench = new_bench(secrets, os.environ.get("IPAI_HARNESS_JWT") or None)
    print(f"what {url} stores of this is under the instance {bench.instance}", file=sys.stderr)
    with Progress() as progress, progress.step("conform", f"{len(cases)} cases") as step:
        return run(url, bench, cases, timeout=options.timeout, progress=step.update)


def as_json(report: Report) -> dict[str, Any]:
    """The JSON output."""
    return {
        "schema": JSON_SCHEMA,
        "url": report.url,
        "instance": report.bench.instance,
        "secrets": [secret.fingerprint for secret in report.bench.secrets],
        "seconds": round(report.seconds, 3),
        "notes": report.notes,
        "summary": {outcome.name.lower(): report.count(outcome) for outcome in Outcome},
        "cases": [_case_json(report.url, result) for result in report.results],
    }


def _case_json(url: str, result: Result) -> dict[str, Any]:
    case = result.case
    return {
        "case": case.id, "group": case.group, "sent": case.sent, "why": case.why,
        "outcome": result.outcome.name.lower(), "problems": list(result.problems), "reason": result.reason,
        "requests": [
            {
                "method": exchange.request.method, "headers": sent(exchange.request),
                "bytes": len(exchange.request.body), "expected": str(exchange.shot.expect),
                "answers": [
                    {
                        "status": answer.status, "code": code_of(answer), "fault": answer.fault,
                        "by": _by(answer), "seconds": round(answer.seconds, 3),
                    }
                    for answer in exchange.answers
                ],
            }
            for exchange in result.exchanges
        ],
        "curl": as_shell(url, result) if result.outcome is Outcome.FAILED else None,
    }  # fmt: skip


def _by(answer: Any) -> str | None:
    if answer.status is None:
        return None
    return "gateway" if by_gateway(answer) else "function"


def as_text(report: Report) -> str:
    """The report for people: a line a case, by group; then each that failed, with commands to send it again."""
    lines: list[str] = []
    width = max(len(result.case.name) for result in report.results)
    for group, results in groupby(report.results, key=_group):
        lines.append(group)
        lines += [f"  {_line(result, width)}" for result in results]
    for result in report.failed:
        lines += ["", f"FAILED {result.case.id}: {result.case.sent}"]
        for label, text in (("rule", result.case.why), *(("but", problem) for problem in result.problems)):
            lines += textwrap.wrap(f"{label}: {text}", 110, initial_indent="  ", subsequent_indent="        ")
        lines += ["  again:", *(f"    {line}" for line in as_shell(report.url, result).splitlines())]
    counts = ", ".join(f"{report.count(outcome)} {outcome.value}" for outcome in Outcome)
    lines += ["", *(f"note: {note}" for note in report.notes), f"{report.url}: {counts} ({report.seconds:.1f} s)"]
    return "\n".join(lines)


def _group(result: Result) -> str:
    return result.case.group


def _line(result: Result, width: int) -> str:
    head = (
        f"{result.outcome.value if result.outcome is not Outcome.FAILED else 'FAILED':<8} {result.case.name:<{width}}"
    )
    if result.outcome is Outcome.NOT_RUN:
        return f"{head}  {result.reason}"
    expected = ", then ".join(str(exchange.shot.expect) for exchange in result.exchanges)
    return f"{head}  {', then '.join(_answered(exchange.answers) for exchange in result.exchanges):<42} ({expected})"


def _answered(answers: Sequence[Any]) -> str:
    said: dict[str, int] = {}
    for answer in answers:
        text = "no answer" if answer.status is None else " ".join(filter(None, (str(answer.status), code_of(answer))))
        text += " by the gateway" if _by(answer) == "gateway" else ""
        said[text] = said.get(text, 0) + 1
    return ", ".join(text if times == 1 else f"{times} × {text}" for text, times in said.items())


def _print_cases(cases: Sequence[Case], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {"case": case.id, "group": case.group, "sent": case.sent, "why": case.why,
             "needs": [need.value for need in case.needs]}
            for case in cases
        ]  # fmt: skip
        print(json.dumps(rows))
        return
    for case in cases:
        print(f"{case.id}: {case.sent}")
        for text in (f"rule: {case.why}", *(f"needs {need.value}" for need in case.needs)):
            print(textwrap.fill(text, 110, initial_indent="  ", subsequent_indent="        "))
