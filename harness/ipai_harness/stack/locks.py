"""One at a time, across processes: a lock on a file, which the kernel drops when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ipai_harness.stack.progress import Progress


def _open(path: Path, *, wait: bool) -> int | None:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        # The holder before us removed the file: what we hold is a lock on nothing.
        if _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def locked(path: Path, progress: Progress | None = None, *, part: str = "") -> Iterator[None]:
    """Hold the lock for as long as the block runs; waits for its holder, and says so. The file is gone afterwards."""
    descriptor = _open(path, wait=False)
    if descriptor is None and progress is not None:
        with progress.step(part, "waiting for another command that does the same"):
            descriptor = _open(path, wait=True)
    elif descriptor is None:
        descriptor = _open(path, wait=True)
    assert descriptor is not None  # noqa: S101 -- a blocking lock returns with it
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Whether the lock was to be had at once; held for as long as the block runs if so."""
    descriptor = _open(path, wait=False)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            path.unlink(missing_ok=True)
            os.close(descriptor)
