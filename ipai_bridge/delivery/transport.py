"""One signed POST, and what came back. It decides nothing and never raises for what the other side does.

The client is `requests` with a session per thread (see `session.py`); proxies and the CA bundle are read from the
environment once, when the transport is made, not at every request. Redirects are never followed: the signature must not
travel to a host that the configuration does not name.
"""

from __future__ import annotations

import re
import ssl
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http.client import RemoteDisconnected
from typing import Any

import requests
import requests.utils
import urllib3.exceptions

from ipai_bridge.delivery.retry import parse_retry_after
from ipai_bridge.delivery.session import new_session, surroundings
from ipai_bridge.outbox.store import Claimed
from ipai_bridge.secret import Secret
from ipai_bridge.signing import SIGNATURE, WEBHOOK_SIGNATURE, sign

WEBHOOK = "odoo-webhook"
"""The Edge Function that receives events, below the functions URL."""
CONTRACT_HEADER = "x-ipai-contract"
"""On every answer of our function, so that its 401 is told from the gateway's."""

_EVIDENCE = 2_048
_DRAIN = 65_536
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt (with a second try after a stale connection) came to."""

    status: int | None
    """HTTP status; None when there was no answer."""
    error: str | None
    """Why it was not a 2xx, for people: what failed, the first of the answer's body, what to do; None for a 2xx."""
    retry_after: float | None
    """Seconds that the answer asked to wait."""
    posts: int
    """How often the request was sent: 1, or 2."""
    took: float
    """Seconds."""


class Transport:
    """Posts events to one functions URL. Safe to use from several threads."""

    def __init__(self, functions_url: str, secret: Secret, *, timeout: float, user_agent: str) -> None:
        """`functions_url` as in the settings; `timeout`, seconds: to connect, to send, to get the whole answer."""
        self.url = f"{functions_url.rstrip('/')}/{WEBHOOK}"
        self.timeout = timeout
        self._secret = secret
        self._user_agent = user_agent
        self._local = threading.local()
        self._surroundings = surroundings(self.url)

    def post(self, claimed: Claimed, *, timestamp_ms: int) -> Attempt:
        """Send one event, signed for `timestamp_ms` (milliseconds since the epoch)."""
        started = time.monotonic()
        posts = 1
        headers = self._headers(claimed, timestamp_ms)
        try:
            try:
                response = self._send(claimed, headers)
            except requests.ConnectionError as error:
                if not _is_stale_connection(error):
                    raise
                # The receiver closed an idle connection just as we used it. Not one byte was answered: at once again,
                # once. (If it had taken the request, the idempotency key makes the second one a duplicate.)
                posts = 2
                headers = self._headers(claimed, timestamp_ms + 1)
                response = self._send(claimed, headers)
            with response:
                body = _evidence(response)
        except (OSError, urllib3.exceptions.HTTPError) as error:  # requests.RequestException is an OSError
            reason = self._redact(headers, _explain_failure(error, self.timeout))[:_EVIDENCE]
            return Attempt(None, reason, None, posts, time.monotonic() - started)
        took = time.monotonic() - started
        if 200 <= response.status_code < 300:
            return Attempt(response.status_code, None, None, posts, took)
        now = datetime.now(timezone.utc)
        retry_after = parse_retry_after(response.headers.get("retry-after"), now=now)
        # Cut last: of a secret that straddles the end nothing must be left.
        evidence = self._redact(headers, _one_line(body.decode("utf-8", "replace")))[:_EVIDENCE]
        return Attempt(response.status_code, _explain_answer(response, evidence, now), retry_after, posts, took)

    def _headers(self, claimed: Claimed, timestamp_ms: int) -> dict[str, str]:
        event = claimed.event
        return sign(
            event.body,
            id=event.id,
            timestamp_ms=timestamp_ms,
            secret=self._secret,
            sequence=claimed.sequence,
            instance=event.instance,
        )

    def _send(self, claimed: Claimed, headers: dict[str, str]) -> requests.Response:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = new_session(self._user_agent)
        return session.post(
            self.url,
            data=claimed.event.body,
            headers=headers,
            timeout=self.timeout,
            allow_redirects=False,
            stream=True,
            **self._surroundings,
        )

    def _redact(self, headers: dict[str, str], text: str) -> str:
        # A receiver that is being debugged may say in its answer what it got, or what it was configured with.
        standard = headers.get(WEBHOOK_SIGNATURE, "").removeprefix("v1,")
        for value in filter(None, (self._secret.reveal(), headers[SIGNATURE], standard)):
            text = text.replace(value, "[redacted]")
        return text


