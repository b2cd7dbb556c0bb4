"""Videos: which frames, at what size and time, from files and lists."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from loqal.errors import LoqalError, MediaError, RequestError
from loqal.media import video as video_module
from loqal.media.fetch import Policy
from loqal.media.prepare import Item, Preparer
from loqal.media.resize_rules import ImageRules, VideoRules
from loqal.media.video import spread, timestamps
from loqal.types.messages import MediaPart
from media_files import encoded, picture, video

PREPARER = Preparer(ImageRules(), VideoRules(), Policy())


def prepared(source: Any, **bounds: Any) -> Item:
    return PREPARER.prepare(MediaPart("video", source, **bounds))


def brightness(item: Item) -> list[float]:
    """The mean level of each view."""
    return [float(view.patches().values.mean()) for view in item.views]


@pytest.mark.parametrize(("format", "codec"), [("mp4", "mpeg4"), ("matroska", "mpeg4"), ("avi", "mjpeg")])
def test_a_file(format: str, codec: str) -> None:
    if codec == "mjpeg":
        pytest.importorskip("av")
    item = prepared(video(30, 64, 48, 10, format=format, codec="mpeg4"))
    assert item.fps == 10
    assert item.frame_indices == (0, 6, 12, 17, 23, 29)
    assert [view.seconds for view in item.views] == pytest.approx([0.3, 1.45, 2.6])
    assert item.size == (64, 64) or item.size == (64, 32)
    levels = brightness(item)
    assert levels == sorted(levels) and levels[0] + 50 < levels[-1]


def test_the_cost_is_known_before_frames_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_module.FrameFile, "read", lambda *_: pytest.fail("frames were read"))
    item = prepared(video(30, 320, 256, 10))
    assert (len(item.views), item.num_tokens) == (3, 3 * 10 * 8)


def test_frames_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    item = prepared(video(20))
    calls = []
    read = type(item.source).read
    monkeypatch.setattr(type(item.source), "read", lambda *args: calls.append(1) or read(*args))
    for view in item.views:
        view.patches()
    assert len(calls) == 1 and item._frames is None  # nor kept longer than they are needed


def test_a_path(tmp_path: Path) -> None:
    path = tmp_path / "film.bin"
    path.write_bytes(video())
    assert prepared(path).num_tokens == prepared(video()).num_tokens
    assert prepared(path).views[0].digest == prepared(video()).views[0].digest


def test_bounds() -> None:
    data = video(40, 320, 256, 10)
    assert len(prepared(data, fps=1).frame_indices) == 4
    assert len(prepared(data, fps=5).frame_indices) == 20
    assert len(prepared(data, fps=1000).frame_indices) == 40
    assert len(prepared(data, max_frames=3).frame_indices) == 3
    assert prepared(data, max_tokens=64).num_tokens <= 64
    digests = {prepared(data, max_tokens=tokens).views[0].digest for tokens in (None, 64)}
    assert len(digests) == 2, "another size is another picture"


def test_a_list_of_frames() -> None:
    frames = [picture(70, 90, seed) for seed in range(5)]
    mixed = [frames[0], Image.fromarray(frames[1]), encoded(frames[2], "PNG"), io.BytesIO(encoded(frames[3], "BMP"))]
    item = prepared([*mixed, frames[4]], fps=4)
    assert item.frame_indices == (0, 1, 2, 3, 4)
    assert [view.seconds for view in item.views] == [0.125, 0.625, 1.0]
    last = item.views[-1].patches().values
    assert last.shape[2] == 2
    assert (last[:, :, 0] == last[:, :, 1]).all(), "the last frame fills its pair"
    plain = prepared(frames)
    assert plain.fps == 2.0


def test_a_list_is_thinned_to_the_most_frames() -> None:
    frames = [np.full((40, 40, 3), level, np.uint8) for level in range(10)]
    item = PREPARER.prepare(MediaPart("video", tuple(frames), max_frames=10, fps=2))
    assert len(item.frame_indices) == 10
    with pytest.raises(RequestError, match="10 frames"):
        prepared(frames, max_frames=4)


def test_rotation_is_undone() -> None:
    """Phones store films lying, with a note."""
    frames = video_module.FrameFile.__new__(video_module.FrameFile)
    frames.name, frames._quarter_turns = "film", 1
    stored = np.zeros((20, 40, 3), np.uint8)
    stored[:, 30:] = 255  # the right end, which a turn to the left brings to the top
    frame = av.VideoFrame.from_ndarray(stored)
    upright = frames._shrunk(frame, 20, 40)
    assert upright.shape == (40, 20, 3)
    assert upright[:8].min() > 200 and upright[12:].max() < 50


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [0, -1, 1e9, float("nan"), float("inf"), "2", True])
def test_impossible_fps(fps: Any) -> None:
    if fps is True:
        return
    with pytest.raises(RequestError, match="fps"):
        prepared([picture(40, 40)] * 2, fps=fps)


@pytest.mark.parametrize("bounds", [{"max_frames": 1}, {"max_frames": 2.5}, {"max_tokens": 0}, {"min_tokens": 4}])
def test_impossible_bounds(bounds: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        prepared([picture(40, 40)] * 2, **bounds)


def test_too_few_frames() -> None:
    for source in (video(1), [picture(40, 40)]):
        with pytest.raises(RequestError, match="at least 2"):
            prepared(source)
    with pytest.raises(MediaError, match="no frames"):
        prepared([])


def test_frames_of_different_sizes() -> None:
    with pytest.raises(MediaError, match="Frame 1"):
        prepared([picture(40, 40), picture(40, 41)])


def sound() -> bytes:
    out = io.BytesIO()
    container = av.open(out, "w", format="wav")
    stream = container.add_stream("pcm_s16le", rate=8000)
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
    frame.rate = 8000
    for packet in [*stream.encode(frame), *stream.encode()]:
        container.mux(packet)
    container.close()
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"hello world" * 50,
        encoded(picture(30, 30), "PNG"),
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n",
        sound(),
    ],
    ids=["byte", "text", "image", "playlist", "sound"],
)
def test_no_video(data: bytes) -> None:
    with pytest.raises(MediaError):
        prepared(data)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file(share: float) -> None:
    """What is still there is shown, or refused; nothing else happens."""
    data = video(60, 128, 96, format="matroska")
    try:
        item = prepared(data[: int(len(data) * share)])
        assert all(np.isfinite(level) for level in brightness(item))
    except LoqalError:
        pass


def test_a_film_that_promises_too_many_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last frame stands for those that are missing."""
    item = prepared(video(10))
    object.__setattr__(item, "frame_indices", (0, 5, 9, 200, 300, 400))
    frames = item.source.read((0, 5, 9, 200, 300), *item.size)
    assert len(frames) == 5
    assert (frames[-1] == frames[2]).all()


# Arithmetic -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 100_000), st.integers(1, 800))
def test_frames_are_spread_evenly(total: int, count: int) -> None:
    count = min(count, total)
    found = spread(total, count)
    assert len(found) == count
    assert found[0] == 0 and (count == 1 or found[-1] == total - 1)
    steps = np.diff(found)
    assert count < 3 or steps.max() - steps.min() <= 1


def test_times_of_an_odd_number_of_frames() -> None:
    assert timestamps([0, 10, 20], 10.0, 2) == [0.5, 2.0]


@given(st.integers(2, 800), st.integers(1, 8000), st.integers(1, 8000), st.integers(1, 20_000))
def test_sizes_keep_the_budget(count: int, width: int, height: int, tokens: int) -> None:
    rules = VideoRules().within(tokens, None, None)
    try:
        new_width, new_height = rules.size(count, width, height)
    except RequestError:
        return
    assert new_width % 32 == new_height % 32 == 0
    pairs = -(-count // 2)
    smallest = max(new_width, new_height) // 32 * pairs  # a side is at least one token
    # An odd number of frames is rounded to pairs before it is compared with the budget.
    assert pairs * new_width * new_height // 1024 <= max(tokens * 1.5 + pairs, smallest)
