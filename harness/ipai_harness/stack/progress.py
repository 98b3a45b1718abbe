"""What is being done, and for how long: a live display on a terminal, plain lines elsewhere; on standard error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

HEARTBEAT = 10.0  # seconds between two lines about a step that is not done, without a terminal
SILENT = 2.0  # seconds; a shorter step is not worth a line when it ends


class Step:
    """One thing that is being done."""

    def __init__(self, owner: Progress, part: str, what: str) -> None:
        self._owner = owner
        self.part = part
        self.what = what
        self.started = time.monotonic()
        self.said = self.started
        self.fraction: float | None = None
        self.task: TaskID | None = None

    def update(self, fraction: float | None) -> None:
        """How much of it is done, 0 to 1; None = not known."""
        self.fraction = fraction
        self._owner._show(self)


class Progress:
    """Shows steps; may be used by several threads. `quiet` shows nothing."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._quiet = quiet
        self._lock = threading.Lock()
        self._steps: list[Step] = []
        self._bars: Bars | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Progress:
        if self._quiet:
            return self
        if self._console.is_terminal:
            self._bars = Bars(
                SpinnerColumn(), TextColumn("{task.fields[part]:<14}"), TextColumn("{task.description}"), BarColumn(20),
                TimeElapsedColumn(), console=self._console, transient=True,
            )  # fmt: skip
            self._bars.start()
        else:
            self._thread = threading.Thread(target=self._beat, name="progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._bars is not None:
            self._bars.stop()
        if self._thread is not None:
            self._thread.join()

    @contextmanager
    def step(self, part: str, what: str) -> Iterator[Step]:
        """Show that `part` does `what` for as long as the block runs."""
        step = Step(self, part, what)
        with self._lock:
            self._steps.append(step)
            if self._bars is not None:
                step.task = self._bars.add_task(what, part=part, total=None)
        self._line(step, "…")
        try:
            yield step
        finally:
            with self._lock:
                self._steps.remove(step)
                if self._bars is not None and step.task is not None:
                    self._bars.remove_task(step.task)
        seconds = time.monotonic() - step.started
        if seconds >= SILENT:
            self.say(f"{part}: {what}: {seconds:.1f} s")

    def say(self, text: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self._console.print(text, markup=False, highlight=False)

    def _line(self, step: Step, end: str) -> None:
        if self._bars is None:
            self.say(f"{step.part}: {step.what}{end}")

    def _show(self, step: Step) -> None:
        if self._bars is not None and step.task is not None and step.fraction is not None:
            self._bars.update(step.task, total=1.0, completed=step.fraction)

    def _beat(self) -> None:
        while not self._ended.wait(1.0):
            with self._lock:
                steps = list(self._steps)
            now = time.monotonic()
            for step in steps:
                if now - step.said >= HEARTBEAT:
                    step.said = now
                    done = "" if step.fraction is None else f" {step.fraction:.0%},"
                    self._line(step, f":{done} {now - step.started:.0f} s so far")


def quiet() -> Progress:
    """A progress that shows nothing."""
    return Progress(quiet=True)
