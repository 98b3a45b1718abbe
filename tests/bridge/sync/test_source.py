"""The two ways into Odoo: what each asks for, and what its failures become."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date, datetime
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from ipai_bridge.errors import OdooRefused, OdooUnavailable
from ipai_bridge.sync.source import EnvSource, RpcSource
from tests.bridge.delivery.receiver import answer, receiver


class UserError(Exception):
    pass


class Records:
    forgotten: ClassVar[list[int]] = []

    def __init__(self, context: dict[str, Any]) -> None:
        self.context = context
        self.ids: tuple[int, ...] = ()

    def browse(self, ids: Any) -> Records:
        self.ids = tuple(ids) if isinstance(ids, list) else (ids,)
        return self

    @property
    def raw(self) -> bytes | bool:
        if self.ids == (9,):
            raise UserError("not yours")
        return b"%PDF" if self.ids == (7,) else False

    def invalidate_recordset(self, names: list[str], *, flush: bool) -> None:
        assert (names, flush) == (["raw", "datas", "db_datas"], False)

    def search_read(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        written = datetime(2026, 1, 2, 3, 4, 5, 678)  # noqa: DTZ001 -- Odoo's are naive
        return [{"id": 1, "asked": (args, kwargs), "written": written, "date": date(2026, 1, 2), **self.context}]

    def get_external_id(self) -> dict[int, str]:
        return {number: f"x.{number}" for number in self.ids}

    def search(self, *_: Any) -> None:
        raise UserError("not yours")

    def invalidate_model(self) -> None:
        self.forgotten.append(1)


class Env:
    def __init__(self, context: dict[str, Any]) -> None:
        self.context = context
        now = datetime(2026, 5, 6, 7, 8, 9, 10)  # noqa: DTZ001
        self.cr = SimpleNamespace(now=lambda: now, dbname="prod")

    def __call__(self, *, context: dict[str, Any]) -> Env:
        return Env(context)

    def __getitem__(self, model: str) -> Records:
        if model == "no.model":
            raise KeyError(model)
        return Records(self.context)


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Env:
    for name, members in (("odoo", {}), ("odoo.exceptions", {"UserError": UserError})):
        module = ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["odoo"].release = SimpleNamespace(version="19.0+e")  # type: ignore[attr-defined]
    return Env({"tz": "Europe/Berlin"})


def test_inside_odoo_the_values_are_those_of_rpc(env: Env) -> None:
    source = EnvSource(env)
    [row] = source.call("res.partner", "search_read", [("id", ">", 0)], ["name"], limit=5)
    assert row == {
        "id": 1, "asked": [[[["id", ">", 0]], ["name"]], {"limit": 5}], "written": "2026-01-02 03:04:05",
        "date": "2026-01-02", "active_test": False, "lang": "en_US", "tz": "Europe/Berlin",
    }  # fmt: skip
    assert source.call("res.partner", "get_external_id", [3, 4]) == {"3": "x.3", "4": "x.4"}
    assert source.clock() == "2026-05-06 07:08:09"
    assert (source.edition, source.database) == ("enterprise", "prod")


def test_inside_odoo_nothing_is_remembered_of_what_was_read(env: Env) -> None:
    Records.forgotten.clear()
    EnvSource(env).call("res.partner", "search_read", [], ["name"])
    assert len(Records.forgotten) == 1


@pytest.mark.parametrize("model", ["res.partner", "no.model"])
def test_inside_odoo_a_refusal_says_of_what(env: Env, model: str) -> None:
    with pytest.raises(OdooRefused, match=f"may read {model}"):
        EnvSource(env).call(model, "search", [])


def say(text: str) -> Callable[..., bool]:
    return answer(200, text.encode(), content_type="application/json")


LOGGING_IN = ('{"result":{"server_version":"19.0"}}', '{"result":2}', '{"result":{"lang":"en_US"}}')


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


def test_by_rpc_a_failed_connection_is_tried_again_and_then_explained(no_proxy: None) -> None:
    slept: list[float] = []
    with receiver() as server:
        server.script.extend(map(say, LOGGING_IN))
        source = RpcSource(
            f"http://127.0.0.1:{server.port}", "d", "u", "hidden-password", timeout=5, sleep=slept.append
        )
        assert (source.edition, source.database) == ("ce", "d")
        server.script.extend([answer(502, b"<html>"), say('{"result":[{"id":1}]}')])
        assert source.call("m", "search_read", [], ["name"]) == [{"id": 1}]
        assert slept == [1.0]
        server.default = answer(502, b"<html>")
        with pytest.raises(OdooUnavailable, match="check odoo_url") as caught:
            source.call("m", "search", [])
        assert "hidden-password" not in str(caught.value)
        assert slept == [1.0, 1.0, 2.0]
        server.default = say('{"error":{"message":"Odoo Server Error","data":{"message":"Access Denied"}}}')
        with pytest.raises(OdooRefused, match="may read m"):
            source.call("m", "search", [])
        assert source.clock() is None
        assert b'"active_test": false' in server.requests[-1].body


def test_inside_odoo_a_content_is_its_bytes(env: Env) -> None:
    source = EnvSource(env)
    assert source.content(7) == b"%PDF"
    assert source.content(8) == b""
    with pytest.raises(OdooRefused, match=r"ir\.attachment"):
        source.content(9)


@pytest.mark.parametrize(
    ("rows", "content"),
    [
        ([{"datas": "JVBERg=="}], b"%PDF"),
        ([{"datas": False}], b""),
        ([], None),
        ([{"datas": "J"}], None),
        ([{"datas": 5}], None),
    ],
)
def test_by_rpc_a_content_is_decoded(rows: list[dict[str, Any]], content: bytes | None) -> None:
    source = RpcSource.__new__(RpcSource)
    source.call = lambda *_args, **_options: rows  # type: ignore[method-assign]
    if content is not None:
        assert source.content(7) == content
        return
    with pytest.raises(OdooRefused):
        source.content(7)
