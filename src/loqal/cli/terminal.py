"""What the commands write: the answer on stdout, everything else on stderr, colours only for a person."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import TextIO

from loqal.errors import LoqalError
from loqal.types.messages import MediaInfo
from loqal.types.reply import Reply, ReplyDelta

_DIM, _RED, _RESET = "\x1b[2m", "\x1b[31m", "\x1b[0m"

# A reply may hold any character, but it must not be able to drive the reader's terminal: control characters are shown
# as their pictures instead.
_TAMED = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
_TAMED |= dict.fromkeys(range(0x7F, 0xA0), "\N{REPLACEMENT CHARACTER}")


def has_colours(stream: TextIO) -> bool:
    """Whether a stream shows colours: a terminal, unless NO_COLOR or a dumb terminal says otherwise."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_line(text: str) -> None:
    """One line on stdout, at once, so that a closed pipe is noticed here."""
    print(text, flush=True)


def print_note(text: str) -> None:
    """One line for a person, on stderr."""
    print(_styled(text, _DIM, sys.stderr), file=sys.stderr, flush=True)


def print_error(error: LoqalError) -> None:
    """What happened, why, and what to do next, on stderr."""
    lines = (("error:", _RED, error.what), ("  why:", _DIM, error.why), ("  fix:", _DIM, error.fix))
    for label, style, text in lines:
        if text:
            print(_styled(label, style, sys.stderr), text, file=sys.stderr)
    sys.stderr.flush()


class ReplyPrinter:
    """Prints a reply as it grows: the answer on stdout, the reasoning dimmed on a terminal, else on stderr."""

    def __init__(self) -> None:
        self._aside = sys.stdout if sys.stdout.isatty() else sys.stderr
        self._is_dim = False
        self._last = {sys.stdout: "\n", sys.stderr: "\n"}

    def reasoning(self, text: str) -> None:
        """A piece of the reasoning."""
        if not self._is_dim and has_colours(self._aside):
            self._aside.write(_DIM)
        self._is_dim = True
        self._write(self._aside, text)

    def answer(self, text: str) -> None:
        """A piece of the answer. On a terminal a blank line sets it apart from the reasoning."""
        if self._is_dim:
            self._end_reasoning()
            if self._aside is sys.stdout:
                self._write(sys.stdout, "\n")
        self._write(sys.stdout, text)

    def end(self) -> None:
        """Leave both streams at the beginning of a line."""
        if self._is_dim:
            self._end_reasoning()
        elif self._last[sys.stdout] != "\n":
            self._write(sys.stdout, "\n")

    def _end_reasoning(self) -> None:
        self._is_dim = False
        if has_colours(self._aside):
            self._aside.write(_RESET)
        if self._last[self._aside] != "\n":
            self._write(self._aside, "\n")

    def _write(self, stream: TextIO, text: str) -> None:
        self._last[stream] = text[-1:] or self._last[stream]  # first: an interrupt may come with the first byte read
        stream.write(text.translate(_TAMED) if stream.isatty() else text)
        stream.flush()


def print_reply(stream: Iterable[ReplyDelta]) -> None:
    """Print a reply while it arrives. However it ends, the line is ended too."""
    printer = ReplyPrinter()
    try:
        for delta in stream:
            if delta.tool_call is not None:
                arguments = json.dumps(dict(delta.tool_call.arguments), ensure_ascii=False)
                print_note(f"tool call: {delta.tool_call.name} {arguments}")
            elif delta.reasoning:
                printer.reasoning(delta.reasoning)
            else:
                printer.answer(delta.text)
    finally:
        printer.end()


def summary(reply: Reply) -> str:
    """Counts and speeds of a reply in one line."""
    usage, timings = reply.usage, reply.timings
    return (
        f"{usage.prompt_tokens} prompt tokens, {usage.completion_tokens} reply tokens ({reply.finish_reason}); "
        f"load {timings.load_ms:.0f} ms, first token {timings.first_token_ms:.0f} ms; "
        f"prefill {timings.prefill_tokens_per_s:.1f} tokens/s, decode {timings.decode_tokens_per_s:.1f} tokens/s; "
        f"seed {reply.seed}" + "".join(f"\n{media_line(info)}" for info in reply.media)
    )


def media_line(info: MediaInfo) -> str:
    """What an image or a video becomes and costs, in one line."""
    (width, height), (seen_width, seen_height) = info.source_size, info.size
    pictures, rows, columns = info.grid
    frames = f"{len(info.frame_indices)} frames in {pictures} pairs, each " if info.kind == "video" else ""
    return (
        f"{info.name}: {width} x {height} pixels, seen as {seen_width} x {seen_height}; "
        f"{frames}{rows} x {columns} patches; {info.num_tokens:,} tokens"
    )


def _styled(text: str, style: str, stream: TextIO) -> str:
    return f"{style}{text}{_RESET}" if has_colours(stream) else text
