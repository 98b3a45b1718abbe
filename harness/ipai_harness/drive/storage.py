"""What a person with a token reads out of the storage."""

from __future__ import annotations

import http.client
from contextlib import closing
from urllib.parse import quote, urlsplit

__all__ = ["download"]

BUCKET = "documents"


def download(functions_url: str, path: str, token: str) -> tuple[int, bytes]:
    """Status and content of an object of the bucket `documents`."""
    url = urlsplit(functions_url)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    with closing(kind(url.hostname or "", url.port, timeout=30)) as connection:
        headers = {"authorization": f"Bearer {token}", "apikey": token}
        connection.request("GET", f"/storage/v1/object/authenticated/{BUCKET}/{quote(path)}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
