"""An Edge Function as text: comments and strings blanked, imports followed, what it calls told from what it has."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from ipai_harness.audit.folder import SCRIPT, Project, SourceFile

_TOKEN = re.compile(r"//|/\*|[\"'`/{}]")
_BEFORE_REGEX = re.compile(r"(?:^|[(,=:\[!&|?{};~+\-*%<>\n]|\b(?:return|typeof|case|in|of|do|else|await))\s*$")
_IMPORT = re.compile(r"^[ \t]*(?:import|export)\b[^;()]*?\bfrom\s*(?=[\"'])|^[ \t]*import\s*(?=[\"'])", re.MULTILINE)
_DYNAMIC = re.compile(r"\bimport\s*\(\s*(?=[\"'])")
_NAMED = re.compile(
    r"\bfunction\s*\*?\s*(?P<declared>[A-Za-z_$][\w$]*)\s*[(<]"
    r"|\b(?:const|let|var)\s+(?P<bound>[A-Za-z_$][\w$]*)\s*(?::[^=;]+)?=\s*(?:async\s*)?(?:function\b|\([^()]*\)\s*(?::[^=;{]+)?=>|[\w$]+\s*=>)"
)
_WORD = re.compile(r"[A-Za-z_$][\w$]*")
_NOT_NEWLINE = re.compile(r"[^\n]")


@dataclass(frozen=True)
class Script:
    """`plain`: without comments. `code`: without what is in strings either. Both as long as the text."""

    plain: str
    code: str


@lru_cache(maxsize=512)
def script(text: str) -> Script:
    """The two readings of a script."""
    plain, code = list(text), list(text)

    def blank(target: list[str], start: int, end: int) -> None:
        target[start:end] = _NOT_NEWLINE.sub(" ", text[start:end])

    at, braces = 0, list[bool]()  # True: the brace that ends a ${…}
    while (match := _TOKEN.search(text, at)) is not None:
        mark, start, at = match[0], match.start(), match.end()
        if mark in ("//", "/*"):
            end = text.find("\n" if mark == "//" else "*/", at)
            at = len(text) if end < 0 else end + len(mark) - (mark == "//") * 2
            blank(plain, start, at)
            blank(code, start, at)
        elif mark in "\"'" or (mark == "/" and _BEFORE_REGEX.search(text, max(0, start - 40), start)):
            at = _line_string_end(text, at, mark)
            blank(code, start + 1, at - 1)
        elif mark == "{":
            braces.append(False)
        elif mark == "`" or (mark == "}" and braces and braces.pop()):
            at, opened = _template_end(text, at)
            blank(code, start + 1, at - (2 if opened else 1))
            if opened:
                braces.append(True)
    return Script("".join(plain), "".join(code))


def _line_string_end(text: str, at: int, quote: str) -> int:
    in_class = False
    while at < len(text) and text[at] != "\n":
        if text[at] == "\\":
            at += 1
        elif quote == "/" and text[at] in "[]":
            in_class = text[at] == "["
        elif text[at] == quote and not in_class:
            return at + 1
        at += 1
    return min(at, len(text))


def _template_end(text: str, at: int) -> tuple[int, bool]:
    """Behind the closing quote, or behind the `${` that comes first (then True)."""
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == "`":
            return at + 1, False
        elif text.startswith("${", at):
            return at + 2, True
        at += 1
    return len(text), False


@dataclass(frozen=True)
class EdgeFunction:
    """A function of the folder: its name, its entry point, and every file that this one imports."""

    name: str
    entrypoint: SourceFile
    modules: tuple[SourceFile, ...]


def edge_functions(project: Project) -> list[EdgeFunction]:
    """The functions that exist: each folder below functions/ with an index file, or with the entry point config.toml "
    "names."""
    found = []
    for name in function_names(project):
        entrypoint = project.files.get(entrypoint_of(project, name) or "")
        if entrypoint is not None:
            found.append(EdgeFunction(name, entrypoint, tuple(_reached(project, entrypoint, name))))
    return found


def function_names(project: Project) -> list[str]:
    """Folders below functions/ that hold a function, and what config.toml names, in order."""
    folders = {path.split("/")[1] for path in project.names if path.startswith("functions/") and path.count("/") > 1}
    deployed = {name for name in folders if not name.startswith(("_", ".")) and entrypoint_of(project, name)}
    return sorted(deployed | set(project.functions))


