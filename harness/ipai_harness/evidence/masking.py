"""Secrets and personal data out of evidence: by value where it is known, by the field's name, and by form.

The same value is masked the same way within one run, so that one can still see that two fields agree.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from typing import Any

__all__ = ["Mask"]

HIDDEN_HEADERS = frozenset({"authorization", "apikey", "cookie", "set-cookie", "x-api-key"})
PERSONAL = frozenset(
    """
    email email_from email_normalized phone mobile phone_sanitized vat street street2 zip city birthday ssnid
    passport_id bank_account acc_number login display_name partner_name contact_name commercial_company_name
    """.split()  # noqa: SIM905 -- one a line would be twenty lines
)
"""Fields of Odoo that say who somebody is, whatever the model."""
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")


class Mask:
    """Masks for one run."""

    def __init__(self, secrets: Collection[str], salt: str) -> None:
        """`secrets`: values that must not be shown wherever they stand. `salt`: makes the pseudonyms this run's own."""
        self._secrets = sorted({secret for secret in secrets if len(secret) >= 8}, key=len, reverse=True)
        self._salt = salt.encode()

    def text(self, value: str) -> str:
        """A text without the known secrets and without addresses of mail."""
        for secret in self._secrets:
            value = value.replace(secret, "[secret]")
        return _EMAIL.sub(lambda match: self.pseudonym(match[0]), value)

    def pseudonym(self, value: str) -> str:
        """The same for the same value, and no way back."""
        digest = hashlib.blake2b(value.encode("utf-8", "replace"), key=self._salt[:64], digest_size=4).hexdigest()
        return f"[personal {digest}]"

    def value(self, value: Any, field: str = "") -> Any:
        """A JSON value; `field` is the key under which it stands."""
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(inner, str(key).lower()) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(inner, field) for inner in value]
        if not isinstance(value, str):
            return value
        if field in HIDDEN_HEADERS:
            return "[secret]"
        return self.pseudonym(value) if field in PERSONAL and value else self.text(value)
