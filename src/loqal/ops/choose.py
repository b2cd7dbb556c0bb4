"""Choose the compute backend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loqal.errors import InstallationError, RequestError
from loqal.ops.interface import Ops

if TYPE_CHECKING:
    from loqal.ops.backends.native_encoder import Encoder


def choose_ops(
    backend: str = "cpu",
    *,
    isa: str | None = None,
    threads: int | None = None,
    keep_packed: tuple[Path, Sequence[Path]] | None = None,
) -> Ops:
    """The backend called ``backend``: ``cpu`` (native kernels) or ``reference`` (NumPy, slow, for comparison).

    ``keep_packed`` names a file for the packed weights and the files they come from.

    Raises:
        InstallationError: the native kernels were not built.
        RequestError: there is no such backend, instruction set or thread count.
    """
    if backend == "reference":
        from loqal.ops.backends.reference import ReferenceOps

        return ReferenceOps()
    if backend != "cpu":
        raise RequestError(f"backend is {backend!r}.", "It must be cpu or reference.", "Choose one of these.")
    try:
        from loqal.ops.backends.cpu import CpuOps
    except ImportError as error:
        raise _not_built(error) from error
    return CpuOps(isa, threads, keep_packed)


def choose_encoder(isa: str | None = None, threads: int | None = None) -> Encoder:
    """The native encoders of weight formats. Raises InstallationError when they were not built."""
    try:
        from loqal.ops.backends.native_encoder import Encoder
    except ImportError as error:
        raise _not_built(error) from error
    return Encoder(isa, threads)


def _not_built(error: ImportError) -> InstallationError:
    return InstallationError(
        "The native kernels are missing.",
        f"Python could not import them: {error}.",
        "Reinstall loqal (pip install .) with a C++20 compiler available.",
    )
