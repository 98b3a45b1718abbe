"""A Supabase project's folder as text, read with suspicion: nothing outside it, nothing special, all with a bound."""

from __future__ import annotations

import bisect
import contextlib
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ipai_harness.audit.finding import Found
from ipai_harness.errors import AuditImpossible

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 4 * 1024 * 1024
MAX_FILES = 20_000
MAX_TOTAL = 256 * 1024 * 1024
IGNORED = {".git", "node_modules", "__pycache__", ".venv"}
TEXT = {".sql", ".ts", ".tsx", ".js", ".mjs", ".cjs", ".jsx", ".json", ".jsonc", ".toml", ".yaml", ".yml", ".env",
        ".md", ".txt", ".html", ".csv", ".sh", ".py"}  # fmt: skip
SCRIPT = {".ts", ".tsx", ".js", ".mjs", ".cjs", ".jsx"}
ALLOW = re.compile(r"ipai-audit:\s*allow\s+([a-z0-9-]+)\s+\S+")


@dataclass(frozen=True)
class SourceFile:
    """A text file of the folder; `path` is relative to it, with slashes."""

    path: str
    text: str

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(match.end() for match in re.finditer("\n", self.text))]

    def line_of(self, offset: int) -> int:
        """The line, from 1, of a place in the text."""
        return bisect.bisect_right(self._starts, offset)

    @property
    def suffix(self) -> str:
        """`.ts`; and `.env` for .env, .env.local and the like."""
        name = self.path.rpartition("/")[2].lower()
        return ".env" if name.startswith(".env") else Path(name).suffix

    @cached_property
    def allowed(self) -> set[tuple[str, int]]:
        """Rule and line of what the file declares to be meant so: the line of the comment and the one below."""
        found: set[tuple[str, int]] = set()
        for match in ALLOW.finditer(self.text):
            line = self.line_of(match.start())
            found |= {(match[1], line), (match[1], line + 1)}
        return found


@dataclass
class Project:
    """What there is to read of the folder, and what could not be read."""

    root: Path
    files: dict[str, SourceFile] = field(default_factory=dict)
    links: list[Found] = field(default_factory=list)
    unread: list[Found] = field(default_factory=list)
    too_large: list[Found] = field(default_factory=list)
    binaries: dict[str, bytes] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    config: Mapping[str, Any] = field(default_factory=dict)
    config_problem: Found | None = None

    def under(self, folder: str, *suffixes: str) -> list[SourceFile]:
        """The text files below a folder, sorted by path."""
        return [
            file for path, file in sorted(self.files.items())
            if path.startswith(folder) and (not suffixes or file.suffix in suffixes)
        ]  # fmt: skip

    @property
    def migrations(self) -> list[SourceFile]:
        """The .sql files directly in migrations/, in the order in which they are applied."""
        return [file for file in self.under("migrations/", ".sql") if file.path.count("/") == 1]

    def section(self, *keys: str) -> Mapping[str, Any]:
        """A table of config.toml; empty where there is none, or something else stands in its place."""
        value: Any = self.config
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value if isinstance(value, Mapping) else {}

    @property
    def functions(self) -> dict[str, Mapping[str, Any]]:
        """The functions that config.toml names."""
        return {name: self.section("functions", name) for name in self.section("functions")}

    @property
    def exposed(self) -> list[str]:
        """The schemas that PostgREST would expose."""
        schemas = self.section("api").get("schemas", ["public", "graphql_public"])
        return [name for name in schemas if isinstance(name, str)] if isinstance(schemas, list) else []

    def config_line(self, *words: str) -> int | None:
        """The first line of config.toml that has all of these words and is no comment."""
        file = self.files.get("config.toml")
        for number, line in enumerate(file.text.splitlines() if file else [], 1):
            if not line.lstrip().startswith("#") and all(word in line for word in words):
                return number
        return None


