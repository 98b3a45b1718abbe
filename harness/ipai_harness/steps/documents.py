"""Attachments of Odoo that are tax forms, and the private place where they are kept."""

from __future__ import annotations

import base64
import secrets
from contextlib import closing
from typing import Any

from pytest_bdd import given, parsers, then, when

from ipai_bridge.sync.documents import FUNCTION, sync_documents
from ipai_bridge.sync.upload import Uploader
from ipai_harness.drive.storage import download
from ipai_harness.stack.supabase import jwt
from ipai_harness.steps.syncs import source
from ipai_harness.steps.world import World

MODEL = "ir.attachment"
_OURS = (
    "select {columns} from erp.documents d join erp.document_objects o on o.path = d.path "
    "join odoo.instances i on i.id = d.instance_id where"
)


@given(parsers.parse('the attachment "{name}" with some content'))
def attach(world: World, name: str) -> None:
    """Which nobody attached before."""
    content = b"%PDF-1.7 " + secrets.token_bytes(200)
    world.notes["content"] = content
    values = {"name": name, "datas": base64.b64encode(content).decode(), "mimetype": "application/pdf"}
    attachment = world.name(name, MODEL, world.odoo.create(MODEL, values))
    world.undo.callback(_delete, world, attachment)


def _delete(world: World, attachment: int) -> None:
    if world.odoo.search(MODEL, [("id", "=", attachment)]):
        world.odoo.unlink(MODEL, [attachment])


@when(parsers.parse('the attachment "{name}" gets another content'))
def replace(world: World, name: str) -> None:
    """Under the same name."""
    world.notes["content"] = b"%PDF-1.7 " + secrets.token_bytes(300)
    content = base64.b64encode(world.notes["content"]).decode()
    world.odoo.write(MODEL, world.thing(name).id, {"datas": content})


@when(parsers.parse('the attachment "{name}" is deleted'))
def delete(world: World, name: str) -> None:
    """In Odoo."""
    _delete(world, world.thing(name).id)


@given("the documents were synced")
@when("the documents are synced")
def synced(world: World) -> None:
    """A snapshot the first time, then increments."""
    _sync(world)


@when("the documents are synced from the beginning")
def synced_from_the_beginning(world: World) -> None:
    """Every document is looked at again."""
    _sync(world, full=True)


def _sync(world: World, **options: Any) -> None:
    with closing(Uploader(world.target.functions_url, timeout=20)) as uploader:
        world.report = sync_documents(source(world), world.client(FUNCTION), uploader, **options)


@then("nothing was uploaded")
def nothing_uploaded(world: World) -> None:
    """Not one byte."""
    assert world.report is not None
    assert world.report.more["uploads"] == {"documents": 0, "bytes": 0}


def _paths(world: World) -> list[str]:
    return [path for (path,) in world.ours(_OURS.format(columns="d.path") + " o.status = 'stored' and")]


@then(parsers.parse('the storage has "{folder}" with that content'))
def stored(world: World, folder: str) -> None:
    """Read back, byte for byte."""
    paths = [path for path in _paths(world) if path.startswith(folder)]
    token = jwt(world.env["jwt_secret"], "service_role")
    contents = [download(world.target.functions_url, path, token) for path in paths]
    assert (200, world.notes["content"]) in contents, paths


@then(parsers.parse('the storage has {count:d} objects under "{folder}" of this Odoo'))
def objects(world: World, count: int, folder: str) -> None:
    """The first one was not overwritten."""
    name = next(name for name, thing in world.things.items() if thing.model == MODEL)
    stem = name.rpartition(".")[0]
    rows = world.supabase_sql(
        "select o.name from storage.objects o where o.bucket_id = 'documents' and o.name like %s "
        "and o.created_at > now() - interval '10 minutes'",
        f"{folder}%",
    )
    ours = [path for (path,) in rows if stem.replace(" ", "") in path.replace(" ", "").replace("_", "")]
    assert len(ours) >= count, rows
    assert len({path for path in _paths(world) if path.startswith(folder)}) == 1


@then("the document is marked gone")
def gone(world: World) -> None:
    """In the registry."""
    assert world.ours(_OURS.format(columns="d.gone_at is not null")) == [(True,)]


def _reads(world: World, token: str) -> int:
    [path] = _paths(world)
    return download(world.target.functions_url, path, token)[0]


@then("an anonymous visitor cannot read it")
def anonymous(world: World) -> None:
    """With the public key that every browser has."""
    assert _reads(world, world.env["anon_key"]) in (400, 403, 404)


@then(parsers.parse('somebody who is signed in without "{permission}" cannot read it'))
def without(world: World, permission: str) -> None:
    """An account is not enough, nor is any other permission."""
    others = [other for other in ("events:read", "shadow:read", "catalog:read") if other != permission]
    assert _reads(world, jwt(world.env["jwt_secret"], "authenticated", others)) in (400, 403, 404)


@then(parsers.parse('somebody who is signed in with "{permission}" can read it'))
def with_permission(world: World, permission: str) -> None:
    """The permission is in the token."""
    assert _reads(world, jwt(world.env["jwt_secret"], "authenticated", [permission])) == 200
