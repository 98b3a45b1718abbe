"""The face that server actions see: three calls, errors that a person can read, and nothing to hold on to."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from ipai_bridge import bridge
from ipai_bridge.errors import BridgeError
from ipai_bridge.server_action import FACE
from tests.bridge.fake_odoo import Odoo
from tests.bridge.fake_records import UserError
from tests.bridge.operating import execute

OFFER = r"ipai_bridge offers emit\(records, event_type, fields=…, payload=…\), relay\(env\) and sync"
TYPE = "res.partner.updated"

face: Any = FACE


def refusal(call: Any, *arguments: Any, **named: Any) -> str:
    """What the author of the server action reads; it leads back to nothing."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **named)
    assert type(caught.value) is UserError
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.mark.stack
def test_emit(odoo: Odoo, database: str) -> None:
    cursor = odoo.cursor()
    ids = face.emit(odoo.records(1, 2, cursor=cursor), TYPE, fields=["name"])
    ids += face.emit(odoo.records(3, cursor=cursor), TYPE, payload={"a": 1})
    cursor.commit()
    assert [row[0] for row in execute(database, "select id::text from ipai_bridge.outbox order by position")] == ids


@pytest.mark.stack
def test_relay(odoo: Odoo, receiving: Any, database: str) -> None:
    with odoo.cursor() as cursor:
        face.emit(odoo.records(1, 2, cursor=cursor), TYPE)
    env = odoo.records().env
    assert face.relay(env) == {"delivered": 2, "again": 0, "dead": 0}
    assert face.relay(env, max_seconds=5) == {"delivered": 0, "again": 0, "dead": 0}
    assert len(receiving.requests) == 2


@pytest.mark.stack
def test_errors_are_for_people(odoo: Odoo) -> None:
    records = odoo.records(1)
    assert refusal(face.emit, records, "no good").endswith("[event_invalid]")
    assert refusal(face.emit, records, TYPE, ["nme"]).endswith("did you mean 'name'? [unknown_field]")
    assert refusal(face.emit, records, TYPE, payload=5) == "payload must be a dict, not int [payload_error]"
    assert refusal(face.emit, records, 5).endswith("[event_invalid]")
    assert refusal(face.relay, records.env).startswith("url is not set")


@pytest.mark.stack
@pytest.mark.parametrize("seconds", ["60", None, 0, -1, float("nan"), float("inf")])
def test_a_time_that_is_none(odoo: Odoo, seconds: Any) -> None:
    assert "max_seconds must be a number of seconds" in refusal(face.relay, odoo.records().env, seconds)


@pytest.mark.stack
def test_wrong_arguments_say_what_is_offered(odoo: Odoo) -> None:
    records = odoo.records(1)
    wrong: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (face.emit, (), {}),
        (face.emit, (records,), {}),
        (face.emit, (records, TYPE, None, None), {}),
        (face.emit, (records, TYPE), {"payloads": {}}),
        (face.relay, (), {}),
        (face.relay, (records.env,), {"dsn": "x"}),
        (face.sync, (), {}),
        (face.sync, (records.env,), {}),
        (face.sync, (records.env, "finance", True), {}),
    ]
    for call, arguments, named in wrong:
        assert refusal(call, *arguments, **named).startswith("ipai_bridge offers emit(records, ")
    assert "write ipai_bridge.emit(records, …)" in refusal(face.emit, [1], TYPE)
    assert "write ipai_bridge.emit(records, …)" in refusal(face.emit, TYPE, records)
    assert "write ipai_bridge.relay(env)" in refusal(face.relay, records)
    assert 'write ipai_bridge.sync(env, "finance")' in refusal(face.sync, records, "finance")
    assert "full must be True or False" in refusal(face.sync, records.env, "finance", full="x")
    assert "there is no sync 'nothing': name one of" in refusal(face.sync, records.env, "nothing")


@pytest.mark.stack
def test_what_the_bridge_did_not_expect_passes_as_it_is(odoo: Odoo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A serialization failure must reach Odoo, which then runs the transaction again."""

    class SerializationError(Exception):
        pass

    def fail(*_: Any, **__: Any) -> None:
        raise SerializationError

    monkeypatch.setattr(bridge, "emit", fail)
    with pytest.raises(SerializationError):
        face.emit(odoo.records(1), TYPE)


@pytest.mark.stack
def test_an_error_raised_while_another_is_handled_carries_only_that(odoo: Odoo) -> None:
    own = KeyError("the author's own")
    try:
        raise own
    except KeyError:
        with pytest.raises(UserError) as caught:
            face.emit(odoo.records(1), "no good")
    assert caught.value.__context__ is own
    assert not isinstance(own.__context__, BridgeError)


HELD = ["_function", "_signature", "__class__", "__dict__", "__doc__", "__module__", "__call__", "__init__", "__self__"]
HELD += ["__globals__", "__func__", "__wrapped__", "__code__", "__slots__", "__reduce__", "__getattribute__", "bridge"]


@pytest.mark.parametrize("thing", [FACE, face.emit, face.relay, face.sync], ids=["face", "emit", "relay", "sync"])
@pytest.mark.parametrize("name", HELD)
def test_it_has_no_attributes(thing: Any, name: str) -> None:
    with pytest.raises(AttributeError, match=OFFER):
        getattr(thing, name)
    with pytest.raises(AttributeError, match=OFFER):
        ("{0." + name + "}").format(thing)
    with pytest.raises(AttributeError, match=OFFER):
        setattr(thing, name, None)
    with pytest.raises(AttributeError, match=OFFER):
        delattr(thing, name)
    with pytest.raises((AttributeError, TypeError)):
        ("{0[" + name + "]}").format(thing)


@pytest.mark.parametrize("name", ["emit", "relay", "sync"])
def test_its_calls_stay(name: str) -> None:
    call = getattr(face, name)
    with pytest.raises(AttributeError):
        setattr(face, name, None)
    with pytest.raises(AttributeError):
        delattr(face, name)
    assert getattr(face, name) is call


@pytest.mark.parametrize("thing", [FACE, face.emit], ids=["face", "call"])
def test_it_says_nothing_and_cannot_be_taken_along(thing: Any) -> None:
    for text in (repr(thing), str(thing), f"{thing}", f"{thing!a}", "%s" % thing):  # noqa: UP031
        assert text in ("<ipai_bridge>", "<a call of ipai_bridge>")
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError, copy.Error)):
            take(thing)
    with pytest.raises(TypeError):
        vars(thing)
    assert dir(thing) == []