def read(directory: Path) -> Project:
    """The project in a folder, or in its `supabase` folder. Raises AuditImpossible when there is none."""
    try:
        root = directory if (directory / "config.toml").exists() else directory / "supabase"
        root = root if root.is_dir() else directory
        looks_like_one = any((root / name).exists() for name in ("config.toml", "migrations", "functions"))
    except OSError as error:
        raise AuditImpossible(f"{directory} cannot be read: {error.strerror}. Run it as a user who may.") from error
    if not looks_like_one:
        raise AuditImpossible(
            f"{directory} is no Supabase project: it has neither config.toml nor migrations nor functions. "
            "Give the folder that holds config.toml, or the one above `supabase`."
        )
    project = Project(root.resolve())
    for path, entry in _walk(project):
        _take(project, path, entry)
    _parse_config(project)
    return project


def _walk(project: Project) -> Iterator[tuple[str, Path]]:
    seen = total = 0
    for folder, folders, names in os.walk(project.root, onerror=lambda error: _unreadable(project, error)):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if name not in IGNORED)
        for name in sorted([*names, *(one for one in folders if (here / one).is_symlink())]):
            seen += 1
            path = (here / name).relative_to(project.root).as_posix()
            with contextlib.suppress(OSError):
                total += min((here / name).lstat().st_size, MAX_BYTES)
            if seen > MAX_FILES or total > MAX_TOTAL:
                limits = f"more than {MAX_FILES} files or {MAX_TOTAL >> 20} MiB"
                project.too_large.append(Found(f"{limits}: this file and the rest were not looked at", path))
                return
            yield path, here / name


def _unreadable(project: Project, error: OSError) -> None:
    path = os.path.relpath(error.filename or "", project.root)
    project.unread.append(Found(f"the folder cannot be listed: {error.strerror}", path))


def _take(project: Project, path: str, entry: Path) -> None:
    project.names.append(path)
    try:
        if entry.is_symlink():
            target = entry.resolve()
            if not target.is_relative_to(project.root):
                project.links.append(Found("a symbolic link to outside of the folder; it was not followed", path))
                return
            if target.is_dir():  # it is read where it really is
                return
            target.stat()  # from 3.13 on, resolve() is silent about links in a circle
        data, size = _bytes(entry)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle, on Python 3.10 to 3.12
        why = error.strerror if isinstance(error, OSError) else "links in a circle"
        project.unread.append(Found(f"cannot be read: {why}", path))
        return
    if data is None:
        project.unread.append(Found("is neither a file nor a folder; it was not opened", path))
        return
    suffix = SourceFile(path, "").suffix
    if size > MAX_BYTES and suffix in TEXT:
        message = f"{size} bytes: only the first {MAX_BYTES} were looked at"
        project.too_large.append(Found(message, path))
    try:
        text = data.decode("utf-8", "ignore" if size > MAX_BYTES else "strict")
    except ValueError:
        text = "\0"
    if "\0" in text:
        project.binaries[path] = data
        if suffix in TEXT:
            project.unread.append(Found("is not text in UTF-8; only its bytes were searched", path))
        return
    project.files[path] = SourceFile(path, text.removeprefix("\ufeff"))


def _bytes(entry: Path) -> tuple[bytes | None, int]:
    """The file's beginning and its size; None for a device, a pipe or a socket, which might never end."""
    # Not blocking, for what became a pipe since it was looked at.
    descriptor = os.open(entry, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)) if entry.is_file() else None
    if descriptor is None:
        return None, 0
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        return (file.read(MAX_BYTES), status.st_size) if stat.S_ISREG(status.st_mode) else (None, 0)


def _parse_config(project: Project) -> None:
    file = project.files.get("config.toml")
    if file is None:
        project.config_problem = Found("there is no config.toml that can be read: defaults are assumed", "config.toml")
        return
    try:
        project.config = tomllib.loads(file.text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        # The parser's words may quote the line, and the line may hold a secret: only where it is.
        at = re.search(r"at line (\d+)", str(error))
        message = "this is not TOML: no setting of it could be looked at"
        project.config_problem = Found(message, "config.toml", int(at[1]) if at else None)
