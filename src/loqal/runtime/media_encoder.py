"""Media encoder: plans the images and videos of a request, encodes them, and caches the results by content."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from loqal.chat.template import media_slots
from loqal.chat.template.segments import Segment
from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.engine.sequence import MediaSpan
from loqal.errors import RequestError
from loqal.media.decode_budget import DecodeBudget
from loqal.media.fetch import MAX_SOURCE_PIXELS, Policy
from loqal.media.image import MOST_DECODED_BYTES
from loqal.media.prepare import Item, PreparedImage, Preparer
from loqal.media.resize_rules import PatchRules, read_rules
from loqal.model.config import VisionConfig
from loqal.model.positions import Placed, rotary_positions
from loqal.model.vision_tower import VisionTower, encoding_bytes
from loqal.ops.interface import FloatArray, IntArray
from loqal.types.messages import MediaInfo


class EncoderCache:
    """LRU cache of encoded images by content. Thread-safe.

    Two requests with the same new image at once wait for one encoding of it.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._mutex = threading.Lock()
        self._kept: OrderedDict[bytes, FloatArray] = OrderedDict()
        self._making: dict[bytes, threading.Event] = {}
        self._size = 0
        self.num_encoded = 0

    def get(self, digest: bytes, make: Callable[[], FloatArray]) -> FloatArray:
        """The rows of an image, computed unless cached. Raises what ``make`` raises."""
        while True:
            with self._mutex:
                rows = self._kept.get(digest)
                if rows is not None:
                    self._kept.move_to_end(digest)
                    return rows
                under_way = self._making.get(digest)
                if under_way is None:
                    self._making[digest] = done = threading.Event()
                    break
            under_way.wait()
        try:
            rows = make()
            rows.flags.writeable = False
            self._keep(digest, rows)
            return rows
        finally:
            with self._mutex:
                del self._making[digest]
            done.set()

    def _keep(self, digest: bytes, rows: FloatArray) -> None:
        with self._mutex:
            self.num_encoded += 1
            if rows.nbytes > self._most_bytes:
                return
            self._kept[digest] = rows
            self._size += rows.nbytes
            while self._size > self._most_bytes:
                self._size -= self._kept.popitem(last=False)[1].nbytes


@dataclass(frozen=True, slots=True)
class PlannedMedia:
    """The media of one request, planned. ``segments`` is the prompt with its slots written out."""

    segments: list[Segment]
    items: tuple[Item, ...]

    @property
    def views(self) -> tuple[PreparedImage, ...]:
        """All pictures and pairs of frames, in order."""
        return tuple(view for item in self.items for view in item.views)

    @property
    def infos(self) -> tuple[MediaInfo, ...]:
        """What each image and video becomes and costs."""
        return tuple(describe(item) for item in self.items)


