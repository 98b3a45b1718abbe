"""Which images a Docker stack runs on.

For each role, the first of these that there is:

- what the option or the variable names (`IPAI_HARNESS_IMAGE_ODOO`, `…_POSTGRES_16`, `…_POSTGRES_15`, `…_DENO`)
- the image that `ipai-harness images build` made on this engine
- the public one: odoo:19, postgres:16, postgres:15, denoland/deno; pulled when it is missing

From them the harness derives its own, by what they depend on: the template database and the Odoo that made it
(`image_ready`), and that Odoo with the library installed (`library`).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tarfile import TarFile, TarInfo
from tarfile import open as open_tar
from typing import Any

from ipai_harness.errors import DownloadFailed, HarnessError, PartFailed
from ipai_harness.stack import engine, wheel
from ipai_harness.stack.locks import locked
from ipai_harness.stack.paths import cache
from ipai_harness.stack.progress import Progress

OWN = "ipai-harness"
"""The repository of every image that is made here."""
KEY = f"{engine.LABEL}.key"
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
BUILD_IT = "Where no registry is reached: ipai-harness images build makes it here, from Debian's packages"


@dataclass(frozen=True)
class Role:
    """One image that a stack needs."""

    name: str
    public: str
    built: str

    @property
    def variable(self) -> str:
        """The environment variable that names another."""
        return f"IPAI_HARNESS_IMAGE_{self.name.upper().replace('-', '_')}"


ROLES = {
    role.name: role
    for role in (
        Role("odoo", "odoo:19", f"{OWN}/odoo:19"),
        Role("postgres-16", "postgres:16", f"{OWN}/postgres:16"),
        Role("postgres-15", "postgres:15", f"{OWN}/postgres:15"),
        Role("deno", "denoland/deno:latest", f"{OWN}/deno:latest"),
    )
}


def folder() -> Path:
    """The Dockerfiles: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    found = next((place for place in (package / "images", package.parent / "images") if place.is_dir()), None)
    if found is None:
        raise FileNotFoundError(f"no Dockerfiles in {package / 'images'}: reinstall ipai-bridge")
    return found


def find(client: Any, tag: str) -> Any | None:
    """The image of that name on the engine, or None."""
    import docker.errors

    try:
        return client.images.get(tag)
    except docker.errors.ImageNotFound:
        return None


def plan(client: Any, role: Role, named: Mapping[str, str]) -> tuple[str, str]:
    """The image for a role, and why it."""
    if named.get(role.name):
        return named[role.name], "named by the option"
    if os.environ.get(role.variable):
        return os.environ[role.variable], f"named by {role.variable}"
    if find(client, role.built) is not None:
        return role.built, "built here"
    return role.public, "public"


def choose(client: Any, role: Role, named: Mapping[str, str], progress: Progress) -> tuple[str, str]:
    """The image for a role, pulled when it is missing, and why it. Raises DownloadFailed."""
    name, why = plan(client, role, named)
    if find(client, name) is None:
        _pull(client, role, name, progress)
    return name, why


def _pull(client: Any, role: Role, name: str, progress: Progress) -> None:
    import docker.errors

    with progress.step(role.name, f"pulling {name}"):
        try:
            repository, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "latest")
            client.images.pull(repository, tag=tag)
        except docker.errors.APIError as error:
            raise DownloadFailed(f"the image {name} could not be pulled: {error.explanation}. {BUILD_IT}") from error


# ------------------------------------------------------------------------------------------------- making one


def digest(*parts: str | bytes) -> str:
    """A key of all that something depends on."""
    whole = hashlib.sha256()
    for part in parts:
        text = part.encode() if isinstance(part, str) else part
        whole.update(len(text).to_bytes(8, "big") + text)
    return whole.hexdigest()[:16]


@contextmanager
def making(client: Any, tag: str, key: str, progress: Progress, part: str) -> Iterator[bool]:
    """Whether the image of this name and key is to be made in the block; by one command at a time."""
    if _is_current(client, tag, key):
        yield False
        return
    with locked(cache() / f".image-{digest(engine.url(), tag)}.lock", progress, part=part):
        yield not _is_current(client, tag, key)


