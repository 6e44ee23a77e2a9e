"""What happens in a tree, event by event, for programs that watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from cortical.core.events import Ended, Event
from cortical.store.face import Face, Place

_POLL_SECONDS: Final = 0.05


async def stream(store: Place, run_id: str) -> AsyncIterator[Event]:
    """The events of a tree from its beginning on, as they are recorded by whichever process, until its root has ended.

    Args:
        run_id: the id of any run of the tree, or a prefix that no other id begins with.

    Raises:
        RunNotFound: there is no such run.
    """
    with Face(store, create=False) as face:
        journal = face.journal
        root_id = journal.find(run_id).tree.root.id
        position = 0
        while True:
            events = await asyncio.to_thread(journal.store.read, root_id, position)
            for event in events:
                yield event
                if isinstance(event, Ended) and event.run_id == root_id:
                    return
            position += len(events)
            if not events:
                await asyncio.sleep(_POLL_SECONDS)
