"""Which tables and columns stand for what: a file's reading, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipai_harness.errors import SchemaMapInvalid
from ipai_harness.schema_map import STATUSES, SchemaMap


def read(path: Path, text: str) -> SchemaMap:
    file = path / "map.toml"
    file.write_text(text)
    return SchemaMap.read(file)


def test_ours_is_what_an_empty_file_says(tmp_path: Path) -> None:
    ours = SchemaMap.ours()
    assert read(tmp_path, "") == ours
    assert ours.table("events") == '"odoo"."webhook_events"'
    assert ours.column("events", "key") == '"idempotency_key"'
    assert [ours.status(status) for status in STATUSES] == list(STATUSES)


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        shadow_tasks = false
        [events]
        table = "integration.outbox"
        key = "Event$Id"
        aggregate_type = "model"
        error = false
        [events.status_values]
        pending = ["new", "queued"]
        completed = ["done", 1]
        """,
    )
    assert found.table("events") == '"integration"."outbox"'
    assert found.column("events", "key") == '"Event$Id"'
    assert found.column("events", "aggregate_id") == '"aggregate_id"'
    assert [found.status(value) for value in ("queued", 1, "failed", "odd")] == [
        "pending",
        "completed",
        "failed",
        "odd",
    ]
    assert not found.has("events", "error")
    assert not found.has("shadow_tasks")
    assert found.has("shadow_projects", "name")
    with pytest.raises(SchemaMapInvalid, match=r"events\.error is not there in this project"):
        found.column("events", "error")
    with pytest.raises(SchemaMapInvalid, match="shadow_tasks is not there in this project"):
        found.table("shadow_tasks")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[event]", r"event is not known: did you mean events\?"),
        ("[zzz]", r"zzz is not known: the names are events, instances"),
        ('[events]\nkeys = "x"', r"events\.keys is not known: did you mean events\.key\?"),
        ("events = false", r"events must be a section, \[events\]"),
        ("log = 1", r"log must be a section, \[log\], or false"),
        ("[events]\nkey = false", r"events\.key must be a name in quotes"),
        ("[events]\nkey = 1", r"events\.key must be a name in quotes"),
        ('[events]\ntable = "outbox"', r"events\.table must be schema and table"),
        ('[events]\ntable = "a.b.c"', r"events\.table must be schema and table"),
        ("[events]\nkey = 'x\"; drop table y; --'", r"events\.key must be of letters"),
        ('[events]\ntable = "a.b c"', r"events\.table must be of letters"),
        ('[events]\nkey = "1x"', r"events\.key must be of letters"),
        (f'[events]\nkey = "{"x" * 64}"', r"events\.key must be of letters"),
        ('[events.status_values]\ndone = ["x"]', r"events\.status_values\.done is not known"),
        ('[events.status_values]\nfailed = "x"', r'must be a list, such as \["failed"\]'),
        ('[events.status_values]\nfailed = ["x"]\ncompleted = ["x"]', "'x' stands for completed and for failed"),
        ("[events", r"map\.toml is not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SchemaMapInvalid, match=said):
        read(tmp_path, text)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SchemaMapInvalid, match="cannot be read: No such file"):
        SchemaMap.read(tmp_path / "none.toml")
    (tmp_path / "latin").write_bytes(b'[events]\nkey = "\xe9"')
    with pytest.raises(SchemaMapInvalid, match="is not TOML"):
        SchemaMap.read(tmp_path / "latin")
