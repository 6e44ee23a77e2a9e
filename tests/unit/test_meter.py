"""The usual meter measures now and then, however often it is asked."""

from __future__ import annotations

from cortical.engine.meter import SAMPLE_SECONDS, ProcessMeter
from cortical.testing import FakeClock


def test_it_measures_twice_a_second_at_most() -> None:
    """Asked again before half a second is over, it answers from its last sample; long after that, anew."""
    clock = FakeClock()
    meter = ProcessMeter(clock)
    meter.start()
    first = dict(meter.used())
    assert first["wall"] == 0
    for _ in range(4):
        clock.advance(SAMPLE_SECONDS / 5)
        assert dict(meter.used()) == first
    clock.advance(3600)
    assert meter.used()["wall"] > 3600


def test_a_clock_that_is_set_back_takes_nothing_away() -> None:
    """The wall time goes by seconds that only go on, and samples are taken on while the clock is behind."""
    clock = FakeClock()
    meter = ProcessMeter(clock)
    meter.start()
    meter.used()
    clock.now -= 60
    assert meter.used()["wall"] == 0
    clock.advance(1000)  # a sample that takes long puts off the next one by 200 times as long
    assert meter.used()["wall"] == 1000


def test_starting_again_measures_anew() -> None:
    """What grows with time is counted from the new start, and no older sample is told."""
    clock = FakeClock()
    meter = ProcessMeter(clock)
    meter.start()
    clock.advance(1000)
    assert meter.used()["wall"] == 1000
    meter.start()
    assert meter.used()["wall"] == 0
