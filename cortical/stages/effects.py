"""What a stage would do, as values: for files with their real sizes.

::

    def plan(context):
        yield delete(folder / "old.csv")
        yield copy("raw.csv", folder / "raw.csv")
        yield Effect("email", "anna@example.org", reversible=False, description="send her the report")

Nothing here changes a file; sizes are read from the disk at the moment of asking.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

from attrs import field, frozen

from cortical.core.checks import checked, require_count, require_seconds, require_text
from cortical.core.drawing import seconds_text
from cortical.core.safe_text import one_line

Place: TypeAlias = str | os.PathLike[str]

#: How many bytes a second a disk is taken to read and write, and how long one step on a file takes.
BYTES_PER_SECOND: Final = 100e6
STEP_SECONDS: Final = 0.0001
#: Less than this is not told to a person.
LEAST_SECONDS: Final = 0.0005

#: What is only read; all other kinds change their target.
READ: Final = "read"
_NEED_TARGET: Final = frozenset({READ, "delete", "chmod"})
_REMOVES: Final = frozenset({"delete"})


def _path_text(place: Place) -> str:
    return place if isinstance(place, str) else os.fspath(place)


@frozen
class Effect:
    """One thing that would happen.

    `kind` is what (`create`, `copy`, `move`, `delete`, `mkdir`, `chmod`, `read`, or a word of one's own), `target` to
    what, `source` from what, if something is taken from elsewhere. `bytes` are those touched; None: nobody knows.
    `seconds` are an estimate. `reversible` says whether it can be taken back.
    """

    kind: str = field(validator=checked(require_text, of="an effect"))
    target: str = field(converter=_path_text, validator=checked(require_text, of="an effect"))
    bytes: int | None = field(default=0, validator=checked(require_count, of="an effect", or_none=True, least=0))
    seconds: float = field(default=0.0, validator=checked(require_seconds, of="an effect"))
    reversible: bool = True
    description: str = ""
    source: str | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """What has to be there."""
        return tuple(one for one in (self.source, self.target if self.kind in _NEED_TARGET else None) if one)

    @property
    def changes(self) -> str | None:
        """What is not as it was afterwards; None when it only reads."""
        return None if self.kind == READ else self.target

    @property
    def removes(self) -> str | None:
        """What is gone afterwards."""
        if self.kind == "move":
            return self.source
        return self.target if self.kind in _REMOVES else None

    def __str__(self) -> str:
        where = self.target if self.source is None else f"{self.source} to {self.target}"
        what = self.description or f"{self.kind} {where}"
        about = [size_text(self.bytes)] if self.bytes is None or self.bytes else []
        about += [seconds_text(self.seconds)] if self.seconds >= LEAST_SECONDS else []
        about += [] if self.reversible or self.kind == READ else ["cannot be taken back"]
        remark = f" ({', '.join(about)})" if about else ""
        return one_line(f"would {what}{remark}")


def size_text(count: int | None) -> str:
    """A number of bytes for people: 512 B, 1.5 MB."""
    if count is None:
        return "size not known"
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.4g} TB"


def read(path: Place) -> Effect:
    """Read a file or folder."""
    return _effect("read", path, size_of(path))


def create(path: Place, size: int | None = None) -> Effect:
    """Write a file of so many bytes; where one stands already, it is lost."""
    return _effect("create", path, size, reversible=not os.path.lexists(path))


def copy(source: Place, target: Place) -> Effect:
    """Copy a file or folder; a file that stands at the target is lost."""
    return _effect("copy", target, size_of(source), source=source, reversible=not os.path.lexists(target))


def move(source: Place, target: Place) -> Effect:
    """Move a file or folder; on one disk that takes no longer for a large one."""
    size = size_of(source)
    taken = 0 if size is None or _same_disk(source, target) else size
    return _effect("move", target, size, taken, source=source, reversible=not os.path.lexists(target))


def delete(path: Place) -> Effect:
    """Delete a file or folder; `bytes` are those that become free."""
    return _effect("delete", path, size_of(path), 0, reversible=False)


def mkdir(path: Place) -> Effect:
    """Make a folder."""
    return _effect("mkdir", path, 0)


def chmod(path: Place, mode: int) -> Effect:
    """Change what may be done with a file; its description says from what and to what."""
    try:
        now = f"from {stat.S_IMODE(os.stat(path).st_mode):o} "
    except OSError:
        now = ""
    return _effect("chmod", path, 0, description=f"chmod {os.fspath(path)} {now}to {mode:o}")


def size_of(path: Place) -> int | None:
    """The bytes of a file, or of all files in a folder; None when it is not there or cannot be looked at."""
    try:
        about = os.lstat(path)
        if not stat.S_ISDIR(about.st_mode):
            return os.stat(path).st_size
        return sum(_sizes(path))
    except OSError:
        return None


def _sizes(folder: Place) -> Iterator[int]:
    waiting: list[Place] = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    yield entry.stat(follow_symlinks=False).st_size


def _same_disk(source: Place, target: Place) -> bool:
    try:
        return os.stat(source).st_dev == os.stat(Path(target).absolute().parent).st_dev
    except OSError:
        return False


def _effect(
    kind: str,
    target: Place,
    size: int | None,
    taken: int | None = None,
    *,
    source: Place | None = None,
    reversible: bool = True,
    description: str = "",
) -> Effect:
    seconds = STEP_SECONDS + ((size if taken is None else taken) or 0) / BYTES_PER_SECOND
    return Effect(kind, target, size, seconds, reversible, description, None if source is None else os.fspath(source))
