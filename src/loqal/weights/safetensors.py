"""Reads the header of a safetensors file.

The file is hostile until proven otherwise. What holds when ``read_header`` returns:

- the header's length was checked against the file before anything was read;
- every tensor's bytes lie inside the file and match its shape and type;
- the tensors cover the data exactly: no overlap and no hole, as the format's own reader demands;
- names are unique.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import Any

from loqal.errors import FormatError
from loqal.weights.source import StoredTensor

MAX_HEADER_BYTES = 100_000_000  # the limit of the format's own reader
MAX_DIMENSIONS = 16

# Bits of one value.
_BITS = {
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "F64": 64,
    "C64": 64,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
    "I64": 64,
    "U64": 64,
    "I32": 32,
    "U32": 32,
    "I16": 16,
    "U16": 16,
    "I8": 8,
    "U8": 8,
    "BOOL": 8,
}


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """The tensors of one file in the order of their bytes, and the free-form strings its writer left."""

    tensors: tuple[StoredTensor, ...]
    metadata: dict[str, str]


class _BrokenError(Exception):
    """A broken rule; ``read_header`` adds the file's name."""


def read_header(data: memoryview | bytes, origin: str) -> SafetensorsHeader:
    """Parse and check the header of the safetensors file ``data``; ``origin`` names it in messages.

    Raises:
        FormatError: the header breaks a rule of the format.
    """
    try:
        return _read(data)
    except _BrokenError as error:
        raise FormatError(
            f"{origin} is not a sound safetensors file.",
            str(error),
            "Fetch the file again, or convert the model again.",
        ) from None


def _read(data: memoryview | bytes) -> SafetensorsHeader:
    if len(data) < 8:
        raise _BrokenError(f"It has {len(data)} bytes, the length of the header alone takes 8.")
    (length,) = struct.unpack_from("<Q", data)
    if length > MAX_HEADER_BYTES:
        raise _BrokenError(f"Its header would take {length} bytes, the limit is {MAX_HEADER_BYTES}.")
    if length > len(data) - 8:
        raise _BrokenError(f"Its header would take {length} bytes, the file has {len(data) - 8} after the length.")
    header = _parse_json(bytes(data[8 : 8 + length]))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _BrokenError("__metadata__ must map names to strings.")
    start = 8 + length
    tensors = [_tensor(name, entry, start) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.size_bytes))
    position = start
    for tensor in tensors:
        if tensor.offset != position:
            problem = "overlaps the tensor before it" if tensor.offset < position else "leaves a hole before it"
            raise _BrokenError(f"{tensor.name} begins at byte {tensor.offset - start}, which {problem}.")
        position += tensor.size_bytes
    if position != len(data):
        raise _BrokenError(f"Its tensors end at byte {position}, the file at byte {len(data)}.")
    return SafetensorsHeader(tuple(tensors), metadata)


def _parse_json(text: bytes) -> dict[str, Any]:
    if not text.startswith(b"{"):
        raise _BrokenError("Its header must begin with an opening brace.")
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise _BrokenError(f"Its header is not UTF-8 at byte {error.start}.") from None
    except RecursionError:
        raise _BrokenError("Its header is nested too deeply.") from None
    except ValueError as error:
        raise _BrokenError(f"Its header is not JSON: {error}.") from None
    assert isinstance(header, dict)  # it begins with a brace
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _BrokenError("A name appears twice in its header.")
    return found


def _no_constant(name: str) -> None:
    raise _BrokenError(f"Its header holds {name}, which is not JSON.")


def _tensor(name: str, entry: Any, start: int) -> StoredTensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _BrokenError(f"The entry of {_short(name)} must hold dtype, shape and data_offsets.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise _BrokenError(f"{_short(name)} has the unknown type {_short(dtype)}.")
    if not _sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise _BrokenError(f"The shape of {_short(name)} must be at most {MAX_DIMENSIONS} whole numbers.")
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _BrokenError(f"The data_offsets of {_short(name)} must be two whole numbers in ascending order.")
    bits = math.prod(shape) * _BITS[dtype]
    size_bytes = offsets[1] - offsets[0]
    if bits != 8 * size_bytes:
        raise _BrokenError(
            f"{_short(name)} of {dtype} {shape} takes {bits // 8} bytes, the header gives it {size_bytes}."
        )
    return StoredTensor(name, dtype, tuple(shape), start + offsets[0], size_bytes)


def _sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 100 else text[:97] + "..."
