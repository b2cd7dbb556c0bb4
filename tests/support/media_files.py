"""Small pictures and videos as files in memory."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

Bytes = npt.NDArray[np.uint8]


def picture(width: int, height: int, seed: int = 0) -> Bytes:
    """Noise over a slope: [height width 3]."""
    rng = np.random.default_rng((seed, width, height))
    slope = np.linspace(0, 200, width)[None, :, None]
    return (slope + rng.integers(0, 55, (height, width, 3))).astype(np.uint8)


def encoded(image: Image.Image | Bytes, format: str, **options: Any) -> bytes:
    """The picture as a file."""
    out = io.BytesIO()
    made = image if isinstance(image, Image.Image) else Image.fromarray(image)
    made.save(out, format, **options)
    return out.getvalue()


def video(
    count: int = 12, width: int = 64, height: int = 48, fps: int = 10, *, format: str = "mp4", codec: str = "mpeg4"
) -> bytes:
    """A video whose frames grow brighter."""
    out = io.BytesIO()
    container = av.open(out, "w", format=format)
    stream = container.add_stream(codec, rate=fps)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    for index in range(count):
        frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 20 + 200 * index // max(count, 1), np.uint8))
        for packet in stream.encode(frame):
            container.mux(packet)
    for packet in stream.encode():
        container.mux(packet)
    container.close()
    return out.getvalue()
