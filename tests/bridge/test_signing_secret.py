"""Secrets: the two forms, what is weak, and that no way of printing or storing one shows it."""

from __future__ import annotations

import base64
import copy
import dataclasses
import hashlib
import hmac
import json
import logging
import pickle
import pprint
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipai_bridge.errors import WeakSecret
from ipai_bridge.secret import Secret, generate_secret

VECTOR = "whsec_0123456789abcdef0123456789abcdef"
OTHER = "an existing deployment's own secret"

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)


def standard(n: int, byte: bytes = b"k") -> str:
    return "whsec_" + base64.b64encode(byte * n).decode()


@dataclasses.dataclass
class Holder:
    secret: Secret


@pytest.mark.parametrize("text", [VECTOR, OTHER])
@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        ascii,
        "{}".format,
        "{!r:>60}".format,
        lambda s: f"{s}",
        lambda s: f"{s:>40}",
        lambda s: "%s %r" % (s, s),  # noqa: UP031
        pprint.pformat,
        lambda s: repr([s]),
        lambda s: repr(Holder(s)),
        lambda s: repr(dataclasses.asdict(Holder(s))),
        lambda s: json.dumps(s, default=str),
    ],
)
def test_it_prints_as_its_fingerprint(text: str, show: Any) -> None:
    secret = Secret(text)
    assert text not in show(secret)
    assert text[6:20] not in show(secret)
    assert secret.fingerprint in show(secret)


def test_a_log_line_does_not_show_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("signed with %s, %r", Secret(VECTOR), Secret(OTHER))
    assert VECTOR not in caplog.text
    assert OTHER not in caplog.text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_never_pickled(protocol: int) -> None:
    for value in (Secret(VECTOR), Holder(Secret(OTHER))):
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(value, protocol)


def test_it_gives_no_state() -> None:
    with pytest.raises(TypeError):
        Secret(VECTOR).__getstate__()
    with pytest.raises(TypeError):
        vars(Secret(VECTOR))
    with pytest.raises(TypeError):
        json.dumps(Secret(VECTOR))


def test_copies_are_itself() -> None:
    secret = Secret(VECTOR)
    assert copy.copy(secret) is secret
    assert copy.deepcopy(Holder(secret)).secret is secret


def test_it_does_not_change() -> None:
    secret = Secret(VECTOR)
    for name in ("fingerprint", "is_weak", "_text", "new"):
        with pytest.raises(AttributeError):
            setattr(secret, name, "x")
        with pytest.raises(AttributeError):
            delattr(secret, name)


def test_a_traceback_with_local_variables_does_not_show_it() -> None:
    def use(secret: Secret) -> None:
        raise ValueError(f"failed with {secret}")

    try:
        use(Secret(VECTOR))
    except ValueError as error:
        report = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "use(Secret" in report
    assert "0123456789abcdef0123456789abcdef" not in report


@pytest.mark.parametrize(
    "text", ["", "hidden\x00hidden-hidden-hidden", "hidden\ud800-hidden-hidden-hidden", None, b"hidden"]
)
def test_what_cannot_be_a_key_is_refused_without_showing_it(text: Any) -> None:
    with pytest.raises(WeakSecret) as caught:
        Secret(text)
    assert caught.value.__context__ is None
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    inner = [frame for frame in frames if frame.name == "__init__"]
    assert len(inner) == 1
    assert "hidden" not in repr(inner[0].locals)
    assert "hidden" not in str(caught.value)


def test_reveal_is_the_one_way_to_the_text() -> None:
    assert Secret(VECTOR).reveal() == VECTOR


@given(texts, texts)
def test_equality_is_that_of_the_texts(a: str, b: str) -> None:
    assert (Secret(a) == Secret(b)) == (a == b)
    assert Secret(a) == Secret(a)
    assert hash(Secret(a)) == hash(Secret(a))


def test_it_is_not_equal_to_its_text() -> None:
    assert Secret(VECTOR) != VECTOR
    assert VECTOR not in {Secret(VECTOR)}


@given(texts)
def test_the_macs_are_those_of_the_whole_text_and_of_the_decoded_bytes(text: str) -> None:
    mac = Secret(text).text_mac()
    mac.update(b"message")
    assert mac.digest() == hmac.digest(text.encode(), b"message", "sha256")


@given(st.binary(min_size=24, max_size=64))
def test_standard_secrets_key_their_webhook_mac_with_the_bytes(key: bytes) -> None:
    secret = Secret("whsec_" + base64.b64encode(key).decode())
    assert secret.is_standard
    assert not secret.is_weak
    mac = secret.key_mac()
    assert mac is not None
    mac.update(b"message")
    assert mac.digest() == hmac.digest(key, b"message", "sha256")


def test_a_mac_is_new_each_time() -> None:
    secret = Secret(VECTOR)
    secret.text_mac().update(b"x")
    assert secret.text_mac().digest() == hmac.digest(VECTOR.encode(), b"", "sha256")


@pytest.mark.parametrize(
    ("text", "is_standard", "is_weak"),
    [
        (VECTOR, True, False),
        (OTHER, False, False),
        ("whsec_previous_previous_previous_0000", False, False),
        (standard(24), True, False),
        (standard(64), True, False),
        (standard(65), False, False),
        (standard(23), False, True),
        (standard(16), False, True),
        (standard(32).rstrip("="), False, False),
        (standard(32) + "=", False, False),
        (standard(32)[:-3] + "-_=", False, False),
        (standard(32) + "\n", False, False),
        ("WHSEC_" + standard(32)[6:], False, False),
        ("whsec_", False, True),
        ("x" * 23, False, True),
        ("x" * 24, False, False),
        ("é" * 12, False, False),
        ("é" * 11, False, True),
    ],
)
def test_the_forms(text: str, is_standard: bool, is_weak: bool) -> None:
    secret = Secret(text)
    assert (secret.is_standard, secret.is_weak) == (is_standard, is_weak)
    assert (secret.key_mac() is not None) == is_standard


def test_the_fingerprint_is_stable_and_is_not_the_hash_of_the_secret() -> None:
    assert Secret(VECTOR).fingerprint == "9e4806e5"
    assert Secret(VECTOR).fingerprint != hashlib.sha256(VECTOR.encode()).hexdigest()[:8]


def test_generated_secrets_are_standard_and_of_32_bytes() -> None:
    made = [generate_secret() for _ in range(50)]
    assert len(set(made)) == 50
    for secret in made:
        assert secret.is_standard
        assert len(base64.b64decode(secret.reveal().removeprefix("whsec_"), validate=True)) == 32
