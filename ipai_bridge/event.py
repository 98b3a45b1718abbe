"""An event: what happened, to which record, and the bytes that say so.

`Event.create` checks everything once and makes the webhook's body once. From then on the bytes are kept and never made
again: what the outbox stores is what is signed, and what is signed is what is sent.

Ids are UUIDs of version 7 (RFC 9562): they sort by the time at which they were made, so an index on them stays small,
and a list of them reads in order. `new_id` is the pure function; `next_ids` is this module's one edge, which reads the
clock and the random source.
"""

from __future__ import annotations

import json
import math
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType
from uuid import UUID

from ipai_bridge.errors import EventInvalid

__all__ = ["DEFAULT_INSTANCE", "MAX_BODY", "MAX_DEPTH", "Event", "IdSource", "new_id", "next_id", "next_ids"]

MAX_BODY = 1_048_576
"""Bytes: the largest body that is emitted, and that the receiver takes."""

MAX_DEPTH = 64
"""Levels of lists and objects in a payload, the payload itself being the first."""

MAX_INTEGER = 2**63 - 1
MAX_NAME = 200
DEFAULT_INSTANCE = "default"

# Each is used with fullmatch, never with `$`, which would let a line feed at the end pass.
_EVENT_TYPE = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)+")
_MODEL = re.compile(r"[a-z_][a-z0-9_]*(?:\.[a-z0-9_]+)*")
_INSTANCE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_NOT_IN_ID = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Event:
    """One business event, ready for the outbox.

    `body` is the webhook's whole body, compact JSON in UTF-8, kept byte for byte. Make new events with `Event.create`:
    the constructor itself checks nothing, and is for what `create` made before, such as a row of the outbox.
    """

    id: UUID
    event_type: str
    aggregate_type: str
    aggregate_id: str
    body: bytes = field(repr=False)  # a body is business data: it has no place in a log
    instance: str = DEFAULT_INSTANCE

    @classmethod
    def create(
        cls,
        *,
        id: UUID,
        event_type: str,
        aggregate_type: str,
        aggregate_id: str,
        payload: Mapping[str, object],
        instance: str = DEFAULT_INSTANCE,
    ) -> Event:
        """An event whose every part keeps the contract, with its body made.

        - `event_type`: two or more lower-case words joined by dots (`account.move.posted`); at most 200 characters.
        - `aggregate_type`: the name of an Odoo model; at most 200 characters.
        - `aggregate_id`: the record's id, as text: not empty, no control characters, at most 200 characters.
        - `payload`: string keys, and values that JSON has: text, numbers, booleans, None, lists, tuples, dicts.
        - `instance`: which Odoo this is.

        Raises `EventInvalid`, which names the field (`payload.lines[3].amount`) and the rule.
        """
        if not isinstance(id, UUID):
            raise EventInvalid("id", f"must be a UUID, not {_kind(id)}")
        _check_name("event_type", event_type, _EVENT_TYPE, "two or more lower-case words joined by dots (a.b_c.d1)")
        _check_name("aggregate_type", aggregate_type, _MODEL, "the name of an Odoo model, such as account.move")
        _check_aggregate_id(aggregate_id)
        if not isinstance(instance, str) or not _INSTANCE.fullmatch(instance):
            raise EventInvalid("instance", "must be 1 to 63 of a-z, 0-9, '_' and '-', and begin with a letter or digit")
        body = _body(event_type, aggregate_type, aggregate_id, payload)
        return cls(id, event_type, aggregate_type, aggregate_id, body, instance)


def _check_name(name: str, value: object, form: re.Pattern[str], rule: str) -> None:
    if not isinstance(value, str):
        raise EventInvalid(name, f"must be text, not {_kind(value)}")
    if len(value) > MAX_NAME:
        raise EventInvalid(name, f"must be at most {MAX_NAME} characters, not {len(value)}")
    if not form.fullmatch(value):
        raise EventInvalid(name, f"must be {rule}, not {value!r}")


