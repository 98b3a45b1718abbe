"""What a measurement gives: figures with their spread, and on what they were taken. Pure, but for `machine`."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One thing that was measured, once or several times."""

    name: str
    unit: str
    samples: Sequence[float]
    beside: str | None = None
    """The figure, of the same unit, that this one is set beside."""

    @property
    def median(self) -> float:
        """The one to quote."""
        return statistics.median(self.samples)

    @property
    def low(self) -> float:
        """The smallest sample."""
        return min(self.samples)

    @property
    def high(self) -> float:
        """The largest sample."""
        return max(self.samples)


@dataclass
class Report:
    """The figures of one subject."""

    subject: str
    parameters: dict[str, Any]
    machine: dict[str, str]
    figures: list[Figure] = field(default_factory=list)

    def ratio(self, figure: Figure) -> float | None:
        """The figure's median in terms of the one that it is set beside."""
        other = next((one for one in self.figures if one.name == figure.beside), None)
        return None if other is None or not other.median else figure.median / other.median

    def as_json(self) -> dict[str, Any]:
        """The form that `bench --json` prints."""
        return {
            "subject": self.subject, "parameters": self.parameters, "machine": self.machine,
            "figures": [
                {
                    "name": one.name, "unit": one.unit, "samples": list(one.samples), "min": one.low,
                    "median": one.median, "max": one.high, "beside": one.beside, "ratio": self.ratio(one),
                }
                for one in self.figures
            ],
        }  # fmt: skip

    def as_text(self) -> str:
        """The form for people."""
        said = ", ".join(f"{name} {_number(value)}" for name, value in self.parameters.items())
        lines = [f"{self.subject}: {said}", "; ".join(self.machine.values()), ""]
        width = max((len(one.name) for one in self.figures), default=0)
        lines.append(f"{'':<{width}}  {'median':>10} {'min':>10} {'max':>10}")
        for one in self.figures:
            ratio = self.ratio(one)
            beside = "" if ratio is None else f"  = {ratio:.2f} × {one.beside}"
            figures = " ".join(f"{_number(value):>10}" for value in (one.median, one.low, one.high))
            lines.append(f"{one.name:<{width}}  {figures} {one.unit}{beside}")
        return "\n".join(lines)


def machine(**versions: str) -> dict[str, str]:
    """On what, when, and with which versions of the parts."""
    model = platform.machine()
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpu": f"{cores} cores of {model}",
        "memory": f"{memory:.0f} GiB",
        "python": f"Python {platform.python_version()}",
        **versions,
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _number(value: Any) -> str:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return str(value)
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.2f}"
