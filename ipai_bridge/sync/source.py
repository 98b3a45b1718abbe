"""Odoo as the scheduled syncs read it: from inside (`EnvSource`) or by RPC (`RpcSource`), the same either way.

What is read is read with the rights of one user, in pages by id, archived records included, with named fields only, and
relations as ids: the name of a related record may change without the record. Nothing is ever written.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from ipai_bridge.errors import OdooRefused, OdooUnavailable

__all__ = ["EnvSource", "Page", "Row", "RpcSource", "Source", "read_pages", "read_records"]

CONTEXT: Mapping[str, Any] = {"active_test": False, "lang": "en_US"}
"""Archived records too; translated names in the language that every Odoo has."""

Domain = Sequence[Any]
Row = dict[str, Any]


class Source(Protocol):
    """One Odoo database, read as one user."""

    @property
    def edition(self) -> str:
        """`ce` or `enterprise`, as the server says of itself."""
        ...

    @property
    def database(self) -> str:
        """The name of its PostgreSQL database."""
        ...

    def call(self, model: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """`env[model].method(...)`, with JSON's values. Raises `OdooRefused`, `OdooUnavailable`."""
        ...

    def content(self, attachment: int) -> bytes:
        """The bytes of an `ir.attachment`; none where Odoo has none. Raises `OdooRefused`, `OdooUnavailable`."""
        ...

    def clock(self) -> str | None:
        """Odoo's time in UTC, `YYYY-MM-DD HH:MM:SS`, at or before what is read from now on; None if not to be had."""
        ...


