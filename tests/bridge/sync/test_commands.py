"""`ipai-bridge sync`: what it prints, how it ends, what it says meanwhile."""

from __future__ import annotations

import io
import json
from typing import Any
from uuid import UUID

import pytest

from ipai_bridge import cli
from ipai_bridge.sync import catalog, documents, finance, modules, source
from ipai_bridge.sync.commands import Telling
from ipai_bridge.sync.run import Report
from ipai_bridge.sync.upload import Uploader

RUN = UUID("019b76da-a87b-7000-8000-00000000abcd")


@pytest.fixture
def settled(environment: None, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Everything is set, and no Odoo is asked; how it would have been."""
    logins: list[Any] = []
    monkeypatch.setenv("IPAI_BRIDGE_URL", "http://127.0.0.1:1/functions/v1")
    for name in ("odoo_url", "odoo_db", "odoo_login", "odoo_password"):
        monkeypatch.setenv(f"IPAI_BRIDGE_{name.upper()}", "http://localhost:1" if name == "odoo_url" else f"the-{name}")
    monkeypatch.setattr(source, "RpcSource", lambda *login: logins.append(login))
    return logins


def ended(monkeypatch: pytest.MonkeyPatch, status: str = "success", **more: Any) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = []

    def sync(_source: object, _client: object, **options: Any) -> Report:
        asked.append(options)
        return Report(RUN, status, "full", 1, 2, 3, 4, 5, len(more.get("errors", ())), **more)

    monkeypatch.setattr(finance, "sync_finance", sync)
    monkeypatch.setattr(modules, "sync_modules", sync)
    monkeypatch.setattr(catalog, "sync_catalog", sync)

    def sync_documents(source: object, client: object, uploader: Uploader, **options: Any) -> Report:
        report = sync(source, client, **options, uploader=uploader)
        report.more["uploads"] = {"documents": 2, "bytes": 30}
        return report

    monkeypatch.setattr(documents, "sync_documents", sync_documents)
    return asked


@pytest.mark.parametrize(
    ("name", "status", "more", "code", "said"),
    [
        ("finance", "success", {}, 0, ""),
        ("modules", "success", {}, 0, ""),
        ("catalog", "success", {}, 0, ""),
        (
            "finance",
            "partial",
            {"errors": [{"entity": "project.task", "odoo_id": 7, "error": "no"}]},
            3,
            "project.task,7: no",
        ),
        ("finance", "failed", {"errors": [{"error": "cut\x1b[2J off"}]}, 1, "error: cut [2J off"),
        ("modules", "success", {"warnings": [{"module": "web_studio"}]}, 4, "web_studio is installed under"),
    ],
)
def test_how_it_ends(
    settled: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    name: str, status: str, more: dict[str, Any], code: int, said: str,
) -> None:  # fmt: skip
    ended(monkeypatch, status, **more)
    assert cli.main(["sync", name]) == code
    out, err = capsys.readouterr()
    assert out == f"{status} (full): 2 new, 3 changed, 4 as they were, 5 gone\n"
    assert said in err
    assert bool(err) is bool(said)
    assert cli.main(["sync", name, "--json"]) == code
    assert json.loads(capsys.readouterr().out)["run"] == str(RUN)


def test_the_arguments_arrive(settled: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ended(monkeypatch)
    cli.main(["sync", "finance", "--full", "--take-over", "--page-size", "7", "--overlap", "60", "--odoo-db", "other"])
    assert {**asked[0], "progress": None} == {
        "full": True, "take_over": True, "page_size": 7, "overlap": 60.0, "progress": None,
    }  # fmt: skip
    assert settled == [("http://localhost:1", "other", "the-odoo_login", "the-odoo_password")]
    cli.main(["sync", "modules", "--edition", "enterprise"])
    assert asked[1]["edition"] == "enterprise"
    cli.main(["sync", "catalog"])
    assert {**asked[2], "progress": None} == {"take_over": False, "page_size": 100, "progress": None}


def test_what_else_was_done_is_said(
    settled: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended(monkeypatch, more={"lineage": {"edges_added": 2, "edges_removed": 1}})
    assert cli.main(["sync", "catalog"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "lineage: 2 edges added, 1 edges removed"


def test_documents(settled: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ended(monkeypatch)
    assert cli.main(["sync", "documents"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "uploads: 2 documents, 30 bytes"
    assert asked[0].pop("uploader").base == "http://127.0.0.1:1/storage/v1"
    assert {**asked[0], "progress": None} == {
        "full": False, "take_over": False, "page_size": 50, "overlap": 900.0, "limit": 52_428_800, "progress": None,
    }  # fmt: skip
    assert cli.main(["sync", "documents", "--json", "--full", "--max-size", "2", "--overlap", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["more"] == {"uploads": {"documents": 2, "bytes": 30}}
    assert (asked[1]["full"], asked[1]["limit"], asked[1]["overlap"]) == (True, 2_097_152, 0.0)


@pytest.mark.parametrize("name", ["odoo_url", "odoo_db", "odoo_login", "odoo_password"])
def test_what_is_not_set_is_named(
    settled: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.delenv(f"IPAI_BRIDGE_{name.upper()}")
    assert cli.main(["sync", "finance"]) == 1
    assert f"settings_error: {name} is not set: give IPAI_BRIDGE_{name.upper()}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["finance", "--page-size", "0"], ["finance", "--overlap", "-1"], ["documents", "--max-size", "0"]],
)
def test_a_wrong_use(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["sync", *arguments])


def test_progress_after_two_seconds_and_then_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    said = io.StringIO()
    monkeypatch.setattr("sys.stderr", said)
    telling = Telling(lambda: now[0])
    for tenth in range(45):
        now[0] = tenth / 10
        telling("project.task", tenth * 1000)
    telling.end()
    assert said.getvalue() == "".join(f"project.task: {number:,} records\n" for number in (20_000, 30_000, 40_000))
