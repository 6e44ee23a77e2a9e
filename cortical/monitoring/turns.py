"""What the log says of a run's turns, for every kind of run: how many are finished, and how long each took.

A turn begins where the run comes to a place of `TURN_PLACES`. It is finished when the next begins, when its result (or
that it was skipped) is noted, or when the run ends well. Its seconds are those without pauses by hand and blocks; to
wait for children is part of it.
"""

from __future__ import annotations

from typing import Any

from attrs import define

from cortical.core.events import Blocked, Ended, Event, Moved, Noted, Paused, Resumed, Started
from cortical.core.outcome import Ok
from cortical.core.phases import TURN_PLACES
from cortical.core.run import Run
from cortical.core.turns import FINISHING


@define
class TurnWatch:
    """Follows one run, event by event: `begun` counts its turns, `done` those that are finished."""

    begun: int = 0
    done: int = 0
    since: float | None = None
    _waited: float = 0.0
    _waits_since: float | None = None

    def take(self, event: Event) -> float | None:
        """The seconds of the turn that this event finishes; None where it finishes none."""
        match event:
            case Noted(topic=topic, at=at):
                return self._finish(at) if topic in FINISHING else None
            case Moved(place=place, at=at) | Started(place=place, at=at):
                return self._begin(at) if place in TURN_PLACES else None
            case Paused(for_children=False, at=at) | Blocked(at=at):
                self._waits_since = at
            case Resumed(at=at):
                self._stop_waiting(at)
            case Ended(outcome=Ok(), at=at):
                return self._finish(at)
            case Ended():
                self.since = None
        return None

    def _begin(self, at: float) -> float | None:
        seconds = self._finish(at)
        self.begun += 1
        self.since = at
        return seconds

    def _finish(self, at: float) -> float | None:
        if self.since is None:
            return None
        self._stop_waiting(at)
        seconds = max(0.0, at - self.since - self._waited)
        self.done += 1
        self.since, self._waited = None, 0.0
        return seconds

    def _stop_waiting(self, at: float) -> None:
        if self._waits_since is not None and self.since is not None:
            self._waited += at - max(self._waits_since, self.since)
        self._waits_since = None


def has_turns(run: Run) -> bool:
    """Whether the run has come to a place where turns begin."""
    return run.visit is not None and (run.visit.place in TURN_PLACES or not TURN_PLACES.isdisjoint(run.turns or ()))


def last_noted(run: Run, topic: str) -> Any:
    """What was noted last on `topic`; None when nothing was."""
    return next((entry.value for entry in reversed(run.entries or ()) if entry.topic == topic), None)
