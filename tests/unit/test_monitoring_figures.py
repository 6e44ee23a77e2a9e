"""Figures from events: metrics, their text for Prometheus, and progress."""

from __future__ import annotations

import math
import random
import re

import pytest

from cortical.core import rules
from cortical.core.errors import InvalidInput, RunNotFound, WrongType
from cortical.core.outcome import Abandoned, Failed
from cortical.monitoring import EventBus, Metrics, ProgressReport
from cortical.monitoring.histogram import ERROR, Histogram
from cortical.testing import FakeClock
from tests.unit.walked import Walked


@pytest.fixture
def walked(clock: FakeClock) -> Walked:
    """No runs yet."""
    return Walked(clock)


FAILED = Failed.of(ValueError("no"))


# Metrics


def test_iterations_failures_and_recoveries_are_counted(walked: Walked) -> None:
    """Finished turns, failed attempts and tries to recover are counted, each failure once."""
    walked.loop()
    walked.turn(2)
    walked.note("attempt", {"attempt": 1, "error": "ValueError: no"})
    walked.note("recovery", {"strategy": "retry", "success": True})
    walked.turn(4)
    walked.note("attempt", {"attempt": 1, "error": "ValueError: no"})
    walked.end(FAILED)  # with the error of that attempt
    walked.loop("other")
    walked.end(FAILED, "other")  # of which no attempt told
    told = Metrics.of(walked.journal).snapshot()
    assert {key: told["runs"]["r"][key] for key in ("iterations", "failures", "recoveries")} == {
        "iterations": 2,
        "failures": 2,
        "recoveries": 1,
    }
    assert told["runs"]["other"]["failures"] == 1
    assert told["overall"]["failures"] == 3
    assert told["runs"]["r"]["status"] == "failed"
    assert told["started"] == {"loop": 2}
    assert told["ended"] == {"loop": {"failed": 2}}


def test_seconds_leave_out_what_held_the_run_up(walked: Walked) -> None:
    """Pauses by hand and blocks are no part of an iteration's seconds; the last counts when it ended well."""
    walked.loop()
    walked.clock.advance(1)
    walked.journal.change("r", rules.pause, "")
    walked.clock.advance(100)
    walked.journal.change("r", rules.resume)
    walked.turn(2)
    walked.clock.advance(5)
    walked.end()
    seconds = Metrics.of(walked.journal).snapshot()["overall"]["seconds_per_iteration"]
    assert (seconds["count"], seconds["total"], seconds["mean"], seconds["max"]) == (2, 8.0, 4.0, 5.0)


def test_an_abandoned_iteration_does_not_count(walked: Walked) -> None:
    """The turn in which a run was abandoned was not finished; one whose result is noted is, and only once."""
    walked.loop()
    walked.turn(1)
    walked.end(Abandoned("enough"))
    walked.loop("other")
    walked.clock.advance(3)
    walked.note("result", 1, "other")
    walked.end(run_id="other")
    runs = Metrics.of(walked.journal).snapshot()["runs"]
    assert (runs["r"]["iterations"], runs["other"]["iterations"]) == (1, 1)


def test_live_and_from_the_log_are_the_same(walked: Walked) -> None:
    """What was counted as it happened is what the log gives afterwards, and taking events again changes nothing."""
    live = Metrics()
    with EventBus(walked.journal) as bus:
        bus.on(live.take)
        walked.loop()
        for number in range(5):
            walked.turn(number)
        walked.note("resources", {"memory": 12.5})
        walked.end()
        assert bus.flush(20)
    stored = Metrics.of(walked.journal)
    assert live.snapshot() == stored.snapshot() == Metrics.of(walked.journal, "r").snapshot()
    live.take_all(walked.journal.events("r"))
    assert live.snapshot() == stored.snapshot()


def test_resources_that_are_no_numbers_are_left_out(walked: Walked) -> None:
    """Of what is told, numbers count; nan, texts, True and what is too large do not; the largest is kept."""
    walked.loop()
    walked.note("resources", {"memory": 300, "cpu": math.nan, "files": "many", "on": True, "huge": 10**400})
    walked.note("resources", {"memory": 200.0})
    walked.note("resources", None)
    told = Metrics.of(walked.journal).snapshot()["runs"]["r"]
    assert told["resources"] == {"memory": 200.0}
    assert told["resources_most"] == {"memory": 300.0}


def test_ended_runs_are_kept_up_to_a_number(walked: Walked) -> None:
    """Of runs that ended only the latest are kept one by one; the sums have all, and a late note brings none back."""
    metrics = Metrics(keep_ended=3)
    for number in range(2000):
        walked.loop(str(number))
        walked.end(run_id=str(number))
        metrics.take_all(walked.journal.events(str(number)))
    walked.note("recovery", {}, "0")
    metrics.take(walked.journal.events("0")[-1])
    told = metrics.snapshot()
    assert sorted(told["runs"]) == ["1997", "1998", "1999"]
    assert told["overall"]["iterations"] == 2000
    assert told["overall"]["recoveries"] == 1


