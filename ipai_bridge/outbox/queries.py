"""SQL statements by name, from the `.sql` files beside this module.

A file is a series of sections, each headed by a line `-- name: <name>`; what precedes the first is a comment.
"""

from __future__ import annotations

import re
from importlib import resources

_HEADING = re.compile(r"^-- name: ([a-z_]+)$", re.MULTILINE)


def read_sql(filename: str) -> str:
    """The text of a `.sql` file of this package."""
    return resources.files(__package__).joinpath(filename).read_text(encoding="utf-8")


def load_queries(filename: str) -> dict[str, str]:
    """The statements of a `.sql` file of this package: name ▶ SQL, comments stripped.

    Raises:
        ValueError: a name occurs twice, or a section is empty.
    """
    _, *sections = _HEADING.split(read_sql(filename))
    queries: dict[str, str] = {}
    for name, text in zip(sections[::2], sections[1::2], strict=True):
        # Comments are for the reader of the file; the server need not parse them at every call.
        sql = "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--"))
        if name in queries or not sql:
            raise ValueError(f"{filename}: the section {name!r} is empty or there twice")
        queries[name] = sql
    return queries
