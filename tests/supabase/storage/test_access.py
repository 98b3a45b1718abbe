"""Signed URLs, and who may what: by role, by policy, by nothing."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable
from typing import Any

import httpx
from storage3.types import CreateSignedUploadUrlOptions

from tests.supabase.conftest import until
from tests.supabase.storage.conftest import PDF, PERSON, Clients, refused, token

# --------------------------------------------------------------------------------------------------------- signed URLs


def test_signed_urls(clients: Clients, bucket: str) -> None:
    objects = clients.service.from_(bucket)
    objects.upload("dir/a b.pdf", PDF, {"content-type": "application/pdf"})
    objects.upload("other.pdf", b"other")
    url = str(objects.create_signed_url("dir/a b.pdf", 60, {"download": "form.pdf"})["signedURL"])
    answer = httpx.get(url)
    assert (answer.status_code, answer.content) == (200, PDF)
    assert "form.pdf" in answer.headers["content-disposition"]
    elsewhere = url.replace("dir/a%20b.pdf", "other.pdf")
    assert elsewhere != url
    assert httpx.get(elsewhere).json()["error"] == "InvalidSignature"
    [given] = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)["token"]
    forged = given[:-5] + ("AAAAA" if given[-5:] != "AAAAA" else "BBBBB")
    assert httpx.get(url.replace(given, forged)).json()["error"] == "InvalidJWT"
    # It opens its one URL: it is no key, and no leave to write.
    assert refused(lambda: clients.of(given).from_(bucket).download("other.pdf")) == ("400", "InvalidJWT")
    assert refused(lambda: objects.upload_to_signed_url("dir/a b.pdf", given, b"x")) == ("400", "InvalidSignature")

    both = objects.create_signed_urls(["other.pdf", "missing.pdf"], 60)
    assert httpx.get(str(both[0]["signedURL"])).content == b"other"
    assert (both[1]["signedURL"], both[1]["path"]) == (None, "missing.pdf")
    assert both[1]["error"]
    assert refused(lambda: objects.create_signed_url("missing.pdf", 60)) == ("404", "not_found")
    assert refused(lambda: objects.create_signed_url("other.pdf", 0)) == ("400", "InvalidRequest")
    short = str(objects.create_signed_url("other.pdf", 1)["signedURL"])
    until(lambda: httpx.get(short).status_code == 400, "the URL expires")
    assert httpx.get(short).json()["error"] == "InvalidJWT"


def test_signed_uploads(clients: Clients, bucket: str) -> None:
    objects = clients.service.from_(bucket)
    signed = objects.create_signed_upload_url("in/a.pdf")
    stranger = clients.anon.from_(bucket)
    assert refused(lambda: stranger.upload_to_signed_url("in/b.pdf", signed["token"], b"x")) == (
        "400",
        "InvalidSignature",
    )
    done = stranger.upload_to_signed_url("in/a.pdf", signed["token"], PDF, {"content-type": "application/pdf"})
    assert done.full_path == f"{bucket}/in/a.pdf"
    assert objects.download("in/a.pdf") == PDF
    assert refused(lambda: stranger.upload_to_signed_url("in/a.pdf", signed["token"], b"again")) == ("409", "Duplicate")
    assert refused(lambda: objects.create_signed_upload_url("in/a.pdf")) == ("409", "Duplicate")
    again = objects.create_signed_upload_url("in/a.pdf", CreateSignedUploadUrlOptions(upsert="true"))
    stranger.upload_to_signed_url("in/a.pdf", again["token"], b"again")
    assert objects.download("in/a.pdf") == b"again"
    late = token(scope="upload", url=f"{bucket}/in/c.pdf", exp=int(time.time()) - 1)
    assert refused(lambda: stranger.upload_to_signed_url("in/c.pdf", late, b"x")) == ("400", "InvalidJWT")
    # The bytes as they are, which is how the sync sends them.
    raw = objects.create_signed_upload_url("in/raw.pdf")
    answer = httpx.put(raw["signed_url"], content=PDF, headers={"content-type": "application/pdf"})
    assert (answer.status_code, answer.json()["Key"]) == (200, f"{bucket}/in/raw.pdf")
    assert objects.download("in/raw.pdf") == PDF


# ------------------------------------------------------------------------------------------------------ who may what


def test_a_private_bucket_is_closed(clients: Clients, bucket: str) -> None:
    clients.service.from_(bucket).upload("a.pdf", PDF)
    for stranger in (clients.anon, clients.person()):
        objects = stranger.from_(bucket)
        assert refused(lambda o=objects: o.download("a.pdf")) == ("404", "not_found")  # type: ignore[misc]
        assert refused(lambda o=objects: o.info("a.pdf")) == ("404", "not_found")  # type: ignore[misc]
        assert refused(lambda o=objects: o.upload("b.pdf", b"x")) == ("403", "Unauthorized")  # type: ignore[misc]
        assert refused(lambda o=objects: o.create_signed_url("a.pdf", 60)) == ("404", "not_found")  # type: ignore[misc]
        assert refused(lambda o=objects: o.create_signed_upload_url("b")) == ("403", "Unauthorized")  # type: ignore[misc]
        assert refused(lambda o=objects: o.move("a.pdf", "b.pdf")) == ("404", "not_found")  # type: ignore[misc]
        assert refused(lambda o=objects: o.copy("a.pdf", "b.pdf")) == ("404", "not_found")  # type: ignore[misc]
        assert objects.list() == []
        assert objects.remove(["a.pdf"]) == []
        assert stranger.list_buckets() == []
        assert refused(lambda s=stranger: s.delete_bucket(bucket)) == ("404", "Bucket not found")  # type: ignore[misc]
    public = clients.anon.from_(bucket).get_public_url("a.pdf")
    assert (httpx.get(public).status_code, httpx.get(public).json()["error"]) == (400, "Bucket not found")
    for bearer in (None, "x", token(role="postgres"), token(role="supabase_storage_admin"), token()):
        headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
        answer = httpx.get(f"{clients.url}object/{bucket}/a.pdf", headers=headers)
        assert answer.status_code == 400
        assert sorted(answer.json()) == ["error", "message", "statusCode"]
        assert answer.json()["error"] in ("InvalidJWT", "InvalidRequest")
    assert clients.service.from_(bucket).download("a.pdf") == PDF


def test_a_public_bucket_gives_to_everybody_and_takes_from_nobody(clients: Clients, bucket: str) -> None:
    clients.service.from_(bucket).upload("a.html", b"<script>", {"content-type": "text/html"})
    clients.service.update_bucket(bucket, {"public": True})
    answer = httpx.get(clients.anon.from_(bucket).get_public_url("a.html"))
    assert (answer.status_code, answer.content) == (200, b"<script>")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert refused(lambda: clients.anon.from_(bucket).upload("b", b"x")) == ("403", "Unauthorized")
    assert httpx.get(clients.anon.from_(bucket).get_public_url("b")).json()["error"] == "not_found"


def test_policies_decide(clients: Clients, bucket: str, database: Callable[..., list[tuple[Any, ...]]]) -> None:
    own = "bucket_id = %s and (storage.foldername(name))[1] = auth.uid()::text"
    for command, clause in (("select", "using"), ("insert", "with check"), ("delete", "using"), ("update", "using")):
        database(
            f'create policy "{bucket} {command}" on storage.objects for {command} to authenticated {clause} ({own})',
            bucket,
        )
    mine, other = clients.person(), clients.person(sub="0190f3a0-0000-7000-8000-00000000000b")
    mine.from_(bucket).upload(f"{PERSON}/a.pdf", PDF)
    assert refused(lambda: mine.from_(bucket).upload("elsewhere/a.pdf", PDF)) == ("403", "Unauthorized")
    assert mine.from_(bucket).download(f"{PERSON}/a.pdf") == PDF
    mine.from_(bucket).update(f"{PERSON}/a.pdf", b"mine")
    assert refused(lambda: mine.from_(bucket).move(f"{PERSON}/a.pdf", "away.pdf")) == ("403", "Unauthorized")
    assert refused(lambda: other.from_(bucket).download(f"{PERSON}/a.pdf")) == ("404", "not_found")
    assert other.from_(bucket).remove([f"{PERSON}/a.pdf"]) == []
    signed = mine.from_(bucket).create_signed_upload_url(f"{PERSON}/b.pdf")
    clients.anon.from_(bucket).upload_to_signed_url(f"{PERSON}/b.pdf", signed["token"], b"b")
    owners = database("select name, owner_id from storage.objects where bucket_id = %s order by 1", bucket)
    assert owners == [(f"{PERSON}/a.pdf", PERSON), (f"{PERSON}/b.pdf", PERSON)]
