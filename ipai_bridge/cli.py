"""The command `ipai-bridge`. What each command does stands in the module that adds it; nothing is imported before it is needed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ipai_bridge import __version__, operate
from ipai_bridge.errors import BridgeError

EXIT_CODES = """\
exit codes:
  0  done
  1  refused or failed: one line on standard error, `ipai-bridge: <code>: <what failed, why, and what to do>`
  2  the command line is wrong
"""


def parser() -> argparse.ArgumentParser:
    """The argument parser, with every command."""
    top = argparse.ArgumentParser(
        prog="ipai-bridge",
        description="Business events out of Odoo and into Supabase.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"ipai-bridge {__version__}")
    commands = top.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    operate.add_commands(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except BridgeError as error:
        print(f"ipai-bridge: {error.code}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `ipai-bridge outbox list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
