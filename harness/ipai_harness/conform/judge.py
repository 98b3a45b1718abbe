"""Whether an answer is right, and in the contract's form. Pure.

The function answers in JSON: `200 {"ok":true,"id":…,"duplicate":…}`, or `{"ok":false,"error":{"code","message"}}`.
An answer in another form comes from the platform's gateway, or is a fault; the two are told apart here.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ipai_bridge.signing import SIGNATURE, TIMESTAMP, ipai_signature
from ipai_harness.audit.finding import printable
from ipai_harness.conform.shot import Bench, Expect, Request, Shot
from ipai_harness.conform.wire import Answer

_CONTRACT_HEADER = "x-ipai-contract"
_PLATFORM_KEYS = {"code", "error_code", "message", "msg", "hint"}
_PLATFORM_STATUSES = (404, 405, 411, 413, 431, 502, 503, 504, 546)
"""Which a gateway, a proxy or the edge runtime gives of itself, as text or as a page."""
_TRACE = re.compile(
    r'Traceback \(most recent call last\)|File "[^"]+", line \d+|\n?\s+at \S+ ?\(?\S+:\d+:\d+\)?|panicked at|'
    r"\bfile:///\S+\.[jt]s|node_modules/|PG::\w+Error|psycopg2?\.|PostgresError"
)


@dataclass(frozen=True)
class Verdict:
    """What is wrong with the answers to one shot; nothing, if `problems` is empty. `id`: of the stored event."""

    problems: tuple[str, ...]
    id: object = None


def by_gateway(answer: Answer) -> bool:
    """Whether the platform's gateway or its edge runtime answered, and the function did not."""
    if _CONTRACT_HEADER in answer.headers:
        return False
    value = _object(answer)
    if value is not None and "ok" in value:
        return False
    if value is not None:
        # {"code":401,"message":…}, {"msg":…}, {"message":…}: each is one of the platform's.
        return value.keys() <= _PLATFORM_KEYS and bool(value.keys() & {"message", "msg"})
    kind = answer.headers.get("content-type", "")
    return answer.status in _PLATFORM_STATUSES and not kind.startswith("application/json")


def code_of(answer: Answer) -> str | None:
    """The error's code, of an answer in the contract's form."""
    error = (_object(answer) or {}).get("error")
    return printable(str(error["code"])[:60]) if isinstance(error, dict) and "code" in error else None


def judge(shot: Shot, request: Request, answers: Sequence[Answer], first_id: object, bench: Bench) -> Verdict:
    """The verdict on the answers to one shot. `first_id`: what the case's first answer gave as the event's id."""
    problems: list[str] = []
    for answer in answers:
        problems += _judged(shot, request, answer, bench)
    if problems:
        return Verdict(tuple(dict.fromkeys(problems)))
    expect = shot.expect
    stored = [value for answer in answers if answer.status == 200 and (value := _object(answer)) is not None]
    ids = {str(value.get("id")) for value in stored}
    if expect.one_new:
        new = sum(value.get("duplicate") is False for value in stored)
        if new != 1:
            problems.append(f"of {len(answers)} at once {new} say duplicate:false, and exactly one must")
        if len(ids) != 1:
            problems.append(f"one event got {len(ids)} ids")
    for value in stored:
        if expect.duplicate is not None and value.get("duplicate") is not expect.duplicate:
            problems.append(
                f"duplicate is {json.dumps(value.get('duplicate'))}: must be {json.dumps(expect.duplicate)}"
            )
    if expect.same_id and stored and ids != {str(first_id)}:
        problems.append("the id is another than in the first answer: an event has one")
    if expect.other_id and stored and str(first_id) in ids:
        problems.append("the id is that of the first answer: these are two events")
    return Verdict(tuple(problems), stored[0].get("id") if stored else None)


def _judged(shot: Shot, request: Request, answer: Answer, bench: Bench) -> list[str]:
    if answer.status is None:
        return [f"no answer: {answer.fault}"]
    problems = _leaks(request, answer, bench)
    expect = shot.expect
    if 300 <= answer.status < 400:
        return [
            *problems,
            f"it redirects ({answer.status}): the sender never follows one, since it would sign for a stranger",
        ]
    if by_gateway(answer):
        if not expect.gateway or answer.status not in expect.statuses:
            problems.append(f"the gateway answered {answer.status}, the function did not: must be {expect}")
        return problems
    if answer.status not in expect.statuses:
        problems.append(f"the status is {answer.status}: must be {' or '.join(map(str, expect.statuses))}")
    return problems + _form(request.method, expect, answer)


def _form(method: str, expect: Expect, answer: Answer) -> list[str]:
    """What is wrong with the answer's form, whatever its status should have been."""
    if method == "HEAD":
        return []
    kind = answer.headers.get("content-type", "")
    problems = []
    if not re.fullmatch(r"application/json\s*(;.*)?", kind, re.IGNORECASE):
        problems.append(f"its content-type is {kind[:60]!r}: must be application/json")
    value = _object(answer)
    if value is None:
        return [*problems, "its body is not a JSON object"]
    if answer.status == 200:
        if value.get("ok") is not True:
            problems.append("a 200 must say ok:true")
        if expect.capabilities:
            if not isinstance(value.get("contract"), int):
                problems.append('the answer to a GET must name its contract: {"ok":true,"contract":1,…}')
            return problems
        if not isinstance(value.get("duplicate"), bool):
            problems.append("a 200 must say duplicate:true or duplicate:false")
        if isinstance(value.get("id"), bool) or not isinstance(value.get("id"), (int, str)) or value.get("id") == "":
            problems.append("a 200 must have the event's id")
    else:
        error = value.get("error")
        if value.get("ok") is not False:
            problems.append("an error must say ok:false")
        if not isinstance(error, dict) or not all(_is_text(error.get(name)) for name in ("code", "message")):
            problems.append('an error must hold {"code","message"}, both texts')
    if answer.status == 429 and not re.fullmatch(
        r"[0-9]+|[A-Z][a-z]{2}, .+ GMT", answer.headers.get("retry-after", "")
    ):
        problems.append("a 429 must have Retry-After: seconds, or a date")
    return problems


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _leaks(request: Request, answer: Answer, bench: Bench) -> list[str]:
    text = "\n".join([*answer.headers.values(), answer.body.decode("utf-8", "replace")])
    found = []
    for secret in bench.secrets:
        plain = secret.reveal()
        hidden = {plain, plain.removeprefix("whsec_")}
        if secret.is_standard:
            key = base64.b64decode(plain[6:])
            hidden |= {key.hex(), key.decode("latin-1")}
        if any(one in text for one in hidden):
            found.append("it repeats a secret")
        stamps = request.values(TIMESTAMP)
        if stamps:
            right = ipai_signature(request.body, stamps[0], secret)
            if right in text and right not in request.values(SIGNATURE):
                found.append("it tells the right signature to who sent a wrong one")
    if bench.jwt and bench.jwt in text:
        found.append("it repeats the JWT")
    if _TRACE.search(text):
        found.append("it shows a stack trace, or the name of an internal error")
    return found


def _object(answer: Answer) -> dict[str, Any] | None:
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
