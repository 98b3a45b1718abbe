"""Which attachments are BIR forms (Philippine tax forms), and under which name each is stored. Pure.

An attachment is one if its description, or else its name, names the form: `BIR 1601-C 2026-01.pdf`,
`BIR Form No. 2307 - 2026-03.pdf`, `2550Q_2026Q1.pdf`. Without the word BIR the form must have a letter and be followed
by a year: a name that begins with a date, or with a number, is none. The year is the first one that follows the form;
where none does, that in which the attachment was made.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

__all__ = ["Form", "filename_of", "form_of", "is_form_type"]

LONGEST = 120
"""Characters of a filename; the hash that a second content of that name gets comes on top."""

_FORM_TYPE = re.compile(r"[0-9]{4}[A-Z]?(-[A-Z0-9]{1,4})?")
# A suffix begins with a letter: in "2307-03-2026" the 03 is a month.
_CODE = r"(?P<code>[0-2][0-9]{3}(?:[A-Z]?-[A-Z][A-Z0-9]{0,3}|[A-Z])?)(?![A-Z0-9])"
_YEAR = r"(?<![0-9])(?P<year>20[0-9]{2})"
_MARKED = re.compile(rf"(?<![A-Z0-9])BIR[\s_.-]*(?:FORM)?[\s_.-]*(?:NO)?[\s_.-]*{_CODE}(?:.*?{_YEAR})?")
_PLAIN = re.compile(rf"\s*(?=[0-9]{{4}}-?[A-Z]){_CODE}[\s_.-]+(?:.*?){_YEAR}")

_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,10}$")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)")
_EXTENSIONS = {"application/pdf": ".pdf", "application/xml": ".xml", "text/xml": ".xml", "image/png": ".png",
               "image/jpeg": ".jpg", "application/zip": ".zip", "text/csv": ".csv"}  # fmt: skip


class Form(NamedTuple):
    """Which form, and of which year."""

    form_type: str
    year: int


def is_form_type(text: str) -> bool:
    """Whether this could be the code of a form, such as 1601-C."""
    return _FORM_TYPE.fullmatch(text) is not None


def form_of(name: str, description: str | None, created: str | None) -> Form | None:
    """The form that an attachment is; None if it is none. `created`: when it was made, `YYYY-MM-DD …`."""
    for text, patterns in ((description or "", (_MARKED,)), (name, (_MARKED, _PLAIN))):
        # Letters that only look otherwise, such as full-width ones, are the same.
        plain = unicodedata.normalize("NFKC", text[:2_000]).upper()
        for pattern in patterns:
            match = pattern.match(plain) if pattern is _PLAIN else pattern.search(plain)
            if match is None:
                continue
            year = match["year"] or (created or "")[:4]
            if re.fullmatch(r"20[0-9]{2}", year):
                return Form(match["code"], int(year))
    return None


def filename_of(name: str, mimetype: str) -> str:
    """What an attachment's name becomes as the last part of a path: ASCII letters, digits and `_ ().+-`, and no more.

    Never empty, hidden, a path, longer than `LONGEST`, or a name that Windows reserves. Different names may become one.
    """
    name = re.split(r"[/\\]", name)[-1] if name.strip("/\\ .") else ""
    decomposed = unicodedata.normalize("NFKD", name)
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    plain = re.sub(r"[^A-Za-z0-9_ ().+-]", "_", re.sub(r"\s+", " ", plain))
    plain = re.sub(r"\.{2,}", ".", plain)
    extension = _EXTENSION.search(plain)
    stem, ending = (plain[: extension.start()], extension[0]) if extension else (plain, _EXTENSIONS.get(mimetype, ""))
    stem = stem.strip(" .+-)")[: LONGEST - len(ending)].rstrip(" .+-(") or "document"
    return f"_{stem}{ending}"[:LONGEST] if _RESERVED.match(stem + ending) else stem + ending
