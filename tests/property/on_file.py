"""What a state machine does whose store is on a file."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cortical.store import Store, open_store


class OnFile:
    """Opens a store on a file, and opens it anew where the machine asks for that."""

    store: Store

    def open(self) -> Store:
        self.folder = tempfile.TemporaryDirectory()
        return open_store(Path(self.folder.name) / "runs.db")

    def reopened(self) -> Store:
        self.store.close()
        return open_store(Path(self.folder.name) / "runs.db")

    def teardown(self) -> None:
        if hasattr(self, "store"):
            assert self.store.check() == []
            self.store.close()
            self.folder.cleanup()
