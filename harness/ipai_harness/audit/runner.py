"""Runs the rules over a folder, over a database, or over both."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

from ipai_bridge.endpoint import shown_dsn
from ipai_harness.audit import catalog, database_rules, file_rules, folder, function_rules, migration_rules, sql_rules
from ipai_harness.audit.finding import Finding, Report, Rule

Subject = TypeVar("Subject")
SECONDS_PER_RULE = 20.0

PROJECT_RULES: tuple[Rule[folder.Project], ...] = (
    *file_rules.RULES, *function_rules.RULES, *migration_rules.RULES, *sql_rules.RULES,
)  # fmt: skip
DATABASE_RULES: tuple[Rule[catalog.Catalog], ...] = database_rules.RULES


def run(project: Path | None = None, dsn: str | None = None) -> Report:
    """Everything that is found in the folder and in the database. Raises AuditImpossible when one cannot be looked "
    "at."""
    report = Report()
    exposed = None
    if project is not None:
        read = folder.read(project)
        report.project = str(read.root)
        for found in _apply(PROJECT_RULES, read, report):
            file = read.files.get(found.found.file or "")
            if file is not None and (found.rule.id, found.found.line or 1) in file.allowed:
                report.allowed += 1
            else:
                report.findings.append(found)
        exposed = read.exposed if "schemas" in read.section("api") else None
    if dsn is not None:
        report.database = shown_dsn(dsn)
        report.findings += _apply(DATABASE_RULES, catalog.read(dsn, exposed), report)
    report.sort()
    return report


class TooSlow(Exception):  # noqa: N818 -- named after what is the case
    """The rule was stopped."""


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raises TooSlow in the block after that time: a hostile file can make any search slow. In the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _apply(rules: Iterable[Rule[Subject]], subject: Subject, report: Report) -> list[Finding]:
    findings: list[Finding] = []
    for rule in rules:
        try:
            with _within(SECONDS_PER_RULE):
                findings += [Finding(rule, found) for found in rule.check(subject)]
        except Exception as error:  # noqa: BLE001 -- one rule that trips over a hostile folder must not hide the others
            report.not_looked.append(f"{rule.id}: {type(error).__name__}")
    return findings