def _check_aggregate_id(value: object) -> None:
    if not isinstance(value, str):
        raise EventInvalid("aggregate_id", f"must be text, not {_kind(value)}: pass str(record.id)")
    if not 1 <= len(value) <= MAX_NAME:
        raise EventInvalid("aggregate_id", f"must be 1 to {MAX_NAME} characters, not {len(value)}")
    if _NOT_IN_ID.search(value):
        raise EventInvalid("aggregate_id", f"must be without control characters and lone surrogates, not {value!r}")


def _body(event_type: str, aggregate_type: str, aggregate_id: str, payload: Mapping[str, object]) -> bytes:
    """The webhook's body. Fast where all is well; where something is wrong, looks for the place that is to blame."""
    if type(payload) is not dict:
        if not isinstance(payload, Mapping):
            raise EventInvalid("payload", f"must be a mapping, not {_kind(payload)}")
        payload = dict(payload)
    if not _is_plain(payload):
        _blame(payload)
    whole = {
        "event_type": event_type,
        "aggregate_type": aggregate_type,
        "aggregate_id": aggregate_id,
        "payload": payload,
    }
    try:
        body = _encode(whole).encode()
    except (ValueError, TypeError, RecursionError):  # UnicodeEncodeError is a ValueError
        body = b""
    if not body:
        # Outside of the handler: what the encoder raises may hold the whole text, and would travel on as the context.
        _blame(payload)
        raise EventInvalid("payload", "must be values that JSON has, and not be changed meanwhile")
    if len(body) > MAX_BODY:
        raise EventInvalid(
            "payload", f"makes a body of {len(body):,} bytes, and {MAX_BODY:,} is the most: send fewer fields"
        )
    if b"\\u0000" in body:  # a NUL; or a backslash before the letters u0000, which is allowed
        _blame(payload)
    return body


_LEAVES = frozenset({str, bool, float, NoneType})


def _is_plain(payload: dict[str, object]) -> bool:
    """True if keys, types, integers and depth are surely in order; text and floats are left to the encoder.

    Goes level by level and counts, so that a structure that contains itself, or one list many times, ends it soon.
    """
    level: list[object] = [payload]
    count = 0
    for _ in range(MAX_DEPTH):
        deeper: list[object] = []
        for container in level:
            if type(container) is dict:
                for key in container:
                    if type(key) is not str:
                        return False
                values = container.values()
            else:
                values = container  # type: ignore[assignment]
            count += len(values)
            for value in values:
                kind = type(value)
                if kind in _LEAVES:
                    continue
                if kind is int:
                    if not -MAX_INTEGER <= value <= MAX_INTEGER:
                        return False
                elif kind is dict or kind is list or kind is tuple:
                    deeper.append(value)
                else:
                    return False
            if count > MAX_BODY:
                return False
        if not deeper:
            return True
        level = deeper
    return False


def _blame(payload: dict[str, object]) -> None:
    """Raise for the first value that breaks a rule; return if none does (what is unusual need not be wrong)."""
    pending: list[tuple[str, object, int]] = [("payload", payload, 1)]
    count = 0
    while pending:
        path, value, depth = pending.pop()
        count += 1
        if count > MAX_BODY:
            raise EventInvalid("payload", f"holds more than {MAX_BODY:,} values: send fewer")
        rule = _broken_rule(value, depth)
        if rule:
            raise EventInvalid(path, rule)
        children = _children(path, value, depth)
        pending.extend(reversed(list(children)))


