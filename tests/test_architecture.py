"""The house keeps its shape: who may import whom, how long a file may be, which names are not used.

    errors ◀ event, payload, secret, signing, settings, endpoint, odoo_conf ◀ outbox ◀ delivery ◀ sync, bridge
    ◀ server_action, wiring, operate ◀ addons, cli

A module imports from its own floor or from those below it, never in a circle, and `ipai_harness` from nowhere in the
library. Imports inside functions and under TYPE_CHECKING count: they are arrows too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "ipai_bridge"
SOURCES = [ROOT / "ipai_bridge", ROOT / "harness", ROOT / "tests"]

FLOORS: list[set[str]] = [
    {"errors"},
    {"event", "payload", "secret", "signing", "settings", "setting_forms", "endpoint", "odoo_conf"},
    {"outbox"},
    {"delivery"},
    {"sync", "bridge"},
    {"server_action", "wiring", "operate"},
    {"addons", "cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FACE = {"__init__": 4, "__main__": len(FLOORS)}
"""The package itself hands out the bridge's names; `python -m ipai_bridge` is the command."""

PROVIDED_BY_ODOO = {"odoo", "psycopg2", "odoorpc"}
"""Or by an extra. Not dependencies: imported where they are used, so that the library is importable without them."""
DEPENDENCIES = {"requests", "urllib3", "cryptography"}

MAX_LINES = 400
FORBIDDEN = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "base"}
SUFFIXES = {".py", ".sql", ".ts"}


# --- reading the imports


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports(source: str) -> Iterator[tuple[str, bool]]:
    """Each imported dotted name, and whether it is imported when the module is (not in a function, not for types)."""

    def walk(node: ast.AST, at_start: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_start) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, "imports are absolute"
                yield from ((f"{child.module}.{alias.name}", at_start) for alias in child.names)
            elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or (
                isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            ):
                yield from walk(child, False)
            else:
                yield from walk(child, at_start)

    yield from walk(ast.parse(source), True)


def library_modules(root: Path) -> dict[str, Path]:
    return {module_name(path, root): path for path in sorted(root.rglob("*.py"))}


def resolve(dotted: str, modules: dict[str, Path]) -> str | None:
    """The module of the library that `dotted` is, or is a name of; "__init__" for a name of the package itself."""
    if dotted.split(".")[0] != "ipai_bridge":
        return None
    parts = dotted.split(".")[1:]
    while parts:
        if ".".join(parts) in modules:
            return ".".join(parts)
        parts.pop()
    return "__init__"


def floor(module: str) -> int | None:
    return FACE.get(module, FLOOR.get(module.split(".")[0]))


def violations(root: Path) -> list[str]:
    modules = library_modules(root)
    found: list[str] = []
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        mine = floor(module)
        if mine is None:
            found.append(f"{module} has no floor: say in FLOORS where it belongs")
            continue
        graph[module] = set()
        for dotted, at_start in imports(path.read_text(encoding="utf-8")):
            top = dotted.split(".")[0]
            if top == "ipai_harness":
                found.append(f"{module} imports the harness")
            if top in PROVIDED_BY_ODOO and at_start:
                found.append(f"{module} imports {top} when it is imported itself")
            target = resolve(dotted, modules)
            if target in {None, module} or (target == "__init__" and _is_plain(dotted, root)):
                continue
            theirs = floor(str(target))
            if theirs is not None and theirs > mine:
                found.append(f"{module} imports {target}, which is above it")
            if at_start:
                graph[module].add(str(target))
    return found + [f"{' ▶ '.join(circle)} is a circle" for circle in circles(graph)]


def _is_plain(dotted: str, root: Path) -> bool:
    """Whether this name of the package is a constant such as `__version__`, which leads nowhere."""
    name = dotted.rpartition(".")[2]
    tree = ast.parse((root / "__init__.py").read_text(encoding="utf-8"))
    return any(
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
        for node in tree.body
    )


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """One way round each circle of imports that is found."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> None:
        if module in way:
            found.append([*way[way.index(module) :], module])
        elif module not in done:
            for target in sorted(graph.get(module, ())):
                visit(target, [*way, module])
            done.add(module)

    for module in sorted(graph):
        visit(module, [])
    return found


# --- the library


def test_every_arrow_points_down() -> None:
    assert violations(LIBRARY) == []


def test_only_the_declared_dependencies_are_imported() -> None:
    allowed = {"ipai_bridge", *DEPENDENCIES, *PROVIDED_BY_ODOO, "_typeshed", *sys.stdlib_module_names}
    used = {
        (module, dotted.split(".")[0])
        for module, path in library_modules(LIBRARY).items()
        for dotted, _ in imports(path.read_text(encoding="utf-8"))
    }
    assert {(module, top) for module, top in used if top not in allowed} == set()


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("errors.py", "from ipai_bridge.event import Event", "errors imports event, which is above it"),
        ("outbox/store.py", "from ipai_bridge import bridge", "outbox.store imports bridge, which is above it"),
        ("outbox/store.py", "from ipai_bridge import emit", "outbox.store imports __init__, which is above it"),
        (
            "outbox/store.py",
            "import ipai_bridge.delivery.relay",
            "outbox.store imports delivery.relay, which is above it",
        ),
        ("event.py", "def f():\n    from ipai_bridge.cli import main", "event imports cli, which is above it"),
        (
            "event.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ipai_bridge.cli import main",
            "event imports cli, which is above it",
        ),
        ("event.py", "import ipai_harness.stack", "event imports the harness"),
        ("event.py", "try:\n    import psycopg2.extras\nexcept ImportError:\n    pass", "event imports psycopg2 when"),
        ("cli.py", "from odoo import api", "cli imports odoo when"),
        ("cli.py", "def f():\n    import odoo", None),
        ("event.py", "from ipai_bridge import __version__", None),
        (
            "event.py",
            "from ipai_bridge import secret\nimport ipai_bridge.signing",
            "event ▶ signing ▶ event is a circle",
        ),
        ("extra.py", "", "extra has no floor"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, path: str, text: str, said: str | None) -> None:
    for name in ("errors", "event", "secret", "signing", "bridge", "cli", "outbox/store", "delivery/relay"):
        planted = tmp_path / f"{name}.py"
        planted.parent.mkdir(exist_ok=True)
        planted.write_text("from ipai_bridge.event import Event\n" if name == "signing" else "")
    (tmp_path / "__init__.py").write_text('__version__ = "0"\ndef emit(): ...\n')
    assert violations(tmp_path) == []
    (tmp_path / path).write_text(text)
    found = violations(tmp_path)
    assert found == [] if said is None else any(line.startswith(said) for line in found), found


# --- every source file


def sources() -> list[Path]:
    return [path for root in SOURCES for path in sorted(root.rglob("*")) if path.suffix in SUFFIXES and path.is_file()]


def test_no_file_is_too_long() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert len(lengths) > 50
    assert {path for path, lines in lengths.items() if lines > MAX_LINES} == set()


def test_no_name_says_nothing() -> None:
    named = {part for path in sources() for part in (*path.relative_to(ROOT).parts[:-1], path.stem)}
    assert named & FORBIDDEN == set()
