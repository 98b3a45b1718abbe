"""`ipai-bridge`: the command.

Every command is one function of its parsed arguments that gives the exit code, named in its parser's defaults as `run`.
`keygen`, `sign` and `verify` are here, and need nothing but the secret; those that work on an outbox are in `operate`.
What a command prints is on standard output; errors are one line on standard error, `ipai-bridge: <code>: <message>`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ipai_bridge import __version__
from ipai_bridge.errors import BridgeError, HeaderMalformed, InputUnreadable
from ipai_bridge.event import MAX_BODY, next_id
from ipai_bridge.secret import Secret, generate_secret
from ipai_bridge.settings import resolve
from ipai_bridge.signing import REPLAY_WINDOW_MS, sign, verify

__all__ = ["main", "make_parser"]

OK = 0
FAILED = 1
# argparse itself ends with 2 for a wrong use.
INTERRUPTED = 130
PIPE_CLOSED = 141

_EPILOG = """\
exit codes:
  0    done
  1    not done; the line on standard error says why: ipai-bridge: <code>: <message>
  2    wrong use
  3, 4 of sync: see ipai-bridge sync finance --help
  130  interrupted

examples:
  ipai-bridge keygen > secret && chmod 600 secret
  export IPAI_BRIDGE_SECRET_FILE=secret
  ipai-bridge sign body.json
  ipai-bridge doctor -c odoo.conf -d prod

The secret comes from IPAI_BRIDGE_SECRET or IPAI_BRIDGE_SECRET_FILE, never from the command line, where others see it.
"""

_SIGN_EPILOG = """\
examples:
  ipai-bridge sign body.json
  printf '%s' "$body" | ipai-bridge sign --json -
  ipai-bridge sign body.json > headers && curl -H @headers --data-binary @body.json "$url/odoo-webhook"

The body is signed byte for byte: a line feed at its end counts, and curl needs --data-binary.
"""

_VERIFY_EPILOG = """\
examples:
  ipai-bridge sign body.json | ipai-bridge verify --headers-file - body.json
  ipai-bridge verify --header 'x-ipai-timestamp: 1767225600123' --header 'x-ipai-signature: …' \\
      --header 'x-idempotency-key: …' --now 1767225600123 body.json

