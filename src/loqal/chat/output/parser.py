"""Generated tokens to a reply: reasoning, answer, tool calls.

Invariants:
- Tags count only as control tokens. The same characters written with ordinary tokens are text.
- A tool call is reported complete, or its text is passed on verbatim; never half. One that a limit cut is reported as
  an incomplete call and never as text.
- The pieces add up to the same reply however the tokens arrive, and their token ids to all ids pushed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from loqal.chat.output.tool_calls import could_become_call, in_open_value, parameter_schemas, parse_call
from loqal.chat.template.segments import CALL_CLOSE, CALL_OPEN, THINK_CLOSE, THINK_OPEN
from loqal.chat.tokens.detokenizer import Detokenizer
from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.types.messages import ToolCall
from loqal.types.reply import ReplyDelta, ToolCallDelta


class OutputParser:
    """Reads one reply, token by token.

    White space between the parts of a reply belongs to the template: it is dropped at both ends of the reasoning,
    before an answer that follows reasoning, and around tool calls.

    Args:
        tokenizer: of the model.
        thinking: the prompt ended inside a think block.
        tools: the definitions offered; their schemas give the arguments their types. With ``None`` calls are read
            without schemas; with an empty sequence the caller offered no tools, and calls stay text.
        stem: what the ids of its calls begin with.

    Attributes:
        in_reasoning: whether the next token continues the reasoning.
        reasoning_tokens: tokens pushed so far that belong to the reasoning, its closing tag included.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        thinking: bool,
        tools: Sequence[Mapping[str, Any]] | None = None,
        stem: str = "call_",
    ) -> None:
        self._detokenizer = Detokenizer(tokenizer)
        self._tags = {
            tokenizer.special_ids[tag]: tag
            for tag in (THINK_OPEN, THINK_CLOSE, CALL_OPEN, CALL_CLOSE)
            if tag in tokenizer.special_ids
        }
        self._silent = tokenizer.eos_ids
        self._reads_calls = tools is None or len(tools) > 0
        self._stem, self._num_calls = stem, 0
        self._schemas = parameter_schemas(tools or ())
        self.in_reasoning = thinking
        self.reasoning_tokens = 0
        self._answered = False  # text of the answer, or a call, was reported
        self._drops_space = thinking  # white space that comes next belongs to the template
        self._space = ""  # white space that may turn out to be the end of the part
        self._call: _OpenCall | None = None
        self._ids: list[int] = []  # pushed and not yet reported
        self._out: list[ReplyDelta] = []

    def push(self, token_id: int) -> list[ReplyDelta]:
        """The pieces that became certain with this token."""
        self._ids.append(token_id)
        self.reasoning_tokens += self.in_reasoning
        tag = self._tags.get(token_id)
        if tag is not None:
            self._text(self._detokenizer.flush())
            self._tag(tag)
        elif token_id not in self._silent:
            self._text(self._detokenizer.push(token_id))
        return self._take()

    def finish(self, *, cut: bool = False) -> list[ReplyDelta]:
        """The pieces that were held back, at the end of the reply.

        If ids are left that showed nothing, such as the end token, a last piece carries only them.

        Args:
            cut: the reply was ended from outside, so that a call which is not complete is the beginning of one.
        """
        self._text(self._detokenizer.flush())
        if self._call is not None and not self._complete_call():
            if cut:
                text, self._call = CALL_OPEN + self._call.body, None
                self._space = ""
                self._report(ReplyDelta(incomplete_call=text))
            else:
                self._give_up_call()
        self._emit(self._space)
        self._space = ""
        pieces = self._take()
        if self._ids:
            pieces.append(ReplyDelta(token_ids=tuple(self._ids)))
            self._ids.clear()
        return pieces

    def _tag(self, tag: str) -> None:
        if self._call is not None:
            self._tag_in_call(tag)
        elif tag == CALL_OPEN and self._reads_calls:
            self._call = _OpenCall()
        elif tag == THINK_CLOSE and self.in_reasoning:
            self._next_part(reasoning=False)
        elif tag == THINK_OPEN and not self._answered:
            self._next_part(reasoning=True)
        else:
            self._text(tag)

    def _tag_in_call(self, tag: str) -> None:
        """A tag between those of a call: its end, the end of the reasoning around it, or text of a value."""
        assert self._call is not None
        quoted = in_open_value(self._call.body)
        if tag == THINK_CLOSE and self.in_reasoning:
            self._give_up_call()
            self._tag(tag)
        elif tag == CALL_CLOSE and self._call.depth:
            self._call.depth -= 1
            self._call.add(tag)
        elif tag in (CALL_OPEN, CALL_CLOSE) and self._complete_call(closed=tag == CALL_CLOSE):
            if tag == CALL_OPEN:
                self._call = _OpenCall()
        elif tag == CALL_OPEN and quoted:
            self._call.depth += 1
            self._call.add(tag)
        elif quoted or tag in (THINK_OPEN, THINK_CLOSE):
            self._text(tag)
        else:
            self._give_up_call()
            self._tag(tag)

    def _text(self, text: str) -> None:
        if self._call is None:
            self._say(text)
            return
        self._call.add(text)
        if not self._call.is_promising():
            self._give_up_call()

    def _say(self, text: str) -> None:
        """Pass text on, except white space that may belong to the template."""
        if self._drops_space:
            text = text.lstrip()
        text = self._space + text
        shown = text.rstrip()
        self._space = text[len(shown) :]
        self._emit(shown)

    def _emit(self, text: str) -> None:
        if not text:
            return
        self._drops_space = False
        self._answered = self._answered or not self.in_reasoning
        self._report(ReplyDelta(reasoning=text) if self.in_reasoning else ReplyDelta(text=text))

    def _report(self, delta: ReplyDelta) -> None:
        self._out.append(replace(delta, token_ids=tuple(self._ids)))
        self._ids.clear()

    def _next_part(self, *, reasoning: bool) -> None:
        self.in_reasoning = reasoning
        self._drops_space, self._space = True, ""

    def _complete_call(self, *, closed: bool = False) -> bool:
        """Report the open call if it is complete. ``closed``: its closing tag has come."""
        assert self._call is not None
        call: ToolCall | None = parse_call(self._call.body, self._schemas, closed=closed)
        if call is None:
            return False
        self._call = None
        self._next_part(reasoning=False)
        self._answered = True
        for piece in _pieces(call, self._num_calls, f"{self._stem}{self._num_calls}"):
            self._report(piece)
        self._num_calls += 1
        return True

    def _give_up_call(self) -> None:
        """The open call is none: its text belongs to the part it stands in."""
        assert self._call is not None
        text, self._call = CALL_OPEN + self._call.body, None
        self._say(text)

    def _take(self) -> list[ReplyDelta]:
        taken, self._out = self._out, []
        return taken


def _pieces(call: ToolCall, index: int, call_id: str) -> list[ReplyDelta]:
    """A call in pieces: its name, then one piece of the arguments' JSON text for each of them."""
    texts = [
        f"{json.dumps(key, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in call.arguments.items()
    ]
    texts = [", " * (number > 0) + text for number, text in enumerate(texts)] or [""]
    texts[0] = "{" + texts[0]
    texts[-1] += "}"
    pieces = [ReplyDelta(call_piece=ToolCallDelta(index, call_id, call.name))]
    pieces += [ReplyDelta(call_piece=ToolCallDelta(index, call_id, arguments=text)) for text in texts]
    return [*pieces[:-1], replace(pieces[-1], tool_call=replace(call, id=call_id))]


class _OpenCall:
    """Text since an opening tag."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._is_call = False  # the function's header has begun
        self.depth = 0  # calls quoted inside a value

    @property
    def body(self) -> str:
        return "".join(self._pieces)

    def add(self, text: str) -> None:
        self._pieces.append(text)

    def is_promising(self) -> bool:
        """Whether this can still become a call."""
        if not self._is_call:
            body = self.body
            self._is_call = len(body.lstrip()) >= len("<function=")
            return could_become_call(body)
        return True
