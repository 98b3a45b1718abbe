"""What server-action code sees under the name `ipai_bridge`: three calls, and nothing behind them.

    ipai_bridge.emit(records, "account.move.posted", fields=["name", "state", "amount_total", "partner_id"])
    ipai_bridge.relay(env)                                     # one pass, for a scheduled action of Odoo's
    ipai_bridge.sync(env, "finance")                           # one run of a scheduled sync, likewise

Authors of server actions are sandboxed on purpose. Odoo's `safe_eval` refuses names with two underscores where they
stand in the code, but not where a format string spells them (`"{0.__class__}".format(x)`), so neither the face nor its
calls have any attribute at all to follow: not a class, a function's globals, nor a bound method's owner. Settings and
secrets are never read on the way of `emit`. Errors reach the author as Odoo's `UserError` with our text, raised outside
of the handler, so that they carry no chain of inner errors.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ipai_bridge import bridge
from ipai_bridge.errors import BridgeError, ServerActionError

__all__ = ["FACE", "Face"]

_OFFER = (
    "ipai_bridge offers emit(records, event_type, fields=…, payload=…), relay(env) and sync(env, kind, full=…) "
    "to server actions"
)


def _emit(
    records: Any, event_type: str, fields: bridge.Fields = None, *, payload: Mapping[str, Any] | None = None
) -> list[str]:
    from odoo.models import BaseModel

    if not isinstance(records, BaseModel):
        raise ServerActionError("the first argument must be records: write ipai_bridge.emit(records, …)")
    return bridge.emit(records, event_type, fields, payload=payload)


def _relay(env: Any, max_seconds: float = 60.0) -> dict[str, int]:
    _check_environment(env, "relay(env)")
    if not isinstance(max_seconds, (int, float)) or not 0 < max_seconds < math.inf:
        raise ServerActionError("max_seconds must be a number of seconds, such as 60")
    return bridge.relay_once(env, max_seconds=max_seconds)


def _sync(env: Any, kind: str, *, full: bool = False) -> dict[str, Any]:
    _check_environment(env, 'sync(env, "finance")')
    if not isinstance(kind, str) or not isinstance(full, bool):
        raise ServerActionError('the second argument must be a text, such as "finance"; full must be True or False')
    # What its user does not see would be taken for deleted.
    if not env.is_system():
        raise ServerActionError(
            "a sync reads Odoo as its user, who must be an administrator: set the user of the scheduled action"
        )
    return bridge.sync_once(env, kind, full=full)


def _check_environment(env: Any, call: str) -> None:
    from odoo.api import Environment

    if not isinstance(env, Environment):
        raise ServerActionError(f"the first argument must be the environment: write ipai_bridge.{call}")


class _Call:
    """Something to call, without one attribute."""

    __slots__ = ("_function", "_signature")

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)
        object.__setattr__(self, "_signature", inspect.signature(function))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        refusal: str
        try:
            object.__getattribute__(self, "_signature").bind(*args, **kwargs)
        except TypeError as error:
            refusal = f"{_OFFER}: {error}"
        else:
            try:
                return object.__getattribute__(self, "_function")(*args, **kwargs)
            except BridgeError as error:
                refusal = f"{error} [{error.code}]"
        # Outside of the handlers: an exception raised in one would carry the inner one, with its frames.
        from odoo.exceptions import UserError

        raise UserError(refusal)

    def __getattribute__(self, name: str) -> NoReturn:
        raise AttributeError(_OFFER)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(_OFFER)

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(_OFFER)

    def __repr__(self) -> str:
        return "<a call of ipai_bridge>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(_OFFER)


class Face:
    """The object that server actions see."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> _Call:
        call = _CALLS.get(name)
        if call is None:
            raise AttributeError(_OFFER)
        return call

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(_OFFER)

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(_OFFER)

    def __repr__(self) -> str:
        return "<ipai_bridge>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(_OFFER)


_CALLS = {"emit": _Call(_emit), "relay": _Call(_relay), "sync": _Call(_sync)}
FACE = Face()
