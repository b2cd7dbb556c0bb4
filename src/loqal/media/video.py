"""Video files and lists of frames to a few frames, spread evenly over time.

Which frames, and how large they become, is known from the header; frames are decoded one at a time and shrunk at once,
so that memory holds the chosen ones only.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from loqal.errors import LoqalError, MediaError, RequestError
from loqal.media.fetch import MAX_LIST_BYTES, Fetched, check_pixels
from loqal.media.image import Picture
from loqal.media.patches import Bytes

UNKNOWN_FPS = 24.0
"""Assumed of a video that does not say how fast it is."""

_MAX_FPS = 100_000.0

# What a video may come in. Playlists are not among them: they would make us open other files.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,ivf,h264,hevc,m4v,gif,apng,mjpeg,dv,mxf,nut,"
    "rm,swf,vob,yuv4mpegpipe,av1,obu"
)


class Frames:
    """Where frames come from: a file or a list. Nothing but the header, or the first frame, has been decoded.

    Attributes:
        width, height: pixels of a frame, the way it is to be seen.
        total: frames there are.
        fps: frames per second.
        sampled: whether frames are to be chosen among them; the frames of a list all count.
    """

    name: str
    width: int
    height: int
    total: int
    fps: float
    sampled: bool

    def read(self, indices: Sequence[int], width: int, height: int) -> list[Bytes]:
        """The frames at ascending indices, resized: [height width 3] each. Raises MediaError."""
        raise NotImplementedError


class FrameList(Frames):
    """Frames the caller cut out, each any source of an image, all of one size."""

    def __init__(self, sources: Sequence[Fetched], fps: float) -> None:
        self.name, self.fps, self.sampled = "the video", fps, False
        size = sum(len(source.data or b"") for source in sources)
        if size > MAX_LIST_BYTES:
            raise MediaError(
                f"The frames of the video have {size:,} bytes.", f"At most {MAX_LIST_BYTES:,} are kept.", "Send fewer."
            )
        self._pictures = [Picture(source) for source in sources]
        if not self._pictures:
            raise MediaError("The video has no frames.", "Its list is empty.", "Give at least two frames.")
        self.total = len(self._pictures)
        self.width, self.height = self._pictures[0].width, self._pictures[0].height
        for index, picture in enumerate(self._pictures):
            if (picture.width, picture.height) != (self.width, self.height):
                raise MediaError(
                    f"Frame {index} of the video is {picture.width} x {picture.height} pixels.",
                    f"The first one is {self.width} x {self.height}.",
                    "Give frames of one size.",
                )

    def read(self, indices: Sequence[int], width: int, height: int) -> list[Bytes]:
        """See Frames."""
        return [self._pictures[index].pixels(width, height) for index in indices]


class FrameFile(Frames):
    """The first video stream of a file.

    Raises:
        MediaError: it cannot be read, has no video stream or no frames, or frames too large to decode.
    """

    def __init__(self, fetched: Fetched) -> None:
        self.name, self.sampled = fetched.name, True
        self._fetched = fetched
        with self._opened() as (container, stream):
            rate = stream.average_rate
            fps = float(rate) if rate else UNKNOWN_FPS
            self.fps = fps if 0 < fps < _MAX_FPS else UNKNOWN_FPS
            check_pixels(self.name, stream.codec_context.width, stream.codec_context.height)
            first = next(iter(container.decode(stream)), None)
            if first is None:
                raise self._no_frames()
            check_pixels(self.name, first.width, first.height)
            self._quarter_turns = round(first.rotation / 90) % 4
            sideways = self._quarter_turns % 2 == 1
            self.width, self.height = (first.height, first.width) if sideways else (first.width, first.height)
            self.total = stream.frames
        if self.total < 1:
            self.total = self._count()

    def read(self, indices: Sequence[int], width: int, height: int) -> list[Bytes]:
        """See Frames. Where the file ends before its header says, its last frame stands for the missing ones."""
        found: list[Bytes] = []
        wanted = list(indices)
        shrunk: Bytes | None = None
        with self._opened() as (container, stream):
            stream.thread_type = "AUTO"
            for number, frame in enumerate(_decoded(container, stream)):
                if number == wanted[len(found)]:
                    shrunk = self._shrunk(frame, width, height)
                    while len(found) < len(wanted) and wanted[len(found)] == number:
                        found.append(shrunk)
                if len(found) == len(wanted):
                    break
        if shrunk is None:
            raise self._no_frames()
        return found + [shrunk] * (len(wanted) - len(found))

    def _shrunk(self, frame: Any, width: int, height: int) -> Bytes:
        check_pixels(self.name, frame.width, frame.height)
        image = Image.fromarray(frame.to_ndarray(format="rgb24"))
        if self._quarter_turns:
            image = image.transpose(
                (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)[
                    self._quarter_turns - 1
                ]
            )
        return np.asarray(image if image.size == (width, height) else image.resize((width, height), _BICUBIC))

    def _count(self) -> int:
        """Frames of a file whose header does not say: its packets, which need no decoding."""
        with self._opened() as (container, stream):
            count = sum(1 for packet in container.demux(stream) if packet.size)
        if count < 1:
            raise self._no_frames()
        return count

    def _no_frames(self) -> MediaError:
        return MediaError(f"{self.name} has no frames.", "Its video stream holds none.", "Send another video.")

    def _opened(self) -> _Opened:
        return _Opened(self._fetched)


_BICUBIC = Image.Resampling.BICUBIC


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Frames in order of time. A broken end of a file ends the video there."""
    frames = container.decode(stream)
    count = 0
    while True:
        try:
            frame = next(frames)
        except StopIteration:
            return
        except Exception:
            if count == 0:
                raise
            return
        count += 1
        yield frame


