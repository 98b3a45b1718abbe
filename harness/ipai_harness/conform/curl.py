"""A request as commands for a shell, signed afresh when they are run. Pure. No secret is in them.

`ipai-bridge sign` takes the secret from the environment and prints the headers; sed makes of them what the case sends.
A header that no tool signs (a timestamp in seconds, another key) stands there as it was sent, with a note.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from ipai_bridge.signing import INSTANCE, SEQUENCE
from ipai_harness.conform.runner import Exchange, Result
from ipai_harness.conform.shot import CONTENT_TYPE, Drop, Edit, Made, Put, Request, Signer, Twice, Upper

_RUN = re.compile(rb"(.)\1{63,}", re.DOTALL)
_ADDED = (SEQUENCE, "authorization")
"""Headers that a case adds: `ipai-bridge sign` prints none of them here."""


def as_shell(url: str, result: Result) -> str:
    """Commands that send the case again, one request after the other, each answer with its headers."""
    lines: list[str] = []
    requests = len(result.exchanges)
    for number, exchange in enumerate(result.exchanges, 1):
        body, headers = (f"body{number}", f"headers{number}") if requests > 1 else ("body", "headers")
        lines += _write_body(exchange.request.body, body)
        lines += _write_headers(exchange, headers, body)
        lines += _curl(url, exchange, headers, body)
    if any(not _can_be_signed(exchange) for exchange in result.exchanges):
        lines.insert(
            0, f"# as it was sent, and stale by now: ipai-harness conform {url} -k {result.case.id} signs it afresh"
        )
    return "\n".join(lines)


def _write_body(body: bytes, file: str) -> list[str]:
    parts = [_print(piece) for piece in _pieces(body)]
    if len(parts) == 1:
        return [f"{parts[0]} > {file}"]
    return [f"{{ {'; '.join(parts)}; }} > {file}"]


def _pieces(body: bytes) -> Iterator[tuple[bytes, int]]:
    """The body as bytes and how often they come."""
    at = 0
    for run in _RUN.finditer(body):
        if run.start() > at:
            yield body[at : run.start()], 1
        yield run[1], len(run[0])
        at = run.end()
    if at < len(body) or not body:
        yield body[at:], 1


def _print(piece: tuple[bytes, int]) -> str:
    data, times = piece
    if times > 1:
        return f"head -c {times} /dev/zero | tr '\\0' {shlex.quote(data.decode('latin-1'))}"
    if all(0x20 <= byte < 0x7F for byte in data):
        return f"printf %s {shlex.quote(data.decode())}"
    octal = "".join(chr(byte) if chr(byte).isalnum() and byte < 0x7F else f"\\{byte:03o}" for byte in data)
    return f"printf '{octal}'"


def _can_be_signed(exchange: Exchange) -> bool:
    """Whether `ipai-bridge sign` and sed make this request."""
    shot = exchange.shot
    return shot.stamp is None and not any(isinstance(edit, Made) for edit in shot.edits.values())


def _write_headers(exchange: Exchange, file: str, body: str) -> list[str]:
    shot, request = exchange.shot, exchange.request
    edits = [line for name, edit in shot.edits.items() for line in _sed(name, edit)]
    if shot.again is not None:
        return [_piped(f"cat headers{shot.again + 1}", edits) + f" > {file}"]
    if not _can_be_signed(exchange):
        named = [(name, value) for name, value in request.headers if name != "authorization"]
        return [f"printf '%s\\n' {' '.join(shlex.quote(_header(*pair)) for pair in named)} > {file}"]
    secret = {
        Signer.OLD: 'env -u IPAI_BRIDGE_SECRET_FILE IPAI_BRIDGE_SECRET="$OLD_SECRET" ',
        Signer.STRANGER: 'env -u IPAI_BRIDGE_SECRET_FILE IPAI_BRIDGE_SECRET="$(ipai-bridge keygen)" ',
    }
    shift = f" {'-' if shot.shift_ms < 0 else '+'} {abs(shot.shift_ms)}" if shot.shift_ms else ""
    instance = next((value for name, value in request.headers if name == INSTANCE and INSTANCE not in shot.edits), "")
    sign = (
        f"{secret.get(shot.signer, '')}{f'IPAI_BRIDGE_INSTANCE={instance} ' if instance else ''}ipai-bridge sign "
        f'--id {shot.key} --timestamp "$(($(date +%s) * 1000{shift}))" {body}'
    )
    if not shot.standard:
        edits.insert(0, "/^webhook-/d")
    return [_piped(sign, edits) + f" > {file}"]


def _piped(command: str, edits: Sequence[str]) -> str:
    return command + (f" | sed {' '.join('-e ' + shlex.quote(edit) for edit in edits)}" if edits else "")


def _sed(name: str, edit: Edit) -> list[str]:
    if isinstance(edit, Drop):
        return [f"/^{name}:/d"]
    if isinstance(edit, Upper):
        return [f"/^{name}:/y/abcdef/ABCDEF/"]  # the name too, which makes no difference
    if isinstance(edit, Put):
        return [] if name in _ADDED else [f"s/^{name}:.*/{_escaped(_header(name, edit.value))}/"]
    if isinstance(edit, Twice):
        other = edit.first if edit.first is not None else edit.second
        line = _escaped(_header(name, other or ""))
        return [f"/^{name}:/{{h;s/.*/{line}/;{'p;g' if edit.first is not None else 'x;p;x'};}}"]
    return []


def _escaped(text: str) -> str:
    return re.sub(r"([\\/&])", r"\\\1", text)


def _header(name: str, value: str) -> str:
    # An empty header, for curl, ends in a semicolon.
    return f"{name}: {value}" if value else f"{name};"


def _curl(url: str, exchange: Exchange, headers: str, body: str) -> list[str]:
    request = exchange.request
    words = ["curl -sS -i", f"-X {request.method}", shlex.quote(url), f"-H @{headers}"]
    if request.values("authorization") and "authorization" not in exchange.shot.edits:
        words.append('-H "authorization: Bearer $IPAI_HARNESS_JWT"')
    for name, edit in exchange.shot.edits.items():
        if name in _ADDED and isinstance(edit, Put):
            words.append(f"-H {shlex.quote(_header(name, edit.value))}")
    if not request.values(CONTENT_TYPE):
        words.append("-H content-type:")
    if request.chunked:
        words.append("-H 'transfer-encoding: chunked'")
    words.append("-H expect:")
    if request.body or request.method == "POST":
        words.append(f"--data-binary @{body}")
    line = " ".join(words)
    if exchange.shot.times > 1:
        return [f"for i in $(seq {exchange.shot.times}); do {line} & done; wait"]
    if request.pause:
        return [f"# with {request.pause:g} s between the two halves of the body, which curl does not do:", line]
    return [line]


def sent(request: Request) -> list[list[str]]:
    """The headers as they were sent, without what is secret."""
    return [[name, "Bearer ***" if name == "authorization" else value] for name, value in request.headers]