def _evidence(response: requests.Response) -> bytes:
    """The first of the body, as it came. It is shown, never parsed to decide."""
    if response.status_code < 200:
        # Not the answer yet, though the client took it for one: the connection must be closed with the real answer
        # still to come, and to read the (absent) body would put it back among those to be used again.
        return b""
    try:
        raw: bytes = response.raw.read(_DRAIN, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError, ValueError):
        # The status has arrived and that is what counts; the body is only evidence.
        return b""
    return raw


def _one_line(text: str) -> str:
    return _CONTROL.sub(" ", text).strip()


def _is_stale_connection(error: requests.ConnectionError) -> bool:
    cause: Any = error.args[0] if error.args else None
    return isinstance(cause, urllib3.exceptions.ProtocolError) and any(
        isinstance(reason, (RemoteDisconnected, ConnectionResetError, BrokenPipeError, ssl.SSLEOFError))
        for reason in cause.args
    )


def _explain_failure(error: Exception, timeout: float) -> str:
    if isinstance(error, requests.Timeout):
        return f"no answer within {timeout:g} s"
    if isinstance(error, requests.exceptions.SSLError):
        return f"TLS failed: {_reason(error)}: check the URL and the CA bundle (REQUESTS_CA_BUNDLE)"
    return f"no connection: {_reason(error)}"


def _reason(error: BaseException) -> str:
    inner: Any = error
    # requests wraps urllib3's error, which wraps the socket's: the innermost says what happened.
    while isinstance(inner, BaseException):
        deeper = getattr(inner, "reason", None) or next(
            (arg for arg in reversed(inner.args) if isinstance(arg, BaseException)), None
        )
        if not isinstance(deeper, BaseException) or deeper is inner:
            break
        inner = deeper
    return _one_line(str(inner))


def _explain_answer(response: requests.Response, body: str, now: datetime) -> str:
    status = response.status_code
    if status < 200:
        return f"HTTP {status}: an interim answer in place of the final one"
    by_function = CONTRACT_HEADER in response.headers
    if status == 401 and by_function:
        advice = "refused by the function: is the secret the same on both sides?" + _skew(response, now)
    elif status == 401:
        advice = (
            "refused by the gateway, before the function saw it: set verify_jwt = false for odoo-webhook "
            "in supabase/config.toml and deploy again"
        )
    elif 300 <= status < 400:
        # Only the host: a redirect's target may carry tokens in its query.
        advice = "a redirect is not followed: set the URL to where the function really is"
    elif status == 404 and not by_function:
        advice = "no such function there: check the URL, or deploy odoo-webhook"
    elif status == 410:
        advice = "the endpoint says that it is gone for good: set another URL, then start the relay again"
    elif status == 503 and not by_function:
        advice = "the function does not start (BOOT_ERROR): see its logs"
    elif status == 546:
        advice = "the function ran out of its resources (WORKER_LIMIT)"
    else:
        advice = ""
    return ": ".join(part for part in (f"HTTP {status}", advice, body) if part)


def _skew(response: requests.Response, now: datetime) -> str:
    try:
        date = parsedate_to_datetime(response.headers.get("date", ""))
        skew = (now - date).total_seconds()
    except (TypeError, ValueError, IndexError, OverflowError):
        return ""
    return f" (the clocks differ by {skew:.0f} s: set them right)" if abs(skew) > 60 else ""
