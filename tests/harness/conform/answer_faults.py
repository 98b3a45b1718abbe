"""Receivers that decide rightly and answer wrongly; in which answers that shows, the faultless receiver says."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

from tests.harness.conform.faults import Fault, cases
from tests.harness.conform.receiver import Faultless, Refused

MALFORMED = "malformed"
ERRORS = "errors"
WRONG = "bad_signature"
ACCEPTED = "accepted"
EVERY = "every"
BY_GATEWAY = cases("http", "put patch delete chunked chunked-over-limit") | cases("body", "over-limit twice-limit")
"""Where what stands in front may answer in its own form, a page passes."""

FORMS: dict[type[Faultless], tuple[str, set[str]]] = {}
"""The faults of this kind, in which answers each shows, and where it does not."""


def shown_in(kind: str, *but: set[str]) -> Callable[[Fault], Fault]:
    def register(fault: Fault) -> Fault:
        FORMS[fault] = kind, set[str]().union(*but)
        return fault

    return register


@shown_in(MALFORMED, {"body/deep"})
class MalformedIs500(Faultless):
    def refuse(self, refused: Refused) -> None:
        super().refuse(Refused(500, "internal") if refused.code == "invalid_event" else refused)

    def check_event(self, body: bytes) -> None:
        if len(body) > 100_000 and body.endswith(b"]}}"):  # the nested one: this one copes with it
            raise Refused(400, "too_deep")
        super().check_event(body)


@shown_in(ERRORS, BY_GATEWAY)
class ErrorPages(Faultless):
    def refuse(self, refused: Refused) -> None:
        self.say(refused.status, b"<html><h1>Not taken</h1></html>", content_type="text/html")


@shown_in(ERRORS)
class ErrorsAsPlainText(Faultless):
    """JSON it is, but it is not said to be."""

    def answer(self, status: int, value: Any, **headers: str) -> None:
        kind = "application/json" if status == 200 else "text/plain"
        self.say(status, json.dumps(value).encode(), content_type=kind, **headers)


@shown_in(ERRORS)
class ErrorIsAText(Faultless):
    def refuse(self, refused: Refused) -> None:
        self.answer(refused.status, {"ok": False, "error": refused.code})


@shown_in(ERRORS)
class StackTraces(Faultless):
    def refuse(self, refused: Refused) -> None:
        refused.message = 'Traceback (most recent call last):\n  File "receiver.py", line 7, in take'
        super().refuse(refused)


@shown_in(WRONG)
class TellsTheRightSignature(Faultless):
    def refuse(self, refused: Refused) -> None:
        if refused.code == "bad_signature":
            timestamp, body = str(self.one("x-ipai-timestamp")), self.body
            right = hmac.digest(self.secrets()[0].encode(), self.signed(timestamp, body), hashlib.sha256).hex()
            refused.message = f"expected {right}"
        super().refuse(refused)

    def check_signature(self, body: bytes) -> None:
        self.body = body
        super().check_signature(body)


@shown_in(WRONG)
class RepeatsTheSecret(Faultless):
    def refuse(self, refused: Refused) -> None:
        if refused.code == "bad_signature":
            refused.message = f"not signed with {self.secrets()[1][6:]}"
        super().refuse(refused)


@shown_in(ACCEPTED)
class SaysNothingOfDuplicates(Faultless):
    def answer(self, status: int, value: Any, **headers: str) -> None:
        value.pop("duplicate", None)
        super().answer(status, value, **headers)


@shown_in(ACCEPTED)
class GivesNoId(Faultless):
    def answer(self, status: int, value: Any, **headers: str) -> None:
        value.pop("id", None)
        super().answer(status, value, **headers)


@shown_in(EVERY)
class Redirects(Faultless):
    def do(self) -> None:
        with contextlib.suppress(Refused):
            self.read()
        self.say(307, b"", location="https://elsewhere.example/")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do


@shown_in(EVERY, cases("http", "chunked chunked-over-limit") | cases("body", "over-limit twice-limit"))
class LimitsWithoutRetryAfter(Faultless):
    def take(self) -> dict[str, Any]:
        self.read()
        raise Refused(429, "slow_down")
