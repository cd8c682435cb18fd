"""Batches that come before their job is known wait for a moment, and are bounded."""

import pytest
from msgspec import Raw, msgpack

from common.protocol.messages import Batch
from common.worker import early_batches as module
from common.worker.early_batches import EarlyBatches


def batch(job: str, first: int = 0, size: int = 1) -> Batch:
    return Batch(job, "m:f", first, 1, 1, bytes(16), None, False, False, Raw(msgpack.encode([bytes(size)])))


def test_they_are_given_once_when_their_job_is_known() -> None:
    early = EarlyBatches(1.0)
    early.keep(0.0, batch("a", 0))
    early.keep(0.1, batch("b", 0))
    early.keep(0.2, batch("a", 1))
    assert [each.first for each in early.take({"a": b"", "c": b""})] == [0, 1]
    assert early.take({"a"}) == []
    assert early.deadline() == 1.1


def test_they_are_forgotten_after_a_moment() -> None:
    early = EarlyBatches(1.0)
    assert early.deadline() is None
    early.keep(0.0, batch("a", 0))
    early.keep(0.5, batch("a", 1))
    early.tick(0.9)
    early.tick(1.0)
    assert [each.first for each in early.take({"a"})] == [1]
    assert early.deadline() is None


def test_a_flood_of_them_takes_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BYTES_MAX", 10_000)
    early = EarlyBatches(1.0)
    for first in range(100):
        early.keep(0.0, batch("a", first, 1_000))
    assert [each.first for each in early.take({"a"})] == [96, 97, 98, 99]
    early.keep(0.0, batch("b", 0, 8_000))
    assert len(early.take({"b"})) == 1