def _is_current(client: Any, tag: str, key: str) -> bool:
    image = find(client, tag)
    return image is not None and image.labels.get(KEY) == key


Files = Sequence[tuple[str, Path]]


def build(client: Any, tag: str, recipe: str, key: str, files: Files, arguments: Mapping[str, str]) -> None:
    """Build an image from the Dockerfile `recipe` and files, each given as its place in the context and its source.

    Raises PartFailed.
    """
    import docker.errors

    with tempfile.TemporaryFile() as context:
        with open_tar(fileobj=context, mode="w") as archive:
            archive.add(folder() / recipe / "Dockerfile", "Dockerfile")
            for place, source in files:
                add(archive, source, place)
        context.seek(0)
        proxies = {name: os.environ[name] for name in PROXIES if os.environ.get(name)}
        said: list[str] = []
        try:
            stream = client.api.build(
                fileobj=context, custom_context=True, tag=tag, rm=True, forcerm=True, decode=True,
                # The mirror is reached as this machine reaches it.
                network_mode="host", buildargs={**proxies, **arguments}, labels={KEY: key, engine.LABEL: "image"},
            )  # fmt: skip
            for chunk in stream:
                said += str(chunk.get("stream", "")).splitlines()
                if "error" in chunk:
                    raise PartFailed(
                        tag, f"the image could not be built: {chunk['error']}",
                        log_tail="\n".join(line for line in said if line.strip())[-4000:],
                        hint="see whether this machine reaches its apt mirror, and whether the engine's disk is full",
                    )  # fmt: skip
        except docker.errors.APIError as error:
            raise HarnessError(f"the image {tag} could not be built: {error.explanation}") from error


def add(archive: TarFile, source: Path, place: str) -> None:
    """Put a file or a tree into an archive: owned by root, readable by all, without what is made or translated."""

    def strip(entry: TarInfo) -> TarInfo | None:
        name = entry.name.rpartition("/")[2]
        if name == "__pycache__" or name.endswith((".po", ".pot")):
            return None
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mode |= 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    archive.add(source, place, filter=strip)


def library(client: Any, odoo: str, progress: Progress, token: str) -> str:
    """The image `odoo` with this project's own wheel installed, made when it is missing (a few seconds)."""
    image = client.images.get(odoo)
    key = digest(image.id, wheel.key(), (folder() / "library" / "Dockerfile").read_bytes())
    tag = f"{OWN}/odoo:{key}"
    with making(client, tag, key, progress, "odoo") as needed:
        if needed:
            file = wheel.get(progress, token)
            with progress.step("odoo", "installing the library in the Odoo image"):
                build(client, tag, "library", key, [(file.name, file)], {"BASE": odoo})
            _drop_former(client, tag)
    return tag


def _drop_former(client: Any, tag: str) -> None:
    """Remove the images of former states of the library, but the latest few: others may work on them."""
    import docker.errors

    tags = {name: image for image in own(client) for name in image.tags if name.startswith(f"{OWN}/odoo:")}
    former = sorted(tags.keys() - {tag, ROLES["odoo"].built}, key=lambda name: str(tags[name].attrs["Created"]))
    for name in former[: -wheel.KEPT]:
        with suppress(docker.errors.APIError):  # a container runs on it
            client.images.remove(name)


def own(client: Any) -> list[Any]:
    """Every image that the harness made on this engine."""
    return list(client.images.list(filters={"label": engine.LABEL}))


def remove(client: Any) -> list[str]:
    """Remove them, but for those that a container uses; their names."""
    import docker.errors

    gone: list[str] = []
    left = own(client)
    while left:  # the derived ones before those that they derive from
        again = []
        for image in left:
            names = image.tags or [image.short_id]
            try:
                for name in names:
                    client.images.remove(name)
                gone += names
            except docker.errors.ImageNotFound:
                gone += names
            except docker.errors.APIError:
                again.append(image)
        if len(again) == len(left):
            break
        left = again
    return gone
