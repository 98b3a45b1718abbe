"""Buckets and objects: made, listed, moved, changed, removed; limits and faults."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest
from storage3 import AsyncStorageClient
from storage3.exceptions import StorageApiError

from ipai_harness.stack.supabase import jwt
from tests.supabase.conftest import JWT_SECRET, PROJECT, Edge, Server, until
from tests.supabase.storage.conftest import PDF, Clients, files, refused

# ------------------------------------------------------------------------------------------------------------ buckets


def test_a_bucket_from_its_making_to_its_end(clients: Clients) -> None:
    service, name = clients.service, f"life-{uuid.uuid4().hex[:8]}"
    options: Any = {"public": False, "file_size_limit": 1000, "allowed_mime_types": ["image/*", "application/pdf"]}
    assert service.create_bucket(name, options=options) == {"name": name}
    found = service.get_bucket(name)
    assert (found.id, found.public, found.file_size_limit) == (name, False, 1000)
    assert found.allowed_mime_types == ["image/*", "application/pdf"]
    assert name in [one.id for one in service.list_buckets()]
    assert refused(lambda: service.create_bucket(name)) == ("409", "Duplicate")
    assert service.update_bucket(name, {"public": True, "file_size_limit": 20}) == {"message": "Successfully updated"}
    found = service.get_bucket(name)
    assert (found.public, found.file_size_limit) == (True, 20)
    assert found.allowed_mime_types == ["image/*", "application/pdf"]

    service.from_(name).upload("a.pdf", b"a", {"content-type": "application/pdf"})
    assert refused(lambda: service.delete_bucket(name)) == ("409", "ResourceNotEmpty")
    assert service.empty_bucket(name) == {"message": "Successfully emptied"}
    assert service.delete_bucket(name) == {"message": "Successfully deleted"}
    assert refused(lambda: service.get_bucket(name)) == ("404", "Bucket not found")
    for call in (service.delete_bucket, service.empty_bucket, lambda one: service.update_bucket(one, {"public": True})):
        assert refused(lambda call=call: call(name)) == ("404", "Bucket not found")  # type: ignore[misc]
    assert refused(lambda: service.create_bucket("a/b")) == ("400", "Invalid Input")


def test_limits_of_a_bucket(clients: Clients, directory: Path) -> None:
    service, name = clients.service, f"limits-{uuid.uuid4().hex[:8]}"
    service.create_bucket(name, options={"file_size_limit": 1000, "allowed_mime_types": ["image/*", "text/plain"]})
    objects, before = service.from_(name), files(directory)
    assert refused(lambda: objects.upload("x", b"x" * 1001)) == ("413", "Payload too large")
    assert refused(lambda: objects.upload("x", b"x", {"content-type": "application/pdf"})) == (
        "415",
        "invalid_mime_type",
    )
    assert files(directory) == before
    objects.upload("x", b"x" * 1000)
    objects.upload("y.png", b"y", {"content-type": "image/png"})
    # As it comes, without a form and without saying how long.
    answer = httpx.post(
        f"{clients.url}object/{name}/z",
        content=iter([b"z" * 600, b"z" * 600]),
        headers={"authorization": f"Bearer {jwt(JWT_SECRET, 'service_role')}", "content-type": "text/plain"},
    )
    assert (answer.status_code, answer.json()["statusCode"]) == (400, "413")
    assert [one["name"] for one in objects.list()] == ["x", "y.png"]


# ------------------------------------------------------------------------------------------------------------ objects


def test_an_object_from_its_upload_to_its_end(clients: Clients, bucket: str, directory: Path) -> None:
    objects = clients.service.from_(bucket)
    before = files(directory)
    done = objects.upload(
        "tax/2026/a b (1).pdf", PDF, {"content-type": "application/pdf", "metadata": {"form": "1601-C"}}
    )
    assert (done.path, done.full_path) == ("tax/2026/a b (1).pdf", f"{bucket}/tax/2026/a b (1).pdf")
    assert objects.download("tax/2026/a b (1).pdf") == PDF
    info = objects.info("tax/2026/a b (1).pdf")
    assert (info["size"], info["content_type"], info["cache_control"]) == (len(PDF), "application/pdf", "max-age=3600")
    assert info["etag"] == f'"{hashlib.md5(PDF, usedforsecurity=False).hexdigest()}"'
    assert info["metadata"] == {"form": "1601-C"}
    assert objects.exists("tax/2026/a b (1).pdf")
    assert not objects.exists("tax/2026/b.pdf")

    assert refused(lambda: objects.upload("tax/2026/a b (1).pdf", b"other")) == ("409", "Duplicate")
    objects.upload("tax/2026/a b (1).pdf", b"second", {"upsert": "true"})
    assert objects.download("tax/2026/a b (1).pdf") == b"second"
    objects.update("tax/2026/a b (1).pdf", b"", {"cache-control": "60"})
    assert objects.download("tax/2026/a b (1).pdf") == b""
    assert objects.info("tax/2026/a b (1).pdf")["cache_control"] == "max-age=60"
    assert len(files(directory) - before) == 1  # what was replaced is gone from the disk, too

    objects.copy("tax/2026/a b (1).pdf", "copy.pdf")
    objects.update("copy.pdf", b"of its own")
    assert objects.download("tax/2026/a b (1).pdf") == b""
    assert objects.move("copy.pdf", "moved/copy.pdf")["message"] == "Successfully moved"
    assert objects.download("moved/copy.pdf") == b"of its own"
    assert not objects.exists("copy.pdf")
    assert refused(lambda: objects.move("copy.pdf", "x")) == ("404", "not_found")
    assert refused(lambda: objects.copy("moved/copy.pdf", "tax/2026/a b (1).pdf")) == ("409", "Duplicate")

    gone = objects.remove(["moved/copy.pdf", "tax/2026/a b (1).pdf", "never"])
    assert sorted(one["name"] for one in gone) == ["moved/copy.pdf", "tax/2026/a b (1).pdf"]
    assert refused(lambda: objects.download("moved/copy.pdf")) == ("404", "not_found")
    assert files(directory) == before


def test_files_go_in_as_they_are(clients: Clients, bucket: str, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(3_000_000))
    objects = clients.service.from_(bucket)
    objects.upload("large.bin", path)
    assert objects.download("large.bin") == path.read_bytes()
    raw = httpx.post(
        f"{clients.url}object/{bucket}/raw.pdf",
        content=PDF,
        headers={
            "authorization": f"Bearer {jwt(JWT_SECRET, 'service_role')}",
            "content-type": "application/pdf",
            "cache-control": "no-store",
            "x-metadata": base64.b64encode(b'{"a":1}').decode(),
        },
    )
    assert raw.json()["Key"] == f"{bucket}/raw.pdf"
    assert uuid.UUID(raw.json()["Id"])
    info = objects.info("raw.pdf")
    assert (info["size"], info["cache_control"], info["metadata"]) == (len(PDF), "no-store", {"a": 1})


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        ("bytes=0-9", 206, 0, 10),
        ("bytes=100-", 206, 100, len(PDF)),
        ("bytes=-5", 206, len(PDF) - 5, len(PDF)),
        ("bytes=0-99999999", 206, 0, len(PDF)),
        ("bytes=0-1,5-6", 200, 0, len(PDF)),
        ("lines=1-2", 200, 0, len(PDF)),
    ],
)
def test_parts_of_it(clients: Clients, bucket: str, asked: str, status: int, start: int, end: int) -> None:
    clients.service.from_(bucket).upload("a.pdf", PDF)
    headers = {"authorization": f"Bearer {jwt(JWT_SECRET, 'service_role')}"}
    url = f"{clients.url}object/{bucket}/a.pdf"
    answer = httpx.get(url, headers={**headers, "range": asked})
    assert (answer.status_code, answer.content) == (status, PDF[start:end])
    if status == 206:
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(PDF)}"
    beyond = httpx.get(url, headers={**headers, "range": f"bytes={len(PDF)}-"})
    assert (beyond.status_code, beyond.json()["error"]) == (400, "invalid_range")
    head = httpx.head(url, headers=headers)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(PDF)), b"")
    assert httpx.get(url, headers={**headers, "if-none-match": head.headers["etag"]}).status_code == 304


def test_lists(clients: Clients, bucket: str) -> None:
    objects = clients.service.from_(bucket)
    for name in ("b.txt", "a.txt", "C.txt", "dir/one.txt", "dir/two.txt", "dir/deep/three.txt", "di%rt", "100_x"):
        if "%" not in name:
            objects.upload(name, b"x")
    names = [one["name"] for one in objects.list()]
    assert sorted(names) == ["100_x", "C.txt", "a.txt", "b.txt", "dir"]
    assert [one["id"] is None for one in objects.list() if one["name"] == "dir"] == [True]
    inside = objects.list("dir")
    assert [(one["name"], one["metadata"] and one["metadata"]["size"]) for one in inside] == [
        ("deep", None),
        ("one.txt", 1),
        ("two.txt", 1),
    ]
    assert [one["name"] for one in objects.list("dir/", {"search": "T"})] == ["two.txt"]
    assert [one["name"] for one in objects.list("", {"search": "100%"})] == []
    assert [one["name"] for one in objects.list("dir", {"limit": 1, "offset": 1})] == ["one.txt"]
    down = objects.list("dir", {"sortBy": {"column": "name", "order": "desc"}})
    assert [one["name"] for one in down] == ["two.txt", "one.txt", "deep"]
    by_time = objects.list("dir", {"sortBy": {"column": "created_at", "order": "asc"}})
    assert [one["name"] for one in by_time] == ["deep", "one.txt", "two.txt"]
    assert objects.list("nowhere") == []
    assert refused(lambda: objects.list("", {"sortBy": {"column": "id; drop table x"}})) == ("400", "InvalidRequest")


# --------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    "path",
    ["a%2f..%2f..%2fb", "a//b", "%00", "a%0ab", "%c3%a9", "%ff", "a%5cb", "x" * 1025, "a/./b%3c", "%2e%2e%2fb%7e"],
)
def test_hostile_names_are_no_objects(clients: Clients, bucket: str, directory: Path, path: str) -> None:
    before = files(directory)
    headers = {"authorization": f"Bearer {jwt(JWT_SECRET, 'service_role')}"}
    answer = httpx.post(f"{clients.url}object/{bucket}/{path}", content=b"x", headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "InvalidKey")
    assert files(directory) == before


def test_what_is_not_there_is_said_as_the_platform_says_it(clients: Clients, gateway: Edge) -> None:
    service = clients.service.from_("no-such-bucket")
    assert refused(lambda: service.upload("a", b"x")) == ("404", "Bucket not found")
    assert refused(lambda: service.list()) == ("404", "Bucket not found")
    answer = httpx.post(f"{clients.url}nonsense/x")
    assert (answer.status_code, answer.json()) == (
        400,
        {"statusCode": "404", "error": "not_found", "message": "Route not found"},
    )
    assert not any(jwt(JWT_SECRET, "service_role") in line or "token=" in line for line in gateway.lines)


def test_an_upload_that_is_cut_off_leaves_nothing(clients: Clients, bucket: str, directory: Path) -> None:
    before = files(directory)

    def cut() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise RuntimeError("cut off")

    headers = {"authorization": f"Bearer {jwt(JWT_SECRET, 'service_role')}"}
    with pytest.raises(RuntimeError):
        httpx.post(f"{clients.url}object/{bucket}/cut.pdf", content=cut(), headers=headers)
    until(lambda: files(directory) == before, "the half of it is removed")
    assert not clients.service.from_(bucket).exists("cut.pdf")


def test_bytes_outlive_the_gateway_and_half_written_ones_do_not(server: Server, tmp_path: Path) -> None:
    environment = {"SUPABASE_DB_URL": server.url(), "SUPABASE_JWT_SECRET": JWT_SECRET}
    bucket = f"b-{uuid.uuid4().hex[:8]}"
    for turn in range(2):
        serving = Edge(PROJECT, environment, storage=tmp_path / "storage")
        clients = Clients(serving.port)
        try:
            if turn == 0:
                clients.service.create_bucket(bucket)
                clients.service.from_(bucket).upload("a.pdf", PDF)
                (tmp_path / "storage" / f"{uuid.uuid4()}.part").write_bytes(b"half")
            assert clients.service.from_(bucket).download("a.pdf") == PDF
        finally:
            for client in clients.opened:
                client.session.close()
            serving.stop()
    assert len(files(tmp_path / "storage")) == 1


def test_a_database_that_is_down_is_a_fault_of_the_service(tmp_path: Path) -> None:
    environment = {"SUPABASE_DB_URL": "postgresql://x@127.0.0.1:1/x", "SUPABASE_JWT_SECRET": JWT_SECRET}
    serving = Edge(PROJECT, environment, storage=tmp_path / "storage")
    clients = Clients(serving.port)
    try:
        with pytest.raises(StorageApiError) as caught:
            clients.service.list_buckets()
        assert str(caught.value.status) in ("500", "503")
    finally:
        for client in clients.opened:
            client.session.close()
        serving.stop()


def test_without_a_storage_there_is_none(edge: Edge, server: Server) -> None:
    serving = Edge(PROJECT, {"SUPABASE_DB_URL": server.url(), "SUPABASE_JWT_SECRET": JWT_SECRET})
    try:
        assert httpx.get(f"http://127.0.0.1:{serving.port}/storage/v1/bucket").status_code == 404
    finally:
        serving.stop()


def test_metadata_stand_as_on_the_platform(
    clients: Clients, bucket: str, database: Callable[..., list[tuple[Any, ...]]]
) -> None:
    clients.service.from_(bucket).upload("a/b.pdf", PDF, {"content-type": "application/pdf"})
    [(tokens, metadata, owner, extension)] = database(
        "select path_tokens, metadata, owner_id, storage.extension(name) from storage.objects where bucket_id = %s",
        bucket,
    )
    assert (tokens, owner, extension) == (["a", "b.pdf"], None, "pdf")
    assert {**metadata, "lastModified": ""} == {
        "eTag": f'"{hashlib.md5(PDF, usedforsecurity=False).hexdigest()}"',
        "size": len(PDF),
        "mimetype": "application/pdf",
        "cacheControl": "max-age=3600",
        "lastModified": "",
        "contentLength": len(PDF),
        "httpStatusCode": 200,
    }
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        database("delete from storage.buckets where id = %s", bucket)


def test_the_asynchronous_client(clients: Clients, bucket: str) -> None:
    key = jwt(JWT_SECRET, "service_role")

    async def life() -> None:
        async with AsyncStorageClient(clients.url, {"apiKey": key, "Authorization": f"Bearer {key}"}) as client:
            objects = client.from_(bucket)
            await asyncio.gather(*(objects.upload(f"many/{number}.pdf", PDF) for number in range(8)))
            assert len(await objects.list("many")) == 8
            assert await objects.download("many/3.pdf") == PDF
            signed = await objects.create_signed_upload_url("many/8.pdf")
            await objects.upload_to_signed_url("many/8.pdf", signed["token"], b"8")
            await objects.move("many/8.pdf", "one/8.pdf")
            await objects.copy("one/8.pdf", "one/9.pdf")
            assert await objects.exists("one/9.pdf")
            assert not await objects.exists("many/8.pdf")
            url = await objects.create_signed_url("one/9.pdf", 60)
            assert httpx.get(str(url["signedURL"])).content == b"8"
            # One name, many writers: one of them has it.
            results = await asyncio.gather(
                *(objects.upload("same.pdf", bytes([number])) for number in range(6)), return_exceptions=True
            )
            lost = [one for one in results if isinstance(one, StorageApiError)]
            assert [one.code for one in lost] == ["Duplicate"] * 5
            await client.empty_bucket(bucket)
            await client.delete_bucket(bucket)
            assert bucket not in [one.id for one in await client.list_buckets()]

    asyncio.run(life())
