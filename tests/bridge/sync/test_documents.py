"""What the sync of documents reads, tells, uploads and reports; Odoo, function and storage in memory."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from typing import Any

import pytest

from ipai_bridge.errors import OdooRefused, SyncError, SyncRefused, SyncUnavailable
from ipai_bridge.sync import documents
from ipai_bridge.sync.documents import CANDIDATES, sync_documents
from ipai_bridge.sync.run import Report
from ipai_bridge.sync.upload import Uploader
from tests.bridge.sync.fakes import Odoo, Receiver

MODEL = "ir.attachment"


class Attachments(Odoo):
    """An Odoo that knows which attachments are candidates."""

    def __init__(self, *found: dict[str, Any]) -> None:
        super().__init__(ir_attachment={row["id"]: row for row in found})
        self.contents = {row["id"]: row["content"] for row in found}
        self.domains: list[Any] = []
        self.read: list[int] = []

    def call(self, model: str, method: str, *args: Any, **kwargs: Any) -> Any:
        domain = [term for term in args[0] if term not in CANDIDATES]
        self.domains.append(list(args[0]))
        return super().call(model, method, domain, *args[1:], **kwargs)

    def content(self, attachment: int) -> bytes:
        self.read.append(attachment)
        return super().content(attachment)


class Function(Receiver):
    """A function that wants what its storage has not."""

    def __init__(self, storage: Storage, mode: str = "full", cursors: dict[str, str] | None = None) -> None:
        super().__init__(mode, cursors)
        self.storage = storage
        self.told: dict[int, dict[str, Any]] = {}
        self.finished: dict[str, Any] = {}

    def request(self, body: bytes, *, once: bool = False) -> dict[str, Any]:
        said = json.loads(body)
        if said["action"] == "stored":
            self.requests.append(said)
            return {
                "missing": [number for number in said["ids"] if self._path(self.told[number]) not in self.storage.has]
            }
        if said["action"] == "finish":
            self.finished = said
        answer = super().request(body, once=once)
        self.told |= {row["raw"]["id"]: row for row in said.get("rows", ())}
        answer["wanted"] = [
            {"id": row["raw"]["id"], "path": self._path(row), "url": f"signed:{self._path(row)}"}
            for row in said.get("rows", ())
            if self._path(row) not in self.storage.has
        ]
        return answer

    @staticmethod
    def _path(row: dict[str, Any]) -> str:
        return f"bir/{row['year']}/{row['form_type']}/{row['filename']}"


class Storage(Uploader):
    """A storage that keeps what it is sent, unless it has a reason not to."""

    def __init__(self) -> None:
        self.has: dict[str, bytes] = {}
        self.reasons: dict[str, Exception] = {}
        self.lost: set[str] = set()

    def put(self, path: str, signed: str, content: bytes, mimetype: str) -> None:
        assert signed == f"signed:{path}"
        assert mimetype
        if path in self.reasons:
            raise self.reasons[path]
        if path not in self.lost:
            self.has[path] = content


def attachment(number: int, name: str | None = None, content: bytes | None = None, **more: Any) -> dict[str, Any]:
    content = content if content is not None else f"content {number}".encode()
    return {
        "id": number, "name": name or f"BIR 1601-C 2026-{number:02}.pdf", "description": False, "res_model": False,
        "mimetype": "application/pdf", "file_size": len(content), "res_id": 0, "create_date": "2026-01-01 00:00:00",
        "write_date": "2026-01-01 00:00:00", "content": content, **more,
    }  # fmt: skip


def run(odoo: Odoo, storage: Storage, **more: Any) -> tuple[Report, Function]:
    function = Function(storage, more.pop("mode", "full"), more.pop("cursors", None))
    return sync_documents(odoo, function, storage, **more), function


def errors(function: Function) -> list[tuple[int | None, str]]:
    """Those of pages and of the end."""
    found = [error for said in function.requests for error in said.get("errors", ())]
    return [(error.get("odoo_id"), error["error"]) for error in found]


def test_forms_go_to_their_paths_and_the_rest_stays() -> None:
    odoo = Attachments(
        attachment(1),
        attachment(2, "2550Q_2026Q1.pdf"),
        attachment(3, "2026-01 report.pdf"),
        attachment(4, "scan.pdf", description="BIR 2307 2025-12", res_model="account.move", res_id=7),
    )
    storage = Storage()
    report, function = run(odoo, storage)
    assert storage.has == {
        "bir/2026/1601-C/BIR 1601-C 2026-01.pdf": b"content 1",
        "bir/2026/2550Q/2550Q_2026Q1.pdf": b"content 2",
        "bir/2025/2307/scan.pdf": b"content 4",
    }
    assert report.more["uploads"] == {"documents": 3, "bytes": 27}
    told = function.told[4]
    assert told["raw"] == {"id": 4, "name": "scan.pdf", "res_model": "account.move", "res_id": 7}
    assert told["sha256"] == hashlib.sha256(b"content 4").hexdigest()
    assert told["md5"] == hashlib.md5(b"content 4", usedforsecurity=False).hexdigest()
    assert function.requests[-2] == {**function.requests[-2], "action": "stored", "ids": [1, 2, 4]}
    # Kept from hashing to uploading: read once.
    assert odoo.read == [1, 2, 4]
    assert all(("res_field", "=", False) in domain for domain in odoo.domains)


def test_the_second_time_nothing_is_uploaded() -> None:
    odoo, storage = Attachments(attachment(1), attachment(2)), Storage()
    run(odoo, storage)
    report, function = run(odoo, storage)
    assert report.more["uploads"] == {"documents": 0, "bytes": 0}
    assert [said["action"] for said in function.requests] == ["begin", "page", "finish"]


def test_large_contents_are_read_again_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_KEPT", 10)
    odoo, storage = Attachments(attachment(1), attachment(2), attachment(3)), Storage()
    run(odoo, storage)
    assert odoo.read == [1, 2, 3, 2, 3]
    assert len(storage.has) == 3


def test_one_that_changes_while_it_is_read_waits_for_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_KEPT", 0)

    class Changing(Attachments):
        def content(self, attachment: int) -> bytes:
            return super().content(attachment) + str(len(self.read)).encode()

    storage = Storage()
    _, function = run(Changing(attachment(1)), storage)
    assert storage.has == {}
    [(number, said)] = errors(function)
    assert (number, "changed while it was read" in said) == (1, True)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (attachment(1, content=b"x" * 101), "larger than 100 bytes (101)"),
        (attachment(1, content=b"x" * 101) | {"file_size": 1}, "larger than 100 bytes (101)"),
        (attachment(1, content=b""), "no content"),
    ],
)
def test_a_content_that_is_not_taken_is_named_and_the_others_go_on(found: dict[str, Any], said: str) -> None:
    odoo, storage = Attachments(found, attachment(2)), Storage()
    _, function = run(odoo, storage, limit=100)
    [(number, text)] = errors(function)
    assert (number, said in text) == (1, True)
    assert list(storage.has.values()) == [b"content 2"]
    # It is in Odoo: not to be taken for deleted.
    assert function.pages(MODEL)[0]["errors"][0]["odoo_id"] == 1


def test_a_content_that_odoo_refuses_is_named() -> None:
    class Refusing(Attachments):
        def content(self, attachment: int) -> bytes:
            if attachment == 1:
                raise OdooRefused("not this content")
            return super().content(attachment)

    _, function = run(Refusing(attachment(1), attachment(2)), Storage())
    assert errors(function) == [(1, "not this content")]


def test_one_that_the_storage_refuses_is_named_and_the_others_go_on() -> None:
    storage = Storage()
    storage.reasons["bir/2026/1601-C/BIR 1601-C 2026-01.pdf"] = SyncRefused("the storage did not take it (HTTP 413)")
    storage.lost.add("bir/2026/1601-C/BIR 1601-C 2026-02.pdf")
    report, function = run(Attachments(attachment(1), attachment(2), attachment(3)), storage)
    assert report.status == "partial"
    assert [number for number, _ in errors(function)] == [1, 2]
    assert "HTTP 413" in errors(function)[0][1]
    assert "no such object" in errors(function)[1][1]
    assert list(storage.has.values()) == [b"content 3"]


def test_a_storage_that_is_down_ends_the_run_as_failed() -> None:
    storage = Storage()
    storage.reasons["bir/2026/1601-C/BIR 1601-C 2026-01.pdf"] = SyncUnavailable("down")
    odoo = Attachments(attachment(1))
    function = Function(storage)
    with pytest.raises(SyncUnavailable):
        sync_documents(odoo, function, storage)
    assert function.finished["failed"] is True
    assert function.finished["errors"] == [{"error": "down"}]


def test_another_object_in_the_way_is_an_error_of_that_document(monkeypatch: pytest.MonkeyPatch) -> None:
    class InTheWay(Function):
        def request(self, body: bytes, *, once: bool = False) -> dict[str, Any]:
            answer = super().request(body, once=once)
            for one in answer.get("wanted", ()):
                del one["url"]
                one["error"] = "another object is at this path of the bucket"
            return answer

    storage = Storage()
    function = InTheWay(storage)
    sync_documents(Attachments(attachment(1)), function, storage)
    assert errors(function) == [(1, "another object is at this path of the bucket")]


def test_pages_are_small_and_follow_one_another() -> None:
    storage = Storage()
    _, function = run(Attachments(*(attachment(number) for number in range(1, 252))), storage, page_size=5_000)
    assert [page["span"] for page in function.pages(MODEL)] == [[0, 100], [100, 200], [200, None]]
    assert len(storage.has) == 251


def test_an_increment_reads_what_was_written_and_tells_the_ids_of_all() -> None:
    odoo = Attachments(
        attachment(1),
        attachment(2, write_date="2026-02-10 00:00:00"),
        attachment(3, "no form.pdf", write_date="2026-02-10 00:00:00"),
        attachment(4),
    )
    storage = Storage()
    function = Function(storage, "increment", {MODEL: "2026-02-01 00:00:00"})
    function.known[MODEL] = {1, 2, 9}
    sync_documents(odoo, function, storage, overlap=60)
    # 2 was written; 4 is not known yet; 1 is left alone.
    assert odoo.read == [2, 4]
    assert ("write_date", ">=", "2026-01-31 23:59:00") in odoo.domains[0]
    [ids] = function.pages(MODEL, "ids")
    assert (ids["ids"], ids["span"]) == ("{[1,2],[4,4]}", [0, None])
    assert function.finished["cursors"] == {MODEL: "2026-03-01 00:00:00"}


def test_a_cursor_of_another_kind_is_refused() -> None:
    with pytest.raises(SyncError, match="--full"):
        run(Attachments(), Storage(), mode="increment", cursors={MODEL: "soon"})


def test_a_run_of_large_documents_speaks_up_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_SAID_EVERY", -1.0)
    storage = Storage()
    _, function = run(Attachments(attachment(1), attachment(2)), storage)
    assert [said["ids"] for said in function.requests if said["action"] == "stored"] == [[1], [2]]


def test_progress_and_a_mimetype_that_is_none() -> None:
    told: list[tuple[str, int]] = []
    odoo = Attachments(attachment(1, mimetype="text/html\r\nx: y"), attachment(2, mimetype=False))
    _, function = run(odoo, Storage(), progress=lambda what, count: told.append((what, count)))
    assert told == [(MODEL, 2), ("uploads", 1), ("uploads", 2)]
    assert {row["mimetype"] for row in function.told.values()} == {"application/octet-stream"}


def test_memory_is_that_of_the_largest_document_however_many_there_are() -> None:
    size, count = 2_000_000, 60

    class Many(Attachments):
        def content(self, attachment: int) -> bytes:
            return attachment.to_bytes(4, "big") * (size // 4)

    class Forgetting(Storage):
        def put(self, path: str, signed: str, content: bytes, mimetype: str) -> None:  # noqa: ARG002
            super().put(path, signed, b"", mimetype)

    odoo = Many(*(attachment(number, content=b"") | {"file_size": size} for number in range(1, count + 1)))
    tracemalloc.start()
    try:
        report, _ = run(odoo, Forgetting())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert report.more["uploads"] == {"documents": count, "bytes": size * count}
    # What is kept of a page, the one that is hashed and the one that is sent; all of them would be 120 MB.
    assert peak < documents._KEPT + 3 * size + 2_000_000
