"""Uploads to the storage of the project where the functions are, and nowhere else, each by a URL signed for it."""

from __future__ import annotations

import io
import json
import random
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import urllib3.exceptions

from ipai_bridge.delivery.retry import Verdict, decide
from ipai_bridge.delivery.session import new_session, surroundings
from ipai_bridge.endpoint import supabase_project_ref
from ipai_bridge.errors import SyncRefused, SyncUnavailable
from ipai_bridge.sync.client import POLICY

__all__ = ["Uploader", "storage_url"]

BUCKET = "documents"
_SLOWEST = 100_000  # bytes a second that the storage may take to put an upload away
_MAX_ANSWER = 65_536  # bytes
_TOKEN = re.compile(r"token=[A-Za-z0-9._-]+")


def storage_url(functions_url: str) -> str:
    """The base of the storage of the project whose functions are there."""
    base = functions_url.rstrip("/")
    host = (urlsplit(base).hostname or "").rstrip(".")
    if ".functions.supabase." in host:  # the short form: https://<ref>.functions.supabase.co
        return f"https://{supabase_project_ref(base)}.{host.partition('.functions.')[2]}/storage/v1"
    return base.removesuffix("/functions/v1") + "/storage/v1"


class Uploader:
    """Puts contents under the URLs that the function signed."""

    def __init__(
        self,
        functions_url: str,
        *,
        timeout: float,
        user_agent: str = "ipai-bridge",
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`timeout`: seconds to connect, for each piece sent, and for the answer: there, one more for each 100 kB."""
        self.base = storage_url(functions_url)
        self._timeout = timeout
        self._sleep = sleep
        self._clock = clock
        self._session = new_session(user_agent)
        self._surroundings = surroundings(self.base)

    def put(self, path: str, signed: str, content: bytes, mimetype: str) -> None:
        """Upload to the path of the bucket; it was there before, or it is there now.

        Raises `SyncRefused` for what would be refused again, and for a URL that does not lead to this path of this
        project's storage; `SyncUnavailable` when it did not come to pass in about 90 s.
        """
        url = self._checked(path, signed)
        started = self._clock()
        attempt = 0
        while True:
            attempt += 1
            status, said = self._put(url, content, mimetype)
            # Of an upload whose answer was lost. Whether it is this content, the function sees.
            if status == 200 or said.get("error") == "Duplicate":
                return
            code = str(said.get("statusCode", ""))
            actual = int(code) if status == 400 and code.isdigit() and len(code) == 3 else status
            # The platform answers 400 for everything, and says in the body what it means.
            decision = decide(
                None if actual is not None and actual < 300 else actual, attempt=attempt,
                trying_for=self._clock() - started, policy=POLICY,
                jitter=random.random(),  # noqa: S311 -- to spread the tries, not to hide anything
            )  # fmt: skip
            if decision.verdict is Verdict.AGAIN and actual != 401:
                self._sleep(decision.delay)
                continue
            what = " ".join(str(said.get("message", "")).split())[:300]
            why = f"the storage did not take it ({what if status is None else f'HTTP {actual}: {what}'})"
            if actual is not None and 300 <= actual < 500 and actual not in (408, 425, 429):
                raise SyncRefused(why)
            raise SyncUnavailable(f"{why}: run the sync again later, it goes on from there")

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _checked(self, path: str, signed: str) -> str:
        """The URL below this project's storage, made here: of what the function named, only the token is taken."""
        relative = signed.removeprefix(self.base) if signed.startswith(self.base + "/") else signed
        place, _, query = relative.partition("?")
        if unquote(place) != f"/object/upload/sign/{BUCKET}/{path}":
            raise SyncRefused(
                f"the function named a URL that is not for this document in {self.base}: is `url` the right project's?"
            )
        if not _TOKEN.fullmatch(query):
            raise SyncRefused("the function named a URL that is not signed as the storage signs: deploy it again")
        return f"{self.base}{quote(unquote(place), safe='/')}?{query}"

    def _put(self, url: str, content: bytes, mimetype: str) -> tuple[int | None, dict[str, Any]]:
        headers = {"content-type": mimetype, "cache-control": "max-age=3600"}
        try:
            with self._session.put(
                # As a stream: else the timeout to connect would be that of all the sending, too.
                url, data=io.BytesIO(content), headers=headers,
                timeout=(self._timeout, self._timeout + len(content) / _SLOWEST), allow_redirects=False, stream=True,
                **self._surroundings,
            ) as response:  # fmt: skip
                raw = response.raw.read(_MAX_ANSWER, decode_content=False)
        except (OSError, urllib3.exceptions.HTTPError) as error:
            return None, {"message": f"no answer ({type(error).__name__})"}
        try:
            said = json.loads(raw)
        except ValueError:
            said = {"message": raw.decode("utf-8", "replace")}
        return response.status_code, said if isinstance(said, dict) else {}