def _children(path: str, value: object, depth: int) -> Iterator[tuple[str, object, int]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise EventInvalid(path, f"must have text as keys, not {_kind(key)} {_shown(key)}".rstrip())
            rule = _broken_rule(key, depth)
            if rule:
                raise EventInvalid(path, f"has the key {_shown(key)}, and a key {rule}")
            yield f"{path}.{key}" if key.isidentifier() else f"{path}[{_shown(key)}]", item, depth + 1
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield f"{path}[{index}]", item, depth + 1


def _broken_rule(value: object, depth: int) -> str | None:
    """The rule that a single value breaks, as words to put after its path."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        if "\x00" in value:
            return "must be without NUL characters, which PostgreSQL cannot store"
        if _SURROGATE.search(value):
            return "must be without lone surrogates, which UTF-8 cannot hold"
        return None
    if isinstance(value, int):
        if -MAX_INTEGER <= value <= MAX_INTEGER:
            return None
        return "must fit into 64 bits: send a number as large as this as text"
    if isinstance(value, float):
        return None if math.isfinite(value) else "must be a finite number: JSON has no NaN and no infinity"
    if isinstance(value, (dict, list, tuple)):
        return None if depth <= MAX_DEPTH else f"must be nested at most {MAX_DEPTH} deep"
    return f"must be a value that JSON has, not {_kind(value)}"


def _kind(value: object) -> str:
    return type(value).__name__


def _shown(value: object) -> str:
    """A key as it may be printed: nothing long, nothing deep, nothing that runs code of its own."""
    if type(value) in (str, bytes):
        value = value[:60]  # type: ignore[index]
    elif type(value) not in (bool, float, NoneType) and not (type(value) is int and abs(value) <= MAX_INTEGER):
        return ""
    return ascii(value)


_RANDOM_BITS = 74  # 12 before the variant and 62 after it
_MAX_MS = 2**48 - 1


def new_id(now_ms: int, entropy: bytes) -> UUID:
    """The UUID of version 7 for this moment and these random bytes.

    `now_ms`: milliseconds since the epoch. `entropy`: 10 bytes, of which the first 74 bits are used.
    Raises `EventInvalid` if either is out of its range.
    """
    if not 0 <= now_ms <= _MAX_MS:
        raise EventInvalid("now_ms", f"must be milliseconds since the epoch, from 0 to {_MAX_MS}")
    if len(entropy) != 10:
        raise EventInvalid("entropy", f"must be 10 bytes, not {len(entropy)}")
    return _uuid7(now_ms << _RANDOM_BITS | int.from_bytes(entropy, "big") >> 6)


def _uuid7(number: int) -> UUID:
    """The 122 bits of time and randomness, with the six bits of version and variant put in between."""
    time_part, random_part = number >> _RANDOM_BITS, number & (1 << _RANDOM_BITS) - 1
    high, low = random_part >> 62, random_part & (1 << 62) - 1
    return UUID(int=time_part << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)


class IdSource:
    """Ids of which a later one always sorts after an earlier one, as far as this process goes.

    Also within one millisecond, from several threads, after the clock was set back, and in a child after `fork`, which
    never repeats its parent's ids. `now_ms` and `entropy` are for tests.
    """

    def __init__(
        self,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._now_ms = now_ms
        self._entropy = entropy
        self._last = -1
        self._forget_fork()
        _sources.add(self)

    def _forget_fork(self) -> None:
        # A new lock: the thread that held the old one may not exist in the child. And a new draw, one millisecond on.
        self._lock = threading.Lock()
        if self._last >= 0:
            self._last |= (1 << _RANDOM_BITS) - 1

    def next_id(self) -> UUID:
        """One id."""
        return self.next_ids(1)[0]

    def next_ids(self, n: int) -> list[UUID]:
        """`n` ids in ascending order, with nothing of this source between them."""
        if n < 1:
            return []
        steps = self._entropy(10 + 4 * (n - 1))
        fresh = int.from_bytes(steps[:10], "big") >> 6
        numbers = []
        with self._lock:
            last, now = self._last, self._now_ms()
            if now > last >> _RANDOM_BITS:
                number = now << _RANDOM_BITS | fresh
            elif last & (1 << _RANDOM_BITS) - 1 == (1 << _RANDOM_BITS) - 1:
                number = last + 1 + fresh
            else:
                # The same millisecond, or the clock was set back: go on from the last one by a step nobody can guess.
                number = last + 1 + (fresh >> 42)
            numbers.append(number)
            for at in range(10, len(steps), 4):
                number += 1 + int.from_bytes(steps[at : at + 4], "big")
                numbers.append(number)
            self._last = number
        return [_uuid7(number) for number in numbers]


_sources: weakref.WeakSet[IdSource] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for source in _sources:
        source._forget_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)

_process_ids = IdSource()


def next_id() -> UUID:
    """One id, later than every id that this process has had."""
    return _process_ids.next_id()


def next_ids(n: int) -> list[UUID]:
    """`n` ids in ascending order, later than every id that this process has had."""
    return _process_ids.next_ids(n)
