"""`ipai-harness`: a stack of real parts here; a Supabase project audited, migrated, verified; drift; measurements."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.table import Table

from ipai_bridge.errors import BridgeError
from ipai_harness import demo, migrate, verify
from ipai_harness.audit import command as audit
from ipai_harness.bench import command as bench
from ipai_harness.conform import command as conform
from ipai_harness.drift import command as drift
from ipai_harness.errors import HarnessError, StackNotRunning
from ipai_harness.stack import docker_command, images, provider, state, template
from ipai_harness.stack.handle import PARTS, Part, Stack
from ipai_harness.stack.progress import Progress

OK, FAILED, USAGE, NOT_RUNNING, INTERRUPTED = 0, 1, 2, 3, 130

EXIT_CODES = """\
exit codes:
  0    done
  1    something failed; the message says which part, shows its log's end, and says what to do
  2    the command line is wrong
  3    no stack of that name runs, or (status) it runs only in part
  130  interrupted; what had been started was stopped again
"""

EXAMPLES = """\
examples:
  ipai-harness demo                        the main job, on a stack of its own
  ipai-harness up                          start everything; the first time this fetches Odoo (a few minutes)
  eval "$(ipai-harness env)"               addresses and secrets as variables of this shell
  psql "$IPAI_HARNESS_SUPABASE_DSN"        … and use them
  ipai-harness logs odoo --follow          watch Odoo's log
  ipai-harness up --name two               a second stack beside the first
  ipai-harness up --provider docker        the same in containers; see ipai-harness images and engine
  ipai-harness down --all                  stop and remove everything

"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        prog="ipai-harness",
        description="Starts a real Odoo CE 19, PostgreSQL for it and for Supabase's side, the Edge Functions and the "
        "relay: as processes of this machine, or in Docker.",
        epilog=EXAMPLES + EXIT_CODES,
        formatter_class=raw,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument(
        "--name", default="default", help="which stack, when several run side by side (default: default)"
    )
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print JSON, and nothing else, on standard output")

    provided = argparse.ArgumentParser(add_help=False)
    provided.add_argument(
        "--provider", choices=provider.PROVIDERS,
        help="native: processes of this machine; docker: containers; auto: the first that runs here, and says why "
        f"(default: {provider.VARIABLE}, or native)",
    )  # fmt: skip

    show = commands.add_parser(
        "demo", parents=[provided, as_json], help="the main job, shown on a stack of its own", epilog=EXIT_CODES,
        formatter_class=raw,
        description="Starts a stack, does in a real Odoo what users do, and shows each event's way from the record\n"
        "to completed, with the time of every hop; also an act that is rolled back, which must not arrive.\n"
        "Then removes the stack. Exit code 0 only if the laws hold.",
    )  # fmt: skip
    show.add_argument("--name", help="on this stack, which is up already, and stays up")
    show.add_argument("--keep", action="store_true", help="leave the demo's stack up, to look around")
    show.set_defaults(run=_demo)

    up = commands.add_parser(
        "up", parents=[named, provided, as_json], help="start a stack", formatter_class=raw, epilog=EXIT_CODES,
        description="Starts a stack and returns when every part is healthy. Does nothing when it runs already.\n"
        "Where Odoo comes from: IPAI_HARNESS_ODOO_PATH (a checkout), IPAI_HARNESS_ODOO_DEB (a package file), or\n"
        "Debian's package from the mirror that apt uses here, or from IPAI_HARNESS_DEBIAN_MIRROR. It is fetched once.",
    )  # fmt: skip
    up.add_argument(
        "--modules",
        default=",".join(template.MODULES),
        help="Odoo modules to install, comma-separated (default: %(default)s)",
    )
    up.add_argument(
        "--relay", choices=("process", "inline", "off"), default="process", help="who delivers (default: process)"
    )
    up.add_argument("--workers", type=int, default=0, help="Odoo worker processes; 0 = threads (default)")
    up.add_argument(
        "--python", help="(native) the interpreter to run Odoo on (default: the one that runs this command)"
    )
    up.add_argument(
        "--image", action="append", default=[], metavar="ROLE=IMAGE",
        help=f"(docker) another image for a role: {', '.join(images.ROLES)}; may be given several times",
    )  # fmt: skip
    up.set_defaults(run=_up)

    status = commands.add_parser(
        "status", parents=[named, as_json], help="what runs, where, and whether it is healthy", epilog=EXIT_CODES,
        formatter_class=raw, description="Shows the parts of a stack. Exit code 3 when not all of it runs.",
    )  # fmt: skip
    status.set_defaults(run=_status)

    env = commands.add_parser(
        "env", parents=[named, as_json], help="addresses, logins and secrets of a stack", epilog=EXIT_CODES,
        formatter_class=raw,
        description='Prints `export` lines for a shell: eval "$(ipai-harness env)". They hold secrets of the stack.',
    )  # fmt: skip
    env.set_defaults(run=_env)

    logs = commands.add_parser(
        "logs", parents=[named], help="the parts' logs", epilog=EXIT_CODES, formatter_class=raw,
        description="Prints the end of the logs: of one part, or of all.",
    )  # fmt: skip
    logs.add_argument("part", nargs="?", choices=PARTS, help="which part (default: all)")
    logs.add_argument("-n", "--lines", type=int, default=50, help="how many lines of each (default: 50)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on printing what is written, until Ctrl-C")
    logs.set_defaults(run=_logs)

    down = commands.add_parser(
        "down", parents=[named], help="stop a stack and remove what belongs to it", epilog=EXIT_CODES,
        formatter_class=raw,
        description="Stops a stack and removes its databases, files and logs. The cache stays. Also cleans up after "
        "an `up` that was killed.",
    )  # fmt: skip
    down.add_argument("--all", action="store_true", help="every stack of this user")
    down.set_defaults(run=_down)

    docker_command.add(commands, as_json, EXIT_CODES)
    audit.add(commands, as_json)
    conform.add(commands, as_json)
    verify.add(commands, as_json)
    migrate.add(commands, as_json)
    drift.add(commands, as_json)
    bench.add(commands, as_json)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    options = parser().parse_args(argv)
    # SIGTERM ends `up` as Ctrl-C does: nothing is left behind.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return int(options.run(options))
    except StackNotRunning as error:
        return _complain(error, NOT_RUNNING)
    except BridgeError as error:
        return _complain(error, FAILED)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `ipai-harness logs | head`
        sys.stderr.close()
        return OK


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _complain(error: BridgeError, code: int) -> int:
    print(f"ipai-harness: {error}", file=sys.stderr)
    return code


