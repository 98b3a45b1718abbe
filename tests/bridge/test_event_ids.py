"""Ids: RFC 9562's version 7, and a later one sorts later whatever clock, threads and forks do."""

from __future__ import annotations

import os
import pickle
import threading
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipai_bridge import event
from ipai_bridge.errors import EventInvalid
from ipai_bridge.event import IdSource, new_id, next_id, next_ids

NOW = 1_767_225_600_123


def milliseconds(id: UUID) -> int:
    return id.int >> 80


def clock(readings: Sequence[int]) -> Callable[[], int]:
    return iter(readings).__next__


def test_the_example_of_the_rfc() -> None:
    # RFC 9562, appendix A.6: unix_ts_ms 0x017F22E279B0, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F.
    random = (0xCC3 << 62 | 0x18C4DC0C0C07398F) << 6
    assert new_id(0x017F22E279B0, random.to_bytes(10, "big")) == UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_every_id_is_a_uuid_of_version_7_that_holds_its_time(now_ms: int, entropy: bytes) -> None:
    id = new_id(now_ms, entropy)
    assert id.version == 7
    assert id.variant == RFC_4122
    assert milliseconds(id) == now_ms


@given(st.tuples(st.integers(0, 2**40), st.binary(min_size=10, max_size=10)), st.integers(1, 2**20))
def test_a_later_millisecond_sorts_later_as_number_and_as_text(first: tuple[int, bytes], later: int) -> None:
    a, b = new_id(*first), new_id(first[0] + later, bytes(10))
    assert a < b
    assert str(a) < str(b)
    assert a.bytes < b.bytes


@pytest.mark.parametrize(
    ("now_ms", "entropy"), [(-1, bytes(10)), (2**48, bytes(10)), (NOW, bytes(9)), (NOW, bytes(11))]
)
def test_out_of_range_is_refused(now_ms: int, entropy: bytes) -> None:
    with pytest.raises(EventInvalid):
        new_id(now_ms, entropy)


@given(
    st.lists(st.tuples(st.integers(NOW - 5, NOW + 5), st.integers(0, 5)), max_size=30),
    st.randoms(use_true_random=False),
    st.sampled_from([0, 255, None]),
)
def test_later_sorts_later_whatever_clock_and_randomness_do(
    draws: list[tuple[int, int]], random: object, byte: int | None
) -> None:
    randbytes: Callable[[int], bytes] = random.randbytes  # type: ignore[attr-defined]
    source = IdSource(
        clock([now for now, n in draws if n]), lambda n: randbytes(n) if byte is None else bytes([byte]) * n
    )
    ids = [id for _, n in draws for id in source.next_ids(n)]
    assert len(ids) == sum(n for _, n in draws)
    assert all(a < b for a, b in pairwise(ids))
    assert all(id.version == 7 and id.variant == RFC_4122 for id in ids)


def test_a_clock_that_steps_back_an_hour_does_not_reorder() -> None:
    source = IdSource(clock([NOW, NOW - 3_600_000, NOW + 1]))
    first, second, third = source.next_id(), source.next_id(), source.next_id()
    assert first < second < third
    assert milliseconds(third) == NOW + 1


def test_the_time_of_a_new_millisecond_is_exact() -> None:
    source = IdSource(clock([NOW, NOW + 7]))
    assert [milliseconds(source.next_id()) for _ in range(2)] == [NOW, NOW + 7]


def test_no_ids_reads_neither_clock_nor_randomness() -> None:
    assert IdSource(clock([]), lambda n: 1 // 0 * bytes(n)).next_ids(0) == []


def test_threads_share_one_order_without_repetition() -> None:
    source = IdSource()
    drawn: list[list[UUID]] = [[] for _ in range(8)]
    start = threading.Barrier(len(drawn))

    def draw(ids: list[UUID]) -> None:
        start.wait(10)
        for _ in range(200):
            ids.extend(source.next_ids(5))

    threads = [threading.Thread(target=draw, args=(ids,)) for ids in drawn]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert all(ids == sorted(ids) for ids in drawn)
    assert len({id for ids in drawn for id in ids}) == 8 * 200 * 5


def in_child(work: Callable[[], object]) -> object:
    """What `work` gives in a forked child; an exception there is what is given."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():  # from 3.12 on, a fork beside a thread warns: that it goes well is what is tested
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            result: object = work()
        except BaseException as error:  # noqa: BLE001 -- the child may only write and go
            result = repr(error)
        os.write(writer, pickle.dumps(result))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        data = answer.read()
    os.waitpid(child, 0)
    return pickle.loads(data)  # noqa: S301 -- from our own child


def test_a_forked_child_goes_on_later_and_never_repeats_its_parent() -> None:
    # The worst case for randomness: parent and child in one millisecond, with the same state.
    source = IdSource(lambda: NOW)
    before = source.next_id()
    of_child = in_child(lambda: source.next_ids(3))
    of_parent = source.next_ids(3)
    assert isinstance(of_child, list)
    assert before < min(of_parent)
    assert before < min(of_child)
    assert not set(of_child) & set(of_parent)


def test_a_child_forked_while_another_thread_draws_is_not_stuck() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow_clock() -> int:
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            go_on.wait(30)
        return NOW

    source = IdSource(slow_clock)
    thread = threading.Thread(target=source.next_id)
    thread.start()
    assert inside.wait(10), "the thread holds the source's lock now"
    try:
        of_child = in_child(source.next_id)
    finally:
        go_on.set()
        thread.join(10)
    assert isinstance(of_child, UUID)


def test_the_process_has_one_source() -> None:
    ids = [next_id(), *next_ids(3), next_id()]
    assert ids == sorted(set(ids))


def test_a_source_that_is_gone_is_not_kept_for_forks() -> None:
    before = len(event._sources)
    source = IdSource()
    assert len(event._sources) == before + 1
    del source
    assert len(event._sources) == before
