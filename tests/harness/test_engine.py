"""The harness's own Docker engine: started and stopped for real, killed, and nothing of it left in the machine.

Where an engine runs already, this one would share the packet filter with it: these run by themselves, first.
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ipai_harness.errors import PartMissing
from ipai_harness.stack import engine, engine_daemon
from ipai_harness.stack.process import wait_until
from ipai_harness.stack.progress import quiet

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]


def machine() -> dict[str, Any]:
    """All that an engine changes in a machine."""
    rules = {table: sorted(rules) for table, rules in engine_daemon._rules().items()}
    return {
        "rules": rules,
        "forwarding": engine_daemon.FORWARDING.read_text(),
        "interfaces": sorted(entry.name for entry in Path("/sys/class/net").iterdir()),
        "mounts": sorted(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()),
        "files": [str(path) for path in (*engine_daemon.MADE, engine_daemon.POLICY) if path.exists()],
        "programs": sorted(filter(None, map(_program, psutil.process_iter()))),
        "runs": sorted(str(run) for run in Path("/tmp").glob("ipai-harness-engine-*")),
    }


def _program(process: psutil.Process) -> str | None:
    try:
        said = " ".join(process.cmdline())
        running = process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return said if running and re.search(r"dockerd|containerd|docker-proxy|runc|sleep 4321", said) else None


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A state directory, and a data directory, of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    before = machine()
    yield
    engine_daemon.stop(quiet())
    assert wait_until(lambda: machine() == before, 10), {
        what: (before[what], now) for what, now in machine().items() if now != before[what]
    }


def run_something(address: str) -> Any:
    """A container with a published port on a network, from an image of this machine's own `sleep`."""
    client = engine.client(address)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for file in ("/bin/sleep", *_libraries("/bin/sleep")):
            tar.add(os.path.realpath(file), file)
    client.api.import_image_from_data(content.getvalue(), "sleeper", "1")
    client.networks.create("some-network")
    return client.containers.run(
        "sleeper:1", ["/bin/sleep", "4321"], detach=True, network="some-network", ports={"80/tcp": ("127.0.0.1", None)}
    )


def _libraries(program: str) -> list[str]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"(/\S+)", listed)


def test_started_used_and_stopped() -> None:
    address = engine_daemon.start(quiet(), "t")
    assert engine_daemon.start(quiet(), "t") == address, "it is found running"
    assert engine.url() == address
    assert engine_daemon.status()["running"]
    assert run_something(address).status in ("created", "running")
    assert any("sleep 4321" in program for program in machine()["programs"])
    assert engine_daemon.stop(quiet())
    assert not engine_daemon.stop(quiet())
    assert engine_daemon.status() == {}
    with pytest.raises(PartMissing):
        engine.url()


def test_killed_with_a_container_running() -> None:
    address = engine_daemon.start(quiet(), "t")
    run_something(address)
    os.kill(engine_daemon.status()["pid"], signal.SIGKILL)
    assert wait_until(lambda: not engine_daemon.status()["running"], 10)
    assert any("sleep 4321" in program for program in machine()["programs"]), "it goes on without the engine"
    assert engine_daemon.stop(quiet())


def test_its_images_outlive_it() -> None:
    run_something(engine_daemon.start(quiet(), "t"))
    engine_daemon.stop(quiet())
    address = engine_daemon.start(quiet(), "t")
    assert [image.tags for image in engine.client(address).images.list()] == [["sleeper:1"]]
    assert engine.client(address).containers.list(all=True) == []


def test_one_that_cannot_start_says_why_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ipai_harness.errors import PartFailed

    (tmp_path / "cache" / "ipai-harness").mkdir(parents=True)
    (tmp_path / "cache" / "ipai-harness" / "engine").write_text("a file where the data directory should be")
    with pytest.raises(PartFailed, match="dockerd did not start") as caught:
        engine_daemon.start(quiet(), "t")
    assert "points to a file" in caught.value.log_tail
    assert engine_daemon.status() == {}


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_daemon, "PROGRAMS", {"no-such-dockerd": "docker.io"})
    with pytest.raises(PartMissing, match="ipai-harness engine start --install"):
        engine_daemon.start(quiet(), "t")
