"""Native encoders of weights into the block formats of GGUF, and the loss of encoding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from loqal import formats
from loqal.errors import FormatError, TensorError
from loqal.formats.loss import Loss, loss
from loqal.ops import _kernels
from loqal.ops.interface import FloatArray

Bytes = npt.NDArray[np.uint8]


class Encoder:
    """The native encoders with a pool of threads of their own.

    Args:
        isa: whose instructions to use; the best of this machine when None. The bytes are the same for all.
        threads: the CPUs this process may use when None.
    """

    def __init__(self, isa: str | None = None, threads: int | None = None) -> None:
        self._native = _kernels.Encoder(isa or _kernels.isas()[0], threads or _kernels.usable_cpus())
        self.formats: tuple[str, ...] = tuple(self._native.formats)

    def encode(
        self,
        format: str,
        source: str,
        data: Bytes,
        shape: tuple[int, ...],
        importance: FloatArray | None = None,
    ) -> tuple[Bytes, Loss]:
        """Store a tensor.

        Args:
            format: a quantized format of ``formats`` or ``formats.ENCODABLE``, or a plain float format.
            source: the float format of ``data``.
            data: the values' bytes, uint8.
            shape: rows first; the last axis is cut into blocks.
            importance: of the columns, float32 [cols]; None: all alike.

        Returns:
            uint8 [num_bytes(format, shape)] and what was lost.

        Raises:
            FormatError: the last axis is not a whole number of blocks.
            TensorError: a value is NaN or too large for the format.
        """
        if format == source:
            values = formats.decode(source, data, shape)
            return np.array(data), loss(values, values, importance)
        if format not in self.formats:
            return self._with_numpy(format, formats.decode(source, data, shape), importance)
        out = np.empty(formats.num_bytes(format, shape), np.uint8)
        weights = np.empty(0, np.float32) if importance is None else np.ascontiguousarray(importance, np.float32)
        flat = np.ascontiguousarray(data).reshape(-1)
        squared, weighted, energy, weighted_energy, storable = self._native.encode(
            format, source, flat, weights, shape[-1], out
        )
        if not storable:
            raise TensorError(
                f"Values cannot be stored as {format}.",
                "Some are NaN or larger than 65504.",
                "Store this tensor as F32 or BF16.",
            )
        return out, Loss(squared, weighted, energy, weighted_energy)

    def _with_numpy(self, format: str, values: FloatArray, importance: FloatArray | None) -> tuple[Bytes, Loss]:
        """The formats without a native encoder: plain floats, and the older ones with blocks of 32."""
        if format not in formats.ENCODABLE:
            raise FormatError(
                f"loqal cannot write {format}.", f"It writes {', '.join((*self.formats, *formats.ENCODABLE))}."
            )
        stored = formats.encode(format, values)
        return stored, loss(values, formats.decode(format, stored, values.shape), importance)
