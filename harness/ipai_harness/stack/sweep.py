"""Calls `odoo.sweep_events()` every few seconds, as pg_cron does on the platform; survives a database that is down.

SUPABASE_DB_URL=… python -m ipai_harness.stack.sweep SECONDS
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from types import FrameType

import psycopg2
import psycopg2.extensions

log = logging.getLogger("ipai_harness.sweep")


def main() -> int:
    """Sweep until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    every = float(sys.argv[1])
    done = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        done.set()

    signal.signal(signal.SIGTERM, stop)
    connection: psycopg2.extensions.connection | None = None
    failing = False
    while not done.wait(every):
        try:
            if connection is None:
                connection = psycopg2.connect(
                    os.environ["SUPABASE_DB_URL"], connect_timeout=5, application_name="sweep"
                )
                connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("select * from odoo.sweep_events()")
            if failing:
                log.info("the sweep works again")
            failing = False
        except psycopg2.Error as error:
            if not failing:  # once, not every five seconds of an outage
                log.warning("the sweep failed, and will be tried every %.0f s: %s", every, str(error).strip())
            failing = True
            if connection is not None:
                with contextlib.suppress(psycopg2.Error):
                    connection.close()
                connection = None
    return 0


if __name__ == "__main__":
    sys.exit(main())
