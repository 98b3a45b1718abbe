"""Where the harness keeps things.

- cache: what is downloaded or built once (`$XDG_CACHE_HOME/ipai-harness`); may be deleted while no stack runs
- state: one file per running stack (`$XDG_STATE_HOME/ipai-harness/stacks`), what `down` needs; secrets, mode 0600
- run: one directory per running stack in the temporary directory (databases in memory where there is plenty), gone
  after `down`. Not below HOME: as root,
  PostgreSQL runs as another user, which cannot pass a HOME of mode 0700
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

# sun_path of a unix socket holds 107 bytes; PostgreSQL needs room for "/<part>/.s.PGSQL.65535" below the run directory.
LONGEST_RUN_PATH = 70
MEMORY = Path("/dev/shm")  # noqa: S108 -- what is made there has a name that mkdtemp found


def _xdg(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    # The XDG specification: a relative path is to be ignored.
    base = Path(value) if value.startswith("/") else Path.home() / fallback
    return base / "ipai-harness"


def cache() -> Path:
    """The cache directory, made when missing."""
    path = _xdg("XDG_CACHE_HOME", ".cache")
    path.mkdir(parents=True, exist_ok=True)
    return path


def stacks() -> Path:
    """The directory of the running stacks' state files, made when missing, readable by its owner only."""
    path = _xdg("XDG_STATE_HOME", ".local/state") / "stacks"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def kept_log(name: str) -> Path:
    """Where the log of the part that failed stays after an `up` of that stack that did not succeed."""
    return stacks().parent / f"{name}-failed.log"


def new_run(name: str) -> Path:
    """A new, empty run directory; others may pass through it (PostgreSQL's user), not list it."""
    base = tempfile.gettempdir()
    if len(base) + len(name) > LONGEST_RUN_PATH - 24:
        base = "/tmp"  # noqa: S108 -- a long TMPDIR leaves no room for a unix socket's path; mkdtemp is safe here too
    path = Path(tempfile.mkdtemp(prefix=f"ipai-harness-{name[:20]}-", dir=base))
    path.chmod(0o711)
    return path


def data_home(run: Path) -> Path:
    """Where the databases of this run go: memory, when there is plenty and nobody said TMPDIR; otherwise `run`.

    A template of 140 MB in thousands of small files is copied there in a third of a second, whatever the disk does.
    """
    try:
        available = next(line for line in Path("/proc/meminfo").read_text().splitlines() if "MemAvailable" in line)
        free = shutil.disk_usage(MEMORY).free
    except (OSError, StopIteration):
        return run
    plenty = free >= 4 << 30 and int(available.split()[1]) >= 8 << 20  # bytes; kB
    ours = run.name.startswith("ipai-harness-")  # from new_run: a name that nobody else has, and remove_run knows
    if not ours or "TMPDIR" in os.environ or not plenty or not os.access(MEMORY, os.W_OK | os.X_OK):
        return run
    home = MEMORY / run.name
    home.mkdir(exist_ok=True)
    home.chmod(0o711)
    return home


def remove_run(run: Path) -> None:
    """Remove a run directory, and what of it is in memory."""
    if run.name.startswith("ipai-harness-"):  # never a directory that is not ours, whatever a state file says
        shutil.rmtree(MEMORY / run.name, ignore_errors=True)
        shutil.rmtree(run, ignore_errors=True)


def supabase_project() -> Path:
    """The Supabase project: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "supabase", package.parent / "supabase"):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(
        f"no Supabase project in {package / 'supabase'} or {package.parent / 'supabase'}: reinstall ipai-bridge"
    )


def features() -> Path:
    """The acceptance suite: inside the package when installed from a wheel, beside the harness in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "features", package.parents[1] / "features"):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"no features in {package / 'features'}: reinstall ipai-bridge")


def library() -> Path:
    """The directory of the `ipai_bridge` package under test."""
    import ipai_bridge

    return Path(ipai_bridge.__file__).resolve().parent
