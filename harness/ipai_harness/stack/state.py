"""The file that says what belongs to a running stack, so that another command can find and end it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ipai_harness.errors import HarnessError, StackNotRunning
from ipai_harness.stack import paths

NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,39}$")


def check_name(name: str) -> str:
    """The name, when it is one. Raises HarnessError."""
    if not NAME.fullmatch(name):
        raise HarnessError(f"{name!r} cannot name a stack: use 1 to 40 lower-case letters, digits, - and _")
    return name


def file(name: str) -> Path:
    """The state file of that stack."""
    return paths.stacks() / f"{check_name(name)}.json"


def lock(name: str) -> Path:
    """The lock that whoever starts or stops that stack holds."""
    return paths.stacks() / f"{check_name(name)}.lock"


def names() -> list[str]:
    """The names of all stacks that have a state file."""
    return sorted(entry.stem for entry in paths.stacks().glob("*.json"))


def write(name: str, state: Mapping[str, Any]) -> None:
    """Write the whole state, or leave the former one. It holds secrets: mode 0600."""
    new = paths.stacks() / f".{name}.new"
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        json.dump(state, stream)
    new.replace(file(name))


def read(name: str) -> dict[str, Any]:
    """The state of that stack. Raises StackNotRunning."""
    try:
        state = json.loads(file(name).read_text())
    except FileNotFoundError:
        raise StackNotRunning(
            f"no stack named {name!r} runs. Start it: ipai-harness up"
            + ("" if name == "default" else f" --name {name}")
        ) from None
    if not isinstance(state, dict):
        raise HarnessError(f"{file(name)} is damaged: delete it")
    return state
