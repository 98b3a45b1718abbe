"""Running the programs that fetch and build, and putting what they made into the cache in one step."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ipai_harness.errors import HarnessError
from ipai_harness.stack.locks import locked
from ipai_harness.stack.process import TOKEN
from ipai_harness.stack.progress import Progress


def tool_environment(token: str) -> dict[str, str]:
    """The caller's own environment (proxies, certificates, package indexes), marked as the stack's."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
    return {
        **{name: value for name, value in os.environ.items() if name not in dropped},
        TOKEN: token,
        "LC_ALL": "C.UTF-8",
    }


def part_environment(token: str, home: Path) -> dict[str, str]:
    """The environment of a part: none of the caller's settings, no proxy, no PG* or IPAI_* variable."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {
        "PATH": os.defpath,
        **kept,
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        TOKEN: token,
    }


def run_tool(
    argv: Sequence[str | Path],
    error: Callable[[str], HarnessError],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    watch: Callable[[], None] = lambda: None,
) -> str:
    """Run a program to its end and return what it printed; `watch` is called every half second meanwhile.

    Raises what `error` makes of the end of its output when it fails.
    """
    # A session of its own: Ctrl-C at the terminal is ours to handle, once.
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            [str(part) for part in argv], env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            while True:
                try:
                    child.wait(timeout=0.5)
                    break
                except subprocess.TimeoutExpired:
                    watch()
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
    if child.returncode:
        raise error("\n".join(text.splitlines()[-15:]))
    return text


# Two threads of one process would not exclude each other by the names of their temporary directories alone.
_guard = threading.Lock()


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    prefix = f".{target.name}.new-"
    with _guard:
        for stale in target.parent.glob(f"{prefix}*"):  # of a command that was killed; nobody else holds the lock
            shutil.rmtree(stale, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def cached(target: Path, make: Callable[[Path], None], progress: Progress, part: str) -> Path:
    """`target`, made by `make(directory)` when it is not there: whole or not at all, by one command at a time."""
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.parent / f".{target.name}.lock", progress, part=part):
        if target.is_dir():
            return target
        with _scratch(target) as scratch:
            content = scratch / "content"
            content.mkdir()
            make(content)
            content.rename(target)
    return target
