"""`ipai-harness conform` as it is typed: its output, its exit codes, what it refuses; and its commands for curl."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipai_bridge.secret import generate_secret
from ipai_harness.cli import main
from ipai_harness.conform.cases import all_cases
from ipai_harness.conform.curl import as_shell
from tests.harness.conform import answer_faults, faults
from tests.harness.conform.conftest import JWT, NEW_SECRET, OLD_SECRET, Test
from tests.harness.conform.receiver import Faultless, Refused, Running, serving

ROOT = Path(__file__).resolve().parents[3]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPAI_BRIDGE_SECRET", f"{NEW_SECRET} {OLD_SECRET}")
    monkeypatch.setenv("IPAI_HARNESS_JWT", JWT)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_it(*arguments: str) -> tuple[int, str, str]:
        code = main(["conform", *arguments])
        return code, *capsys.readouterr()

    return run_it


@pytest.fixture
def right() -> Iterator[Running]:
    with serving(Faultless, [NEW_SECRET, OLD_SECRET]) as receiver:
        yield receiver


def test_a_receiver_that_conforms_is_code_0(run: Run, right: Running) -> None:
    code, out, err = run(right.url, "-k", "signature/", "-k", "key/at-once")

    assert code == 0
    assert re.search(r"^  passed   upper-case +401 malformed_signature +\(400 or 401\)$", out, re.MULTILINE)
    assert re.search(r"^  passed   at-once +10 × 200 ", out, re.MULTILINE)
    assert re.search(rf"^{right.url}: 19 passed, 0 failed, 0 not run \([0-9.]+ s\)$", out, re.MULTILINE)
    assert re.search(r"stores of this is under the instance conform-[0-9a-f]{8}", err)
    assert {name[0][:8] for name in right.events} == {"conform-"}


def test_a_failure_is_said_with_the_rule_and_the_commands(run: Run) -> None:
    with serving(faults.UpperCaseTaken, [NEW_SECRET, OLD_SECRET]) as receiver:
        code, out, _ = run(receiver.url, "-k", "signature/")

    assert code == 1
    assert "FAILED signature/upper-case: the right digits in upper case" in out
    assert "  rule: x-ipai-signature is 64 lower-case hexadecimal digits, and nothing else" in out
    assert "  but: the status is 200: must be 400 or 401" in out
    assert "ipai-bridge sign --id " in out
    assert '-H "authorization: Bearer $IPAI_HARNESS_JWT"' in out


def test_json_has_a_stable_form(run: Run) -> None:
    with serving(faults.NoDedupe, [NEW_SECRET, OLD_SECRET]) as receiver:
        code, out, _ = run(receiver.url, "--json", "-k", "key/")
    said = json.loads(out)

    assert code == 1
    assert sorted(said) == ["cases", "instance", "notes", "schema", "seconds", "secrets", "summary", "url"]
    assert said["summary"] == {"passed": 10, "failed": 5, "not_run": 0}
    [case] = [case for case in said["cases"] if case["case"] == "key/same-request"]
    assert sorted(case) == ["case", "curl", "group", "outcome", "problems", "reason", "requests", "sent", "why"]
    assert case["problems"] == ["request 2: duplicate is false: must be true",
                                "request 2: the id is another than in the first answer: an event has one"]  # fmt: skip
    assert [request["answers"][0]["status"] for request in case["requests"]] == [200, 200]
    assert ["authorization", "Bearer ***"] in case["requests"][0]["headers"]


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_no_secret_is_printed(run: Run, form: list[str]) -> None:
    with serving(answer_faults.RepeatsTheSecret, [NEW_SECRET, OLD_SECRET]) as receiver:
        code, out, err = run(receiver.url, "-k", "signature/", *form)

    assert code == 1
    for hidden in (NEW_SECRET, OLD_SECRET, JWT):
        assert hidden.removeprefix("whsec_") not in out + err


def test_what_cannot_be_sent_is_listed_with_the_reason(
    run: Run, right: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = "a plain secret, which is no base64".replace(" ", "-").replace(",", "")
    right.secrets[:] = [plain]
    monkeypatch.setenv("IPAI_BRIDGE_SECRET", plain)
    monkeypatch.delenv("IPAI_HARNESS_JWT")
    code, out, _ = run(right.url, "--json")
    reasons = {case["case"]: case["reason"] for case in json.loads(out)["cases"] if case["outcome"] == "not_run"}

    assert code == 0
    assert len(reasons) == 17
    assert reasons["signature/old-secret"].startswith("needs a second secret")
    assert reasons["standard-webhooks/right"].startswith("needs a secret of the form whsec_<base64>")
    assert reasons["gateway/jwt"].startswith("needs a token that the gateway takes")


def test_the_cases_are_listed(run: Run) -> None:
    code, out, _ = run("--list")
    assert code == 0
    assert "timestamp/seconds: in seconds, signed as sent\n  rule: accepts a timestamp in seconds too" in out
    listed = json.loads(run("--list", "--json")[1])
    assert [case["case"] for case in listed] == [case.id for case in all_cases()]
    assert all(case["why"] and case["sent"] for case in listed)
    assert len({case["case"] for case in listed}) == len(listed)


def test_wrong_use_is_code_2(run: Run) -> None:
    assert run()[0] == 2
    assert run("http://127.0.0.1:9", "-k", "nothing of that name")[0] == 2
    assert run("http://127.0.0.1:9", "--timeout", "0")[0] == 2


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://xkxyvoboeubffxxbebsll.supabase.co/functions/v1", "xkxyvoboeubffxxbebsll is deprecated"),
        ("https://abcdefghijklmnopqrst.supabase.co/functions/v1", "looks like production"),
        ("http://hooks.example.com/odoo", "must begin with https://"),
        ("ftp://127.0.0.1/", "must begin with https://"),
        ("https://user:word@127.0.0.1/x", "must hold no user name and no password"),
    ],
)
def test_a_target_that_is_refused_is_code_3(run: Run, url: str, said: str) -> None:
    code, out, err = run(url, "--json")

    assert code == 3
    assert said in err
    assert "not_tested" in json.loads(out)


def test_a_deprecated_project_is_refused_whatever_is_said(run: Run) -> None:
    url = "https://ublqmilcjtpnflofprkr.supabase.co/functions/v1"
    code, _, err = run(url, "--yes-this-is-production")

    assert code == 3
    assert "is deprecated" in err


def test_without_a_secret_or_a_receiver_it_is_code_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = run("http://127.0.0.1:9/hooks")
    assert code == 3
    assert "cannot be reached: Connection refused" in err
    monkeypatch.delenv("IPAI_BRIDGE_SECRET")
    code, _, err = run("http://127.0.0.1:9/hooks")
    assert code == 3
    assert "secret is not set" in err


def test_a_gateway_that_lets_nothing_through_is_code_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IPAI_HARNESS_JWT")
    with serving(faults.GatewayWantsAToken, [NEW_SECRET, OLD_SECRET]) as receiver:
        code, _, err = run(receiver.url)

    assert code == 3
    assert "verify_jwt = false" in err
    assert "or give IPAI_HARNESS_JWT" in err


def test_a_wrong_secret_is_noted(run: Run, right: Running) -> None:
    right.secrets[:] = [generate_secret().reveal()]
    code, out, _ = run(right.url, "-k", "key/new")

    assert code == 1
    assert "note: a good event was answered 401: does the receiver hold the same secret?" in out


# --- the commands that send a case again


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str], list[int]]:
    """Runs commands as a user would paste them; the statuses that curl printed."""
    command = tmp_path / "bin" / "ipai-bridge"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m ipai_bridge "$@"\n')
    command.chmod(0o755)
    environment = {
        "PATH": f"{command.parent}:{os.environ['PATH']}", "IPAI_BRIDGE_SECRET": f"{NEW_SECRET} {OLD_SECRET}",
        "OLD_SECRET": OLD_SECRET, "IPAI_HARNESS_JWT": JWT,
    }  # fmt: skip

    def run_them(commands: str) -> list[int]:
        done = subprocess.run(
            ["sh", "-euc", commands], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [int(status) for status in re.findall(r"HTTP/1\.[01] (\d{3})", done.stdout)]

    return run_them


AGAIN = {
    "signature": "zeros missing stranger old-secret upper-case empty twice-right-first twice-right-last",
    "timestamp": "hour-old past-inside twice",
    "key": "same-request other-body replay-new-key replay-new-instance replay-standard quoted at-once",
    "standard-webhooks": "right no-webhook-id",
    "hints": "sequence sequence-word instance-form",
    "body": "empty not-utf-8 bom surrogate numbers unicode one-mebibyte over-limit deep",
    "field": "extra",
    "http": "get put text no-content-type chunked",
    "gateway": "no-jwt forged-jwt",
}


def test_the_commands_send_the_same_again(conform: Test, shell: Callable[[str], list[int]]) -> None:
    """To a receiver that has seen none of it, with signatures of the moment: the same statuses."""
    results = {result.case.id: result for result in conform(Faultless).results}
    for name in (f"{group}/{name}" for group, names in AGAIN.items() for name in names.split()):
        with serving(Faultless, [NEW_SECRET, OLD_SECRET]) as receiver:
            result = results[name]
            commands = as_shell(receiver.url, result)
            assert "as it was sent, and stale by now" not in commands, name
            statuses = [answer.status for exchange in result.exchanges for answer in exchange.answers]
            assert shell(commands) == statuses, f"{name}:\n{commands}"


def test_what_no_tool_signs_is_shown_as_it_was_sent(conform: Test, shell: Callable[[str], list[int]]) -> None:
    [result] = conform(Faultless, "timestamp/seconds-old").results
    with serving(Faultless, [NEW_SECRET, OLD_SECRET]) as receiver:
        commands = as_shell(receiver.url, result)
        assert commands.startswith("# as it was sent, and stale by now: ipai-harness conform ")
        assert shell(commands) == [401]


# --- what a receiver may do


def test_a_rate_limit_is_waited_out(conform: Test) -> None:
    class Limits(Faultless):
        def take(self) -> dict[str, object]:
            if len(self.server.signatures) != 1:
                return super().take()
            self.server.signatures["waited"] = ("", "")
            self.read()
            raise Refused(429, "slow_down", retry_after="1")

    report = conform(Limits, "key/new-key-same-body")
    assert [result.problems for result in report.failed] == []
    assert report.seconds > 1


def test_a_rate_limit_must_say_for_how_long(conform: Test) -> None:
    [result] = conform(answer_faults.LimitsWithoutRetryAfter, "key/new-key-same-body").failed
    assert result.problems == (
        "request 1: the status is 429: must be 200",
        "request 1: a 429 must have Retry-After: seconds, or a date",
    )


def test_a_clock_that_is_wrong_is_noted_and_allowed_for(conform: Test) -> None:
    class Ahead(Faultless):
        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((timestamp or time.time()) + 30)

        def is_fresh(self, seconds: float) -> bool:
            return super().is_fresh(seconds - 30)

    report = conform(Ahead, "timestamp/")
    assert re.fullmatch(r"the receiver's clock is (29|30) s ahead of this one: set both by NTP", report.notes[0])
    assert [result.case.id for result in report.failed] == []


def test_a_receiver_that_hangs_up_is_a_failure(conform: Test) -> None:
    class HangsUp(Faultless):
        def take(self) -> dict[str, object]:
            if self.headers.get("x-ipai-sequence"):
                self.connection.shutdown(socket.SHUT_RDWR)
            return super().take()

    report = conform(HangsUp, "hints/sequence-word")
    [result] = report.failed
    assert result.problems[0].startswith("no answer: ")
