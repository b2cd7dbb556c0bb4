"""Token ids as a short text, for protocols that carry an opaque field with a reply and bring it back.

>>> unpack_ids(pack_ids([5, 248319]))
(5, 248319)
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

_PREFIX = "t1."  # the form of what follows
_ID_BYTES = 3
_MOST_CHARS = 1 << 24


def pack_ids(token_ids: Iterable[int]) -> str:
    """Four characters for every id."""
    data = b"".join(token_id.to_bytes(_ID_BYTES, "big") for token_id in token_ids)
    return _PREFIX + base64.urlsafe_b64encode(data).decode()


def unpack_ids(text: str) -> tuple[int, ...] | None:
    """The ids; None for a text that ``pack_ids`` did not make."""
    if not text.startswith(_PREFIX) or len(text) > _MOST_CHARS:
        return None
    try:
        data = base64.b64decode(text[len(_PREFIX) :], altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(data) % _ID_BYTES:
        return None
    return tuple(int.from_bytes(data[i : i + _ID_BYTES], "big") for i in range(0, len(data), _ID_BYTES))
