"""A sequence: its tokens, sampling parameters and constraint, and when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np

from loqal.engine import sampling
from loqal.engine.cache.prefix_cache import CacheReport
from loqal.engine.metrics import DraftCounts
from loqal.engine.sampling.constraint import TokenConstraint, TokenMask, allow
from loqal.ops.interface import FloatArray, IntArray
from loqal.types.reply import FinishReason
from loqal.types.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class MediaSpan:
    """A run of prompt rows that enter the network as embeddings instead of tokens.

    The token ids of these rows are placeholders; their content is identified by ``digest`` alone, so two spans with
    one digest must have the same embeddings and positions relative to their first row.
    """

    start: int  # index of the first row in the prompt
    length: int
    digest: bytes
    embed: Callable[[], FloatArray]
    """Computes the rows [length D]. Called on the engine's thread when the span is read and not in the prefix cache,
    perhaps more than once; what takes long is better begun before, and only waited for here."""

    @property
    def end(self) -> int:
        """One past the last row."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class PromptRead:
    """Takes the hidden rows of a prompt instead of a reply. ``take`` runs on the engine's thread."""

    start: int  # index of the first row that is wanted
    take: Callable[[FloatArray], None]  # gets the rows [n D] of every chunk, in order


class Sequence:
    """The tokens of one request, prompt first.

    Args:
        prompt_ids: at least one token.
        params: every default filled in, the seed included; ``max_tokens`` None means as the context allows.
        end_ids: tokens that end the reply. They are emitted, then nothing follows.
        positions: rotary positions of the prompt [n 3]; None for plain text, where they count from 0. Generated tokens
            go on one past the largest of them.
        media: spans of the prompt that are not tokens, ascending and apart.
        boundaries: indices that are worth capturing for the prefix cache, such as starts of messages.
        priority: lower numbers are scheduled first.
        client: who asked; clients share the machine evenly.
        reading: what to do with the prompt's hidden rows; None writes a reply instead.
        guide: constrains the reply, token by token; None for none.

    Attributes:
        cache: what the prefix cache did for the prompt, once its reading began.
        num_read: leading tokens of the prompt that are done, cached ones included.
        drafts: counts of speculative decoding.
        began_s, first_drawn_s, last_drawn_s: when its reading began and tokens were drawn, on the engine's clock.
    """

    def __init__(
        self,
        prompt_ids: Iterable[int],
        params: SamplingParams,
        end_ids: Iterable[int] = (),
        *,
        positions: IntArray | None = None,
        media: Items[MediaSpan] = (),
        boundaries: Iterable[int] = (),
        priority: int = 0,
        client: str = "",
        reading: PromptRead | None = None,
        guide: TokenConstraint | None = None,
    ) -> None:
        if params.seed is None:
            raise ValueError("a sequence needs its seed")
        self.token_ids = list(prompt_ids)
        self.prompt_len = len(self.token_ids)
        if positions is not None and positions.shape != (self.prompt_len, 3):
            raise ValueError(f"positions {positions.shape} do not fit a prompt of {self.prompt_len} tokens")
        self.params = params
        self.seed = params.seed
        self.end_ids = frozenset(end_ids)
        self.media = tuple(media)
        self.boundaries = tuple(sorted(set(boundaries)))
        self.priority, self.client, self.reading, self.guide = priority, client, reading, guide
        self._allowed: TokenMask | None = None
        self._allowed_at = -1
        self.cache = CacheReport()
        self.num_read = 0
        self.drafts = DraftCounts()
        self.began_s = self.first_drawn_s = self.last_drawn_s = 0.0
        self.counted = sampling.TokenCounts(self.token_ids if params.penalize_prompt else ())
        self._positions = positions
        self._decode_offset = 0 if positions is None else int(positions.max()) + 1 - self.prompt_len

    @property
    def num_generated(self) -> int:
        """Tokens generated so far."""
        return len(self.token_ids) - self.prompt_len

    def positions(self, start: int, end: int) -> IntArray:
        """Rotary positions of tokens ``start`` to ``end``, which need not exist yet: -> [end - start, 3]."""
        index = np.arange(start, end, dtype=np.int32)
        found = np.repeat((index + self._decode_offset)[:, None], 3, axis=1)
        if self._positions is not None and start < self.prompt_len:
            given = self._positions[start:end]
            found[: len(given)] = given
        return found

    def mark_drawn(self, now_s: float) -> None:
        """Record when a token was sampled."""
        if self.num_generated == 1:
            self.first_drawn_s = now_s
        self.last_drawn_s = now_s

    def allowed(self) -> TokenMask | None:
        """The allowed next tokens; None for all. Raises what the constraint raises."""
        if self._allowed_at != self.num_generated:
            self._allowed, self._allowed_at = self._ask(), self.num_generated
        return self._allowed

    def num_enough(self) -> int | None:
        """How many of the largest logits the next choice needs; None for the whole row. Raises as ``allowed`` does."""
        allowed = self.allowed()
        fewest = sampling.num_enough(self.params, self.counted)
        if allowed is None or fewest is None:
            return fewest
        return fewest + len(allowed.banned) if allowed.mask is None else None

    def _ask(self) -> TokenMask | None:
        is_early = self.num_generated < (self.params.min_tokens or 0)
        mask = None if self.guide is None else self.guide.mask()
        banned = () if self.guide is None or mask is not None else self.guide.banned()
        return allow(mask, np.array(sorted({*banned, *(self.end_ids if is_early else ())}), np.int32))

    def append(self, token_id: int, context_len: int) -> FinishReason | None:
        """Add a generated token; the reason when it is the last one."""
        self.token_ids.append(token_id)
        self.counted.add(token_id)
        if self.guide is not None:
            self.guide.push(token_id)
        if token_id in self.end_ids:
            return FinishReason.STOP
        if len(self.token_ids) >= context_len or self.num_generated == self.params.max_tokens:
            return FinishReason.LENGTH
        return None
