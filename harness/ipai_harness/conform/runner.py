"""Sends the cases to a receiver, several at a time, and judges what comes back."""

from __future__ import annotations

import enum
import re
import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime

from ipai_bridge.secret import Secret, generate_secret
from ipai_harness.conform.case import Case
from ipai_harness.conform.judge import by_gateway, judge
from ipai_harness.conform.shot import NEW, Bench, Request, Shot, render
from ipai_harness.conform.wire import Answer, send
from ipai_harness.errors import ConformImpossible

THREADS = 8
PATIENCE = 3
"""How often a 429 is waited out."""
LONGEST_WAIT_S = 30.0


class Outcome(enum.Enum):
    """What became of a case."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Exchange:
    """One shot: what was sent, and what came back; several answers where it was sent several times at once."""

    shot: Shot
    request: Request
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Result:
    """A case with its outcome. `problems` says what is wrong, `reason` why it was not run."""

    case: Case
    outcome: Outcome
    exchanges: tuple[Exchange, ...] = ()
    problems: tuple[str, ...] = ()
    reason: str | None = None


@dataclass
class Report:
    """All results, in the cases' order."""

    url: str
    bench: Bench
    results: list[Result]
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, outcome: Outcome) -> int:
        """How many cases ended so."""
        return sum(result.outcome is outcome for result in self.results)

    @property
    def failed(self) -> list[Result]:
        """The cases that failed."""
        return [result for result in self.results if result.outcome is Outcome.FAILED]


def new_bench(given: Sequence[Secret], jwt: str | None) -> Bench:
    """A bench with an instance name and ids of its own."""
    instance = f"conform-{secrets.token_hex(4)}"
    return Bench(tuple(given), generate_secret(), instance, lambda: str(uuid.uuid4()), jwt)


def run(
    url: str,
    bench: Bench,
    cases: Sequence[Case],
    *,
    timeout: float = 15.0,
    progress: Callable[[float], None] = lambda _: None,
) -> Report:
    """Every case's verdict. `progress` hears the fraction that is done.

    Raises ConformImpossible when a good request is not answered, or the gateway lets none through.
    """
    started = time.monotonic()
    bench, notes = _probe(url, bench, timeout)
    results: dict[int, Result] = {}
    with ThreadPoolExecutor(THREADS, thread_name_prefix="conform") as pool:
        running = {pool.submit(run_case, url, bench, case, timeout): at for at, case in enumerate(cases)}
        try:
            for done in as_completed(running):
                results[running[done]] = done.result()
                progress(len(results) / len(cases))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    ordered = [results[at] for at in range(len(cases))]
    return Report(url, bench, ordered, notes, time.monotonic() - started)


def run_case(url: str, bench: Bench, case: Case, timeout: float) -> Result:
    """One case, to its first wrong answer."""
    if (missing := case.missing(bench)) is not None:
        return Result(case, Outcome.NOT_RUN, reason=missing)
    exchanges: list[Exchange] = []
    first_id: object = None
    for number, shot in enumerate(case.build(bench)):
        request, answers = _patiently(url, bench, shot, [one.request for one in exchanges], timeout)
        exchanges.append(Exchange(shot, request, answers))
        verdict = judge(shot, request, answers, first_id, bench)
        if verdict.problems:
            which = f"request {number + 1}: " if number or len(verdict.problems) > 1 else ""
            problems = tuple(which + problem for problem in verdict.problems)
            return Result(case, Outcome.FAILED, tuple(exchanges), problems)
        first_id = verdict.id if number == 0 else first_id
    return Result(case, Outcome.PASSED, tuple(exchanges))


def _patiently(
    url: str, bench: Bench, shot: Shot, before: list[Request], timeout: float
) -> tuple[Request, tuple[Answer, ...]]:
    """The shot and its answers; sent again, signed afresh, as long as a rate limit says to wait."""
    for attempt in range(PATIENCE + 1):
        request = render(shot, bench, time.time_ns() // 1_000_000, before)
        if shot.times == 1:
            answers: tuple[Answer, ...] = (send(url, request, timeout),)
        else:
            with ThreadPoolExecutor(shot.times) as pool:
                answers = tuple(pool.map(lambda _: send(url, request, timeout), range(shot.times)))  # noqa: B023
        after = [answer.headers.get("retry-after", "") for answer in answers if answer.status == 429]
        if not after or attempt == PATIENCE or not all(re.fullmatch("[0-9]{1,5}", value) for value in after):
            break
        time.sleep(min(LONGEST_WAIT_S, max(float(value) for value in after)))
    return request, answers


def _probe(url: str, bench: Bench, timeout: float) -> tuple[Bench, list[str]]:
    """The bench, fitted to the receiver's clock, and what is worth knowing. Raises ConformImpossible."""
    shot = Shot(NEW, bench.number(), bench.event())
    sent = time.time()
    request = render(shot, bench, int(sent * 1000), [])
    answer = send(url, request, timeout)
    if answer.status is None:
        raise ConformImpossible(f"{url} cannot be reached: {answer.fault}. Is the function served there?")
    if answer.status == 401 and by_gateway(answer):
        raise ConformImpossible(
            f"the gateway at {url} refused a good request with 401 before the function saw it"
            + (": the token in IPAI_HARNESS_JWT is not one of this project" if bench.jwt else "")
            + ". Set verify_jwt = false for the function, as its sender has no JWT"
            + ("" if bench.jwt else "; or give IPAI_HARNESS_JWT, to test all the rest")
        )
    if answer.status == 404 and by_gateway(answer):
        raise ConformImpossible(f"there is no function at {url} (404): deploy it, or correct the URL")
    notes = []
    skew = _skew(answer, sent)
    if abs(skew) >= 2:
        notes.append(
            f"the receiver's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this one: "
            "set both by NTP"
        )
        bench = replace(bench, margin_ms=bench.margin_ms + int(abs(skew) * 1000))
    if answer.status != 200:
        notes.append(f"a good event was answered {answer.status}: does the receiver hold the same secret?")
    return bench, notes


def _skew(answer: Answer, sent: float) -> float:
    """Seconds that the receiver's clock is ahead, as far as its Date header tells; 0 if it does not."""
    try:
        there = parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except (ValueError, TypeError, IndexError):
        return 0.0
    # The header has whole seconds, and is written some time between sending and the answer.
    earliest, latest = sent - 1, sent + answer.seconds
    return there - latest if there > latest else min(0.0, there - earliest)
