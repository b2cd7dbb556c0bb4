"""The chat loop and the reply printer, against a scripted model."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from loqal.cli import terminal
from loqal.cli.chat import Chat
from loqal.cli.options import ChatOptions
from loqal.types.messages import Message, ToolCall
from loqal.types.reply import ReplyDelta
from loqal.types.sampling import SamplingParams
from scripted_model import Model


def talk(*lines: str | type[BaseException], **options: Any) -> Model:
    model = Model()
    waiting = iter([*lines, EOFError])

    def read() -> str:
        line = next(waiting)
        if isinstance(line, str):
            return line
        raise line

    assert Chat(model, ChatOptions(SamplingParams(), **options), read).run() == 0  # type: ignore[arg-type]
    return model


def contents(messages: list[Message]) -> list[Any]:
    return [message.content for message in messages]


def test_the_conversation_grows(capsys: pytest.CaptureFixture[str]) -> None:
    model = talk("one", "", "  ", "two", system="Be brief.")
    assert contents(model.asked[0]) == ["Be brief.", "one"]
    assert contents(model.asked[1]) == ["Be brief.", "one", "answer 1", "two"]
    assert capsys.readouterr().out == "answer 1\nanswer 2\n"


def test_clear_and_system() -> None:
    model = talk("one", "/clear", "two", "/system Rhyme.", "three")
    assert [contents(messages) for messages in model.asked] == [["one"], ["two"], ["Rhyme.", "three"]]


def test_thinking_is_switched() -> None:
    assert talk("a", "/think", "b", "/no-think", "c").thinks == [None, True, False]
    assert talk("a", think=True).thinks == [True]


def test_an_interrupted_reply_is_kept_as_far_as_it_came() -> None:
    model = talk("stop", KeyboardInterrupt, "next", "stop at once", "last")
    assert contents(model.asked[1]) == ["stop", "answer 1", "next"]
    assert contents(model.asked[3]) == ["stop", "answer 1", "next", "answer 2", "last"]


def test_a_failed_question_is_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    model = talk("too long", "short")
    assert contents(model.asked[0]) == ["short"]
    assert "error: too long" in capsys.readouterr().err


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    model = talk("/help", "/nonsense", "//etc is a folder", "/exit", "never")
    assert [contents(messages) for messages in model.asked] == [["/etc is a folder"]]
    err = capsys.readouterr().err
    assert "/no-think" in err
    assert "The command /nonsense does not exist" in err


def test_stats(capsys: pytest.CaptureFixture[str]) -> None:
    talk("/stats", "hello")
    assert "tokens/s" in capsys.readouterr().err


# Printing -------------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


DELTAS = [ReplyDelta(reasoning="think"), ReplyDelta(reasoning="ing"), ReplyDelta(text="ans"), ReplyDelta(text="wer")]


def test_a_pipe_gets_the_answer_alone(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_reply(DELTAS)
    assert tuple(capsys.readouterr()) == ("answer\n", "thinking\n")


def test_a_terminal_shows_the_reasoning_dimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal.print_reply(DELTAS)
    assert screen.getvalue() == "\x1b[2mthinking\x1b[0m\n\nanswer\n"
    monkeypatch.setenv("NO_COLOR", "1")
    screen.truncate(0)
    screen.seek(0)
    terminal.print_reply(DELTAS[:2])
    assert screen.getvalue() == "thinking\n"


def test_a_reply_cannot_drive_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    terminal.print_reply([ReplyDelta(text="\x1b[2J\x9b2J\x07\ttab\n")])
    assert screen.getvalue() == "\u241b[2J\N{REPLACEMENT CHARACTER}2J\u2407\ttab\n"


def test_a_pipe_gets_the_answer_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_reply([ReplyDelta(text="\x1b[2J\n")])
    assert capsys.readouterr().out == "\x1b[2J\n"


def test_tool_calls_are_noted(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_reply([ReplyDelta(tool_call=ToolCall("look", {"at": "ä"}))])
    assert tuple(capsys.readouterr()) == ("", 'tool call: look {"at": "ä"}\n')