Exit code 1 and the rule that failed, as its code: header_missing, header_malformed, timestamp_stale,
signature_mismatch, id_mismatch.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit code. No error that is to be expected ends in a traceback."""
    arguments = make_parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except BridgeError as error:
        _say(error.code, str(error))
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has what it wants. Python must not complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return PIPE_CLOSED
    return code


def _say(code: str, message: str) -> None:
    line = " ".join(message.split())
    print(f"ipai-bridge: {code}: {line}", file=sys.stderr)


def make_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    from ipai_bridge import operate
    from ipai_bridge.sync import commands as syncs

    parser = argparse.ArgumentParser(
        prog="ipai-bridge",
        description="Business events out of Odoo and into Supabase.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ipai-bridge {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    _add_keygen(commands)
    _add_sign(commands)
    _add_verify(commands)
    operate.add_commands(commands)
    syncs.add_commands(commands)
    return parser


def _add(commands: Any, name: str, run: Any, help: str, epilog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=run.__doc__,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def _add_keygen(commands: Any) -> None:
    parser = _add(commands, "keygen", keygen, "make a new secret", "example:\n  ipai-bridge keygen > secret\n")
    parser.add_argument("--json", action="store_true", help="print JSON: the secret and its fingerprint")


def _add_sign(commands: Any) -> None:
    parser = _add(
        commands, "sign", sign_body, "print the headers for a body, as the relay would send them", _SIGN_EPILOG
    )
    parser.add_argument("--timestamp", type=int, metavar="MS", help="milliseconds since the epoch (default: now)")
    parser.add_argument("--id", metavar="UUID", help="the event's id, the idempotency key (default: a new one)")
    parser.add_argument("--sequence", type=int, metavar="N", help="the event's number within its aggregate")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.add_argument("body", metavar="FILE", help="the body; - is standard input")


def _add_verify(commands: Any) -> None:
    parser = _add(commands, "verify", verify_body, "check a body and its headers", _VERIFY_EPILOG)
    parser.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'", help="a header; repeatable")
    parser.add_argument(
        "--headers-file", metavar="FILE", help="headers, one a line or as a JSON object; - is standard input"
    )
    parser.add_argument("--now", type=int, metavar="MS", help="check as of this time, milliseconds since the epoch")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.add_argument("body", metavar="FILE", help="the body; - is standard input")


def keygen(arguments: argparse.Namespace) -> int:
    """Print a new secret: whsec_ and base64 of 32 random bytes. Give the same one to Odoo and to Supabase."""
    secret = generate_secret()
    if arguments.json:
        print(json.dumps({"secret": secret.reveal(), "fingerprint": secret.fingerprint}))
    else:
        print(secret.reveal())
    return OK


def sign_body(arguments: argparse.Namespace) -> int:
    """Print the headers that the relay would send with this body, signed with the first secret."""
    resolved = resolve(environ=os.environ, only=("secret", "secret_file", "instance"))
    headers = sign(
        _read(arguments.body),
        id=arguments.id or next_id(),
        timestamp_ms=_now_ms() if arguments.timestamp is None else arguments.timestamp,
        secret=resolved.settings.require_secrets()[0],
        sequence=arguments.sequence,
        instance=resolved.settings.instance,
    )
    if arguments.json:
        print(json.dumps(headers))
    else:
        for name, value in headers.items():
            print(f"{name}: {value}")
    return OK


def verify_body(arguments: argparse.Namespace) -> int:
    """Check a body and its headers as the receiver does, with every secret that is set."""
    secrets = _secrets()
    if arguments.body == "-" and arguments.headers_file == "-":
        raise InputUnreadable("standard input cannot be both the body and the headers: give a file for one of them")
    body = _read(arguments.body)
    headers = [_header(line, f"--header {number}") for number, line in enumerate(arguments.header, 1)]
    if arguments.headers_file:
        headers += _headers(_read(arguments.headers_file))
    now_ms = _now_ms() if arguments.now is None else arguments.now
    verified = verify(body, headers, secrets, now_ms=now_ms, tolerance_ms=REPLAY_WINDOW_MS)
    result = {
        "ok": True,
        "id": str(verified.id),
        "timestamp_ms": verified.timestamp_ms,
        "secret": secrets[verified.secret_index].fingerprint,
        "standard": verified.standard,
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        bound = "the id is signed too" if verified.standard else "the id is not signed: no webhook-* headers"
        print(f"ok: {result['id']}, signed at {verified.timestamp_ms} with the secret {result['secret']}; {bound}")
    return OK


def _secrets() -> tuple[Secret, ...]:
    return resolve(environ=os.environ, only=("secret", "secret_file")).settings.require_secrets()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _read(path: str) -> bytes:
    """The bytes of a file, or of standard input. Raises `InputUnreadable`."""
    try:
        if path == "-":
            data = sys.stdin.buffer.read(MAX_BODY + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(MAX_BODY + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise InputUnreadable(f"{path} cannot be read ({reason}): check the path and its permissions") from None
    if len(data) > MAX_BODY:
        raise InputUnreadable(f"{path} is larger than {MAX_BODY:,} bytes, the most that a body may have")
    return data


def _headers(data: bytes) -> list[tuple[str, Any]]:
    """The headers of a file: a JSON object, or one a line as `ipai-bridge sign` and `curl -i` print them."""
    text = data.decode("utf-8", "replace")
    if text.lstrip().startswith("{"):
        try:
            # Pairs, so that a name that is there twice is seen to be.
            return [(str(name), value) for name, value in json.loads(text, object_pairs_hook=list)]
        except (ValueError, RecursionError):
            raise HeaderMalformed("the headers file begins like a JSON object but is none") from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    return [_header(line, f"line {number}") for number, line in lines if not line.startswith("HTTP/")]


def _header(line: str, place: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        raise HeaderMalformed(f"{place} must be of the form 'name: value'")
    return name.strip(), value.strip(" \t\r\n")
