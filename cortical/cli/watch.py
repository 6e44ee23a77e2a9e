"""The command `watch`: open trees as they go on, whichever process drives them."""

from __future__ import annotations

import typer

from cortical.cli.options import MaybeId, StorePlace
from cortical.cli.session import opened_store


def watch(
    id: MaybeId = None,
    once: bool = typer.Option(False, "--once", help="Show how things stand now, and end."),
    store: StorePlace = None,
) -> None:
    """Watch the open trees, or one loop and all below it: where they stand, how fast they get on, what is wrong.

    In a terminal it is drawn anew twice a second; elsewhere there is a line for each change. It ends with Ctrl-C, or
    when that loop has ended; what is watched is not changed by it.
    """
    from cortical.cli.watched import follow, print_frame
    from cortical.cli.watching import Watch

    with opened_store(store) as opened:
        watching = Watch(opened, id)
        if once:
            print_frame(watching.look())
            return
        try:
            follow(watching)
        except KeyboardInterrupt:
            return
