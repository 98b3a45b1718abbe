"""URLs and DSNs: what is taken, what is refused, which project they name, and what of them may be printed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipai_bridge.endpoint import (
    DEPRECATED_PROJECTS,
    broken_dsn_rule,
    broken_url_rule,
    deprecated_project,
    shown_dsn,
    supabase_project_ref,
)

REF = "abcdefghijklmnopqrst"
OLD = "xkxyvoboeubffxxbebsll"


@pytest.mark.parametrize(
    "url",
    [
        f"https://{REF}.supabase.co/functions/v1", f"https://{REF}.supabase.co/functions/v1/",
        "https://supabase.example.com:8443/functions/v1", "https://x", "https://10.0.0.1/f", "https://[2001:db8::1]/f",
        "http://127.0.0.1:54321/functions/v1", "http://127.255.0.9/", "http://[::1]:8000/f", "http://localhost:1/f",
        "http://LOCALHOST/f", "HTTPS://X.CO/f", "https://x.co/my-odoo-webhook/v1", "https://under_score.x.co",
    ],
)  # fmt: skip
def test_urls_taken(url: str) -> None:
    assert broken_url_rule(url) is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://x.supabase.co/f", "https://"), ("http://192.168.1.1/f", "https://"),
        ("http://[2001:db8::1]/f", "https://"),
        ("http://127.0.0.1.evil.com/f", "https://"), ("http://localhost.evil.com/", "https://"),
        ("http://127.1/", "https://"), ("http://2130706433/", "https://"), ("http://0x7f.0.0.1/", "https://"),
        ("http://0.0.0.0/", "https://"), ("http://[::ffff:127.0.0.1]/", "https://"), ("http://localhost./", "https://"),
        ("https://user@x.co/", "no user"), ("https://user:pass1234@x.co/", "no user"), ("https://:@x.co/", "no user"),
        ("https://@x.co/", "no user"), ("http://127.0.0.1@evil.com/", "no user"), ("https://x.co\\@y.co/", "no user"),
        ("https://x.co\\y", "no user"), ("https://x.co/?a=1", "no query"), ("https://x.co/#f", "no query"),
        ("https://x.co/?", "no query"), ("https://x.co/#", "no query"), ("ftp://x.co/", "https://"),
        ("x.co/functions", "https://"), ("//x.co/", "https://"), ("javascript:alert(1)", "https://"),
        ("https:x.co", "host"),
        ("https://", "host"), ("https:///f", "host"), ("https://x.co:99999/", "host"), ("https://x.co:a/", "host"),
        ("https://x.co:0/", "host"), ("https://[::1/", "host"), ("https://-x.co/", "host"), ("https://x..co/", "host"),
        ("https://x.co:443:443/", "host"), ("https://x%2eco/", "host"), ("https://x.co/a b", "ASCII"),
        ("https://x.co/\n", "ASCII"), ("https://x.\tco/", "ASCII"), ("https://\uff58.co/", "ASCII"), ("", "ASCII"),
        ("https://x.co/functions/v1/odoo-webhook", "functions base"), ("https://x.co/odoo-webhook/", "functions base"),
    ],
)  # fmt: skip
def test_urls_refused(url: str, words: str) -> None:
    rule = broken_url_rule(url)
    assert rule is not None
    assert words in rule
    assert "pass1234" not in rule


@given(st.text(st.characters()) | st.text("htps:/@?#[]%.\\127 0xa\n", max_size=30).map("http://".__add__))
def test_any_text_is_taken_or_refused(url: str) -> None:
    if broken_url_rule(url) is None:
        assert url.isascii()
        assert "@" not in url.split("/")[2]


FULL_WIDTH = OLD.translate({ord(c): ord(c) + 0xFEE0 for c in "abcdefghijklmnopqrstuvwxyz"})


@pytest.mark.parametrize(
    "text",
    [
        OLD, OLD.upper(), OLD.title(), f"https://{OLD}.supabase.co/functions/v1", f"https://{OLD}.functions.supabase.co",
        f"https://x.co/projects/{OLD}/f", f"https://{OLD}.supabase.co.evil.com", f"http://127.0.0.1/{OLD}",
        f"postgresql://postgres.{OLD}:pw@aws-0-eu.pooler.supabase.com:6543/postgres",
        f"postgresql://postgres:pw@db.{OLD}.supabase.co:5432/postgres", f"host=h user=postgres.{OLD.upper()} dbname=x",
        f"host=h options='reference={OLD}'", f"postgresql://h/d?options=reference%3D{OLD}",
        "".join(f"%{ord(c):02x}" for c in OLD), "".join(f"%25{ord(c):02X}" for c in OLD), FULL_WIDTH,
        f"{OLD[:9]}\n{OLD[9:]}", f"{OLD[:9]} {OLD[9:]}", OLD[:20] + "%6c", "ublqmilcjtpnflofprkr",
        "db.UBLQMILCJTPNFLOFPRKR.x",
    ],
)  # fmt: skip
def test_a_deprecated_project_is_found_however_it_is_written(text: str) -> None:
    assert deprecated_project(text) in DEPRECATED_PROJECTS


@given(
    st.text("abcdefghijklmnopqrstuvwxyz", min_size=20, max_size=20),
    st.sampled_from(sorted(DEPRECATED_PROJECTS)),
    st.text(),
)
def test_another_project_is_not_mistaken_for_one(ref: str, old: str, around: str) -> None:
    if ref not in DEPRECATED_PROJECTS:
        assert deprecated_project(f"https://{ref}.supabase.co/") is None
    assert deprecated_project(around + old + around) is not None


@pytest.mark.parametrize("text", ["", "%", "%%%", "%zz", "https://x.co/%25252525", OLD[:-1]])
def test_what_is_near_is_not_it(text: str) -> None:
    assert deprecated_project(text) is None


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        (f"https://{REF}.supabase.co/functions/v1", REF), (f"https://{REF.upper()}.SUPABASE.CO", REF),
        (f"https://{REF}.functions.supabase.co/", REF), (f"https://{REF}.supabase.co:443/", REF),
        (f"postgresql://postgres:pw@db.{REF}.supabase.co:5432/postgres", REF),
        (f"postgresql://postgres.{REF}:pw@aws-0-eu-west-1.pooler.supabase.com:6543/postgres", REF),
        (f"host=db.{REF}.supabase.co dbname=postgres password=x", REF),
        (f"host=aws-0.pooler.supabase.com user=postgres.{REF}", REF),
        (f"https://{REF}.supabase.co.evil.com/", None), (f"https://{REF}.example.com/", None),
        ("http://127.0.0.1/", None),
        ("postgresql://postgres.staging@db.example.com/x", None), ("https://[::1/", None), ("", None), (None, None),
        ("https://supabase.co/", None), ("https://api.supabase.co/", None), ("dbname=odoo", None),
    ],
)  # fmt: skip
def test_the_project_that_is_named(text: str | None, ref: str | None) -> None:
    assert supabase_project_ref(text) == ref


@pytest.mark.parametrize("dsn", ["postgresql:///odoo", "postgres://h/db", "dbname=odoo", "host=/run/pg", "service=x"])
def test_dsns_taken(dsn: str) -> None:
    assert broken_dsn_rule(dsn) is None


@pytest.mark.parametrize("dsn", ["odoo", "mysql://h/db", "https://h/db", "host=a\x00"])
def test_dsns_refused(dsn: str) -> None:
    assert "PostgreSQL URI" in str(broken_dsn_rule(dsn))


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://u:hidden@h:5432/db", "postgresql://u:***@h:5432/db"),
        ("postgresql://u:hidden@h1:1,h2:2/db?password=hidden", "postgresql://u:***@h1:1,h2:2/db"),
        ("postgres://u@h/db", "postgres://u@h/db"), ("postgresql:///db?user=u&password=hidden", "postgresql:///db"),
        ("postgresql://u:@[::1]/db", "postgresql://u:***@[::1]/db"), ("postgresql://:hidden@h", "postgresql://:***@h"),
        ("postgresql://u:hid den@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:hidden\n@h", "postgresql://u:***@h"),
        ("host=h password=hidden user=u dbname=d", "host=h dbname=d user=u"), ("password='hidden it'", "(set)"),
        ("host = h  password = 'hid\\'den it' port='5432' ", "host=h port=5432"),
        ("service=x sslpassword=hidden", "(set)"),
        ("host='/run/post gres' options='-c x=hidden'", "host=/run/post gres"),
    ],
)  # fmt: skip
def test_what_is_shown_of_a_dsn(dsn: str, shown: str) -> None:
    assert shown_dsn(dsn) == shown


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:hid/den@h/db", "postgresql://u:hidden@part@h/db", "postgresql://u:hid#den@h/db",
        "postgresql://u:hid?den@h/db", "host=h password=hidden it", "host=h password='hidden",
        "password=hid\\ den host=h", "password = hidden,x y", "hidden", "postgresql://u:hidden",
    ],
)  # fmt: skip
def test_a_dsn_that_is_not_plain_is_not_shown(dsn: str) -> None:
    shown = shown_dsn(dsn)
    assert shown.startswith("(set; not shown")


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=6),
    st.sampled_from(["postgresql://u:{}@h/db", "postgresql://u:{}@h:5432", "host=h password={} user=u", "password={}",
                     "postgresql://h/db?password={}", "host=h password='{}' port=1"]),
)  # fmt: skip
def test_a_password_is_never_shown(password: str, form: str) -> None:
    marked = "Q7x" + password + "Zk9"
    shown = shown_dsn(form.replace("{}", marked))
    assert "Q7x" not in shown or "Q7x" in password
    assert marked not in shown


@pytest.mark.parametrize(
    "dsn", ["postgresql://" + "1,:" * 5000 + "!", "postgresql://" + "a" * 50_000 + "!", "a=b " * 9999 + "!"]
)
def test_no_dsn_takes_long(dsn: str) -> None:
    started = time.monotonic()
    shown_dsn(dsn)
    supabase_project_ref(dsn)
    assert time.monotonic() - started < 5
