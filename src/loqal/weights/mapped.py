"""A file mapped into memory, read only."""

from __future__ import annotations

import contextlib
import mmap
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loqal.errors import CheckpointError, FormatError


class MappedFile:
    """The bytes of a file without reading them: pages come in when they are touched.

    Views handed out by ``array`` stay valid after ``close``; the mapping goes away with the last of them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self.size_bytes = file.seek(0, 2)
                if self.size_bytes == 0:
                    raise FormatError(f"{path} is empty.", "A download may have been cut off.", "Fetch the file again.")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise unreadable(path, error) from error
        self._bytes = np.frombuffer(self._map, np.uint8)

    @property
    def view(self) -> memoryview:
        """The whole file."""
        return memoryview(self._map)

    def array(self, offset: int, size_bytes: int) -> npt.NDArray[np.uint8]:
        """A read-only view of ``size_bytes`` bytes from ``offset``."""
        return self._bytes[offset : offset + size_bytes]

    def release(self, offset: int, size_bytes: int) -> None:
        """Let the pages of a range leave this process's memory. Views stay valid: a touch brings them back."""
        start = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (offset + size_bytes) // mmap.PAGESIZE * mmap.PAGESIZE - start
        if length > 0 and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, start, length)

    def close(self) -> None:
        """Give the mapping up. Views already handed out keep their pages."""
        self._bytes = np.empty(0, np.uint8)
        with contextlib.suppress(BufferError):  # views are still alive; the mapping ends with them
            self._map.close()


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """The error for a file that the system would not open."""
    return CheckpointError(f"Cannot read {path}.", f"{error.strerror or error}.", "Check the path and its permissions.")
