"""A Docker engine of the harness's own, for machines that have none running: started as root, gone without a trace.

Its images stay in the cache (`engine/` there), so that the next one need not make them again. All else, its socket
included, is in a directory of its own; its mounts are in a namespace of its own and end with it. Stopping it removes
every container and network, and takes back what the engine changed in the machine: packet filter and forwarding.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ipai_harness.errors import HarnessError, PartFailed, PartMissing, StackBusy
from ipai_harness.stack import engine, paths
from ipai_harness.stack.build import run_tool, tool_environment
from ipai_harness.stack.locks import try_locked
from ipai_harness.stack.process import Process, kill_marked, wait_until
from ipai_harness.stack.progress import Progress

PROGRAMS = {"dockerd": "docker.io", "containerd": "docker.io", "runc": "docker.io", "iptables": "iptables"}
EXTRA = {"debootstrap": "debootstrap"}  # for `images build`
START_TIMEOUT = 60.0  # seconds
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
POLICY = Path("/usr/sbin/policy-rc.d")
# Made by any engine, whatever it is told.
MADE = (Path("/etc/docker/key.json"), Path("/etc/docker"), Path("/run/docker/plugins"), Path("/run/docker"))
TABLES = ("filter", "nat")


def start(progress: Progress, token: str, *, install: bool = False) -> str:
    """Start it, or find it running; its address. `install` fetches what is missing with apt.

    Raises PartMissing, PartFailed, StackBusy.
    """
    with _locked():
        known = _read()
        if known is not None:
            process = Process.from_state(known["process"])
            if process.alive:
                return f"unix://{known['socket']}"
            stop_locked(progress)  # left by one that was killed
        if os.geteuid() != 0:
            raise PartMissing("an engine is started by root: run this command as root, or use an engine that runs")
        _have_programs(progress, token, install=install)
        run = paths.new_run("engine")
        before = {
            "token": token, "run": str(run), "socket": str(run / "docker.sock"), "data": str(paths.cache() / "engine"),
            "forwarding": FORWARDING.read_text().strip(), "rules": _rules(),
            "there": [str(path) for path in MADE if path.exists()],
        }  # fmt: skip
        try:
            with progress.step("engine", "starting a Docker engine"):
                _launch(before)
        except BaseException:
            stop_locked(progress)
            raise
        return f"unix://{before['socket']}"


def stop(progress: Progress) -> bool:
    """Stop it and remove what it has but its images; whether there was one. Raises PartFailed, StackBusy."""
    with _locked():
        return stop_locked(progress)


def stop_locked(progress: Progress) -> bool:
    """As `stop`, by who holds the lock."""
    known = _read()
    if known is None:
        return False
    process = Process.from_state(known["process"])
    with progress.step("engine", "stopping the Docker engine"):
        if not process.alive and Path(known["run"]).is_dir():
            # What ran in it goes on without it, and holds what the next one needs; of the networks only it knows.
            kill_marked(known["token"])
            with contextlib.suppress(PartFailed):
                process = _launch(known)
        if process.alive:
            _empty(f"unix://{known['socket']}")
            process.stop(20)
        kill_marked(known["token"])
        _take_back(known)
        paths.remove_run(Path(known["run"]))
        engine.own_file().unlink(missing_ok=True)
    return True


def status() -> dict[str, Any]:
    """Its address, process and data; {} when there is none."""
    known = _read()
    if known is None:
        return {}
    process = Process.from_state(known["process"])
    return {
        "address": f"unix://{known['socket']}", "running": process.alive, "pid": process.pid, "data": known["data"],
        "log": str(process.log),
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------ its life


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    with try_locked(engine.own_file().with_suffix(".lock")) as mine:
        if not mine:
            raise StackBusy("another command starts or stops the engine: wait for it")
        yield


def _read() -> dict[str, Any] | None:
    try:
        known: dict[str, Any] = json.loads(engine.own_file().read_text())
    except (FileNotFoundError, ValueError):
        return None
    return known


def _launch(known: dict[str, Any]) -> Process:
    run = Path(known["run"])
    configuration = run / "daemon.json"  # not the machine's
    configuration.write_text("{}\n")
    argv = [
        "unshare", "--mount", "--propagation", "private", "dockerd", "--config-file", str(configuration),
        "--data-root", known["data"], "--exec-root", str(run / "exec"), "--pidfile", str(run / "docker.pid"),
        "-H", f"unix://{known['socket']}", "--bridge", "none", "--log-level", "warn",
    ]  # fmt: skip
    (run / "docker.pid").unlink(missing_ok=True)
    process = Process("engine", argv, tool_environment(known["token"]), run, run / "engine.log")

    def note() -> None:
        file = engine.own_file()
        file.touch(mode=0o600)
        file.write_text(json.dumps({**known, "process": process.to_state()}))

    note()
    process.on_change = note
    process.start()
    address = f"unix://{known['socket']}"

    def answers() -> bool:
        try:
            engine.client(address)
        except PartMissing:
            return not process.alive
        return True

    engine.forget(address)
    if not wait_until(answers, START_TIMEOUT) or not process.alive:
        tail = process.tail(25)
        raise PartFailed(
            "engine", "dockerd did not start", log_tail=tail,
            hint="it needs the rights of a whole machine (cgroups, mounts, a packet filter): in a container, "
            "--privileged; or use an engine that runs, by DOCKER_HOST",
        )  # fmt: skip
    return process


def _empty(address: str) -> None:
    """Remove every container, volume and network."""
    import docker.errors

    with contextlib.suppress(PartMissing):
        client = engine.client(address)
        for container in client.containers.list(all=True, ignore_removed=True):
            with contextlib.suppress(docker.errors.APIError):
                container.remove(v=True, force=True)
        for volume in client.volumes.list():
            with contextlib.suppress(docker.errors.APIError):
                volume.remove(force=True)
        for network in client.networks.list():
            if network.name not in {"bridge", "host", "none"}:
                with contextlib.suppress(docker.errors.APIError):
                    network.remove()
    engine.forget(address)


# ------------------------------------------------------------------------------------------------- the machine


def _have_programs(progress: Progress, token: str, *, install: bool) -> None:
    missing = sorted({package for name, package in PROGRAMS.items() if shutil.which(name, path=_path()) is None})
    if not missing:
        return
    wanted = " ".join(sorted({*missing, *EXTRA.values()}))
    if not install:
        raise PartMissing(
            f"this machine lacks {', '.join(missing)}. Run: ipai-harness engine start --install (it runs apt-get "
            f"install {wanted})"
        )

    def failed(text: str) -> HarnessError:
        return PartMissing(f"apt-get could not install {wanted}: {text}")

    env = {**tool_environment(token), "DEBIAN_FRONTEND": "noninteractive"}
    mine = not POLICY.exists()
    if mine:  # the package starts an engine of its own otherwise
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        with progress.step("engine", f"installing {wanted}"):
            run_tool(["apt-get", "-q", "update"], failed, env=env)
            run_tool(["apt-get", "-qy", "--no-install-recommends", "install", *wanted.split()], failed, env=env)
    finally:
        if mine:
            POLICY.unlink()


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _filter(*arguments: str) -> list[str]:
    env = {**os.environ, "PATH": _path()}
    done = subprocess.run(["iptables", "-w", *arguments], capture_output=True, text=True, check=False, env=env)
    return done.stdout.splitlines() if done.returncode == 0 else []


def _rules() -> dict[str, list[str]]:
    return {table: _filter("-t", table, "-S") for table in TABLES}


def _take_back(known: dict[str, Any]) -> None:
    """Undo what the engine changed: rules and chains with its name, the policy of FORWARD, forwarding itself."""
    for table, now in _rules().items():
        before = set(known["rules"].get(table, []))
        added = [rule for rule in now if rule not in before]
        for rule in added:
            if rule.startswith("-A ") and "DOCKER" in rule:
                _filter("-t", table, "-D", *rule.split()[1:])
        for rule in added:
            if rule.startswith("-N DOCKER"):
                _filter("-t", table, "-F", rule.split()[1])
                _filter("-t", table, "-X", rule.split()[1])
        for rule in before:
            if rule.startswith("-P ") and rule not in now:
                _filter("-t", table, *rule.split())
    if FORWARDING.read_text().strip() != known["forwarding"]:
        with contextlib.suppress(OSError):
            FORWARDING.write_text(known["forwarding"])
    for path in MADE:
        if str(path) not in known["there"]:
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
