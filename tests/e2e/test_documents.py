"""Documents on the real parts: attachments of a real Odoo, the function, the storage, read by the official client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from storage3.exceptions import StorageApiError

from ipai_bridge.sync.upload import Uploader
from tests.e2e.filing import Documents, content, person
from tests.e2e.scene import Scene

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def documents(scene: Scene) -> Iterator[Documents]:
    with closing(Documents(scene)) as made:
        yield made


def test_every_kind_of_change(documents: Documents) -> None:
    one = documents.attach(documents.named("one"), content("one"))
    two = documents.attach(f"2550Q_2026Q1 {documents.mark}.pdf", content("two"))
    scan = documents.attach(f"scan {documents.mark}.pdf", content("scan"), description="BIR Form 2307, 2025-12")
    documents.attach(f"2026-01 report {documents.mark}.pdf", content("no form"))
    before = documents.puts
    first = documents.sync()
    assert (first.mode, first.inserted, first.more["uploads"]["documents"]) == ("full", 3, 3)
    assert documents.puts == before + 3
    assert [row[:3] for row in documents.ours()] == [
        (one, f"bir/2026/1601-C/{documents.named('one')}", "stored"),
        (two, f"bir/2026/2550Q/2550Q_2026Q1 {documents.mark}.pdf", "stored"),
        (scan, f"bir/2025/2307/scan {documents.mark}.pdf", "stored"),
    ]
    documents.assert_equal()

    # Nothing is uploaded twice: neither by an increment, nor by a whole run.
    again = documents.sync()
    assert (again.mode, again.inserted, again.updated, again.deleted) == ("increment", 0, 0, 0)
    assert documents.sync(full=True).unchanged == 3
    assert documents.puts == before + 3

    # Another content: under a path of its own, and the old one stays.
    documents.rewrite(one, content("one, corrected"))
    assert documents.sync().updated == 1
    assert documents.puts == before + 4
    assert documents.storage().from_("documents").download(f"bir/2026/1601-C/{documents.named('one')}") == content(
        "one"
    )
    documents.assert_equal()

    # Another name: the same object. Another form: there.
    documents.odoo.write("ir.attachment", two, {"name": f"2550Q_2026Q1 {documents.mark} final.pdf"})
    assert documents.sync().updated == 1
    assert documents.puts == before + 4
    documents.odoo.write("ir.attachment", two, {"name": f"2551Q_2026Q1 {documents.mark}.pdf"})
    documents.sync()
    assert documents.puts == before + 5
    documents.assert_equal()

    # Deleted, and no form any more: gone from Odoo, not from the storage.
    documents.odoo.unlink("ir.attachment", [one])
    documents.odoo.write("ir.attachment", scan, {"description": "nothing"})
    assert documents.sync().deleted == 2
    assert [(row[0], row[3]) for row in documents.ours()] == [(one, True), (two, False), (scan, True)]
    documents.assert_equal()
    documents.odoo.write("ir.attachment", scan, {"description": "BIR Form 2307, 2025-12"})
    documents.sync()
    assert [row[3] for row in documents.ours()] == [True, False, False]
    assert documents.puts == before + 5


def test_one_content_twice_and_two_contents_of_one_name(documents: Documents) -> None:
    name = documents.named("same")
    numbers = [documents.attach(name, content(text)) for text in ("a", "a", "b")]
    numbers.append(documents.attach(name.upper().replace(".PDF", ".pdf"), content("c")))
    before = documents.puts
    documents.sync(page_size=50)
    assert documents.puts == before + 3
    paths = [row[1] for row in documents.ours()]
    assert paths[0] == paths[1] == f"bir/2026/1601-C/{name}"
    assert len({path.lower() for path in paths}) == 3
    documents.assert_equal()
    assert documents.sync(full=True, page_size=50).unchanged == 4
    assert documents.puts == before + 3


def test_killed_between_the_upload_and_its_confirmation(documents: Documents, environment: dict[str, str]) -> None:
    documents.attach(documents.named("one"), content("one"))
    documents.attach(documents.named("two"), content("two"))
    before = documents.puts
    killed = run_until(environment, "stored")
    assert killed.returncode == -signal.SIGKILL
    assert documents.puts == before + 2
    assert [row[2] for row in documents.ours()] == ["wanted", "wanted"]
    assert documents.sync(take_over=True).unchanged == 2
    assert documents.puts == before + 2  # found in the storage
    documents.assert_equal()


def test_killed_between_the_begin_and_the_first_upload(documents: Documents, environment: dict[str, str]) -> None:
    documents.attach(documents.named("one"), content("one"))
    documents.attach(documents.named("two"), content("two"))
    before = documents.puts
    assert run_until(environment, "put").returncode == -signal.SIGKILL
    assert documents.puts == before
    assert [row[2] for row in documents.ours()] == ["wanted", "wanted"]
    documents.sync(take_over=True)
    assert documents.puts == before + 2
    documents.assert_equal()
    runs = documents.scene.supabase_sql(
        "select r.status, r.mode from odoo_seed.sync_runs r join odoo.instances i on i.id = r.instance_id "
        "where i.name = %s order by r.id",
        documents.instance,
    )
    assert runs == [("failed", "full"), ("success", "full")]


KILLING = """
import os, signal, sys
from ipai_bridge import cli
from ipai_bridge.sync import run, upload
def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)
{"put": lambda: setattr(upload.Uploader, "put", die), "stored": lambda: setattr(run.Run, "stored", die)}[sys.argv[1]]()
cli.main(["sync", "documents"])
"""


def run_until(environment: dict[str, str], moment: str) -> subprocess.CompletedProcess[str]:
    """The command, which is killed when it comes to that."""
    return subprocess.run(
        [sys.executable, "-c", KILLING, moment],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_gateway_that_dies_within_an_upload(documents: Documents) -> None:
    number = documents.attach(documents.named("one"), content("one"))
    functions = documents.scene.stack.functions

    class Dying(Uploader):
        def put(self, path: str, signed: str, content: bytes, mimetype: str) -> None:
            functions.kill()
            functions.start()
            super().put(path, signed, content, mimetype)

    documents.sync(uploader=Dying(documents.env["functions_url"], timeout=10))
    assert [(row[0], row[2]) for row in documents.ours()] == [(number, "stored")]
    documents.assert_equal()


def test_what_the_storage_lost_is_uploaded_again(documents: Documents) -> None:
    documents.attach(documents.named("one"), content("one"))
    documents.sync()
    [(_, path, _, _)] = documents.ours()
    documents.storage().from_("documents").remove([path])
    before = documents.puts
    assert documents.sync(overlap=0).mode == "increment"
    assert documents.puts == before + 1
    documents.assert_equal()


def test_it_is_private(documents: Documents) -> None:
    documents.attach(documents.named("one"), content("one"))
    documents.sync()
    [(_, path, _, _)] = documents.ours()
    for stranger in (documents.env["anon_key"], person(documents, "events:read")):
        objects = documents.storage(stranger).from_("documents")
        with pytest.raises(StorageApiError, match="Object not found"):
            objects.download(path)
        with pytest.raises(StorageApiError, match="Object not found"):
            objects.create_signed_url(path, 60)
        with pytest.raises(StorageApiError, match="row-level security"):
            objects.upload(f"{path}.x", b"x")
        assert objects.list("bir") == []
        assert objects.remove([path]) == []
    public = documents.storage().from_("documents").get_public_url(path)
    assert httpx.get(public).status_code in (400, 404)
    assert httpx.get(public.replace("/public/", "/")).status_code in (400, 404)

    reader = documents.storage(person(documents, "documents:read")).from_("documents")
    assert reader.download(path) == content("one")
    assert path.rpartition("/")[2] in [one["name"] for one in reader.list("bir/2026/1601-C", {"limit": 1000})]
    assert httpx.get(str(reader.create_signed_url(path, 60)["signedURL"])).content == content("one")
    with pytest.raises(StorageApiError, match="row-level security"):
        reader.upload(f"{path}.x", b"x")
    assert reader.remove([path]) == []


HOSTILE = [
    "BIR 1601-C 2026/../../../etc/passwd",
    "BIR 1601-C 2026 ..\\..\\windows.ini",
    "BIR 1601-C 2026 \u202efdp.exe",
    "BIR 1601-C 2026 a\r\nx-injected: 1.pdf",
    "BIR 1601-C 2026 %2e%2e%2f%00.pdf",
    "BIR 1601-C 2026 é.pdf",
    "BIR 1601-C 2026 e\u0301.pdf",
    "BIR 1601-C 2026 ☃ 税.pdf",
    "BIR 1601-C 2026 " + "x" * 2_000 + ".pdf",
    "BIR 1601-C 2026 ?token=x&y=z#w.pdf",
    "BIR 1601-C 2026 '; drop table erp.documents; --.pdf",
    "BIR 1601-C 2026 <script>.html",
    "BIR 1601-C 2026 CON",
]


def test_hostile_names(documents: Documents) -> None:
    for number, name in enumerate(HOSTILE):
        documents.attach(name, content(f"{documents.mark} {number}"))
    before = documents.puts
    documents.sync()
    assert documents.puts == before + len(HOSTILE)
    documents.assert_equal()
    assert documents.sync(full=True).unchanged == len(HOSTILE)
    assert documents.puts == before + len(HOSTILE)
    assert all(uuid.UUID(path.name) for path in (documents.scene.stack.run / "storage").iterdir())


def test_one_over_the_limit_makes_a_run_partial(documents: Documents, environment: dict[str, str]) -> None:
    large = documents.attach(documents.named("large"), b"%PDF" + os.urandom(1_100_000))
    small = documents.attach(documents.named("small"), content("small"))
    done = command(environment, "--json", "--max-size", "1")
    report = json.loads(done.stdout)
    assert (done.returncode, report["status"], report["error_count"]) == (3, "partial", 1)
    assert f"ir.attachment,{large}: larger than 1,048,576 bytes (1,100,004)" in done.stderr
    assert [(row[0], row[2]) for row in documents.ours()] == [(small, "stored")]
    done = command(environment)
    assert done.returncode == 0
    assert done.stdout.splitlines()[1] == "uploads: 1 documents, 1100004 bytes"
    documents.assert_equal()


def test_a_bucket_that_takes_less(documents: Documents, environment: dict[str, str]) -> None:
    documents.attach(documents.named("one"), content("one"))
    documents.storage().update_bucket("documents", {"file_size_limit": 100, "public": False})
    try:
        done = command(environment)
        assert done.returncode == 3
        assert "the storage did not take it (HTTP 413: The object exceeded the maximum allowed size)" in done.stderr
    finally:
        documents.scene.supabase_sql("update storage.buckets set file_size_limit = null where id = 'documents'")
    assert command(environment).returncode == 0
    documents.assert_equal()


def test_a_file_that_is_missing_from_the_filestore_is_named(documents: Documents) -> None:
    number = documents.attach(documents.named("lost"), content(f"lost {documents.mark}"))
    fine = documents.attach(documents.named("fine"), content(f"fine {documents.mark}"))
    documents.scene.odoo_sql("update ir_attachment set store_fname = 'ff/' || repeat('f', 40) where id = %s", number)
    report = documents.sync("partial")
    assert [(error["odoo_id"], "no content" in error["error"]) for error in report.errors] == [(number, True)]
    assert [(row[0], row[2]) for row in documents.ours()] == [(fine, "stored")]
    documents.odoo.unlink("ir.attachment", [number])


INSIDE = """
import json
from ipai_bridge.secret import Secret
from ipai_bridge.sync.client import FunctionClient
from ipai_bridge.sync.documents import FUNCTION, sync_documents
from ipai_bridge.sync.source import EnvSource
from ipai_bridge.sync.upload import Uploader
client = FunctionClient({url!r}, FUNCTION, Secret({secret!r}), instance={instance!r}, timeout=10)
reports = [sync_documents(EnvSource(env), client, Uploader({url!r}, timeout=10), page_size=2) for _ in range(2)]
print("REPORTS", json.dumps([[report.status, report.mode, report.more["uploads"]["documents"]] for report in reports]))
"""


def test_the_same_from_inside_odoo(documents: Documents) -> None:
    for number in range(5):
        documents.attach(documents.named(str(number)), content(f"{documents.mark} {number}"))
    env = documents.env
    script = INSIDE.format(url=env["functions_url"], secret=env["secret"], instance=documents.instance)
    done = documents.scene.stack.odoo.shell(script)
    said = [line for line in done.splitlines() if "REPORTS" in line]
    assert said, done[-2000:]
    assert json.loads(said[0].partition("REPORTS ")[2]) == [["success", "full", 5], ["success", "increment", 0]]
    documents.assert_equal()


@pytest.fixture
def environment(documents: Documents) -> dict[str, str]:
    env = documents.env
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IPAI_BRIDGE_")}
    return kept | {
        "IPAI_BRIDGE_URL": env["functions_url"],
        "IPAI_BRIDGE_SECRET": env["secret"],
        "IPAI_BRIDGE_INSTANCE": documents.instance,
        **{f"IPAI_BRIDGE_{name.upper()}": env[name] for name in ("odoo_url", "odoo_db", "odoo_login", "odoo_password")},
    }


def command(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ipai_bridge", "sync", "documents", *arguments],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_nothing_secret_is_said(documents: Documents, environment: dict[str, str]) -> None:
    documents.attach(documents.named("one"), content("one"))
    done = command(environment)
    assert (done.returncode, done.stderr) == (0, "")
    logs = "".join(documents.scene.logs().values())
    for name in ("service_role_key", "jwt_secret", "secret", "odoo_password"):
        assert documents.env[name] not in done.stdout + logs
    assert "token=" not in documents.scene.stack.functions.log_text()
    # Odoo holds no key of the platform.
    assert documents.env["service_role_key"] not in " ".join(documents.scene.stack.odoo.environment.values())
    assert documents.env["service_role_key"] not in documents.scene.stack.odoo.config.read_text()


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["create", "rewrite", "rename", "retype", "unlink", "describe"]),
        st.integers(0, 9),
        st.sampled_from(["a", "b", "c"]),
    ),
    min_size=1,
    max_size=8,
)


@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(acts=ACTS, full=st.booleans())
def test_whatever_is_done_in_odoo_the_storage_equals_it(documents: Documents, acts: list[Any], full: bool) -> None:
    found = documents.odoo.search("ir.attachment", [("name", "ilike", documents.mark)], order="id")
    for act, which, text in acts:
        if act == "create" or not found:
            found.append(documents.attach(documents.named(text), content(f"{documents.mark} {text} {which % 2}")))
            continue
        number = found[which % len(found)]
        if act == "rewrite":
            documents.rewrite(number, content(f"{documents.mark} {text}"))
        elif act == "rename":
            documents.odoo.write("ir.attachment", number, {"name": documents.named(f"{text} renamed")})
        elif act == "retype":
            documents.odoo.write("ir.attachment", number, {"name": f"2550Q 2025 {documents.mark} {text}.pdf"})
        elif act == "describe":
            documents.odoo.write("ir.attachment", number, {"description": f"BIR 2307 202{which % 5}"})
        else:
            documents.odoo.unlink("ir.attachment", [number])
            found.remove(number)
    documents.sync(full=full)
    documents.assert_equal()
    before = documents.puts
    documents.sync()
    assert documents.puts == before
