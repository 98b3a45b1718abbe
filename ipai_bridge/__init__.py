"""Business events out of Odoo and into Supabase, so that nobody has to wonder whether they arrived.

In any Python code of Odoo, inside the transaction that the event is about::

    import ipai_bridge

    ipai_bridge.emit(records, "account.move.posted", fields=["name", "state", "amount_total", "partner_id"])

In server actions the same call works without the import, once Odoo is started with `--load=base,rpc,web,ipai_bridge`.
The public names are those of `__all__`; the rest is found in the rooms that `ipai_bridge` is made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["BridgeError", "Event", "emit", "sign", "verify"]

if TYPE_CHECKING:
    from ipai_bridge.bridge import emit
    from ipai_bridge.errors import BridgeError
    from ipai_bridge.event import Event
    from ipai_bridge.signing import sign, verify

_HOMES = {"BridgeError": "errors", "Event": "event", "emit": "bridge", "sign": "signing", "verify": "signing"}


def __getattr__(name: str) -> Any:
    # Imported when first used: every command and every Odoo worker imports this package, few use all of it.
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'ipai_bridge' has no attribute {name!r}")
    value = getattr(import_module(f"ipai_bridge.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