def test_what_metrics_refuse(walked: Walked) -> None:
    """An unknown run and a number of runs that is none are refused."""
    with pytest.raises(RunNotFound):
        Metrics.of(walked.journal, "nobody")
    with pytest.raises(InvalidInput):
        Metrics(keep_ended=-1)
    with pytest.raises(WrongType):
        Metrics(keep_ended=True)


def test_quantiles_are_within_their_error() -> None:
    """Of ten thousand values over nine decades, each quantile is within 2 % of the true one, in a bounded room."""
    histogram = Histogram()
    chance = random.Random(7)
    values = sorted(10 ** chance.uniform(-5, 4) for _ in range(10_000))
    for value in values:
        histogram.add(value)
    for share in (0.01, 0.5, 0.95, 1.0):
        true = values[math.ceil(share * len(values)) - 1]
        assert histogram.quantile(share) == pytest.approx(true, rel=ERROR)
    assert histogram.mean == pytest.approx(sum(values) / len(values))
    assert len(histogram._buckets) < 865


def test_odd_durations() -> None:
    """Nothing, less than nothing, more than all time and what is no number are taken without harm."""
    histogram = Histogram()
    assert histogram.snapshot() == {"count": 0, "total": 0.0, "mean": None, "p50": None, "p95": None, "max": None}
    for value in (math.nan, math.inf, -math.inf):
        histogram.add(value)
    assert histogram.count == 0
    for value in (0.0, -3.0):
        histogram.add(value)
    assert histogram.quantile(0.95) == 0.0
    histogram.add(1e300)
    assert histogram.most == 1e300
    assert histogram.quantile(1.0) == pytest.approx(1e9, rel=ERROR)


# Prometheus


def test_prometheus_text(walked: Walked) -> None:
    """The text is that of the format: help and type before the samples of each name, which stand together."""
    walked.loop()
    walked.turn(2)
    walked.note("resources", {"memory": 10})
    walked.end(Abandoned("enough"))
    text = Metrics.of(walked.journal).prometheus()
    assert text == (
        "# HELP cortical_runs_started_total Runs that were started.\n"
        "# TYPE cortical_runs_started_total counter\n"
        'cortical_runs_started_total{kind="loop"} 1\n'
        "# HELP cortical_runs_ended_total Runs that have ended, by how.\n"
        "# TYPE cortical_runs_ended_total counter\n"
        'cortical_runs_ended_total{kind="loop",status="abandoned"} 1\n'
        "# HELP cortical_iterations_total Iterations that were finished.\n"
        "# TYPE cortical_iterations_total counter\n"
        'cortical_iterations_total{kind="loop"} 1\n'
        "# HELP cortical_failures_total Attempts that failed, and runs that failed without one.\n"
        "# TYPE cortical_failures_total counter\n"
        'cortical_failures_total{kind="loop"} 0\n'
        "# HELP cortical_recoveries_total Tries to recover a run.\n"
        "# TYPE cortical_recoveries_total counter\n"
        'cortical_recoveries_total{kind="loop"} 0\n'
        "# HELP cortical_iteration_seconds Seconds of an iteration, without those it was held up.\n"
        "# TYPE cortical_iteration_seconds summary\n"
        'cortical_iteration_seconds{kind="loop",quantile="0.5"} 2.0\n'
        'cortical_iteration_seconds{kind="loop",quantile="0.95"} 2.0\n'
        'cortical_iteration_seconds_sum{kind="loop"} 2.0\n'
        'cortical_iteration_seconds_count{kind="loop"} 1\n'
        "# HELP cortical_resource_used What was told last of a resource.\n"
        "# TYPE cortical_resource_used gauge\n"
        'cortical_resource_used{kind="loop",resource="memory"} 10.0\n'
        "# HELP cortical_resource_used_most The most that was told of a resource.\n"
        "# TYPE cortical_resource_used_most gauge\n"
        'cortical_resource_used_most{kind="loop",resource="memory"} 10.0\n'
    )


_SAMPLE = re.compile(r'[a-zA-Z_]\w*\{(\w+="(\\\\|\\n|\\"|[^"\\\n])*",?)*\} (NaN|[+-]Inf|[-+.e\d]+)')


@pytest.mark.parametrize(
    "odd", ['a "b"', "back\\slash", "two\nlines", "ἄλφα ✓ 🙂", "\\n", "\udc80 alone", "{},=", "\r\x00"]
)
def test_odd_labels_are_escaped(walked: Walked, odd: str) -> None:
    """Whatever a run or resource is called, each line is a sample that can be read, and the text is UTF-8."""
    walked.loop(name=odd, kind=odd)
    walked.note("resources", {odd: math.inf, "less": -math.inf})
    text = Metrics.of(walked.journal).prometheus(per_run=True)
    text.encode()
    samples = [line for line in text.split("\n")[:-1] if not line.startswith("#")]
    assert samples
    assert all(_SAMPLE.fullmatch(line) for line in samples), samples
    assert any(line.endswith(" +Inf") for line in samples)
    assert any(line.endswith(" NaN") for line in samples)  # no iteration yet, so no quantile


