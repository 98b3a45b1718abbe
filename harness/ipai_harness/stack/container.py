"""A part of a stack that is one container, made from an image and from files that are put into it before it starts.

Its environment is fixed when a container is made: one whose environment was changed is made anew at the next start, and
what the former one printed is kept. All containers of a stack share one network namespace, that of the stack's `Net`.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ipai_harness.errors import PartFailed
from ipai_harness.stack import engine
from ipai_harness.stack.process import wait_until

HOME = "/var/lib/ipai"
"""In a container: what the harness puts there."""
SHARED_MEMORY = "256m"  # the engine's 64 MB are too few for PostgreSQL's parallel workers
NANO = 1_000_000_000


@dataclass
class Recipe:
    """What a container is made from."""

    image: str
    argv: list[str]
    env: dict[str, str]
    labels: dict[str, str]
    network: str  # as docker run --network
    title: str  # the container's name
    user: str = ""
    stop_signal: str = "SIGTERM"
    health: list[str] = field(default_factory=list)  # the engine's own check, as `docker ps` shows it
    ports: list[int] = field(default_factory=list)  # published on 127.0.0.1 under the same number


@dataclass
class Container:
    """One container. Healthy while it runs; what listens knows more."""

    name: str
    what: str
    recipe: Recipe
    log: Path
    archive: str | None = None  # a tar on this machine, unpacked at / before the first start
    files: dict[str, str] = field(default_factory=dict)  # files of this machine that it gets in its HOME, by name
    id: str | None = None
    made_with: dict[str, str] = field(default_factory=dict)
    address: str | None = None
    grace = 10.0  # seconds between asking it to end and killing it
    on_change: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)

    # ------------------------------------------------------------------------------------------------ its life

    def start(self) -> None:
        """Start it. Raises PartFailed."""
        if self.alive:
            return
        if self.id is not None and (self.made_with != self.recipe.env or not self._inspect()):
            self.remove()
        with self._failing("could not be started"):
            if self.id is None:
                self._make()
            self.prepare()
            engine.client().api.start(self.id)

    def prepare(self) -> None:
        """Called before each start."""

    def _make(self) -> None:
        api, recipe = engine.client().api, self.recipe
        mounts: dict[str, Any] = {"network_mode": recipe.network, "shm_size": SHARED_MEMORY}
        if recipe.ports:
            mounts["port_bindings"] = {port: ("127.0.0.1", port) for port in recipe.ports}
        health = None
        if recipe.health:
            health = {"test": recipe.health, "interval": 10 * NANO, "timeout": 10 * NANO, "start_period": 60 * NANO}
        made = api.create_container(
            recipe.image, recipe.argv[1:], entrypoint=recipe.argv[:1], environment=recipe.env, labels=recipe.labels,
            name=recipe.title, user=recipe.user or None, stop_signal=recipe.stop_signal, healthcheck=health,
            ports=list(recipe.ports), host_config=api.create_host_config(**mounts),
        )  # fmt: skip
        self.id, self.made_with = made["Id"], dict(recipe.env)
        self.on_change()
        if self.archive is not None:
            with Path(self.archive).open("rb") as stream:
                api.put_archive(self.id, "/", stream)
        if self.files:
            self.put({name: Path(source).read_bytes() for name, source in self.files.items()})

    def stop(self, grace: float | None = None) -> None:
        """Ask it to end and wait for it; kill it after `grace` seconds."""
        if self.id is not None and self.alive:
            with self._failing("could not be stopped"):
                engine.client().api.stop(self.id, timeout=int(self.grace if grace is None else grace))

    def kill(self) -> None:
        """Kill it, and all that runs in it, with SIGKILL."""
        self.signal("SIGKILL")
        wait_until(lambda: not self.alive, 10)

    def signal(self, name: str) -> None:
        """Send a signal to its first process; nothing happens when it does not run."""
        import docker.errors

        if self.id is not None:
            with contextlib.suppress(docker.errors.APIError):  # it has ended meanwhile
                engine.client().api.kill(self.id, signal=name)

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Remove it, with its volumes; what it printed is kept."""
        import docker.errors

        if self.id is None:
            return
        printed = self._printed()
        with self.log.open("ab") as file:
            file.write(printed)
        with contextlib.suppress(docker.errors.NotFound), self._failing("could not be removed"):
            engine.client().api.remove_container(self.id, v=True, force=True)
        self.id = None
        self.on_change()

    # ------------------------------------------------------------------------------------------- what is known of it

    def _inspect(self) -> dict[str, Any]:
        import docker.errors

        if self.id is None:
            return {}
        try:
            found: dict[str, Any] = engine.client().api.inspect_container(self.id)
        except docker.errors.NotFound:
            return {}
        return found

    @property
    def alive(self) -> bool:
        """Whether it runs now."""
        return bool(self._inspect().get("State", {}).get("Running"))

    @property
    def pid(self) -> int | None:
        """Its first process, as the engine's machine counts; None while it does not run."""
        return self._inspect().get("State", {}).get("Pid") or None

    def is_healthy(self) -> bool:
        """Whether it runs."""
        return self.alive

    def check(self) -> None:
        """Raises PartFailed when it has ended."""
        if not self.alive:
            raise self.failed("it ended")

    def failed(self, reason: str) -> PartFailed:
        """The error that says so, with the end of its log."""
        tail = "\n".join(self.log_text().splitlines()[-25:])
        return PartFailed(self.name, reason, log_tail=tail, hint=f"read the whole log: {self.log}")

    @contextlib.contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        import docker.errors

        try:
            yield
        except docker.errors.NotFound:
            raise
        except docker.errors.APIError as error:
            hint = "see whether the engine is well: ipai-harness status"
            raise PartFailed(self.name, f"the container {what}: {error.explanation}", hint=hint) from error

    def _printed(self) -> bytes:
        import docker.errors

        if self.id is None:
            return b""
        try:
            return bytes(engine.client().api.logs(self.id))
        except docker.errors.APIError:
            return b""

    def log_text(self) -> str:
        """All that it has printed, over all its starts."""
        return self.read_log()[0]

    def read_log(self, position: int = 0) -> tuple[str, int]:
        """What it has printed since a position that this gave before, and the new position."""
        former = self.log.read_bytes() if self.log.exists() else b""
        everything = former + self._printed()
        return everything[position:].decode("utf-8", "replace"), len(everything)

    # ------------------------------------------------------------------------------------------------- changing it

    @property
    def environment(self) -> dict[str, str]:
        """Its environment variables: a copy. Holds secrets."""
        return dict(self.recipe.env)

    def change_environment(self, changes: Mapping[str, str | None]) -> None:
        """From its next start on, with these variables; None takes one away."""
        changed = {**self.recipe.env, **changes}
        self.recipe.env = {name: value for name, value in changed.items() if value is not None}
        self.on_change()

    @contextlib.contextmanager
    def twin(self, name: str) -> Iterator[Container]:
        """One more of it, under another name, for as long as the block runs. For parts that do not listen."""
        recipe = Recipe(**{**asdict(self.recipe), "title": f"{self.recipe.title}-{name}"})
        twin = Container(name, "one more of it", recipe, self.log.with_name(f"{name}.log"), self.archive, self.files)
        try:
            twin.start()
            yield twin
            twin.stop()
        finally:
            twin.remove()

    def run(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, user: str = "") -> str:
        """Run a program in the running container; what it printed on standard output. Raises PartFailed."""
        api = engine.client().api
        with self._failing(f"could not run {argv[0]}"):
            made = api.exec_create(self.id, list(argv), environment=dict(env or {}), user=user)["Id"]
            out, err = api.exec_start(made, demux=True)
            code = api.exec_inspect(made)["ExitCode"]
        if code:
            raise PartFailed(self.name, f"{argv[0]} failed", log_tail=(err or b"").decode("utf-8", "replace")[-4000:])
        return (out or b"").decode("utf-8", "replace")

    def put(self, files: Mapping[str, bytes]) -> None:
        """Put files into its HOME, readable by its user only."""
        with self._failing("takes no files"):
            engine.client().api.put_archive(self.id, "/", pack(files, self.owner()))

    def owner(self) -> tuple[int, int]:
        """The uid and gid of its user."""
        return owner(str(self.id), self.recipe.user)

    # ------------------------------------------------------------------------------------------------- the state

    def to_state(self) -> dict[str, Any]:
        """What `from_state` needs. Holds secrets."""
        state = {name: value for name, value in vars(self).items() if name != "on_change"}
        return {**state, "recipe": asdict(self.recipe), "log": str(self.log)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Any:
        """The part that `to_state` described."""
        return cls(**{**state, "recipe": Recipe(**state["recipe"]), "log": Path(state["log"])})


def pack(files: Mapping[str, bytes], ids: tuple[int, int]) -> bytes:
    """A tar of files below HOME that only this uid and gid may read."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        place = tarfile.TarInfo(HOME.lstrip("/"))
        place.type, place.mode, (place.uid, place.gid) = tarfile.DIRTYPE, 0o700, ids
        tar.addfile(place)
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{HOME}/{name}".lstrip("/"))
            entry.size, entry.mode, (entry.uid, entry.gid) = len(content), 0o600, ids
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def owner(container: str, user: str) -> tuple[int, int]:
    """The uid and gid of a user of a container, which need not run."""
    stream, _ = engine.client().api.get_archive(container, "/etc/passwd")
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        passwd = tar.extractfile("passwd")
        lines = passwd.read().decode().splitlines() if passwd is not None else []
    for line in lines:
        name, _, uid, gid, *_ = line.split(":")
        if name == user:
            return int(uid), int(gid)
    raise PartFailed(container, f"the image has no user {user}", hint="use an image like the public one")
