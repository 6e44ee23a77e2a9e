"""A store in memory: for tests, for work that needs no disk, and as the model of every other."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from attrs import evolve

from cortical.core.codec import encode_events
from cortical.core.errors import Conflict, LeaseLost, StoreError
from cortical.core.events import Event, Started
from cortical.core.ports import Lease, Record, Root
from cortical.store.leases import next_lease
from cortical.store.listing import root_of_log


class MemoryStore:
    """Keeps values as they are; with `strict`, only those that a durable store could keep too, as copies."""

    def __init__(self, *, strict: bool = False) -> None:
        self.name = "memory"
        self._strict = strict
        self._lock = threading.RLock()
        self._logs: dict[str, list[Event]] | None = {}
        self._root_of: dict[str, str] = {}  # of runs that are not roots
        self._leases: dict[str, Lease] = {}

    def prepare(self, root_id: str, position: int, events: Sequence[Event], fence: int | None = None) -> Record:
        if self._strict:
            events, _ = encode_events(events)
        return Record(root_id, position, events, None, fence)

    def append(self, *records: Record) -> None:
        with self._lock:
            logs = self._open()
            started: dict[str, str] = {}
            due: dict[str, int] = {}
            for record in records:
                root_id, position, events = record.root_id, record.position, record.events
                if record.fence is not None and self._leases[root_id].fence != record.fence:
                    raise LeaseLost(root_id)
                there = due.get(root_id) or len(logs.get(root_id, ()))
                if there != position or (not position and root_id in self._root_of):
                    raise Conflict(root_id, position)
                due[root_id] = position + len(events)
                for event in events:
                    if type(event) is Started and event.parent_id is not None:
                        if event.run_id in self._root_of or event.run_id in logs:
                            raise Conflict(root_id, position)
                        started[event.run_id] = root_id
            for record in records:
                if record.position:
                    logs[record.root_id].extend(record.events)
                else:
                    logs[record.root_id] = list(record.events)
            self._root_of.update(started)

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        # One thread's append may stand: nothing that could still fail follows it.
        with self._lock:
            yield

    def read(self, root_id: str, start: int = 0) -> list[Event]:
        with self._lock:
            return self._open().get(root_id, [])[start:]

    def compact(self, root_id: str, before: float) -> int:
        with self._lock:
            self._open()
        return 0

    def root_of(self, run_id: str) -> str | None:
        with self._lock:
            return run_id if run_id in self._open() else self._root_of.get(run_id)

    def find(self, prefix: str, limit: int = 10) -> list[str]:
        with self._lock:
            ids = [run_id for ids in (self._open(), self._root_of) for run_id in ids if run_id.startswith(prefix)]
        return sorted(ids)[:limit]

    def roots(self, *, open_only: bool = False, limit: int | None = None) -> list[Root]:
        with self._lock:
            logs = list(self._open().values())
        roots = (root_of_log(log) for log in reversed(logs))
        listed = (root for root in roots if not open_only or root.ended_at is None)
        return list(listed if limit is None else islice(listed, min(limit, sys.maxsize)))

    def take_lease(self, root_id: str, holder: str, *, now: float, seconds: float) -> Lease:
        with self._lock:
            self._open()
            lease = next_lease(self._leases.get(root_id), root_id, holder, now, seconds)
            self._leases[root_id] = lease
            return lease

    def renew_lease(self, lease: Lease, *, now: float, seconds: float) -> Lease:
        with self._lock:
            self._open()
            if self._leases[lease.root_id].fence != lease.fence:
                raise LeaseLost(lease.root_id)
            renewed = self._leases[lease.root_id] = evolve(lease, expires_at=now + seconds)
            return renewed

    def release_lease(self, lease: Lease) -> None:
        with self._lock:
            self._open()
            if self._leases[lease.root_id].fence == lease.fence:
                self._leases[lease.root_id] = evolve(lease, expires_at=0.0)

    def lease_of(self, root_id: str) -> Lease | None:
        with self._lock:
            self._open()
            return self._leases.get(root_id)

    def flush(self) -> None:
        with self._lock:
            self._open()

    def check(self) -> list[str]:
        with self._lock:
            self._open()
        return []

    def close(self) -> None:
        self._logs = None

    def _open(self) -> dict[str, list[Event]]:
        if self._logs is None:
            raise StoreError("this store has been closed; open another")
        return self._logs
