"""Plants one fault in a copy of the project and runs scenarios there: a suite that cannot fail proves nothing.

    python tests/acceptance/planting.py                 every fault, two at a time; which scenarios turned red
    python tests/acceptance/planting.py --only order    the faults whose names hold a word
    python tests/acceptance/planting.py --list

Each fault runs on a stack of its own, with the copy's library, functions, migrations and steps. A fault that turns no
scenario red is a missing scenario, and so is one whose text is not in the project any more: exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("ipai_bridge", "harness", "features", "pyproject.toml", "README.md")


@dataclass(frozen=True)
class Edit:
    """One place that is changed: the text must be there exactly once."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Fault:
    """What a hurried colleague might do; `select` is the -k expression of the scenarios that should notice."""

    name: str
    select: str
    edits: Sequence[Edit]
    paths: Sequence[str] = ("features",)


@dataclass(frozen=True)
class Result:
    """What the scenarios made of a fault."""

    fault: Fault
    red: list[str]
    green: int
    seconds: float
    said: str

    @property
    def noticed(self) -> bool:
        """Whether at least one scenario turned red."""
        return bool(self.red)


def plant(fault: Fault, place: Path) -> None:
    """A copy of the project with the fault in it. Raises LookupError when its text is not there exactly once."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(source, place / name)
    for edit in fault.edits:
        file = place / edit.file
        text = file.read_text()
        if text.count(edit.old) != 1:
            raise LookupError(f"{fault.name}: {edit.old!r} stands {text.count(edit.old)} times in {edit.file}")
        file.write_text(text.replace(edit.old, edit.new))


def run(fault: Fault, *, timeout: float = 600.0) -> Result:
    """Plant the fault and run its scenarios; the first that turns red is enough."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="planted-") as directory:
        place = Path(directory)
        place.chmod(0o755)  # as root PostgreSQL runs as another user, who reads the migrations from here
        plant(fault, place)
        report = place / "report.json"
        environment = {**os.environ, "PYTHONPATH": f"{place}:{place / 'harness'}", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [
                sys.executable, "-m", "pytest", *fault.paths, "-k", fault.select, "-q", "-x", "--tb=line",
                "-p", "no:cacheprovider", "--evidence", str(place / "evidence"), "--keep-evidence",
            ],
            cwd=place, env=environment, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        report = place / "evidence" / "evidence.json"
        scenarios = json.loads(report.read_text())["scenarios"] if report.is_file() else []
    red = [f"{one['name']} ({one['file']}:{one['line']})" for one in scenarios if one["status"] == "failed"]
    green = sum(one["status"] == "passed" for one in scenarios)
    said = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
    return Result(fault, red, green, time.monotonic() - started, said)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the faults; 0 when each was noticed."""
    from tests.acceptance.faults import FAULTS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD", help="the faults whose names hold this")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (default 2)")
    parser.add_argument("--list", action="store_true", help="name the faults, and run nothing")
    options = parser.parse_args(argv)
    faults = [fault for fault in FAULTS if options.only in fault.name]
    if options.list:
        print("\n".join(fault.name for fault in faults))
        return 0
    unnoticed = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(run, faults):
            print(f"{'noticed' if result.noticed else 'UNNOTICED'}: {result.fault.name} ({result.seconds:.0f} s)")
            for scenario in result.red:
                print(f"    red: {scenario}")
            if not result.noticed:
                unnoticed += 1
                print("    " + result.said.replace("\n", "\n    "))
            sys.stdout.flush()
    print(f"{len(faults)} faults planted, {len(faults) - unnoticed} noticed")
    return 1 if unnoticed or not faults else 0


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "harness")]
    sys.exit(main())
