"""Every error loqal raises on purpose.

    LoqalError
    ├── CheckpointError        a model file or folder cannot be used       exit code 3
    │   ├── FormatError        its bytes break the format's rules
    │   ├── UnsupportedError   well formed, but not something loqal runs
    │   └── TensorError        a tensor is missing, unexpected or misshapen
    ├── RequestError           the request itself is wrong                 exit code 2
    │   ├── ContextError       prompt and reply do not fit the context
    │   └── MediaError         an image or a video cannot be used
    ├── CapacityError          this machine lacks the memory for it        exit code 4
    └── InstallationError      the installation is incomplete              exit code 5

An error is three short texts: what happened, why, and what to do next. They are printed as three lines, and programs
can read them apart. Exit code 1 is left to bugs (a traceback), 130 to an interrupt.
"""

from __future__ import annotations


class LoqalError(Exception):
    """The base of every error a user can cause or meet.

    Args:
        what: what happened, naming the file, field or tensor.
        why: the rule or limit it met, with both numbers where numbers are involved.
        fix: what the reader can do next.
    """

    exit_code = 1

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        super().__init__("\n".join(line for line in (what, why, fix) if line))


class CheckpointError(LoqalError):
    """A model file or folder cannot be used."""

    exit_code = 3


class FormatError(CheckpointError):
    """The bytes of a file break the rules of its format."""


class UnsupportedError(CheckpointError):
    """The file is well formed but holds something loqal does not run."""


class TensorError(CheckpointError):
    """A tensor is missing, unexpected or has the wrong shape."""


class RequestError(LoqalError):
    """A request asks for something impossible or contradictory. ``path`` is the field at fault, where it is known."""

    exit_code = 2
    path: str | None = None


class MediaError(RequestError):
    """An image or a video cannot be used."""


class ContextError(RequestError):
    """Prompt and reply together do not fit the context length."""


class CapacityError(LoqalError):
    """The machine does not have the memory the request needs."""

    exit_code = 4


class InstallationError(LoqalError):
    """The installation is incomplete, for example the native kernels were not built."""

    exit_code = 5