def entrypoint_of(project: Project, name: str) -> str | None:
    """The path of a function's entry point; None when no such file is there."""
    written = project.section("functions", name).get("entrypoint")
    if isinstance(written, str):
        path = posixpath.normpath(written)
        return path if path in project.files else None
    candidates = (f"functions/{name}/index{suffix}" for suffix in sorted(SCRIPT))
    return next((path for path in candidates if path in project.files), None)


def _reached(project: Project, entrypoint: SourceFile, name: str) -> Iterator[SourceFile]:
    maps = _import_map(project, name)
    seen, waiting = {entrypoint.path}, [entrypoint]
    while waiting:
        file = waiting.pop(0)
        yield file
        for wanted in _specifiers(file):
            base, target = posixpath.dirname(file.path), wanted
            for prefix, (where, to) in maps.items():
                if wanted == prefix or (prefix.endswith("/") and wanted.startswith(prefix)):
                    base, target = where, to + wanted[len(prefix) :]
            if not target.startswith((".", "/")):
                continue
            path = posixpath.normpath(posixpath.join(base, target))
            if path in project.files and path not in seen:
                seen.add(path)
                waiting.append(project.files[path])


def _specifiers(file: SourceFile) -> Iterator[str]:
    read = script(file.text)
    for pattern in (_IMPORT, _DYNAMIC):
        for match in pattern.finditer(read.code):
            end = read.code.find(read.code[match.end()], match.end() + 1)
            yield read.plain[match.end() + 1 : end]


def _import_map(project: Project, name: str) -> dict[str, tuple[str, str]]:
    """Prefix ▶ (folder of the map, target)."""
    named = project.section("functions", name).get("import_map")
    candidates = [posixpath.normpath(named)] if isinstance(named, str) else []
    candidates += [f"functions/{name}/deno.json", "functions/deno.json", "functions/import_map.json"]
    for path in candidates:
        if path not in project.files:
            continue
        try:
            imports = json.loads(project.files[path].text)["imports"]
            return {str(key): (posixpath.dirname(path), str(value)) for key, value in imports.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return {}


def called_code(function: EdgeFunction) -> Iterator[tuple[SourceFile, int, str]]:
    """The code that may run: what stands outside of any named function, and named functions that such code names.

    Each with its file and its offset there. Names are compared without scopes: too much rather than too little.
    """
    pieces: dict[str, list[tuple[SourceFile, int, str]]] = {}
    running: list[tuple[SourceFile, int, str]] = []
    for file in function.modules:
        code = _IMPORT.sub(lambda match: " " * len(match[0]), script(file.text).code)
        outside = list(code)
        named = _named_functions(code)
        for number, (name, start, end) in enumerate(named):
            own = list(code[start:end])
            for _, inner, inner_end in named[number + 1 :]:
                if inner >= end:
                    break
                own[inner - start : inner_end - start] = " " * (min(inner_end, end) - inner)
            head = code.find("(", start)
            own[: max(head - start, 0)] = " " * max(head - start, 0)  # its own name is no call of it
            pieces.setdefault(name, []).append((file, start, "".join(own)))
            outside[start:end] = " " * (end - start)
        running.append((file, 0, "".join(outside)))
    while running:
        piece = running.pop()
        yield piece
        for word in set(_WORD.findall(piece[2])) & pieces.keys():
            running += pieces.pop(word)


@lru_cache(maxsize=64)
def _named_functions(code: str) -> tuple[tuple[str, int, int], ...]:
    """Name, start and end of each, by start."""
    found = []
    for match in _NAMED.finditer(code):
        if match["declared"]:
            end = _body_end(code, _closed(code, code.find("(", match.end() - 1)))
        else:
            at = match.end()
            if match[0].endswith("function"):
                at = _closed(code, code.find("(", at))
            end = _body_end(code, at)
        found.append((match["declared"] or match["bound"], match.start(), end))
    return tuple(found)


def _body_end(code: str, at: int) -> int:
    """Where the body that follows ends: its closing brace, or the end of the expression's statement."""
    match = re.compile(r"[^{};]*").match(code, at)
    brace = match.end() if match else at
    if code[brace : brace + 1] == "{":
        return _closed(code, brace)
    return min(brace + 1, len(code))


def _closed(code: str, at: int) -> int:
    """Behind the bracket that closes the one at `at`; the end of the text when nothing does."""
    return _brackets(code).get(at, len(code))


@lru_cache(maxsize=64)
def _brackets(code: str) -> dict[int, int]:
    opened: list[int] = []
    ends: dict[int, int] = {}
    for match in re.finditer(r"[(\[{]|[)\]}]", code):
        if match[0] in "([{":
            opened.append(match.start())
        elif opened:
            ends[opened.pop()] = match.end()
    return ends
