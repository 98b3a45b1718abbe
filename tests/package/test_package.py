"""What is built is what was promised, and works when it is installed by itself, away from the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*argv: str | Path, cwd: Path | None = None) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("IPAI_", "PYTHON"))}
    done = subprocess.run([str(a) for a in argv], cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the wheel, built from the sdist, and the sdist."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", out, ROOT)
    return out


@pytest.fixture(scope="session")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bin directory of an environment with the wheel and its core dependencies only."""
    home = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", home)
    run(home / "bin/python", "-m", "pip", "install", "--quiet", next(built.glob("*.whl")))
    return home / "bin"


def test_the_wheel_holds_both_packages_the_addon_the_sql_and_the_supabase_project(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "ipai_bridge/__init__.py",
        "ipai_bridge/py.typed",
        "ipai_bridge/outbox/schema.sql",
        "ipai_bridge/outbox/postgres.sql",
        "ipai_bridge/outbox/sqlite.sql",
        "ipai_bridge/addons/ipai_bridge/__manifest__.py",
        "ipai_harness/cli.py",
        "ipai_harness/images/odoo/Dockerfile",
        "ipai_harness/stack/gateway.ts",
        "ipai_harness/stack/platform.sql",
        "ipai_harness/supabase/config.toml",
        "ipai_harness/supabase/functions/odoo-webhook/index.ts",
    } <= names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"ipai_bridge", "ipai_harness"}
    assert not [name for name in names if re.search(r"__pycache__|\.pyc$|node_modules|(^|/)\.env|(^|/)tests?/", name)]


def test_the_sdist_holds_what_the_tests_need(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tox.ini", "tests/vectors/signing.json", "harness/supabase/config.toml", "CHANGELOG.md", "LICENSE"} <= names


def test_the_metadata_says_what_is_tested(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(archive.read(name).decode())
    core = [item for item in metadata.get_all("Requires-Dist", []) if "extra ==" not in item]
    assert sorted(re.match(r"[a-z-]+", item)[0] for item in core) == ["cryptography", "requests"]  # type: ignore[index]
    assert metadata["License-Expression"] == "LGPL-3.0-or-later"
    assert metadata["Requires-Python"] == ">=3.10"
    versions = [
        item.rpartition(":: ")[2] for item in metadata.get_all("Classifier", []) if re.search(r":: 3\.\d+$", item)
    ]
    environments = re.search(r"py3\{([\d,]+)\}", (ROOT / "tox.ini").read_text())
    assert environments is not None
    assert versions == [f"3.{minor}" for minor in environments[1].split(",")]
    changelog = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert changelog is not None
    assert metadata["Version"] == changelog[1]


def test_it_works_with_its_core_dependencies_alone(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "ipai-bridge", "--version", cwd=tmp_path).startswith("ipai-bridge ")
    assert run(installed / "ipai-bridge", "keygen", cwd=tmp_path).startswith("whsec_")
    assert "create table if not exists ipai_bridge.outbox" in run(installed / "ipai-bridge", "install", "--print")
    addons = Path(run(installed / "ipai-bridge", "addons-path", cwd=tmp_path).strip())
    assert (addons / "ipai_bridge" / "__manifest__.py").is_file()
    # Every room is importable where there is neither psycopg2 nor Odoo.
    code = (
        "import importlib, pkgutil, ipai_bridge\n"
        "for module in pkgutil.walk_packages(ipai_bridge.__path__, 'ipai_bridge.'):\n"
        "    if '.addons' not in module.name and not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
    )
    run(installed / "python", "-W", "error", "-c", code, cwd=tmp_path)


def test_every_command_explains_itself(installed: Path, tmp_path: Path) -> None:
    top = run(installed / "ipai-bridge", "--help", cwd=tmp_path)
    commands = re.search(r"\{([a-z,-]+)\}", top) or re.findall(r"^    ([a-z-]+)\s", top, re.MULTILINE)
    names = commands[1].split(",") if isinstance(commands, re.Match) else commands
    assert {"keygen", "sign", "verify", "install", "relay", "outbox", "doctor", "addons-path"} <= set(names)
    for name in names:
        assert "usage: ipai-bridge " + name in run(installed / "ipai-bridge", name, "--help", cwd=tmp_path)
