"""What is Docker's alone: what an engine holds of a stack, and that nothing of it is left, whatever became of it.

These run where `--provider docker` is given.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ipai_harness.errors import PartMissing
from ipai_harness.stack import docker_leftovers as leftovers
from ipai_harness.stack import engine, images, paths, provider, state, wheel
from ipai_harness.stack.docker import DockerStack
from ipai_harness.stack.process import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

UP = ("up", "--provider", "docker", "--relay", "off")


def snapshot() -> dict[str, Any]:
    """All that a stack could leave."""
    client = engine.client()
    return {
        "containers": sorted(container.name for container in client.containers.list(all=True, ignore_removed=True)),
        "networks": sorted(network.name for network in client.networks.list()),
        "volumes": sorted(volume.name for volume in client.volumes.list()),
        "interfaces": sorted(entry.name for entry in Path("/sys/class/net").iterdir()),
        "mounts": sorted(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()),
        "runs": sorted(str(run) for run in Path(tempfile.gettempdir()).glob("ipai-harness-[cdk]-*")),
    }


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """What the engine and the machine hold is the same after the test."""
    before = snapshot()
    yield
    # An interface goes when the kernel gets to it.
    assert wait_until(lambda: snapshot() == before, 10), {
        what: set(now) ^ set(before[what]) for what, now in snapshot().items() if now != before[what]
    }


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    """The caller's engine and cache, and a state directory of the test's own."""
    here = ":".join([str(paths.library().parent), str(Path(paths.__file__).resolve().parents[2])])
    return {**os.environ, "XDG_STATE_HOME": str(tmp_path), "PYTHONPATH": here, "DOCKER_HOST": engine.url()}


def start(environment: Mapping[str, str], *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command], env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def harness(environment: Mapping[str, str], *arguments: str, code: int = 0) -> str:
    with start(environment, "-m", "ipai_harness", *arguments) as child:
        out, err = child.communicate(timeout=280)
    assert child.returncode == code, err
    return out if out or code == 0 else err


def of(name: str) -> list[Any]:
    label = {"label": f"{leftovers.STACK}={name}"}
    return list(engine.client().containers.list(all=True, filters=label, ignore_removed=True))


# --- what it is made of


def test_the_library_is_installed_by_pip_and_everything_is_labelled_and_checked(nothing_left: None) -> None:
    with DockerStack("c-made") as stack:
        printed = stack.odoo.run(["python3", "-c", "import ipai_bridge; print(ipai_bridge.__file__)"])
        assert "dist-packages/ipai_bridge" in printed
        listed = stack.odoo.run(["python3", "-m", "pip", "list", "--format", "json"])
        assert "ipai-bridge" in {package["name"].replace("_", "-") for package in json.loads(listed)}
        containers = of("c-made")
        assert len(containers) == 7
        for container in containers:
            assert container.labels[leftovers.TOKEN] == stack.token
            published = container.attrs["NetworkSettings"]["Ports"] or {}
            hosts = {binding["HostIp"] for bindings in published.values() for binding in bindings or ()}
            assert hosts <= {"127.0.0.1"}
            assert container.attrs["Config"]["User"] != "root"
        checked = {"odoo_db", "odoo", "supabase_db", "functions"}
        assert wait_until(lambda: _health() == dict.fromkeys(checked, "healthy"), 60), _health()
        stack.functions.kill()
        assert "functions" in stack.unhealthy()


def _health() -> dict[str, str]:
    states = {container.name.rpartition("-")[2]: container.attrs["State"] for container in of("c-made")}
    return {name: state["Health"]["Status"] for name, state in states.items() if "Health" in state}


def test_the_commands_from_up_to_down(environment: Mapping[str, str], nothing_left: None) -> None:
    env = json.loads(harness(environment, *UP, "--name", "c-cli", "--json"))["env"]
    assert json.loads(harness(environment, "env", "--name", "c-cli", "--json")) == env
    status = json.loads(harness(environment, "status", "--name", "c-cli", "--json"))
    assert (status["provider"], status["healthy"]) == ("docker", True)
    assert {part["part"] for part in status["parts"]} == {"odoo_db", "odoo", "supabase_db", "functions", "sweep"}
    assert "/web/health" in harness(environment, "logs", "odoo", "--name", "c-cli")
    assert "is a docker one" in harness(environment, "up", "--provider", "native", "--name", "c-cli", code=1)
    harness(environment, "up", "--name", "c-cli")
    with start(environment, "-m", "ipai_harness", "logs", "-f", "--name", "c-cli") as follower:
        harness(environment, "down", "--name", "c-cli")
        out, _ = follower.communicate(timeout=30)
    assert "functions: {" in out
    assert follower.returncode == 0


# --- what is left


def test_a_failed_up_leaves_nothing(environment: Mapping[str, str], nothing_left: None) -> None:
    said = harness(environment, *UP, "--modules", "no_such_module", "--name", "c-fail", code=1)
    assert "no_such_module" in said
    assert "what to do" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_up_that_is_cut_off(environment: Mapping[str, str], nothing_left: None, number: signal.Signals) -> None:
    with start(environment, "-m", "ipai_harness", *UP, "--name", "c-cut") as child:
        assert wait_until(lambda: len(of("c-cut")) >= 3, 60)
        child.send_signal(number)
        child.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert of("c-cut"), "nobody was left to clean up"
        harness(environment, "down", "--name", "c-cut")
    else:
        assert child.returncode == 130
    assert of("c-cut") == []


def _another_up(environment: Mapping[str, str]) -> None:
    harness(environment, *UP, "--name", "c-next")
    assert len(of("c-next")) == 6
    harness(environment, "down", "--name", "c-next")


@pytest.mark.parametrize("clean", [_another_up, lambda environment: harness(environment, "down", "--all")])
@pytest.mark.parametrize("lost", [False, True], ids=["with a state file", "without"])
def test_what_a_killed_harness_left_is_removed_by_the_next(
    environment: Mapping[str, str], nothing_left: None, clean: Callable[[Mapping[str, str]], object], *, lost: bool
) -> None:
    code = (
        "import time\nfrom ipai_harness.stack.docker import DockerStack\n"
        "with DockerStack('c-lost', relay_mode='off'):\n    print('UP', flush=True)\n    time.sleep(300)\n"
    )
    with start(environment, "-c", code) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "UP\n", child.communicate()[1]
        child.kill()
        child.communicate()
    assert len(of("c-lost")) == 6, "they go on without it"
    if lost:
        file = Path(environment["XDG_STATE_HOME"]) / "ipai-harness" / "stacks" / "c-lost.json"
        run = json.loads(file.read_text())["run"]
        file.unlink()
        paths.remove_run(Path(run))
    clean(environment)
    assert of("c-lost") == []


def test_a_dead_stack_whose_engine_is_gone_too_does_not_stand_in_the_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address = engine.url()
    monkeypatch.setenv("DOCKER_HOST", address)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    dead = {
        "provider": "docker", "token": "t", "run": str(tmp_path / "nothing"), "ready": True, "values": {}, "parts": {},
        "modules": [], "relay_mode": "off", "workers": 0, "owner": [1, "another boot"],
        "engine": "unix:///nowhere.sock", "gateway": "",
    }  # fmt: skip
    state.write("c-gone", dead)
    assert leftovers.reap(engine.client()) == ["c-gone"]
    assert state.names() == []
    assert engine.url() == address


def test_another_users_stack_is_let_alone(environment: Mapping[str, str], nothing_left: None) -> None:
    with DockerStack("c-mine", relay_mode="off") as mine:
        harness(environment, "down", "--all")
        assert mine.unhealthy() == []
        assert leftovers.reap(engine.client()) == [], "it is alive"


# --- images


def test_which_image_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    client, role = engine.client(), images.ROLES["postgres-16"]
    monkeypatch.delenv(role.variable, raising=False)
    built = images.find(client, role.built) is not None
    assert images.plan(client, role, {}) == ((role.built, "built here") if built else (role.public, "public"))
    monkeypatch.setenv("IPAI_HARNESS_IMAGE_POSTGRES_16", "mine/postgres:16.4")
    assert images.plan(client, role, {}) == ("mine/postgres:16.4", "named by IPAI_HARNESS_IMAGE_POSTGRES_16")
    assert images.plan(client, role, {"postgres-16": "other:1"}) == ("other:1", "named by the option")


def test_an_image_that_cannot_be_had_is_named(environment: Mapping[str, str], nothing_left: None) -> None:
    said = harness(environment, *UP, "--image", "deno=localhost:1/nothing/deno:2", "--name", "c-pull", code=1)
    assert "localhost:1/nothing/deno:2 could not be pulled" in said
    assert "ipai-harness images build" in said
    said = harness(environment, *UP, "--image", "nonsense=x", code=1)
    assert "roles: odoo, postgres-16, postgres-15, deno" in said


def test_the_image_with_the_library_is_made_once_for_each_state_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from ipai_harness.stack.progress import quiet

    client = engine.client()
    odoo = next(
        tag for image in images.own(client) for tag in image.tags if tag.startswith(f"{images.OWN}/odoo-ready:")
    )
    first = images.library(client, odoo, quiet(), "t")
    created = client.images.get(first).attrs["Created"]
    assert images.library(client, odoo, quiet(), "t") == first
    assert client.images.get(first).attrs["Created"] == created
    file = wheel.get(quiet(), "t")
    monkeypatch.setattr(wheel, "key", lambda: "another state")
    monkeypatch.setattr(wheel, "get", lambda *_: file)
    second = images.library(client, odoo, quiet(), "t")
    assert second != first
    client.images.remove(second)


# --- the engine


def test_without_an_engine_it_is_said_what_to_do() -> None:
    with pytest.raises(PartMissing, match=r"does not answer.*ipai-harness engine start"):
        engine.client("unix:///nowhere.sock")


def test_auto_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    kind, why = provider.choose("auto")
    assert kind == "native"
    assert "PostgreSQL 16" in why
    monkeypatch.setattr(provider, "_native_lacks", lambda: "no Deno")
    assert provider.choose("auto") == ("docker", "a native stack does not run here: no Deno")
