"""What a request allows at each of its tokens, apart from what the model likes. The engine knows no text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from loqal.ops.interface import FloatArray, IntArray

Mask = npt.NDArray[np.uint32]
"""One bit for every token id, the lowest bit of the first word for id 0; a set bit allows the token."""


class TokenConstraint(Protocol):
    """Follows one reply and says what may come next. Called on the engine's thread, by one sequence only.

    What it says is a function of the tokens pushed so far and of the request.
    """

    def mask(self) -> Mask | None:
        """The tokens that may come next, at least one; None for all of them. Raises LoqalError to end the reply."""
        ...

    def banned(self) -> Sequence[int]:
        """Ids that may not come next where there is no mask."""
        ...

    def push(self, token_id: int) -> None:
        """The token that was drawn, one that the mask allowed."""
        ...

    def prepare(self) -> None:
        """Begin to find the next mask, which is wanted after the next step."""
        ...

    def draft_hint(self, most: int) -> Sequence[int]:
        """Up to ``most`` tokens that probably come next because little else is allowed; a help for guessing ahead."""
        ...


@dataclass(frozen=True, slots=True)
class TokenMask:
    """Tokens that may be drawn: those of a mask, if there is one, without those that are banned."""

    mask: Mask | None
    banned: IntArray

    @property
    def only(self) -> int | None:
        """The one token of the mask when it has no other."""
        if self.mask is None:
            return None
        words = np.flatnonzero(self.mask)
        if len(words) != 1:
            return None
        bits = np.flatnonzero(np.unpackbits(self.mask[words].view(np.uint8), bitorder="little"))
        return int(words[0]) * 32 + int(bits[0]) if len(bits) == 1 else None

    def apply(self, row: FloatArray) -> None:
        """Set the logits [V] of all others to minus infinity, in place."""
        if self.mask is not None:
            bits = np.unpackbits(self.mask.view(np.uint8), bitorder="little")[: len(row)]
            row[: len(bits)][bits == 0] = -np.inf
            row[len(bits) :] = -np.inf
        row[self.banned[self.banned < len(row)]] = -np.inf


def allow(mask: Mask | None, banned: IntArray) -> TokenMask | None:
    """The tokens that may be drawn; None for all. A ban that would leave nothing of the mask does not hold."""
    banned = banned[banned >= 0]  # a caller's own end ids may be none of the vocabulary
    if mask is None:
        return TokenMask(None, banned) if len(banned) else None
    allowed = TokenMask(mask, banned)
    if len(banned):
        left = mask.copy()
        for token_id in banned[banned < len(mask) * 32].tolist():
            left[token_id >> 5] &= ~np.uint32(1 << (token_id & 31))
        allowed = TokenMask(left if left.any() else mask, banned[:0])
    return allowed