def _up(options: argparse.Namespace) -> int:
    state.check_name(options.name)
    already = state.file(options.name).exists()
    started = time.monotonic()
    with Progress() as progress:
        kind = _kind(options, progress)
        own: dict[str, object] = {"python": options.python} if kind == "native" else {"images": _named(options.image)}
        stack = provider.make(
            kind,
            options.name,
            progress=progress,
            modules=[name.strip() for name in options.modules.split(",") if name.strip()],
            relay_mode=options.relay,
            workers=options.workers,
            **own,
        ).up()
    if options.json:
        print(json.dumps({"name": stack.name, "env": stack.env()}))
        return OK
    fresh = not (already and stack.adopted)
    say = Console(stderr=True)
    what = f"is up ({time.monotonic() - started:.1f} s)" if fresh else "was up already, and is healthy"
    say.print(f"the stack {stack.name!r} {what}:", markup=False, highlight=False)
    say.print(_table(stack))
    name = "" if stack.name == "default" else f" --name {stack.name}"
    say.print(
        f'eval "$(ipai-harness env{name})" sets variables; ipai-harness down{name} stops it.',
        markup=False,
        highlight=False,
    )
    return OK


def _kind(options: argparse.Namespace, progress: Progress) -> str:
    """native or docker: as asked for, or as the stack of that name is already."""
    name = getattr(options, "name", None)
    if options.provider is None and name and state.file(name).exists():
        return provider.of(name)
    asked = options.provider or provider.default()
    kind, why = provider.choose(asked)
    if name and state.file(name).exists() and provider.of(name) != kind:
        raise HarnessError(
            f"the stack {name!r} is a {provider.of(name)} one: take it down first, or use another --name"
        )
    if asked == "auto":
        progress.say(f"provider: {kind}, because {why}")
    return kind


def _named(pairs: Sequence[str]) -> dict[str, str]:
    named = dict(pair.partition("=")[::2] for pair in pairs)
    for role, image in named.items():
        if role not in images.ROLES or not image:
            raise HarnessError(f"--image {role}={image}: give ROLE=IMAGE; roles: {', '.join(images.ROLES)}")
    return named


