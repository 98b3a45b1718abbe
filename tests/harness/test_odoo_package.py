"""Where Odoo comes from: apt's own mirror, and nothing that is not what it should be. apt is played by a script."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ipai_harness.errors import DownloadFailed, PartMissing
from ipai_harness.stack import odoo_package
from ipai_harness.stack.progress import quiet

APT = """#!/bin/sh
case "$*" in
  *indextargets*) printf '%s\\n' 'http://other.example/repo/|stable|main' \\
    'http://mirror.example/debian-security/|bookworm-security|main' 'http://mirror.example/debian/|bookworm|main' ;;
  *update*) echo 'W: the mirror sleeps' ;;
  *AllowUnauthenticated*download*) printf deb > 'odoo-19_19.0.0+dfsg-1_all.deb' ;;
  *download\\ odoo-19*) [ -n "$SIGNED" ] || { echo 'E: unsigned'; exit 100; }; printf new > 'odoo-19_19.0.9_all.deb' ;;
  *) exit 100 ;;
esac
"""
DPKG = """#!/bin/sh
mkdir -p "$3/usr/lib/python3/dist-packages/odoo/addons/base" "$3/usr/lib/python3/dist-packages/odoo/cli" "$3/usr/bin"
cp "$2" "$3/usr/bin/odoo"
"""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("apt-get", APT), ("dpkg-deb", DPKG)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("IPAI_HARNESS_ODOO_PATH", "IPAI_HARNESS_ODOO_DEB", "IPAI_HARNESS_DEBIAN_MIRROR", "SIGNED"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_mirror_is_that_of_apts_own_sources(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert odoo_package.mirror("t") == "http://mirror.example/debian/"
    monkeypatch.setenv("IPAI_HARNESS_DEBIAN_MIRROR", "http://mine.example/debian")
    assert odoo_package.mirror("t") == "http://mine.example/debian"


def test_a_machine_without_apt_is_told_the_other_ways(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(machine))
    with pytest.raises(PartMissing, match="IPAI_HARNESS_ODOO_DEB"):
        odoo_package.get(quiet(), "t")


def test_an_unsigned_archive_is_trusted_for_the_known_hash_only(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DownloadFailed, match=r"(?s)is not what it should be.*the mirror sleeps"):
        odoo_package.get(quiet(), "t")
    assert list((machine / "cache").rglob("*.deb")) == []
    assert not (machine / "cache/ipai-harness/odoo/debian").exists()
    monkeypatch.setattr(odoo_package, "SHA256", hashlib.sha256(b"deb").hexdigest())
    found = odoo_package.get(quiet(), "t")
    assert found.key == "19.0.0+dfsg-1"
    assert found.launcher.read_text() == "deb"


def test_a_signed_later_version_is_taken_and_known_by_its_number(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNED", "yes")
    assert odoo_package.get(quiet(), "t").key == "19.0.9"
    (machine / "bin" / "apt-get").write_text("#!/bin/sh\nexit 1\n")
    assert odoo_package.get(quiet(), "t").key == "19.0.9", "the second time nothing is fetched"


def test_a_file_of_the_users_own_is_taken_as_it_is(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPAI_HARNESS_ODOO_DEB", str(machine / "none.deb"))
    with pytest.raises(PartMissing, match="is not a file"):
        odoo_package.get(quiet(), "t")
    (machine / "none.deb").write_text("own")
    found = odoo_package.get(quiet(), "t")
    assert found.key.startswith("deb-")
    monkeypatch.setenv("IPAI_HARNESS_ODOO_PATH", str(found.python_path.parents[3]))
    assert odoo_package.get(quiet(), "t").launcher == found.launcher
