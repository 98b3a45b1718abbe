"""A signing secret that is used but never shown.

A `Secret` prints as its fingerprint, in a repr, a format string, a log line or a traceback with its local variables;
it refuses to be pickled; a copy of it is itself. Only `reveal` gives the text, for the one who has to write it down.

Two forms are told apart, by the text alone:

- **standard**: `whsec_` followed by padded base64 of 24 to 64 bytes, as `ipai-bridge keygen` makes it (of 32 random
  bytes). Requests signed with it carry the Standard Webhooks headers too, whose key is the decoded bytes.
- any other text, such as an existing deployment's: it signs the `x-ipai` headers only.

In both, the key of `x-ipai-signature` is the UTF-8 text of the whole secret, prefix included. What counts is whether
the text after `whsec_` decodes, not who made it: 32 hexadecimal digits are base64 as well, of 24 bytes, so
`whsec_0123456789abcdef0123456789abcdef` is standard, while `whsec_previous_previous_previous_0000` is not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Any, NoReturn

from ipai_bridge.errors import SecretUnreadable, SettingsError, WeakSecret

__all__ = ["MIN_SECRET", "Secret", "generate_secret", "parse_secrets", "read_secret_file"]

MIN_SECRET = 24
"""Bytes: a shorter secret is weak, and refused by settings."""

MAX_KEY = 64
MAX_FILE = 65_536
PREFIX = "whsec_"

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


class Secret:
    """One signing secret.

    `is_standard`: it is of the form of Standard Webhooks. `is_weak`: it is too short to be relied on.
    `fingerprint`: 8 hexadecimal digits to compare two sides by, which tell nothing of the secret.
    Raises `WeakSecret` for a text that is empty or cannot be a key.
    """

    __slots__ = ("_key_mac", "_text", "_text_mac", "fingerprint", "is_standard", "is_weak")

    _text: str
    _text_mac: hmac.HMAC
    _key_mac: hmac.HMAC | None
    fingerprint: str
    is_standard: bool
    is_weak: bool

    def __init__(self, text: str) -> None:
        # A secret that cannot be encoded is told by a look at it, not by catching UnicodeEncodeError, which carries it.
        usable = isinstance(text, str) and text != "" and not re.search(r"[\x00\ud800-\udfff]", text)
        if not usable:
            del text  # a report of the traceback's local variables must not have it
            raise WeakSecret("the secret", "must be text, not empty, without NUL and lone surrogates")
        key = text.encode()
        decoded = _decoded(text)
        set_ = object.__setattr__
        set_(self, "_text", text)
        set_(self, "_text_mac", hmac.new(key, digestmod="sha256"))
        set_(self, "is_standard", decoded is not None and MIN_SECRET <= len(decoded) <= MAX_KEY)
        set_(self, "_key_mac", hmac.new(decoded or b"", digestmod="sha256") if self.is_standard else None)
        # After `whsec_` only the decoded bytes count: the prefix is known, and base64 makes four characters of three.
        set_(self, "is_weak", len(key if decoded is None else decoded) < MIN_SECRET or len(key) < MIN_SECRET)
        set_(self, "fingerprint", hashlib.sha256(b"ipai_bridge secret fingerprint\0" + key).hexdigest()[:8])

    def reveal(self) -> str:
        """The text itself: to hand it over once, never to log it."""
        return self._text

    def text_mac(self) -> hmac.HMAC:
        """A new HMAC-SHA256 keyed with the UTF-8 text: that of `x-ipai-signature`."""
        # Copying a keyed state costs half of what keying one does.
        return self._text_mac.copy()

    def key_mac(self) -> hmac.HMAC | None:
        """A new HMAC-SHA256 keyed with the decoded bytes: that of `webhook-signature`; None if it is not standard."""
        return self._key_mac.copy() if self._key_mac is not None else None

    def __repr__(self) -> str:
        # A traceback's report may ask one that was refused, and never got a fingerprint.
        return f"<Secret {getattr(self, 'fingerprint', 'refused')}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Secret does not change: make another")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Secret does not change: make another")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is never pickled: read it again where it is needed")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Secret is never pickled: read it again where it is needed")


def _decoded(text: str) -> bytes | None:
    """The bytes that follow `whsec_`; None if the text is of another form."""
    encoded = text[len(PREFIX) :]
    if not text.startswith(PREFIX) or not encoded or not _BASE64.fullmatch(encoded):
        return None
    return binascii.a2b_base64(encoded)


def generate_secret() -> Secret:
    """A new secret: `whsec_` and base64 of 32 bytes from the system's random source."""
    return Secret(PREFIX + base64.b64encode(secrets.token_bytes(32)).decode())


