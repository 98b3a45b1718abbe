"""Somebody who is subscribed to Realtime's channel `odoo-sync`, with the official client, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from realtime import AsyncRealtimeChannel, AsyncRealtimeClient
from realtime.types import RealtimePostgresChangesListenEvent

__all__ = ["CHANNEL", "Subscriber"]

CHANNEL = "odoo-sync"
LIVE = "Subscribed to PostgreSQL"
DEADLINE = 30.0  # seconds

T = TypeVar("T")


class Subscriber:
    """Hears of every change of one table; `changes` in order. Close it."""

    def __init__(self, supabase_url: str, apikey: str, token: str, table: str) -> None:
        """`token`: of the person, whose permissions count. Returns when Realtime says that changes are told."""
        self.changes: list[dict[str, Any]] = []
        self._live = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="subscriber", daemon=True)
        self._thread.start()
        self._client, self._channel = self._run(self._subscribe(f"{supabase_url}/realtime/v1", apikey, token, table))
        if not self._live.wait(DEADLINE):
            self.close()
            raise AssertionError(f"Realtime did not say {LIVE!r} within {DEADLINE:g} s")

    def _run(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(DEADLINE)

    async def _subscribe(
        self, url: str, apikey: str, token: str, table: str
    ) -> tuple[AsyncRealtimeClient, AsyncRealtimeChannel]:
        client = AsyncRealtimeClient(url, apikey)
        await client.set_auth(token)
        channel = client.channel(CHANNEL)
        schema, _, name = table.partition(".")
        channel.on_postgres_changes(
            RealtimePostgresChangesListenEvent("*"),
            lambda said: self.changes.append(dict(said["data"])),
            schema=schema,
            table=name,
        )
        channel.on_system(lambda said: self._live.set() if said.message == LIVE else None)
        await channel.subscribe()
        return client, channel

    def close(self) -> None:
        """Leave the channel, and end the thread."""
        with contextlib.suppress(Exception):
            self._run(self._client.close())
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()

    @staticmethod
    async def _end() -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
