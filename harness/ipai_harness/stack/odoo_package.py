"""Odoo CE 19 and its virtual environment, fetched once into the cache.

Where Odoo comes from, the first that is set:

- `IPAI_HARNESS_ODOO_PATH`: a checkout, or an unpacked package
- `IPAI_HARNESS_ODOO_DEB`: a package file
- Debian's own package `odoo-19` from the suite sid of the mirror that this machine's apt uses, or of
  `IPAI_HARNESS_DEBIAN_MIRROR`; apt works in a private directory and needs no root, dpkg unpacks

What is downloaded is checked: the known version by its SHA-256, any other by apt's signature.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ipai_harness.errors import DownloadFailed, HarnessError, PartMissing
from ipai_harness.stack import paths
from ipai_harness.stack.build import cached, run_tool, tool_environment
from ipai_harness.stack.progress import Progress

PACKAGE = "odoo-19"
VERSION = "19.0.0+dfsg-1"
SHA256 = "9d2f598b0555db17e291d48ed24df184c70823c053c4c5ed53c467ca7f629bbf"
SIZE = 122_533_504  # bytes, for the progress bar
# What links of Odoo's package point to, and the web client's pages do not work without.
PAGES = ("libjs-jquery", "libjs-underscore", "libjs-jquery-form", "fonts-font-awesome")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
REQUIREMENTS = Path(__file__).with_name("odoo_requirements.txt")
OTHER_WAYS = (
    "Or set IPAI_HARNESS_ODOO_DEB to a file odoo-19_*.deb, IPAI_HARNESS_ODOO_PATH to a checkout of Odoo 19, "
    "or IPAI_HARNESS_DEBIAN_MIRROR to a Debian mirror."
)


@dataclass(frozen=True)
class OdooPackage:
    """Odoo's source on this machine."""

    python_path: Path  # holds the package `odoo`
    launcher: Path
    addons: tuple[Path, ...]
    key: str  # tells one version from another


def get(progress: Progress, token: str) -> OdooPackage:
    """Odoo CE 19, from the cache or fetched into it. Raises DownloadFailed or PartMissing."""
    path = os.environ.get("IPAI_HARNESS_ODOO_PATH")
    if path:
        return describe(Path(path), f"path-{hashlib.sha256(str(Path(path).resolve()).encode()).hexdigest()[:12]}")
    root = paths.cache() / "odoo"
    file = os.environ.get("IPAI_HARNESS_ODOO_DEB")
    if file:
        deb = Path(file)
        if not deb.is_file():
            raise PartMissing(f"IPAI_HARNESS_ODOO_DEB names {deb}, which is not a file: correct or unset it")
        digest = _sha256(deb)
        key = VERSION if digest == SHA256 else f"deb-{digest[:12]}"
        return describe(cached(root / key, lambda place: _unpack([deb], place, progress, token), progress, "odoo"), key)

    def make(place: Path) -> None:
        debs = _download(progress, token)
        _unpack(debs, place, progress, token)
        # When the archive has gone on, this is what it has now.
        (place / "version").write_text(debs[0].name.split("_")[1].replace("%2b", "+"))
        for deb in debs:
            deb.unlink()

    place = cached(root / "debian", make, progress, "odoo")
    return describe(place, (place / "version").read_text())


def describe(root: Path, key: str) -> OdooPackage:
    """What is where in a checkout or an unpacked package. Raises PartMissing."""
    root = root.expanduser().resolve()
    for python_path in (root, root / "usr/lib/python3/dist-packages"):
        source = python_path / "odoo"
        if not (source / "cli").is_dir():
            continue
        launchers = [place for place in (root / "odoo-bin", root / "usr/bin/odoo") if place.is_file()]
        addons = [place for place in (source / "addons", python_path / "addons") if (place / "base").is_dir()]
        # In a checkout the other addons stand beside the package; in Debian's, odoo/addons has them all.
        beside = python_path / "addons"
        if addons and not (source / "addons" / "web").is_dir() and (beside / "web").is_dir():
            addons.append(beside)
        if launchers and addons:
            return OdooPackage(python_path, launchers[0], tuple(dict.fromkeys(addons)), key)
    raise PartMissing(f"{root} holds no Odoo 19 (odoo/cli, odoo-bin or usr/bin/odoo, addons). {OTHER_WAYS}")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def mirror(token: str) -> str:
    """The Debian archive that this machine's own apt uses."""
    explicit = os.environ.get("IPAI_HARNESS_DEBIAN_MIRROR")
    if explicit:
        return explicit
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise PartMissing(
            f"Odoo comes as a Debian package, and this machine has no apt-get or no dpkg-deb. {OTHER_WAYS}"
        )
    listed = run_tool(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)", "Created-By: Packages"],
        lambda text: DownloadFailed(f"apt's configuration could not be read: {text}"), env=tool_environment(token),
    )  # fmt: skip
    for line in listed.splitlines():
        uri, _, rest = line.partition("|")
        release, _, component = rest.partition("|")
        # Ubuntu's archive and third parties' have no suite sid; neither has Debian's security archive.
        if component == "main" and "debian" in uri and "security" not in uri + release:
            return uri
    raise DownloadFailed(
        f"apt's sources on this machine name no Debian archive, so {PACKAGE} cannot be fetched. {OTHER_WAYS}"
    )


