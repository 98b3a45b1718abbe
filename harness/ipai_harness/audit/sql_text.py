"""SQL as text, cut into statements: comments blanked, what is quoted told apart, lines kept. Not a parser."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

NAME = r'(?:"(?:[^"]|"")+"|[\w$%]+)(?:\s*\.\s*(?:"(?:[^"]|"")+"|[\w$%]+))?'
_TOKEN = re.compile(r"""--|/\*|'|"|\$(?:[A-Za-z_]\w*)?\$|;""")
_NOT_NEWLINE = re.compile(r"[^\n]")


@dataclass(frozen=True)
class Statement:
    """One statement. `text` has its comments blanked; in `outline` what is quoted is blanked too. Both start at "
    "`offset`."""

    text: str
    outline: str
    offset: int

    @property
    def start(self) -> int:
        """Where its first word is."""
        return self.offset + len(self.text) - len(self.text.lstrip())

    @property
    def is_block(self) -> bool:
        """Whether it is a DO block, whose statements are inside the quotes."""
        return re.match(r"\s*do\b", self.outline, re.IGNORECASE) is not None


@lru_cache(maxsize=512)
def statements(text: str) -> tuple[Statement, ...]:
    """The statements of a file; quotes that never end reach to the end of the file."""
    plain, outline = list(text), list(text)

    def blank(target: list[str], start: int, end: int) -> None:
        target[start:end] = _NOT_NEWLINE.sub(" ", text[start:end])

    ends: list[int] = []
    at = 0
    while (match := _TOKEN.search(text, at)) is not None:
        mark, start = match[0], match.start()
        if mark == ";":
            ends.append(match.end())
            at = match.end()
        elif mark == "--":
            at = _after(text, "\n", start)
            blank(plain, start, at)
            blank(outline, start, at)
        elif mark == "/*":
            at = _comment_end(text, start)
            blank(plain, start, at)
            blank(outline, start, at)
        elif mark == '"':
            at = _after(text, '"', match.end())
        elif mark == "'":
            escapes = start > 0 and text[start - 1] in "eE" and not (start > 1 and _in_word(text[start - 2]))
            at = _string_end(text, match.end(), escapes=escapes)
            blank(outline, start + 1, at - 1)
        elif start > 0 and _in_word(text[start - 1]):  # a$b$ is a name
            at = start + 1
        else:
            at = _after(text, mark, match.end())
            blank(outline, match.end(), max(at - len(mark), match.end()))
    plain_text, outline_text = "".join(plain), "".join(outline)
    found, begin = [], 0
    for end in [*ends, len(text)]:
        if plain_text[begin:end].strip(" \t\r\n;"):
            found.append(Statement(plain_text[begin:end], outline_text[begin:end], begin))
        begin = end
    return tuple(found)


def _in_word(character: str) -> bool:
    return character.isalnum() or character in "_$"


def _after(text: str, what: str, start: int) -> int:
    end = text.find(what, start)
    return len(text) if end < 0 else end + len(what)


def _comment_end(text: str, start: int) -> int:
    depth = 0
    for match in re.compile(r"/\*|\*/").finditer(text, start):
        depth += 1 if match[0] == "/*" else -1
        if depth == 0:
            return match.end()
    return len(text)


def _string_end(text: str, at: int, *, escapes: bool) -> int:
    while at < len(text):
        if escapes and text[at] == "\\":
            at += 2
        elif text[at] == "'":
            if text[at + 1 : at + 2] != "'":
                return at + 1
            at += 2
        else:
            at += 1
    return len(text)


def object_name(written: str) -> str:
    """`schema.name` as PostgreSQL stores it; without a schema it is public's."""
    parts = [
        part[1:-1].replace('""', '"') if part.startswith('"') else part.lower()
        for part in re.findall(r'"(?:[^"]|"")+"|[^\s."]+', written)
    ]
    return ".".join(parts[-2:]) if len(parts) > 1 else f"public.{''.join(parts)}"
