"""`ipai-harness engine` and `ipai-harness images`: what a Docker stack runs on, and from."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from typing import Any

from ipai_harness.stack import engine, engine_daemon, image_build, images
from ipai_harness.stack.progress import Progress

OK, NOT_RUNNING = 0, 3

ENGINE_EXAMPLES = """\
examples:
  eval "$(ipai-harness engine start)"      start one, and let this shell's docker use it
  ipai-harness engine start --install      on a Debian that has no Docker: fetch it with apt first
  ipai-harness engine stop                 stop it; nothing of it is left but the images in the cache

"""
IMAGES_EXAMPLES = """\
examples:
  ipai-harness images list                 which image each part would run on, and why
  ipai-harness images get                  pull the public ones; where no registry is reached, build them
  ipai-harness images build                build all from Debian's packages, also where a registry is reached
  ipai-harness images remove               remove every image that the harness made

Others: IPAI_HARNESS_IMAGE_ODOO, IPAI_HARNESS_IMAGE_POSTGRES_16, IPAI_HARNESS_IMAGE_POSTGRES_15,
IPAI_HARNESS_IMAGE_DENO name the images to use.

"""


def add(commands: Any, as_json: argparse.ArgumentParser, exit_codes: str) -> None:
    """Add the two commands to the argument parser's sub-commands."""
    raw = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(
        "engine", parents=[as_json], help="a Docker engine of the harness's own, where none runs",
        formatter_class=raw, epilog=ENGINE_EXAMPLES + exit_codes,
        description="Starts and stops a Docker engine of the harness's own, as root. Its images stay in the cache;\n"
        "stopping it removes every container and network, and takes back what it changed in the machine.\n"
        "Where DOCKER_HOST or /var/run/docker.sock names an engine, that one is used, and none of these is needed.",
    )  # fmt: skip
    command.add_argument("action", choices=("start", "stop", "status"))
    command.add_argument("--install", action="store_true", help="(start) install what is missing with apt-get")
    command.set_defaults(run=_engine)

    command = commands.add_parser(
        "images", parents=[as_json], help="the images of Docker stacks", formatter_class=raw,
        epilog=IMAGES_EXAMPLES + exit_codes,
        description="Lists, fetches, builds and removes the images that Docker stacks run on.",
    )  # fmt: skip
    command.add_argument("action", choices=("list", "get", "build", "remove"))
    command.set_defaults(run=_images)


def _engine(options: argparse.Namespace) -> int:
    known: dict[str, Any] = {}
    if options.action == "start":
        with Progress() as progress:
            known = {"address": engine_daemon.start(progress, secrets.token_hex(16), install=options.install)}
    elif options.action == "stop":
        with Progress() as progress:
            known = {"stopped": engine_daemon.stop(progress)}
    else:
        known = engine_daemon.status()
    if options.json:
        print(json.dumps(known))
    elif options.action == "start":
        print(f"export DOCKER_HOST={known['address']}")
    elif options.action == "stop":
        print("stopped" if known["stopped"] else "no engine of the harness runs", file=sys.stderr)
    else:
        for name, value in known.items():
            print(f"{name:>8}  {value}")
    return NOT_RUNNING if options.action == "status" and not known.get("running") else OK


def _images(options: argparse.Namespace) -> int:
    client = engine.client()
    started = time.monotonic()
    rows: list[dict[str, Any]] = []
    with Progress() as progress:
        if options.action == "list":
            rows = [_row(client, role) for role in images.ROLES.values()]
        elif options.action == "remove":
            rows = [{"removed": name} for name in images.remove(client)]
        else:
            make = image_build.build_all if options.action == "build" else image_build.get_all
            rows = [{"made": name} for name in make(client, progress, secrets.token_hex(16))]
    if options.json:
        print(json.dumps(rows))
        return OK
    for row in rows:
        print("  ".join(str(value) for value in row.values()))
    if options.action != "list":
        print(f"{len(rows)} images, {time.monotonic() - started:.1f} s", file=sys.stderr)
    return OK


def _row(client: Any, role: images.Role) -> dict[str, Any]:
    name, why = images.plan(client, role, {})
    image = images.find(client, name)
    here = "not here yet: it is pulled" if image is None else f"{image.attrs['Size'] / 1e6:.0f} MB"
    return {"role": role.name, "image": name, "why": why, "size": here}
