"""The storage gateway, and the platform's official client of it, `storage3`, as it is."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from storage3 import SyncStorageClient
from storage3.exceptions import StorageApiError

from ipai_harness.stack.supabase import jwt
from tests.supabase.conftest import JWT_SECRET, PROJECT, Edge, Server, rows

PERSON = "0190f3a0-0000-7000-8000-00000000000a"
PDF = b"%PDF-1.7 " + bytes(range(256)) * 40


def token(**claims: object) -> str:
    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    signed = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
    mac = base64.urlsafe_b64encode(hmac.digest(JWT_SECRET.encode(), signed, hashlib.sha256)).rstrip(b"=")
    return (signed + b"." + mac).decode()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway") / "storage"


@pytest.fixture(scope="module")
def gateway(server: Server, directory: Path) -> Iterator[Edge]:
    environment = {"SUPABASE_DB_URL": server.url(), "SUPABASE_JWT_SECRET": JWT_SECRET}
    serving = Edge(PROJECT, environment, storage=directory)
    yield serving
    serving.stop()


class Clients:
    """Official clients, one for each kind of caller."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/storage/v1/"
        self.opened: list[SyncStorageClient] = []

    def of(self, bearer: str) -> SyncStorageClient:
        headers = {"apiKey": bearer, "Authorization": f"Bearer {bearer}"}
        self.opened.append(SyncStorageClient(self.url, headers))
        return self.opened[-1]

    @property
    def service(self) -> SyncStorageClient:
        return self.of(jwt(JWT_SECRET, "service_role"))

    @property
    def anon(self) -> SyncStorageClient:
        return self.of(jwt(JWT_SECRET, "anon"))

    def person(self, *permissions: str, sub: str = PERSON) -> SyncStorageClient:
        return self.of(token(role="authenticated", sub=sub, app_metadata={"ipai_permissions": list(permissions)}))


@pytest.fixture
def clients(gateway: Edge) -> Iterator[Clients]:
    made = Clients(gateway.port)
    yield made
    for client in made.opened:
        client.session.close()


@pytest.fixture
def bucket(clients: Clients) -> str:
    name = f"b-{uuid.uuid4().hex[:8]}"
    clients.service.create_bucket(name)
    return name


@pytest.fixture
def database(server: Server) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    with closing(server.connect()) as connection:
        yield lambda statement, *values: rows(connection, statement, *values)


def refused(call: Callable[[], object]) -> tuple[str, str]:
    """Status and error of what the service refuses."""
    with pytest.raises(StorageApiError) as caught:
        call()
    return str(caught.value.status), caught.value.code


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}