class _Opened:
    """A container and its first video stream, closed at the end; whatever a decoder raises becomes a MediaError."""

    def __init__(self, fetched: Fetched) -> None:
        self._fetched = fetched

    def __enter__(self) -> tuple[Any, Any]:
        import av  # a tenth of a second, for those who bring a video

        try:
            source: Any = str(self._fetched.path) if self._fetched.path else io.BytesIO(self._fetched.data or b"")
            self._container: Any = av.open(
                source, options={"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
            )
        except Exception as error:
            raise self._failure(error) from error
        streams = self._container.streams.video
        if not streams:
            self._container.close()
            raise MediaError(
                f"{self._fetched.name} has no video stream.", "It may hold sound alone.", "Send another file."
            )
        return self._container, streams[0]

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._container.close()
        if isinstance(error, Exception) and not isinstance(error, LoqalError):
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> MediaError:
        return MediaError(
            f"{self._fetched.name} cannot be decoded as a video.",
            f"{type(error).__name__}: {str(error)[:200]}.",
            "Send it again, or another; give a still picture as an image (--image).",
        )


def is_frame_list(source: Any) -> bool:
    """Whether a source is a list of frames rather than one file."""
    return isinstance(source, (list, tuple))


def check_list(source: Sequence[Any], most: int) -> None:
    """Raise RequestError for more frames than a video may have."""
    if len(source) > most:
        raise RequestError(
            f"The video is a list of {len(source)} frames.", f"At most {most} are read.", "Leave frames out."
        )


def spread(total: int, count: int) -> list[int]:
    """``count`` indices spread evenly over ``total`` frames, the first and the last among them."""
    return [int(index) for index in np.linspace(0, total - 1, count).round()]


def timestamps(indices: Sequence[int], fps: float, frames_per_patch: int) -> list[float]:
    """Seconds in the middle of each group of frames; the last frame fills an incomplete group."""
    filled = list(indices) + [indices[-1]] * (-len(indices) % frames_per_patch)
    seconds = [index / fps for index in filled]
    return [
        (seconds[start] + seconds[start + frames_per_patch - 1]) / 2
        for start in range(0, len(seconds), frames_per_patch)
    ]
