"""The Edge Functions: Deno (from the Python package of that name) behind gateway.ts, in place of the platform.

What the functions import from npm is fetched beforehand into the cache, from the registry and with the certificates
that this machine is configured for (NPM_CONFIG_REGISTRY, npm's own configuration; DENO_CERT, NODE_EXTRA_CA_CERTS,
SSL_CERT_FILE). When they run, they fetch nothing.
"""

from __future__ import annotations

import configparser
import http.client
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipai_harness.errors import DownloadFailed, PartFailed, PartMissing
from ipai_harness.stack import paths
from ipai_harness.stack.build import run_tool, tool_environment
from ipai_harness.stack.process import POLL, Process, Run
from ipai_harness.stack.progress import Progress

GATEWAY = Path(__file__).with_name("gateway.ts")
START_TIMEOUT = 30.0  # seconds
PREFIX = "/functions/v1"


def find_deno() -> Path:
    """Deno's program. Raises PartMissing."""
    try:
        import deno

        return Path(deno.find_deno_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("deno")
    if found is None:
        raise PartMissing('Deno is not on this machine. Run: python3 -m pip install "ipai-bridge[harness]"')
    return Path(found)


def _npm_registry() -> str | None:
    """The npm registry that this machine is configured for; None = Deno's default."""
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        if os.environ.get(name):
            return os.environ[name]
    file = Path(os.environ.get("NPM_CONFIG_USERCONFIG") or Path.home() / ".npmrc")
    for candidate in (file, Path("/etc/npmrc"), Path("/usr/etc/npmrc")):
        parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
        try:
            parser.read_string("[npm]\n" + candidate.read_text())
        except (OSError, configparser.Error):
            continue
        if parser["npm"].get("registry"):
            return parser["npm"]["registry"].strip("\"'")
    return None


def _deno_environment(token: str) -> dict[str, str]:
    env = {
        **tool_environment(token),
        "DENO_DIR": str(paths.cache() / "deno"),
        "DENO_NO_UPDATE_CHECK": "1",
        "NO_COLOR": "1",
    }
    registry = _npm_registry()
    if registry:
        env["NPM_CONFIG_REGISTRY"] = registry
    certificates = next(
        (env[name] for name in ("DENO_CERT", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE") if env.get(name)), None
    )
    if certificates:
        env["DENO_CERT"] = certificates
    return env


def _config(project: Path) -> list[str]:
    file = project / "functions" / "deno.json"
    return ["--config", str(file)] if file.is_file() else []


def prefetch(project: Path, progress: Progress, token: str) -> None:
    """Have everything that the functions import in the cache. Raises DownloadFailed."""
    sources = sorted((project / "functions").glob("[!_]*/index.ts"))
    with progress.step("functions", "fetching what the Edge Functions import"):
        run_tool(
            [find_deno(), "cache", "--quiet", *_config(project), GATEWAY, *sources],
            lambda text: DownloadFailed(
                f"what the Edge Functions import could not be fetched: {text}\n"
                "Check that npm's registry is reached (NPM_CONFIG_REGISTRY, HTTPS_PROXY, NODE_EXTRA_CA_CERTS)."
            ),
            env=_deno_environment(token), cwd=project,
        )  # fmt: skip


def health(port: int) -> dict[str, Any]:
    """What the gateway on this port says of itself; {} when it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", f"{PREFIX}/_health")
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else {}


def argv(
    deno: str,
    configuration: Sequence[str],
    gateway: str,
    project: str,
    host: str,
    port: int,
    *,
    storage: str,
    exchanges: str | None = None,
) -> list[str]:
    """How the functions of a project are served; `configuration` names their configuration file, if there is one.

    `storage`: the directory of the storage's bytes. `exchanges`: a file in which every exchange is recorded.
    """
    written = ",".join(filter(None, (storage, exchanges)))
    return [
        deno, "run", "--quiet", "--no-prompt", "--cached-only", *configuration, "--allow-net",
        f"--allow-read={project},{storage}", f"--allow-write={written}", "--allow-env=SUPABASE_*,IPAI_BRIDGE_*,PG*",
        gateway, "--project", project, "--port", str(port), "--host", host, "--storage", storage,
        *(["--exchanges", exchanges] if exchanges else []),
    ]  # fmt: skip


def cache_environment(directory: str) -> dict[str, str]:
    """What Deno is told to find what was fetched for it in `directory`."""
    deno = {"DENO_DIR": directory, "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"}
    registry = _npm_registry()  # its address is part of the cache's layout
    return {**deno, "NPM_CONFIG_REGISTRY": registry} if registry else deno


@dataclass
class Functions(Run):
    """The functions of one Supabase project, served on one port."""

    process: Process
    port: int
    name: str = "functions"

    @classmethod
    def create(
        cls,
        project: Path,
        port: int,
        run: Path,
        env: Mapping[str, str],
        settings: Mapping[str, str],
        *,
        exchanges: Path | None = None,
    ) -> Functions:
        """Functions that are configured, not started; `settings` is their environment (SUPABASE_DB_URL …).

        `exchanges`: a file in which every exchange is recorded, as evidence. Beside the functions, on the same port, is
        the storage: its bytes go to the directory `storage` of the run.
        """
        program = argv(
            str(find_deno()), _config(project), str(GATEWAY), str(project), "127.0.0.1", port,
            storage=str(run / "storage"), exchanges=None if exchanges is None else str(exchanges),
        )  # fmt: skip
        own = cache_environment(str(paths.cache() / "deno"))
        return cls(Process("functions", program, {**env, **own, **settings}, run, run / "functions.log"), port)

    @property
    def what(self) -> str:
        """What runs there, for people."""
        return "Deno"

    @property
    def address(self) -> str:
        """Where it listens."""
        return self.url

    @property
    def url(self) -> str:
        """The base of the functions' addresses."""
        return f"http://127.0.0.1:{self.port}{PREFIX}"

    def start(self) -> None:
        """Start them and wait until all are loaded. Raises PartFailed."""
        self.process.start()
        deadline = time.monotonic() + START_TIMEOUT
        while not (health := self.health()).get("ok"):
            if not self.process.alive or time.monotonic() > deadline or "boot_errors" in health:
                log_tail = self.process.tail(25)
                self.process.kill()
                raise PartFailed(
                    self.name, f"the Edge Functions did not start (last answer: {health or 'none'})", log_tail=log_tail,
                    hint=f"read {self.process.log}; a function that cannot be loaded is named there",
                )  # fmt: skip
            time.sleep(POLL)

    def health(self) -> dict[str, Any]:
        """What the gateway says of itself; {} when it does not answer."""
        return health(self.port)

    def is_healthy(self) -> bool:
        """Whether all functions are loaded and served now."""
        return self.process.alive and bool(self.health().get("ok"))

    def to_state(self) -> dict[str, Any]:
        """What `from_state` needs. Holds secrets."""
        return {"process": self.process.to_state(), "port": self.port}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Functions:
        """The functions that `to_state` described."""
        return cls(Process.from_state(state["process"]), state["port"])
