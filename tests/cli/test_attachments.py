"""Images and videos on the command line and in the chat."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from loqal.cli import attachments, terminal
from loqal.cli.attachments import MediaBounds
from loqal.cli.chat import Chat
from loqal.cli.options import ChatOptions
from loqal.errors import MediaError, RequestError
from loqal.types.messages import MediaInfo, MediaPart, Message, TextPart
from loqal.types.sampling import SamplingParams
from scripted_model import Model

BOUNDS = MediaBounds()
INFO = MediaInfo("image", "a.png", (640, 480), (640, 480), (1, 30, 40), 300)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("photo.jpg", "my photo.png", "film.mp4", "it's.webp", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sources(parts: tuple[MediaPart, ...]) -> list[tuple[str, Any]]:
    return [(part.kind, part.source) for part in parts]


def test_files_among_the_words(folder: Path) -> None:
    rest, parts = attachments.taken_out(["m.gguf", "What", "photo.jpg", "is in film.mp4?", "film.mp4"], BOUNDS)
    assert rest == ["m.gguf", "What", "is in film.mp4?"]
    assert sources(parts) == [("image", "photo.jpg"), ("video", "film.mp4")]
    for word in ("notes.txt", "a\nphoto.jpg", "What is in none.jpg"):
        assert attachments.taken_out([word], BOUNDS) == ([word], ())
    for word in ("none.jpg", "x" * 5000 + ".jpg", "nul\x00.png", "film.MP4"):
        with pytest.raises(RequestError, match="does not exist"):
            attachments.taken_out(["What", word], BOUNDS)
    assert sources(attachments.taken_out(["https://example.com/a.PNG?x=1"], BOUNDS)[1])


def test_bounds_reach_the_parts() -> None:
    parser = argparse.ArgumentParser()
    attachments.add_flags(parser)
    words = ["--image", "a.png", "--video", "b.mp4", "--min-image-tokens", "5", "--max-image-tokens", "9"]
    words += ["--max-video-tokens", "70", "--fps", "0.5", "--max-frames", "8"]
    parsed = parser.parse_args(words)
    assert attachments.of_flags(parsed, attachments.bounds(parsed)) == (
        MediaPart("image", "a.png", min_tokens=5, max_tokens=9),
        MediaPart("video", "b.mp4", max_tokens=70, fps=0.5, max_frames=8),
    )


@pytest.mark.parametrize(
    ("text", "rest", "found"),
    [
        ("{0}/photo.jpg what is this?", "what is this?", ["photo.jpg"]),
        ("what is '{0}/my photo.png'", "what is", ["my photo.png"]),
        ('compare "{0}/my photo.png" with {0}/photo.jpg', "compare with", ["my photo.png", "photo.jpg"]),
        ("{0}/my\\ photo.png", "", ["my photo.png"]),
        ("file://{0}/my%20photo.png look", "look", ["my photo.png"]),
        ('"{0}/it\'s.webp"', "", ["it's.webp"]),
        ("photo.jpg", "", ["photo.jpg"]),
        ("it's a photo.png of  mine, isn't it", "it's a photo.png of  mine, isn't it", []),
        ("{0}/notes.txt {0}/none.png", None, []),
    ],
)
def test_files_dropped_into_a_message(folder: Path, text: str, rest: str | None, found: list[str]) -> None:
    text = text.format(folder)
    left, parts = attachments.dropped(text, BOUNDS)
    assert left == (text if rest is None else rest)
    assert [Path(part.source).name for part in parts] == found


def test_a_message_shows_before_it_asks() -> None:
    part = MediaPart("image", "a.png")
    assert attachments.message("What?", ()) == Message("user", "What?")
    assert attachments.message("What?", (part,)).content == (part, TextPart("What?"))
    assert attachments.message("", (part,)).content == (part,)


# The chat -------------------------------------------------------------------------------------------------------------


class SeeingModel(Model):
    """Knows what media cost."""

    def media_info(self, part: MediaPart) -> MediaInfo:
        if part.source.endswith("broken.png"):
            raise MediaError("broken", "why", "fix")
        return INFO


def talk(*lines: str, **options: Any) -> SeeingModel:
    model = SeeingModel()
    waiting = iter(lines)

    def read() -> str:
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    assert Chat(model, ChatOptions(SamplingParams(), **options), read).run() == 0  # type: ignore[arg-type]
    return model


def test_attached_files_go_with_the_next_message(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = talk("/image photo.jpg", "/video film.mp4", "What?", "And now?", "/image", "/image broken.png", "last")
    image, film = MediaPart("image", "photo.jpg"), MediaPart("video", "film.mp4")
    assert model.asked[0][0].content == (image, film, TextPart("What?"))
    assert [message.content for message in model.asked[1]][2:] == ["And now?"]
    assert model.asked[2][-1].content == "last"
    err = capsys.readouterr().err
    assert "300 tokens" in err
    assert "/image needs a file" in err
    assert "error: broken" in err


def test_a_dropped_file(folder: Path) -> None:
    model = talk(f"'{folder}/my photo.png' what is this", media=(MediaPart("image", "first.png"),))
    assert model.asked[0][0].content == (
        MediaPart("image", "first.png"),
        MediaPart("image", f"{folder}/my photo.png"),
        TextPart("what is this"),
    )


def test_clear_forgets_what_was_attached(folder: Path) -> None:
    model = talk("/image photo.jpg", "/clear", "What?")
    assert model.asked[0][0].content == "What?"


def test_the_line_about_a_cost() -> None:
    assert terminal.media_line(INFO) == "a.png: 640 x 480 pixels, seen as 640 x 480; 30 x 40 patches; 300 tokens"
    film = MediaInfo("video", "b.mp4", (9, 9), (32, 32), (3, 2, 2), 3, (0, 1, 2, 3, 4), (0.5, 1.0, 1.5))
    assert "5 frames in 3 pairs, each 2 x 2 patches; 3 tokens" in terminal.media_line(film)
