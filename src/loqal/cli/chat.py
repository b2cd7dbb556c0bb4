"""The interactive chat: one conversation, kept until it is cleared or left."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from loqal.cli import attachments, terminal
from loqal.cli.options import ChatOptions
from loqal.errors import LoqalError
from loqal.types.messages import Message
from loqal.types.reply import FinishReason

if TYPE_CHECKING:
    from loqal.runtime.runtime import Runtime

_HELP = """\
Enter sends. Alt-Enter, or a backslash at the end of a line, begins a new line.
Ctrl-C stops a reply and keeps what was printed; Ctrl-D leaves.
  /clear         clear the conversation and attachments, keep the system message
  /system TEXT   set the system message and clear the conversation
  /think         enable thinking
  /no-think      disable thinking
  /stats         show or hide token counts and speeds
  /image FILE    attach an image to the next message; so does dropping a file into a message
  /video FILE    attach a video to the next message
  /help          show this
  /exit          leave
Type two slashes to begin a message with a slash."""


class Chat:
    """A conversation at the terminal.

    Args:
        read: reads one message; raises EOFError to leave and KeyboardInterrupt to start the message again.
    """

    def __init__(self, model: Runtime, options: ChatOptions, read: Callable[[], str]) -> None:
        self._model, self._params, self._read = model, options.params, read
        self._system, self._think, self._verbose = options.system, options.think, options.verbose
        self._turns: list[Message] = []
        self._media, self._bounds = list(options.media), options.bounds

    def run(self) -> int:
        """Talk until the user leaves; the exit code."""
        terminal.print_note(f"{self._model.info.name}. /help lists the commands, Ctrl-D leaves.")
        while True:
            try:
                text = self._read()
            except EOFError:
                return 0
            except KeyboardInterrupt:
                continue
            if text.startswith("/") and not text.startswith("//"):
                if not self._command(text):
                    return 0
            elif text.strip():
                self._answer(text.removeprefix("/"))

    def _command(self, text: str) -> bool:
        """Obey a command; False when it was the last."""
        name, _, argument = text.partition(" ")
        if name in ("/exit", "/quit", "/bye"):
            return False
        if name == "/clear":
            self._turns.clear()
            self._media.clear()
        elif name == "/system":
            self._system = argument.strip() or None
            self._turns.clear()
        elif name in ("/think", "/no-think"):
            self._think = name == "/think"
        elif name == "/stats":
            self._verbose = not self._verbose
        elif name in ("/image", "/video"):
            self._attach(argument.strip(), "image" if name == "/image" else "video")
        elif name == "/help":
            terminal.print_note(_HELP)
        else:
            terminal.print_note(f"The command {name} does not exist. /help lists the commands.")
        return True

    def _attach(self, path: str, kind: Literal["image", "video"]) -> None:
        """Keep a file for the next message, after a look at its header."""
        if not path:
            terminal.print_note(f"/{kind} needs a file.")
            return
        try:
            part = self._bounds.part(kind, attachments.unquoted(path))
            terminal.print_note(terminal.media_line(self._model.media_info(part)))
        except LoqalError as error:
            terminal.print_error(error)
            return
        self._media.append(part)

    def _answer(self, text: str) -> None:
        """Ask, print the reply, and remember both. Of a stopped reply, what was printed is remembered."""
        system = [Message("system", self._system)] if self._system else []
        text, dropped = attachments.dropped(text, self._bounds)
        question = attachments.message(text, (*self._media, *dropped))
        try:
            stream = self._model.stream_chat([*system, *self._turns, question], self._params, think=self._think)
        except LoqalError as error:
            terminal.print_error(error)
            return
        try:
            with stream:
                terminal.print_reply(stream)
        except KeyboardInterrupt:
            terminal.print_note("(stopped)")
        except LoqalError as error:
            terminal.print_error(error)
            return
        reply = stream.reply
        if reply.text or reply.finish_reason is not FinishReason.CANCELLED:
            self._media.clear()
            self._turns += [question, Message("assistant", reply.text, reply.reasoning, reply.tool_calls)]
        if self._verbose:
            terminal.print_note(terminal.summary(reply))
