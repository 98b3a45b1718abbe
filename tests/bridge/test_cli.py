"""The command: keygen, sign and verify; exit codes, one line for an error, and no secret where it must not be."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ipai_bridge
from ipai_bridge import cli
from ipai_bridge.secret import Secret

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "signing.json").read_text(encoding="utf-8"))
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
PLAIN = "an-existing-deployments-own-secret"
ID = "019b76da-a87b-7000-8000-00000000abcd"
NOW = "1767225600123"

Run = tuple[int, str, str]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("IPAI_BRIDGE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("IPAI_BRIDGE_SECRET", SECRET)


@pytest.fixture
def body(tmp_path: Path) -> Path:
    path = tmp_path / "body.json"
    path.write_bytes('{"name":"Peñaranda"}\n'.encode())
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*argv: object) -> Run:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in argv])
        out, err = capsys.readouterr()
        if code:
            assert re.fullmatch(r"ipai-bridge: [a-z_]+: [^\n]+\n", err), "one line, with the code"
        else:
            assert err == ""
        assert SECRET not in err
        return code, out, err

    return run


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def signed(run: Any, body: Path, *options: object) -> dict[str, str]:
    code, out, _ = run("sign", "--json", "--timestamp", NOW, "--id", ID, *options, body)
    assert code == 0
    headers: dict[str, str] = json.loads(out)
    return headers


def as_options(headers: dict[str, str]) -> list[str]:
    return [option for name, value in headers.items() for option in ("--header", f"{name}: {value}")]


def test_keygen_makes_a_standard_secret_each_time(run: Any) -> None:
    made = {run("keygen")[1] for _ in range(3)}
    assert len(made) == 3
    for text in made:
        assert Secret(text.removesuffix("\n")).is_standard
    printed = json.loads(run("keygen", "--json")[1])
    assert printed["fingerprint"] == Secret(printed["secret"]).fingerprint


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["name"] != "seconds"], ids=lambda v: v["name"])
def test_the_golden_vectors(run: Any, vector: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPAI_BRIDGE_SECRET", vector["secret"])
    path = tmp_path / "body"
    path.write_bytes(vector["body"].encode())
    code, out, _ = run("sign", "--json", "--timestamp", vector["timestamp"], path)
    assert (code, json.loads(out)["x-ipai-signature"]) == (0, vector["signature"])
    headers = {
        "x-ipai-timestamp": vector["timestamp"],
        "x-ipai-signature": vector["signature"],
        "x-idempotency-key": ID,
    }
    assert run("verify", *as_options(headers), "--now", vector["timestamp"], path)[0] == 0


def test_sign_prints_lines_that_verify_and_curl_read(run: Any, body: Path, tmp_path: Path) -> None:
    code, out, _ = run("sign", "--sequence", 3, body)
    assert code == 0
    assert out.startswith("content-type: application/json\nx-ipai-timestamp: ")
    assert "x-ipai-sequence: 3\n" in out
    headers = tmp_path / "headers"
    headers.write_text("HTTP/1.1 200 OK\r\n" + out.replace("\n", "\r\n") + "\r\n", encoding="ascii")
    code, out, _ = run("verify", "--headers-file", headers, body)
    assert code == 0
    assert out.startswith("ok: ")
    assert Secret(SECRET).fingerprint in out


def test_sign_takes_time_and_id_of_its_own(run: Any, body: Path) -> None:
    first, second = (json.loads(run("sign", "--json", body)[1]) for _ in range(2))
    assert first["x-idempotency-key"] < second["x-idempotency-key"]
    assert first["x-ipai-timestamp"] <= second["x-ipai-timestamp"]


def test_standard_input_is_a_body(run: Any, body: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, body.read_bytes())
    assert signed(run, Path("-")) == signed(run, body)
    piped(monkeypatch, json.dumps(signed(run, body)).encode())
    code, out, _ = run("verify", "--headers-file", "-", "--now", NOW, "--json", body)
    assert code == 0
    assert json.loads(out) == {
        "ok": True, "id": ID, "timestamp_ms": int(NOW), "secret": Secret(SECRET).fingerprint, "standard": True,
    }  # fmt: skip


def test_instance_and_secret_come_from_the_settings(run: Any, body: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPAI_BRIDGE_INSTANCE", "odoo-eu")
    monkeypatch.setenv("IPAI_BRIDGE_SECRET", f"{PLAIN} {SECRET}")
    headers = signed(run, body)
    assert headers["x-ipai-instance"] == "odoo-eu"
    assert "webhook-id" not in headers
    monkeypatch.setenv("IPAI_BRIDGE_SECRET", f"{SECRET} {PLAIN}")
    code, out, _ = run("verify", *as_options(headers), "--now", NOW, body)
    assert code == 0
    assert "the id is not signed" in out
    monkeypatch.delenv("IPAI_BRIDGE_SECRET")
    file = body.with_name("secret")
    file.write_text(PLAIN, encoding="ascii")
    file.chmod(0o600)
    monkeypatch.setenv("IPAI_BRIDGE_SECRET_FILE", str(file))
    assert signed(run, body) == headers


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"x-ipai-signature": None}, "header_missing"),
        ({"webhook-id": None}, "header_missing"),
        ({"x-ipai-signature": "A" * 64}, "header_malformed"),
        ({"x-ipai-timestamp": "then"}, "header_malformed"),
        ({"x-ipai-timestamp": "1767225000123"}, "timestamp_stale"),
        ({"x-ipai-signature": "0" * 64}, "signature_mismatch"),
        ({"x-idempotency-key": ID[:-1] + "0"}, "id_mismatch"),
        ({"webhook-signature": "v1,AAAA"}, "signature_mismatch"),
    ],
)
def test_verify_says_which_rule_failed(run: Any, body: Path, change: dict[str, str | None], rule: str) -> None:
    headers = {name: value for name, value in (signed(run, body) | change).items() if value is not None}
    code, out, err = run("verify", *as_options(headers), "--now", NOW, body)
    assert (code, out) == (1, "")
    assert err.startswith(f"ipai-bridge: {rule}: ")


def test_a_body_that_was_changed_does_not_verify(run: Any, body: Path) -> None:
    headers = signed(run, body)
    body.write_bytes(body.read_bytes().rstrip())
    assert run("verify", *as_options(headers), "--now", NOW, body)[2].startswith("ipai-bridge: signature_mismatch")


@pytest.mark.parametrize(
    "text", ['{"a": "b"', '{"x-ipai-timestamp": "1", "x-ipai-timestamp": "2"}', '{"x-ipai-timestamp": {"a": 1}}',
             "no colon", ": x",
             "x-ipai-timestamp: é", "\x00\xff", '{"a":' * 100_000]
)  # fmt: skip
def test_headers_that_are_no_headers(run: Any, body: Path, text: str) -> None:
    headers = body.with_name("headers")
    headers.write_text(text, encoding="utf-8")
    assert "header_malformed" in run("verify", "--headers-file", headers, body)[2]


def test_a_header_that_is_there_twice_is_seen(run: Any, body: Path) -> None:
    headers = signed(run, body)
    code, _, err = run("verify", *as_options(headers), "--header", f"X-Idempotency-Key: {ID}", "--now", NOW, body)
    assert code == 1
    assert "twice" in err


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["sign", "missing.json"], "input_unreadable"),
        (["sign", "."], "input_unreadable"),
        (["sign", "a\x00b"], "input_unreadable"),
        (["verify", "--headers-file", "missing", "BODY"], "input_unreadable"),
        (["verify", "--headers-file", "-", "-"], "input_unreadable"),
        (["verify", "BODY"], "header_missing"),
        (["verify", "--header", "nonsense", "BODY"], "header_malformed"),
        (["sign", "--id", "7", "BODY"], "header_malformed"),
        (["sign", "--timestamp", "7", "BODY"], "header_malformed"),
        (["sign", "--sequence", "0", "BODY"], "header_malformed"),
    ],
)
def test_errors_to_be_expected_are_one_line(run: Any, body: Path, argv: list[str], code: str) -> None:
    result, out, err = run(*[body if argument == "BODY" else argument for argument in argv])
    assert (result, out) == (1, "")
    assert err.startswith(f"ipai-bridge: {code}: ")


def test_too_large_a_body(run: Any, body: Path) -> None:
    body.write_bytes(b"x" * 1_048_576)
    assert run("sign", body)[0] == 0
    body.write_bytes(b"x" * 1_048_577)
    assert "input_unreadable" in run("sign", body)[2]


@pytest.mark.parametrize(
    ("environment", "code"),
    [
        ({"IPAI_BRIDGE_SECRET": ""}, "settings_error"),
        ({"IPAI_BRIDGE_SECRET": "hidden-short"}, "weak_secret"),
        ({"IPAI_BRIDGE_SECRET": "", "IPAI_BRIDGE_SECRET_FILE": "/nowhere"}, "secret_unreadable"),
    ],
)
@pytest.mark.parametrize("command", ["sign", "verify"])
def test_no_usable_secret(
    run: Any, body: Path, command: str, environment: dict[str, str], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result, _, err = run(command, body)
    assert result == 1
    assert err.startswith(
        f"ipai-bridge: {code}: IPAI_BRIDGE_SECRET" if "settings" not in code else f"ipai-bridge: {code}: "
    )
    assert "hidden" not in err


@pytest.mark.parametrize(
    "argv", [[], ["unknown"], ["sign"], ["sign", "--timestamp", "now", "x"], ["sign", "--secret", "x", "y"]]
)
def test_wrong_use_ends_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert "usage: ipai-bridge" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--help"], ["keygen", "--help"], ["sign", "--help"], ["verify", "--help"]])
def test_help_has_examples(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "example" in out
    assert "--secret" not in out


def test_the_help_names_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    out = capsys.readouterr().out
    assert all(re.search(rf"^  {code} ", out, re.MULTILINE) for code in (0, 1, 2, 130))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"ipai-bridge {ipai_bridge.__version__}\n"


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "generate_secret", interrupt)
    assert cli.main(["keygen"]) == 130


def python(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True, timeout=60, check=False, **options)


def test_python_m_is_the_same_command(body: Path) -> None:
    done = python("-m", "ipai_bridge", "sign", "--json", "--timestamp", NOW, "--id", ID, str(body))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["x-idempotency-key"] == ID
    failed = python("-m", "ipai_bridge", "sign", "missing.json")
    assert failed.returncode == 1
    assert failed.stderr.startswith("ipai-bridge: input_unreadable: missing.json")


def test_a_closed_pipe_is_no_traceback(body: Path) -> None:
    script = f"{sys.executable} -m ipai_bridge sign {body} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_no_database_driver_is_needed_to_sign(body: Path) -> None:
    code = (
        f"import sys; from ipai_bridge.cli import main; main(['sign', {str(body)!r}]); "
        "print({'psycopg2', 'odoo'} & set(sys.modules))"
    )
    assert python("-c", code).stdout.endswith("set()\n")