class EnvSource:
    """Reads through an Odoo environment, in its transaction: one and the same snapshot for the whole sync."""

    def __init__(self, env: Any) -> None:
        self._env = env(context={**env.context, **CONTEXT})

    @property
    def edition(self) -> str:
        """`ce` or `enterprise`."""
        from odoo import release

        return _edition(str(release.version))

    @property
    def database(self) -> str:
        """The name of the database."""
        return str(self._env.cr.dbname)

    def call(self, model: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """See `Source`."""
        from odoo.exceptions import UserError

        try:
            records = self._env[model]
            if method in ("read", "get_external_id"):
                ids, *args = args  # type: ignore[assignment]  # by RPC the ids come first
                records = records.browse(ids)
            answer = _plain(getattr(records, method)(*args, **kwargs))
            # Each record is read once: what Odoo remembers of a whole table would only fill its memory.
            self._env[model].invalidate_model()
        except (UserError, KeyError, ValueError) as error:  # AccessError and MissingError are UserErrors
            raise OdooRefused(_refusal(model, method, str(error))) from error
        return answer

    def content(self, attachment: int) -> bytes:
        """See `Source`. Nothing of it stays in Odoo's cache."""
        from odoo.exceptions import UserError

        record = self._env["ir.attachment"].browse(attachment)
        try:
            return bytes(record.raw or b"")
        except UserError as error:
            raise OdooRefused(_refusal("ir.attachment", "read", str(error))) from error
        finally:
            record.invalidate_recordset(["raw", "datas", "db_datas"], flush=False)

    def clock(self) -> str | None:
        """When the transaction began: what is committed later is not seen by it."""
        return str(_plain(self._env.cr.now()))


class RpcSource:
    """Reads over Odoo's RPC, by odoorpc. Logs in when made."""

    ATTEMPTS = 3
    """How often a read is tried when the connection fails."""

    def __init__(
        self,
        url: str,
        database: str,
        login: str,
        password: str,
        *,
        timeout: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`timeout`: seconds for each answer. Raises `OdooRefused`, `OdooUnavailable`."""
        try:
            import odoorpc
        except ImportError:
            raise OdooUnavailable("odoorpc is not installed here: `pip install ipai-bridge[rpc]`") from None
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        self._url = url
        self._database = database
        self._sleep = sleep
        with self._explained("the login", "to " + database):
            self._rpc = odoorpc.ODOO(
                parts.hostname,
                protocol="jsonrpc+ssl" if secure else "jsonrpc",
                port=parts.port or (443 if secure else 80),
                timeout=timeout,
            )
            self._rpc.login(database, login, password)

    @property
    def edition(self) -> str:
        """`ce` or `enterprise`."""
        return _edition(str(self._rpc.version))

    @property
    def database(self) -> str:
        """The name of the database."""
        return self._database

    def call(self, model: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """See `Source`. Reads only, so a failed connection is tried again."""
        for attempt in range(1, self.ATTEMPTS + 1):
            try:
                with self._explained(model, method):
                    return self._rpc.execute_kw(model, method, list(args), {**kwargs, "context": dict(CONTEXT)})
            except OdooUnavailable:
                if attempt == self.ATTEMPTS:
                    raise
                self._sleep(float(attempt))
        raise AssertionError("unreachable")

    def content(self, attachment: int) -> bytes:
        """See `Source`."""
        rows = self.call("ir.attachment", "read", [attachment], ["datas"])
        try:
            return base64.b64decode(rows[0]["datas"] or b"")
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise OdooRefused(
                _refusal("ir.attachment", "read", "it is not there, or its content not base64")
            ) from error

    def clock(self) -> str | None:
        """What Odoo would date a new message: RPC has no clock of its own."""
        try:
            value = self.call("mail.message", "default_get", ["date"]).get("date")
        except OdooRefused:  # without the module mail
            return None
        return str(value)[:19] if value else None

    @contextmanager
    def _explained(self, model: str, method: str) -> Iterator[None]:
        from http.client import HTTPException
        from urllib.error import HTTPError

        import odoorpc.error

        try:
            yield
        except odoorpc.error.RPCError as error:
            raise OdooRefused(_refusal(model, method, str(error))) from error
        except odoorpc.error.Error as error:
            raise OdooRefused(_refusal(model, method, str(error))) from error
        # ValueError: the answer is not JSON; KeyError, TypeError: it is, but not Odoo's.
        except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
            if isinstance(error, HTTPError):
                error.close()  # it holds the connection
            reason = f"{self._url} does not answer as Odoo does ({type(error).__name__}: {error})"
            raise OdooUnavailable(f"{reason}: check odoo_url, and that the server runs") from error


class Page(NamedTuple):
    """All records of a model with an id above `after`, up to `upto` (None: no limit), that fit the domain."""

    rows: list[Row]
    errors: list[dict[str, Any]]
    """Those that could not be read: `odoo_id` and `error`."""
    after: int
    upto: int | None


def read_pages(source: Source, model: str, fields: Sequence[str], *, domain: Domain = (), size: int) -> Iterator[Page]:
    """Pages of at most `size` records by ascending id; the last one, which may be empty, is open upwards.

    Each page is found by the last id, not by an offset: what is created or deleted meanwhile moves nothing.
    """
    after = 0
    while True:
        wanted = [*domain, ("id", ">", after)]
        errors: list[dict[str, Any]] = []
        try:
            rows = _search_read(source, model, fields, wanted, size)
            ids = [row["id"] for row in rows]
        except OdooRefused:
            ids = source.call(model, "search", wanted, limit=size, order="id")
            rows, errors = read_records(source, model, fields, ids)
        upto = ids[-1] if len(ids) == size else None
        yield Page(rows, errors, after, upto)
        if upto is None:
            return
        after = upto


def read_records(
    source: Source, model: str, fields: Sequence[str], ids: Sequence[int]
) -> tuple[list[Row], list[dict[str, Any]]]:
    """Those of these records that are there and can be read, and an error for each that cannot.

    One bad record does not hide the others: what is refused is asked for in halves.
    """
    if not ids:
        return [], []
    try:
        return _search_read(source, model, fields, [("id", "in", list(ids))], len(ids)), []
    except OdooRefused as error:
        if len(ids) == 1:
            return [], [{"odoo_id": ids[0], "error": str(error)[:1_000]}]
    half = len(ids) // 2
    rows, errors = read_records(source, model, fields, ids[:half])
    more_rows, more_errors = read_records(source, model, fields, ids[half:])
    return rows + more_rows, errors + more_errors


def _search_read(source: Source, model: str, fields: Sequence[str], domain: Domain, size: int) -> list[Row]:
    rows: list[Row] = source.call(model, "search_read", list(domain), list(fields), limit=size, order="id", load="")
    return rows


def _edition(version: str) -> str:
    return "enterprise" if "+e" in version else "ce"


def _plain(value: Any) -> Any:
    """Odoo's values as RPC gives them."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime):
        return value.replace(microsecond=0, tzinfo=None).isoformat(" ")
    if isinstance(value, date):
        return value.isoformat()
    return value


def _refusal(model: str, method: str, said: str) -> str:
    reason = " ".join(said.split())[:500]
    return f"Odoo refused {method} of {model} ({reason}): check that the login is right and may read {model}"
