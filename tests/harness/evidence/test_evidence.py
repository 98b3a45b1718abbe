"""Evidence: what is masked, what is said of a signature, and that the page holds what hostile data says as text."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

from ipai_bridge.secret import Secret, generate_secret
from ipai_bridge.signing import sign
from ipai_harness.evidence import report
from ipai_harness.evidence.collect import Scenario, Step, collect, exchanges
from ipai_harness.evidence.masking import Mask

SECRET = generate_secret().reveal()
KEY = "019b76da-a87b-7000-8000-00000000abcd"
BODY = b'{"event_type":"res.partner.renamed","payload":{"email":"ana@example.com","name":"x"}}'


def line(body: bytes = BODY, *, instance: str = "mine", secret: str = SECRET, kept: int | None = None) -> str:
    at = time.time_ns() // 1_000_000
    headers = sign(body, id=KEY, timestamp_ms=at, secret=Secret(secret), instance=instance)
    sent = {"base64": base64.b64encode(body[:kept]).decode(), "size": len(body)}
    answer = {"base64": base64.b64encode(b'{"ok":true}').decode(), "size": 11}
    told = {
        "at": at,
        "ms": 1.5,
        "method": "POST",
        "path": "/functions/v1/odoo-webhook",
        "headers": headers,
        "body": sent,
    }
    return json.dumps({**told, "status": 200, "answer_headers": {}, "answer": answer}) + "\n"


def recorded(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "exchanges.jsonl"
    file.write_text("".join(lines))
    return file


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (line(), "holds, by secret 1 of 1, id signed"),
        (line(secret=generate_secret().reveal()), "does not hold: signature_mismatch"),
        (line(kept=10), "not judged: the body was too large to keep"),
    ],
)
def test_what_is_said_of_a_signature(tmp_path: Path, one: str, said: str) -> None:
    [exchange] = exchanges(recorded(tmp_path, one), 0, "mine", [SECRET])
    assert exchange["signature"] == said
    assert (exchange["request"], exchange["status"]) == ("POST /functions/v1/odoo-webhook", 200)


def test_only_this_scenarios_exchanges_from_its_begin_on(tmp_path: Path) -> None:
    before, other, mine = line(), line(instance="other"), line()
    file = recorded(tmp_path, before, other, mine, '{"at": 1, "cut')
    assert len(list(exchanges(file, len(before), "mine", [SECRET]))) == 1
    assert list(exchanges(tmp_path / "nothing", 0, "mine", [SECRET])) == []


def test_secrets_and_personal_data_are_masked() -> None:
    mask = Mask([SECRET], "salt")
    shown = mask.value(
        {"email": "ana@example.com", "note": f"ana@example.com wrote {SECRET}", "authorization": "Bearer x", "n": 1,
         "rows": [{"phone": "+63 2 555", "name": "Office move"}]}
    )  # fmt: skip
    text = json.dumps(shown)
    for gone in (SECRET, "ana@example.com", "Bearer", "555"):
        assert gone not in text
    assert shown["rows"][0]["name"] == "Office move"
    assert shown["note"].startswith(shown["email"]), "the same person is the same mask"
    assert Mask([SECRET], "another run").value({"email": "ana@example.com"}) != {"email": shown["email"]}


def test_a_database_that_is_down_is_part_of_the_evidence(tmp_path: Path) -> None:
    def down(*_: Any) -> list[Any]:
        raise ConnectionError(f"no answer, and {SECRET} in the text")

    scenario = Scenario("s", "f", "a.feature", 1, [], instance="mine", reason=f"with {SECRET}")
    scenario.steps = [Step("When", "it fails", error=f"because of {SECRET}")]
    collect(
        scenario, odoo=down, supabase=down, logs={"relay": lambda start: (f"{SECRET}{'x' * 50_000}"[start:], 0)},
        since={}, recorded=recorded(tmp_path, line()), secrets=[SECRET], mask=Mask([SECRET], "salt"),
    )  # fmt: skip
    assert scenario.rows["odoo: could not be read"] == ["no answer, and [secret] in the text"]
    assert "cut after" in scenario.logs["relay"]
    assert scenario.exchanges[0]["body"]["payload"]["email"].startswith("[personal ")
    assert SECRET not in json.dumps([scenario.logs, scenario.rows, scenario.reason, scenario.steps[0].error])


def test_the_page_is_one_file_and_shows_hostile_text_as_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    one = Scenario(hostile, hostile, "a.feature", 3, [], instance="i", status="failed", reason=hostile)
    one.steps = [Step("Then", hostile, 0.1, "failed", hostile)]
    one.rows, one.logs = {hostile: [hostile]}, {"relay": hostile}
    two = Scenario("fine", "f", "a.feature", 1, [], status="passed")
    for number, scenario in enumerate((one, two)):
        report.write_part(tmp_path, scenario, str(number))
    found = report.load_parts(tmp_path)
    assert [scenario["name"] for scenario in found] == ["fine", hostile], "in the order of the feature"
    page = report.write(tmp_path, {"Python": "3"}, found).read_text()
    assert hostile not in page
    assert page.count("&lt;script&gt;") >= 6
    for elsewhere in ("http://", "https://", "src=", "<script", "@import", "url("):
        assert elsewhere not in page.replace("http-equiv", "")
    assert json.loads((tmp_path / "evidence.json").read_text())["run"]["counts"] == {"failed": 1, "passed": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evidence.html", "evidence.json"]
