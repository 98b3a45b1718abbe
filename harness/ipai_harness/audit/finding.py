"""What a rule is, what it finds, and the report of all. Pure."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Subject = TypeVar("Subject")

JSON_SCHEMA = 1
"""Raised when a key of the JSON output goes or changes its meaning; new keys may come without."""


class Severity(enum.IntEnum):
    """How bad a finding is: INFO is worth knowing, WARNING is a door that a mistake opens, ERROR is an open one."""

    INFO = 1
    WARNING = 2
    ERROR = 3

    @property
    def word(self) -> str:
        """As it is written: "warning"."""
        return self.name.lower()


@dataclass(frozen=True)
class Found:
    """One place where a rule does not hold. `severity` when it differs from the rule's."""

    message: str
    file: str | None = None
    line: int | None = None
    object: str | None = None
    severity: Severity | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class Rule(Generic[Subject]):
    """A check with what people need to act on it."""

    id: str
    severity: Severity
    title: str
    why: str
    fix: str
    check: Callable[[Subject], Iterable[Found]]
    approximate: bool = False


def rule(
    rule_id: str, severity: Severity, title: str, *, why: str, fix: str, approximate: bool = False
) -> Callable[[Callable[[Subject], Iterable[Found]]], Rule[Subject]]:
    """Makes a Rule of the function below it."""

    def of(check: Callable[[Subject], Iterable[Found]]) -> Rule[Subject]:
        return Rule(rule_id, severity, title, why, fix, check, approximate)

    return of


@dataclass(frozen=True)
class Finding:
    """What a rule found, ready to be shown."""

    rule: Rule[Any]
    found: Found

    @property
    def severity(self) -> Severity:
        """The severity of this one."""
        return self.found.severity or self.rule.severity

    @property
    def where(self) -> str:
        """File and line, or the database's object."""
        if self.found.file is not None:
            return printable(self.found.file) + (f":{self.found.line}" if self.found.line else "")
        return printable(self.found.object or "")

    def as_json(self) -> dict[str, Any]:
        """The finding's entry in the JSON output."""
        return {
            "rule": self.rule.id,
            "severity": self.severity.word,
            "title": self.rule.title,
            "message": printable(self.found.message),
            "file": None if self.found.file is None else printable(self.found.file),
            "line": self.found.line,
            "object": None if self.found.object is None else printable(self.found.object),
            "fingerprint": self.found.fingerprint,
            "why": self.rule.why,
            "fix": self.rule.fix,
            "approximate": self.rule.approximate,
        }


@dataclass
class Report:
    """All findings, the worst first; what was looked at; what could not be."""

    project: str | None = None
    database: str | None = None
    findings: list[Finding] = field(default_factory=list)
    allowed: int = 0
    not_looked: list[str] = field(default_factory=list)

    def sort(self) -> None:
        """The worst first, then by rule and place."""
        self.findings.sort(key=lambda one: (-one.severity, one.rule.id, one.found.file or "", one.found.line or 0,
                                            one.where))  # fmt: skip

    def count(self, severity: Severity) -> int:
        """How many findings of this severity."""
        return sum(finding.severity is severity for finding in self.findings)

    def at_least(self, severity: Severity) -> bool:
        """Whether anything is as bad as that, or worse."""
        return any(finding.severity >= severity for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The JSON output."""
        return {
            "schema": JSON_SCHEMA,
            "project": self.project,
            "database": self.database,
            "summary": {**{one.word: self.count(one) for one in reversed(Severity)}, "allowed": self.allowed},
            "not_looked": self.not_looked,
            "findings": [finding.as_json() for finding in self.findings],
        }


def printable(text: str) -> str:
    """The text without what could move a terminal's cursor or fail to be encoded: names come from a hostile folder."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "replace").decode()
        for character in text
    )


def fingerprint(secret: str) -> str:
    """Eight hex digits by which two findings of one secret are recognised; the secret cannot be had from them."""
    return hashlib.sha256(b"ipai-audit\0" + secret.encode("utf-8", "surrogatepass")).hexdigest()[:8]
