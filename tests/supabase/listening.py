"""Subscribers of Realtime: the official Python client, in a thread of its own; tokens, and raw frames."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from realtime import AsyncRealtimeChannel, AsyncRealtimeClient, RealtimeSubscribeStates
from realtime.types import RealtimePostgresChangesListenEvent
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from tests.supabase.conftest import DEADLINE, JWT_SECRET, until

T = TypeVar("T")
CHANNEL = "odoo-sync"
TOPIC = f"realtime:{CHANNEL}"
LIVE = "Subscribed to PostgreSQL"


def token(role: str = "authenticated", *permissions: str, secret: str = JWT_SECRET, **claims: object) -> str:
    """A user's token with permissions, as the platform's Auth makes it."""

    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    said = {"role": role, "exp": 4_100_000_000, "app_metadata": {"ipai_permissions": list(permissions)}, **claims}
    signed = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(said)
    return (
        signed + b"." + base64.urlsafe_b64encode(hmac.digest(secret.encode(), signed, hashlib.sha256)).rstrip(b"=")
    ).decode()


@dataclass(frozen=True)
class Table:
    """What is subscribed to."""

    name: str
    event: str = "*"
    filter: str | None = None


EVENTS = Table("odoo.webhook_events")
PROJECTS = Table("odoo_seed.shadow_projects")
TASKS = Table("odoo_seed.shadow_tasks")


@dataclass
class Subscriber:
    """One client on one channel; what it hears, in order."""

    url: str
    token: str
    tables: tuple[Table, ...] = (EVENTS,)
    private: bool = False
    apikey: str = field(default_factory=lambda: token("anon"))
    changes: list[dict[str, Any]] = field(default_factory=list)
    broadcasts: list[dict[str, Any]] = field(default_factory=list)
    systems: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.client, self.channel = self.run(self._subscribe())

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(DEADLINE)

    async def _subscribe(self) -> tuple[AsyncRealtimeClient, AsyncRealtimeChannel]:
        client = AsyncRealtimeClient(f"{self.url}/realtime/v1", self.apikey, max_retries=50, initial_backoff=0.1)
        await client.set_auth(self.token)
        channel = client.channel(CHANNEL, {"config": {"broadcast": None, "presence": None, "private": self.private}})
        for table in self.tables:
            schema, _, name = table.name.partition(".")
            channel.on_postgres_changes(
                RealtimePostgresChangesListenEvent(table.event),
                lambda said: self.changes.append(dict(said["data"])),
                schema=schema,
                table=name,
                filter=table.filter,
            )
        channel.on_broadcast("*", lambda said: self.broadcasts.append(dict(said)))
        channel.on_system(lambda said: self.systems.append(said.message))

        def changed(state: RealtimeSubscribeStates, error: Exception | None) -> None:
            self.states.append(state.value)
            if error is not None:
                self.errors.append(str(error))

        await channel.subscribe(changed)
        return client, channel

    def live(self, times: int = 1) -> Subscriber:
        """Wait until changes are seen, after so many connections."""
        until(lambda: self.systems.count(LIVE) >= times, f"{times} times {LIVE!r}, of {self.systems} {self.errors}")
        return self

    def heard(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many changes, and see that there are no more."""
        until(lambda: len(self.changes) >= count, f"{count} changes")
        assert len(self.changes) == count, self.changes
        return self.changes

    def close(self) -> None:
        """End the client and its thread."""
        with contextlib.suppress(Exception):
            self.run(self.client.close())
        self.run(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(DEADLINE)
        self.loop.close()

    async def _end(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def raw(port: int, apikey: str | None = None, vsn: str = "1.0.0") -> Iterator[Connection]:
    """A bare WebSocket to Realtime."""
    address = f"ws://127.0.0.1:{port}/realtime/v1/websocket?vsn={vsn}&apikey={apikey or token('anon')}"
    with connect(address, max_size=None, open_timeout=DEADLINE, close_timeout=1) as socket:
        yield socket


def join(
    token: str, *bindings: dict[str, str], ref: str = "1", topic: str = f"realtime:{CHANNEL}", **config: Any
) -> str:
    """The frame of a phx_join, version 1.0.0."""
    payload = {"config": {"postgres_changes": list(bindings), **config}, "access_token": token}
    return json.dumps({"topic": topic, "event": "phx_join", "payload": payload, "ref": ref, "join_ref": ref})
