"""Where media may come from, and how a prompt is laid out around them."""

from __future__ import annotations

import base64
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from loqal.chat.template import media_slots
from loqal.chat.template.media_slots import Picture
from loqal.chat.template.segments import Segment
from loqal.errors import MediaError, RequestError, UnsupportedError
from loqal.media import fetch as fetch_module
from loqal.media import web
from loqal.media.fetch import Policy, fetch
from loqal.model.positions import Placed, rotary_positions
from loqal.runtime.message_dicts import to_messages
from loqal.types.messages import MediaPart
from media_files import encoded, picture

DATA = encoded(picture(9, 7), "PNG")
URL = "data:image/png;base64," + base64.b64encode(DATA).decode()


def test_data_urls() -> None:
    assert fetch(URL, "image", Policy(paths=False)).data == DATA
    broken = URL[:40] + "\n " + URL[40:]
    assert fetch(broken, "image", Policy()).data == DATA
    assert fetch("data:text/plain,a%20b", "image", Policy()).data == b"a b"
    for bad in ("data:image/png;base64", "data:image/png;base64,@@@", "data:image/png;base64,AAA", "data:,"):
        with pytest.raises(MediaError):
            fetch(bad, "image", Policy())


def test_the_same_content_has_the_same_digest(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(DATA)
    found = [fetch(source, "image", Policy()).digest for source in (DATA, bytearray(DATA), URL, tmp_path / "a.png")]
    assert len(set(found)) == 1
    image = picture(9, 7)
    pixels = [fetch(source, "image", Policy()).digest for source in (image, Image.fromarray(image))]
    assert len(set(pixels)) == 1
    assert fetch(picture(9, 7, seed=1), "image", Policy()).digest != pixels[0]
    assert fetch(image.reshape(9, 7, 3), "image", Policy()).digest != pixels[0]


@pytest.mark.parametrize(
    "source", [3, None, {}, np.zeros((2, 2)), np.zeros((2, 2, 5), np.uint8), np.zeros(4, np.uint8)]
)
def test_sources_of_no_kind(source: Any) -> None:
    with pytest.raises(RequestError):
        fetch(source, "image", Policy())


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.png", "a" * 5000, "nul\x00byte", "", tmp_path / "none.png" / "deeper"):
        for kind in ("image", "video"):
            with pytest.raises(MediaError, match=r"cannot be"):
                fetch(path, kind, Policy())
    (tmp_path / "empty").write_bytes(b"")
    for kind in ("image", "video"):
        with pytest.raises(MediaError, match="empty"):
            fetch(tmp_path / "empty", kind, Policy())


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "MAX_IMAGE_BYTES", 50)
    (tmp_path / "a.png").write_bytes(DATA)
    with (tmp_path / "a.png").open("rb") as file:
        for source in (DATA, tmp_path / "a.png", URL, file):
            with pytest.raises(MediaError, match=r"At most 50"):
                fetch(source, "image", Policy())


def test_a_large_picture_object_is_not_decoded() -> None:
    class Large(Image.Image):
        size = (100_000, 100_000)  # type: ignore[assignment]

    with pytest.raises(MediaError, match="pixels"):
        fetch(Large(), "image", Policy())


def test_what_the_policy_forbids(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(DATA)
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), (tmp_path / "a.png").as_uri()):
        with pytest.raises(RequestError, match="Paths"):
            fetch(source, "image", Policy(paths=False))
    for url in ("http://example.com/a.png", "https://example.com/a.png"):
        with pytest.raises(RequestError, match="switched off"):
            fetch(url, "image", Policy())


