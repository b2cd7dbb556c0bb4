"""What a grammar cannot say of JSON: no key comes twice, numbers stay within their range, arrays end.

A watch follows the bytes of a reply and names beginnings that the next token must not have.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from loqal.chat.tokens.tokenizer import Tokenizer

_NUMBER = b"0123456789.eE+-"
_LONGEST_NUMBER, _LONGEST_EXPONENT = 40, 2
_MOST_ITEMS = 4096
_PARAMETER, _CLOSING, _FUNCTION, _FUNCTION_END = b"<parameter=", b"</parameter>", b"<function=", b"</function>"


class JsonWatch:
    """Follows one JSON text.

    Attributes:
        is_done: the object, array or string is complete.
    """

    def __init__(self) -> None:
        self.is_done = False
        self._open: list[set[str] | int] = []  # keys of objects, numbers of items of arrays
        self._text: bytearray | None = None  # of the string that is open
        self._is_key = self._expects_key = self._escapes = False
        self._number = b""

    @property
    def is_outside(self) -> bool:
        """Whether no string, object or array is open."""
        return self._text is None and not self._open

    def push(self, byte: int) -> None:
        """The next byte."""
        if self._text is not None:
            self._push_text(byte)
            return
        if byte in _NUMBER and (self._number or chr(byte) not in "eE.+"):
            self._number += bytes([byte])
            return
        self._number = b""
        if byte == 0x22:
            self._text, self._is_key = bytearray(), self._expects_key
        elif byte in b"{[":
            self._open.append(set() if byte == 0x7B else 0)
            self._expects_key = byte == 0x7B
        elif byte in b"}]" and self._open:
            self._open.pop()
            self._expects_key = False
            self.is_done = not self._open
        elif byte == 0x2C and self._open:
            top = self._open[-1]
            self._expects_key = not isinstance(top, int)
            if isinstance(top, int):
                self._open[-1] = top + 1

    def _push_text(self, byte: int) -> None:
        assert self._text is not None
        if self._escapes:
            self._escapes = False
        elif byte == 0x5C:
            self._escapes = True
        elif byte == 0x22:
            text, self._text = _unescaped(bytes(self._text)), None
            if self._is_key and self._open and isinstance(self._open[-1], set):
                self._open[-1].add(text)
            self._expects_key = False
            self.is_done = not self._open
            return
        self._text.append(byte)

    def banned(self) -> list[bytes]:
        """Beginnings that the next token must not have."""
        if self._text is not None:
            return self._repeated_keys(bytes(self._text)) if self._is_key else []
        if self._expects_key:
            rests = self._repeated_keys(b"")
            return [space + b'"' + rest for rest in rests for space in (b"", b" ")]
        if self._number:
            _, _, exponent = self._number.lower().partition(b"e")
            if len(self._number) >= _LONGEST_NUMBER or len(exponent.lstrip(b"+-")) >= _LONGEST_EXPONENT:
                return [bytes([byte]) for byte in _NUMBER]
        if self._open and isinstance(self._open[-1], int) and self._open[-1] >= _MOST_ITEMS:
            return [b","]
        return []

    def _repeated_keys(self, written: bytes) -> list[bytes]:
        """The rest of every key of the object that begins with what is written of another one."""
        keys = self._open[-1] if self._open else set()
        if isinstance(keys, int) or not keys:
            return []
        if b"\\" in written:
            return [b'"'] if not self._escapes and _unescaped(written) in keys else []
        known = [json.dumps(key, ensure_ascii=False)[1:].encode() for key in keys]
        return [key[len(written) :] for key in known if key.startswith(written)]


class CallWatch:
    """Follows the text of one call, and the JSON in it.

    Args:
        json_arguments: of every function, the parameters whose values are JSON.
    """

    def __init__(self, json_arguments: Mapping[str, frozenset[str]]) -> None:
        self._json_arguments = json_arguments
        self._tail = bytearray()
        self._function = ""
        self._names: list[bytes] = []
        self._value: JsonWatch | None = None
        self._has_begun = self._was_structure = self._is_quoted = False

    def push(self, byte: int) -> None:
        """The next byte."""
        if self._value is not None and not self._value.is_done:
            if byte != 0x3C or not self._value.is_outside:
                self._value.push(byte)
                return
            self._value = None
        if not self._has_begun and byte not in b" \t\r\n":
            self._has_begun = True
            if byte == 0x7B:
                self._value = JsonWatch()
                self._value.push(byte)
                return
        self._tail.append(byte)
        if byte == 0x3E:
            self._end_of_tag()

    def _end_of_tag(self) -> None:
        start = self._tail.rfind(b"<")
        tag, follows = bytes(self._tail[start:]), self._follows_tag(start)
        self._tail.clear()
        self._was_structure = tag == _CLOSING
        if tag.startswith(_FUNCTION) and not self._function:
            self._function = tag[len(_FUNCTION) : -1].decode(errors="replace")
            self._was_structure = True
        elif tag.startswith(_FUNCTION) or tag == _FUNCTION_END:
            self._is_quoted = tag != _FUNCTION_END
        elif tag.startswith(_PARAMETER) and not self._is_quoted:
            name = tag[len(_PARAMETER) : -1]
            is_json = name.decode(errors="replace") in self._json_arguments.get(self._function, ())
            if follows or (is_json and name not in self._names):
                self._names.append(name)
                self._value = JsonWatch() if is_json else None

    def _follows_tag(self, start: int) -> bool:
        """Whether a tag that begins there goes on with the call, and is no text of a value."""
        return start >= 0 and self._was_structure and not self._is_quoted and not self._tail[:start].strip()

    def banned(self) -> list[bytes]:
        """Beginnings that the next token must not have."""
        if self._value is not None and not self._value.is_done:
            return self._value.banned()
        start = self._tail.rfind(b"<")
        if not self._follows_tag(start) or not self._tail.startswith(_PARAMETER, start):
            return []
        written = bytes(self._tail[start + len(_PARAMETER) :])
        return [name[len(written) :] + b">" for name in self._names if name.startswith(written)]


class ReplyWatch:
    """Follows a reply that is held to a form or to calls of tools.

    Args:
        json_arguments: of every function that may be called, the parameters whose values are JSON.
        is_json: an answer that is no call is JSON.
        call_open: id of the tag that opens a call.
    """

    def __init__(
        self, tokens: TokenStarts, json_arguments: Mapping[str, frozenset[str]], *, is_json: bool, call_open: int
    ) -> None:
        self._tokens, self._json_arguments, self._call_open = tokens, json_arguments, call_open
        self._watch: JsonWatch | CallWatch | None = JsonWatch() if is_json else None

    def copy(self) -> ReplyWatch:
        """One that goes on by itself from the same place."""
        other = copy.copy(self)
        other._watch = copy.deepcopy(self._watch)
        return other

    def push(self, token_id: int) -> None:
        """The token that was drawn."""
        if token_id == self._call_open:
            self._watch = CallWatch(self._json_arguments)
        elif self._watch is not None:
            for byte in self._tokens.token_bytes(token_id):
                self._watch.push(byte)

    def restrict(self, mask: npt.NDArray[np.uint32]) -> None:
        """Take tokens out of a mask, unless none would be left."""
        starts = self._watch.banned() if self._watch is not None else []
        if not starts:
            return
        ids = np.concatenate([self._tokens.beginning_with(start) for start in starts])
        left = mask.copy()
        np.bitwise_and.at(left, ids >> 5, ~(np.uint32(1) << (ids & 31).astype(np.uint32)))
        if left.any():
            mask[:] = left


class TokenStarts:
    """Finds the tokens of a vocabulary by how they begin."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = frozenset(tokenizer.special_ids.values())
        self._by_byte: dict[int, list[tuple[bytes, int]]] | None = None
        self._found: dict[bytes, npt.NDArray[np.int64]] = {}

    def token_bytes(self, token_id: int) -> bytes:
        """What a token writes; nothing for a control token."""
        return b"" if token_id in self._special else self._tokenizer.token_bytes(token_id)

    def beginning_with(self, start: bytes) -> npt.NDArray[np.int64]:
        """Ids of the tokens that begin with at least one byte."""
        if self._by_byte is None:
            self._by_byte = {}
            for token_id, text in enumerate(self._tokenizer.all_bytes()):
                if text and token_id not in self._special:
                    self._by_byte.setdefault(text[0], []).append((text, token_id))
        if start not in self._found:
            if len(self._found) > 4096:
                self._found.clear()
            ids = [token_id for text, token_id in self._by_byte.get(start[0], ()) if text.startswith(start)]
            self._found[start] = np.array(ids, np.int64)
        return self._found[start]


def _unescaped(text: bytes) -> str:
    """The string that the inside of a JSON string stands for."""
    try:
        value: Any = json.loads(b'"' + text + b'"')
    except ValueError:
        return text.decode(errors="replace")
    return str(value)
