"""The errors: one tree, documented, with stable codes, and fit to cross a process boundary."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import re
from pathlib import Path

import pytest

from ipai_bridge import errors
from ipai_bridge.errors import BridgeError, EventInvalid, SettingsError

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, BridgeError)]
BY_NAME = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)

# The codes are an interface: programs branch on them. Add to this list; never change an entry.
CODES = {
    "BridgeError": "bridge_error",
    "DeliveryError": "delivery_error",
    "DeprecatedProject": "deprecated_project",
    "EndpointGone": "endpoint_gone",
    "EventInvalid": "event_invalid",
    "EventNotFound": "event_not_found",
    "FieldNotSendable": "field_not_sendable",
    "HeaderMalformed": "header_malformed",
    "HeaderMissing": "header_missing",
    "IdMismatch": "id_mismatch",
    "InputUnreadable": "input_unreadable",
    "NotElected": "not_elected",
    "OdooRefused": "odoo_refused",
    "OdooUnavailable": "odoo_unavailable",
    "OutboxUnavailable": "outbox_unavailable",
    "OutboxError": "outbox_error",
    "PayloadError": "payload_error",
    "RecordUnreadable": "record_unreadable",
    "SchemaMissing": "schema_missing",
    "SecretUnreadable": "secret_unreadable",
    "ServerActionError": "server_action_error",
    "SettingsError": "settings_error",
    "SignatureError": "signature_error",
    "SignatureMismatch": "signature_mismatch",
    "SyncError": "sync_error",
    "SyncRefused": "sync_refused",
    "SyncUnavailable": "sync_unavailable",
    "TimestampStale": "timestamp_stale",
    "UnknownField": "unknown_field",
    "WeakSecret": "weak_secret",
}


def make(cls: type[BridgeError]) -> BridgeError:
    if issubclass(cls, EventInvalid | SettingsError):
        return cls("where", "must be so")
    return cls()


def test_public_list_is_sorted_and_complete() -> None:
    assert errors.__all__ == sorted(cls.__name__ for cls in CLASSES)


def test_codes_are_what_they_have_always_been() -> None:
    assert {cls.__name__: cls.code for cls in CLASSES} == CODES


def test_codes_are_unique() -> None:
    assert len({cls.code for cls in CLASSES}) == len(CLASSES)


@BY_NAME
def test_code_is_the_name_in_snake_case_and_its_own(cls: type[BridgeError]) -> None:
    assert cls.code == re.sub(r"(?<!^)([A-Z])", r"_\1", cls.__name__).lower()
    assert "code" in vars(cls)


@BY_NAME
def test_docstring_is_a_sentence_of_its_own(cls: type[BridgeError]) -> None:
    assert "__doc__" in vars(cls)
    first = (cls.__doc__ or "").partition("\n")[0]
    assert first.endswith(".")
    assert len(first) > 30


@pytest.mark.parametrize(
    "cls", [c for c in CLASSES if not issubclass(c, EventInvalid | SettingsError)], ids=lambda cls: cls.__name__
)
def test_default_message_is_the_first_line_of_the_docstring(cls: type[BridgeError]) -> None:
    assert str(cls()) == (cls.__doc__ or "").partition("\n")[0]
    assert str(cls("what failed")) == "what failed"


def test_the_tree_in_the_module_docstring_is_the_tree() -> None:
    drawn: dict[str, tuple[int, str]] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│├└─ ]*)([A-Z]\w+) +([a-z_]+)", line)
        if match:
            drawn[match[2]] = (len(match[1]) // 4, match[3])
    assert drawn == {cls.__name__: (len(cls.__mro__) - len(BridgeError.__mro__), cls.code) for cls in CLASSES}


def test_errors_imports_nothing() -> None:
    tree = ast.parse(Path(inspect.getfile(errors)).read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


@BY_NAME
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(cls: type[BridgeError], protocol: int) -> None:
    error = make(cls)
    error.extra = 1  # type: ignore[attr-defined]
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 -- what was just dumped
    assert type(again) is cls
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_copies() -> None:
    error = copy.copy(EventInvalid("payload.a", "must be shorter"))
    assert (error.field, error.rule, str(error)) == ("payload.a", "must be shorter", "payload.a must be shorter")


def test_a_subclass_with_arguments_of_its_own_pickles() -> None:
    again = pickle.loads(pickle.dumps(AwkwardError(1, reason="full")))  # noqa: S301 -- what was just dumped
    assert (str(again), again.reason) == ("1 full", "full")


class AwkwardError(BridgeError):
    """An error with arguments that `args` does not hold."""

    def __init__(self, number: int, *, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{number} {reason}")


@pytest.mark.parametrize("cls", [c for c in CLASSES if issubclass(c, SettingsError)], ids=lambda cls: cls.__name__)
def test_settings_errors_name_the_setting_and_the_rule(cls: type[SettingsError]) -> None:
    error = cls("IPAI_BRIDGE_URL", "must start with https://")
    assert (error.name, error.rule) == ("IPAI_BRIDGE_URL", "must start with https://")
    assert error.message == str(error) == "IPAI_BRIDGE_URL must start with https://"
