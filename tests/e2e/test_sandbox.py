"""What server-action authors reach through `ipai_bridge`: its three calls, and nothing behind them.

Each attempt is Python code of a real server action in a real Odoo. It tries to get hold of something through the
object, and raises it in an error for the author to read, behind a mark that does not stand in the code itself (Odoo's
errors repeat the code). Where the mark is read, something was reached.
"""

from __future__ import annotations

import pytest

from tests.e2e.scene import Scene

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

_BY_NAME = [
    "ipai_bridge.bridge",
    "ipai_bridge.errors",
    "ipai_bridge.os",
    "ipai_bridge.settings",
    "ipai_bridge.secret",
    "ipai_bridge.emit.func_globals",
    "ipai_bridge.emit.im_func",
    "ipai_bridge.emit.im_self",
    "ipai_bridge.emit.gi_frame",
    "ipai_bridge.emit._function",
    "ipai_bridge.emit._signature",
    "ipai_bridge.relay._function",
    "ipai_bridge._CALLS",
    "ipai_bridge.__class__",
    "ipai_bridge.__dict__",
    "ipai_bridge.__module__",
    "ipai_bridge.__init__.__globals__",
    "ipai_bridge.__getattribute__('emit')",
    "ipai_bridge.emit.__call__.__func__",
    "ipai_bridge.emit.__self__",
    "ipai_bridge.emit.__globals__",
    "ipai_bridge.emit.__closure__",
    "ipai_bridge.emit.__code__",
    "ipai_bridge.emit.__wrapped__",
    "ipai_bridge.emit.__reduce_ex__(2)",
    "getattr(ipai_bridge, 'emit')",
    "vars(ipai_bridge)",
    "dir(ipai_bridge)",
    "type(ipai_bridge)",
    "dict(ipai_bridge)",
    "list(ipai_bridge)",
    "list(ipai_bridge.emit)",
    "ipai_bridge['emit']",
    "len(ipai_bridge)",
    "[*ipai_bridge]",
    "(lambda **all: all)(**ipai_bridge)",
]
# Where a name with two underscores does not stand in the code but in a text, Odoo's check does not see it.
_BY_FORMAT = [
    "{0.__class__}",
    "{0.__class__.__mro__}",
    "{0.__doc__}",
    "{0.__module__}",
    "{0.__dict__}",
    "{0.__init__.__globals__}",
    "{0.__getattribute__}",
    "{0.__repr__.__func__.__globals__}",
    "{0.__class__.__init__.__globals__[os].environ}",
    "{0.emit.__class__}",
    "{0.emit.__func__}",
    "{0.emit.__func__.__globals__[os].environ}",
    "{0.emit.__globals__}",
    "{0.emit.__self__}",
    "{0.emit.__call__}",
    "{0.emit.__call__.__func__.__globals__}",
    "{0.emit._function.__globals__}",
    "{0.emit._signature}",
    "{0.relay.__class__.__subclasses__}",
    "{0.relay._function.__globals__[bridge]}",
    "{0.sync._function.__globals__[bridge]}",
    "{0.sync.__class__.__mro__}",
    "{0[emit]}",
]
_INSIDE = [
    # What a callable is given is the record, and what it raises comes back as a text.
    "ipai_bridge.emit(records, 'res.partner.x', fields=lambda record: {'a': ipai_bridge.emit})",
    "ipai_bridge.emit(records, 'res.partner.x', fields={'a': lambda record: env})",
    "ipai_bridge.emit(records, 'res.partner.x', fields={'a': lambda record: datetime})",
    "ipai_bridge.emit(records, 'res.partner.x', payload={'a': env})",
    "ipai_bridge.emit(records, 'res.partner.x', payload={'a': ipai_bridge})",
    "ipai_bridge.emit(ipai_bridge, 'res.partner.x')",
    "ipai_bridge.emit(env, 'res.partner.x')",
    "ipai_bridge.emit(datetime, 'res.partner.x')",
    "ipai_bridge.emit([record], 'res.partner.x')",
    "ipai_bridge.emit(records, 'res.partner.x', fields=['__class__'])",
    "ipai_bridge.emit(records, 'res.partner.x', fields=['env'])",
    "ipai_bridge.emit(records, 'res.partner.x', fields=['_cr'])",
    "ipai_bridge.emit(records, 'res.partner.x', fields=['parent_id.__class__'])",
    "ipai_bridge.emit(records, 'res.partner.x', fields=[ipai_bridge])",
    "ipai_bridge.emit(records, ipai_bridge)",
    "ipai_bridge.emit(records, 'res.partner.x', fields='/etc/passwd')",
    "ipai_bridge.emit(records, 'res.partner.x', instance='other')",
    "ipai_bridge.emit(records, 'res.partner.x', url='http://127.0.0.1:1')",
    "ipai_bridge.emit(records, 'res.partner.x', secret='x')",
    "ipai_bridge.relay(ipai_bridge)",
    "ipai_bridge.relay(records)",
    "ipai_bridge.relay({'cr': 1})",
    "ipai_bridge.relay(env, url='http://127.0.0.1:1')",
    "ipai_bridge.sync(ipai_bridge, 'finance')",
    "ipai_bridge.sync(records, 'finance')",
    "ipai_bridge.sync(env, '__class__')",
    "ipai_bridge.sync(env, ipai_bridge)",
    "ipai_bridge.sync(env, 'finance', source=env)",
    "ipai_bridge.sync(env, 'finance', url='http://127.0.0.1:1')",
    "ipai_bridge.sync(env, 'finance', full=ipai_bridge)",
    "ipai_bridge.sync(env(user=env.ref('base.public_user'), su=False), 'finance')",
    "ipai_bridge.sync._function",
]
_STATEMENTS = [
    "import ipai_bridge.bridge",
    "from ipai_bridge import bridge",
    "ipai_bridge.emit = 1",
    "ipai_bridge.FACE = 1",
    "del ipai_bridge.emit",
    "with ipai_bridge as leak:\n    raise UserError(chr(9762) + str(leak))",
    "class Leak(ipai_bridge):\n    pass",
    "for leak in ipai_bridge:\n    raise UserError(chr(9762) + str(leak))",
    "match ipai_bridge:\n    case object(emit=leak):\n        raise UserError(chr(9762) + str(leak))",
]
_ERRORS = [
    # What the errors of the calls carry.
    "{0.args[0].__class__.__init__.__globals__}",
    "{0.__context__.__traceback__}",
    "{0.__cause__.__traceback__}",
    "{0.obj}",
]

