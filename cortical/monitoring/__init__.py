"""How runs of every kind fare: subscriptions, metrics, health, anomalies, progress."""

from cortical.monitoring.anomalies import Anomalies
from cortical.monitoring.bus import EventBus, Missed, Subscription
from cortical.monitoring.consistency import compare
from cortical.monitoring.findings import Finding
from cortical.monitoring.following import Follower, follow
from cortical.monitoring.health import Thresholds, check
from cortical.monitoring.metrics import Metrics
from cortical.monitoring.progress import ProgressReport

__all__ = [
    "Anomalies",
    "EventBus",
    "Finding",
    "Follower",
    "Metrics",
    "Missed",
    "ProgressReport",
    "Subscription",
    "Thresholds",
    "check",
    "compare",
    "follow",
]