# The network ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def address() -> Iterator[str]:
    """A server on this machine: /picture, /elsewhere redirects there, /loop to itself, everything else is missing."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            target = {"/elsewhere": "/picture", "/loop": "/loop", "/file": "file:///etc/hostname"}.get(self.path)
            self.send_response(302 if target else 200 if self.path == "/picture" else 404)
            if target:
                self.send_header("Location", target)
            self.send_header("Content-Length", str(len(DATA) if self.path == "/picture" else 0))
            self.end_headers()
            if self.path == "/picture":
                self.wfile.write(DATA)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_private_addresses_are_refused(address: str) -> None:
    for host in (address, "http://localhost/a", "http://[::1]/a", "http://169.254.169.254/a", "http://10.0.0.1/a"):
        with pytest.raises(MediaError, match="public"):
            fetch(host + "/picture", "image", Policy(urls=True))


def test_a_download(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_public_address", lambda host, port: host)
    assert fetch(address + "/picture", "image", Policy(urls=True)).data == DATA
    assert fetch(address + "/elsewhere", "image", Policy(urls=True)).data == DATA
    for path, reason in (("/none", "404"), ("/loop", "redirects"), ("/file", "http")):
        with pytest.raises(MediaError, match=reason):
            fetch(address + path, "image", Policy(urls=True))
    with pytest.raises(MediaError, match="too large"):
        web.download(address + "/picture", 10)
    with pytest.raises(MediaError, match="cannot be fetched"):
        web.download("http://127.0.0.1:1/", 10)


# Messages -------------------------------------------------------------------------------------------------------------


def test_parts_of_messages() -> None:
    content = [
        {"type": "image", "source": b"1", "min_tokens": 4, "max_tokens": 9},
        {"type": "video", "source": b"2", "fps": 1.5, "max_frames": 8, "max_tokens": 7},
        {"type": "image", "source": b"3"},
    ]
    (message,) = to_messages([{"role": "user", "content": content}])
    assert message.content == (
        MediaPart("image", b"1", min_tokens=4, max_tokens=9),
        MediaPart("video", b"2", max_tokens=7, fps=1.5, max_frames=8),
        MediaPart("image", b"3"),
    )
    for wrong in (
        {"type": "image"},
        {"type": "image", "source": b"", "fps": 2},
        {"type": "video", "source": b"", "x": 1},
    ):
        with pytest.raises(RequestError, match=r"messages\[0\]\.content\[0\]"):
            to_messages([{"role": "user", "content": [wrong]}])


# Slots ----------------------------------------------------------------------------------------------------------------


class Vocabulary:
    """Control tokens by name, everything else a byte."""

    special_ids: ClassVar = {"<|vision_start|>": 300, "<|vision_end|>": 301, "<|image_pad|>": 302, "<|video_pad|>": 303}


def ids_of(text: str) -> list[int]:
    for name, token_id in Vocabulary.special_ids.items():
        text = text.replace(name, chr(token_id))
    return [ord(char) for char in text]


def test_slots_are_written_out() -> None:
    segments = [
        Segment("a", is_template=True),
        Segment("slot", is_template=True, media=MediaPart("image")),
        Segment("<|image_pad|>"),
        Segment("slot", is_template=True, media=MediaPart("video")),
    ]
    filled = media_slots.fill(segments, [[Picture(2)], [Picture(1, 0.25), Picture(1, 12.35)]])
    assert [segment.text for segment in filled] == [
        "a",
        "<|vision_start|><|image_pad|><|image_pad|><|vision_end|>",
        "<|image_pad|>",
        "<0.2 seconds><|vision_start|><|video_pad|><|vision_end|>"
        "<12.3 seconds><|vision_start|><|video_pad|><|vision_end|>",
    ]
    assert not filled[2].is_template


def test_where_pictures_stand() -> None:
    pictures = [Picture(2), Picture(1, 0.5), Picture(3)]
    prompt = ids_of(
        "ab<|vision_start|><|image_pad|><|image_pad|><|vision_end|>"
        "<|vision_start|><|video_pad|><|vision_end|>c<|image_pad|><|image_pad|><|image_pad|>"
    )
    assert media_slots.starts(prompt, pictures, Vocabulary()) == [3, 7, 10]  # type: ignore[arg-type]
    for wrong in (pictures[:2], [*pictures, Picture(1)], [Picture(3), *pictures[1:]]):
        with pytest.raises(RequestError, match="marks"):
            media_slots.starts(prompt, wrong, Vocabulary())  # type: ignore[arg-type]


def test_a_vocabulary_without_marks() -> None:
    class Other:
        special_ids: ClassVar = {"<|vision_start|>": 3}

    with pytest.raises(UnsupportedError, match="vision_end"):
        media_slots.check_vocabulary(Other())  # type: ignore[arg-type]


# Positions ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.integers(0, 9), st.tuples(st.integers(1, 6), st.integers(1, 6))), max_size=8))
def test_positions_follow_the_rule(parts: list[int | tuple[int, int]]) -> None:
    """Against the rule written down token by token."""
    expected: list[tuple[int, int, int]] = []
    placed, position = [], 0
    for part in parts:
        if isinstance(part, int):
            expected += [(position + step,) * 3 for step in range(part)]
            position += part
            continue
        rows, columns = part
        placed.append(Placed(len(expected), rows, columns))
        expected += [(position, position + row, position + column) for row in range(rows) for column in range(columns)]
        position += max(rows, columns)
    found = rotary_positions(len(expected), placed)
    assert found.dtype == np.int32
    assert found.tolist() == [list(one) for one in expected]
    assert position == 0 or int(found.max()) + 1 == position, "what is generated goes on behind the largest"
