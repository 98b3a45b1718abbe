"""Keeps tox's own report off standard output where the command's output is data: `tox -e demo -- --json`.

A plugin that tox finds by its name (https://tox.wiki/en/stable/plugins.html). With `--json` among the arguments, all
that tox prints goes to standard error, and what the commands printed is passed on to standard output alone.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tox.plugin import impl

if TYPE_CHECKING:
    from tox.execute import Outcome
    from tox.tox_env.api import ToxEnv

_data_out: int | None = None
if "--json" in sys.argv:
    # At the level of the file descriptor: tox has got hold of sys.stdout already.
    _data_out = os.dup(1)
    os.dup2(2, 1)


@impl
def tox_after_run_commands(tox_env: ToxEnv, exit_code: int, outcomes: list[Outcome]) -> None:  # noqa: ARG001
    """Pass on what the commands of an environment printed."""
    if _data_out is not None:
        for outcome in outcomes:
            os.write(_data_out, outcome.out.encode())
