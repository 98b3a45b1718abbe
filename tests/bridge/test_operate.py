"""The commands on an outbox in a real PostgreSQL: what they print, how they end, what they never show."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.bridge.operating import UNKNOWN, Run, deliver, emit, execute, kill, own_role, refused, statuses

pytestmark = pytest.mark.stack


# --- install


def test_install_and_again(run: Run, database: str) -> None:
    assert run("install") == (0, "installed\n", "")
    assert run("install") == (0, "already there: nothing to do\n", "")
    assert statuses(database) == {}


def test_install_print_needs_no_database(run: Run, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IPAI_BRIDGE_DSN")
    done = run("install", "--print")
    assert (done.code, done.err) == (0, "")
    execute(database, done.out)
    assert statuses(database) == {}


def test_install_by_a_user_who_may_not(run: Run, database: str) -> None:
    said = refused(run("install", "--dsn", own_role(database)), "outbox_error")
    assert "permission denied" in said
    assert "owner of the database" in said


def test_a_user_who_may_read_nothing(run: Run, database: str) -> None:
    emit(database, "1")
    for command in (("list",), ("show", UNKNOWN), ("retry", "--all"), ("purge", "--older-than", "1d")):
        assert "permission denied" in refused(run("outbox", *command, "--dsn", own_role(database)), "outbox_error")


# --- outbox


def test_an_empty_outbox(run: Run) -> None:
    assert refused(run("outbox", "list"), "schema_missing")
    run("install")
    assert run("outbox", "list") == (0, "", "0 pending; 0 dead\n")
    assert run("outbox", "list", "--json").json == {
        "entries": [],
        "depth": {"pending": 0, "dead": 0, "oldest_pending_age": None},
    }
    assert run("outbox", "retry", "--all") == (0, "0 events are pending again\n", "")
    assert run("outbox", "retry", "--all", "--json").json == []
    assert run("outbox", "purge", "--older-than", "0s") == (0, "0 events purged\n", "")
    assert UNKNOWN in refused(run("outbox", "show", UNKNOWN), "event_not_found")


def test_list_is_readable_at_100_columns(run: Run, database: str) -> None:
    first, second = emit(database, "41", "42", event_type=f"account.move.{'very_' * 8}posted")
    third = emit(database, "9" * 150, instance="branch-two")[0]
    kill(database, second, why="HTTP 422: " + "the receiver's long reason \x1b[31m " * 12)
    execute(database, "update ipai_bridge.outbox set attempts = 1 where id = %s", (first,))
    done = run("outbox", "list")
    assert done.code == 0
    assert all(len(line) <= 100 for line in done.out.splitlines()), done.out
    assert [line[:36] for line in done.out.splitlines() if line[:1].strip()] == [third, second, first]
    assert "\x1b" not in done.out
    assert re.search(rf"^{second}  dead +\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ  3 attempts$", done.out, re.MULTILINE)
    assert re.search(rf"^{first}  pending .* 1 attempt$", done.out, re.MULTILINE)
    assert "on branch-two" in " ".join(done.out.split())
    assert re.search(r"next\s+\d{4}-", done.out)
    assert re.fullmatch(r"2 pending, the oldest for \d+ s; 1 dead\n", done.err)


def test_list_chooses(run: Run, database: str) -> None:
    first, second = emit(database, "1", "2")
    third = emit(database, "1", event_type="res.partner.renamed")[0]
    kill(database, second)

    def listed(*options: object) -> list[str]:
        done = run("outbox", "list", "--json", *options)
        assert done.err == ""
        return [entry["id"] for entry in done.json["entries"]]

    assert listed() == [third, second, first]
    assert listed("--status", "dead") == [second]
    assert listed("--status", "delivered") == []
    assert listed("--event-type", "res.partner.renamed") == [third]
    assert listed("--model", "res.partner", "--record", "1") == [third, first]
    assert listed("--model", "res.users") == []
    assert listed("--limit", "2") == [third, second]


def test_show(run: Run, database: str) -> None:
    (event,) = emit(database, "1")
    shown = run("outbox", "show", event, "--json").json
    assert (shown["id"], shown["status"], shown["sequence"]) == (event, "pending", None)
    assert json.loads(shown["body"])["payload"] == {"name": "Peñaranda"}
    out = run("outbox", "show", event).out
    assert re.search(r"^ +sequence  –$", out, re.MULTILINE)
    assert re.search(rf"^ +id  {event}$", out, re.MULTILINE)
    assert '"name":"Peñaranda"' in out


def test_retry(run: Run, database: str) -> None:
    first, second, third = emit(database, "1", "2", "3")
    (other,) = emit(database, "4", event_type="res.partner.renamed")
    kill(database, first, second, other)
    assert run("outbox", "retry", first) == (0, "1 event is pending again\n", "")
    assert statuses(database) == {first: "pending", second: "dead", third: "pending", other: "dead"}
    assert run("outbox", "retry", "--event-type", "res.partner.renamed", "--json").json == [other]

    done = run("outbox", "retry", "--json", second, third, UNKNOWN)
    assert (done.code, done.json) == (1, [second])
    assert re.fullmatch(r"ipai-bridge: event_not_found: [^\n]+\n", done.err)
    assert third in done.err
    assert UNKNOWN in done.err
    assert second not in done.err
    kill(database, first, second)
    assert run("outbox", "retry", "--all").out == "2 events are pending again\n"


def test_purge(run: Run, database: str) -> None:
    old, new, dead, pending = emit(database, "1", "2", "3", "4")
    deliver(database, old, ago="31 days")
    deliver(database, new, ago="29 days")
    kill(database, dead)
    execute(database, "update ipai_bridge.outbox set created_at = now() - interval '1 year'")
    assert run("outbox", "purge", "--older-than", "30d") == (0, "1 event purged\n", "")
    assert set(statuses(database)) == {new, dead, pending}
    assert run("outbox", "purge", "--older-than", "30d", "--dead", "--json").json == {"purged": 1}
    assert set(statuses(database)) == {new, pending}


@pytest.mark.parametrize(
    "argv",
    [
        ["outbox"],
        ["outbox", "list", "--status", "lost"],
        ["outbox", "list", "--limit", "0"],
        ["outbox", "list", "--limit", "-1"],
        ["outbox", "list", "--limit", "99999999999999999999"],
        ["outbox", "list", "--limit", "many"],
        ["outbox", "show"],
        ["outbox", "show", "1"],
        ["outbox", "show", "019b76da"],
        ["outbox", "retry"],
        ["outbox", "retry", "--all", UNKNOWN],
        ["outbox", "retry", "--all", "--event-type", "a.b"],
        ["outbox", "retry", "x"],
        ["outbox", "purge"],
        ["outbox", "purge", "--older-than", "30 d"],
        ["outbox", "purge", "--older-than", "-1d"],
        ["outbox", "purge", "--older-than", "1w"],
        ["outbox", "purge", "--older-than", "999999999d"],
        ["outbox", "purge", "--older-than", "1d", "--de"],
        ["relay", "--once", "--max-seconds", "0"],
        ["relay", "--once", "--max-seconds", "nan"],
        ["relay", "--log-level", "loud"],
    ],
)
def test_wrong_use(run: Run, argv: list[str]) -> None:
    done = run(*argv)
    assert (done.code, done.out) == (2, "")
    assert "usage: ipai-bridge" in done.err


def test_addons_path(run: Run) -> None:
    done = run("addons-path")
    assert (done.code, done.err) == (0, "")
    assert (Path(done.out.strip()) / "ipai_bridge" / "__manifest__.py").is_file()