def test_prometheus_keeps_its_order(walked: Walked) -> None:
    """The same figures are the same text, in whatever order they were counted."""
    walked.loop("b", kind="zeta")
    walked.loop("a", kind="alpha")
    forwards, backwards = Metrics(), Metrics()
    for run_id in ("a", "b"):
        forwards.take_all(walked.journal.events(run_id))
    for run_id in ("b", "a"):
        backwards.take_all(walked.journal.events(run_id))
    assert forwards.prometheus(per_run=True) == backwards.prometheus(per_run=True)


# Progress


def test_progress_of_a_limited_loop(walked: Walked) -> None:
    """Iterations against their limit; rate and end come with the first that is finished."""
    walked.loop()
    walked.note("limits", {"max_iterations": 10, "timeout": 60.0})
    assert ProgressReport.of(walked.journal, "r") == ProgressReport("r", 0, 10, 0.0, None, None)
    walked.turn(2)
    walked.turn(2)
    walked.clock.advance(50)  # of the one that is open nothing is concluded
    assert ProgressReport.of(walked.journal, "r") == ProgressReport("r", 2, 10, 0.2, 0.5, 16.0)
    walked.note("result", "x")
    walked.end()
    assert ProgressReport.of(walked.journal, "r") == ProgressReport("r", 3, 10, 0.3, 3 / 54, 0.0)


def test_progress_leaves_out_what_held_it_up(walked: Walked) -> None:
    """A pause makes the rate no smaller."""
    walked.loop()
    walked.note("limits", {"max_iterations": 4})
    walked.journal.change("r", rules.pause, "")
    walked.clock.advance(1000)
    walked.journal.change("r", rules.resume)
    walked.turn(2)
    report = ProgressReport.of(walked.journal, "r")
    assert (report.rate, report.eta_seconds) == (0.5, 6.0)


def test_progress_of_children(walked: Walked) -> None:
    """Children that ended, however, against those that were started, or against the total that was noted."""
    walked.journal.plant("r", rules.start, "batch", "items", place="working")
    walked.child("a", 2)
    walked.child("b", 2, FAILED)
    walked.child("c")
    assert ProgressReport.of(walked.journal, "r") == ProgressReport("r", 2, 3, 2 / 3, 0.5, 2.0)
    walked.note("total", 8)
    assert ProgressReport.of(walked.journal, "r") == ProgressReport("r", 2, 8, 0.25, 0.5, 12.0)
    walked.note("total", 1)
    assert ProgressReport.of(walked.journal, "r") == ProgressReport("r", 2, 1, 1.0, 0.5, 0.0)


def test_progress_where_nothing_is_known(walked: Walked) -> None:
    """A loop without limit has no total; one run alone is done or not; no time gone by makes no rate."""
    walked.loop()
    walked.turn(0)
    assert ProgressReport.of(walked.journal, "r") == ProgressReport("r", 1, None, None, None, None)
    walked.journal.plant("s", rules.start, "step", "a step", place="work")
    assert ProgressReport.of(walked.journal, "s") == ProgressReport("s", 0, 1, 0.0, None, None)
    walked.clock.advance(4)
    walked.end(run_id="s")
    assert ProgressReport.of(walked.journal, "s") == ProgressReport("s", 1, 1, 1.0, 0.25, 0.0)
    with pytest.raises(RunNotFound):
        ProgressReport.of(walked.journal, "nobody")


def test_progress_of_a_later_life(walked: Walked) -> None:
    """What was finished in earlier lives is done, and says nothing of the rate of this one."""
    walked.loop(iterations_before=6)
    walked.note("limits", {"max_iterations": 10})
    walked.turn(1)
    assert ProgressReport.of(walked.journal, "r") == ProgressReport("r", 7, 10, 0.7, 1.0, 3.0)


def test_odd_limits_and_totals(walked: Walked) -> None:
    """What is noted as a limit or total and is no number is passed over; a limit of nothing is reached."""
    walked.loop()
    for odd in ("many", {"max_iterations": "ten"}, None, [1]):
        walked.note("limits", odd)
        walked.note("total", odd)
        assert ProgressReport.of(walked.journal, "r").total is None
    walked.note("limits", {"max_iterations": 0})
    assert ProgressReport.of(walked.journal, "r").fraction == 1.0
    walked.note("limits", {"max_iterations": math.inf})
    assert ProgressReport.of(walked.journal, "r").total is None


def test_a_run_whose_start_was_not_heard(walked: Walked) -> None:
    """Events that come without their start are counted too; what the run is called the journal knows."""
    walked.loop()
    walked.note("attempt", {})
    late = walked.journal.events("r")[-1]
    without, having = Metrics(), Metrics(walked.journal)
    for metrics, kind in ((without, ""), (having, "loop")):
        metrics.take(late)
        told = metrics.snapshot()
        assert (told["runs"]["r"]["kind"], told["runs"]["r"]["failures"]) == (kind, 1)
        assert list(told["kinds"]) == [kind]
