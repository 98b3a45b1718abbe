"""The relay as a thread inside Odoo, for sites that do not run a process of their own beside it (`relay = inline`).

Every Odoo process may have this thread; an advisory lock of PostgreSQL elects the one that works, and when its process
or its connection ends, another one takes over within `_STAND_BY` seconds. Correctness does not rest on the election:
two relays at once would only share the work.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ipai_bridge.delivery.relay import Relay
from ipai_bridge.errors import BridgeError, NotElected, OutboxUnavailable

log = logging.getLogger("ipai_bridge.relay")

_STAND_BY = 5.0  # seconds between two tries to be elected
_REFUSED = 60.0  # seconds after something that only people can mend: settings, a missing schema, an endpoint gone


class InlineRelay(threading.Thread):
    """Relays while it is elected, until `stop()`. A daemon: it never keeps Odoo from ending."""

    def __init__(self, database: str, make_relay: Callable[[], Relay | None]) -> None:
        """`make_relay` builds a relay on an exclusive outbox from the settings as they are then.

        It gives None where the settings want no inline relay; then the thread ends.
        """
        super().__init__(name=f"ipai_bridge-relay-{database}", daemon=True)
        self._database = database
        self._make_relay = make_relay
        self._relay: Relay | None = None
        self._stopped = threading.Event()

    def stop(self, timeout: float) -> None:
        """Finish the requests under way; wait at most `timeout` seconds for that."""
        self._stopped.set()
        relay = self._relay
        if relay is not None:
            relay.stop()
        self.join(timeout)

    def run(self) -> None:
        """The thread's life. (Called by `start()`.)"""
        while not self._stopped.is_set():
            self._stopped.wait(self._term())

    def _term(self) -> float:
        """Relay for as long as possible; the seconds to wait before the next try."""
        relay: Relay | None = None
        try:
            relay = self._relay = self._make_relay()
            if relay is None:
                self._stopped.set()
            elif not self._stopped.is_set():
                relay.run()
        except (NotElected, OutboxUnavailable):
            return _STAND_BY
        except BridgeError as error:
            log.error("inline relay of %s: %s", self._database, error)  # noqa: TRY400  the text says it all
            return _REFUSED
        except Exception:
            log.exception("inline relay of %s failed", self._database)
            return _REFUSED
        finally:
            self._relay = None
            if relay is not None:
                relay.close()
        return _STAND_BY