def _download(progress: Progress, token: str) -> list[Path]:
    """The package files: Odoo's first, then what its pages need, as far as they are to be had."""
    place = paths.cache() / "download"
    for directory in ("lists/partial", "archives/partial"):
        (place / directory).mkdir(parents=True, exist_ok=True)
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    sources = place / "sources.list"
    sources.write_text(f"deb {signed}{mirror(token)} sid main\n")
    options = {
        "Dir::Etc::SourceList": sources, "Dir::Etc::SourceParts": "/dev/null", "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null", "Dir::State::Lists": place / "lists", "Dir::Cache": place,
        "APT::Default-Release": "", "APT::Sandbox::User": "root", "Acquire::Languages": "none", "Acquire::Retries": "3",
        # A mirror that is a frozen copy has an old Release file; the checks that count are below.
        "Acquire::Check-Valid-Until": "false", "Acquire::AllowInsecureRepositories": "true",
    }  # fmt: skip
    apt = ["apt-get", "-q", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
    env = tool_environment(token)

    told: list[str] = []  # apt calls a mirror that it cannot reach a warning: it is the cause of what fails next

    def failed(what: str) -> DownloadFailed:
        return DownloadFailed(
            "\n".join([what, *told, f"Check this machine's network and apt sources, and run it again. {OTHER_WAYS}"])
        )

    with progress.step("odoo", "reading the package list"):
        text = run_tool([*apt, "update"], lambda text: failed(f"apt could not read the package list: {text}"), env=env)
    told += [line for line in text.splitlines() if line.startswith(("W:", "E:"))][:5]
    with progress.step("odoo", f"downloading Odoo CE 19 ({SIZE / 1e6:.0f} MB)") as step:

        def watch() -> None:
            done = max((file.stat().st_size for file in place.glob(f"{PACKAGE}_*")), default=0)
            step.update(min(1.0, done / SIZE))

        download = [*apt, "download", PACKAGE]
        try:
            run_tool(
                download,
                lambda text: failed(f"apt could not download {PACKAGE}: {text}"),
                env=env,
                cwd=place,
                watch=watch,
            )
        except DownloadFailed:
            # No keyring for this archive. Its signature is not needed for a version whose hash is known.
            download = [*apt, "-o", "APT::Get::AllowUnauthenticated=true", "download", f"{PACKAGE}={VERSION}"]
            run_tool(
                download,
                lambda text: failed(f"apt could not download {PACKAGE}: {text}"),
                env=env,
                cwd=place,
                watch=watch,
            )
        debs = sorted(place.glob(f"{PACKAGE}_*.deb"), key=lambda file: file.stat().st_mtime)
        deb = debs[-1]
        if VERSION in deb.name.replace("%2b", "+") and _sha256(deb) != SHA256:
            deb.unlink()
            raise failed(f"{deb.name} is not what it should be (SHA-256): it was deleted")
    pages: list[Path] = []
    for package in PAGES:
        try:
            run_tool([*apt, "download", package], failed, env=env, cwd=place)
        except DownloadFailed:
            progress.say(f"odoo: {package} is not to be had: pages of the web client may look broken, RPC works")
        pages += place.glob(f"{package}_*.deb")
    return [deb, *pages]


def _unpack(debs: list[Path], place: Path, progress: Progress, token: str) -> None:
    with progress.step("odoo", "unpacking Odoo CE 19"):
        for deb in debs:
            run_tool(
                ["dpkg-deb", "-x", deb, place],
                lambda text: HarnessError(f"the package could not be unpacked (it needs 1.3 GB of disk): {text}"),
                env=tool_environment(token),
            )  # fmt: skip


def environment(progress: Progress, token: str, python: str | None = None) -> Path:
    """The interpreter of a virtual environment that has what Odoo needs. Raises DownloadFailed.

    `python` is the interpreter to make it from (default: ours).
    """
    base: str = python or getattr(sys, "_base_executable", None) or sys.executable
    # The patch version too: a virtual environment belongs to the interpreter that it was made from.
    about = subprocess.run(
        [base, "-c", "import sys; print(sys.implementation.cache_tag, sys.version.split()[0], sys.base_prefix)"],
        capture_output=True, text=True, check=False, env=tool_environment(token),
    )  # fmt: skip
    if about.returncode:
        raise PartMissing(f"{base} is no Python interpreter: {about.stderr.strip()}")
    tag, version, _ = about.stdout.split(maxsplit=2)
    key = hashlib.sha256(f"{about.stdout}\n{REQUIREMENTS.read_text()}".encode()).hexdigest()[:12]
    target = paths.cache() / "venv" / f"{tag}-{key}"
    if target.is_dir() and not (target / "bin/python").exists():
        shutil.rmtree(target)  # its base interpreter is gone

    def make(place: Path) -> None:
        with progress.step("odoo", f"installing what Odoo needs, on Python {version}"):
            _install(base, place, token)

    return cached(target, make, progress, "odoo") / "bin/python"


def _install(base: str, place: Path, token: str) -> None:
    env = tool_environment(token)

    def failed(text: str) -> DownloadFailed:
        return DownloadFailed(
            f"what Odoo needs could not be installed with pip: {text}\n"
            "Check that pip reaches its package index, and run the command again."
        )

    run_tool([base, "-m", "venv", "--without-pip", place], failed, env=env)
    python = place / "bin/python"
    ours = subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "--version"], capture_output=True, check=False, env=env
    )
    if ours.returncode == 0:
        pip = [sys.executable, "-m", "pip", "--python", str(python)]
    else:  # an environment without pip (made by uv), or with one older than 22.3
        run_tool([python, "-m", "ensurepip"], failed, env=env)
        pip = [str(python), "-m", "pip"]
    install = [
        *pip,
        "install",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        "--no-compile",
        "-r",
        str(REQUIREMENTS),
    ]
    try:
        run_tool([*install, "--only-binary", ":all:"], failed, env=env)
    except DownloadFailed:
        run_tool(install, failed, env=env)  # a platform without wheels: needs a compiler