def _demo(options: argparse.Namespace) -> int:
    try:
        outcome = _demonstrate(options)
    except BridgeError as error:
        if options.json:
            print(json.dumps({"ok": False, "events": [], "problems": [f"{error.code}: {error}"]}))
        raise
    if options.json:
        print(json.dumps(outcome.as_json()))
    else:
        demo.print_table(outcome, Console())
    return OK if outcome.ok else FAILED


def _demonstrate(options: argparse.Namespace) -> demo.Outcome:
    say = Console(stderr=True, highlight=False, markup=False)
    if options.name:
        return demo.play(provider.attach(options.name).env(), say.print)
    with Progress() as progress:
        stack = provider.make(_kind(options, progress), f"demo-{os.getpid()}", progress=progress).up()
    try:
        say.print(f"Odoo CE 19 on {stack.odoo_db.what}, Supabase on {stack.supabase_db.what}, {stack.functions.what}")
        return demo.play(stack.env(), say.print)
    finally:
        if options.keep:
            say.print(f"the stack stays up: ipai-harness env --name {stack.name}, and down --name {stack.name}")
        else:
            stack.down()


def _rows(stack: Stack) -> list[dict[str, object]]:
    sick = stack.unhealthy()
    return [
        {
            "part": name, "what": part.what, "address": part.address, "pid": part.pid, "healthy": name not in sick,
            "log": str(part.log),
        }
        for name, part in stack.parts.items()
    ]  # fmt: skip


def _table(stack: Stack) -> Table:
    table = Table(box=None)
    for title in ("part", "what", "address", "pid", "state"):
        table.add_column(title)
    for row in _rows(stack):
        health = "[green]healthy" if row["healthy"] else "[red]down"
        table.add_row(str(row["part"]), str(row["what"]), str(row["address"] or ""), str(row["pid"] or ""), health)
    return table


def _status(options: argparse.Namespace) -> int:
    stack = provider.attach(options.name)
    rows = _rows(stack)
    healthy = all(row["healthy"] for row in rows)
    if options.json:
        print(json.dumps({"name": stack.name, "provider": stack.provider, "healthy": healthy, "parts": rows}))
    else:
        Console().print(_table(stack))
    return OK if healthy else NOT_RUNNING


def _env(options: argparse.Namespace) -> int:
    values = provider.attach(options.name).env()
    if options.json:
        print(json.dumps(values))
        return OK
    for name, value in values.items():
        print(f"export IPAI_HARNESS_{name.upper()}={shlex.quote(value)}")
    # What the library's own commands read, so that `ipai-bridge outbox list` looks at this stack.
    library = {"URL": "functions_url", "SECRET_FILE": "secret_file", "INSTANCE": "instance", "DSN": "odoo_dsn"}
    for variable, name in library.items():
        print(f"export IPAI_BRIDGE_{variable}={shlex.quote(values[name])}")
    return OK


def _logs(options: argparse.Namespace) -> int:
    stack = provider.attach(options.name)
    parts = {name: part for name, part in stack.parts.items() if options.part in (None, name)}
    prefix = options.part is None
    positions: dict[str, int] = {}
    for name, part in parts.items():
        text, positions[name] = part.read_log()
        for line in text.splitlines()[-options.lines :] if options.lines > 0 else ():
            print(f"{name}: {line}" if prefix else line)
    if options.follow:
        _follow(stack.name, parts, positions, prefix=prefix)
    return OK


def _follow(name: str, parts: Mapping[str, Part], positions: dict[str, int], *, prefix: bool) -> None:
    rest = dict.fromkeys(parts, "")
    while state.file(name).exists():  # until `down`
        for part_name, part in parts.items():
            text, positions[part_name] = part.read_log(positions[part_name])
            *lines, rest[part_name] = (rest[part_name] + text).split("\n")
            for line in lines:
                print(f"{part_name}: {line}" if prefix else line, flush=True)
        time.sleep(0.2)


def _down(options: argparse.Namespace) -> int:
    gone = provider.down_all() if options.all else ([options.name] if provider.down(options.name) else [])
    said = ", ".join(gone) if gone else ("no stack runs" if options.all else f"no stack named {options.name!r} runs")
    print(f"stopped and removed: {said}" if gone else said, file=sys.stderr)
    return OK


if __name__ == "__main__":
    sys.exit(main())
