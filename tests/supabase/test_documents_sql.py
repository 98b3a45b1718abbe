"""The registry of documents in SQL: which path a content gets, when it counts as stored, what is marked gone."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import Any

import psycopg2.errors
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipai_bridge.sync.bir import filename_of
from tests.supabase.conftest import PROJECT, Sql, rows
from tests.supabase.test_syncs_sql import Run

ATTACHMENT = "ir.attachment"
FILE = "BIR 1601-C 2026-01.pdf"
MIGRATION = "20260101000300_erp_documents.sql"


def document(number: int, content: bytes = b"a", filename: str = FILE, **more: Any) -> dict[str, Any]:
    return {
        "raw": {"id": number, "name": more.pop("name", filename), "res_model": None, "res_id": None},
        "form_type": "1601-C", "year": 2026, "filename": filename, "mimetype": "application/pdf", "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(), "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        **more,
    }  # fmt: skip


class Documents:
    """Runs of the sync on one database, and a storage that has what it is given."""

    def __init__(self, sql: Sql) -> None:
        self.sql = sql

    def begin(self, instance: str = "default", **options: Any) -> Run:
        return Run(self.sql, sync="documents", instance=instance, **{"full": True, **options})

    def tell(self, *found: dict[str, Any], instance: str = "default") -> Any:
        """The answer to a page that is the whole of a run, which is then ended."""
        run = self.begin(instance)
        verdict, answer = run.page(ATTACHMENT, found)
        assert verdict == "accepted"
        run.finish(cursors={ATTACHMENT: "2026-01-01 00:00:00"})
        return answer

    def put(self, path: str, content: bytes, etag: str | None = None) -> None:
        """As the storage does it."""
        tag = etag or f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        self.sql(
            "insert into storage.objects (bucket_id, name, metadata) values ('documents', %s, %s)",
            path,
            json.dumps({"size": len(content), "eTag": tag}),
        )

    def paths(self) -> dict[str, str]:
        return dict(self.sql("select path, status from erp.document_objects"))


@pytest.fixture
def documents(sql: Sql) -> Documents:
    return Documents(sql)


PLACE = "bir/2026/1601-C/"


def test_a_document_is_wanted_until_the_storage_has_it(documents: Documents) -> None:
    run = documents.begin()
    verdict, answer = run.page(ATTACHMENT, [document(1)])
    assert (verdict, answer["inserted"]) == ("accepted", 1)
    assert answer["wanted"] == [{"id": 1, "path": PLACE + FILE}]
    assert run.ask("stored", ids=[1])[1] == {"stored": [], "missing": [1], "duplicate": False}
    assert documents.paths() == {PLACE + FILE: "wanted"}
    documents.put(PLACE + FILE, b"a")
    assert run.ask("stored", ids=[1, 2])[1] == {"stored": [1], "missing": [2], "duplicate": False}
    assert documents.paths() == {PLACE + FILE: "stored"}
    assert run.finish(cursors={})["status"] == "success"
    again = documents.tell(document(1))
    assert (again["unchanged"], again["wanted"]) == (1, [])


def test_a_run_without_all_contents_is_partial_and_its_cursor_stays(documents: Documents) -> None:
    run = documents.begin()
    run.page(ATTACHMENT, [document(1), document(2, b"b", "other.pdf")])
    documents.put(PLACE + "other.pdf", b"b")
    run.ask("stored", ids=[1, 2])
    ended = run.finish(cursors={ATTACHMENT: "2026-01-01 00:00:00"}, errors=[{"entity": ATTACHMENT, "error": "cut"}])
    assert ended["status"] == "partial"
    assert ended["errors"] == [
        {"entity": ATTACHMENT, "error": "cut"},
        {"entity": ATTACHMENT, "odoo_id": 1, "error": "its content has not arrived in the storage"},
    ]
    assert documents.sql("select count(*) from odoo.sync_cursors") == [(0,)]
    named = documents.begin()
    named.page(ATTACHMENT, [document(1), document(2, b"b", "other.pdf")])
    ended = named.finish(errors=[{"entity": ATTACHMENT, "odoo_id": 1, "error": "the storage is full"}])
    assert [error["error"] for error in ended["errors"]] == ["the storage is full"]


def test_what_arrived_before_a_crash_is_found_and_not_wanted(documents: Documents) -> None:
    run = documents.begin()
    assert run.page(ATTACHMENT, [document(1)])[1]["wanted"]
    documents.put(PLACE + FILE, b"a")  # and then the sync was killed
    following = documents.begin(take_over=True)
    assert following.page(ATTACHMENT, [document(1)])[1]["wanted"] == []
    assert following.finish(cursors={})["status"] == "success"
    assert documents.sql("select status from odoo_seed.sync_runs order by id") == [("failed",), ("success",)]


def test_the_same_content_and_name_twice_is_one_object(documents: Documents) -> None:
    answer = documents.tell(document(1), document(2))
    assert answer["wanted"] == [{"id": 1, "path": PLACE + FILE}]
    assert documents.sql("select odoo_id, path from erp.documents order by 1") == [(1, PLACE + FILE), (2, PLACE + FILE)]
    other = documents.tell(document(7), instance="other")
    assert other["wanted"] == [{"id": 7, "path": PLACE + FILE}]
    assert len(documents.paths()) == 1


def test_another_content_of_that_name_gets_a_path_of_its_own(documents: Documents) -> None:
    digest = hashlib.sha256(b"b").hexdigest()
    expected = f"{PLACE}BIR 1601-C 2026-01-{digest[:12]}.pdf"
    answer = documents.tell(document(1), document(2, b"b"))
    assert [one["path"] for one in answer["wanted"]] == [PLACE + FILE, expected]
    # Whatever comes first the next time, and whatever its case.
    assert documents.tell(document(2, b"b"), document(1))["unchanged"] == 2
    cased = documents.tell(document(1), document(2, b"b"), document(3, b"c", FILE.lower()))
    assert cased["wanted"][-1]["path"].lower() == f"{PLACE}bir 1601-c 2026-01-".lower() + (
        f"{hashlib.sha256(b'c').hexdigest()[:12]}.pdf"
    )
    # Even one that was called so on purpose.
    crafted = documents.tell(
        document(4, b"d", f"x-{digest[:12]}.pdf"), document(5, b"e", "x.pdf"), document(6, b"b", "x.pdf")
    )
    assert crafted["wanted"][-1]["path"] == f"{PLACE}x-{digest}.pdf"


def test_a_changed_content_leaves_the_old_object_where_it_is(documents: Documents) -> None:
    documents.put(PLACE + FILE, b"a")
    documents.tell(document(1))
    changed = documents.tell(document(1, b"changed"))
    assert (changed["updated"], len(changed["wanted"])) == (1, 1)
    assert changed["wanted"][0]["path"] != PLACE + FILE
    assert documents.paths()[PLACE + FILE] == "stored"
    back = documents.tell(document(1))
    assert (back["updated"], back["wanted"]) == (1, [])


def test_a_rename_moves_nothing_unless_form_or_year_change(documents: Documents) -> None:
    documents.put(PLACE + FILE, b"a")
    documents.tell(document(1))
    renamed = documents.tell(document(1, b"a", "BIR 1601-C January 2026.pdf"))
    assert (renamed["updated"], renamed["wanted"]) == (1, [])
    assert documents.sql("select name, path from erp.documents") == [("BIR 1601-C January 2026.pdf", PLACE + FILE)]
    moved = documents.tell(document(1, b"a", "BIR 2550Q 2025.pdf", form_type="2550Q", year=2025))
    assert moved["wanted"] == [{"id": 1, "path": "bir/2025/2550Q/BIR 2550Q 2025.pdf"}]


def test_what_is_deleted_is_marked_and_kept(documents: Documents) -> None:
    documents.put(PLACE + FILE, b"a")
    documents.tell(document(1), document(2, b"b", "o.pdf"))
    gone = documents.tell(document(2, b"b", "o.pdf"))
    assert gone["deleted"] == 1
    assert documents.sql("select odoo_id, gone_at is null from erp.documents order by 1") == [(1, False), (2, True)]
    assert documents.sql("select count(*) from storage.objects") == [(1,)]
    assert documents.paths()[PLACE + FILE] == "stored"
    back = documents.tell(document(1), document(2, b"b", "o.pdf"))
    assert (back["updated"], back["deleted"]) == (1, 0)
    assert documents.sql("select count(*) from erp.documents where gone_at is not null") == [(0,)]


def test_what_the_storage_lost_is_wanted_again(documents: Documents) -> None:
    documents.put(PLACE + FILE, b"a")
    documents.tell(document(1))
    documents.sql("delete from storage.objects")
    run = documents.begin(full=False)
    assert run.begun[1]["mode"] == "increment"
    answer = run.ask("ids", entity=ATTACHMENT, ids="{[1,1]}", span=[0, None])[1]
    assert answer["unknown"] == [1]
    assert run.page(ATTACHMENT, [document(1)])[1]["wanted"] == [{"id": 1, "path": PLACE + FILE}]
    assert run.finish(cursors={})["status"] == "partial"


def test_what_somebody_else_put_there_is_not_overwritten(documents: Documents) -> None:
    documents.put(PLACE + FILE, b"not ours")
    wanted = documents.tell(document(1))["wanted"]
    assert [one["path"] for one in wanted] == [f"{PLACE}BIR 1601-C 2026-01-{hashlib.sha256(b'a').hexdigest()[:12]}.pdf"]


@pytest.mark.parametrize(
    ("etag", "content", "status"),
    [
        (None, b"a", "stored"),
        ('"0cc175b9c0f1b6a831c399e269772661-2"', b"a", "stored"),  # came in parts: no hash of the whole
        ('"92eb5ffee6ae2fec3ad71c777531578f"', b"a", "wanted"),  # of the same size, but another
        (None, b"ab", "wanted"),
    ],
)
def test_an_object_counts_by_size_and_hash(documents: Documents, etag: str, content: bytes, status: str) -> None:
    documents.tell(document(1))
    documents.put(PLACE + FILE, content, etag)
    documents.tell(document(1))
    assert documents.paths() == {PLACE + FILE: status}


@pytest.mark.parametrize(
    "wrong",
    [
        {"filename": "../../x.pdf"}, {"filename": "a/b.pdf"}, {"filename": ""}, {"filename": ".hidden"},
        {"filename": "x" * 300}, {"filename": "a\nb.pdf"}, {"filename": "é.pdf"}, {"filename": "a..b"},
        {"filename": None},
        {"form_type": "../1"}, {"form_type": "1601-c"}, {"form_type": "160"}, {"year": 1999}, {"year": None},
        {"sha256": "x"}, {"md5": None}, {"size": 0}, {"size": -1}, {"mimetype": "a"}, {"mimetype": "text/html\nx: y"},
    ],
)  # fmt: skip
def test_what_is_no_document_is_refused_by_a_constraint(documents: Documents, wrong: dict[str, Any]) -> None:
    with pytest.raises((psycopg2.errors.IntegrityError, psycopg2.errors.DataError)):
        documents.begin().page(ATTACHMENT, [document(1) | wrong])
    assert documents.sql("select count(*) from erp.document_objects") == [(0,)]


def test_a_page_is_of_a_hundred_at_most_and_stored_is_for_documents_alone(documents: Documents) -> None:
    with pytest.raises(psycopg2.errors.DataError):
        documents.begin().page(ATTACHMENT, [document(number) for number in range(1, 102)])
    run = Run(documents.sql, sync="finance", full=True)
    assert run.ask("stored", ids=[1])[0] == "invalid_page"
    run = documents.begin(take_over=True)
    assert run.ask("stored", ids={"a": 1})[0] == "invalid_page"


def test_two_instances_at_once_never_share_a_path_for_two_contents(documents: Documents) -> None:
    done: list[Any] = []

    def tell(number: int) -> None:
        connection = documents.sql.connect()
        place = "select erp.place_document(2026, '1601-C', 'same.pdf', %s, %s, 1, 'application/pdf')"
        digests = hashlib.sha256(bytes([number])).hexdigest(), hashlib.md5(bytes([number])).hexdigest()  # noqa: S324
        done.append((number, rows(connection, place, *digests)[0][0]))

    threads = [threading.Thread(target=tell, args=(number % 4,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(done)) == 4
    assert len({path for _, path in done}) == 4


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text(max_size=150), st.binary(min_size=1, max_size=2)), min_size=1, max_size=8))
def test_whatever_the_names_each_content_has_its_own_path(documents: Documents, found: list[tuple[str, bytes]]) -> None:
    documents.sql("truncate erp.documents, erp.document_objects, odoo_seed.sync_runs, odoo_seed.sync_pages")
    told = [
        document(number, content, filename_of(name, "application/pdf"), name=name.replace("\0", ""))
        for number, (name, content) in enumerate(found, 1)
    ]
    told = json.loads(json.dumps(told).encode("utf-8", "replace").decode())
    if any("\\ud" in json.dumps(one) for one in told):  # a lone surrogate, which the sender replaces
        told = json.loads(json.dumps(told, ensure_ascii=False).encode("utf-8", "replace"))
    documents.tell(*told)
    kept = documents.sql(
        "select d.odoo_id, o.path, o.sha256 from erp.documents d join erp.document_objects o using (path)"
    )
    assert {number: digest for number, _, digest in kept} == {
        number: hashlib.sha256(content).hexdigest() for number, (_, content) in enumerate(found, 1)
    }
    by_path: dict[str, set[str]] = {}
    for _, path, digest in kept:
        by_path.setdefault(path.lower(), set()).add(digest)
    assert all(len(digests) == 1 for digests in by_path.values())


# -------------------------------------------------------------------------------------------------------- who may what


def claims(sql: Sql, *permissions: str) -> Any:
    connection = sql.connect("authenticated")
    said = json.dumps({"role": "authenticated", "app_metadata": {"ipai_permissions": list(permissions)}})
    rows(connection, "select set_config('request.jwt.claims', %s, false)", said)
    return connection


def test_who_may_read_documents_does_and_nobody_else(documents: Documents) -> None:
    sql = documents.sql
    sql("insert into erp.bir_forms values ('1601-C', 'Remittance of Income Taxes Withheld', 'monthly')")
    documents.put(PLACE + FILE, b"a")
    documents.tell(document(1))
    counts = (
        "select (select count(*) from erp.documents), (select count(*) from erp.document_objects), "
        "(select count(*) from erp.bir_forms), (select count(*) from storage.objects where bucket_id = 'documents')"
    )
    assert rows(claims(sql, "documents:read"), counts) == [(1, 1, 1, 1)]
    assert rows(claims(sql, "events:read", "documents"), counts) == [(0, 0, 0, 0)]
    assert rows(sql.connect("service_role"), counts) == [(1, 1, 1, 1)]
    assert rows(sql.connect("anon"), "select count(*) from storage.objects") == [(0,)]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        rows(sql.connect("anon"), "select * from erp.documents")
    reader = claims(sql, "documents:read")
    for statement in ("delete from storage.objects", "update storage.objects set name = 'x'"):
        assert rows(reader, f"{statement} where bucket_id = 'documents' returning 1") == []
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        rows(reader, "insert into storage.objects (bucket_id, name) values ('documents', 'mine')")


def test_the_bucket_is_private_and_the_migration_refuses_a_public_one(sql: Sql) -> None:
    assert sql("select public from storage.buckets where id = 'documents'") == [(False,)]
    text = (PROJECT / "migrations" / MIGRATION).read_text()
    down = (PROJECT / "migrations/down" / MIGRATION).read_text()
    # Down and up again, in one transaction that is undone.
    connection = sql.connect()
    connection.autocommit = False
    rows(connection, down)
    assert rows(connection, "select count(*) from pg_namespace where nspname = 'erp'") == [(0,)]
    assert rows(connection, "select count(*) from storage.buckets where id = 'documents'") == [(0,)]
    rows(connection, "insert into storage.buckets (id, name, public) values ('documents', 'documents', true)")
    with pytest.raises(psycopg2.errors.RaiseException, match="is public"):
        rows(connection, text)
    connection.rollback()
    rows(connection, down)
    rows(connection, "alter schema storage rename to elsewhere")
    rows(connection, text)
    assert "there is no schema storage" in "".join(connection.notices)
    rows(connection, down)
    connection.rollback()


def test_the_way_back_keeps_a_bucket_that_holds_documents(documents: Documents) -> None:
    documents.put(PLACE + FILE, b"a")
    connection = documents.sql.connect()
    connection.autocommit = False
    rows(connection, (PROJECT / "migrations/down" / MIGRATION).read_text())
    assert "the bucket documents stays" in "".join(connection.notices)
    assert rows(connection, "select count(*) from storage.objects") == [(1,)]
    connection.rollback()
