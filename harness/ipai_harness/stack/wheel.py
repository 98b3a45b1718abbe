"""The wheel of this very project, to install into an image: built from the checkout, or put together again from what
is installed here."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import sys
import zipfile
from pathlib import Path

from ipai_harness.errors import HarnessError
from ipai_harness.stack import paths
from ipai_harness.stack.build import cached, run_tool, tool_environment
from ipai_harness.stack.progress import Progress

PROJECT = "ipai-bridge"
FOLDERS = ("ipai_bridge", "harness")
KEPT = 3  # wheels of former states of a checkout


def checkout() -> Path | None:
    """The checkout that this code runs from; None when it is installed."""
    root = paths.library().parent
    return root if (root / "pyproject.toml").is_file() and (root / "harness").is_dir() else None


def _sources() -> list[tuple[str, Path]]:
    """Each file that makes the wheel what it is, by its name in there."""
    root = checkout()
    if root is not None:
        files = [root / "pyproject.toml", root / "README.md"]
        for folder in FOLDERS:
            files += [file for file in sorted((root / folder).rglob("*")) if file.is_file()]
        return [(str(file.relative_to(root)), file) for file in files if "__pycache__" not in file.parts]
    installed = importlib.metadata.distribution(PROJECT)
    return [
        (str(file), Path(str(file.locate())))
        for file in installed.files or []
        # Scripts are made again where it is installed.
        if ".." not in file.parts and "__pycache__" not in file.parts
    ]


def key() -> str:
    """Tells one state of the project from another."""
    digest = hashlib.sha256()
    for name, file in _sources():
        digest.update(f"{name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def get(progress: Progress, token: str) -> Path:
    """The wheel. Raises HarnessError when it cannot be built."""
    home = paths.cache() / "wheel"

    def make(place: Path) -> None:
        with progress.step("odoo", "making the library's wheel"):
            root = checkout()
            _build(root, place, token) if root is not None else _assemble(place)

    place = cached(home / key(), make, progress, "odoo")
    place.touch()
    former = sorted((entry for entry in home.iterdir() if entry.is_dir()), key=lambda entry: entry.stat().st_mtime)
    for entry in former[:-KEPT]:
        if not entry.name.startswith("."):
            for file in entry.iterdir():
                file.unlink()
            entry.rmdir()
    [wheel] = place.glob("*.whl")
    return wheel


def _build(root: Path, place: Path, token: str) -> None:
    run_tool(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-input", "-w", place, root],
        lambda text: HarnessError(
            f"the wheel of {root} could not be built: {text}\nCheck that pip is there and reaches its package index."
        ),
        env=tool_environment(token),
    )


def _assemble(place: Path) -> None:
    version = importlib.metadata.version(PROJECT)
    name = re.sub(r"[-_.]+", "_", PROJECT)
    with zipfile.ZipFile(place / f"{name}-{version}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, file in _sources():
            archive.write(file, inside)
