"""What Docker stacks are made from, as far as no engine is needed: contexts, keys, the wheel, the archives."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from ipai_harness.errors import HarnessError
from ipai_harness.stack import image_build, images, ports, provider, wheel
from ipai_harness.stack.container import HOME, pack
from ipai_harness.stack.odoo_package import OdooPackage
from ipai_harness.stack.progress import quiet


def test_each_role_has_a_dockerfile_and_a_variable_of_its_own() -> None:
    for name, role in images.ROLES.items():
        recipe = images.folder() / name / "Dockerfile"
        assert "FROM ${BASE}" in recipe.read_text()
        assert role.variable == f"IPAI_HARNESS_IMAGE_{name.upper().replace('-', '_')}"
    assert (images.folder() / "library" / "Dockerfile").is_file()


def test_a_key_tells_where_one_part_ends() -> None:
    assert images.digest("ab", "c") != images.digest("a", "bc")
    assert images.digest("a", b"b") == images.digest("a", "b")


def test_a_context_has_no_bytecode_no_translation_and_no_owner(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("kept.py", "i18n/es.po", "i18n/all.pot", "__pycache__/kept.pyc", "bin/run"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    (tree / "kept.py").chmod(0o600)
    (tree / "bin/run").chmod(0o700)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        images.add(tar, tree, "usr")
    content.seek(0)
    with tarfile.open(fileobj=content) as tar:
        entries = {entry.name: entry for entry in tar}
    assert {name for name, entry in entries.items() if entry.isfile()} == {"usr/kept.py", "usr/bin/run"}
    assert entries["usr/kept.py"].mode == 0o644
    assert entries["usr/bin/run"].mode == 0o755
    assert {(entry.uid, entry.gid, entry.uname) for entry in entries.values()} == {(0, 0, "root")}


def test_what_is_put_into_a_container_is_its_users_alone() -> None:
    with tarfile.open(fileobj=io.BytesIO(pack({"secret": b"word"}, (7, 8)))) as tar:
        place, secret = tar.getmembers()
        assert (place.name, place.mode, place.uid, place.isdir()) == (HOME.lstrip("/"), 0o700, 7, True)
        assert (secret.name, secret.mode, secret.gid) == (f"{HOME}/secret".lstrip("/"), 0o600, 8)
        content = tar.extractfile(secret)
        assert content is not None
        assert content.read() == b"word"


def test_a_checkout_of_odoo_lands_where_its_package_would(tmp_path: Path) -> None:
    inside = "usr/lib/python3/dist-packages/odoo"
    package = OdooPackage(
        tmp_path, tmp_path / "odoo-bin", (tmp_path / "odoo" / "addons", tmp_path / "addons"), "path"
    )  # fmt: skip
    assert image_build._odoo(package) == [
        (inside, tmp_path / "odoo"), (f"{inside}/addons", tmp_path / "addons"), ("usr/bin/odoo", package.launcher)
    ]  # fmt: skip


def test_the_wheels_key_follows_the_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("1")
    monkeypatch.setattr(wheel, "_sources", lambda: [("a.py", file)])
    before = wheel.key()
    assert wheel.key() == before
    file.write_text("2")
    assert wheel.key() != before


def test_a_wheel_is_put_together_again_from_what_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(wheel, "PROJECT", "iniconfig")  # small, without dependencies, and here: pytest needs it
    monkeypatch.setattr(wheel, "checkout", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = wheel.get(quiet(), "t")
    assert wheel.get(quiet(), "t") == made
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(tmp_path / "there")]
    done = subprocess.run([*pip, str(made)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    code = "import iniconfig; print(iniconfig.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path / "there")}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert found.stdout.startswith(str(tmp_path / "there"))


def test_docker_says_in_its_own_words_that_a_port_is_taken() -> None:
    assert ports.is_taken("Bind for 127.0.0.1:21001 failed: port is already allocated")
    assert not ports.is_taken("no space left on device")


def test_the_variable_names_the_kind_of_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(provider.VARIABLE, raising=False)
    assert provider.default() == "native"
    monkeypatch.setenv(provider.VARIABLE, "docker")
    assert provider.default() == "docker"
    assert provider.choose("docker") == ("docker", "asked for")
    monkeypatch.setenv(provider.VARIABLE, "podman")
    with pytest.raises(HarnessError, match="use native, docker, auto"):
        provider.default()