def parse_secrets(name: str, raw: Any) -> tuple[Secret, ...]:
    """The secrets of a setting: a text of one or several, a `Secret`, or a list of these. Raises `WeakSecret`.

    `name`: the setting as its source spells it, for the error; the error never holds the secret.
    """
    if isinstance(raw, (str, Secret)):
        raw = [raw]
    if not isinstance(raw, (list, tuple)):
        raise SettingsError(name, f"must be text, a Secret or several of them, not {type(raw).__name__}")
    given = [
        part for item in raw for part in (re.split(r"[\s,]+", item.strip(" ,")) if isinstance(item, str) else [item])
    ]
    made: list[Secret] = []
    for number, one in enumerate(given, 1):
        place = f" ({number} of {len(given)})" if len(given) > 1 else ""
        secret = one if isinstance(one, Secret) else _secret(name, one, place)
        if secret.is_weak:
            raise WeakSecret(
                name,
                f"holds a weak secret{place}: at least {MIN_SECRET} bytes are needed, decoded if it is whsec_<base64>; "
                "make one with `ipai-bridge keygen`",
            )
        if secret not in made:
            made.append(secret)
    if not made:
        raise WeakSecret(name, "holds no secret: make one with `ipai-bridge keygen`")
    return tuple(made)


def _secret(name: str, text: Any, place: str) -> Secret:
    try:
        return Secret(text)
    except WeakSecret as error:
        rule = error.rule
    raise WeakSecret(name, f"holds what cannot be a secret{place}: it {rule}")


def read_secret_file(name: str, path: Any) -> str:
    """What a file of secrets holds. Raises `SecretUnreadable`: also for a file that everybody may read.

    A directory, a pipe, a file that is too large, empty or no UTF-8 text is refused too. A link is followed.
    """
    reason = ""
    data = b""
    try:
        # Not to hang on a pipe that somebody put there.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            data = file.read(MAX_FILE + 1) if stat.S_ISREG(mode) else b""
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
    if reason:
        raise SecretUnreadable(name, f"names a file that cannot be read ({reason}): check the path and its permissions")
    if not stat.S_ISREG(mode):
        raise SecretUnreadable(name, "must name a plain file")
    if mode & (stat.S_IROTH | stat.S_IWOTH) and not _is_mounted_secret(path):
        raise SecretUnreadable(name, f"names a file that every user may read or write: chmod o= {os.fspath(path)}")
    if len(data) > MAX_FILE:
        raise SecretUnreadable(name, f"names a file of more than {MAX_FILE} bytes, which cannot be a secret's")
    text = data.decode("utf-8-sig", "replace")
    if "\ufffd" in text:
        raise SecretUnreadable(name, "names a file that is not UTF-8 text")
    if not text.strip(" ,\t\r\n"):
        raise SecretUnreadable(name, "names a file that holds no secret: make one with `ipai-bridge keygen`")
    return text.strip()


def _is_mounted_secret(path: Any) -> bool:
    # Docker mounts secrets here with mode 0444, inside a container where "everybody" is the one service.
    return Path(path).resolve().is_relative_to("/run/secrets")
