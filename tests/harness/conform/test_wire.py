"""The kit over TLS, through a proxy, and its judgement of single answers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipai_bridge.secret import Secret
from ipai_harness.conform.cases import selected
from ipai_harness.conform.judge import by_gateway, code_of
from ipai_harness.conform.runner import Report, new_bench, run
from ipai_harness.conform.shot import Request
from ipai_harness.conform.wire import Answer, send
from ipai_harness.errors import ConformImpossible
from tests.bridge.delivery.receiver import refused_port, tls_context
from tests.harness.conform.conftest import NEW_SECRET, OLD_SECRET
from tests.harness.conform.receiver import Faultless, serving

WORDS = ("body/one-mebibyte", "body/over-limit", "http/", "key/at-once")


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A faultless receiver's URL under https, and the file with which it is trusted."""
    context, trusted = tls_context(tmp_path)
    with serving(Faultless, [NEW_SECRET, OLD_SECRET]) as receiver:
        receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
        yield receiver.url.replace("http://", "https://"), trusted


def test_over_tls(secure: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    url, trusted = secure
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    report = _run(url)
    assert [(result.case.id, result.problems) for result in report.failed] == []


def test_a_certificate_that_is_not_trusted(secure: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    with pytest.raises(ConformImpossible, match="its certificate is not trusted: "):
        _run(secure[0])


def _run(url: str) -> Report:
    return run(url, new_bench([Secret(NEW_SECRET), Secret(OLD_SECRET)], None), selected(WORDS), timeout=10)


class Proxy:
    """Takes CONNECT and passes the bytes on; what was asked for is in `asked`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://user:word@127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        self.asked.append(head.decode())
        host, _, port = head.split()[1].decode().partition(":")
        with client, socket.create_connection((host, int(port))) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
            back.start()
            _pass_on(client, server)
            back.join(5)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_through_a_proxy(secure: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    url, trusted = secure
    proxy = Proxy()
    for name in ("NO_PROXY", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", proxy.url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    answer = send(url, Request("GET", (), b""), 10)
    proxy.listener.close()

    assert answer.status == 405
    [asked] = proxy.asked
    assert asked.startswith("CONNECT 127.0.0.1:")
    assert "proxy-authorization: Basic dXNlcjp3b3Jk\r\n" in asked


def test_nothing_is_raised_where_nobody_listens() -> None:
    answer = send(f"http://127.0.0.1:{refused_port()}/", Request("POST", (), b"{}"), 5)
    assert (answer.status, answer.fault) == (None, "Connection refused")


def test_an_answer_that_does_not_come() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert send(url, Request("POST", (), b"{}"), 0.2).fault == "no answer within 0.2 s"


def answer(status: int, body: object, kind: str = "application/json", **headers: str) -> Answer:
    text = body if isinstance(body, str) else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"content-type": kind, **named}, text.encode())


@pytest.mark.parametrize(
    ("given", "gateway"),
    [
        (answer(401, {"code": 401, "message": "Missing authorization header"}), True),
        (answer(401, {"code": "UNAUTHORIZED_NO_AUTH_HEADER", "message": "Missing authorization header"}), True),
        (answer(401, {"msg": "Error: Missing authorization header"}), True),
        (answer(503, {"code": "BOOT_ERROR", "message": "Worker failed to boot (please check logs)"}), True),
        (answer(404, "Function not found", "text/plain"), True),
        (answer(546, "", "text/plain"), True),
        (answer(502, "<html>Bad Gateway</html>", "text/html"), True),
        (answer(401, {"ok": False, "error": {"code": "bad_signature", "message": "no"}}), False),
        (answer(401, {"error": "no"}), False),
        (answer(401, {"message": "no", "trace": "x"}), False),
        (answer(401, "<html>No</html>", "text/html"), False),
        (answer(404, "", "text/plain", x_ipai_contract="1"), False),
        (answer(200, {"ok": True}), False),
    ],
)
def test_who_answered(given: Answer, gateway: bool) -> None:
    assert by_gateway(given) is gateway


def test_an_errors_code_is_fit_to_be_printed() -> None:
    assert code_of(answer(400, {"ok": False, "error": {"code": "\x1b[2Jx" + "y" * 99}})) == "\\x1b[2Jx" + "y" * 55
    assert code_of(answer(400, "[" * 100_000)) is None
    assert code_of(answer(400, {"error": "text"})) is None
