"""Metrics as Prometheus reads them: the text format, version 0.0.4."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

#: The content type under which the text is served.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_COUNTERS: Final = (
    ("iterations", "Iterations that were finished."),
    ("failures", "Attempts that failed, and runs that failed without one."),
    ("recoveries", "Tries to recover a run."),
)
_QUANTILES: Final = (("0.5", "p50"), ("0.95", "p95"))


def prometheus_text(told: Mapping[str, Any], *, per_run: bool = False) -> str:
    """What `Metrics.snapshot` tells, as text that ends in a line end."""
    by_kind = [({"kind": kind}, figures) for kind, figures in told["kinds"].items()]
    lines = [*_started_and_ended(told), *_figures("cortical", by_kind)]
    if per_run:
        runs = told["runs"].items()
        by_run = [({"kind": run["kind"], "name": run["name"], "run_id": run_id}, run) for run_id, run in runs]
        lines += _figures("cortical_run", by_run)
    return "".join(f"{line}\n" for line in lines)


_Labelled: TypeAlias = list[tuple[dict[str, str], dict[str, Any]]]


def _started_and_ended(told: Mapping[str, Any]) -> Iterator[str]:
    yield from _head("cortical_runs_started_total", "counter", "Runs that were started.")
    for kind, count in told["started"].items():
        yield _sample("cortical_runs_started_total", {"kind": kind}, count)
    yield from _head("cortical_runs_ended_total", "counter", "Runs that have ended, by how.")
    for kind, statuses in told["ended"].items():
        for status, count in statuses.items():
            yield _sample("cortical_runs_ended_total", {"kind": kind, "status": status}, count)


def _figures(prefix: str, labelled: _Labelled) -> Iterator[str]:
    for name, text in _COUNTERS:
        yield from _head(f"{prefix}_{name}_total", "counter", text)
        for labels, figures in labelled:
            yield _sample(f"{prefix}_{name}_total", labels, figures[name])
    yield from _seconds(f"{prefix}_iteration_seconds", labelled)
    for suffix, key, text in (
        ("resource_used", "resources", "What was told last of a resource."),
        ("resource_used_most", "resources_most", "The most that was told of a resource."),
    ):
        yield from _head(f"{prefix}_{suffix}", "gauge", text)
        for labels, figures in labelled:
            for resource, used in figures[key].items():
                yield _sample(f"{prefix}_{suffix}", {**labels, "resource": resource}, used)


def _seconds(name: str, labelled: _Labelled) -> Iterator[str]:
    yield from _head(name, "summary", "Seconds of an iteration, without those it was held up.")
    for labels, figures in labelled:
        seconds = figures["seconds_per_iteration"]
        for quantile, key in _QUANTILES:
            value = math.nan if seconds[key] is None else seconds[key]
            yield _sample(name, {**labels, "quantile": quantile}, value)
        yield _sample(f"{name}_sum", labels, seconds["total"])
        yield _sample(f"{name}_count", labels, seconds["count"])


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{shown}}} {_number(value)}"


def _escaped(text: str) -> str:
    """A label's value: as UTF-8 can hold it, with the three signs escaped that the format asks for."""
    writable = text.encode("utf-8", "backslashreplace").decode()
    return writable.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(value) if isinstance(value, int) else repr(float(value))
