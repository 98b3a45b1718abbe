"""Free TCP ports on 127.0.0.1.

Below the range from which the kernel takes the ports of outgoing connections: a part that is stopped in a test and
started again on its port must find it free. Two stacks may still choose the same port at the same moment: whoever
starts a server tries again with another (`is_taken`).
"""

from __future__ import annotations

import random
import socket

FIRST, LAST = 20_000, 32_000


def free_port() -> int:
    """A port on which nothing listens now."""
    for _ in range(200):
        port = random.randint(FIRST, LAST)  # noqa: S311 -- to spread, not to hide
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port on 127.0.0.1 between {FIRST} and {LAST}")


def is_listening(port: int) -> bool:
    """Whether something accepts connections on this port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_taken(log_tail: str) -> bool:
    """Whether a server's log says that its port was taken (PostgreSQL, Python and Deno say it in the same words)."""
    said = log_tail.lower()
    return "address already in use" in said or "port is already allocated" in said  # the latter is Docker's