class MediaEncoder:
    """Plans and encodes the images and videos of one model.

    Args:
        tower: None for a model without one, which refuses every image.
        cache_bytes: for encoded pictures that are kept.
        room_bytes: memory for images while they are decoded; one that needs more is rejected.
    """

    def __init__(
        self,
        tower: VisionTower | None,
        preparer: Preparer,
        tokenizer: Tokenizer,
        cache_bytes: int,
        room_bytes: int,
    ) -> None:
        self._tower, self._preparer, self._tokenizer = tower, preparer, tokenizer
        self.cache = EncoderCache(cache_bytes)
        self._room = DecodeBudget(room_bytes)

    def plan(self, segments: Sequence[Segment]) -> PlannedMedia:
        """Open and plan the media of a prompt. Nothing is decoded. Raises RequestError and MediaError."""
        parts = [segment.media for segment in segments if segment.media is not None]
        if not parts:
            return PlannedMedia(list(segments), ())
        if self._tower is None:
            raise RequestError(
                "The conversation contains an image or a video.",
                "The model was loaded without a vision tower.",
                "Load a model that has one; for a GGUF model, name its mmproj file or put it next to the model.",
            )
        media_slots.check_vocabulary(self._tokenizer)
        items = tuple(self._preparer.prepare(part) for part in parts)
        for item in items:
            self._check_room(item)
        return PlannedMedia(
            media_slots.fill(segments, ([_picture(view) for view in item.views] for item in items)), items
        )

    def encode(self, prompt_ids: Sequence[int], seen: PlannedMedia) -> tuple[IntArray | None, tuple[MediaSpan, ...]]:
        """Positions of a prompt and the spans of its media, encoded now unless they are cached.

        Encoding alternates with steps of running replies. Raises MediaError when something cannot be decoded.
        """
        if not seen.items:
            return None, ()
        spans = self.spans(prompt_ids, seen)
        placed = zip(spans, seen.views, strict=True)
        positions = rotary_positions(
            len(prompt_ids), (Placed(at.start, v.tokens.rows, v.tokens.columns) for at, v in placed)
        )
        return positions, tuple(_encoded(span) for span in spans)

    def spans(self, prompt_ids: Sequence[int], seen: PlannedMedia) -> tuple[MediaSpan, ...]:
        """The spans of a prompt's media, which are encoded when they are read."""
        if not seen.items:
            return ()
        starts = media_slots.starts(prompt_ids, [_picture(view) for view in seen.views], self._tokenizer)
        return tuple(self._span(start, view) for start, view in zip(starts, seen.views, strict=True))

    def _span(self, start: int, view: PreparedImage) -> MediaSpan:
        embed = functools.partial(self.cache.get, view.digest, lambda: self._encode(view))
        return MediaSpan(start, view.num_tokens, view.digest, embed)

    def _encode(self, view: PreparedImage) -> FloatArray:
        assert self._tower is not None
        with self._room.take(reading_bytes(self._tower.config, view)):
            return self._tower.encode(view.patches(), view.grid.rows, view.grid.columns)

    def _check_room(self, item: Item) -> None:
        """Reject media that do not fit the memory plan, before anything is decoded."""
        assert self._tower is not None
        needed, view = reading_bytes(self._tower.config, item.views[0]), item.views[0]
        if needed > self._room.size_bytes:
            most = view.num_tokens * self._room.size_bytes // needed
            raise RequestError(
                f"{item.name} needs {needed:,} bytes of memory while it is decoded.",
                f"The memory plan of this model has {self._room.size_bytes:,} bytes for that.",
                f"Send a smaller one with max_tokens of at most {most}, or raise memory_bytes.",
            )


def make_preparer(config: VisionConfig | None, files: Mapping[str, object], policy: Policy) -> Preparer:
    """The rules of a checkpoint: of its preprocessor files where it has them, else the family's.

    Raises FormatError and UnsupportedError for files that ask for something else.
    """
    patch = PatchRules()
    if config is not None:
        patch = PatchRules(config.patch_size, config.temporal_patch_size, config.merge_size)
    tables = [files.get(name) for name in ("preprocessor_config.json", "video_preprocessor_config.json")]
    image, video = (table if isinstance(table, Mapping) else {} for table in tables)
    images, videos = read_rules(image, video, patch)
    return Preparer(images, videos, policy)


def reading_bytes(config: VisionConfig, view: PreparedImage) -> int:
    """Peak memory of an image, or a pair of frames, until it is encoded."""
    making, kept = view.reading_bytes
    return max(making, kept + encoding_bytes(config, view.grid.num_patches))


def largest_reading_bytes(config: VisionConfig | None, files: Mapping[str, object]) -> int:
    """``reading_bytes`` of the largest image that a checkpoint's rules allow; 0 without a vision tower."""
    if config is None:
        return 0
    pixels = make_preparer(config, files, Policy()).largest_pixels
    return max(
        MAX_SOURCE_PIXELS * MOST_DECODED_BYTES + 6 * pixels,
        3 * pixels + encoding_bytes(config, pixels // config.patch_size**2),
    )


def describe(item: Item) -> MediaInfo:
    """What an image or a video becomes and costs."""
    view = item.views[0]
    return MediaInfo(
        kind="image" if item.kind == "image" else "video",
        name=item.name,
        source_size=item.source_size,
        size=item.size,
        grid=(len(item.views), view.grid.rows, view.grid.columns),
        num_tokens=item.num_tokens,
        frame_indices=item.frame_indices,
        seconds=tuple(view.seconds for view in item.views if view.seconds is not None),
    )


def _encoded(span: MediaSpan) -> MediaSpan:
    rows = span.embed()
    return replace(span, embed=lambda: rows)


def _picture(view: PreparedImage) -> media_slots.Picture:
    return media_slots.Picture(view.num_tokens, view.seconds)
