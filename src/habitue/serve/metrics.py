"""What the server counts, in Prometheus' text format (version 0.0.4): names and labels as docs/serve.md lists them.

No label holds an id of a person, a product or a request.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONTENT_TYPE = "text/plain; version=0.0.4"  # the charset is added on the way out
Labels = tuple[str, ...]


@dataclass
class Counter:
    """Something that only grows, or with `gauge` a value that is set; by labels."""

    name: str
    meaning: str
    labels: Labels = ()
    gauge: bool = False
    values: dict[Labels, float] = field(default_factory=dict)

    def add(self, *labels: str, by: float = 1.0) -> None:
        """Count."""
        self.values[labels] = self.values.get(labels, 0.0) + by

    def set(self, *labels: str, to: float) -> None:
        """Set the value."""
        self.values[labels] = to

    def lines(self) -> list[str]:
        """Return the metric as text."""
        head = _head(self.name, self.meaning, "gauge" if self.gauge else "counter")
        return head + [f"{self.name}{_text(self.labels, at)} {value:g}" for at, value in sorted(self.values.items())]


@dataclass
class Histogram:
    """How long something took, by labels."""

    name: str
    meaning: str
    labels: Labels = ()
    counts: dict[Labels, list[int]] = field(default_factory=dict)
    sums: dict[Labels, float] = field(default_factory=dict)

    def add(self, *labels: str, seconds: float, times: int = 1) -> None:
        """Count one, or several alike, that took so many seconds."""
        if (counts := self.counts.get(labels)) is None:
            counts = self.counts[labels] = [0] * (len(SECONDS) + 1)
        counts[bisect.bisect_left(SECONDS, seconds)] += times
        self.sums[labels] = self.sums.get(labels, 0.0) + seconds * times

    def lines(self) -> list[str]:
        """Return the metric as text."""
        found = _head(self.name, self.meaning, "histogram")
        for at, counts in sorted(self.counts.items()):
            so_far = 0
            for limit, count in zip((*(f"{s:g}" for s in SECONDS), "+Inf"), counts, strict=True):
                so_far += count
                found.append(f"{self.name}_bucket{_text((*self.labels, 'le'), (*at, limit))} {so_far}")
            found.append(f"{self.name}_sum{_text(self.labels, at)} {self.sums[at]:g}")
            found.append(f"{self.name}_count{_text(self.labels, at)} {so_far}")
        return found


@dataclass
class Metrics:
    """Everything one server counts."""

    requests: Histogram = field(
        default_factory=lambda: Histogram(
            "habitue_http_request_duration_seconds", "Time to answer a request", ("route", "method", "code")
        )
    )
    answers: Counter = field(
        default_factory=lambda: Counter(
            "habitue_recommendations_total", "Lists that were answered", ("placement", "model", "fallback")
        )
    )
    answered: Histogram = field(
        default_factory=lambda: Histogram("habitue_recommendation_duration_seconds", "Time to make a list")
    )
    refreshes: Counter = field(
        default_factory=lambda: Counter("habitue_refreshes_total", "Readings of the lake and the model", ("result",))
    )
    exposures: Counter = field(
        default_factory=lambda: Counter(
            "habitue_exposures_total", "Lists kept for experiments, once for each experiment", ("result",)
        )
    )
    lag: Histogram = field(
        default_factory=lambda: Histogram(
            "habitue_event_ingest_lag_seconds", "From the moment an event came to the moment answers know it"
        )
    )

    lists: Counter = field(
        default_factory=lambda: Counter(
            "habitue_model_lists_total", "Lists while a model is tried out, by its version", ("version",)
        )
    )
    outcomes: Counter = field(
        default_factory=lambda: Counter(
            "habitue_model_outcomes_total", "What customers did after such a list", ("version", "kind")
        )
    )

    def text(self, gauges: Mapping[tuple[str, str], float], more: Sequence[Counter] = ()) -> str:
        """Return everything as text; `gauges`: (name, meaning) -> value."""
        metrics: tuple[Counter | Histogram, ...] = (
            self.requests,
            self.answers,
            self.answered,
            self.refreshes,
            self.exposures,
            self.lists,
            self.outcomes,
            self.lag,
            *more,
        )
        found = [line for metric in metrics for line in metric.lines()]
        for (name, meaning), value in gauges.items():
            found += [*_head(name, meaning, "gauge"), f"{name} {value:g}"]
        return "\n".join(found) + "\n"


def _head(name: str, meaning: str, kind: str) -> list[str]:
    return [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]


def _text(names: Sequence[str], values: Sequence[str]) -> str:
    said = [f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)]
    return "{" + ",".join(said) + "}" if said else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