ATTEMPTS = [
    *(f"raise UserError(chr(9762) + str(({expression},)))" for expression in _BY_NAME),
    *(f"raise UserError(chr(9762) + {text!r}.format(ipai_bridge))" for text in _BY_FORMAT),
    *(f"raise UserError(chr(9762) + str(({expression},)))" for expression in _INSIDE),
    *_STATEMENTS,
]


MARK = chr(9762)


@pytest.mark.parametrize("code", ATTEMPTS)
def test_nothing_is_reached(scene: Scene, code: str) -> None:
    said = scene.refusal(code)
    assert MARK not in said
    assert scene.env["secret"] not in said
    assert scene.seen() == []


@pytest.mark.parametrize("text", _ERRORS)
def test_the_errors_of_the_calls_lead_nowhere(scene: Scene, text: str) -> None:
    code = f"""
found = "none"
try:
    ipai_bridge.emit(records, "BAD")
except Exception as error:
    try:
        found = {text!r}.format(error)
    except Exception:
        found = "none"
raise UserError(chr(9762) + found + chr(9762))
"""
    _, found, _ = scene.refusal(code).split(MARK)[:3]
    assert found.lower() == "none"


def test_there_are_at_least_forty_attempts() -> None:
    assert len(set(ATTEMPTS)) >= 40


def test_something_that_is_reached_would_be_noticed(scene: Scene) -> None:
    assert MARK in scene.refusal("raise UserError(chr(9762) + str((datetime,)))")


def test_its_calls_work_from_the_sandbox(scene: Scene) -> None:
    scene.relay.stop()
    scene.emit()
    scene.run("ipai_bridge.relay(env)")
    scene.until_completed(1)
    said = scene.refusal("raise UserError(chr(9762) + str(ipai_bridge.sync(env, 'modules')['status']))")
    assert f"{MARK}success" in said


def test_a_user_without_the_right_to_read_cannot_send(scene: Scene) -> None:
    code = """
public = env.ref("base.public_user")
ipai_bridge.emit(records.with_user(public), "res.partner.leaked", fields=["name", "email"])
"""
    assert "record_unreadable" in scene.refusal(code)
    assert scene.seen() == []
