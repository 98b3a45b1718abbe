"""PostgreSQL 15 with the real pg_cron, as Debian has it: loaded into a server of its own, as on the platform."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ipai_harness.errors import PartMissing
from ipai_harness.stack.postgres import Installation, find

PACKAGE = "postgresql-15-cron"
LIBRARY = Path("/usr/lib/postgresql/15/lib/pg_cron.so")
SETTINGS = """
shared_preload_libraries = 'pg_cron'
cron.database_name = 'postgres'
cron.use_background_workers = on
"""


def install() -> Installation:
    """PostgreSQL 15 that can load pg_cron; on CI it installs both. Raises PartMissing, saying why there is none."""
    if not LIBRARY.exists() and _is_ci():
        # For a machine that is thrown away. Elsewhere a test does not change what is installed.
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise PartMissing(f"{PACKAGE} is missing, and can be installed only as root on Debian or the like")
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", PACKAGE]):
            done = subprocess.run(
                ["apt-get", "-q", *arguments], env=quiet, capture_output=True, text=True, timeout=300, check=False
            )
            if done.returncode:
                raise PartMissing(f"apt-get {arguments[0]} failed: {done.stderr.strip()[-1_000:]}")
    if not LIBRARY.exists():
        raise PartMissing(f"{LIBRARY} is missing: apt-get install {PACKAGE}")
    return find(15)


def _is_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true")


@contextlib.contextmanager
def or_skipped() -> Iterator[None]:
    """Skips the test where pg_cron is missing, saying why; on CI that is a failure."""
    import pytest

    reason = ""
    try:
        yield
    except PartMissing as error:
        if _is_ci():
            raise
        reason = str(error)
    if reason:
        pytest.skip(f"NOT TESTED on the real pg_cron: {reason}")
