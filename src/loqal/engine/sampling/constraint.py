"""Token constraints: the mask of allowed tokens per step. The engine knows no text."""

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
    """Follows one reply and gives the tokens allowed next. Called on the engine's thread, by one sequence only.

    Its answers are a function of the tokens pushed so far and of the request.
    """

    def mask(self) -> Mask | None:
        """The allowed next tokens, at least one; None for all. Raises LoqalError to end the reply."""
        ...

    def banned(self) -> Sequence[int]:
        """Ids that are not allowed next when there is no mask."""
        ...

    def push(self, token_id: int) -> None:
        """Advance by a sampled token that the mask allowed."""
        ...

    def prepare(self) -> None:
        """Start to compute the next mask, which is needed after the next step."""
        ...

    def draft_hint(self, most: int) -> Sequence[int]:
        """Up to ``most`` draft tokens that are likely because the constraint allows little else."""
        ...


@dataclass(frozen=True, slots=True)
class TokenMask:
    """The allowed tokens: those of a mask, if there is one, without the banned ones."""

    mask: Mask | None
    banned: IntArray

    @property
    def only(self) -> int | None:
        """The only token of the mask; None when it has several."""
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
    """The allowed tokens; None for all. A ban that would leave none of the mask is ignored."""
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
