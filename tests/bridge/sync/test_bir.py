"""Which attachments are BIR forms, and what becomes of their names, however hostile."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ipai_bridge.sync.bir import LONGEST, Form, filename_of, form_of, is_form_type

CREATED = "2025-12-31 23:59:59"


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("BIR 1601-C 2026-01.pdf", ("1601-C", 2026)),
        ("2550Q_2026Q1.pdf", ("2550Q", 2026)),
        ("bir form no. 2307 - 2026-03.pdf", ("2307", 2026)),
        ("BIR_2307_03-2026.pdf", ("2307", 2026)),
        ("BIR-2307-2026-03.pdf", ("2307", 2026)),
        ("BIR 2307-03-2026.pdf", ("2307", 2026)),
        ("BIR1601EQ 2026.pdf", None),  # no form is written so
        ("BIR 1601-EQ 20260331.pdf", ("1601-EQ", 2026)),
        ("BIR 1702-RT FY2025 amended 2026.pdf", ("1702-RT", 2025)),
        ("1701A 2025 annual.pdf", ("1701A", 2025)),
        ("0619-E 2026-02.xml", ("0619-E", 2026)),
        ("Filed BIR 0605 in 2026.pdf", ("0605", 2026)),
        ("BIR 1601-C.pdf", ("1601-C", 2025)),  # no year: that of the attachment
        ("\uff22\uff29\uff32 1601-C 2026.pdf", ("1601-C", 2026)),
        # None of these is one.
        ("2026-01 report 2026.pdf", None),
        ("2307 2026.pdf", None),  # without BIR a number alone is not enough
        ("2550Q.pdf", None),  # nor a form without a year
        ("1601-C draft.pdf", None),
        ("my 2550Q_2026Q1.pdf", None),
        ("INV/2026/0001.pdf", None),
        ("birthday 2026.pdf", None),
        ("abir 1601-C 2026.pdf", None),
        ("BIR 9999 2026.pdf", None),
        ("", None),
    ],
)
def test_by_its_name(name: str, form: tuple[str, int] | None) -> None:
    assert form_of(name, None, CREATED) == (form and Form(*form))


@pytest.mark.parametrize(
    ("description", "form"),
    [
        ("BIR 1601-C 2026-01", ("1601-C", 2026)),
        ("scanned on Monday\nBIR Form 2550Q, first quarter of 2026", ("2550Q", 2026)),
        ("2550Q 2026", None),  # in a description only with BIR
        ("", None),
    ],
)
def test_by_its_description(description: str, form: tuple[str, int] | None) -> None:
    assert form_of("scan0001.pdf", description, CREATED) == (form and Form(*form))


def test_the_description_knows_better() -> None:
    assert form_of("BIR 1601-C 2026.pdf", "BIR 2550Q 2024", CREATED) == Form("2550Q", 2024)
    assert form_of("BIR 1601-C.pdf", None, None) is None  # no year to be had
    assert form_of("BIR 1601-C.pdf", None, "1999-01-01 00:00:00") is None


@given(st.text(max_size=300), st.text(max_size=300) | st.none(), st.text(max_size=30) | st.none())
@example("BIR 1601-C 2026" + "\0" * 9, "BIR", "2026")
def test_whatever_it_is_called_a_form_is_well_formed(name: str, description: str | None, created: str | None) -> None:
    form = form_of(name, description, created)
    if form is not None:
        assert is_form_type(form.form_type)
        assert 2000 <= form.year <= 2099


@pytest.mark.parametrize(
    ("name", "filename"),
    [
        ("BIR 1601-C 2026-01.pdf", "BIR 1601-C 2026-01.pdf"),
        ("../../etc/passwd", "passwd.pdf"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/absolute.pdf", "absolute.pdf"),
        ("..", "document.pdf"),
        ("", "document.pdf"),
        ("...pdf", "document.pdf"),
        (".hidden.pdf", "hidden.pdf"),
        ("a\0b\r\nc\x1b[2J.pdf", "a_b c_[2J.pdf".replace("[", "_")),
        ("Résumé ☃.pdf", "Resume _.pdf"),
        ("e\u0301.pdf", "e.pdf"),
        ("\u00e9.pdf", "e.pdf"),
        ("ﬁle.pdf", "file.pdf"),
        ("\u202efdp.exe", "_fdp.exe"),
        ("con.pdf", "_con.pdf"),
        ("LPT1", "_LPT1.pdf"),
        ("a%2f%2e%2e%2fb.pdf", "a_2f_2e_2e_2fb.pdf"),
        ("a?b#c&d=e.pdf", "a_b_c_d_e.pdf"),
        ("x" * 500 + ".pdf", "x" * (LONGEST - 4) + ".pdf"),
        ("name.", "name.pdf"),
        ("two  spaces\tand a tab.pdf", "two spaces and a tab.pdf"),
    ],
)
def test_filenames(name: str, filename: str) -> None:
    assert filename_of(name, "application/pdf") == filename


@given(st.text(max_size=400), st.sampled_from(["application/pdf", "", "text/html", "x"]))
@example("/" * 400, "")
@example("(" + "." * 200, "")
@example("\ud800/\udfff", "")
def test_every_name_becomes_one_plain_segment(name: str, mimetype: str) -> None:
    made = filename_of(name, mimetype)
    assert re.fullmatch(r"[A-Za-z0-9_(]([A-Za-z0-9_ ().+-]{0,198}[A-Za-z0-9_)])?", made)
    assert ".." not in made
    assert len(made) <= LONGEST
    assert made.split(".")[0].lower() not in {"con", "nul", "aux", "prn", "com1", "lpt9"}
    # Nothing is left to do the second time: made again, or seen by another system, it stays one and the same.
    assert filename_of(made, mimetype) == made


@pytest.mark.parametrize(
    ("code", "good"), [("1601-C", True), ("2307", True), ("2550Q", True), ("1601-c", False), ("", False)]
)
def test_form_types(code: str, good: bool) -> None:
    assert is_form_type(code) is good
