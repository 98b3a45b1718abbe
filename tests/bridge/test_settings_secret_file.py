"""Secrets from a file: IPAI_BRIDGE_SECRET_FILE, and what of files is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ipai_bridge import secret
from ipai_bridge.errors import SecretUnreadable, SettingsError, WeakSecret
from ipai_bridge.secret import Secret
from ipai_bridge.settings import Row, resolve

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
OTHER = "an-existing-deployments-own-secret"


def written(directory: Path, content: bytes | str, mode: int = 0o600) -> Path:
    path = directory / "secret"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def read(path: object) -> tuple[Secret, ...]:
    return resolve(environ={"IPAI_BRIDGE_SECRET_FILE": str(path)}).settings.secrets


@pytest.mark.parametrize("content", [f"{SECRET}\n{OTHER}\n", f"{SECRET},{OTHER}", f"\ufeff{SECRET}\r\n{OTHER}\r\n\r\n"])
def test_a_file_holds_one_or_several(content: str, tmp_path: Path) -> None:
    assert read(written(tmp_path, content)) == (Secret(SECRET), Secret(OTHER))


def test_sources_and_rows_name_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, SECRET)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"environ": {"IPAI_BRIDGE_SECRET_FILE": str(path)}}, "environment"),
        ({"conf": {"secret_file": str(path)}}, "odoo.conf"),
        ({"explicit": {"secret_file": path}}, "argument"),
    ]
    for sources, name in cases:
        resolved = resolve(**sources)
        assert resolved.sources == {"secret": name, "secret_file": name}
        assert Row("secret_file", str(path), name) in resolved.describe()
        assert SECRET not in repr(resolved)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440, 0o640, 0o660])
def test_the_group_may_read_it(mode: int, tmp_path: Path) -> None:
    assert read(written(tmp_path, SECRET, mode)) == (Secret(SECRET),)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666])
def test_everybody_may_not(mode: int, tmp_path: Path) -> None:
    path = written(tmp_path, SECRET, mode)
    with pytest.raises(SecretUnreadable, match="chmod o=") as caught:
        read(path)
    assert caught.value.name == "IPAI_BRIDGE_SECRET_FILE"
    assert SECRET not in str(caught.value)


def test_a_secret_that_docker_mounts_may_be_of_mode_0444(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, SECRET, 0o444)
    assert not secret._is_mounted_secret(path)
    assert secret._is_mounted_secret("/run/secrets/ipai")
    assert not secret._is_mounted_secret("/run/secrets/../../etc/passwd")
    monkeypatch.setattr(secret, "_is_mounted_secret", lambda _: True)
    assert read(path) == (Secret(SECRET),)


def test_a_link_is_followed(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(written(tmp_path, SECRET))
    assert read(link) == (Secret(SECRET),)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no secret"),
        (b" \n,\n", "holds no secret"),
        (b"\xff\xfe" + b"hidden" * 9, "UTF-8"),
        (b"x" * 65_537, "more than"),
    ],
)
def test_contents_that_are_refused(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(SecretUnreadable, match=words) as caught:
        read(written(tmp_path, content))
    assert "hidden" not in str(caught.value)


def test_a_weak_secret_in_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeakSecret) as caught:
        read(written(tmp_path, "hidden"))
    assert caught.value.name == "IPAI_BRIDGE_SECRET_FILE"
    assert "hidden" not in str(caught.value)


def test_paths_that_are_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    (tmp_path / "directory").mkdir()
    for path, words in (
        (tmp_path / "missing", "No such file"),
        (tmp_path / "directory", "directory|plain file"),
        (pipe, "plain file"),  # opening it must not hang
        ("a\x00b", "not a path"),
        (tmp_path / "missing" / "x", "No such file"),
    ):
        with pytest.raises(SecretUnreadable, match=words) as caught:
            read(path)
        assert caught.value.__context__ is None
    with pytest.raises(SecretUnreadable, match="not a path"):
        resolve(explicit={"secret_file": 1.5})


def test_both_in_one_source_is_not_clear(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="must not be given beside IPAI_BRIDGE_SECRET_FILE"):
        resolve(environ={"IPAI_BRIDGE_SECRET": SECRET, "IPAI_BRIDGE_SECRET_FILE": str(written(tmp_path, OTHER))})


def test_the_first_source_that_names_either_counts(tmp_path: Path) -> None:
    path = written(tmp_path, OTHER)
    resolved = resolve(environ={"IPAI_BRIDGE_SECRET": SECRET}, conf={"secret_file": str(path)})
    assert resolved.settings.secrets == (Secret(SECRET),)
    assert resolved.settings.secret_file is None
    resolved = resolve(environ={"IPAI_BRIDGE_SECRET_FILE": str(path)}, conf={"secret": SECRET})
    assert resolved.settings.secrets == (Secret(OTHER),)
