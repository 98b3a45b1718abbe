"""BIR forms that are attached in a real Odoo, what syncs them, and how the storage is looked into."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from contextlib import closing
from typing import Any

from storage3 import SyncStorageClient

from ipai_bridge.secret import Secret
from ipai_bridge.sync.bir import form_of
from ipai_bridge.sync.client import FunctionClient
from ipai_bridge.sync.documents import CANDIDATES, FUNCTION, sync_documents
from ipai_bridge.sync.run import Report
from ipai_bridge.sync.source import RpcSource
from ipai_bridge.sync.upload import Uploader
from tests.e2e.scene import Scene

PUT = '"method":"PUT","path":"/storage/v1/object/upload/sign/documents/'


def content(text: str) -> bytes:
    """Something like a PDF, of that text."""
    return b"%PDF-1.7\n" + text.encode() + bytes(range(256)) * 20


class Documents:
    """The documents of the stack's Odoo, as one instance of its own; what other tests left is removed first."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.odoo, self.env = scene, scene.odoo, scene.env
        self.instance = f"docs-{uuid.uuid4().hex[:8]}"
        self.mark = self.instance[-8:]
        leftover = self.odoo.search("ir.attachment", list(CANDIDATES))
        self.odoo.unlink("ir.attachment", leftover)
        self.clients: list[SyncStorageClient] = []

    # --- acts

    def attach(self, name: str, data: bytes, **more: Any) -> int:
        return self.odoo.create("ir.attachment", {"name": name, "datas": base64.b64encode(data).decode(), **more})

    def rewrite(self, attachment: int, data: bytes) -> None:
        self.odoo.write("ir.attachment", attachment, {"datas": base64.b64encode(data).decode()})

    def named(self, words: str) -> str:
        """A filename that no other test has."""
        return f"BIR 1601-C 2026-01 {self.mark} {words}.pdf"

    def source(self) -> RpcSource:
        return RpcSource(*(self.env[name] for name in ("odoo_url", "odoo_db", "odoo_login", "odoo_password")))

    def sync(self, status: str = "success", uploader: Uploader | None = None, **options: Any) -> Report:
        function = FunctionClient(
            self.env["functions_url"], FUNCTION, Secret(self.env["secret"]), instance=self.instance, timeout=10
        )
        uploader = uploader or Uploader(self.env["functions_url"], timeout=10)
        with closing(function), closing(uploader):
            report = sync_documents(self.source(), function, uploader, **{"page_size": 3, **options})
        assert report.status == status, report
        return report

    # --- outcomes

    @property
    def puts(self) -> int:
        """How often anything was uploaded by a signed URL, as the gateway's log says."""
        return self.scene.stack.functions.log_text().count(PUT)

    def storage(self, bearer: str | None = None) -> SyncStorageClient:
        key = bearer or self.env["service_role_key"]
        client = SyncStorageClient(self.env["storage_url"] + "/", {"Authorization": f"Bearer {key}"})
        self.clients.append(client)
        return client

    def ours(self, columns: str = "d.odoo_id, d.path, o.status, d.gone_at is not null") -> list[tuple[Any, ...]]:
        return self.scene.supabase_sql(
            f"select {columns} from erp.documents d join erp.document_objects o using (path) "
            "join odoo.instances i on i.id = d.instance_id where i.name = %s order by d.odoo_id",
            self.instance,
        )

    def assert_equal(self) -> None:
        """Every BIR form in Odoo, byte by byte, is what the storage gives back; and no other is registered as there."""
        rows = self.scene.odoo_sql(
            "select id, name, description, to_char(create_date, 'YYYY-MM-DD') from ir_attachment "
            "where type = 'binary' and res_field is null order by id"
        )
        forms = {row[0]: form for row in rows if (form := form_of(*row[1:]))}
        registered = self.ours("d.odoo_id, d.form_type, d.year, d.path, o.status, o.sha256, d.gone_at")
        assert {row[0]: (row[1], row[2]) for row in registered if row[6] is None} == forms
        objects = self.storage().from_("documents")
        for number, form_type, year, path, status, digest, gone in registered:
            kept = objects.download(path)
            assert (status, hashlib.sha256(kept).hexdigest()) == ("stored", digest)
            assert path.startswith(f"bir/{year}/{form_type}/")
            if gone is None:
                [row] = self.odoo.call("ir.attachment", "read", [number], ["datas"])
                assert kept == base64.b64decode(row["datas"])

    def close(self) -> None:
        """Close all connections."""
        for client in self.clients:
            client.session.close()


def person(documents: Documents, *permissions: str) -> str:
    """The token of somebody who is signed in."""
    said = {"role": "authenticated", "sub": str(uuid.uuid4()), "app_metadata": {"ipai_permissions": permissions}}
    return token(said, documents.env["jwt_secret"])


def token(claims: dict[str, Any], secret: str) -> str:
    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    signed = part(b'{"alg":"HS256","typ":"JWT"}') + "." + part(json.dumps(claims).encode())
    return f"{signed}.{part(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"
