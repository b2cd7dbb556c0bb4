"""The text of a tool call, taken apart into the function's name and the text of every argument.

    <function=NAME>
    <parameter=KEY>
    VALUE
    </parameter>
    </function>

Models drop closing tags and line ends now and then, so a value also ends where the call goes on without them. A value
may hold such tags itself: those of a whole quoted function, and those that nothing of the call follows. The grammar of
calls (``constraints.call_grammar``) ends values at the same places.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

FUNCTION, FUNCTION_END = "<function=", "</function>"
PARAMETER, PARAMETER_END = "<parameter=", "</parameter>"
_MARKUP = re.compile(r"<function=|</function>|</parameter>|<parameter=([^<>\n]+)>")
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class ParameterNames:
    """What is known about the parameters of a function.

    Attributes:
        known: those that its schema declares.
        json: those of them whose values are JSON and never a plain string.
    """

    known: Collection[str] = ()
    json: Collection[str] = ()


def function_name(body: str) -> str | None:
    """The name in the header of a call that begins with it; None where there is none."""
    end = body.find(">")
    name = body[len(FUNCTION) : end].strip()
    return name if body.startswith(FUNCTION) and end >= 0 and name and "\n" not in name and "<" not in name else None


def argument_texts(body: str, names: ParameterNames, *, closed: bool) -> dict[str, str] | None:
    """The texts of the arguments; None unless the call is complete. Takes time linear in the text.

    Args:
        body: the call from its header on.
        closed: the closing tag of the call follows. It stands for the closing tags that were dropped before it.
    """
    reader = _Reader(body, names, closed)
    return reader.texts if reader.read() else None


class _Reader:
    """Reads the parameters of one call.

    A value ends at the first of these: a closing tag that a parameter or the end of the function follows; the opening
    tag of a declared parameter that has not been given yet; the end of the function where the call ends behind it; and
    the end of a closed call.
    """

    def __init__(self, body: str, names: ParameterNames, closed: bool) -> None:
        self._body, self._names, self._closed = body, names, closed
        written = len(body.rstrip())
        self._has_end = body.endswith(FUNCTION_END, 0, written)
        self._end = written - len(FUNCTION_END) if self._has_end else len(body)
        self._reads_quotes = True
        self.texts: dict[str, str] = {}

    def read(self) -> bool:
        """Whether the call is complete."""
        if not (self._has_end or self._closed):
            return False
        position = self._skip_space(self._body.find(">") + 1)
        while position < self._end:
            found = self._parameter(position)
            if found is None:
                return False
            position = self._skip_space(found)
        return True

    def _parameter(self, position: int) -> int | None:
        """Read the parameter that begins here; the position behind it, None where there is none."""
        key_end = self._body.find(">", position, self._end)
        key = self._body[position + len(PARAMETER) : key_end].strip()
        if not self._body.startswith(PARAMETER, position) or key_end < 0 or not key or "\n" in key or key in self.texts:
            return None
        begin = key_end + 1
        found = self._value(key, begin)
        if found is None:
            return None
        stop, behind = found
        text = self._body[begin:stop]
        text = text[1:] if text.startswith(("\n", " ")) else text  # a space stands for the line end of the form
        self.texts[key] = text.removesuffix("\n")
        return behind

    def _value(self, key: str, begin: int) -> tuple[int, int] | None:
        """Where the value that begins here ends, and the position behind its closing tag."""
        if key in self._names.json:
            found = self._json_value(begin)
            if found is not None:
                return found
        dropped = None
        for start, behind, is_closing in self._markup(key, begin):
            if not is_closing:
                return start, behind
            if self._goes_on(behind):
                return start, behind
            dropped = start
        if self._reads_quotes and FUNCTION in self._body[begin : self._end]:
            self._reads_quotes = False  # a quoted function that takes the end of the call with it is none
            return self._value(key, begin)
        return (self._end, self._end) if self._closed and dropped is None else None

    def _markup(self, key: str, begin: int) -> Iterator[tuple[int, int, bool]]:
        """Tags that may end the value: where each begins, where the call goes on, and whether it is a closing tag."""
        position = begin
        while (match := _MARKUP.search(self._body, position, self._end)) is not None:
            position = match.end()
            name = match[1]
            if match[0] == FUNCTION and self._reads_quotes:
                closing = self._body.find(FUNCTION_END, position)
                position = self._end if closing < 0 else closing + len(FUNCTION_END)
            elif match[0] == PARAMETER_END:
                yield match.start(), position, True
            elif name is not None and name != key and name in self._names.known and name not in self.texts:
                yield match.start(), match.start(), False

    def _json_value(self, begin: int) -> tuple[int, int] | None:
        """The same where a JSON text stands there that the call goes on behind."""
        try:
            _, stop = _DECODER.raw_decode(self._body, self._skip_space(begin))
        except (ValueError, RecursionError):
            return None
        behind = self._skip_space(stop)
        if self._body.startswith(PARAMETER_END, behind):
            behind += len(PARAMETER_END)
            return (stop, behind) if self._goes_on(behind) else None
        is_left = behind >= self._end and self._closed
        return (stop, behind) if is_left or self._body.startswith(PARAMETER, behind) else None

    def _goes_on(self, position: int) -> bool:
        """Whether a parameter, or the end of the function or of the call, comes next."""
        follows = self._skip_space(position)
        return follows >= self._end or self._body.startswith(PARAMETER, follows)

    def _skip_space(self, position: int) -> int:
        found = _SPACE.match(self._body, position)
        return position if found is None else found.end()
