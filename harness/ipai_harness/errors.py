"""Every error that the harness raises, and the code to recognise it by.

    ipai_bridge.errors.BridgeError
    └── HarnessError            harness_error
        ├── PartFailed          part_failed          a part of the stack did not start, or died
        ├── PartMissing         part_missing         a program that the stack needs is not on this machine
        ├── DownloadFailed      download_failed      something could not be fetched
        ├── StackNotRunning     stack_not_running    no stack of that name runs
        ├── StackDegraded       stack_degraded       a stack of that name runs in part
        ├── StackBusy           stack_busy           another command is starting or stopping that stack
        ├── MigrationFailed     migration_failed     a migration failed, or is not to be applied or taken back as asked
        ├── AuditImpossible     audit_impossible     what is to be audited cannot be looked at
        ├── ConformImpossible   conform_impossible   there is no receiver to test, or it takes no event at all
        ├── TargetRefused       target_refused       the target is deprecated, or looks like production
        ├── SchemaMapInvalid    schema_map_invalid   a schema map cannot be read, or does not fit the database
        └── DriftUnseen         drift_unseen         a side between which drift is looked for does not answer

Each text says what failed, why, and what to do; none holds a password or a secret.
"""

# ruff: noqa: N818 -- named after what is the case, like ipai_bridge.errors

from __future__ import annotations

from ipai_bridge.errors import BridgeError

__all__ = [
    "AuditImpossible",
    "ConformImpossible",
    "DownloadFailed",
    "DriftUnseen",
    "HarnessError",
    "MigrationFailed",
    "PartFailed",
    "PartMissing",
    "SchemaMapInvalid",
    "StackBusy",
    "StackDegraded",
    "StackNotRunning",
    "TargetRefused",
]


class HarnessError(BridgeError):
    """The harness could not do what was asked."""

    code = "harness_error"


class PartFailed(HarnessError):
    """A part of the stack did not start, or died.

    `part` is its name, `log_tail` the end of its log, `hint` what to do.
    """

    code = "part_failed"

    def __init__(self, part: str, reason: str, *, log_tail: str = "", hint: str = "") -> None:
        self.part = part
        self.reason = reason
        self.log_tail = log_tail
        self.hint = hint
        lines = [f"{part}: {reason}"]
        if log_tail:
            lines += ["", f"the end of {part}'s log:", *(f"  {line}" for line in log_tail.splitlines())]
        if hint:
            lines += ["", f"what to do: {hint}"]
        super().__init__("\n".join(lines))


class PartMissing(HarnessError):
    """A program that the stack needs is not on this machine."""

    code = "part_missing"


class DownloadFailed(HarnessError):
    """Something that the stack needs could not be fetched."""

    code = "download_failed"


class StackNotRunning(HarnessError):
    """No stack of that name runs."""

    code = "stack_not_running"


class StackDegraded(HarnessError):
    """A stack of that name runs, but not every part of it."""

    code = "stack_degraded"


class StackBusy(HarnessError):
    """Another command is starting or stopping that stack."""

    code = "stack_busy"


class MigrationFailed(HarnessError):
    """A migration failed, or is not to be applied or taken back as asked."""

    code = "migration_failed"


class AuditImpossible(HarnessError):
    """What is to be audited cannot be looked at."""

    code = "audit_impossible"


class ConformImpossible(HarnessError):
    """The receiver cannot be tested: it cannot be reached, or takes no event at all."""

    code = "conform_impossible"


class TargetRefused(HarnessError):
    """The target is not touched: it is deprecated, or looks like production."""

    code = "target_refused"


class SchemaMapInvalid(HarnessError):
    """The schema map cannot be read, or does not fit the database: correct the key that is named."""

    code = "schema_map_invalid"


class DriftUnseen(HarnessError):
    """A side between which drift is looked for does not answer."""

    code = "drift_unseen"
