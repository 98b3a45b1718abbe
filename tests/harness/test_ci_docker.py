"""What `.ci/docker` makes of a machine on which the Docker stack cannot run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipai_harness.stack import paths

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("on_ci", "code", "fate"), [("true", 1, "a failure on CI"), ("", 0, "NOTHING WAS TESTED")])
def test_it_is_loud_and_on_ci_a_failure(tmp_path: Path, on_ci: str, code: int, fate: str) -> None:
    here = ":".join([str(paths.library().parent), str(Path(paths.__file__).resolve().parents[2])])
    env = {
        **os.environ, "CI": on_ci, "DOCKER_HOST": f"unix://{tmp_path}/nothing.sock", "XDG_STATE_HOME": str(tmp_path),
        "PYTHONPATH": here,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "docker"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert "The Docker stack cannot run here" in done.stderr
    assert fate in done.stderr
    assert "does not answer" in done.stderr, "the reason is said before"
    assert "get the images  (exit code 1)" in done.stdout


def test_it_takes_down_no_stack_that_it_did_not_start(tmp_path: Path) -> None:
    here = ":".join([str(paths.library().parent), str(Path(paths.__file__).resolve().parents[2])])
    env = {
        **os.environ, "CI": "", "DOCKER_HOST": f"unix://{tmp_path}/nothing.sock", "XDG_STATE_HOME": str(tmp_path),
        "PYTHONPATH": here,
    }  # fmt: skip
    someones = tmp_path / "ipai-harness" / "stacks" / "someones.json"
    someones.parent.mkdir(parents=True)
    someones.write_text(json.dumps({
        "provider": "native", "token": "t" * 32, "run": str(tmp_path / "run"), "ready": True, "values": {}, "parts": {},
        "modules": [], "relay_mode": "off", "workers": 0, "owner": None,
    }))  # fmt: skip
    subprocess.run([sys.executable, ROOT / ".ci" / "docker"], env=env, capture_output=True, check=False)
    assert someones.exists()
