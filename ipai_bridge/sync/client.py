"""One signed request of a sync to its Edge Function, tried again for as long as that may help; its answer."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import urllib3.exceptions

from ipai_bridge.delivery.retry import RetryPolicy, Verdict, decide, parse_retry_after
from ipai_bridge.delivery.session import new_session, surroundings
from ipai_bridge.delivery.transport import CONTRACT_HEADER
from ipai_bridge.errors import SyncRefused, SyncUnavailable
from ipai_bridge.event import next_id
from ipai_bridge.secret import Secret
from ipai_bridge.signing import sign

__all__ = ["FunctionClient", "encode"]

MAX_ANSWER = 8_388_608  # bytes
POLICY = RetryPolicy(base=0.5, cap=10.0, give_up_after=90.0)

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode(body: Mapping[str, Any]) -> bytes:
    """Compact JSON in UTF-8, as it is signed and sent."""
    return _encode(body).encode("utf-8", "replace")


class FunctionClient:
    """Talks to one Edge Function of a Supabase project."""

    def __init__(
        self,
        functions_url: str,
        function: str,
        secret: Secret,
        *,
        instance: str,
        timeout: float,
        user_agent: str = "ipai-bridge",
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`timeout`: seconds for each try."""
        self.base = functions_url.rstrip("/")
        self.url = f"{self.base}/{function}"
        self.function = function
        self.instance = instance
        self._secret = secret
        self.timeout = timeout
        self._sleep = sleep
        self._clock = clock
        self._session = new_session(user_agent)
        self._surroundings = surroundings(self.url)

    def request(self, body: bytes, *, once: bool = False) -> dict[str, Any]:
        """The function's answer. The key is the same at every try, so what is sent twice takes effect once.

        `once`: a single try, for somebody who is in a hurry. Raises `SyncRefused` for what it would always refuse,
        `SyncUnavailable` when it did not do it in about 90 s.
        """
        key = next_id()
        started = self._clock()
        attempt = 0
        while True:
            attempt += 1
            status, said, retry_after, by_function = self._post(body, key)
            if status == 200 and isinstance(said, dict):
                return said
            decision = decide(
                # A 200 without our JSON is a proxy's page, not our function's.
                None if status == 200 else status,
                retry_after=retry_after,
                attempt=attempt,
                trying_for=self._clock() - started,
                policy=POLICY,
                jitter=random.random(),  # noqa: S311 -- to spread the tries, not to hide anything
            )
            # Secrets are not rotated within a sync: a 401 stays one.
            if not once and status != 401 and decision.verdict is Verdict.AGAIN:
                self._sleep(decision.delay)
                continue
            text = f"{self.function}: {self._explain(status, said, by_function)}"
            if status is not None and 300 <= status < 500 and status not in (408, 425, 429):
                refused = SyncRefused(text)
                refused.reason = _code(said)
                raise refused
            raise SyncUnavailable(f"{text} ({attempt} tries): run the sync again later")

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _post(self, body: bytes, key: UUID) -> tuple[int | None, Any, float | None, bool]:
        """Status; JSON, text, or why no answer came; seconds it asked to wait; whether our function answered."""
        headers = sign(
            body, id=key, timestamp_ms=time.time_ns() // 1_000_000, secret=self._secret, instance=self.instance
        )
        try:
            with self._session.post(
                self.url, data=body, headers=headers, timeout=self.timeout, allow_redirects=False, stream=True,
                **self._surroundings,
            ) as response:  # fmt: skip
                raw = response.raw.read(MAX_ANSWER, decode_content=False)
        except (OSError, urllib3.exceptions.HTTPError) as error:  # requests.RequestException is an OSError
            return None, f"no answer ({type(error).__name__})", None, False
        text = raw.decode("utf-8", "replace")
        said: Any = text
        if response.headers.get("content-type", "").startswith("application/json"):
            try:
                said = json.loads(text)
            except ValueError:
                said = text
        wait = parse_retry_after(response.headers.get("retry-after"), now=datetime.now(timezone.utc))
        return response.status_code, said, wait, CONTRACT_HEADER in response.headers

    def _explain(self, status: int | None, said: Any, by_function: bool) -> str:
        if status is None:
            return f"{said}: check url, and that the network lets it through"
        code = _code(said)
        what = f"{code}: {said['error'].get('message')}" if code else " ".join(str(said).split())[:500]
        what = what.replace(self._secret.reveal(), "[redacted]")
        advice = ""
        if status == 401 and by_function:
            advice = "is the secret the same on both sides, and the clock right? "
        elif status == 401:
            advice = f"set verify_jwt = false for {self.function} in supabase/config.toml and deploy again. "
        elif status == 404 and not by_function:
            advice = f"deploy it (supabase functions deploy {self.function}), and check url. "
        return f"HTTP {status}: {advice}{what}"


def _code(said: Any) -> str | None:
    error = said.get("error") if isinstance(said, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else None
