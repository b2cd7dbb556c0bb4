"""Stand-ins for characters of a caller's text, while a foreign template handles it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from loqal.chat.template.segments import Segment


class Shield:
    """Exchanges characters of a caller's text for stand-ins and finds them again in the rendering.

    The brackets and bars of control tokens are always exchanged. A text that is a piece of a control token's name
    is exchanged whole, because a template may write brackets around it.
    """

    def __init__(self, control_tokens: Iterable[str]) -> None:
        self._names = {token.strip("<|>") for token in control_tokens}
        self._all_names = "\n".join(sorted(self._names))

    def base(self, everything: str) -> int:
        """The first stand-in: the begin of 128 code points that occur nowhere."""
        used = {ord(char) // 128 for char in set(re.findall("[\U000f0000-\U0010ffff]", everything))}
        return next(block for block in range(0xF0000 // 128, 0x10FF00 // 128) if block not in used) * 128

    def message(self, message: dict[str, Any], base: int) -> dict[str, Any]:
        """A message with everything but its role and the kinds of its parts exchanged."""
        shielded = dict(message)
        for key in ("content", "reasoning_content"):
            if isinstance(message.get(key), str):
                shielded[key] = self._text(message[key], base)
        if isinstance(message["content"], list):
            parts = message["content"]
            shielded["content"] = [
                {**part, "text": self._text(part["text"], base)} if "text" in part else part for part in parts
            ]
        if "tool_calls" in message:
            shielded["tool_calls"] = [
                {**call, "function": {key: self.data(value, base) for key, value in call["function"].items()}}
                for call in message["tool_calls"]
            ]
        return shielded

    def data(self, value: Any, base: int, *, whole_names_only: bool = False) -> Any:
        """JSON data with all its texts exchanged, keys included.

        With ``whole_names_only``, words such as ``object`` that are pieces of names stay readable for the template.
        """
        if isinstance(value, str):
            return self._text(value, base, whole_names_only=whole_names_only)
        if isinstance(value, Mapping):
            return {
                self.data(key, base, whole_names_only=whole_names_only): self.data(
                    item, base, whole_names_only=whole_names_only
                )
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.data(item, base, whole_names_only=whole_names_only) for item in value]
        return value

    def segments(self, text: str, base: int) -> list[Segment]:
        """The rendering with the stand-ins put back, as content."""
        back = {base + code: code for code in range(128)}
        stand_ins = re.compile(f"([{chr(base)}-{chr(base + 127)}]+)")
        return [
            Segment(piece.translate(back), is_template=number % 2 == 0)
            for number, piece in enumerate(stand_ins.split(text))
            if piece
        ]

    def _text(self, text: str, base: int, *, whole_names_only: bool = False) -> str:
        core = text.strip()
        whole = core in self._names if whole_names_only else bool(core) and core in self._all_names
        codes = range(0x21, 0x7F) if whole else map(ord, "<|>")
        return text.translate({code: base + code for code in codes})
